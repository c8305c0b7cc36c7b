//! Closing and Releasing: what is due is settled by the payee, what is left comes home.

use alloc::vec::Vec;

use super::meeting::Meeting;
use super::{PayerSession, Phase};
use crate::backend::{BackendError, Request};
use crate::planted::{self, Planted};
use crate::session::close::Troubles;
use crate::session::pace::Backoff;
use crate::session::record::{PayerPurse, PurseState};
use crate::session::{CloseCode, Event, Misbehaviour, Output};
use crate::store::ChangeSet;
use crate::units::{Mono, Msat, PurseId};
use crate::wire::{Close, Closed, Evidence, Message};

/// How long the payee has to answer a close, in milliseconds; then the payer takes home what is
/// not acknowledged all the same.
const CLOSE_MS: u64 = 6_000;

/// Messages that make no sense before the payer gives up on its peer. Chosen arbitrarily: a
/// sound peer sends none.
const NONSENSE_MAX: u16 = 16;

/// The session is closing, durably, and the payee was told.
pub(super) struct Closing {
    code: CloseCode,
    retry: Backoff,
    deadline: Mono,
}

/// The purses were told to come home.
#[derive(Default)]
pub(super) struct Releasing {
    /// Rounds of asking in vain.
    tries: u8,
    /// What went wrong.
    troubles: Troubles,
    /// Purses that do not come home before `recover`.
    failed: Vec<PurseId>,
    /// What is said on a connection that came since.
    pub(super) meeting: Option<Meeting>,
    /// The payee has said by its signature what is due: nothing more is to be heard.
    pub(super) answered: bool,
}

/// How often a purse is told to come home before that is left to `recover`.
const RELEASE_TRIES: u8 = 5;

impl Closing {
    pub(super) fn timeout(&self) -> Mono {
        self.retry.at().min(self.deadline)
    }
}

impl Releasing {
    pub(super) fn timeout(&self) -> Option<Mono> {
        self.meeting.as_ref().map(Meeting::timeout)
    }
}

impl PayerSession {
    /// Ends the session: mark it durably, tell the payee, wait for what is due, take the rest
    /// home.
    pub(super) fn close(&mut self, code: CloseCode, by_peer: bool) {
        if !self.in_session() {
            return;
        }
        self.event(Event::Closed { code, by_peer });
        let bound = matches!(self.phase, Phase::Live(_));
        let close = Message::Close(Close { code });
        let Some(record) = &mut self.record else {
            self.send(&close);
            self.phase = Phase::Ended;
            return;
        };
        record.common.begin_closing(code, self.now.unix);
        let mut called_off = Vec::new();
        if bound {
            called_off = self.call_off();
            let retry = Backoff::start(self.now.mono);
            let deadline = self.now.mono.after_ms(CLOSE_MS);
            self.phase = Phase::Closing(Closing {
                code,
                retry,
                deadline,
            });
        }
        self.persist();
        self.send(&close);
        for id in called_off {
            self.ask_to_release(id);
        }
        if !bound {
            self.release_purses();
        }
    }

    /// Purses that are still being opened are told to come home at once: nothing will be paid from
    /// them. A request to open that nobody has taken yet is taken back.
    fn call_off(&mut self) -> Vec<PurseId> {
        let mut called_off = Vec::new();
        let Some(record) = &mut self.record else {
            return called_off;
        };
        for purse in &mut record.purses {
            if purse.state == PurseState::Opening {
                purse.state = PurseState::Closing;
                purse.called_off = Some(true);
                purse.request = record.common.request_id();
                called_off.push(purse.id);
            }
        }
        for output in &mut self.out {
            if let Output::Backend { purse, request, .. } = output
                && matches!(request, Request::Open { .. })
                && called_off.contains(&purse.purse)
            {
                // What is behind it keeps its place.
                *output = Output::Persist(ChangeSet::new());
            }
        }
        called_off
    }

    /// The payee wants to end, or cannot go on. Before the binding nobody has signed it: it ends
    /// the connection, and a session that exists tries another.
    pub(super) fn on_close(&mut self, code: CloseCode) {
        self.part();
        if self.is_unbound() && self.record.is_some() {
            return self.handshake_failed(code);
        }
        self.close(code, true);
    }

