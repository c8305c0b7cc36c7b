//! What the payee acknowledges: verified, kept, never more than was paid.

use super::PayerSession;
use crate::backend::Request;
use crate::meter::PauseReason;
use crate::session::record::{PurseState, StoredEvidence};
use crate::session::{Event, Misbehaviour};
use crate::wire::{Ack, Evidence};

impl PayerSession {
    pub(super) fn on_ack(&mut self, ack: &Ack) {
        if self.record.is_some() && self.accept_evidence(&ack.evidence) {
            self.on_hint(ack.evidence.receipt.reading);
        }
    }

    /// Takes a receipt, wherever it came in. True where it verifies and fits what was paid.
    pub(super) fn accept_evidence(&mut self, evidence: &Evidence) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        let receipt = evidence.receipt;
        if receipt.total <= record.common.receipt().total {
            // An older one, or the same again: it says nothing new.
            return true;
        }
        if !record
            .common
            .peer_key
            .verifies(receipt.hash(self.session), &evidence.signature)
        {
            self.misbehaved(Misbehaviour::BadSignature);
            return false;
        }
        let Some(purse) = self.purse(receipt.purse) else {
            self.misbehaved(Misbehaviour::OverAcknowledged);
            return false;
        };
        let others = self.acknowledged().saturating_minus(purse.acked);
        // After a restart the record may be an old backup: the payee's receipt brings it forward.
        let made = receipt.cumulative <= purse.paid && receipt.seq <= purse.seq;
        let forgotten = self.restored && receipt.cumulative <= purse.capacity;
        let fits = (made || forgotten) && others.plus(receipt.cumulative) == Ok(receipt.total);
        if !fits {
            self.misbehaved(Misbehaviour::OverAcknowledged);
            return false;
        }
        self.acknowledge(evidence);
        true
    }

    fn acknowledge(&mut self, evidence: &Evidence) {
        let receipt = evidence.receipt;
        let Some(record) = &mut self.record else {
            return;
        };
        record.common.evidence = Some(StoredEvidence(*evidence));
        let request = record.common.request_id();
        let Some(purse) = self.purse_mut(receipt.purse) else {
            return;
        };
        purse.acked = receipt.cumulative;
        let open = matches!(purse.state, PurseState::Offered | PurseState::Open);
        if receipt.seq >= purse.seq {
            purse.pending = None;
            purse.seq = receipt.seq;
        }
        purse.paid = purse.paid.max(receipt.cumulative);
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.acknowledged(now);
        }
        self.persist();
        if open {
            self.ask(receipt.purse, request, Request::Acked { seq: receipt.seq });
        }
        self.event(Event::TickPaid {
            seq: receipt.seq,
            total: receipt.total,
            reading: receipt.reading,
        });
        self.clear_pause(PauseReason::AckOverdue);
        self.clear_pause(PauseReason::PaymentRefused);
        self.backend_is_back();
    }
}
