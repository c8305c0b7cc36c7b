//! Ticks of a payee's purse: credited only where the step's own lock matches, in time, in order.

use streampay_core::backend::{Answer, BackendError, Consumed, Outcome, RefusalCode};
use streampay_core::units::{Msat, Now, Seq};

use super::{CHECK, PayeePurse, STEP, Stage, Waiting, digest_record, refused};
use crate::chain::{Last, PIECE, Preimage};
use crate::locked::clock::MintClock;
use crate::locked::job::{LockedDone, LockedJob, Secret32};
use crate::locked::record::{self, Credited};
use crate::locked::{RETRY_S, job, merge, whole_steps};
use crate::machine::OUT_OF_ORDER;

impl PayeePurse {
    pub(super) fn receive(
        &mut self,
        now: Now,
        seq: Seq,
        (amount, cumulative): (Msat, Msat),
        payload: &[u8],
    ) -> Answer {
        if self.stage != Stage::Open {
            return Answer::failed(OUT_OF_ORDER);
        }
        if seq.0 == self.credited.seq && self.credited.digest.is_some() {
            let same = self.credited.digest == digest_record(payload);
            return match same {
                true => Answer::outcome(Outcome::Credited),
                false => Answer::failed(refused(RefusalCode::OutOfOrder)),
            };
        }
        if self.meta.closed || seq.0 <= self.credited.seq {
            return Answer::failed(refused(RefusalCode::OutOfOrder));
        }
        if self.swept {
            let error = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
            return Answer::failed(error);
        }
        let step = whole_steps(cumulative, self.meta.step);
        let (Some(step), Some(before)) = (step, self.credited_before(amount, cumulative)) else {
            return Answer::failed(refused(RefusalCode::WrongAmount));
        };
        if step > self.funded.funding.steps {
            return Answer::failed(refused(RefusalCode::PurseEmpty));
        }
        if step <= before {
            return Answer::failed(refused(RefusalCode::WrongAmount));
        }
        if self.is_over_exposed(step.saturating_sub(self.credited.step)) {
            // What is open is redeemed first: by the batch under way, or the one begun now.
            return merge(
                self.redeem_if_due(now),
                Answer::failed(BackendError::Transient),
            );
        }
        let stuck = !self.looked || self.drain.is_used_up();
        if stuck && self.due_ticks() >= self.policy.redeem_ticks.max(1) {
            // Nothing is redeemed before the mint has said which batches there are, and where the numbers
            // are used up: no more at stake than ever. What a batch under way brings is not to be found
            // beside it.
            let next = match (self.looked, self.drain.batch.is_none()) {
                (true, _) => self.redeem_if_due(now),
                (false, true) if !self.rests(now) => self.find(),
                _ => Answer::default(),
            };
            return merge(next, Answer::failed(BackendError::Transient));
        }
        self.waiting = Some(Waiting {
            seq: seq.0,
            before,
            step,
            payload: payload.to_vec(),
        });
        self.decide(now)
    }

    /// The steps that were credited before a tick, as its session has it. None where that is not
    /// what this purse knows. Of a chain it may be more, right after a restart: a receipt has
    /// brought a session forward that was restored from a backup, and the next preimage proves all
    /// steps below it.
    fn credited_before(&self, amount: Msat, cumulative: Msat) -> Option<u64> {
        let before = cumulative.minus(amount).ok()?;
        let before = match before.is_zero() {
            true => 0,
            false => whole_steps(before, self.meta.step)?,
        };
        let forward = self.restored && self.meta.agreed.chain && before > self.credited.step;
        (before == self.credited.step || forward).then_some(before)
    }

    /// Credits the tick that waits, or asks for what is missing to decide.
    fn decide(&mut self, now: Now) -> Answer {
        let time = self.clock.and_then(|clock| clock.at(now));
        let (Some(time), true) = (time, self.checked) else {
            return self.check_mint();
        };
        let Some(waiting) = self.waiting.clone() else {
            return Answer::default();
        };
        if time >= self.usable_until() {
            self.waiting = None;
            return Answer::failed(refused(RefusalCode::TooLate));
        }
        if self.meta.agreed.chain {
            self.waiting = None;
            let lock = |step| self.funded.lock(step);
            let paid = self.last().paid_to(waiting.step, &waiting.payload, lock);
            return match paid {
                Ok(preimage) => self.credit(now, &waiting, Some(preimage)),
                Err(code) => Answer::failed(refused(code)),
            };
        }
        let size = self.funded.per_step().saturating_mul(PIECE);
        let in_turn = waiting.step == self.credited.step.saturating_add(1);
        if !in_turn || waiting.payload.len() != size {
            self.waiting = None;
            let code = match in_turn {
                true => RefusalCode::Malformed,
                false => RefusalCode::WrongAmount,
            };
            return Answer::failed(refused(code));
        }
        let verify = LockedJob::VerifyStep {
            place: self.meta.place.clone(),
            locked: self.bare(),
            step: waiting.step,
            pieces: waiting.payload.into(),
            agreed: self.meta.agreed,
        };
        Answer {
            effects: self.running.start(self.key, STEP, || job(verify)),
            ..Answer::default()
        }
    }

