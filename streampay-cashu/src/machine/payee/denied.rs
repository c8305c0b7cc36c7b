//! Payments of which the mint said that somebody else had spent them. It may be wrong: its answer to our own
//! swap was lost, and it did not own up to it at once. They are asked for once more before the purse is
//! settled.

use streampay_core::backend::{Answer, BackendError, Effect};
use streampay_core::store::ChangeSet;
use streampay_core::units::Now;

use super::{PayeePurse, TOKENS_MAX};
use crate::job::{Done, Job};
use crate::machine::record::{self, Denied, Receipt};

/// Asking for one of them is effect `DENIED` and its number.
const DENIED: u64 = 16;
/// So many are kept: as many as a purse has tokens. Whoever sends more that are spent has paid with none.
const DENIED_MAX: u64 = TOKENS_MAX;

impl PayeePurse {
    /// The mint says that somebody else has spent the payment of this tick.
    pub(super) fn deny(&mut self, delta: &mut ChangeSet, seq: u64) {
        let Some(receipt) = self.receipts.remove(&seq) else {
            return;
        };
        record::remove_receipt(delta, seq);
        let known = self.denied_as(seq, &receipt).is_some();
        let free = (0..DENIED_MAX).find(|at| !self.denied.contains_key(at));
        let Some(at) = free.filter(|_| !known) else {
            return;
        };
        let denied = Denied { seq, receipt };
        record::put_denied(delta, at, &denied);
        self.denied.insert(at, denied);
    }

    fn denied_as(&self, seq: u64, receipt: &Receipt) -> Option<u64> {
        let mut all = self.denied.iter();
        let same = all.find(|(_, of)| of.seq == seq && of.receipt.payload == receipt.payload);
        same.map(|(at, _)| *at)
    }

    /// It was sent once more, and is ours.
    pub(super) fn undeny(&mut self, delta: &mut ChangeSet, seq: u64) {
        let receipt = self.receipts.get(&seq);
        if let Some(at) = receipt.and_then(|receipt| self.denied_as(seq, receipt)) {
            self.forget_denied(delta, at);
        }
    }

    fn forget_denied(&mut self, delta: &mut ChangeSet, at: u64) {
        self.denied.remove(&at);
        record::remove_denied(delta, at);
    }

    /// Asks for the first of them; none where there is none.
    pub(super) fn ask_denied(&mut self) -> Option<Vec<Effect>> {
        let (at, denied) = self.denied.first_key_value()?;
        let id = DENIED.saturating_add(*at);
        let swap = self.swap_of(denied.seq, &denied.receipt, true)?;
        Some(self.running.start(self.key, id, || Job::SwapIn { swap }))
    }

    /// What came of one, where the effect was for one.
    pub(super) fn denied_asked(
        &mut self,
        now: Now,
        id: u64,
        done: &Result<Done, BackendError>,
    ) -> Option<Answer> {
        let at = id.checked_sub(DENIED).filter(|at| *at < DENIED_MAX)?;
        let Some(denied) = self.denied.get(&at).cloned() else {
            return Some(Answer::default());
        };
        let mut answer = Answer::default();
        match done {
            // Home, or what the mint says is so.
            Ok(Done::Swapped | Done::SpentElsewhere)
            | Err(BackendError::Rejected(..) | BackendError::Fatal(_)) => {
                self.forget_denied(&mut answer.delta, at);
            }
            Ok(Done::OtherKeysets(keysets)) => {
                let outputs = keysets.active();
                if denied.receipt.outputs == outputs {
                    return Some(Answer::failed(BackendError::Transient));
                }
                let receipt = Receipt {
                    outputs,
                    ..denied.receipt
                };
                let denied = Denied { receipt, ..denied };
                record::put_denied(&mut answer.delta, at, &denied);
                self.denied.insert(at, denied);
                self.made_anew(now, id);
            }
            Ok(_) => return Some(Answer::failed(BackendError::Unknown)),
            Err(error) => return Some(Answer::failed(*error)),
        }
        if self.meta.settling {
            let next = self.settle_next(now);
            (answer.effects, answer.outcome) = (next.effects, next.outcome);
        }
        Some(answer)
    }

    pub(super) fn is_denied_put_off(&self, now: Now) -> bool {
        let first = self.denied.first_key_value();
        first.is_some_and(|(at, _)| self.is_put_off(now, DENIED.saturating_add(*at)))
    }
}
