//! The end of a payer's purse: with the payee's release at once, else after the locktime.

use bytes::Bytes;
use streampay_core::backend::{Answer, BackendError, Effect, Outcome};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Now, Unix};

use super::{DRAIN, FIND, LEDGER, PayerPurse, RELEASE, Secrets, Stage};
use crate::chain::{Release, first_proof};
use crate::locked::drain::Cut;
use crate::locked::job::{LockedDone, LockedJob, Right, Secret32};
use crate::locked::record::{self, Meta, Planned};
use crate::locked::{REFUND_AFTER_S, RETRY_S, job, merge};
use crate::machine::msat;

/// How many releases that are none are looked at, from one start to the next: each is up to 768
/// signatures. Chosen arbitrarily; a sound payee sends none.
const FORGED_MAX: u8 = 16;

impl PayerPurse {
    pub(super) fn release(&mut self, now: Now) -> Answer {
        if let Stage::Released(refunded) = self.meta.stage {
            return released(refunded);
        }
        let mut answer = Answer::default();
        if !self.meta.closing || self.meta.failed.is_some() {
            self.meta.closing = true;
            self.meta.failed = None;
            self.put_meta(&mut answer.delta);
        }
        let next = match self.meta.stage {
            Stage::Open(_) => self.come_home(now),
            _ => self.go_on(true),
        };
        merge(answer, next)
    }

    /// Brings home what is left, by the right that there is.
    pub(super) fn come_home(&mut self, now: Now) -> Answer {
        let Stage::Open(planned) = &self.meta.stage else {
            return self.settled_answer(now);
        };
        if !self.meta.closing {
            return Answer::default();
        }
        let planned = planned.clone();
        if self.release.is_none() && !self.is_all_paid(&planned) {
            match self.clock.and_then(|clock| clock.at(now)) {
                None => return self.ask_time(),
                Some(time) if time < planned.locktime.saturating_add(REFUND_AFTER_S) => {
                    // The payee may yet sign it over; else the locktime comes.
                    return Answer::failed(BackendError::Transient);
                }
                Some(_) => {}
            }
        }
        self.next_batch(now, &planned, true)
    }

    /// The next batch, or the end. After a start the mint is asked first whether there are any that our
    /// records do not know.
    fn next_batch(&mut self, now: Now, planned: &Planned, again: bool) -> Answer {
        let mut answer = Answer::default();
        if self.anew.waits(now) {
            return Answer::failed(BackendError::Transient);
        }
        if self.drain.batch.is_none() && !self.looked && !self.is_all_paid(planned) {
            answer.effects = self.find_effect();
            return answer;
        }
        let begun = self.begin_batch(planned, false);
        record::put_drain(&mut answer.delta, &self.drain);
        if !begun && self.drain.next < end_of(planned) {
            // The numbers are used up.
            return merge(answer, self.later(now, BackendError::Unknown));
        }
        answer.effects = self.drain_effect(again);
        answer
    }

    fn find_effect(&mut self) -> Vec<Effect> {
        let Some(planned) = self.planned() else {
            return Vec::new();
        };
        let find = LockedJob::Find {
            place: planned.plan.place.clone(),
            seed: planned.plan.seed.clone(),
            from: self.drain.first_sought(),
            payer: true,
        };
        self.running.start(self.key, FIND, || job(find))
    }

    pub(super) fn found(&mut self, now: Now, done: Result<LockedDone, BackendError>) -> Answer {
        let (last, blind) = match done {
            Ok(LockedDone::Found(last, blind)) => (last, blind),
            done => return self.unfound(now, done.err().unwrap_or(BackendError::Unknown)),
        };
        self.looked = self.drain.found(last, blind);
        self.come_home(now)
    }

    /// The mint cannot say which batches there are. From the locktime on that keeps nothing from coming
    /// home: by numbers that only such batches have.
    fn unfound(&mut self, now: Now, error: BackendError) -> Answer {
        let Some(planned) = self.planned().cloned() else {
            return self.later(now, error);
        };
        let blind = self.drain.batch.is_none() && self.meta.closing && self.drain.has_blind();
        let Some(time) = self.clock.and_then(|clock| clock.at(now)) else {
            return self.ask_time();
        };
        let due = planned.locktime.saturating_add(REFUND_AFTER_S);
        if !blind || time < due || !self.begin_batch(&planned, true) {
            return self.later(now, error);
        }
        let mut answer = Answer::default();
        record::put_drain(&mut answer.delta, &self.drain);
        answer.effects = self.drain_effect(false);
        answer
    }

    fn is_all_paid(&self, planned: &Planned) -> bool {
        self.paid.acked >= planned.plan.count
    }

