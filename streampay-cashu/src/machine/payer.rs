//! A payer's purse: a run of tokens of one tick each.

mod steps;
mod ticks;

use std::collections::{BTreeMap, BTreeSet};

use streampay_core::backend::{
    Answer, BackendError, Opened, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, PurseKey};

use super::record::{self, Meta, PayerMeta, PayerStage, Token, TokenState, Tokens};
use super::{OUT_OF_ORDER, Running, SwapMachine, SwapPolicy, TOKENS_MAX, msat, whole_sat};
use crate::codec;
use crate::coin::Coin;
use crate::job::{Done, Listed};
use crate::locked::job::LockedDone;
use crate::locked::merge;
use crate::pace::Pace;
use crate::params::SwapParams;
use crate::wire::Opening;

const PLAN: u64 = 1;
const FUND: u64 = 2;
const FINISH: u64 = 3;
const ABANDON: u64 = 4;
/// For how long a purse that is called off asks what has become of its split, in seconds, where that cannot
/// be said. Chosen: longer than a mint is mistaken.
const UNKNOWN_S: u64 = 600;
/// Reclaiming token n is effect `RECLAIM + n`.
const RECLAIM: u64 = 256;

pub(crate) struct PayerPurse {
    key: PurseKey,
    meta: PayerMeta,
    tokens: BTreeMap<u64, Token>,
    running: Running,
    /// Tokens whose `Reclaim` was asked after the last `Release`: their swap ends in their outcome.
    asked: BTreeSet<u64>,
    /// Tokens whose swap was made anew for another fee or keyset, or is denied: when it may be asked for
    /// again.
    anew: BTreeMap<u64, Pace>,
    /// The split was planned anew for another keyset: when it may be again.
    replanned: Pace,
    /// Opening failed for good and left nothing: the machine forgets the purse.
    gone: bool,
}

impl PayerPurse {
    pub(crate) fn open(
        key: PurseKey,
        offer: &PurseOffer,
        capacity: Msat,
        budget: Msat,
        policy: SwapPolicy,
    ) -> Result<(Self, Answer), RefusalCode> {
        let params = SwapParams::decode(&offer.params).map_err(|_| RefusalCode::Malformed)?;
        let tick = whole_sat(offer.tick).ok_or(RefusalCode::WrongAmount)?;
        let affordable = capacity.sat_floor().checked_div(tick).unwrap_or_default();
        let count = affordable.min(policy.tokens_max.clamp(1, TOKENS_MAX));
        if count == 0 {
            return Err(RefusalCode::PurseEmpty);
        }
        let price_max = policy.price_max_permille;
        let mints = Listed::all(key, params.mints(), (tick, count), price_max);
        if mints.is_empty() {
            return Err(RefusalCode::NoCommonMethod);
        }
        let mut purse = Self {
            key,
            meta: PayerMeta {
                tick,
                mints,
                budget: budget.sat_floor(),
                stage: PayerStage::Planning,
                closing: false,
                failed: None,
                max_fee_permille: Some(policy.max_fee_permille),
                unknown: None,
            },
            tokens: BTreeMap::new(),
            running: Running::default(),
            asked: BTreeSet::new(),
            anew: BTreeMap::new(),
            replanned: Pace::default(),
            gone: false,
        };
        let mut answer = Answer::default();
        purse.put_meta(&mut answer.delta);
        answer.effects = purse.next_effect(false);
        Ok((purse, answer))
    }

    pub(crate) fn restore(
        key: PurseKey,
        meta: PayerMeta,
        tokens: BTreeMap<u64, Token>,
    ) -> (Self, Answer) {
        let mut purse = Self {
            key,
            meta,
            tokens,
            running: Running::default(),
            asked: BTreeSet::new(),
            anew: BTreeMap::new(),
            replanned: Pace::default(),
            gone: false,
        };
        let mut effects = match purse.meta.stage {
            // Its session was told; should it ask again, that is the time.
            PayerStage::Lost(..) => Vec::new(),
            _ => purse.next_effect(true),
        };
        let reclaiming: Vec<u64> = purse
            .tokens
            .iter()
            .filter(|(_, token)| matches!(token.state, TokenState::Reclaiming(_)))
            .map(|(index, _)| *index)
            .collect();
        for index in reclaiming {
            effects.extend(purse.reclaim_effect(index));
        }
        let answer = Answer {
            effects,
            ..Answer::default()
        };
        (purse, answer)
    }

