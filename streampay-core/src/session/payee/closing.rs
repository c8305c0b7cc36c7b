//! Settling and Lingering: what was credited becomes the payee's own, and the payer is told.

use alloc::vec::Vec;

use super::{PayeeSession, Phase};
use crate::backend::{BackendError, Request};
use crate::meter::Grant;
use crate::planted::{self, Planted};
use crate::session::close::Troubles;
use crate::session::record::{PayeePurse, PurseState};
use crate::session::{CloseCode, Event, Signature};
use crate::units::{Mono, Msat, PurseId};
use crate::wire::{Close, Closed, Evidence, Message};

/// How long a payment that is being checked may hold up the close, in milliseconds. What comes
/// of it later is still ours, and settled by `recover`.
const CHECK_MS: u64 = 5_000;
/// How long to stay and repeat that the session is closed, in milliseconds.
const LINGER_MS: u64 = 10_000;
/// How often a purse is asked to settle before that is left to `recover`.
const SETTLE_TRIES: u8 = 5;

/// The session is closing, durably.
pub(super) struct Settling {
    code: CloseCode,
    /// Set while a payment is being checked.
    deadline: Option<Mono>,
    /// Rounds of asking in vain.
    tries: u8,
    /// What went wrong.
    troubles: Troubles,
    /// Purses that cannot be settled, of which the user was told.
    failed: Vec<PurseId>,
    told: bool,
}

/// The payer was told.
pub(super) struct Lingering {
    code: CloseCode,
    until: Mono,
}

impl Settling {
    pub(super) const fn timeout(&self) -> Option<Mono> {
        self.deadline
    }
}

impl Lingering {
    pub(super) const fn timeout(&self) -> Mono {
        self.until
    }
}

impl PayeeSession {
    /// Ends the session: mark it durably, shut the gate, settle, tell the payer what is due.
    pub(super) fn close(&mut self, code: CloseCode, by_peer: bool) {
        if matches!(
            self.phase,
            Phase::Settling(_) | Phase::Lingering(_) | Phase::Ended
        ) {
            return;
        }
        let bound = matches!(self.phase, Phase::Live(_));
        if !bound && by_peer {
            // Nobody has signed anything on this connection: it cannot end a session.
            return self.forget_connection(code);
        }
        self.gate(Grant::Closed);
        self.event(Event::Closed { code, by_peer });
        let checking = self.is_receiving().is_some();
        let Some(record) = &mut self.record else {
            self.send(&Message::Close(Close { code }));
            self.phase = Phase::Ended;
            return;
        };
        record.common.begin_closing(code, self.now.unix);
        let deadline = checking.then(|| self.now.mono.after_ms(CHECK_MS));
        self.phase = Phase::Settling(Settling {
            code,
            deadline,
            tries: 0,
            troubles: Troubles::default(),
            failed: Vec::new(),
            told: !bound,
        });
        self.persist();
        self.settle_if_closing();
    }

    fn forget_connection(&mut self, code: CloseCode) {
        if self.record.is_some() {
            self.go_offline();
            self.event(Event::LinkDown);
        } else {
            self.event(Event::Closed {
                code,
                by_peer: true,
            });
            self.phase = Phase::Ended;
        }
    }

    /// Once no payment is being checked, or that takes too long: say what is due and settle every purse
    /// but that of the payment. One mint that is away holds up no other.
    pub(super) fn settle_if_closing(&mut self) {
        let forgets = planted::is(Planted::CloseForgetsChecking);
        let checking = self.is_receiving().is_some() && !forgets;
        let now = self.now.mono;
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        let early = settling.deadline.is_some_and(|deadline| now < deadline);
        if checking && early {
            return;
        }
        settling.deadline = None;
        let (code, told) = (settling.code, settling.told);
        settling.told = true;
        if !told {
            self.say_closed(code);
        }
        self.settle_purses(forgets);
    }

