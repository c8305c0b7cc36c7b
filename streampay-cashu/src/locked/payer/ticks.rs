//! Ticks of a payer's purse: each shows one more step.

use streampay_core::backend::{Answer, BackendError, Outcome, RefusalCode};
use streampay_core::units::{Msat, Now, Seq};

use super::{PayerPurse, Stage, TIME};
use crate::chain::{PIECE, first_proof};
use crate::locked::clock::MintClock;
use crate::locked::job::{LockedDone, LockedJob};
use crate::locked::{job, record, whole_steps};
use crate::machine::{OUT_OF_ORDER, msat};

/// A refused tick is shown again only while the purse has so much usable life left, in seconds:
/// with less, the payee would say that it is too late.
const REPAY_S: u64 = 60;

const EMPTY: BackendError = BackendError::Fatal(RefusalCode::PurseEmpty);

impl PayerPurse {
    pub(super) fn pay(&mut self, now: Now, seq: Seq, amount: Msat, cumulative: Msat) -> Answer {
        let Stage::Open(planned) = &self.meta.stage else {
            return Answer::failed(OUT_OF_ORDER);
        };
        if self.meta.closing || self.release.is_some() {
            return Answer::failed(EMPTY);
        }
        let count = planned.plan.count;
        let step = whole_steps(cumulative, self.meta.step);
        let (Some(step), true) = (step, amount <= cumulative && !amount.is_zero()) else {
            return Answer::failed(BackendError::Fatal(RefusalCode::WrongAmount));
        };
        if step > count || !self.has_shown_before(amount, cumulative) {
            return Answer::failed(EMPTY);
        }
        match self.clock.and_then(|clock| clock.at(now)) {
            Some(time) if time >= self.usable_until() => Answer::failed(EMPTY),
            Some(_) => self.show(seq.0, step),
            None => {
                self.paying = Some((seq.0, step));
                self.ask_time()
            }
        }
    }

    /// True where all that was paid before this tick was shown by these records. A session takes more for
    /// paid after a restart, where the payee's receipt says so, and a preimage opens every older step: one
    /// that leaps would give away what was never paid.
    fn has_shown_before(&self, amount: Msat, cumulative: Msat) -> bool {
        let before = cumulative.msat().checked_sub(amount.msat());
        let shown = self.paid.revealed.checked_mul(self.meta.step);
        let shown = shown.map(|shown| msat(shown).msat());
        before
            .zip(shown)
            .is_some_and(|(before, shown)| before <= shown)
    }

    /// From then on nothing is shown, by the mint's clock.
    pub(super) fn usable_until(&self) -> u64 {
        let locktime = self.planned().map_or(0, |planned| planned.locktime);
        locktime.saturating_sub(self.meta.agreed.margin_s)
    }

    fn show(&mut self, seq: u64, step: u64) -> Answer {
        let payload = match &self.chain {
            Some(chain) => chain
                .preimage(step)
                .map(|preimage| preimage.dangerous_bytes().to_vec()),
            None => self.pieces_of(step).map(<[u8]>::to_vec),
        };
        let Some(payload) = payload else {
            return Answer::failed(BackendError::Unknown);
        };
        self.paid.revealed = self.paid.revealed.max(step);
        (self.paid.seq, self.paid.step) = (seq, step);
        let mut answer = Answer::outcome(Outcome::Paid {
            payload: payload.into(),
        });
        record::put_paid(&mut answer.delta, &self.paid);
        answer
    }

    fn pieces_of(&self, step: u64) -> Option<&[u8]> {
        let per_step = self.planned()?.plan.token.len();
        let from = usize::try_from(first_proof(step, per_step)).ok()?;
        let from = from.checked_mul(PIECE)?;
        let to = from.checked_add(per_step.checked_mul(PIECE)?)?;
        self.pieces.get(from..to)
    }

    /// By the payee's word, which reaches no further than what was shown. Where these records are an old
    /// backup more was: the mint says so, once the payee has it.
    pub(super) fn acked(&mut self, cumulative: Msat) -> Answer {
        let mut answer = Answer::default();
        let step = whole_steps(cumulative, self.meta.step).unwrap_or_default();
        let step = step.min(self.paid.revealed);
        if step > self.paid.acked {
            self.paid.acked = step;
            record::put_paid(&mut answer.delta, &self.paid);
        }
        answer
    }

    /// The preimage is out and stays out; showing it again pays the same step. Where that cannot
    /// be any more, the money counts as gone, until the purse comes home.
    pub(super) fn reclaim(&self, now: Now, seq: Seq) -> Answer {
        if seq.0 != self.paid.seq {
            return Answer::failed(OUT_OF_ORDER);
        }
        if self.paid.acked >= self.paid.step {
            return Answer::outcome(Outcome::Spent);
        }
        let repay = self.usable_until().saturating_sub(REPAY_S);
        let time = self.clock.and_then(|clock| clock.at(now));
        let usable = !self.meta.closing && self.release.is_none();
        if !usable || time.is_some_and(|time| time >= repay) {
            return Answer::outcome(Outcome::Spent);
        }
        Answer::outcome(Outcome::Outstanding)
    }

    pub(super) fn ask_time(&mut self) -> Answer {
        let (Some(planned), Some(locked)) = (self.planned(), self.locked.clone()) else {
            return Answer::failed(BackendError::Unknown);
        };
        let check = LockedJob::Check {
            place: planned.plan.place.clone(),
            locked,
            from: u64::MAX,
            earned: false,
        };
        Answer {
            effects: self.running.start(self.key, TIME, || job(check)),
            ..Answer::default()
        }
    }

    pub(super) fn time_learnt(
        &mut self,
        now: Now,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        let paying = self.paying.take();
        match done {
            Ok(LockedDone::Checked { time_s, .. }) => {
                self.clock = Some(MintClock::new(time_s, now));
                let Some((seq, step)) = paying else {
                    return self.come_home(now);
                };
                if self.meta.closing {
                    return self.come_home(now);
                }
                if time_s >= self.usable_until() {
                    return Answer::failed(EMPTY);
                }
                self.show(seq, step)
            }
            Ok(_) => Answer::failed(BackendError::Unknown),
            Err(error) => self.later(now, error),
        }
    }
}