    pub(crate) const fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn request(&mut self, now: Now, request: Request) -> Answer {
        match request {
            Request::Open { .. } if self.meta.closing && self.meta.failed.is_none() => {
                Answer::failed(OUT_OF_ORDER)
            }
            Request::Open { .. } => match self.opened() {
                Some(outcome) => Answer::outcome(outcome),
                None if self.is_planned_later(now) => Answer::failed(BackendError::Transient),
                None => self.go_on(now, true),
            },
            Request::Pay {
                seq,
                amount,
                cumulative,
            } => self.pay(seq, amount, cumulative),
            Request::Acked { seq, .. } => self.acked(seq),
            Request::Reclaim { seq } => self.reclaim(now, seq),
            Request::Release => self.release(now),
            Request::Note { .. } => Answer::default(),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }

    fn release(&mut self, now: Now) -> Answer {
        if let PayerStage::Released(refunded) = self.meta.stage {
            return released(refunded);
        }
        let mut answer = Answer::default();
        self.asked.clear();
        if !self.meta.closing || self.meta.failed.is_some() {
            self.meta.closing = true;
            self.meta.failed = None;
            self.put_meta(&mut answer.delta);
        }
        let next = self.go_on(now, true);
        merge(answer, next)
    }

    pub(crate) fn effect_done(
        &mut self,
        now: Now,
        id: u64,
        done: Result<Done, BackendError>,
    ) -> Answer {
        if !self.running.ended(id) {
            // Told before: what came of it is said.
            return Answer::default();
        }
        match (id, done) {
            (PLAN, Ok(Done::Planned(plan))) => {
                if !matches!(self.meta.stage, PayerStage::Planning) {
                    return self.settled_answer();
                }
                if !self.meta.closing {
                    self.meta.stage = PayerStage::Funding(plan);
                }
                self.advance(now, false)
            }
            (FUND, Ok(Done::Funded(coins, keysets))) => self.funded(now, coins, keysets),
            (FUND, Ok(Done::PlanAgain)) => {
                if !matches!(self.meta.stage, PayerStage::Funding(_)) {
                    return self.settled_answer();
                }
                self.meta.stage = PayerStage::Planning;
                self.plan_again(now)
            }
            (ABANDON, Ok(Done::Locked(LockedDone::Sum(spent)))) => self.abandoned(spent),
            (ABANDON, Ok(Done::Sum(_))) => self.abandoned(0),
            // There is no wallet any more to give anything back to.
            (ABANDON, Err(BackendError::Fatal(_)))
                if matches!(self.meta.stage, PayerStage::Lost(..)) =>
            {
                self.abandoned(u64::MAX)
            }
            (FINISH, Ok(Done::Sum(refunded))) => self.finished(refunded),
            // Called off before anything was split: what is reserved goes back.
            (PLAN, Err(_)) if self.meta.closing => self.advance(now, false),
            (FUND, Err(BackendError::Unknown)) if self.is_unknown_for_long(now) => {
                self.lose_split(now)
            }
            (PLAN | FUND, Err(error)) => self.not_opened(now, error),
            (id, done) => match id.checked_sub(RECLAIM) {
                Some(index) => self.reclaimed(now, index, done),
                None => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            },
        }
    }

    fn funded(&mut self, now: Now, coins: Vec<Coin>, keysets: crate::keysets::Keysets) -> Answer {
        let PayerStage::Funding(plan) = &self.meta.stage else {
            return self.settled_answer();
        };
        let mut answer = Answer::default();
        for (index, token) in (0_u64..).zip(coins.chunks(plan.token.len().max(1))) {
            let token = Token {
                coins: token.to_vec(),
                state: TokenState::Fresh,
                outputs: None,
                net: None,
                worthless: None,
                doubt: None,
            };
            record::put_token(&mut answer.delta, index, &token);
            self.tokens.insert(index, token);
        }
        self.meta.stage = PayerStage::Open(Tokens {
            place: plan.place.clone(),
            seed: plan.seed.clone(),
            keysets,
            count: plan.count,
            cost: crate::coin::sum(&coins)
                .unwrap_or(u64::MAX)
                .saturating_add(plan.fee),
        });
        let next = self.advance(now, false);
        merge(answer, next)
    }

    fn plan_again(&mut self, now: Now) -> Answer {
        self.replanned.made_anew(now);
        if !self.is_planned_later(now) {
            return self.advance(now, false);
        }
        let mut answer = Answer::failed(BackendError::Transient);
        self.put_meta(&mut answer.delta);
        answer
    }

    fn is_planned_later(&self, now: Now) -> bool {
        let planning = matches!(self.meta.stage, PayerStage::Planning) && !self.meta.closing;
        planning && self.replanned.waits(now)
    }

    /// True of a split that is to be called off, and of which nobody could say for a while what has become of
    /// it: no session waits for ever.
    fn is_unknown_for_long(&mut self, now: Now) -> bool {
        if !self.meta.closing || !matches!(self.meta.stage, PayerStage::Funding(_)) {
            return false;
        }
        let since = *self.meta.unknown.get_or_insert(now.unix.0);
        now.unix.0 >= since.saturating_add(UNKNOWN_S)
    }

    /// The purse ends. What its split made all the same is found by `Runner::find_lost`.
    fn lose_split(&mut self, now: Now) -> Answer {
        if let PayerStage::Funding(plan) = &self.meta.stage {
            self.meta.stage = PayerStage::Lost(plan.clone(), None);
        }
        self.advance(now, false)
    }

    fn not_opened(&mut self, now: Now, error: BackendError) -> Answer {
        let final_failure = matches!(error, BackendError::Fatal(_) | BackendError::Rejected(..));
        let stage = match &self.meta.stage {
            PayerStage::Planning => PayerStage::Planning,
            // It was asked for: the mint's word that nothing came of it is not the last.
            PayerStage::Funding(plan) => PayerStage::Lost(plan.clone(), None),
            _ => return Answer::failed(error),
        };
        if !final_failure {
            let mut answer = Answer::failed(error);
            if self.meta.unknown.is_some() {
                self.put_meta(&mut answer.delta);
            }
            return answer;
        }
        // What is reserved goes back, and the purse ends.
        if let (false, BackendError::Fatal(code) | BackendError::Rejected(code, _)) =
            (self.meta.closing, error)
        {
            self.meta.failed = Some(code.code());
            self.meta.closing = true;
        }
        self.meta.stage = stage;
        self.advance(now, false)
    }

    /// What was reserved is given back, but for `spent` of it.
    fn abandoned(&mut self, spent: u64) -> Answer {
        let Some(code) = self.meta.failed else {
            return match spent {
                0 => self.finished(0),
                _ => released(0),
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

    fn finished(&mut self, refunded: u64) -> Answer {
        if !matches!(self.meta.stage, PayerStage::Released(_)) {
            self.meta.stage = PayerStage::Released(refunded);
        }
        let mut answer = self.settled_answer();
        self.put_meta(&mut answer.delta);
        for index in self.tokens.keys() {
            record::remove_token(&mut answer.delta, *index);
        }
        self.tokens.clear();
        answer
    }

    fn opened(&self) -> Option<Outcome> {
        let PayerStage::Open(tokens) = &self.meta.stage else {
            return None;
        };
        let place = &tokens.place;
        let opening = Opening::new(
            self.key,
            place.mint.clone(),
            place.unit.clone(),
            tokens.count,
        );
        Some(Outcome::Opened(Opened {
            opening: codec::encode(&opening).into(),
            capacity: msat(self.meta.tick.saturating_mul(tokens.count)),
            cost: msat(tokens.cost),
            quantum: SwapMachine::QUANTUM,
            usable_until: None,
        }))
    }

    /// The answer to a result that changes nothing any more.
    fn settled_answer(&self) -> Answer {
        match self.meta.stage {
            PayerStage::Released(refunded) => released(refunded),
            _ if self.meta.closing => Answer::default(),
            _ => self.opened().map(Answer::outcome).unwrap_or_default(),
        }
    }

    fn set_state(&mut self, delta: &mut ChangeSet, index: u64, state: TokenState) {
        if let Some(token) = self.tokens.get_mut(&index) {
            token.state = state;
            record::put_token(delta, index, token);
        }
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payer(self.meta.clone()));
    }
}

fn released(refunded: u64) -> Answer {
    Answer::outcome(Outcome::Released {
        refunded: msat(refunded),
    })
}