    /// The next batch, from the first step that is not the payee's. True where there is one.
    fn begin_batch(&mut self, planned: &Planned, blind: bool) -> bool {
        let per_step = planned.plan.token.len();
        let released = self.released().map_or(0, |release| release.from);
        let first = released.max(self.paid.acked.saturating_add(1));
        if self.drain.batch.is_some() {
            return true;
        }
        self.drain.next = self.drain.next.max(first_proof(first, per_step));
        let cut = Cut {
            until: end_of(planned),
            ppk: planned.ppk,
            all: true,
        };
        let token = &planned.plan.token;
        let amount = |number: u64| {
            let within = number.checked_rem(u64::try_from(per_step).ok()?)?;
            token.get(usize::try_from(within).ok()?).copied()
        };
        match blind {
            true => self.drain.begin_blind(cut, amount, &planned.plan.keyset),
            false => self.drain.begin(cut, amount, &planned.plan.keyset),
        }
    }

    fn released(&self) -> Option<Release> {
        let funded = self.locked.as_ref()?.funded().ok()?;
        let bytes = self.release.as_ref()?;
        Release::decode(self.key, &funded, self.paid.revealed, bytes).ok()
    }

    pub(super) fn drain_effect(&mut self, again: bool) -> Vec<Effect> {
        let Stage::Open(planned) = &self.meta.stage else {
            return Vec::new();
        };
        if !self.meta.closing {
            return Vec::new();
        }
        let (place, seed) = (planned.plan.place.clone(), planned.plan.seed.clone());
        let Some(batch) = self.drain.batch.clone() else {
            // What is only locked yet has not come home: its end is not summed up.
            let end = end_of(planned);
            let paid = self.is_all_paid(planned);
            return match self.drain.next >= end {
                true if !self.looked && !paid => self.find_effect(),
                true => self.ledger_effect(),
                false => Vec::new(),
            };
        };
        let secrets = Secrets(&seed);
        let right = match &self.release {
            Some(release) => Some(Right::Release {
                release: release.clone().into(),
                top: Secret32::new(*secrets.top().dangerous_bytes()),
            }),
            None => secrets.refund().map(|key| Right::Refund {
                key: Secret32::new(key.to_secret_bytes()),
            }),
        };
        let pieces = crate::locked::pieces_of(&self.pieces, &batch.numbers);
        let (Some(locked), Some(right), Some(pieces)) = (self.locked.clone(), right, pieces) else {
            return Vec::new();
        };
        let id = DRAIN.saturating_add(batch.no);
        let redeem = LockedJob::Redeem {
            place,
            locked,
            batch,
            pieces: pieces.into(),
            right,
            seed,
            again,
        };
        self.running.start(self.key, id, || job(redeem))
    }

    fn ledger_effect(&mut self) -> Vec<Effect> {
        let Some(planned) = self.planned() else {
            return Vec::new();
        };
        let ledger = LockedJob::Ledger {
            place: planned.plan.place.clone(),
            payer: true,
        };
        self.running.start(self.key, LEDGER, || job(ledger))
    }

    pub(super) fn drained(
        &mut self,
        now: Now,
        no: u64,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        let current = self.drain.batch.as_ref().map(|batch| batch.no) == Some(no);
        let Stage::Open(planned) = &self.meta.stage else {
            return Answer::default();
        };
        if !current {
            return Answer::default();
        }
        let mut planned = planned.clone();
        let (mut again, mut delta) = (false, ChangeSet::new());
        match done {
            Ok(LockedDone::Swapped) => {
                self.drain.home();
                self.anew.ended();
            }
            Ok(LockedDone::SomeSpent(spent)) => {
                self.drain.some_spent(&spent);
                self.looked = false;
            }
            Ok(LockedDone::NumberUsed) => {
                self.drain.remake();
                self.looked = false;
            }
            Ok(LockedDone::OtherKeysets(keysets)) => {
                again = true;
                if !self.drain.other_keyset(keysets.active()) {
                    return self.later(now, BackendError::Transient);
                }
                self.made_anew(now);
            }
            Ok(LockedDone::OtherFee(keysets)) => {
                let ppk = keysets.ppk_of(&planned.plan.keyset);
                let Some(ppk) = ppk.filter(|ppk| *ppk != planned.ppk) else {
                    return self.later(now, BackendError::Transient);
                };
                planned.ppk = ppk;
                self.meta.stage = Stage::Open(planned.clone());
                self.put_meta(&mut delta);
                self.drain.remake();
                self.made_anew(now);
            }
            Err(BackendError::Rejected(..)) if self.release.is_some() => {
                return self.release_refused(now, &planned);
            }
            Err(BackendError::Rejected(..)) => {
                // The mint's clock is behind what we think: the way back is not open yet.
                return self.later(now, BackendError::Transient);
            }
            Ok(_) => return self.later(now, BackendError::Unknown),
            Err(error) => return self.later(now, error),
        }
        record::put_drain(&mut delta, &self.drain);
        let answer = Answer {
            delta,
            ..Answer::default()
        };
        merge(answer, self.next_batch(now, &planned, again))
    }

    fn made_anew(&mut self, now: Now) {
        self.anew.made_anew(now);
        if self.anew.waits(now) {
            self.retry_at = self.anew.at();
        }
    }

