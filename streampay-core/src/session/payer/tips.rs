//! Payments that buy no media: tips, and the fee for joining the room. What is wanted and what is
//! made are cumulative and durable, so that nothing is given twice and nothing is forgotten; the
//! payments themselves are ticks, one under way at a time, within the budget. Spec: rooms 4.

use super::PayerSession;
use crate::session::record::{PayerPurse, PendingTick, PurseState};
use crate::session::{Event, Receipt};
use crate::units::Msat;

impl PayerSession {
    /// What of the ticks made is for no media: tips, the one under way and the fee for joining
    /// included. Spec: rooms 4.
    #[must_use]
    pub fn tips(&self) -> Msat {
        let record = self.record.as_ref();
        record.map(|record| record.tips).unwrap_or_default()
    }

    /// What [`PayerSession::tips`] shall come to: all that the user consented to.
    #[must_use]
    pub fn tips_wanted(&self) -> Msat {
        let record = self.record.as_ref();
        record.map(|record| record.tips_wanted).unwrap_or_default()
    }

    /// What is paid for media, the tick under way included.
    #[must_use]
    pub fn bought(&self) -> Msat {
        self.paid().saturating_minus(self.tips())
    }

    /// By the user's consent: so much is given besides what the media costs. Durable before any
    /// of it is paid.
    pub(super) fn tip(&mut self, amount: Msat) {
        let (least, most) = (self.tip_step(), self.affordable());
        if self.live().is_none() || amount < least || amount > most {
            return self.event(Event::TipRefused {
                amount,
                least,
                most,
            });
        }
        let wanted = self.tips_wanted().saturating_plus(amount);
        self.want_tips(wanted);
    }

    /// What tips shall come to, durably; never less than before.
    pub(super) fn want_tips(&mut self, wanted: Msat) {
        let Some(record) = &mut self.record else {
            return;
        };
        record.tips_wanted = record.tips_wanted.max(wanted);
        self.persist();
    }

    /// One payment of the purse that pays next.
    pub(super) fn tip_step(&self) -> Msat {
        self.paying_purse()
            .map_or_else(|| self.step(), |(_, step)| step)
    }

    /// What budget and purses still hold beyond the tips that are already wanted.
    pub(super) fn affordable(&self) -> Msat {
        let usable = |purse: &&PayerPurse| {
            let state = purse.state;
            matches!(
                state,
                PurseState::Opening | PurseState::Offered | PurseState::Open
            )
        };
        let purses = self.all_purses().filter(usable).map(PayerPurse::left);
        let owed = self.tips_wanted().saturating_minus(self.tips());
        purses
            .fold(self.budget_left(), Msat::saturating_plus)
            .saturating_minus(owed)
    }

    /// Gives the next part of what is wanted, where a whole payment of it is left. What is less
    /// than one payment stays wanted.
    pub(super) fn maybe_tip(&mut self) {
        let Some((id, step)) = self.paying_purse() else {
            return;
        };
        let due = self.tips().plus(step);
        if due.is_ok_and(|due| due <= self.tips_wanted()) {
            self.pay(id, step, true);
        }
    }

    pub(super) fn count_tip(&mut self, amount: Msat, tip: bool) {
        if let Some(record) = self.record.as_mut().filter(|_| tip) {
            record.tips = record.tips.saturating_plus(amount);
        }
    }

    /// The payment was not made, or is back: it is still wanted.
    pub(super) fn uncount_tip(&mut self, pending: &PendingTick) {
        if let Some(record) = self.record.as_mut().filter(|_| pending.tip) {
            record.tips = record.tips.saturating_minus(pending.amount);
        }
    }

    /// What a tick of so much, where it is a tip, says that all tips come to with it.
    pub(super) fn tips_with(&self, amount: Msat) -> Option<Msat> {
        Some(self.acknowledged_tips().saturating_plus(amount))
    }

    /// What is under way for no media.
    pub(super) fn tip_under_way(&self) -> Msat {
        let pending = self.all_purses().filter_map(|purse| purse.pending.as_ref());
        let tips = pending.filter(|pending| pending.tip);
        tips.fold(Msat::ZERO, |sum, tip| sum.saturating_plus(tip.amount))
    }

    /// What was given, and is neither acknowledged nor under way.
    pub(super) fn lost_tips(&self) -> Msat {
        let known = self
            .acknowledged_tips()
            .saturating_plus(self.tip_under_way());
        self.tips().saturating_minus(known)
    }

    /// What of the newest receipt is for no media.
    pub(super) fn acknowledged_tips(&self) -> Msat {
        let record = self.record.as_ref();
        let receipt = record.map(|record| record.common.receipt());
        receipt.map(|receipt| receipt.tips).unwrap_or_default()
    }

    /// True where a receipt with a higher total counts as tips what was given as tips: the payment
    /// under way exactly, and never more than was given. Only what goes beyond an old backup is for
    /// payments that are not known here.
    pub(super) fn tips_fit(&self, receipt: &Receipt) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        let before = record.common.receipt();
        let Ok(more) = receipt.tips.minus(before.tips) else {
            return false;
        };
        let gained = receipt.total.saturating_minus(before.total);
        let Some(purse) = self.purse(receipt.purse) else {
            return false;
        };
        let unknown = match self.restored {
            true => receipt.cumulative.saturating_minus(purse.paid),
            false => Msat::ZERO,
        };
        let under_way = purse.pending.as_ref();
        let under_way = under_way.filter(|_| purse.seq == receipt.seq);
        let amount = under_way.map(|pending| pending.amount).unwrap_or_default();
        let tip = under_way.is_some_and(|pending| pending.tip);
        let own = if tip { amount } else { Msat::ZERO };
        receipt.tips <= record.tips.saturating_plus(unknown)
            && more >= own
            && more.saturating_minus(own) <= gained.saturating_minus(amount)
    }

    /// Takes what a receipt that fits says of tips. True where there are more.
    pub(super) fn take_tips(&mut self, receipt: &Receipt) -> bool {
        let before = self.acknowledged_tips();
        let purse = self.purse(receipt.purse);
        // An old backup: what was under way then is long decided, and in the receipt or back.
        let stale = purse.filter(|purse| receipt.seq > purse.seq);
        if let Some(pending) = stale.and_then(|purse| purse.pending.clone()) {
            self.uncount_tip(&pending);
        }
        if let Some(record) = &mut self.record {
            record.tips = record.tips.max(receipt.tips);
            // What was given was wanted, though a backup does not know it.
            record.tips_wanted = record.tips_wanted.max(record.tips);
        }
        receipt.tips > before
    }
}