    fn settle_purses(&mut self, checked_too: bool) {
        let Some(record) = &mut self.record else {
            return;
        };
        let mut asked = Vec::new();
        let mut changed = false;
        for purse in &mut record.purses {
            if purse.receiving.is_some() && !checked_too {
                // What comes of it leads here again.
                continue;
            }
            match purse.state {
                // One that is being checked: nothing was taken from it, and the backend may have
                // something to give back.
                PurseState::Open | PurseState::Opening | PurseState::Offered => {
                    purse.state = PurseState::Closing;
                    purse.request = record.common.request_id();
                    asked.push(purse.id);
                }
                PurseState::Closing | PurseState::Done => continue,
            }
            changed = true;
        }
        if changed {
            self.persist();
        }
        asked.into_iter().for_each(|id| self.ask_to_settle(id));
        self.linger_if_settled();
    }

    fn ask_to_settle(&mut self, id: PurseId) {
        let asked = self.purse(id).map(|purse| (purse.request, purse.credited));
        if let Some((request, cumulative)) = asked {
            self.ask(id, request, Request::Settle { cumulative });
        }
    }

    /// A payer that kept a newer receipt than we close with brings a restored backup forward while it
    /// settles: what it shows is due too.
    pub(super) fn settle_more(&mut self, evidence: &Evidence) {
        let (Phase::Settling(_), Some(record)) = (&self.phase, &self.record) else {
            return;
        };
        let before = record.purses.clone();
        if !self.catch_up(evidence) {
            self.take_sums(*evidence);
        }
        for purse in before {
            let rises = |now: &PayeePurse| {
                now.state == PurseState::Closing && now.credited > purse.credited
            };
            if self.purse(purse.id).is_some_and(rises) {
                self.ask_to_settle(purse.id);
            }
        }
    }

    pub(super) fn on_settled(&mut self, id: PurseId, settled: Msat) {
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Closing {
            return;
        }
        purse.state = PurseState::Done;
        purse.settled = settled;
        // A payment under way is answered by this: it is in the sum or with the payer.
        purse.receiving = None;
        self.linger_if_settled();
    }

    pub(super) fn note_trouble(&mut self, id: PurseId, error: BackendError) {
        if let Phase::Settling(settling) = &mut self.phase {
            settling.troubles.note(id, error);
        }
    }

    pub(super) fn settle_failed(&mut self, id: PurseId, error: BackendError) {
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        if matches!(error, BackendError::Transient | BackendError::Unknown) {
            return self.try_later();
        }
        if !settling.failed.contains(&id) {
            settling.failed.push(id);
            self.event(Event::Unsettled { purse: id, error });
        }
        self.linger_if_settled();
    }

    /// Another round of asking the backend to settle, or the end of trying.
    pub(super) fn settle_again(&mut self) {
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        settling.tries = settling.tries.saturating_add(1);
        if settling.tries < SETTLE_TRIES || settling.troubles.is_empty() {
            return self.ask_again();
        }
        let (code, told) = (settling.code, settling.told);
        if !told {
            self.say_closed(code);
        }
        for (purse, error) in self.still_out() {
            self.event(Event::Unsettled { purse, error });
        }
        self.linger(code);
    }

    /// The purses that are not settled and of which the user was not told, each with what went wrong.
    fn still_out(&self) -> Vec<(PurseId, BackendError)> {
        let (Phase::Settling(settling), Some(record)) = (&self.phase, &self.record) else {
            return Vec::new();
        };
        let out = record.purses.iter().filter(|purse| {
            purse.state != PurseState::Done && !settling.failed.contains(&purse.id)
        });
        out.map(|purse| (purse.id, settling.troubles.of(purse.id)))
            .collect()
    }

    fn linger_if_settled(&mut self) {
        let (total, returned) = (self.credited(), self.sum(|purse| purse.settled));
        let Phase::Settling(settling) = &self.phase else {
            return;
        };
        let code = settling.code;
        let Some(record) = &mut self.record else {
            return;
        };
        let all_home = record
            .purses
            .iter()
            .all(|purse| purse.state == PurseState::Done);
        if !all_home {
            let failed = &settling.failed;
            let over = |of: &PayeePurse| of.state == PurseState::Done || failed.contains(&of.id);
            if record.purses.iter().all(over) {
                self.linger(code);
            }
            return;
        }
        if record.common.settled {
            return;
        }
        record.common.settled = true;
        self.persist();
        self.event(Event::Settled { total, returned });
        self.linger(code);
    }

