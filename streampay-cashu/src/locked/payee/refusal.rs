//! Openings that are not taken, and their way back.

use streampay_core::backend::{Answer, BackendError, RefusalCode};
use streampay_core::units::Now;

use super::{PayeePurse, Stage};
use crate::chain::Funding;
use crate::locked::{CLOCK_SLACK_S, merge, record};
use crate::params_locked::LockedParams;

impl PayeePurse {
    pub(super) fn refuse(&mut self, now: Now, error: BackendError) -> Answer {
        merge(self.give_back(now), Answer::failed(error))
    }

    /// Takes nothing from it any more, and signs all of it over to the payer: that is durable first,
    /// so that a payee that dies before it has said so says it later. Only for proofs that are money
    /// indeed: signatures for nothing cost their asker nothing. A payer of others, and of
    /// `cashu-p2pk`, where none were shown, waits for its locktime.
    pub(super) fn give_back(&mut self, now: Now) -> Answer {
        if !self.proven {
            self.stage = Stage::Gone;
            return Answer::default();
        }
        self.stage = Stage::Refused;
        self.funded.funding = self.funded.funding.without_pieces();
        let longest = now.unix.0.saturating_add(self.policy.lock_s_max);
        let until = self.funded.funding.locktime.min(longest);
        self.meta.refused_until = Some(until.saturating_add(CLOCK_SLACK_S));
        let mut answer = Answer {
            effects: self.sign(1),
            ..Answer::default()
        };
        self.put_meta(&mut answer.delta);
        record::put_locked(&mut answer.delta, &self.bare());
        answer
    }

    /// From its locktime on the payer needs nobody.
    pub(super) fn forget_refused(&mut self, now: Now) -> Answer {
        let mut answer = Answer::default();
        if self
            .meta
            .refused_until
            .is_some_and(|until| now.unix.0 >= until)
        {
            self.stage = Stage::Gone;
            record::remove_refused(&mut answer.delta);
        }
        answer
    }
}

/// What is wrong with an opening at first sight, against the terms.
pub(super) fn misfit(
    params: &LockedParams,
    funding: &Funding,
    chain: bool,
    step: u64,
) -> Option<RefusalCode> {
    let mut at_mint = (params.mints().iter())
        .filter(|mint| mint.url() == funding.mint)
        .peekable();
    if at_mint.peek().is_none() {
        return Some(RefusalCode::WrongMint);
    }
    let Some(mint) = at_mint.find(|mint| mint.unit() == funding.unit) else {
        return Some(RefusalCode::WrongUnit);
    };
    if funding.is_chain() != chain {
        return Some(RefusalCode::WrongLock);
    }
    let priced = funding.step() == Some(mint.price_of(step));
    let fits = priced && funding.steps <= mint.ticks_max(step);
    (!fits).then_some(RefusalCode::WrongAmount)
}
