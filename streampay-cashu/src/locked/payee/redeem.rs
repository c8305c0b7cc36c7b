//! Making what was credited the payee's own, and giving back the rest.

use streampay_core::backend::{Answer, BackendError, Consumed, Effect, Outcome, RefusalCode};
use streampay_core::units::{Msat, Now, Unix};

use super::{DRAIN, FIND, LEDGER, PayeePurse, SIGN, Stage};
use crate::chain::{Preimage, Release};
use crate::locked::drain::Cut;
use crate::locked::job::{LockedDone, LockedJob, Right, Secret32};
use crate::locked::{RETRY_S, job, merge, record};
use crate::machine::{OUT_OF_ORDER, msat};

impl PayeePurse {
    /// Redeems where enough has come together, or time runs out.
    pub(super) fn redeem_if_due(&mut self, now: Now) -> Answer {
        if self.drain.batch.is_some() {
            return Answer::default();
        }
        let until = self.proofs_until(self.credited.step);
        let due = until.saturating_sub(self.drain.next);
        let ticks = due.checked_div(self.per_step()).unwrap_or_default();
        let late = self.is_late(now);
        // At half of the limit: there is time then to find the mint away, and try again.
        let open = msat(self.open().saturating_add(self.others));
        let exposed = open.saturating_plus(open) >= self.policy.exposure || self.is_held();
        let all = self.meta.closed || self.redeem_all || late || exposed;
        if due == 0 {
            return Answer::default();
        }
        if !(all || ticks >= self.policy.redeem_ticks) {
            // In time for the batch it must be known which there are.
            let soon = ticks.saturating_mul(2) >= self.policy.redeem_ticks;
            return match !self.looked && soon && !self.rests(now) {
                true => self.find(),
                false => Answer::default(),
            };
        }
        self.redeem(now, until, all, late)
    }

    /// True for a while after the mint did not answer.
    pub(super) fn rests(&self, now: Now) -> bool {
        self.retry_at.is_some_and(|at| now.unix < at)
    }

    /// By the mint's clock: the payer may have it all soon.
    fn is_late(&self, now: Now) -> bool {
        let time = self.clock.and_then(|clock| clock.at(now));
        time.is_some_and(|time| time >= self.usable_until())
    }

    fn redeem(&mut self, now: Now, until: u64, all: bool, late: bool) -> Answer {
        if self.anew.waits(now) {
            return self.not_now(now, BackendError::Transient);
        }
        // A mint that cannot say which batches there are keeps nobody from redeeming in the margin.
        let blind = !self.looked && late && self.drain.has_blind();
        if !self.looked && !blind {
            return self.find();
        }
        let cut = Cut {
            until,
            ppk: self.meta.ppk,
            all,
        };
        let Some(keyset) = self.meta.keysets.active() else {
            return Answer::failed(BackendError::Unknown);
        };
        let amount = |number| self.funded.amount(number);
        match blind {
            true => self.drain.begin_blind(cut, amount, &keyset),
            false => self.drain.begin(cut, amount, &keyset),
        };
        let mut answer = Answer::default();
        record::put_drain(&mut answer.delta, &self.drain);
        answer.effects = self.drain_effect(false);
        if !self.meta.closed && self.drain.is_used_up() && self.drain.next < until {
            // What is left was paid, and is not home.
            return merge(answer, self.not_now(now, BackendError::Unknown));
        }
        answer
    }

    pub(super) fn drain_effect(&mut self, again: bool) -> Vec<Effect> {
        let Some(batch) = self.drain.batch.clone() else {
            return Vec::new();
        };
        let from = if self.meta.agreed.chain {
            &self.funded.funding.pieces[..]
        } else {
            &self.pieces
        };
        let Some(pieces) = crate::locked::pieces_of(from, &batch.numbers) else {
            return Vec::new();
        };
        let id = DRAIN.saturating_add(batch.no);
        let redeem = LockedJob::Redeem {
            place: self.meta.place.clone(),
            locked: self.bare(),
            batch,
            pieces: pieces.into(),
            right: Right::Receive {
                key: self.meta.key.clone(),
                step: self.credited.step,
                preimage: self.credited.preimage.clone(),
            },
            seed: self.meta.seed.clone(),
            again,
        };
        self.running.start(self.key, id, || job(redeem))
    }

