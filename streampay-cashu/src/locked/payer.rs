//! A payer's purse of locked ecash: planned, funded, shown step by step, and brought home.

mod home;
pub(crate) mod secrets;
mod ticks;

use cdk::nuts::PublicKey;
use minicbor::bytes::ByteVec;
use streampay_core::backend::{
    Answer, BackendError, Effect, Opened, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, PurseKey, Unix};

use self::secrets::Secrets;
use super::clock::MintClock;
use super::drain::Drain;
use super::job::{Agreed, Locked, LockedDone, LockedJob};
use super::record::{self, Meta, Paid, PayerMeta, Planned, Records, Stage};
use super::{LockedMachine, LockedPolicy, job, merge};
use crate::chain::{Chain, Funding, Piece, PurseKeys};
use crate::job::{Done, Job, Listed, places};
use crate::machine::{OUT_OF_ORDER, Running, msat, whole_sat};
use crate::pace::Pace;
use crate::params_locked::LockedParams;

const PLAN: u64 = 1;
const FUND: u64 = 2;
const LEDGER: u64 = 3;
const ABANDON: u64 = 4;
const TIME: u64 = 5;
const RELEASE: u64 = 6;
const FIND: u64 = 7;
/// Batch n is effect `DRAIN + n`.
const DRAIN: u64 = 256;

/// What a purse may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) capacity: Msat,
    pub(super) budget: Msat,
    pub(super) steps_max: u64,
    pub(super) policy: LockedPolicy,
}

pub(super) struct PayerPurse {
    key: PurseKey,
    policy: LockedPolicy,
    meta: PayerMeta,
    /// The funding without its pieces, once it is planned.
    locked: Option<Locked>,
    pieces: Vec<u8>,
    chain: Option<Chain>,
    paid: Paid,
    drain: Drain,
    release: Option<Vec<u8>>,
    running: Running,
    clock: Option<MintClock>,
    /// A `Pay` that waits for the mint's time.
    paying: Option<(u64, u64)>,
    /// A release that is being checked.
    offered: Option<Vec<u8>>,
    /// How many were checked and are none, and SHA-256 of the last.
    forged: (u8, Option<[u8; 32]>),
    retry_at: Option<Unix>,
    /// Batches were made anew for another fee or keyset, and none is home since: when the next may be.
    anew: Pace,
    /// The funding was planned anew for another keyset, or because it was late: when it may be again.
    replanned: Pace,
    /// False after a start, until the mint was asked for batches that the records do not know.
    looked: bool,
    gone: bool,
}

impl PayerPurse {
    pub(super) fn open(
        key: PurseKey,
        chain: bool,
        offer: &PurseOffer,
        limits: Limits,
    ) -> Result<(Self, Answer), RefusalCode> {
        let params = LockedParams::decode(&offer.params).map_err(|_| RefusalCode::Malformed)?;
        if params.lock_s() > limits.policy.lock_s_max {
            return Err(RefusalCode::WrongLock);
        }
        let step = whole_sat(offer.tick).ok_or(RefusalCode::WrongAmount)?;
        let affordable = limits.capacity.sat_floor().checked_div(step);
        let count = affordable.unwrap_or_default().min(limits.steps_max);
        if count == 0 {
            return Err(RefusalCode::PurseEmpty);
        }
        let keys = PurseKeys {
            payer: offer.payer_key,
            payee: offer.payee_key,
            purse: key,
        };
        let root = params.receiver().map_err(|_| RefusalCode::Malformed)?;
        let receiver = keys.receiver(root).ok_or(RefusalCode::Malformed)?;
        let price_max = limits.policy.price_max_permille;
        let mints = Listed::all(key, params.mints(), (step, count), price_max);
        if mints.is_empty() {
            return Err(RefusalCode::NoCommonMethod);
        }
        let meta = PayerMeta {
            agreed: Agreed {
                chain,
                lock_s: params.lock_s(),
                margin_s: params.margin_s(),
                max_fee_ppk: params.max_fee_ppk(),
            },
            step,
            mints,
            budget: limits.budget.sat_floor(),
            receiver: receiver.to_bytes().into(),
            stage: Stage::Planning,
            closing: false,
            failed: None,
        };
        let mut purse = Self::new(key, limits.policy, meta, Records::default());
        let mut answer = Answer::default();
        purse.put_meta(&mut answer.delta);
        answer.effects = purse.next_effect(false);
        Ok((purse, answer))
    }

