//! Payments of which the mint said that somebody else had spent them. They are asked for once more before the
//! purse is settled. Where an answer to our own swap was lost before, the mint may be wrong: such a one is
//! asked for again and again, less and less often, before that is believed.

use streampay_core::backend::{Answer, BackendError, Consumed, Effect, RefusalCode};
use streampay_core::store::ChangeSet;
use streampay_core::units::Now;

use super::{PayeePurse, TOKENS_MAX};
use crate::job::{Done, Job};
use crate::machine::doubt::Doubt;
use crate::machine::record::{self, Denied, Receipt};

/// Asking for one of them is effect `DENIED` and its number.
const DENIED: u64 = 16;
/// So many are kept: as many as a purse has tokens. Whoever sends more that are spent has paid with none.
const DENIED_MAX: u64 = TOKENS_MAX;

impl PayeePurse {
    /// The mint says that somebody else has spent the payment of this tick.
    pub(super) fn deny(&mut self, now: Now, delta: &mut ChangeSet, seq: u64) {
        let Some(mut receipt) = self.receipts.remove(&seq) else {
            return;
        };
        if let Some(doubt) = &mut receipt.doubt {
            // Settling asks for it at once.
            doubt.denied(now);
        }
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

    /// Asks for the first of them that does not wait; none where there is none.
    pub(super) fn ask_denied(&mut self, now: Now) -> Option<Vec<Effect>> {
        let mut all = self.denied.iter();
        let due = all.find(|(at, _)| !self.is_put_off(now, DENIED.saturating_add(**at)));
        let (at, denied) = due?;
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
            Ok(Done::SpentElsewhere) => self.denied_again(now, &mut answer, at, denied),
            // Home, or what the mint says is so.
            Ok(Done::Swapped) | Err(BackendError::Rejected(..) | BackendError::Fatal(_)) => {
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

    /// Believed, unless an answer was lost and it has not said so for long. The user is told either.
    fn denied_again(&mut self, now: Now, answer: &mut Answer, at: u64, mut denied: Denied) {
        let wait = denied.receipt.doubt.as_mut().map(|doubt| doubt.denied(now));
        let Some(Some(wait)) = wait else {
            let lost = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
            answer.trouble = wait.map(|_| lost);
            return self.forget_denied(&mut answer.delta, at);
        };
        record::put_denied(&mut answer.delta, at, &denied);
        self.denied.insert(at, denied);
        let pace = self.anew.entry(DENIED.saturating_add(at)).or_default();
        let told = pace.at().is_some();
        pace.wait(now, wait);
        answer.trouble = (!told).then_some(BackendError::Unknown);
    }

    /// Why they wait; none where there is none.
    pub(super) fn why_denied_wait(&self) -> Option<BackendError> {
        let (_, first) = self.denied.first_key_value()?;
        let denied = first.receipt.doubt.is_some_and(Doubt::is_denied);
        Some(match denied {
            true => BackendError::Unknown,
            false => BackendError::Transient,
        })
    }
}