    pub(super) fn drained(
        &mut self,
        now: Now,
        no: u64,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        if self.drain.batch.as_ref().map(|batch| batch.no) != Some(no) {
            return Answer::default();
        }
        let mut answer = Answer::default();
        match done {
            Ok(LockedDone::Swapped) => {
                self.drain.home();
                self.anew.ended();
                self.troubled.clear();
            }
            Ok(LockedDone::SomeSpent(spent)) => {
                let (purse, proofs) = (self.key.purse.0, spent.len());
                tracing::warn!(purse, proofs, "credited proofs were spent by somebody else");
                let open = self.proofs_until(self.before);
                let newer = spent.iter().any(|number| *number >= open);
                self.swept |= newer;
                self.drain.some_spent(&spent);
                self.looked = false;
                // What a self redeemed that these records do not know is ours, whether it was found or not.
                if newer || !(self.found_more || self.may_be_released()) {
                    let lost = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
                    answer.trouble = Some(lost);
                }
            }
            Ok(LockedDone::NumberUsed) => {
                // The search that ended before it was told less than there is.
                self.drain.remake();
                self.looked = false;
            }
            Ok(LockedDone::OtherKeysets(keysets)) => {
                let other = self.drain.other_keyset(keysets.active());
                self.meta.keysets = keysets;
                self.put_meta(&mut answer.delta);
                self.anew.made_anew(now);
                record::put_drain(&mut answer.delta, &self.drain);
                if !other || self.anew.waits(now) {
                    return merge(answer, self.not_now(now, BackendError::Transient));
                }
                answer.effects = self.drain_effect(true);
                return answer;
            }
            Ok(LockedDone::OtherFee(keysets)) => {
                let ppk = keysets.ppk_of(&self.funded.funding.keyset);
                let Some(ppk) = ppk.filter(|ppk| *ppk != self.meta.ppk) else {
                    return self.not_now(now, BackendError::Transient);
                };
                (self.meta.ppk, self.meta.keysets) = (ppk, keysets);
                self.put_meta(&mut answer.delta);
                self.drain.remake();
                self.anew.made_anew(now);
            }
            Ok(_) => return self.not_now(now, BackendError::Unknown),
            Err(error) => return self.not_now(now, error),
        }
        record::put_drain(&mut answer.delta, &self.drain);
        let next = match self.meta.closed {
            true => self.settle_next(now),
            false => self.redeem_if_due(now),
        };
        merge(answer, next)
    }

    /// The batch stays as it is and is tried again. A settling session is told each time, any other once of
    /// each error.
    pub(super) fn not_now(&mut self, now: Now, error: BackendError) -> Answer {
        self.retry_at = Some(Unix(now.unix.0.saturating_add(RETRY_S)));
        if self.meta.closed {
            return Answer::failed(error);
        }
        let told = self.troubled.contains(&error);
        if !told {
            self.troubled.push(error);
        }
        Answer {
            trouble: (!told).then_some(error),
            ..Answer::default()
        }
    }

    /// Before a batch is made after a start: are there any that our records do not know?
    pub(super) fn find(&mut self) -> Answer {
        let find = LockedJob::Find {
            place: self.meta.place.clone(),
            seed: self.meta.seed.clone(),
            from: self.drain.first_sought(),
            payer: false,
        };
        Answer {
            effects: self.running.start(self.key, FIND, || job(find)),
            ..Answer::default()
        }
    }

