//! Which method opens a purse, and when: rollover before one runs out or runs off, fallback to
//! another method, top-up. All purses are under one bound: what is paid and what is used are sums
//! over all of them, and one payment is under way at a time.

use alloc::string::String;
use alloc::vec::Vec;

use super::PayerSession;
use crate::backend::RefusalCode;
use crate::planted::{self, Planted};
use crate::session::CloseCode;
use crate::session::record::{PayerPurse, PurseState};
use crate::units::{Mono, Msat, PurseId, Unix};
use crate::wire::Terms;

/// The most purses of one session. With 64 ticks a purse that is about three days of ticks of
/// 10 s; the record stays below a few tens of KiB.
const PURSES_MAX: usize = 400;
/// The same until a payment is acknowledged, of those that the payee is shown: to show one more is misbehaviour.
const UNPAID_PURSES_MAX: usize = 8;
/// A purse with less than so many ticks left is followed by another.
const LOW_TICKS: u64 = 3;
/// So is one of whose capacity, or usable life, less than a fifth is left: rollover at
/// 80 %. Spec: session 4.
const LEFT_PART: u64 = 5;
/// When a method that did not work is tried again, in milliseconds; doubled each time.
const AGAIN_MS: u64 = 30_000;
/// How often that is doubled: up to 16 min.
const DOUBLED_MAX: u8 = 5;

/// A method that did not work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    method: u8,
    until: Mono,
    times: u8,
}

impl PayerPurse {
    /// True where it gives no tick any more because its time is over.
    fn is_expired(&self, now: Unix) -> bool {
        self.until.is_some_and(|until| now.0 >= until)
    }

    /// True in the last fifth of its usable life.
    fn is_aging(&self, now: Unix) -> bool {
        self.until.is_some_and(|until| {
            let last = until.saturating_sub(self.opened) / LEFT_PART;
            now.0 >= until.saturating_sub(last)
        })
    }

    /// False for one that never opened.
    fn may_be_shown(&self) -> bool {
        self.state != PurseState::Done || !self.capacity.is_zero()
    }

    pub(super) fn left(&self) -> Msat {
        self.capacity.saturating_minus(self.paid)
    }

    /// True where it can give one more tick.
    fn can_pay(&self, now: Unix) -> bool {
        self.state == PurseState::Open
            && self.left() >= self.step
            && !self.is_expired(now)
            && (self.pending.is_none() || !planted::is(Planted::TwoPursesAhead))
    }

    /// True where it will do for a while.
    fn lasts(&self, now: Unix) -> bool {
        let ticks = self.step.times(LOW_TICKS).unwrap_or(Msat::MAX);
        let part = Msat::new(self.capacity.msat() / LEFT_PART).unwrap_or_default();
        self.left() >= ticks.max(part) && !self.is_aging(now)
    }
}

impl PayerSession {
    pub(super) fn all_purses(&self) -> impl Iterator<Item = &PayerPurse> {
        self.record.iter().flat_map(|record| &record.purses)
    }

    /// One payment: of the purse in use whose steps are largest; the terms' tick where there is
    /// none.
    pub(super) fn step(&self) -> Msat {
        let tick = self.terms().map(|terms| terms.tick).unwrap_or_default();
        let open = self
            .all_purses()
            .filter(|purse| purse.state == PurseState::Open);
        open.map(|purse| purse.step).fold(tick, Msat::max)
    }

    /// The purse that pays the next tick, the oldest first, and what one payment from it is.
    pub(super) fn paying_purse(&self) -> Option<(PurseId, Msat)> {
        let now = self.now.unix;
        let mut purses = self.all_purses();
        let paying = purses.find(|purse| purse.can_pay(now))?;
        Some((paying.id, paying.step))
    }

    /// The first method of the payer's that the terms list too and that has not just failed.
    pub(super) fn choose_method(&self, terms: &Terms) -> Option<u8> {
        let position = |wanted: &String| {
            let mut methods = terms.methods.iter();
            let at = methods.position(|method| method.name == *wanted)?;
            u8::try_from(at).ok().filter(|at| !self.is_failing(*at))
        };
        self.config.policy.methods.iter().find_map(position)
    }

    fn is_failing(&self, method: u8) -> bool {
        let now = self.now.mono;
        let mut failed = self.failed.iter();
        failed.any(|failed| failed.method == method && now < failed.until)
    }

    /// Notes that a method did not work, so that another is tried.
    pub(super) fn fail_method(&mut self, id: PurseId) {
        let Some(method) = self.purse(id).map(|purse| purse.method) else {
            return;
        };
        let now = self.now.mono;
        let known = self.failed.iter().find(|failed| failed.method == method);
        let times = known.map_or(0, |failed| failed.times);
        let wait = AGAIN_MS.saturating_mul(1 << times.min(DOUBLED_MAX));
        self.forgive_method(method);
        // At most one for each of the terms' methods.
        self.failed.push(Failed {
            method,
            until: now.after_ms(wait),
            times: times.saturating_add(1),
        });
    }

