//! A payment method's machine: three ways to pay, as the real ones do.
//!
//! | method | a payment | is the payee's own |
//! |---|---|---|
//! | `coin` | needs the mint now and then; whole satoshi; purses grow old | once redeemed, before it is acked |
//! | `steps` | 300 msat steps, no mint; one that was refused stays out, and is shown again | once redeemed, before it is acked |
//! | `chain` | 500 msat steps, no mint | by its payload; redeemed when the purse settles |

use std::collections::BTreeMap;

use bytes::Bytes;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Opened, Outcome,
    RefusalCode, Request, RestoredPurse,
};
use streampay_core::planted::{Planted, is_planted_after_restart};
use streampay_core::sim::Rng;
use streampay_core::units::{EffectId, Msat, Now, PurseKey, RequestId};

use super::mint::{Call, FEE, read_u64};

/// A way to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Coin,
    Steps,
    Chain,
}

impl Method {
    pub(super) const ALL: [Self; 3] = [Self::Coin, Self::Steps, Self::Chain];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Coin => "coin",
            Self::Steps => "steps",
            Self::Chain => "chain",
        }
    }

    pub(super) const fn quantum(self) -> u64 {
        match self {
            Self::Coin => 1_000,
            Self::Steps => 300,
            Self::Chain => 500,
        }
    }
}

/// How many answers of a purse are remembered, to be given again.
const REMEMBERED: usize = 4;

#[derive(Default)]
struct Purse {
    nonce: u64,
    /// What makes each payment one of its own, until it is acknowledged.
    salts: BTreeMap<u64, (u64, u64)>,
    /// The last tick of a deferred purse.
    upto: u64,
    /// The last tick of which the payer's session said that it is acknowledged.
    acked: u64,
    /// The payer's session wants it home.
    released: bool,
    calls: BTreeMap<RequestId, (Effect, bool)>,
    /// Comes home as soon as its opening has ended.
    called_off: Option<RequestId>,
    answered: Vec<(EffectId, Outcome)>,
}

pub(super) struct Machine {
    pub(super) method: Method,
    /// How long a purse of `coin` is usable, in seconds.
    life_s: u64,
    /// Randomness of this life of the process.
    rng: Rng,
    purses: BTreeMap<PurseKey, Purse>,
}

const NONCE: &[u8] = b"n";
const UPTO: &[u8] = b"u";
const ACKED: &[u8] = b"a";

fn salt_key(seq: u64) -> Vec<u8> {
    [&b"s"[..], &seq.to_be_bytes()].concat()
}

fn call_key(id: u64) -> Vec<u8> {
    [&b"c"[..], &id.to_be_bytes()].concat()
}

fn msat(value: u64) -> Msat {
    Msat::new(value).unwrap_or(Msat::MAX)
}

impl Machine {
    pub(super) fn new(method: Method, life_s: u64, seed: u64) -> Self {
        Self {
            method,
            life_s,
            rng: Rng::new(seed),
            purses: BTreeMap::new(),
        }
    }

    /// True where the purse is in memory.
    pub(super) fn knows(&self, key: PurseKey) -> bool {
        self.purses.contains_key(&key)
    }

    /// True where a payer's machine was told that this tick is acknowledged, as far as it matters.
    pub(super) fn knows_acked(&self, key: PurseKey, seq: u64) -> bool {
        let purse = self.purses.get(&key);
        purse.is_some_and(|purse| purse.released || purse.acked >= seq)
    }

    /// Which of the purse's tokens a tick is. Of `steps` each is a sum: what was refused is the same
    /// token when it is shown again by the next number.
    fn token(&self, seq: u64, amount: Msat, cumulative: Msat) -> u64 {
        match cumulative.msat().checked_div(amount.msat()) {
            Some(number) if self.method == Method::Steps => number,
            _ => seq,
        }
    }

    fn acked(&mut self, key: PurseKey, seq: u64) -> Answer {
        let purse = self.purses.entry(key).or_default();
        let mut answer = Answer::default();
        if purse.salts.remove(&seq).is_some() {
            answer.delta.remove(salt_key(seq));
        }
        if seq > purse.acked {
            purse.acked = seq;
            answer.delta.put(ACKED, seq.to_be_bytes());
        }
        answer
    }

