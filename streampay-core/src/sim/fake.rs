//! A backend whose money is numbers: tokens of one tick each at a mint in memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Outcome, RefusalCode,
    Request, RestoredPurse,
};
use crate::units::{EffectId, Msat, Now, PurseKey, RequestId, Seq};

/// Tokens a purse: few, so that runs open several.
const TOKENS_MAX: u64 = 8;

/// Where all the money is.
#[derive(Clone, Debug, Default)]
pub struct FakeMint {
    /// The payer's wallet.
    pub payer: Msat,
    /// The payee's wallet.
    pub payee: Msat,
    tokens: BTreeMap<(PurseKey, Seq), Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    amount: Msat,
    holder: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Bearer,
    Payee,
    PayerAgain,
}

impl FakeMint {
    /// A mint at which the payer holds `payer` and the payee nothing.
    #[must_use]
    pub fn new(payer: Msat) -> Self {
        Self {
            payer,
            ..Self::default()
        }
    }

    /// All money there is: wallets and tokens that nobody has spent.
    #[must_use]
    pub fn total(&self) -> Msat {
        let unspent = self
            .tokens
            .values()
            .filter(|token| token.holder == Holder::Bearer);
        unspent.fold(self.payer.saturating_plus(self.payee), |sum, token| {
            sum.saturating_plus(token.amount)
        })
    }

    /// Makes a network call. The same call again has the same answer and no further effect.
    pub fn run(&mut self, effect: &Effect) -> Result<Bytes, BackendError> {
        let call = Call::from_bytes(&effect.body).ok_or(BackendError::Unknown)?;
        match call {
            Call::Issue { count, amount } => self.issue(effect.purse, count, amount),
            Call::Redeem { seq } => self.take(effect.purse, seq, Holder::Payee),
            Call::Reclaim { seq } => self.take(effect.purse, seq, Holder::PayerAgain),
            Call::ReclaimAll => {
                let of_purse = self
                    .tokens
                    .keys()
                    .filter(|(purse, _)| *purse == effect.purse);
                let seqs: Vec<Seq> = of_purse.map(|(_, seq)| *seq).collect();
                let mut back = Msat::ZERO;
                for seq in seqs {
                    if self.take(effect.purse, seq, Holder::PayerAgain)?.first() == Some(&1) {
                        let token = self.tokens.get(&(effect.purse, seq));
                        back = back
                            .saturating_plus(token.map(|token| token.amount).unwrap_or_default());
                    }
                }
                Ok(Bytes::copy_from_slice(&back.msat().to_be_bytes()))
            }
        }
    }

    /// Spends a token behind everybody's back, as a thief or a lying payee would.
    pub fn steal(&mut self, purse: PurseKey, seq: Seq) {
        let _ = self.take(purse, seq, Holder::Payee);
    }

    fn issue(&mut self, purse: PurseKey, count: u64, amount: Msat) -> Result<Bytes, BackendError> {
        if !self.tokens.contains_key(&(purse, Seq(1))) {
            let affordable = self
                .payer
                .msat()
                .checked_div(amount.msat())
                .unwrap_or_default();
            let count = count.min(affordable);
            if count == 0 {
                return Err(BackendError::Fatal(RefusalCode::InsufficientFunds));
            }
            let cost = amount.times(count).map_err(|_| BackendError::Unknown)?;
            self.payer = self.payer.saturating_minus(cost);
            for seq in 1..=count {
                self.tokens.insert(
                    (purse, Seq(seq)),
                    Token {
                        amount,
                        holder: Holder::Bearer,
                    },
                );
            }
        }
        let issued = self.tokens.keys().filter(|(of, _)| *of == purse).count();
        Ok(Bytes::copy_from_slice(
            &u64::try_from(issued).unwrap_or(0).to_be_bytes(),
        ))
    }

    fn take(&mut self, purse: PurseKey, seq: Seq, to: Holder) -> Result<Bytes, BackendError> {
        let Some(token) = self.tokens.get_mut(&(purse, seq)) else {
            return Ok(Bytes::from_static(&[0]));
        };
        if token.holder == Holder::Bearer {
            token.holder = to;
            let wallet = if to == Holder::Payee {
                &mut self.payee
            } else {
                &mut self.payer
            };
            *wallet = wallet.saturating_plus(token.amount);
        }
        Ok(Bytes::copy_from_slice(&[u8::from(token.holder == to)]))
    }
}

#[derive(Clone, Copy)]
enum Call {
    Issue { count: u64, amount: Msat },
    Redeem { seq: Seq },
    Reclaim { seq: Seq },
    ReclaimAll,
}

impl Call {
    fn to_bytes(self) -> Bytes {
        let (kind, a, b) = match self {
            Self::Issue { count, amount } => (1, count, amount.msat()),
            Self::Redeem { seq } => (2, seq.0, 0),
            Self::Reclaim { seq } => (3, seq.0, 0),
            Self::ReclaimAll => (4, 0, 0),
        };
        [&[kind][..], &u64::to_be_bytes(a), &u64::to_be_bytes(b)]
            .concat()
            .into()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, a, b) = (bytes.first()?, read_u64(bytes, 1)?, read_u64(bytes, 9)?);
        Some(match kind {
            1 => Self::Issue {
                count: a,
                amount: Msat::new(b).ok()?,
            },
            2 => Self::Redeem { seq: Seq(a) },
            3 => Self::Reclaim { seq: Seq(a) },
            4 => Self::ReclaimAll,
            _ => return None,
        })
    }
}