    /// Its purse opened after all. How often it failed is kept until the payee takes one.
    pub(super) fn try_method(&mut self, method: u8) {
        let now = self.now.mono;
        let mut failed = self.failed.iter_mut();
        if let Some(failed) = failed.find(|failed| failed.method == method) {
            failed.until = now;
        }
    }

    pub(super) fn forgive_method(&mut self, method: u8) {
        self.failed.retain(|failed| failed.method != method);
    }

    /// Why there is no purse, for the user.
    pub(super) const fn note_failure(&mut self, code: RefusalCode) {
        self.trouble = Some(match code {
            RefusalCode::InsufficientFunds => CloseCode::InsufficientFunds,
            RefusalCode::OverBudget => CloseCode::BudgetSpent,
            _ => CloseCode::BackendFailed,
        });
    }

    /// What the budget leaves for another purse: what came back can be spent again.
    pub(super) fn budget_left(&self) -> Msat {
        let cost = self.sum(|purse| {
            let cost = match planted::is(Planted::BudgetIgnoresFees) {
                true => purse.cost.min(purse.capacity),
                false => purse.cost,
            };
            cost.saturating_minus(purse.refunded)
        });
        let topped_up = self.record.as_ref().map(|record| record.topped_up);
        let budget = self.config.policy.budget;
        budget
            .saturating_plus(topped_up.unwrap_or_default())
            .saturating_minus(cost)
    }

    /// By the user's consent the session may cost more, and what failed is tried again.
    pub(super) fn top_up(&mut self, amount: Msat) {
        match &mut self.record {
            Some(record) => record.topped_up = record.topped_up.saturating_plus(amount),
            None => {
                let budget = &mut self.config.policy.budget;
                *budget = budget.saturating_plus(amount);
            }
        }
        self.persist();
        (self.failed, self.trouble) = (Vec::new(), None);
    }

    /// Opens another purse where the ones there are run low or old, in time before the last one
    /// does: no gap.
    pub(super) fn provide_purse(&mut self) {
        self.retire_purses();
        let now = self.now.unix;
        let lasts = |purse: &PayerPurse| match purse.state {
            PurseState::Opening | PurseState::Offered => !self.is_failing(purse.method),
            PurseState::Open => purse.lasts(now),
            PurseState::Closing | PurseState::Done => false,
        };
        if self.all_purses().any(lasts) {
            return;
        }
        if let Some(method) = self.next_method() {
            let most = self.budget_left().min(self.config.policy.max_purse);
            self.open_purse(method, most);
        }
    }

    /// The method of which another purse could be opened now.
    fn next_method(&self) -> Option<u8> {
        let record = self.record.as_ref()?;
        let terms = record.common.terms();
        let affordable = self.budget_left().min(self.config.policy.max_purse) >= terms.tick;
        let method = self.choose_method(terms)?;
        let shown = record.purses.iter().filter(|purse| purse.may_be_shown());
        let few = !self.acknowledged().is_zero() || shown.count() < UNPAID_PURSES_MAX;
        (affordable && few && record.purses.len() < PURSES_MAX).then_some(method)
    }

    /// Takes home what is left in purses whose time is over.
    fn retire_purses(&mut self) {
        let now = self.now.unix;
        let over = |purse: &&PayerPurse| {
            purse.state == PurseState::Open && purse.pending.is_none() && purse.is_expired(now)
        };
        let over: Vec<PurseId> = (self.all_purses().filter(over).map(|purse| purse.id)).collect();
        over.into_iter().for_each(|id| self.retire_purse(id));
    }

    /// Takes home what is left in a purse while the session goes on.
    pub(super) fn retire_purse(&mut self, id: PurseId) {
        let Some(record) = &mut self.record else {
            return;
        };
        let request = record.common.request_id();
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        (purse.state, purse.request) = (PurseState::Closing, request);
        self.persist();
        self.ask_to_release(id);
    }

    /// True where no purse can pay, and one is being opened.
    pub(super) fn waits_for_purse(&self) -> bool {
        let opening = |purse: &PayerPurse| purse.state == PurseState::Opening;
        self.paying_purse().is_none() && self.all_purses().any(opening)
    }

    /// There is nothing to pay with: waits for a purse that opens, or ends the session once what
    /// is paid is used.
    pub(super) fn do_without_purse(&mut self) {
        let coming =
            |purse: &PayerPurse| matches!(purse.state, PurseState::Opening | PurseState::Offered);
        let coming = self.all_purses().any(coming) || self.next_method().is_some();
        let quiet = self.quiet_ms() >= self.config.policy.stall_close_ms;
        if coming && quiet {
            self.close(CloseCode::TimedOut, false);
        } else if coming && self.backend_retry.is_some() && self.waits_for_purse() {
            self.pause_for(crate::meter::PauseReason::BackendAway);
        } else if !coming && self.is_used_up() {
            self.close(self.trouble.unwrap_or(CloseCode::BudgetSpent), false);
        }
    }
}

#[cfg(test)]
mod tests;