    fn call(&mut self, key: PurseKey, id: RequestId, call: Call) -> Answer {
        let mut answer = Answer::default();
        let purse = self.purses.entry(key).or_default();
        let effect = Effect {
            purse: key,
            id: EffectId(id.0),
            body: call.to_bytes(),
        };
        let (effect, running) = purse.calls.entry(id).or_insert((effect, false));
        if *running {
            return answer;
        }
        *running = true;
        answer.delta.put(call_key(id.0), effect.body.to_vec());
        answer.effects.push(effect.clone());
        answer
    }

    fn open(&mut self, key: PurseKey, id: RequestId, tick: Msat, budget: Msat) -> Answer {
        let fresh = self.rng.next();
        let purse = self.purses.entry(key).or_default();
        if purse.nonce == 0 {
            let locked = u64::from(self.method == Method::Chain);
            purse.nonce = (fresh & !1) | locked;
        }
        let nonce = purse.nonce;
        let amount = tick.round_up_to(msat(self.method.quantum()));
        let amount = amount.unwrap_or(Msat::MAX).msat();
        let count = budget.msat().saturating_sub(FEE) / amount.max(1);
        if count == 0 {
            return Answer::failed(BackendError::Fatal(RefusalCode::OverBudget));
        }
        let call = Call::Issue {
            nonce,
            count,
            amount,
        };
        let mut answer = self.call(key, id, call);
        answer.delta.put(NONCE, nonce.to_be_bytes());
        answer
    }

    fn pay(
        &mut self,
        key: PurseKey,
        id: RequestId,
        (seq, token): (u64, u64),
        amount: Msat,
    ) -> Answer {
        let fresh = self.rng.next();
        let purse = self.purses.entry(key).or_default();
        let salt = purse.salts.entry(seq).or_insert((id.0, fresh));
        if salt.0 != id.0 {
            // Another request is another payment.
            *salt = (id.0, fresh);
        }
        let salt = *salt;
        let asks = self.method == Method::Coin && seq.is_multiple_of(4);
        let mut answer = if asks {
            let amount = amount.msat();
            self.call(key, id, Call::Look { what: seq, amount })
        } else {
            Answer::outcome(self.paid(key, (seq, token), amount.msat()))
        };
        let salt = [salt.0.to_be_bytes(), salt.1.to_be_bytes()].concat();
        answer.delta.put(salt_key(seq), salt);
        answer
    }

    fn paid(&self, key: PurseKey, (seq, token): (u64, u64), amount: u64) -> Outcome {
        let purse = self.purses.get(&key);
        let nonce = purse.map(|purse| purse.nonce).unwrap_or_default();
        let salt = purse.and_then(|purse| purse.salts.get(&seq)).copied();
        let numbers = [token, amount, nonce, salt.unwrap_or_default().1];
        let mut payload = key.session.0.to_vec();
        payload.extend(key.purse.0.to_be_bytes());
        payload.extend(numbers.into_iter().flat_map(u64::to_be_bytes));
        Outcome::Paid {
            payload: payload.into(),
        }
    }

    fn receive(
        &mut self,
        key: PurseKey,
        id: RequestId,
        seq: u64,
        amount: Msat,
        payload: &[u8],
    ) -> Answer {
        let Some(payment) = Payment::read(payload) else {
            let error = BackendError::Rejected(RefusalCode::Malformed, Consumed::No);
            return Answer::failed(error);
        };
        if payment.seq != seq || payment.amount != amount.msat() {
            let error = BackendError::Rejected(RefusalCode::WrongAmount, Consumed::No);
            return Answer::failed(error);
        }
        let nonce = payment.nonce;
        if self.method != Method::Chain {
            return self.call(key, id, Call::Redeem { nonce, seq });
        }
        let purse = self.purses.entry(key).or_default();
        (purse.nonce, purse.upto) = (nonce, purse.upto.max(seq));
        let mut answer = Answer::outcome(Outcome::Credited);
        answer.delta.put(NONCE, nonce.to_be_bytes());
        answer.delta.put(UPTO, purse.upto.to_be_bytes());
        answer
    }

    fn accept(&mut self, key: PurseKey, id: RequestId, opening: &[u8]) -> Answer {
        let (capacity, nonce) = (read_u64(opening, 0), read_u64(opening, 8));
        let (Some(amount), Some(nonce)) = (capacity, nonce) else {
            return Answer::failed(BackendError::Fatal(RefusalCode::Malformed));
        };
        let purse = self.purses.entry(key).or_default();
        purse.nonce = nonce;
        let what = u64::MAX;
        let mut answer = if self.method == Method::Steps {
            Answer::outcome(self.accepted(amount))
        } else {
            self.call(key, id, Call::Look { what, amount })
        };
        answer.delta.put(NONCE, nonce.to_be_bytes());
        answer
    }

