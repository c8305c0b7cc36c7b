//! Ticks as the payee sees them: each `seq` once, one at a time, credited when durable.

use alloc::boxed::Box;

use bytes::Bytes;
use minicbor::bytes::ByteArray;

use super::{PayeeSession, Phase};
use crate::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use crate::planted::{self, Planted};
use crate::session::crypto::Tag;
use crate::session::record::{PayeePurse, PurseState, ReceivingTick, StoredBytes, StoredEvidence};
use crate::session::{CloseCode, Event, MediaGrant, Misbehaviour, Output, Receipt};
use crate::units::{PurseId, Seq};
use crate::wire::{Ack, Evidence, Message, Nack, Tick, encode};

impl PayeeSession {
    pub(super) fn on_tick(&mut self, tick: &Tick) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let Some(purse) = self.purse(tick.purse) else {
            return self.refuse_unknown(tick);
        };
        let checked = purse.receiving.as_ref().filter(|_| !purse.has_let_go());
        if let Some(receiving) = checked {
            // The same again while it is checked; anything else cannot be.
            let same = receiving.seq == tick.seq && receiving.payload.0 == tick.payload;
            let older = tick.seq <= purse.seq;
            return if same || older {
            } else {
                self.misbehaved(Misbehaviour::TickReused)
            };
        }
        if tick.seq < purse.seq && planted::after_restart(Planted::OldTickIsGap) {
            return self.misbehaved(Misbehaviour::TickGap);
        }
        if tick.seq <= purse.seq {
            return self.answer_again(tick);
        }
        if tick.seq != purse.seq.next() {
            return self.misbehaved(Misbehaviour::TickGap);
        }
        if purse.state != PurseState::Open || self.is_receiving().is_some() {
            // Not open: a message that overtook the one which opens it, and comes again. One
            // payment at a time: a sound payer has no other, but where one was let go of.
            return;
        }
        self.receive(tick);
    }

    fn receive(&mut self, tick: &Tick) {
        let Some(purse) = self.purse(tick.purse) else {
            return;
        };
        let amount = purse.step;
        let fits = purse.credited.plus(amount) == Ok(tick.cumulative)
            && tick.cumulative <= purse.capacity
            && self.tips_fit(tick, amount);
        if !fits {
            return self.refuse_tick(
                tick.purse,
                tick.seq,
                payment_hash(&tick.payload),
                RefusalCode::WrongAmount,
                Consumed::No,
            );
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        let receiving = ReceivingTick {
            seq: tick.seq,
            amount,
            cumulative: tick.cumulative,
            payload: StoredBytes(tick.payload.clone()),
            request,
            tip: tick.tips.is_some(),
        };
        // Not by what is stored: that may not be in any cache, and would be waited for.
        let asked = asked_of(&receiving);
        if let Some(purse) = self.purse_mut(tick.purse) {
            purse.receiving = Some(receiving);
        }
        self.note_receiving();
        self.ask(tick.purse, request, asked);
        if planted::is(Planted::CreditBeforeMint) {
            self.on_credited(tick.purse);
        }
    }

    /// Asks the backend to take the payment, also again after a restart: same id, same words.
    pub(super) fn ask_to_receive(&mut self, id: PurseId) {
        let Some(receiving) = self.purse(id).and_then(|purse| purse.receiving.as_ref()) else {
            return;
        };
        let (asked, request) = (asked_of(receiving), receiving.request);
        self.ask(id, request, asked);
    }

    pub(super) fn on_outcome(&mut self, id: PurseId, outcome: Outcome) {
        match outcome {
            Outcome::Accepted { capacity, quantum } => self.on_accepted(id, capacity, quantum),
            Outcome::Credited => self.on_credited(id),
            Outcome::Settled { settled } => self.on_settled(id, settled),
            Outcome::Failed(error) => self.on_failed(id, error),
            // The payer's outcomes: a backend that gives one to a payee is broken.
            Outcome::Opened { .. }
            | Outcome::Paid { .. }
            | Outcome::Reclaimed
            | Outcome::Outstanding
            | Outcome::Spent
            | Outcome::Released { .. } => {}
        }
    }

    /// The payment is ours. Durable with this answer, and only then acked.
    fn on_credited(&mut self, id: PurseId) {
        let reading = self.reading();
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.has_let_go() {
            return self.on_let_go_answered(id);
        }
        let Some(receiving) = purse.receiving.take() else {
            return;
        };
        purse.credited = receiving.cumulative;
        purse.seq = receiving.seq;
        purse.last = Some(ByteArray::from(payment_hash(&receiving.payload.0)));
        purse.refusal = None;
        let (seq, cumulative) = (purse.seq, purse.credited);
        self.credit_tip(&receiving);
        let total = self.credited();
        let Some(record) = &mut self.record else {
            return;
        };
        let receipt = Receipt {
            purse: id,
            seq,
            cumulative,
            total,
            reading,
            tips: record.tips,
        };
        let evidence = receipt.sign(record.common.fixed.session, &self.key);
        record.common.evidence = Some(StoredEvidence(evidence));
        self.nonsense = 0;
        self.note_life();
        self.say_ack(evidence);
        self.say_closing_again();
        self.event(Event::TickReceived { seq, total });
        self.tell_tip(&receiving);
        self.renew_offer();
        self.backend_is_back();
        self.grant();
        self.settle_if_closing();
    }

    fn say_ack(&mut self, evidence: Evidence) {
        let grant = self.grant.as_ref().map(|grant| grant.0.clone());
        self.send_in_live(&Message::Ack(Ack { evidence, grant }));
    }

    /// Something for the media rides on the last ack again, and on every one that follows.
    pub(super) fn grant_media(&mut self, grant: MediaGrant) {
        self.grant = Some(grant);
        let record = self.record.as_ref();
        if let Some(evidence) = record.and_then(|record| record.common.evidence()) {
            self.say_ack(evidence);
        }
    }

    /// The newest receipt; one for nothing where nothing is paid.
    pub(super) fn say_receipt(&mut self) {
        let Some(record) = &self.record else { return };
        let (newest, session) = (record.common.evidence(), record.common.fixed.session);
        let key = &self.key;
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let nothing = || Box::new(Receipt::default().sign(session, key));
        let evidence = newest.unwrap_or_else(|| **live.nothing.get_or_insert_with(nothing));
        self.say_ack(evidence);
    }

    fn on_failed(&mut self, id: PurseId, error: BackendError) {
        self.note_trouble(id, error);
        let Some(purse) = self.purse(id) else { return };
        match (purse.state, &purse.receiving) {
            (PurseState::Opening, _) => self.accept_failed(id, error),
            (PurseState::Closing, None) => self.settle_failed(id, error),
            (_, Some(receiving)) => {
                let (seq, hash) = (receiving.seq, payment_hash(&receiving.payload.0));
                self.receive_failed(id, seq, hash, error);
            }
            (_, None) => {}
        }
    }

    fn receive_failed(&mut self, id: PurseId, seq: Seq, hash: [u8; 32], error: BackendError) {
        match error {
            BackendError::Unknown if planted::is(Planted::CreditOnUnknown) => self.on_credited(id),
            BackendError::Transient | BackendError::Unknown => {
                self.event(Event::BackendTrouble { error });
                self.try_later();
            }
            _ if self.purse(id).is_some_and(PayeePurse::has_let_go) => self.on_let_go_answered(id),
            BackendError::Rejected(code, consumed) => {
                self.refuse_tick(id, seq, hash, code, consumed);
                self.backend_is_back();
                self.settle_if_closing();
            }
            BackendError::Fatal(code) => {
                self.event(Event::BackendTrouble { error });
                self.refuse_tick(id, seq, hash, code, Consumed::Unknown);
                self.close(CloseCode::BackendFailed, false);
                self.settle_if_closing();
            }
        }
    }

    fn refuse_tick(
        &mut self,
        id: PurseId,
        seq: Seq,
        hash: [u8; 32],
        code: RefusalCode,
        consumed: Consumed,
    ) {
        let nack = Message::Nack(Nack {
            purse: id,
            seq,
            code,
            consumed,
        });
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        purse.receiving = None;
        purse.seq = seq;
        purse.last = Some(ByteArray::from(hash));
        purse.refusal = Some(encode(&nack).to_vec().into());
        self.persist();
        self.event(Event::TickRefused { seq, code });
        self.send_in_live(&nack);
        // Each is a write to disk: a payer that sends nothing else is sent away.
        self.count_nonsense();
    }

    /// A tick of a purse that never opened here: a purse record was lost with a crash.
    fn refuse_unknown(&mut self, tick: &Tick) {
        let (purse, seq) = (tick.purse, tick.seq);
        let (code, consumed) = (RefusalCode::OutOfOrder, Consumed::No);
        self.send(&Message::Nack(Nack {
            purse,
            seq,
            code,
            consumed,
        }));
    }

    /// Planted: as if it had not been answered.
    fn take_again(&mut self, tick: &Tick) {
        if let Some(purse) = self.purse_mut(tick.purse) {
            purse.seq = Seq(tick.seq.0.saturating_sub(1));
        }
        self.receive(tick);
    }

    /// A tick that was answered: the same answer again. Another payment under its number is
    /// misbehaviour.
    fn answer_again(&mut self, tick: &Tick) {
        let Some(purse) = self.purse(tick.purse) else {
            return;
        };
        let newest = tick.seq == purse.seq;
        let other = purse
            .last
            .as_ref()
            .is_some_and(|last| **last != payment_hash(&tick.payload));
        if newest && other {
            return self.misbehaved(Misbehaviour::TickReused);
        }
        if newest && purse.refusal.is_some() && planted::is(Planted::ReplayNacked) {
            return self.take_again(tick);
        }
        let refusal = purse.refusal.as_ref().filter(|_| newest);
        let evidence = self
            .record
            .as_ref()
            .and_then(|record| record.common.evidence());
        match (refusal, evidence) {
            (Some(refusal), _) => {
                let nack = Bytes::copy_from_slice(refusal);
                self.out.push_back(Output::Send(nack));
            }
            (None, Some(evidence)) => self.say_ack(evidence),
            (None, None) => {}
        }
    }
}

fn asked_of(receiving: &ReceivingTick) -> Request {
    Request::Receive {
        seq: receiving.seq,
        amount: receiving.amount,
        cumulative: receiving.cumulative,
        payload: receiving.payload.0.clone(),
    }
}

fn payment_hash(payload: &[u8]) -> [u8; 32] {
    TAG.hash().last(payload).finish().0
}

const TAG: Tag = Tag::new("streampay/tick/v1");

#[cfg(test)]
mod tests;
