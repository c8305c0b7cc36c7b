//! Opening purses: the first one, and the next before one runs dry.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use minicbor::bytes::ByteVec;

use super::{PayerSession, Phase};
use crate::backend::{BackendError, Opened, PurseOffer, RefusalCode, Request};
use crate::meter::PauseReason;
use crate::planted::{self, Planted};
use crate::session::parts::{Parts, frames};
use crate::session::record::{Fate, PayerPurse, PurseState, method_name};
use crate::session::{Event, Misbehaviour, Output};
use crate::units::{Msat, PurseId, RequestId, Seq, Unix};
use crate::wire::{Message, Purse};

/// The most that a payee's backend may show on one connection: all purses of a session, twice, and
/// some. Each is a call to our backend.
const NOTES_MAX: u16 = 1_024;

impl PayerSession {
    /// Opens a purse of at most `budget`.
    pub(super) fn open_purse(&mut self, method: u8, budget: Msat) {
        let opened = self.now.unix.0;
        let Some(record) = &mut self.record else {
            return;
        };
        let id = PurseId(u32::try_from(record.purses.len()).unwrap_or(u32::MAX));
        let request = record.common.request_id();
        let step = record.common.terms().tick;
        record.purses.push(PayerPurse {
            id,
            method,
            state: PurseState::Opening,
            capacity: budget,
            cost: budget,
            paid: Msat::ZERO,
            acked: Msat::ZERO,
            seq: Seq(0),
            pending: None,
            opening: ByteVec::from(Vec::new()),
            request,
            refunded: Msat::ZERO,
            step,
            opened,
            until: None,
            called_off: None,
        });
        self.persist();
        self.ask_to_open(id);
    }

    /// Asks the backend to open the purse, also again after a restart: same id, same words.
    pub(super) fn ask_to_open(&mut self, id: PurseId) {
        let Some(record) = &self.record else { return };
        let Some(purse) = self.purse(id) else { return };
        let terms = record.common.terms();
        let params = terms.methods.get(usize::from(purse.method));
        let offer = PurseOffer {
            params: params
                .map(|method| Bytes::copy_from_slice(&method.params))
                .unwrap_or_default(),
            tick: terms.tick,
            payer_key: self.key.public(),
            payee_key: record.common.fixed.peer_key,
        };
        let (capacity, budget, request) = (purse.capacity, purse.cost, purse.request);
        self.ask(
            id,
            request,
            Request::Open {
                offer,
                capacity,
                budget,
            },
        );
    }

    pub(super) fn ask(&mut self, id: PurseId, request_id: RequestId, request: Request) {
        let method = self.method_of(id);
        let purse = self.purse_key(id);
        self.out.push_back(Output::Backend {
            method,
            purse,
            id: request_id,
            request,
        });
    }

    pub(super) fn on_opened(&mut self, id: PurseId, opened: &Opened) {
        let max_tick = self.config.policy.max_tick;
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Opening {
            return;
        }
        purse.capacity = opened.capacity;
        purse.cost = opened.cost;
        purse.step = purse.step.round_up_to(opened.quantum).unwrap_or(Msat::MAX);
        purse.until = opened.usable_until.map(|until| until.0);
        purse.opening = opened.opening.to_vec().into();
        purse.state = PurseState::Offered;
        let (method, too_coarse) = (purse.method, purse.step > max_tick);
        if too_coarse {
            return self.leave_purse(id, RefusalCode::WrongAmount);
        }
        self.try_method(method);
        self.offer_purse(id);
    }

    /// Nothing can be paid from it: it comes home, and another method is tried.
    fn leave_purse(&mut self, id: PurseId, code: RefusalCode) {
        self.event(Event::PurseRefused { purse: id, code });
        self.fail_method(id);
        self.note_failure(code);
        self.retire_purse(id);
    }

