//! What the payee acknowledges: verified, kept, never more than was paid.

use core::cmp::Ordering;

use bytes::Bytes;

use super::PayerSession;
use super::pay::REFUSALS_MAX;
use crate::backend::Request;
use crate::meter::PauseReason;
use crate::planted;
use crate::session::record::{PayerPurse, StoredEvidence};
use crate::session::{CloseCode, Event, MediaGrant, Misbehaviour, Receipt};
use crate::units::Msat;
use crate::wire::{Ack, Evidence, Message};

/// How often a payee may grant something new: once in so many milliseconds on average, and so many at once. What
/// comes beyond was not said; the next ack says it again. Spec: session 5.2.
const GRANT_EVERY_MS: u64 = 50;
const GRANT_BURST: u64 = 128;

impl PayerSession {
    pub(super) fn on_ack(&mut self, ack: &Ack) {
        if self.is_unbound() || !self.accept_evidence(&ack.evidence) {
            return;
        }
        self.on_hint(ack.evidence.receipt.reading);
        self.take_receipt(&ack.evidence);
        if let Some(grant) = &ack.grant {
            self.take_grant(grant);
        }
    }

    fn take_grant(&mut self, grant: &Bytes) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        let is_new = live.grant.as_ref() != Some(grant);
        if is_new && live.grants.take(now, GRANT_EVERY_MS, GRANT_BURST) {
            live.grant = Some(grant.clone());
            self.event(Event::Grant(MediaGrant(grant.clone())));
        }
    }

    pub(super) fn request_receipt(&mut self) {
        if let Some(live) = self.live_mut() {
            live.wants_receipt = true;
            self.send(&Message::ReceiptRequest);
        }
    }

    /// The receipt that was asked for: the newest one there is, signed.
    fn take_receipt(&mut self, evidence: &Evidence) {
        let wanted = self.live().is_some_and(|live| live.wants_receipt);
        let Some(record) = self.record.as_mut().filter(|_| wanted) else {
            return;
        };
        let common = &mut record.common;
        let known = common.receipt();
        if evidence.receipt.total < known.total {
            return;
        }
        let hash = evidence.receipt.hash(self.session);
        if !common.fixed.peer_key.verifies(hash, &evidence.signature) {
            return self.misbehaved(Misbehaviour::BadSignature);
        }
        // One that says more was taken just before: this is the newest, or another of the same total.
        if evidence.receipt != known {
            return self.misbehaved(Misbehaviour::Changed);
        }
        common.evidence = Some(StoredEvidence(*evidence));
        self.persist();
        if let Some(live) = self.live_mut() {
            live.wants_receipt = false;
        }
        self.event(Event::Receipt(*evidence));
    }

    /// The newest receipt of the payee, signed by its key of the session.
    #[must_use]
    pub fn receipt(&self) -> Option<Evidence> {
        self.record.as_ref()?.common.evidence()
    }

    /// Takes a receipt, wherever it came in. True where it verifies and fits what was paid.
    pub(super) fn accept_evidence(&mut self, evidence: &Evidence) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        let receipt = evidence.receipt;
        let old = receipt.total <= record.common.receipt().total;
        if old && !planted::takes_old_receipt() {
            // An older one, or the same again: it says nothing new.
            return true;
        }
        if !record
            .common
            .fixed
            .peer_key
            .verifies(receipt.hash(self.session), &evidence.signature)
        {
            self.misbehaved(Misbehaviour::BadSignature);
            return false;
        }
        let Some(purse) = self.purse(receipt.purse) else {
            self.does_not_fit();
            return false;
        };
        let others = self.acknowledged().saturating_minus(purse.acked);
        // After a restart the record may be an old backup: the payee's receipt brings it forward.
        let forgotten = self.restored && is_forgotten(purse, &receipt);
        let fits = (is_made(purse, &receipt) || forgotten)
            && is_whole(purse, &receipt)
            && self.tips_fit(&receipt)
            && others.plus(receipt.cumulative) == Ok(receipt.total);
        if !fits {
            self.does_not_fit();
            return false;
        }
        self.acknowledge(evidence);
        true
    }

    /// A receipt that the record makes no sense of. After a restart the record may be a backup that is too
    /// old for it, and nobody is at fault: the session ends with what is known.
    fn does_not_fit(&mut self) {
        let code = self.record.as_ref().and_then(|of| of.common.close_code());
        if self.restored || code == Some(CloseCode::OutOfDate) {
            return self.close(CloseCode::OutOfDate, false);
        }
        self.misbehaved(Misbehaviour::OverAcknowledged);
    }

    /// A payment that was written off and is acknowledged after all is not lost: no more than what
    /// is neither acknowledged nor under way can be.
    fn regain_written_off(&mut self) {
        let under_way = self.sum(|purse| {
            let pending = purse.pending.as_ref().map(|pending| pending.amount);
            pending.unwrap_or_default()
        });
        let open = self.paid().saturating_minus(self.acknowledged());
        // A tip that is lost bought no media before either.
        let tips = self.tips().saturating_minus(self.acknowledged_tips());
        let tips = tips.saturating_minus(self.tips_under_way());
        let most = open.saturating_minus(under_way).saturating_minus(tips);
        if let Some(record) = &mut self.record {
            record.written_off = record.written_off.min(most);
        }
    }

    fn tips_under_way(&self) -> Msat {
        self.sum(|purse| {
            let tip = purse.pending.as_ref().filter(|pending| pending.tip);
            tip.map(|pending| pending.amount).unwrap_or_default()
        })
    }

    fn acknowledge(&mut self, evidence: &Evidence) {
        let receipt = evidence.receipt;
        let tipped = self.take_tips(&receipt);
        let Some(record) = &mut self.record else {
            return;
        };
        record.common.evidence = Some(StoredEvidence(*evidence));
        let request = record.common.request_id();
        let Some(purse) = self.purse_mut(receipt.purse) else {
            return;
        };
        purse.acked = receipt.cumulative;
        let hears = purse.hears_acks();
        if receipt.seq >= purse.seq {
            purse.pending = None;
            purse.seq = receipt.seq;
        }
        purse.paid = purse.paid.max(receipt.cumulative);
        self.refusals = 0;
        self.regain_written_off();
        // A payment that was written off, and is acknowledged after all, says nothing of the one under way.
        let answered = !self.all_purses().any(|purse| purse.pending.is_some());
        let now = self.now.mono;
        if let Some(live) = self.live_mut().filter(|_| answered) {
            live.acknowledged(now);
        }
        self.persist();
        if hears {
            let (seq, cumulative) = (receipt.seq, receipt.cumulative);
            self.ask(receipt.purse, request, Request::Acked { seq, cumulative });
        }
        self.event(Event::TickPaid {
            seq: receipt.seq,
            total: receipt.total,
            reading: receipt.reading,
        });
        if tipped {
            let tips = receipt.tips;
            self.event(Event::TipPaid { tips });
        }
        if answered {
            self.clear_pause(PauseReason::AckOverdue);
            self.clear_pause(PauseReason::PaymentRefused);
        }
        self.backend_is_back();
    }
}

