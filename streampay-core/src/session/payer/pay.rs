//! Ticks: decided by the own meter, made durable, sent, repeated as the same bytes, acknowledged,
//! or refused and taken back, or shown again.

use bytes::Bytes;

use super::{PayerSession, Phase};
use crate::backend::{BackendError, Outcome, RefusalCode, Request};
use crate::meter::PauseReason;
use crate::planted::{self, Planted};
use crate::session::record::{Fate, PayerPurse, PendingTick, PurseState};
use crate::session::{CloseCode, Event};
use crate::units::{Msat, PurseId};
use crate::wire::{Message, Nack, Tick};

/// Refusals in a row, each taken back or shown again, before the payer gives up. Chosen so that one stale token
/// or cache does not end a stream.
pub(super) const REFUSALS_MAX: u8 = 3;

impl PayerSession {
    /// Pays the next tick when what is ahead has fallen to the lead.
    pub(super) fn maybe_pay(&mut self) {
        if self.live().is_none() {
            return;
        }
        let (lead, flows) = (self.lead(), self.flow.flows());
        let Some(record) = &self.record else { return };
        let under_way = record.purses.iter().any(|purse| purse.pending.is_some())
            && !planted::is(Planted::TwoPursesAhead);
        if !flows || under_way {
            return;
        }
        if self.ahead() > lead {
            return self.maybe_tip();
        }
        match self.paying_purse() {
            Some((_, step)) if self.is_beyond_offer(step) => self.close_at_offer(),
            Some((id, step)) => self.pay(id, step, false),
            None => self.do_without_purse(),
        }
    }

    /// Pays one step; `tip` where it buys no media.
    pub(super) fn pay(&mut self, id: PurseId, amount: Msat, tip: bool) {
        let now = self.now.mono;
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        let tips = self.tips_with(amount).filter(|_| tip);
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        let Ok(paid) = purse.paid.plus(amount) else {
            return;
        };
        purse.paid = paid;
        purse.seq = purse.seq.next();
        purse.pending = Some(PendingTick {
            amount,
            request,
            payload: None,
            fate: Fate::UnderWay,
            tip,
            cumulative: purse.acked.saturating_plus(amount),
            tips,
        });
        self.count_tip(amount, tip);
        if let Some(live) = self.live_mut() {
            live.decided(now);
        }
        self.ask_to_pay(id);
    }

    /// Asks the backend for the payment, also again after a restart: same id, same words.
    pub(super) fn ask_to_pay(&mut self, id: PurseId) {
        let Some(purse) = self.purse(id) else { return };
        let Some(pending) = &purse.pending else {
            return;
        };
        let request = Request::Pay {
            seq: purse.seq,
            amount: pending.amount,
            cumulative: pending.cumulative,
        };
        let id_of_request = pending.request;
        self.ask(id, id_of_request, request);
    }

    pub(super) fn on_outcome(&mut self, id: PurseId, outcome: Outcome) {
        let away = matches!(
            outcome,
            Outcome::Failed(BackendError::Transient | BackendError::Unknown)
        );
        match outcome {
            Outcome::Opened(opened) => self.on_opened(id, &opened),
            Outcome::Paid { payload } => self.on_made(id, &payload),
            Outcome::Reclaimed => self.on_reclaimed(id),
            Outcome::Outstanding => self.on_outstanding(id),
            Outcome::Spent => self.on_spent(id),
            Outcome::Released { refunded } => self.on_released(id, refunded),
            Outcome::Failed(error) => self.on_failed(id, error),
            // The payee's outcomes: a backend that gives one to a payer is broken, and the money
            // stays where its own records say.
            Outcome::Accepted { .. } | Outcome::Credited | Outcome::Settled { .. } => {}
        }
        if !away {
            self.backend_is_back();
        }
    }

