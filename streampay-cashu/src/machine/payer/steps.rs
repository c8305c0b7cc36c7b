//! What a payer's purse does next.

use streampay_core::backend::{Answer, Effect};
use streampay_core::units::Now;

use super::{ABANDON, FINISH, FUND, PLAN, PayerPurse, RECLAIM};
use crate::job::{Job, SwapIn, places};
use crate::locked::job::LockedJob;
use crate::locked::merge;
use crate::machine::record::{PayerStage, TokenState};

impl PayerPurse {
    /// Writes the new stage and takes the next step.
    pub(super) fn advance(&mut self, now: Now, again: bool) -> Answer {
        let mut answer = Answer::default();
        self.put_meta(&mut answer.delta);
        let next = self.go_on(now, again);
        merge(answer, next)
    }

    /// The outcome that is reached, or the effects on the way to it.
    pub(super) fn go_on(&mut self, now: Now, again: bool) -> Answer {
        if !self.meta.closing
            && let Some(outcome) = self.opened()
        {
            return Answer::outcome(outcome);
        }
        let mut answer = Answer::default();
        let unsure: Vec<u64> = match self.meta.closing {
            true => self.unsure().collect(),
            false => Vec::new(),
        };
        let due = unsure.iter().find(|index| !self.is_put_off(now, **index));
        if let Some(index) = due.copied() {
            let seq = self.tokens.get(&index).and_then(|token| token.state.seq());
            self.start_reclaim(&mut answer, index, seq.unwrap_or_default());
            return answer;
        }
        if let Some(index) = unsure.first() {
            return Answer::failed(self.why_put_off(*index));
        }
        answer.effects = self.next_effect(again);
        answer
    }

    /// The tokens that are neither the payee's for sure nor ours alone.
    fn unsure(&self) -> impl Iterator<Item = u64> + '_ {
        let unsure = self.tokens.iter().filter(|(_, token)| {
            matches!(token.state, TokenState::Sent(_) | TokenState::Reclaiming(_))
        });
        unsure.map(|(index, _)| *index)
    }

    pub(super) fn next_effect(&mut self, again: bool) -> Vec<Effect> {
        match (&self.meta.stage, self.meta.closing) {
            (PayerStage::Planning, false) => {
                let meta = &self.meta;
                self.running.start(self.key, PLAN, || Job::Plan {
                    mints: meta.mints.clone(),
                    budget: meta.budget,
                    max_fee_permille: meta.max_fee_permille.unwrap_or(1_000),
                })
            }
            (PayerStage::Planning, true) if self.running.has(PLAN) => Vec::new(),
            (PayerStage::Planning, true) => {
                let mints = places(&self.meta.mints);
                self.running
                    .start(self.key, ABANDON, || Job::Abandon { mints })
            }
            (PayerStage::Funding(plan), _) => {
                let plan = plan.clone();
                self.running
                    .start(self.key, FUND, || Job::Fund { plan, again })
            }
            (PayerStage::Open(open), true) if self.unsure().next().is_none() => {
                let (mut unsent, mut gone) = (Vec::new(), Vec::new());
                for token in self.tokens.values() {
                    match token.state {
                        TokenState::Fresh => unsent.extend(token.coins.iter().cloned()),
                        _ => gone.extend(token.coins.iter().cloned()),
                    }
                }
                let place = open.place.clone();
                self.running.start(self.key, FINISH, || Job::Finish {
                    place,
                    unsent,
                    gone,
                })
            }
            (PayerStage::Lost(plan, ..), _) => {
                let forget = LockedJob::Forget { plan: plan.clone() };
                let forget = || Job::Locked(Box::new(forget));
                self.running.start(self.key, ABANDON, forget)
            }
            (PayerStage::Open(_) | PayerStage::Released(_), _) => Vec::new(),
        }
    }

    /// Makes the token's state and outputs durable and asks for its swap.
    pub(super) fn start_reclaim(&mut self, answer: &mut Answer, index: u64, seq: u64) {
        let PayerStage::Open(open) = &self.meta.stage else {
            return;
        };
        if let Some(token) = self.tokens.get_mut(&index) {
            token.outputs = token.outputs.take().or_else(|| open.keysets.active());
        }
        self.set_state(&mut answer.delta, index, TokenState::Reclaiming(seq));
        answer.effects.extend(self.reclaim_effect(index));
    }

    pub(super) fn reclaim_effect(&mut self, index: u64) -> Vec<Effect> {
        let PayerStage::Open(open) = &self.meta.stage else {
            return Vec::new();
        };
        let Some(token) = self.tokens.get(&index) else {
            return Vec::new();
        };
        let Some(keyset) = token.outputs.clone() else {
            return Vec::new();
        };
        let agreed = self.meta.net_at(&open.place);
        let swap = SwapIn {
            place: open.place.clone(),
            coins: token.coins.clone(),
            seed: open.seed.child(index, b"reclaim"),
            keyset,
            net: token.net.unwrap_or(agreed),
            again: true,
            own: true,
        };
        let id = RECLAIM.saturating_add(index);
        self.running.start(self.key, id, || Job::SwapIn { swap })
    }
}
