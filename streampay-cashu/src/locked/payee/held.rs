//! Purses of before a backup: a self that was lost may have signed them over.

use super::PayeePurse;
use crate::fee::fee_of;
use crate::locked::RESTORED_SLACK_S;

impl PayeePurse {
    /// True of a purse that may be older than our records were made again from a backup.
    pub(super) fn may_be_released(&self) -> bool {
        let opened = self.funded.funding.locktime;
        let opened = opened.saturating_sub(self.meta.agreed.lock_s);
        let restored = self.policy.restored;
        restored.is_some_and(|at| opened <= at.0.saturating_add(RESTORED_SLACK_S))
    }

    /// True of such a purse once all that is credited in it is to be redeemed before any more is: a tick,
    /// or as many as pay for the batch within the policy's share.
    pub(super) fn is_held(&self) -> bool {
        self.may_be_released() && self.due_ticks() >= self.worth_a_batch()
    }

    /// Ticks that are credited and not redeemed, but for proofs that somebody else spent.
    pub(super) fn due_ticks(&self) -> u64 {
        let until = self.proofs_until(self.credited.step);
        let spent = u64::try_from(self.drain.spent.len()).unwrap_or(u64::MAX);
        let due = until.saturating_sub(self.drain.next).saturating_sub(spent);
        due.checked_div(self.per_step()).unwrap_or_default()
    }

    /// The fewest ticks of which a batch by itself costs no more than the policy's share.
    fn worth_a_batch(&self) -> u64 {
        let most = self.policy.redeem_ticks.max(1);
        let is_worth = |ticks: &u64| {
            let proofs = self.per_step().saturating_mul(*ticks);
            let fee = fee_of(self.meta.ppk.saturating_mul(proofs));
            let share = self.meta.step.saturating_mul(self.policy.max_fee_permille);
            fee.saturating_mul(1000) <= share.saturating_mul(*ticks)
        };
        (1..most).find(is_worth).unwrap_or(most)
    }
}