    /// The mint does not take the payee's signatures. From the locktime on the same proofs come home
    /// without, into the same outputs.
    fn release_refused(&mut self, now: Now, planned: &Planned) -> Answer {
        match self.clock.and_then(|clock| clock.at(now)) {
            None => self.ask_time(),
            Some(time) if time < planned.locktime.saturating_add(REFUND_AFTER_S) => {
                self.later(now, BackendError::Transient)
            }
            Some(_) => {
                self.release = None;
                let mut answer = Answer::default();
                record::remove_release(&mut answer.delta);
                answer.effects = self.drain_effect(true);
                answer
            }
        }
    }

    /// Nothing came of it for now.
    pub(super) fn later(&mut self, now: Now, error: BackendError) -> Answer {
        self.retry_at = Some(Unix(now.unix.0.saturating_add(RETRY_S)));
        Answer::failed(error)
    }

    pub(super) fn finished(&mut self, refunded: u64) -> Answer {
        if !matches!(self.meta.stage, Stage::Released(_)) {
            self.meta.stage = Stage::Released(refunded);
            self.meta.closing = true;
        }
        let Stage::Released(refunded) = self.meta.stage else {
            return Answer::default();
        };
        let mut answer = released(refunded);
        record::put_meta(&mut answer.delta, &Meta::Payer(self.meta.clone()));
        record::remove_rest(&mut answer.delta);
        (self.pieces, self.release, self.chain) = (Vec::new(), None, None);
        answer
    }

    /// The payee signs over what it was not paid.
    pub(super) fn on_note(&mut self, bytes: &Bytes) -> Answer {
        let Stage::Open(_) = &self.meta.stage else {
            return Answer::default();
        };
        let Some(locked) = self.locked.clone() else {
            return Answer::default();
        };
        let read = locked
            .funded()
            .ok()
            .and_then(|funded| Release::decode(self.key, &funded, self.paid.revealed, bytes).ok());
        let Some(read) = read else {
            return Answer::default();
        };
        let note = self.newest_for(&read);
        let forged = self.forged.1 == Some(digest(bytes)) || self.forged.0 >= FORGED_MAX;
        if self.release.is_some() || self.offered.is_some() || self.has_begun() || forged {
            return Answer {
                note,
                ..Answer::default()
            };
        }
        self.offered = Some(bytes.to_vec());
        let check = LockedJob::CheckRelease {
            locked,
            release: bytes.to_vec().into(),
        };
        Answer {
            effects: self.running.start(self.key, RELEASE, || job(check)),
            note,
            ..Answer::default()
        }
    }

    /// A payee that was restored from a backup asks for the newest preimage: it has been shown it before,
    /// so that nothing more is out. Whatever it says, none that was not shown.
    fn newest_for(&self, release: &Release) -> Option<Bytes> {
        let newest = self.paid.acked.max(release.from.checked_sub(1)?);
        let newest = newest.min(self.paid.revealed);
        release.known.filter(|known| *known < newest)?;
        let preimage = self.chain.as_ref()?.preimage(newest)?;
        Some(Bytes::copy_from_slice(preimage.dangerous_bytes()))
    }

    /// True once something of the purse may be home. From then on all of it comes by the same right: a
    /// batch that was begun as a refund has proofs that a release need not cover.
    fn has_begun(&self) -> bool {
        self.drain.batch.is_some() || self.drain.next > 0
    }

    pub(super) fn release_checked(
        &mut self,
        now: Now,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        let offered = self.offered.take();
        if let (Err(BackendError::Rejected(..)), Some(release)) = (&done, &offered) {
            self.forged = (self.forged.0.saturating_add(1), Some(digest(release)));
        }
        let (Ok(LockedDone::Good), Some(release), Stage::Open(_)) =
            (done, offered, &self.meta.stage)
        else {
            return Answer::default();
        };
        if self.has_begun() {
            return Answer::default();
        }
        let mut answer = Answer::default();
        record::put_release(&mut answer.delta, &release);
        self.release = Some(release);
        if self.meta.closing {
            return merge(answer, self.come_home(now));
        }
        answer
    }

    pub(crate) fn wake_at(&self) -> Option<Unix> {
        let Stage::Open(planned) = &self.meta.stage else {
            return None;
        };
        if !self.meta.closing || !self.running.is_idle() {
            return None;
        }
        let due = planned.locktime.saturating_add(REFUND_AFTER_S);
        let at = self.clock.map_or(Unix(due), |clock| clock.wall(due));
        Some(self.retry_at.map_or(at, |retry| at.max(retry)))
    }

    pub(crate) fn wake(&mut self, now: Now) -> Answer {
        self.retry_at = Some(Unix(now.unix.0.saturating_add(RETRY_S)));
        let mut answer = self.come_home(now);
        // Nobody has asked: only a good end is news.
        answer.outcome = None;
        answer
    }
}

/// The first proof that the purse does not have.
fn end_of(planned: &Planned) -> u64 {
    let plan = &planned.plan;
    first_proof(plan.count.saturating_add(1), plan.token.len())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use bitcoin_hashes::{Hash, sha256};
    sha256::Hash::hash(bytes).to_byte_array()
}

pub(super) fn released(refunded: u64) -> Answer {
    Answer::outcome(Outcome::Released {
        refunded: msat(refunded),
    })
}