    fn linger(&mut self, code: CloseCode) {
        let until = self.now.mono.after_ms(LINGER_MS);
        let connected = self.up.is_some();
        self.backend_retry = None;
        self.phase = if connected {
            Phase::Lingering(Lingering { code, until })
        } else {
            Phase::Ended
        };
    }

    pub(super) fn advance_settling(&mut self) {
        self.settle_if_closing();
    }

    pub(super) fn advance_lingering(&mut self) {
        let now = self.now.mono;
        if let Phase::Lingering(lingering) = &self.phase
            && now >= lingering.until
        {
            self.phase = Phase::Ended;
        }
    }

    pub(super) fn say_closed_again(&mut self) {
        if let Phase::Lingering(lingering) = &self.phase {
            self.say_closed(lingering.code);
        }
    }

    /// A payer that was told before, and asks again or has a newer receipt now, is told again.
    pub(super) fn say_closing_again(&mut self) {
        if let Phase::Settling(settling) = &self.phase
            && settling.told
        {
            self.say_closed(settling.code);
        }
    }

    /// A payer that comes back while we settle learns that the session is closed.
    pub(super) fn say_closing(&mut self) {
        if let Phase::Settling(settling) = &self.phase {
            self.say_closed(settling.code);
        }
    }

    fn say_closed(&mut self, code: CloseCode) {
        if !self.is_known() {
            return;
        }
        let evidence = self
            .record
            .as_ref()
            .and_then(|record| record.common.evidence());
        let mut closed = Closed {
            code,
            evidence,
            proof: None,
        };
        closed.proof = self.proof_of(&closed);
        self.send(&Message::Closed(closed));
    }

    /// That this is said here and now, where the connection is not bound: signed once.
    fn proof_of(&mut self, closed: &Closed) -> Option<Signature> {
        let (session, up) = (self.session?, self.up.as_mut()?);
        let hash = closed.hash(session, &up.nonce?);
        let known = up.proof.filter(|(of, _)| *of == hash);
        let (_, proof) = known.unwrap_or_else(|| (hash, self.key.sign(hash, &[0; 32])));
        up.proof = Some((hash, proof));
        Some(proof)
    }

    /// What a restart must do: finish what was begun.
    pub(super) fn take_up_again(&mut self) {
        let Some(record) = &self.record else { return };
        if record.common.settled {
            // Nothing is left to do but to tell a payer who comes back. It must not begin anew:
            // its old payments would be taken for new ones.
            let code = record.common.close_code().unwrap_or(CloseCode::Done);
            let until = self.now.mono.after_ms(LINGER_MS);
            self.phase = Phase::Lingering(Lingering { code, until });
            return;
        }
        if let Some(code) = record.common.close_code() {
            self.phase = Phase::Settling(Settling {
                code,
                deadline: None,
                tries: 0,
                troubles: Troubles::default(),
                failed: Vec::new(),
                told: true,
            });
            self.ask_again();
            return self.settle_if_closing();
        }
        self.go_offline();
        self.ask_again();
    }

    /// Asks again for everything that the backend has not answered.
    pub(super) fn ask_again(&mut self) {
        let Some(record) = &self.record else { return };
        let mut purses = record.purses.clone();
        if let Phase::Settling(settling) = &self.phase {
            purses.retain(|purse| !settling.failed.contains(&purse.id));
        }
        for purse in purses {
            match (purse.state, &purse.receiving) {
                (_, Some(_)) => self.ask_to_receive(purse.id),
                (PurseState::Closing, None) => self.ask_to_settle(purse.id),
                _ => {}
            }
        }
    }
}
