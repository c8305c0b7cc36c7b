//! A payer's purse: a run of tokens of one tick each.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use streampay_core::backend::{Answer, BackendError, Outcome, PurseOffer, RefusalCode, Request};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, PurseKey, Seq};

use super::record::{self, Meta, PayerMeta, PayerStage, Token, TokenState, Tokens};
use super::{OUT_OF_ORDER, Running, msat, whole_sat};
use crate::codec;
use crate::coin::Coin;
use crate::job::{Done, Place};
use crate::params::SwapParams;
use crate::wire::{Expected, Opening, Payload};

const PLAN: u64 = 1;
const FUND: u64 = 2;
const FINISH: u64 = 3;
const ABANDON: u64 = 4;
/// Reclaiming token n is effect `RECLAIM + n`.
const RECLAIM: u64 = 256;

pub(crate) struct PayerPurse {
    key: PurseKey,
    meta: PayerMeta,
    tokens: BTreeMap<u64, Token>,
    running: Running,
    /// Tokens whose `Reclaim` was asked after the last `Release`: their swap ends in their outcome.
    asked: BTreeSet<u64>,
    /// Opening failed for good and left nothing: the machine forgets the purse.
    gone: bool,
}

impl PayerPurse {
    pub(crate) fn open(
        key: PurseKey,
        offer: &PurseOffer,
        capacity: Msat,
        budget: Msat,
        tokens_max: u64,
    ) -> Result<(Self, Answer), RefusalCode> {
        let params = SwapParams::decode(&offer.params).map_err(|_| RefusalCode::Malformed)?;
        let tick = whole_sat(offer.tick).ok_or(RefusalCode::WrongAmount)?;
        let affordable = capacity.sat_floor().checked_div(tick).unwrap_or_default();
        let count = affordable.min(tokens_max);
        if count == 0 {
            return Err(RefusalCode::PurseEmpty);
        }
        let mints = params.mints().iter();
        let mints = mints.map(|mint| Place::new(key, mint.url(), mint.unit()));
        let mut purse = Self {
            key,
            meta: PayerMeta {
                tick,
                mints: mints.collect(),
                count,
                budget: budget.sat_floor(),
                stage: PayerStage::Planning,
                closing: false,
            },
            tokens: BTreeMap::new(),
            running: Running::default(),
            asked: BTreeSet::new(),
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
            gone: false,
        };
        let mut effects = purse.next_effect(true);
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

    pub(crate) fn request(&mut self, request: Request) -> Answer {
        match request {
            Request::Open { .. } if self.meta.closing => Answer::failed(OUT_OF_ORDER),
            Request::Open { .. } => match self.opened() {
                Some(outcome) => Answer::outcome(outcome),
                None => self.go_on(true),
            },
            Request::Pay {
                seq,
                amount,
                cumulative,
            } => self.pay(seq, amount, cumulative),
            Request::Acked { seq } => self.acked(seq),
            Request::Reclaim { seq } => self.reclaim(seq),
            Request::Release => self.release(),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }

    fn pay(&mut self, seq: Seq, amount: Msat, cumulative: Msat) -> Answer {
        if let Some(token) = self.of_tick(seq) {
            return match token.state {
                TokenState::Sent(_) | TokenState::Acked(_) => {
                    let coins = token.coins.clone();
                    self.paid(seq, coins)
                }
                _ => Answer::failed(OUT_OF_ORDER),
            };
        }
        let tick = msat(self.meta.tick);
        // Fewer ticks than numbers, where some were refused and taken back.
        let most = tick.times(seq.0);
        let whole = cumulative.round_up_to(tick) == Ok(cumulative) && !cumulative.is_zero();
        let in_turn = seq.0 > 0 && whole && most.is_ok_and(|most| cumulative <= most);
        if self.meta.closing || !in_turn {
            return Answer::failed(OUT_OF_ORDER);
        }
        if amount != tick {
            return Answer::failed(BackendError::Fatal(RefusalCode::WrongAmount));
        }
        let fresh = self.tokens.iter_mut();
        let fresh = fresh
            .filter(|(_, token)| token.state == TokenState::Fresh)
            .min_by_key(|(index, _)| **index);
        let Some((index, token)) = fresh else {
            return Answer::failed(BackendError::Fatal(RefusalCode::PurseEmpty));
        };
        token.state = TokenState::Sent(seq.0);
        let mut delta = ChangeSet::new();
        record::put_token(&mut delta, *index, token);
        let coins = token.coins.clone();
        let mut answer = self.paid(seq, coins);
        answer.delta = delta;
        answer
    }

    fn paid(&self, seq: Seq, coins: Vec<Coin>) -> Answer {
        let PayerStage::Open(tokens) = &self.meta.stage else {
            return Answer::failed(OUT_OF_ORDER);
        };
        let expected = Expected {
            key: self.key,
            seq,
            mint: &tokens.place.mint,
            unit: &tokens.place.unit,
        };
        let payload = Payload::new(expected, coins);
        Answer::outcome(Outcome::Paid {
            payload: codec::encode(&payload).into(),
        })
    }

    fn acked(&mut self, seq: Seq) -> Answer {
        let mut answer = Answer::default();
        let sent = self.tokens.iter_mut().find(|(_, token)| {
            matches!(token.state, TokenState::Sent(of) | TokenState::Reclaiming(of) if of == seq.0)
        });
        if let Some((index, token)) = sent {
            token.state = TokenState::Acked(seq.0);
            record::put_token(&mut answer.delta, *index, token);
        }
        answer
    }

    fn reclaim(&mut self, seq: Seq) -> Answer {
        let newest = self.tokens.iter().rev();
        let newest = newest
            .clone()
            .find(|(_, token)| token.state.seq() == Some(seq.0));
        let Some((&index, token)) = newest else {
            return Answer::failed(OUT_OF_ORDER);
        };
        match token.state {
            TokenState::Back(_) => Answer::outcome(Outcome::Reclaimed),
            TokenState::Spent(_) | TokenState::Acked(_) => Answer::outcome(Outcome::Spent),
            TokenState::Fresh => Answer::failed(OUT_OF_ORDER),
            TokenState::Sent(_) | TokenState::Reclaiming(_) => {
                let mut answer = Answer::default();
                self.asked.insert(index);
                self.start_reclaim(&mut answer, index, seq.0);
                answer
            }
        }
    }

    fn release(&mut self) -> Answer {
        if let PayerStage::Released(refunded) = self.meta.stage {
            return released(refunded);
        }
        let mut answer = Answer::default();
        self.asked.clear();
        if !self.meta.closing {
            self.meta.closing = true;
            self.put_meta(&mut answer.delta);
        }
        let next = self.go_on(true);
        merge(answer, next)
    }

    pub(crate) fn effect_done(&mut self, id: u64, done: Result<Done, BackendError>) -> Answer {
        self.running.ended(id);
        match (id, done) {
            (PLAN, Ok(Done::Planned(plan))) => {
                if !matches!(self.meta.stage, PayerStage::Planning) {
                    return self.settled_answer();
                }
                if !self.meta.closing {
                    self.meta.stage = PayerStage::Funding(plan);
                }
                self.advance(false)
            }
            (FUND, Ok(Done::Funded(coins, keysets))) => self.funded(coins, keysets),
            (FUND, Ok(Done::PlanAgain)) => {
                if !matches!(self.meta.stage, PayerStage::Funding(_)) {
                    return self.settled_answer();
                }
                self.meta.stage = PayerStage::Planning;
                self.advance(false)
            }
            (ABANDON, Ok(Done::Sum(_))) => self.finished(0),
            (FINISH, Ok(Done::Sum(refunded))) => self.finished(refunded),
            (PLAN | FUND, Err(error)) => self.not_opened(error),
            (id, done) => match id.checked_sub(RECLAIM) {
                Some(index) => self.reclaimed(index, done),
                None => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            },
        }
    }

    fn funded(&mut self, coins: Vec<Coin>, keysets: crate::keysets::Keysets) -> Answer {
        let PayerStage::Funding(plan) = &self.meta.stage else {
            return self.settled_answer();
        };
        let mut answer = Answer::default();
        for (index, token) in (0_u64..).zip(coins.chunks(plan.token.len().max(1))) {
            let token = Token {
                coins: token.to_vec(),
                state: TokenState::Fresh,
                outputs: None,
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
        let next = self.advance(false);
        merge(answer, next)
    }

    fn not_opened(&mut self, error: BackendError) -> Answer {
        let final_failure = matches!(error, BackendError::Fatal(_) | BackendError::Rejected(..));
        if !final_failure || matches!(self.meta.stage, PayerStage::Open(_)) {
            return Answer::failed(error);
        }
        if self.meta.closing {
            // Nothing was split: what is reserved goes back, and the purse ends.
            self.meta.stage = PayerStage::Planning;
            return self.advance(false);
        }
        self.gone = true;
        let mut answer = Answer::failed(error);
        record::remove_meta(&mut answer.delta);
        answer
    }

    fn reclaimed(&mut self, index: u64, done: Result<Done, BackendError>) -> Answer {
        let Some(TokenState::Reclaiming(seq)) = self.tokens.get(&index).map(|token| token.state)
        else {
            // The ack came while we asked; or a repeated result.
            return self.settled_answer();
        };
        let mut answer = Answer::default();
        let (state, outcome) = match done {
            Ok(Done::Swapped) => (TokenState::Back(seq), Outcome::Reclaimed),
            Ok(Done::SpentElsewhere) => (TokenState::Spent(seq), Outcome::Spent),
            Ok(Done::OtherKeysets(keysets)) => {
                let old = self.tokens.get_mut(&index);
                if old.and_then(|token| token.outputs.take()) == keysets.active() {
                    return Answer::failed(BackendError::Transient);
                }
                if let PayerStage::Open(tokens) = &mut self.meta.stage {
                    tokens.keysets = keysets;
                }
                self.put_meta(&mut answer.delta);
                self.start_reclaim(&mut answer, index, seq);
                return answer;
            }
            Ok(_) => return Answer::failed(BackendError::Unknown),
            Err(error) => return Answer::failed(error),
        };
        self.set_state(&mut answer.delta, index, state);
        if self.meta.closing && !self.asked.remove(&index) {
            let next = self.go_on(true);
            return merge(answer, next);
        }
        answer.outcome = Some(outcome);
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
        Some(Outcome::Opened {
            opening: codec::encode(&opening).into(),
            capacity: msat(self.meta.tick.saturating_mul(tokens.count)),
            cost: msat(tokens.cost),
        })
    }

    /// The answer to a result that changes nothing any more.
    fn settled_answer(&self) -> Answer {
        match self.meta.stage {
            PayerStage::Released(refunded) => released(refunded),
            _ if self.meta.closing => Answer::default(),
            _ => self.opened().map(Answer::outcome).unwrap_or_default(),
        }
    }

    fn of_tick(&self, seq: Seq) -> Option<&Token> {
        self.tokens.values().find(|token| {
            !matches!(token.state, TokenState::Back(_)) && token.state.seq() == Some(seq.0)
        })
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

fn merge(mut first: Answer, then: Answer) -> Answer {
    first.delta.merge(then.delta);
    first.effects.extend(then.effects);
    first.outcome = then.outcome.or(first.outcome);
    first
}