/// True where a receipt acknowledges payments that were made: the one under way, by its own
/// number, or some that were written off.
fn is_made(purse: &PayerPurse, receipt: &Receipt) -> bool {
    let more = receipt.cumulative.saturating_minus(purse.acked);
    let under_way = purse.pending.as_ref().map(|pending| pending.amount);
    let under_way = under_way.unwrap_or_default();
    let open = purse.paid.saturating_minus(purse.acked);
    let lost = open.saturating_minus(under_way);
    match receipt.seq.cmp(&purse.seq) {
        Ordering::Less => more <= lost,
        Ordering::Equal => more >= under_way && more <= open,
        Ordering::Greater => false,
    }
}

/// True where a receipt acknowledges payments that an old backup of the purse does not know of: newer
/// ones, by numbers that they can have had. After a number that is none no payment could follow.
fn is_forgotten(purse: &PayerPurse, receipt: &Receipt) -> bool {
    let left = purse.capacity.saturating_minus(purse.acked).msat();
    let payments = left.checked_div(purse.step.msat()).unwrap_or_default();
    let numbers = payments.saturating_mul(REFUSALS_MAX.into());
    let newer = receipt.seq.0.checked_sub(purse.seq.0);
    let fits = newer.is_some_and(|newer| (1..=numbers).contains(&newer));
    fits && receipt.cumulative <= purse.capacity
}

/// Payments are whole steps, and so is what a receipt says of a purse.
fn is_whole(purse: &PayerPurse, receipt: &Receipt) -> bool {
    let more = receipt.cumulative.msat().checked_sub(purse.acked.msat());
    let part = more.and_then(|more| more.checked_rem(purse.step.msat()));
    part == Some(0)
}