    fn accepted(&self, capacity: u64) -> Outcome {
        Outcome::Accepted {
            capacity: msat(capacity),
            quantum: msat(self.method.quantum()),
        }
    }

    /// All that is left comes home; a reclaim under way gets no answer of its own. An opening whose
    /// end is not known is carried to it first: the mint may yet do what it was asked before.
    fn release(&mut self, key: PurseKey, id: RequestId) -> Answer {
        let purse = self.purses.entry(key).or_default();
        purse.released = true;
        let nonce = purse.nonce;
        let mut calls = purse.calls.iter();
        let issue = calls.find_map(|(id, (effect, _))| match Call::from_bytes(&effect.body) {
            Some(call @ Call::Issue { .. }) => Some((*id, call)),
            _ => None,
        });
        if let Some((opening, issue)) = issue {
            purse.called_off = Some(id);
            // Asked again each time: its answer may have been lost.
            if let Some((_, running)) = purse.calls.get_mut(&opening) {
                *running = false;
            }
            return self.call(key, opening, issue);
        }
        let is_reclaim =
            |effect: &Effect| matches!(Call::from_bytes(&effect.body), Some(Call::Reclaim { .. }));
        let calls = purse.calls.iter();
        let swallowed: Vec<RequestId> = calls
            .filter(|(_, (effect, _))| is_reclaim(effect))
            .map(|(id, _)| *id)
            .collect();
        let mut answer = self.call(key, id, Call::ReclaimAll { nonce });
        let purse = self.purses.entry(key).or_default();
        for id in swallowed {
            purse.calls.remove(&id);
            answer.delta.remove(call_key(id.0));
        }
        answer
    }

    fn settle(&mut self, key: PurseKey, id: RequestId) -> Answer {
        let purse = self.purses.entry(key).or_default();
        let (nonce, upto) = (purse.nonce, purse.upto);
        if self.method == Method::Chain {
            return self.call(key, id, Call::RedeemAll { nonce, upto });
        }
        Answer::outcome(Outcome::Settled {
            settled: Msat::ZERO,
        })
    }

    /// What an answer of the mint means; nonsense means nothing.
    fn outcome_of(&self, now: Now, key: PurseKey, call: Call, bytes: &[u8]) -> Outcome {
        let unknown = Outcome::Failed(BackendError::Unknown);
        let yes = match bytes {
            [1] => Some(true),
            [0] => Some(false),
            _ => None,
        };
        match (call, yes, read_u64(bytes, 0)) {
            (Call::Issue { amount, nonce, .. }, None, Some(count)) => {
                let capacity = count.saturating_mul(amount);
                let opening = [capacity.to_be_bytes(), nonce.to_be_bytes()].concat();
                let coin = self.method == Method::Coin;
                Outcome::Opened(Opened {
                    opening: opening.into(),
                    capacity: msat(capacity),
                    cost: msat(capacity.saturating_add(FEE)),
                    quantum: msat(self.method.quantum()),
                    usable_until: coin.then(|| now.unix.after_s(self.life_s)),
                })
            }
            (Call::Look { what, amount }, Some(true), _) if what == u64::MAX => {
                self.accepted(amount)
            }
            (Call::Look { what, amount }, Some(true), _) => self.paid(key, (what, what), amount),
            (Call::Redeem { .. }, Some(true), _) => Outcome::Credited,
            (Call::Redeem { .. }, Some(false), _) => {
                let code = RefusalCode::AlreadySpent;
                Outcome::Failed(BackendError::Rejected(code, Consumed::Yes))
            }
            (Call::Reclaim { .. }, Some(true), _) => Outcome::Reclaimed,
            (Call::Reclaim { .. }, Some(false), _) => Outcome::Spent,
            (Call::RedeemAll { .. }, None, Some(sum)) => Outcome::Settled { settled: msat(sum) },
            (Call::ReclaimAll { .. }, None, Some(sum)) => Outcome::Released {
                refunded: msat(sum),
            },
            _ => unknown,
        }
    }
}

/// A payment, as it is on the wire.
pub(super) struct Payment {
    pub(super) seq: u64,
    pub(super) amount: u64,
    pub(super) nonce: u64,
}