    /// The payee has ended; what it says is due counts as far as it is signed. Before the binding it ends a session
    /// that is known only by its word to our hello: a receipt alone is anybody's who said hello to us.
    pub(super) fn on_closed(&mut self, closed: &Closed) {
        let met = self.has_met();
        self.part();
        let is_signed = self.is_signed(closed);
        if self.is_unbound() && !is_signed {
            return self.handshake_failed(closed.code);
        }
        if let Phase::Releasing(releasing) = &mut self.phase {
            releasing.answered |= is_signed || met;
        }
        if let Some(evidence) = &closed.evidence {
            self.accept_evidence(evidence);
        }
        self.close(closed.code, true);
        if matches!(self.phase, Phase::Closing(_)) {
            self.release_purses();
        }
    }

    /// True on a connection that both sides have not signed yet.
    pub(super) const fn is_unbound(&self) -> bool {
        matches!(
            self.phase,
            Phase::Offline | Phase::Greeting(_) | Phase::Binding(_)
        )
    }

    fn is_signed(&self, closed: &Closed) -> bool {
        let Some(record) = &self.record else {
            return true;
        };
        let (Some(proof), Some(up)) = (&closed.proof, &self.up) else {
            return false;
        };
        let key = record.common.fixed.peer_key;
        let said = closed.hash(self.session, &up.nonce());
        let theirs = closed.evidence.map(|of| of.receipt.total);
        let whole = theirs.unwrap_or_default() >= record.common.receipt().total;
        let by_peer = |of: &Evidence| key.verifies(of.receipt.hash(self.session), &of.signature);
        whole && key.verifies(said, proof) && closed.evidence.as_ref().is_none_or(by_peer)
    }

    pub(super) fn advance_closing(&mut self) {
        let now = self.now.mono;
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        let code = closing.code;
        let late = now >= closing.deadline || self.up.is_none();
        let due = closing.retry.due(now);
        if late {
            self.release_purses();
        } else if due {
            self.send(&Message::Close(Close { code }));
        }
    }

    /// Tells every purse to come home, except those that have a request under way: their answer
    /// leads here again.
    pub(super) fn release_purses(&mut self) {
        self.release(false);
    }

    /// The same; `again` also repeats what was asked before and has no answer.
    pub(super) fn release(&mut self, again: bool) {
        let first = !matches!(self.phase, Phase::Releasing(_));
        if first {
            self.phase = Phase::Releasing(Releasing::default());
        }
        let mut asked = self.call_off();
        let Phase::Releasing(releasing) = &self.phase else {
            return;
        };
        let failed = &releasing.failed;
        let Some(record) = &mut self.record else {
            return;
        };
        for purse in &mut record.purses {
            if failed.contains(&purse.id) {
                continue;
            }
            let making = purse
                .pending
                .as_ref()
                .is_some_and(|pending| !pending.is_made());
            match purse.state {
                PurseState::Offered | PurseState::Open if !making => {
                    purse.state = PurseState::Closing;
                    purse.request = record.common.request_id();
                    asked.push(purse.id);
                }
                // Left before: it may have failed since.
                PurseState::Closing if (again || first) && !asked.contains(&purse.id) => {
                    asked.push(purse.id);
                }
                _ => {}
            }
        }
        self.persist();
        asked.into_iter().for_each(|id| self.ask_to_release(id));
        if again {
            self.ask_again_in_release();
        }
        self.settle_if_all_home();
    }

    pub(super) fn release_purses_if_closing(&mut self) {
        if matches!(self.phase, Phase::Releasing(_)) {
            self.release_purses();
        }
    }

    pub(super) fn on_released(&mut self, id: PurseId, refunded: Msat) {
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Closing {
            return;
        }
        purse.state = PurseState::Done;
        purse.refunded = refunded;
        if purse.called_off == Some(true) {
            // Nobody was told what it cost, and nothing was paid from it: what was asked for never left.
            (purse.capacity, purse.cost) = (refunded, refunded);
        }
        // A tick under way is answered by this: its money is in the refund or with the payee.
        purse.pending = None;
        self.settle_if_all_home();
    }

    pub(super) fn note_trouble(&mut self, id: PurseId, error: BackendError) {
        if let Phase::Releasing(releasing) = &mut self.phase {
            releasing.troubles.note(id, error);
        }
    }