    /// Shows the payee what opens the purse, in parts.
    pub(super) fn offer_purse(&mut self, id: PurseId) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        live.offered(now);
        let Some(purse) = self.purse(id) else { return };
        let (method, opening) = (purse.method, Bytes::copy_from_slice(&purse.opening));
        for frame in frames(id, method, &opening) {
            self.send(&Message::Purse(frame));
        }
    }

    /// The payee's backend has something to show ours.
    pub(super) fn on_purse_part(&mut self, part: Purse) {
        let id = part.purse;
        let listens = matches!(
            self.phase,
            Phase::Live(_) | Phase::Closing(_) | Phase::Releasing(_)
        );
        if !listens {
            return;
        }
        let known = self.purse(id).map(|purse| (purse.method, purse.state));
        match known {
            // One that the payee was shown.
            Some((method, state)) if method == part.method && state != PurseState::Opening => {
                if state == PurseState::Done {
                    return;
                }
            }
            _ => return self.misbehaved(Misbehaviour::PurseParts),
        }
        let other = self.parts.as_ref().is_none_or(|parts| parts.purse() != id);
        if other || part.part == 0 {
            self.parts = Some(Parts::new(&part));
        }
        let Some(parts) = &mut self.parts else { return };
        if !parts.add(part) {
            self.parts = None;
            return self.misbehaved(Misbehaviour::PurseParts);
        }
        let Some(bytes) = parts.joined() else { return };
        self.parts = None;
        self.notes = self.notes.saturating_add(1);
        if self.notes > NOTES_MAX {
            return self.misbehaved(Misbehaviour::PurseParts);
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        self.ask(id, request, Request::Note { bytes });
    }

    /// Shows the payee's backend what ours makes of its note, once, where somebody listens.
    pub(super) fn answer_note(&mut self, id: PurseId, answer: &Bytes) {
        let Some(method) = self.purse(id).map(|purse| purse.method) else {
            return;
        };
        if matches!(self.phase, Phase::Closing(_) | Phase::Releasing(_)) {
            for frame in frames(id, method, answer) {
                self.send(&Message::Purse(frame));
            }
        }
    }

    pub(super) fn on_purse_ok(&mut self, id: PurseId) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Offered {
            return;
        }
        purse.state = PurseState::Open;
        purse.opening = ByteVec::from(Vec::new());
        let (method, capacity) = (purse.method, purse.capacity);
        self.forgive_method(method);
        self.persist();
        self.event(Event::PurseOpen {
            purse: id,
            capacity,
        });
        self.trouble = None;
        self.backend_is_back();
    }

    pub(super) fn on_purse_refused(&mut self, id: PurseId, code: RefusalCode) {
        let offered = self
            .purse(id)
            .is_some_and(|purse| purse.state == PurseState::Offered);
        if !matches!(self.phase, Phase::Live(_)) || !offered {
            return;
        }
        self.leave_purse(id, code);
    }

    pub(super) fn open_failed(&mut self, id: PurseId, error: BackendError) {
        self.event(Event::BackendTrouble { error });
        self.fail_method(id);
        match error {
            // It may yet open; until then another may do.
            BackendError::Transient | BackendError::Unknown => self.retry_later(),
            BackendError::Rejected(code, _) | BackendError::Fatal(code) => {
                // It never opened: it holds nothing and costs nothing.
                if let Some(purse) = self.purse_mut(id) {
                    purse.state = PurseState::Done;
                    purse.capacity = Msat::ZERO;
                    purse.cost = Msat::ZERO;
                }
                self.note_failure(code);
            }
        }
    }

    /// What a restart or a reconnect must say or ask again.
    pub(super) fn take_up_again(&mut self) {
        let Some(record) = &self.record else { return };
        if record.common.settled {
            self.phase = Phase::Ended;
            return;
        }
        self.tell_acked_again();
        let Some(record) = &self.record else { return };
        if record.common.closing.is_some() {
            return self.release(true);
        }
        let mut purses = record.purses.iter();
        let refused =
            |purse: &PayerPurse| (purse.pending.as_ref()).is_some_and(|p| p.fate != Fate::UnderWay);
        if purses.any(refused) {
            let (by_peer, reason) = (false, PauseReason::PaymentRefused);
            self.flow.add(reason);
            self.paused_before = true;
            self.event(Event::Paused { by_peer, reason });
            self.tell_lost();
        }
        self.go_offline();
        self.ask_again();
    }

    /// Says again what the user has to consent to: a process that began anew told nobody.
    fn tell_lost(&mut self) {
        let lost = self.all_purses().filter_map(|purse| {
            let pending = purse.pending.as_ref();
            let lost = pending.filter(|pending| pending.fate == Fate::Lost);
            lost.map(|pending| (purse.seq, pending.amount))
        });
        let lost: Vec<_> = lost.collect();
        for (seq, amount) in lost {
            self.event(Event::TickLost { seq, amount });
        }
    }

    /// Tells the backend again what was acknowledged last: what it made of that is a write of its own,
    /// after the session's, and the process may have died between the two. Who is not told takes what is
    /// the payee's for its own, and waits for the end of its lock. A receipt of nothing acknowledged
    /// nothing: a backend that does not know the purse yet hears of none.
    fn tell_acked_again(&mut self) {
        if planted::is(Planted::AckedNotTold) {
            return;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let Some(receipt) = record.common.evidence().map(|of| of.receipt) else {
            return;
        };
        let newest = record.purses.iter().find(|purse| purse.id == receipt.purse);
        let tells = newest.is_some_and(|purse| {
            let same = purse.acked == receipt.cumulative && !purse.acked.is_zero();
            same && purse.hears_acks()
        });
        if !tells {
            return;
        }
        let request = record.common.request_id();
        self.persist();
        let (seq, cumulative) = (receipt.seq, receipt.cumulative);
        self.ask(receipt.purse, request, Request::Acked { seq, cumulative });
    }

    /// Asks again for everything that the backend has not answered.
    pub(super) fn ask_again(&mut self) {
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        for purse in purses {
            match (&purse.state, &purse.pending) {
                (PurseState::Opening, _) => self.ask_to_open(purse.id),
                (PurseState::Closing, _) => self.ask_to_release(purse.id),
                (_, Some(pending)) if !pending.is_made() => self.ask_to_pay(purse.id),
                (PurseState::Open, Some(pending)) if pending.is_refused() => {
                    self.ask_to_reclaim(purse.id);
                }
                _ => {}
            }
        }
    }

    /// What the payee must be shown again on a new connection.
    pub(super) fn show_again(&mut self) {
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        for purse in purses {
            match (&purse.state, &purse.pending) {
                (PurseState::Offered, _) => self.offer_purse(purse.id),
                (PurseState::Open, Some(pending)) if pending.is_made() => {
                    self.send_pending(purse.id);
                }
                _ => {}
            }
        }
    }

    pub(super) fn purse(&self, id: PurseId) -> Option<&PayerPurse> {
        self.record
            .as_ref()?
            .purses
            .iter()
            .find(|purse| purse.id == id)
    }

    pub(super) fn purse_mut(&mut self, id: PurseId) -> Option<&mut PayerPurse> {
        self.record
            .as_mut()?
            .purses
            .iter_mut()
            .find(|purse| purse.id == id)
    }

    pub(super) fn method_of(&self, id: PurseId) -> String {
        let method = self.purse(id).map(|purse| purse.method).unwrap_or_default();
        self.terms()
            .map(|terms| method_name(terms, method))
            .unwrap_or_default()
    }
}

impl PayerSession {
    /// The session's purses and the names of their methods.
    #[must_use]
    pub fn purses(&self) -> Vec<(PurseId, String)> {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses
            .map(|purse| (purse.id, self.method_of(purse.id)))
            .collect()
    }

    /// The purses that are not home yet, each with the time from which it gives no tick any more,
    /// where its method has one.
    #[must_use]
    pub fn purses_out(&self) -> Vec<(PurseId, Option<Unix>)> {
        let out = self
            .all_purses()
            .filter(|purse| purse.state != PurseState::Done);
        out.map(|purse| (purse.id, purse.until.map(Unix))).collect()
    }
}