/// The machine of the fake method, for either side. Its name in terms is `fake`.
#[derive(Debug, Default)]
pub struct FakeBackend {
    purses: BTreeMap<PurseKey, BTreeMap<RequestId, Effect>>,
    ticks: BTreeMap<PurseKey, Msat>,
}

impl FakeBackend {
    /// The method's name.
    pub const METHOD: &'static str = "fake";

    fn effect(&mut self, purse: PurseKey, id: RequestId, call: Call) -> Answer {
        let effect = Effect {
            purse,
            id: EffectId(id.0),
            body: call.to_bytes(),
        };
        self.purses
            .entry(purse)
            .or_default()
            .insert(id, effect.clone());
        let mut answer = Answer::default();
        answer.delta.put(id.0.to_be_bytes(), effect.body.to_vec());
        answer.effects.push(effect);
        answer
    }

    fn receive(
        &mut self,
        purse: PurseKey,
        id: RequestId,
        seq: Seq,
        amount: Msat,
        payload: &[u8],
    ) -> Answer {
        let refused = |code| Answer::failed(BackendError::Rejected(code, Consumed::No));
        if payload.get(..32) != Some(purse.session.0.as_slice())
            || payload.get(32..36) != Some(purse.purse.0.to_be_bytes().as_slice())
        {
            return refused(RefusalCode::WrongSession);
        }
        match (read_u64(payload, 36), read_u64(payload, 44)) {
            (Some(of), Some(worth)) if of == seq.0 && worth == amount.msat() => {
                self.effect(purse, id, Call::Redeem { seq })
            }
            (Some(_), Some(_)) => refused(RefusalCode::WrongAmount),
            _ => refused(RefusalCode::Malformed),
        }
    }
}

impl BackendMachine for FakeBackend {
    fn method(&self) -> &'static str {
        Self::METHOD
    }

    fn request(&mut self, _: Now, purse: PurseKey, id: RequestId, request: Request) -> Answer {
        match request {
            Request::Open { offer, budget, .. } => {
                let fits = budget
                    .msat()
                    .checked_div(offer.tick.msat())
                    .unwrap_or_default();
                let count = fits.min(TOKENS_MAX);
                self.ticks.insert(purse, offer.tick);
                self.effect(
                    purse,
                    id,
                    Call::Issue {
                        count,
                        amount: offer.tick,
                    },
                )
            }
            Request::Pay { seq, amount, .. } => {
                let payload = [
                    &purse.session.0[..],
                    &purse.purse.0.to_be_bytes(),
                    &seq.0.to_be_bytes(),
                    &amount.msat().to_be_bytes(),
                ];
                Answer::outcome(Outcome::Paid {
                    payload: payload.concat().into(),
                })
            }
            Request::Acked { .. } => Answer::default(),
            Request::Reclaim { seq } => self.effect(purse, id, Call::Reclaim { seq }),
            Request::Release => self.effect(purse, id, Call::ReclaimAll),
            Request::Accept { opening, .. } => {
                let capacity = read_u64(&opening, 0).and_then(|msat| Msat::new(msat).ok());
                Answer::outcome(match capacity {
                    Some(capacity) => Outcome::Accepted { capacity },
                    None => Outcome::Failed(BackendError::Fatal(RefusalCode::Malformed)),
                })
            }
            Request::Receive {
                seq,
                amount,
                payload,
                ..
            } => self.receive(purse, id, seq, amount, &payload),
            Request::Settle => Answer::outcome(Outcome::Settled {
                settled: Msat::ZERO,
            }),
        }
    }

    fn effect_done(&mut self, _: Now, result: EffectResult) -> Answer {
        let id = RequestId(result.id.0);
        let Some(effect) = self
            .purses
            .get(&result.purse)
            .and_then(|purse| purse.get(&id))
        else {
            return Answer::default();
        };
        let Some(call) = Call::from_bytes(&effect.body) else {
            return Answer::default();
        };
        let bytes = match result.result {
            Ok(bytes) => bytes,
            Err(error) => return Answer::failed(error),
        };
        let outcome = outcome_of(call, &bytes);
        if let Some(purse) = self.purses.get_mut(&result.purse) {
            purse.remove(&id);
        }
        let mut answer = Answer::outcome(outcome);
        answer.delta.remove(id.0.to_be_bytes());
        answer
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, _: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        let mut answer = Answer::default();
        for (key, body) in records {
            let Some(id) = read_u64(&key, 0) else {
                continue;
            };
            let effect = Effect {
                purse,
                id: EffectId(id),
                body: body.into(),
            };
            self.purses
                .entry(purse)
                .or_default()
                .insert(RequestId(id), effect.clone());
            answer.effects.push(effect);
        }
        answer
    }
}

fn outcome_of(call: Call, bytes: &[u8]) -> Outcome {
    let yes = bytes.first() == Some(&1);
    let amount = read_u64(bytes, 0)
        .and_then(|value| Msat::new(value).ok())
        .unwrap_or_default();
    match call {
        Call::Issue { amount: tick, .. } => {
            let capacity = tick.times(amount.msat()).unwrap_or_default();
            let opening = Bytes::copy_from_slice(&capacity.msat().to_be_bytes());
            Outcome::Opened {
                opening,
                capacity,
                cost: capacity,
            }
        }
        Call::Redeem { .. } if yes => Outcome::Credited,
        Call::Redeem { .. } => Outcome::Failed(BackendError::Rejected(
            RefusalCode::AlreadySpent,
            Consumed::Yes,
        )),
        Call::Reclaim { .. } if yes => Outcome::Reclaimed,
        Call::Reclaim { .. } => Outcome::Spent,
        Call::ReclaimAll => Outcome::Released { refunded: amount },
    }
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}