    fn new(key: PurseKey, policy: LockedPolicy, meta: PayerMeta, records: Records) -> Self {
        Self {
            key,
            policy,
            meta,
            locked: None,
            pieces: records.pieces,
            chain: None,
            paid: records.paid,
            drain: records.drain,
            release: records.release,
            running: Running::default(),
            clock: None,
            paying: None,
            offered: None,
            forged: (0, None),
            retry_at: None,
            anew: Pace::default(),
            replanned: Pace::default(),
            looked: true,
            gone: false,
        }
    }

    pub(super) fn restore(
        key: PurseKey,
        policy: LockedPolicy,
        meta: PayerMeta,
        records: Records,
    ) -> (Self, Answer) {
        let mut purse = Self::new(key, policy, meta, records);
        purse.looked = false;
        purse.derive();
        let effects = match purse.meta.stage {
            // Its session was told; should it ask again, that is the time.
            Stage::Lost(..) => Vec::new(),
            _ => purse.next_effect(true),
        };
        let answer = Answer {
            effects,
            ..Answer::default()
        };
        (purse, answer)
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn request(&mut self, now: Now, request: Request) -> Answer {
        match request {
            Request::Open { .. } if self.meta.closing && self.meta.failed.is_none() => {
                Answer::failed(OUT_OF_ORDER)
            }
            Request::Open { .. } => match self.opened(now) {
                Some(outcome) => Answer::outcome(outcome),
                None if self.is_planned_later(now) => Answer::failed(BackendError::Transient),
                None => self.go_on(true),
            },
            Request::Pay {
                seq,
                amount,
                cumulative,
            } => self.pay(now, seq, amount, cumulative),
            Request::Acked { cumulative, .. } => self.acked(cumulative),
            Request::Reclaim { seq } => self.reclaim(now, seq),
            Request::Note { bytes } => self.on_note(&bytes),
            Request::Release => self.release(now),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }

    pub(super) fn effect_done(
        &mut self,
        now: Now,
        id: u64,
        done: Result<Done, BackendError>,
    ) -> Answer {
        if !self.running.ended(id) {
            // Told before: what came of it is said.
            return Answer::default();
        }
        if id == ABANDON {
            return match done {
                Ok(Done::Locked(LockedDone::Sum(spent))) => self.abandoned(spent),
                Ok(_) => self.abandoned(0),
                // There is no wallet any more to give anything back to.
                Err(BackendError::Fatal(_)) if matches!(self.meta.stage, Stage::Lost(..)) => {
                    self.abandoned(u64::MAX)
                }
                Err(error) => Answer::failed(error),
            };
        }
        match (id, super::locked(done)) {
            (PLAN, Ok(LockedDone::Planned { plan, time_s, ppk })) => {
                self.clock = Some(MintClock::new(time_s, now));
                if !matches!(self.meta.stage, Stage::Planning) {
                    return self.settled_answer(now);
                }
                if !self
                    .policy
                    .allows_fee(ppk, plan.token.len(), self.meta.step)
                {
                    return self.not_opened(BackendError::Fatal(RefusalCode::FeeTooHigh));
                }
                if !self.meta.closing {
                    let locktime = time_s.saturating_add(self.meta.agreed.lock_s);
                    self.meta.stage = Stage::Funding(Planned {
                        plan,
                        locktime,
                        ppk,
                    });
                    self.derive();
                }
                self.advance(false)
            }
            (FUND, Ok(LockedDone::Funded(pieces))) => self.funded(now, pieces),
            (FUND, Ok(LockedDone::PlanAgain)) => {
                if !matches!(self.meta.stage, Stage::Funding(_)) {
                    return self.settled_answer(now);
                }
                self.meta.stage = Stage::Planning;
                self.plan_again(now)
            }
            // Called off before anything was locked: what is reserved goes back.
            (PLAN, Err(_)) if self.meta.closing => self.advance(false),
            (PLAN | FUND, Err(error)) => self.not_opened(error),
            (TIME, done) => self.time_learnt(now, done),
            (RELEASE, done) => self.release_checked(now, done),
            (FIND, done) => self.found(now, done),
            (LEDGER, Ok(LockedDone::Sum(refunded))) => self.finished(refunded),
            (LEDGER, Err(error)) => self.later(now, error),
            (id, done) => match id.checked_sub(DRAIN) {
                Some(no) => self.drained(now, no, done),
                None => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            },
        }
    }

    fn funded(&mut self, now: Now, pieces: ByteVec) -> Answer {
        let Stage::Funding(planned) = &self.meta.stage else {
            return self.settled_answer(now);
        };
        let mut answer = Answer::default();
        self.pieces = pieces.into();
        record::put_pieces(&mut answer.delta, &self.pieces);
        self.meta.stage = Stage::Open(planned.clone());
        self.put_meta(&mut answer.delta);
        if self.meta.closing {
            return merge(answer, self.release(now));
        }
        answer.outcome = self.opened(now);
        answer
    }

    fn plan_again(&mut self, now: Now) -> Answer {
        self.replanned.made_anew(now);
        if !self.is_planned_later(now) {
            return self.advance(false);
        }
        let mut answer = Answer::failed(BackendError::Transient);
        self.put_meta(&mut answer.delta);
        answer
    }

    fn is_planned_later(&self, now: Now) -> bool {
        let planning = matches!(self.meta.stage, Stage::Planning) && !self.meta.closing;
        planning && self.replanned.waits(now)
    }

    fn not_opened(&mut self, error: BackendError) -> Answer {
        let (BackendError::Fatal(code) | BackendError::Rejected(code, _)) = error else {
            return Answer::failed(error);
        };
        if !matches!(self.meta.stage, Stage::Planning | Stage::Funding(_)) {
            return Answer::failed(error);
        }
        // What is reserved goes back, and the purse ends.
        if !self.meta.closing {
            self.meta.failed = Some(code.code());
            self.meta.closing = true;
        }
        self.meta.stage = match self.planned() {
            // It was asked for: the mint's word that nothing came of it is not the last.
            Some(planned) => Stage::Lost(planned.clone(), None),
            None => Stage::Planning,
        };
        self.advance(false)
    }

    /// What was reserved is given back, but for `spent` of it.
    fn abandoned(&mut self, spent: u64) -> Answer {
        let Some(code) = self.meta.failed else {
            return match spent {
                0 => self.finished(0),
                _ => home::released(0),
            };
        };
        if spent > 0 {
            // The seed stays: `Runner::find_lost` asks the mint again.
            return Answer::failed(BackendError::Fatal(RefusalCode::from_code(code)));
        }
        self.gone = true;
        let mut answer = Answer::failed(BackendError::Fatal(RefusalCode::from_code(code)));
        record::remove_meta(&mut answer.delta);
        answer
    }

    /// What the purse's stage calls for, at the mint.
    fn next_effect(&mut self, again: bool) -> Vec<Effect> {
        let key = self.key;
        match &self.meta.stage {
            // What it reserves must be there before it can be given back.
            Stage::Planning if self.meta.closing && self.running.has(PLAN) => Vec::new(),
            Stage::Planning if self.meta.closing => {
                let mints = places(&self.meta.mints);
                self.running.start(key, ABANDON, || Job::Abandon { mints })
            }
            Stage::Planning => {
                let plan = LockedJob::Plan {
                    mints: self.meta.mints.clone(),
                    budget: self.meta.budget,
                    agreed: self.meta.agreed,
                };
                self.running.start(key, PLAN, || job(plan))
            }
            Stage::Funding(planned) => {
                let Some(locked) = self.locked.clone() else {
                    return Vec::new();
                };
                let half = self.meta.agreed.lock_s / 2;
                let fund = LockedJob::Fund {
                    plan: planned.plan.clone(),
                    locked,
                    again,
                    latest: planned.locktime.saturating_sub(half),
                };
                self.running.start(key, FUND, || job(fund))
            }
            Stage::Open(_) => self.drain_effect(again),
            Stage::Lost(planned, _) => {
                let plan = planned.plan.clone();
                let forget = LockedJob::Forget { plan };
                self.running.start(key, ABANDON, || job(forget))
            }
            Stage::Released(_) => Vec::new(),
        }
    }

    fn go_on(&mut self, again: bool) -> Answer {
        Answer {
            effects: self.next_effect(again),
            ..Answer::default()
        }
    }

    fn advance(&mut self, again: bool) -> Answer {
        let mut answer = Answer::default();
        self.put_meta(&mut answer.delta);
        answer.effects = self.next_effect(again);
        answer
    }

    fn planned(&self) -> Option<&Planned> {
        match &self.meta.stage {
            Stage::Funding(planned) | Stage::Open(planned) => Some(planned),
            Stage::Planning | Stage::Released(_) | Stage::Lost(..) => None,
        }
    }

    /// What the plan and its seed determine.
    fn derive(&mut self) {
        let (locked, chain) = match self.planned() {
            Some(planned) => (
                locked_of(self.key, &self.meta, planned),
                chain_of(&self.meta, planned),
            ),
            None => (None, None),
        };
        (self.locked, self.chain) = (locked, chain);
    }

    fn opened(&self, now: Now) -> Option<Outcome> {
        let Stage::Open(planned) = &self.meta.stage else {
            return None;
        };
        let mut funding = self.locked.as_ref()?.funding.clone();
        // Proofs that no payee can check are shown also where none are wanted: it refuses them.
        if self.meta.agreed.chain || self.is_unproven() {
            funding.pieces = self.pieces.clone().into();
        }
        let plan = &planned.plan;
        let face = plan
            .token
            .iter()
            .fold(0_u64, |sum, one| sum.saturating_add(*one));
        let face = face.saturating_mul(plan.count);
        let ends = planned.locktime.saturating_sub(self.meta.agreed.margin_s);
        // Without the mint's time our own clock must do; each payment looks again.
        let until = self.clock.filter(|clock| clock.at(now).is_some());
        Some(Outcome::Opened(Opened {
            opening: funding.encode().into(),
            capacity: msat(self.meta.step.saturating_mul(plan.count)),
            cost: msat(face.saturating_add(plan.fee)),
            quantum: LockedMachine::QUANTUM,
            usable_until: Some(until.map_or(Unix(ends), |clock| clock.wall(ends))),
        }))
    }

    /// True where the mint left out the proofs of its signatures (NUT-12): nobody takes such ecash, and
    /// it comes home after the locktime.
    fn is_unproven(&self) -> bool {
        let (pieces, _) = self.pieces.as_chunks();
        pieces.iter().any(|piece| !Piece(piece).is_proven())
    }

    /// The answer to a result that changes nothing any more.
    fn settled_answer(&self, now: Now) -> Answer {
        match self.meta.stage {
            Stage::Released(refunded) => home::released(refunded),
            _ if self.meta.closing => Answer::default(),
            _ => self.opened(now).map(Answer::outcome).unwrap_or_default(),
        }
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payer(self.meta.clone()));
    }
}

fn chain_of(meta: &PayerMeta, planned: &Planned) -> Option<Chain> {
    if !meta.agreed.chain {
        return None;
    }
    Chain::new(Secrets(&planned.plan.seed).top(), planned.plan.count)
}

/// The funding that a plan makes, without its proofs.
pub(crate) fn locked_of(key: PurseKey, meta: &PayerMeta, planned: &Planned) -> Option<Locked> {
    let plan = &planned.plan;
    let secrets = Secrets(&plan.seed);
    let refund = secrets.refund()?.public_key();
    let chain = chain_of(meta, planned);
    let locks = chain.as_ref().map(Chain::locks).unwrap_or_default();
    let funding = Funding::new(
        key,
        (&plan.place.mint, &plan.place.unit),
        &plan.keyset,
        plan.count,
        plan.token.clone(),
        (planned.locktime, refund),
        secrets.salt(),
        &locks,
    );
    let receiver = PublicKey::from_slice(&*meta.receiver).ok()?;
    Some(Locked::new(funding, receiver))
}
