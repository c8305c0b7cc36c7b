//! A record that is an old backup, and the receipts that its payer kept.

use super::PayeeSession;
use crate::session::record::{PayeePurse, PurseState, StoredEvidence};
use crate::session::{CloseCode, Receipt};
use crate::units::{Msat, PurseId};
use crate::wire::{Evidence, Hello};

impl PayeeSession {
    /// What was paid since the backup is in more than one purse, and the receipt names the sum of one:
    /// nobody can go on from there. It ends with that receipt, and with what can be told from it.
    pub(super) fn end_out_of_date(&mut self, hello: &Hello, evidence: Evidence) {
        self.take_sums(evidence);
        self.close(CloseCode::OutOfDate, false);
        self.on_hello(hello);
    }

    /// A newest receipt that no record fits: the sum of its purse stands in it, and where one other has
    /// room, that has what is left of the total. No sum is above what its purse holds, and none falls.
    pub(super) fn take_sums(&mut self, evidence: Evidence) {
        let Some(record) = &mut self.record else {
            return;
        };
        record.common.evidence = Some(StoredEvidence(evidence));
        let receipt = evidence.receipt;
        let mut purses = record.purses.iter_mut();
        if let Some(purse) = purses.find(|purse| purse.id == receipt.purse) {
            let sum = receipt.cumulative.min(purse.capacity);
            purse.seq = purse.seq.max(receipt.seq);
            credit(purse, sum);
        }
        if let Some((purse, sum)) = only_other(&mut record.purses, &receipt) {
            credit(purse, sum);
        }
        self.persist();
    }

    /// A payer that kept a newer receipt than we did brings a restored backup forward. False where
    /// it cannot: ours is older than what this receipt says.
    pub(super) fn catch_up(&mut self, evidence: &Evidence) -> bool {
        let Some(record) = &mut self.record else {
            return true;
        };
        let receipt = evidence.receipt;
        let newer = receipt.total > record.common.receipt().total;
        let signed = self.key.public().verifies(
            receipt.hash(record.common.fixed.session),
            &evidence.signature,
        );
        if !newer || !signed {
            return true;
        }
        let others = record
            .purses
            .iter()
            .filter(|purse| purse.id != receipt.purse);
        let others = others.fold(Msat::ZERO, |sum, purse| sum.saturating_plus(purse.credited));
        let whole = others.plus(receipt.cumulative) == Ok(receipt.total);
        let mut purses = record.purses.iter_mut();
        let purse = purses.find(|purse| purse.id == receipt.purse);
        // One that was still being checked was taken since, of which our backend knows nothing.
        let is_known = |purse: &&mut PayeePurse| whole && purse.state != PurseState::Opening;
        let Some(purse) = purse.filter(is_known) else {
            return false;
        };
        record.tips = receipt.tips;
        purse.credited = receipt.cumulative;
        purse.seq = receipt.seq;
        purse.last = None;
        purse.refusal = None;
        record.common.evidence = Some(StoredEvidence(*evidence));
        record.common.reading = record.common.reading.max(receipt.reading);
        self.metered = self.metered.max(receipt.reading);
        self.advance_schedule(receipt.reading);
        self.persist();
        true
    }

    /// The backend's one answer for a payment that was let go of: whatever it says, what was made of
    /// that payment is in the sum already.
    pub(super) fn on_let_go_answered(&mut self, id: PurseId) {
        if let Some(purse) = self.purse_mut(id) {
            purse.receiving = None;
        }
        self.backend_is_back();
        self.settle_if_closing();
    }
}

impl PayeePurse {
    /// True where a receipt decided the payment that the backend still checks. An answer does not say
    /// which payment it is for: until this one has come the purse takes no other.
    pub(super) fn has_let_go(&self) -> bool {
        let receiving = self.receiving.as_ref();
        receiving.is_some_and(|tick| tick.seq <= self.seq)
    }
}

/// The one other purse that can have taken more than we know, and what is left for it of the total.
fn only_other<'a>(
    purses: &'a mut [PayeePurse],
    receipt: &Receipt,
) -> Option<(&'a mut PayeePurse, Msat)> {
    let has_room = |purse: &PayeePurse| {
        purse.id != receipt.purse
            && purse.state != PurseState::Done
            && purse.credited < purse.capacity
    };
    let others = purses.iter().filter(|purse| purse.id != receipt.purse);
    let rest = others
        .filter(|purse| !has_room(purse))
        .fold(receipt.cumulative, |sum, purse| {
            sum.saturating_plus(purse.credited)
        });
    let mut open = purses.iter_mut().filter(|purse| has_room(purse));
    let purse = open.next().filter(|_| open.next().is_none())?;
    let sum = receipt.total.saturating_minus(rest).min(purse.capacity);
    Some((purse, sum))
}

/// Raises what a purse has. A payment that was being checked is in the sum: it was decided before the
/// receipt was signed, and is let go of.
fn credit(purse: &mut PayeePurse, sum: Msat) {
    if purse.credited < sum {
        purse.credited = sum;
        if let Some(tick) = &purse.receiving {
            purse.seq = purse.seq.max(tick.seq);
        }
        purse.last = None;
        purse.refusal = None;
    }
}