    pub(super) fn found(&mut self, now: Now, done: Result<LockedDone, BackendError>) -> Answer {
        let (last, blind) = match done {
            Ok(LockedDone::Found(last, blind)) => (last, blind),
            done => return self.not_now(now, done.err().unwrap_or(BackendError::Unknown)),
        };
        self.found_more |= last > self.drain.batches || blind > self.drain.blind;
        self.looked = self.drain.found(last, blind);
        let mut answer = Answer::default();
        record::put_drain(&mut answer.delta, &self.drain);
        let next = match self.meta.closed {
            true => self.settle_next(now),
            false => self.redeem_if_due(now),
        };
        merge(answer, next)
    }

    pub(super) fn settle(&mut self, now: Now, cumulative: Msat) -> Answer {
        // Nothing was taken from it.
        let nothing = Answer::outcome(Outcome::Settled { settled: msat(0) });
        match self.stage {
            Stage::Open => {}
            Stage::Refused | Stage::GivenBack => return nothing,
            Stage::Checking => {
                // Whether it is to be signed over is known once it is checked.
                self.meta.closed = true;
                return nothing;
            }
            Stage::Unchecked | Stage::Gone => return merge(self.give_back(now), nothing),
        }
        let steps = cumulative.sat_floor().checked_div(self.meta.step);
        let due = steps.unwrap_or_default().min(self.funded.funding.steps);
        let due = due.max(self.due());
        let mut answer = Answer::default();
        if !self.meta.closed || self.meta.due != Some(due) {
            // From here on no tick is credited: only then may the rest be signed over.
            self.meta.closed = true;
            self.meta.due = Some(due);
            self.meta.settled = None;
            self.waiting = None;
            let release = self.release.take();
            self.release = release.filter(|release| self.starts_after_due(release));
            self.put_meta(&mut answer.delta);
        }
        let next = self.settle_next(now);
        merge(answer, next)
    }

    /// The steps that are the payee's: those of which it has the preimages, and those that its session
    /// credited, which may be more where these records are an old backup.
    fn due(&self) -> u64 {
        self.meta.due.unwrap_or_default().max(self.credited.step)
    }

    /// True while preimages are missing that the payer has shown before.
    pub(super) fn is_short(&self) -> bool {
        self.meta.agreed.chain && self.due() > self.credited.step
    }

    /// True of a release that gives nothing back that is due.
    pub(super) fn starts_after_due(&self, release: &[u8]) -> bool {
        let steps = self.funded.funding.steps;
        let release = Release::decode(self.key, &self.funded, steps, release);
        release.is_ok_and(|release| release.from > self.due())
    }

    /// The payer answers a release that asks for the preimages that our backup does not have.
    pub(super) fn shown(&mut self, now: Now, bytes: &[u8]) -> Answer {
        let open = self.stage == Stage::Open && self.meta.closed;
        let Ok(bytes) = <[u8; 32]>::try_from(bytes) else {
            return Answer::default();
        };
        if !open || !self.is_short() {
            return Answer::default();
        }
        let newest = Preimage::new(bytes);
        let lock = newest.lock();
        let mut steps = self.credited.step.saturating_add(1)..=self.due();
        let opened = steps.find(|step| self.funded.lock(*step) == Some(lock));
        let lock = |step| self.funded.lock(step);
        let leads_down = |step: &u64| self.last().is_below(&newest, *step, lock);
        let Some(step) = opened.filter(leads_down) else {
            return Answer::default();
        };
        self.credited.step = step;
        self.credited.preimage = Some(Secret32::new(*newest.dangerous_bytes()));
        let mut answer = Answer::default();
        record::put_credited(&mut answer.delta, &self.credited);
        let next = self.settle_next(now);
        merge(answer, next)
    }