impl Payment {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let fits = payload.len() == 68;
        fits.then_some(Self {
            seq: read_u64(payload, 36)?,
            amount: read_u64(payload, 44)?,
            nonce: read_u64(payload, 52)?,
        })
    }
}

impl BackendMachine for Machine {
    fn method(&self) -> &'static str {
        self.method.name()
    }

    fn request(&mut self, _: Now, key: PurseKey, id: RequestId, request: Request) -> Answer {
        let known = self.purses.get(&key).into_iter();
        let mut answered = known.flat_map(|purse| &purse.answered);
        if let Some((_, outcome)) = answered.find(|(of, _)| of.0 == id.0) {
            return Answer::outcome(outcome.clone());
        }
        match request {
            Request::Open { offer, budget, .. } => self.open(key, id, offer.tick, budget),
            Request::Pay {
                seq,
                amount,
                cumulative,
            } => {
                let token = self.token(seq.0, amount, cumulative);
                self.pay(key, id, (seq.0, token), amount)
            }
            Request::Acked { seq, .. } => self.acked(key, seq.0),
            Request::Reclaim { .. } if self.method == Method::Steps => {
                Answer::outcome(Outcome::Outstanding)
            }
            Request::Reclaim { seq } => {
                let nonce = self.purses.entry(key).or_default().nonce;
                self.call(key, id, Call::Reclaim { nonce, seq: seq.0 })
            }
            Request::Release => self.release(key, id),
            Request::Accept { opening, .. } => self.accept(key, id, &opening),
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => {
                let token = self.token(seq.0, amount, cumulative);
                self.receive(key, id, token, amount, &payload)
            }
            Request::Settle { .. } => self.settle(key, id),
            _ => Answer::default(),
        }
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        let id = RequestId(result.id.0);
        let Some(purse) = self.purses.get_mut(&result.purse) else {
            return Answer::default();
        };
        if let Some((_, outcome)) = purse.answered.iter().find(|(of, _)| *of == result.id) {
            // A session cannot tell of which request an outcome is: a repeated result has none.
            return match is_planted_after_restart(Planted::AnswerRepeated) {
                true => Answer::outcome(outcome.clone()),
                false => Answer::default(),
            };
        }
        let Some((effect, running)) = purse.calls.get_mut(&id) else {
            return Answer::default();
        };
        *running = false;
        let Some(call) = Call::from_bytes(&effect.body) else {
            return Answer::default();
        };
        let outcome = match result.result {
            Ok(bytes) => self.outcome_of(now, result.purse, call, &bytes),
            Err(error) => Outcome::Failed(error),
        };
        let open = Outcome::Failed(BackendError::Unknown);
        let away = Outcome::Failed(BackendError::Transient);
        let mut answer = Answer::outcome(outcome.clone());
        if outcome == open || outcome == away {
            return answer;
        }
        let purse = self.purses.entry(result.purse).or_default();
        purse.calls.remove(&id);
        purse.answered.push((result.id, outcome));
        if purse.answered.len() > REMEMBERED {
            purse.answered.remove(0);
        }
        answer.delta.remove(call_key(id.0));
        if matches!(call, Call::Issue { .. })
            && let Some(release) = purse.called_off.take()
        {
            let delta = answer.delta;
            answer = self.release(result.purse, release);
            answer.delta.merge(delta);
        }
        answer
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, _: Now, key: PurseKey, records: RestoredPurse) -> Answer {
        let mut answer = Answer::default();
        let purse = self.purses.entry(key).or_default();
        for (name, value) in records {
            let number = read_u64(&value, 0).unwrap_or_default();
            match name.split_first() {
                Some((b'n', _)) => purse.nonce = number,
                Some((b'u', _)) => purse.upto = number,
                Some((b'a', _)) => purse.acked = number,
                Some((b's', seq)) => {
                    let seq = read_u64(seq, 0).unwrap_or_default();
                    let salt = read_u64(&value, 8).unwrap_or_default();
                    purse.salts.insert(seq, (number, salt));
                }
                Some((b'c', id)) => {
                    let id = read_u64(id, 0).unwrap_or_default();
                    let effect = Effect {
                        purse: key,
                        id: EffectId(id),
                        body: Bytes::from(value),
                    };
                    purse.calls.insert(RequestId(id), (effect.clone(), true));
                    answer.effects.push(effect);
                }
                _ => {}
            }
        }
        answer
    }

    fn forget(&mut self, key: PurseKey) {
        self.purses.remove(&key);
    }
}