    /// One purse that cannot come home does not keep the others away: their answers are on their way.
    pub(super) fn release_failed(&mut self, id: PurseId, error: BackendError) {
        let Phase::Releasing(releasing) = &mut self.phase else {
            return;
        };
        if matches!(error, BackendError::Transient | BackendError::Unknown) {
            return self.try_later();
        }
        if !releasing.failed.contains(&id) {
            releasing.failed.push(id);
            self.event(Event::Unsettled { purse: id, error });
        }
        self.settle_if_all_home();
    }

    /// Another round of telling every purse to come home, or the end of trying.
    pub(super) fn release_again(&mut self) {
        let Phase::Releasing(releasing) = &mut self.phase else {
            return;
        };
        releasing.tries = releasing.tries.saturating_add(1);
        if releasing.tries < RELEASE_TRIES || releasing.troubles.is_empty() {
            return self.release(true);
        }
        for (purse, error) in self.still_out() {
            self.event(Event::Unsettled { purse, error });
        }
        self.phase = Phase::Ended;
    }

    /// The purses that are not home and of which the user was not told, each with what went wrong.
    fn still_out(&self) -> Vec<(PurseId, BackendError)> {
        let (Phase::Releasing(releasing), Some(record)) = (&self.phase, &self.record) else {
            return Vec::new();
        };
        let out = record.purses.iter().filter(|purse| {
            purse.state != PurseState::Done && !releasing.failed.contains(&purse.id)
        });
        out.map(|purse| (purse.id, releasing.troubles.of(purse.id)))
            .collect()
    }

    /// After a restart, requests that had no answer are asked again; their answers lead to the
    /// release.
    fn ask_again_in_release(&mut self) {
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        for purse in purses {
            if let (PurseState::Offered | PurseState::Open, Some(pending)) =
                (purse.state, &purse.pending)
                && !pending.is_made()
            {
                self.ask_to_pay(purse.id);
            }
        }
    }

    pub(super) fn ask_to_release(&mut self, id: PurseId) {
        if let Some(request) = self.purse(id).map(|purse| purse.request) {
            self.ask(id, request, Request::Release);
        }
    }

    fn settle_if_all_home(&mut self) {
        let Phase::Releasing(releasing) = &self.phase else {
            return;
        };
        let Some(record) = &mut self.record else {
            return;
        };
        let all_home = record.purses.iter().all(|purse| {
            let asked = purse.state == PurseState::Closing;
            purse.state == PurseState::Done || asked && planted::is(Planted::ReleaseNotAwaited)
        });
        if !all_home {
            let failed = &releasing.failed;
            let over = |of: &PayerPurse| of.state == PurseState::Done || failed.contains(&of.id);
            if record.purses.iter().all(over) {
                self.phase = Phase::Ended;
            }
            return;
        }
        if record.common.settled {
            return;
        }
        record.common.settled = true;
        let (total, returned) = (self.acknowledged(), self.sum(|purse| purse.refunded));
        self.persist();
        self.event(Event::Settled { total, returned });
        self.phase = Phase::Ended;
    }

    pub(super) fn misbehaved(&mut self, how: Misbehaviour) {
        if matches!(self.phase, Phase::Closing(_) | Phase::Releasing(_)) {
            // Nothing comes of it any more, and it may come without end.
            if self.is_too_much() {
                return;
            }
            self.nonsense = self.nonsense.saturating_add(1);
        }
        self.event(Event::Misbehaved { how });
        self.give_up_on_peer();
    }

    /// True once so much made no sense on this connection that nobody wants to hear of more.
    pub(super) const fn is_too_much(&self) -> bool {
        self.nonsense >= NONSENSE_MAX
    }

    fn give_up_on_peer(&mut self) {
        match self.phase {
            // Old messages may still arrive; they change nothing any more.
            Phase::Closing(_) | Phase::Releasing(_) | Phase::Ended => {}
            // Nobody has signed anything on this connection: it cannot end a session.
            Phase::Greeting(_) | Phase::Binding(_) => self.handshake_failed(CloseCode::Misbehaved),
            _ => self.close(CloseCode::Misbehaved, false),
        }
    }

    pub(super) fn count_nonsense(&mut self) {
        self.nonsense = self.nonsense.saturating_add(1);
        if self.nonsense == NONSENSE_MAX {
            self.give_up_on_peer();
        }
    }
}