    /// The release first, for the payer waits for it; then what is due, then the sum.
    pub(super) fn settle_next(&mut self, now: Now) -> Answer {
        let mut answer = Answer::default();
        let first = self.due().saturating_add(1);
        if let Some(release) = &self.release {
            answer.note = Some(release.clone().into());
        } else if first <= self.funded.funding.steps || self.is_short() {
            answer.effects = self.sign(first);
        }
        let signing = self.running.has(SIGN);
        let until = self.proofs_until(self.credited.step);
        if self.drain.batch.is_some() {
            answer.effects.extend(self.drain_effect(true));
            return answer;
        }
        if self.drain.next < until {
            let put_off = self.anew.waits(now);
            let redeem = self.redeem(now, until, true, self.is_late(now));
            answer = merge(answer, redeem);
            if self.drain.batch.is_some() || !self.looked || put_off {
                return answer;
            }
            if self.drain.next < until {
                // The numbers are used up: what is left was paid, and is not home.
                return merge(answer, self.not_now(now, BackendError::Unknown));
            }
        }
        if signing {
            return answer;
        }
        if let Some(settled) = self.meta.settled {
            answer.outcome = Some(Outcome::Settled {
                settled: msat(settled),
            });
            return answer;
        }
        if !self.looked && self.due() > 0 {
            return merge(answer, self.find());
        }
        if self.is_short() {
            match self.clock.and_then(|clock| clock.at(now)) {
                None => return merge(answer, self.check_mint()),
                // The payer is asked; until the locktime nobody else can have it.
                Some(time) if time < self.funded.funding.locktime => {
                    return merge(answer, self.not_now(now, BackendError::Transient));
                }
                Some(_) => {}
            }
        }
        let ledger = LockedJob::Ledger {
            place: self.meta.place.clone(),
            payer: false,
        };
        answer
            .effects
            .extend(self.running.start(self.key, LEDGER, || job(ledger)));
        answer
    }

    /// The rest is signed over: durable, then told.
    pub(super) fn signed(&mut self, now: Now, release: Vec<u8>) -> Answer {
        if self.stage == Stage::Refused {
            self.stage = Stage::GivenBack;
            return Answer {
                note: Some(release.into()),
                ..Answer::default()
            };
        }
        if !self.meta.closed || self.release.is_some() {
            return Answer::default();
        }
        let mut answer = Answer::default();
        if self.starts_after_due(&release) {
            record::put_release(&mut answer.delta, &release);
            self.release = Some(release);
        }
        let next = self.settle_next(now);
        merge(answer, next)
    }

    pub(super) fn settled(&mut self, settled: u64) -> Answer {
        if !self.meta.closed {
            return Answer::failed(OUT_OF_ORDER);
        }
        self.meta.settled = Some(settled);
        let mut answer = Answer::outcome(Outcome::Settled {
            settled: msat(settled),
        });
        self.put_meta(&mut answer.delta);
        answer
    }

    pub(crate) fn wake_at(&self) -> Option<Unix> {
        if self.stage == Stage::GivenBack {
            return self.meta.refused_until.map(Unix);
        }
        let until = self.proofs_until(self.credited.step);
        let open = self.stage == Stage::Open && self.running.is_idle();
        if !open || (self.drain.batch.is_none() && self.drain.next >= until) {
            return None;
        }
        let margin = self.usable_until();
        let at = match (&self.drain.batch, self.clock) {
            // It failed, or was cut off by a restart.
            (Some(_), _) => Unix(0),
            (None, _) if self.meta.closed || self.anew.at().is_some() => Unix(0),
            (None, Some(clock)) => clock.wall(margin),
            // Our own clock is not asked: learn the mint's time first.
            (None, None) => Unix(0),
        };
        Some(self.retry_at.map_or(at, |retry| at.max(retry)))
    }

    pub(crate) fn wake(&mut self, now: Now) -> Answer {
        if self.stage == Stage::GivenBack {
            return self.forget_refused(now);
        }
        self.retry_at = Some(Unix(now.unix.0.saturating_add(RETRY_S)));
        if self.drain.batch.is_some() {
            return Answer {
                effects: self.drain_effect(true),
                ..Answer::default()
            };
        }
        let time = self.clock.and_then(|clock| clock.at(now));
        if time.is_none() {
            return self.check_mint();
        }
        let mut answer = self.redeem_if_due(now);
        // Nobody has asked.
        answer.outcome = None;
        answer
    }
}