    /// From then on nothing is credited, by the mint's clock.
    pub(super) fn usable_until(&self) -> u64 {
        let locktime = self.funded.funding.locktime;
        locktime.saturating_sub(self.meta.agreed.margin_s)
    }

    /// Up to where the chain was paid.
    pub(super) fn last(&self) -> Last<'_> {
        Last {
            step: self.credited.step,
            preimage: self.credited.preimage.as_ref().map(Secret32::bytes),
        }
    }

    fn credit(&mut self, now: Now, waiting: &Waiting, preimage: Option<Preimage>) -> Answer {
        if self.restored {
            self.before = waiting.before;
        }
        self.restored = false;
        self.credited = Credited {
            step: waiting.step,
            preimage: preimage.map(|preimage| Secret32::new(*preimage.dangerous_bytes())),
            seq: waiting.seq,
            digest: digest_record(&waiting.payload),
        };
        let mut answer = Answer::outcome(Outcome::Credited);
        record::put_credited(&mut answer.delta, &self.credited);
        if !self.meta.agreed.chain {
            record::put_step(&mut answer.delta, waiting.step, &waiting.payload);
            self.pieces.extend_from_slice(&waiting.payload);
        }
        let redeem = self.redeem_if_due(now);
        merge(answer, redeem)
    }

    pub(super) fn step_verified(
        &mut self,
        now: Now,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        let Some(waiting) = self.waiting.take() else {
            return Answer::default();
        };
        match done {
            Ok(LockedDone::Good) if !self.meta.closed => self.credit(now, &waiting, None),
            Ok(LockedDone::Good) => Answer::failed(refused(RefusalCode::OutOfOrder)),
            Ok(_) => Answer::failed(BackendError::Unknown),
            Err(error) => Answer::failed(error),
        }
    }

    /// The first proof that nobody may have spent, where the purse is to credit more: those below were
    /// credited, here or by a newer self that a backup does not know, which may have redeemed them.
    fn first_open(&self) -> u64 {
        let before = self.waiting.as_ref().map(|waiting| waiting.before);
        self.proofs_until(before.unwrap_or(self.credited.step))
    }

    /// Learns the mint's time, and after a start that nothing from the next step on is spent: our
    /// records may be an old backup, of which a newer self has redeemed more.
    pub(super) fn check_mint(&mut self) -> Answer {
        let from = match self.checked || self.meta.closed {
            true => u64::MAX,
            false => self.first_open(),
        };
        let check = LockedJob::Check {
            place: self.meta.place.clone(),
            locked: self.bare(),
            from,
            earned: self.drain.next < self.proofs_until(self.credited.step),
        };
        Answer {
            effects: self.running.start(self.key, CHECK, || job(check)),
            ..Answer::default()
        }
    }

    pub(super) fn mint_checked(
        &mut self,
        now: Now,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        match done {
            Ok(LockedDone::Checked { time_s, spent }) => {
                self.clock = Some(MintClock::new(time_s, now));
                if self.meta.closed {
                    return self.settle_next(now);
                }
                let open = self.first_open();
                if spent.iter().any(|number| *number >= open) {
                    // Not ours to credit: they are spent, whoever it was.
                    let waiting = self.waiting.take();
                    let error = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
                    return match waiting {
                        Some(_) => Answer::failed(error),
                        None => Answer::default(),
                    };
                }
                self.checked = true;
                match self.waiting {
                    Some(_) => self.decide(now),
                    None => self.redeem_if_due(now),
                }
            }
            Ok(_) => Answer::failed(BackendError::Unknown),
            Err(error) => {
                self.retry_at = Some(streampay_core::units::Unix(
                    now.unix.0.saturating_add(RETRY_S),
                ));
                match self.waiting.take() {
                    None if !self.meta.closed => Answer::default(),
                    _ => Answer::failed(error),
                }
            }
        }
    }
}