    /// The payment is made. It is durable with this answer, and only then sent.
    fn on_made(&mut self, id: PurseId, payload: &Bytes) {
        let Some(pending) = self.purse_mut(id).and_then(|purse| purse.pending.as_mut()) else {
            return;
        };
        if pending.is_made() {
            return;
        }
        pending.payload = Some(payload.to_vec().into());
        let again = pending.fate == Fate::Again;
        if again {
            pending.fate = Fate::UnderWay;
        }
        if !self.in_session() {
            return self.release_purses_if_closing();
        }
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.sent(now);
        }
        if again {
            self.clear_pause(PauseReason::PaymentRefused);
        }
        self.send_pending(id);
    }

    /// Sends the payment under way: always the same bytes.
    pub(super) fn send_pending(&mut self, id: PurseId) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let Some(purse) = self.purse(id) else { return };
        let Some(pending) = &purse.pending else {
            return;
        };
        let (Some(payload), Fate::UnderWay) = (&pending.payload, pending.fate) else {
            return;
        };
        let tick = Tick {
            purse: id,
            seq: purse.seq,
            cumulative: pending.cumulative,
            payload: planted::payload(payload),
            tips: pending.tips,
        };
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.await_ack(now);
        }
        self.send(&Message::Tick(tick));
    }

    /// A refusal is a hint: nothing is paid in its place before its fate is known.
    pub(super) fn on_nack(&mut self, nack: &Nack) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        let Some(purse) = self.purse_mut(nack.purse) else {
            return;
        };
        let seq = purse.seq;
        let Some(pending) = purse.pending.as_mut() else {
            return;
        };
        let old = nack.seq != seq && !planted::after_restart(Planted::OldNackTaken);
        if old || pending.fate != Fate::UnderWay || !pending.is_made() {
            return;
        }
        pending.fate = match nack.code {
            RefusalCode::OutOfOrder => Fate::Disowned,
            _ => Fate::Refused,
        };
        pending.request = request;
        self.persist();
        self.await_nothing();
        self.event(Event::TickRefused {
            seq,
            code: nack.code,
        });
        self.pause_for(PauseReason::PaymentRefused);
        self.clear_pause(PauseReason::AckOverdue);
        if planted::is(Planted::NackBelieved) {
            return self.on_reclaimed(nack.purse);
        }
        self.ask_to_reclaim(nack.purse);
    }

    pub(super) fn ask_to_reclaim(&mut self, id: PurseId) {
        let Some(purse) = self.purse(id) else { return };
        let Some(pending) = &purse.pending else {
            return;
        };
        let (seq, request) = (purse.seq, pending.request);
        self.ask(id, request, Request::Reclaim { seq });
    }

    fn on_reclaimed(&mut self, id: PurseId) {
        if !self.is_refused(id) {
            // An old answer: the tick was acknowledged after all, or released.
            return;
        }
        let Some((purse, pending)) = self.take_pending(id) else {
            return;
        };
        purse.paid = purse.paid.saturating_minus(pending.amount);
        purse.capacity = match pending.fate {
            Fate::Disowned => purse.paid,
            _ => purse.capacity.saturating_minus(pending.amount),
        };
        let seq = purse.seq;
        if planted::is(Planted::SeqReuse) {
            purse.seq = crate::units::Seq(seq.0.saturating_sub(1));
        }
        self.uncount_tip(&pending);
        self.event(Event::TickReclaimed { seq });
        if self.count_refusal() >= REFUSALS_MAX && self.in_session() {
            return self.close(CloseCode::BackendFailed, false);
        }
        self.clear_pause(PauseReason::PaymentRefused);
        self.release_purses_if_closing();
    }

    /// The payee may take it whatever it said, until the purse is home: it goes on counting as paid,
    /// and no other purse pays. It is the same payment, shown again. Where the payee does not know
    /// the purse, that cannot be, and it is the user's to say that it is lost.
    fn on_outstanding(&mut self, id: PurseId) {
        if !self.is_refused(id) || !self.in_session() {
            return;
        }
        if planted::is(Planted::OutstandingPaidAgain) {
            return self.on_reclaimed(id);
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        let (paid, next) = (purse.paid, purse.seq.next());
        let pending = purse.pending.as_ref();
        let amount = pending.map(|pending| pending.amount).unwrap_or_default();
        let disowned = |pending: &PendingTick| pending.fate == Fate::Disowned;
        if purse.pending.as_ref().is_some_and(disowned) {
            purse.capacity = paid;
            return self.on_spent(id);
        }
        if self.count_refusal() >= REFUSALS_MAX {
            return self.close(CloseCode::BackendFailed, false);
        }
        let said = self.tips_with(amount);
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        let cumulative = purse.acked.saturating_plus(amount);
        let Some(pending) = purse.pending.as_mut() else {
            return;
        };
        (pending.fate, pending.request) = (Fate::Again, request);
        // Another tick by its number: as things stand now.
        (pending.cumulative, pending.tips) = (cumulative, said.filter(|_| pending.tip));
        purse.seq = next;
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.decided(now);
        }
        self.ask_to_pay(id);
    }

    /// Over all connections: each refusal costs what the mint takes for giving it back.
    const fn count_refusal(&mut self) -> u8 {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals
    }

    fn is_refused(&self, id: PurseId) -> bool {
        let pending = self.purse(id).and_then(|purse| purse.pending.as_ref());
        pending.is_some_and(PendingTick::is_refused)
    }

    fn on_spent(&mut self, id: PurseId) {
        if !self.is_refused(id) {
            return;
        }
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        let seq = purse.seq;
        let Some(pending) = purse.pending.as_mut() else {
            return;
        };
        pending.fate = Fate::Lost;
        let amount = pending.amount;
        self.event(Event::TickLost { seq, amount });
        self.release_purses_if_closing();
    }

    /// By the user's consent: a payment that is spent and was never acknowledged is lost.
    pub(super) fn write_off(&mut self) {
        let Some(record) = &self.record else { return };
        let lost = |purse: &&PayerPurse| {
            purse
                .pending
                .as_ref()
                .is_some_and(|pending| pending.fate == Fate::Lost)
        };
        let Some(id) = record.purses.iter().find(lost).map(|purse| purse.id) else {
            return;
        };
        let Some((_, pending)) = self.take_pending(id) else {
            return;
        };
        // A lost tip stays a tip: no media was to come for it.
        if let Some(record) = self.record.as_mut().filter(|_| !pending.tip) {
            record.written_off = record.written_off.saturating_plus(pending.amount);
            if planted::is(Planted::WriteOffTwice) {
                record.written_off = record.written_off.saturating_plus(pending.amount);
            }
        }
        self.persist();
        self.clear_pause(PauseReason::PaymentRefused);
    }

    fn on_failed(&mut self, id: PurseId, error: BackendError) {
        let error = planted::fate(error);
        self.note_trouble(id, error);
        let Some(purse) = self.purse(id) else { return };
        match (purse.state, &purse.pending) {
            (PurseState::Opening, _) => self.open_failed(id, error),
            (PurseState::Closing | PurseState::Done, _) => self.release_failed(id, error),
            (_, Some(pending)) if !pending.is_made() => self.pay_failed(id, error),
            (_, Some(_)) => {
                self.event(Event::BackendTrouble { error });
                self.try_later();
            }
            (_, None) => {}
        }
    }

    fn pay_failed(&mut self, id: PurseId, error: BackendError) {
        self.event(Event::BackendTrouble { error });
        if matches!(error, BackendError::Transient | BackendError::Unknown) {
            return self.try_later();
        }
        if self.is_shown_again(id) {
            return self.not_shown_again(id);
        }
        // No payment was made. The purse gives no more.
        let Some((purse, pending)) = self.take_pending(id) else {
            return;
        };
        purse.paid = purse.paid.saturating_minus(pending.amount);
        purse.seq = crate::units::Seq(purse.seq.0.saturating_sub(1));
        purse.capacity = purse.paid;
        self.uncount_tip(&pending);
        if error != BackendError::Fatal(RefusalCode::PurseEmpty) && self.in_session() {
            self.close(CloseCode::BackendFailed, false);
        }
        self.release_purses_if_closing();
    }

    fn is_shown_again(&self, id: PurseId) -> bool {
        let pending = self.purse(id).and_then(|purse| purse.pending.as_ref());
        pending.is_some_and(|pending| pending.fate == Fate::Again)
    }

    /// The payee has it, and will not be shown it again: its number was never used.
    fn not_shown_again(&mut self, id: PurseId) {
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        purse.seq = crate::units::Seq(purse.seq.0.saturating_sub(1));
        purse.capacity = purse.paid;
        if let Some(pending) = purse.pending.as_mut() {
            pending.fate = Fate::Refused;
        }
        self.on_spent(id);
    }

    fn take_pending(&mut self, id: PurseId) -> Option<(&mut PayerPurse, PendingTick)> {
        let purse = self.purse_mut(id)?;
        let pending = purse.pending.take()?;
        Some((purse, pending))
    }

    /// What is paid and not used yet, by the own meter and as far as drift is tolerated.
    pub(super) fn ahead(&self) -> Msat {
        let credit = match planted::is(Planted::TwoPursesAhead) {
            true => self.acknowledged(),
            false => self.credit(),
        };
        credit.saturating_minus(self.used())
    }

    /// What is paid for media, less what was written off.
    pub(super) fn credit(&self) -> Msat {
        self.bought().saturating_minus(self.written_off())
    }
}
