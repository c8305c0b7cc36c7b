//! A backend whose money is numbers. It does what a real one may do: a payment, or an opening, that
//! needs the mint first; silence to a request whose call is under way; a release that answers for
//! a reclaim.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::mint::{Call, read_u64};
use crate::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Outcome, RefusalCode,
    Request, RestoredPurse,
};
use crate::units::{EffectId, Msat, Now, PurseId, PurseKey, RequestId, Seq};

/// Tokens a purse: few, so that runs open several.
const TOKENS_MAX: u64 = 8;

/// The machine of the fake method, for either side. Its name in terms is `fake`.
#[derive(Debug, Default)]
pub struct FakeBackend {
    calls: BTreeMap<(PurseKey, RequestId), Pending>,
}

/// A call that has no result yet.
#[derive(Debug)]
struct Pending {
    effect: Effect,
    running: bool,
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
        let mut answer = Answer::default();
        let known = self.calls.get(&(purse, id));
        if known.is_some_and(|pending| pending.running) {
            return answer;
        }
        let pending = Pending {
            effect: effect.clone(),
            running: true,
        };
        self.calls.insert((purse, id), pending);
        answer.delta.put(id.0.to_be_bytes(), effect.body.to_vec());
        answer.effects.push(effect);
        answer
    }

    /// Takes back all that is left; a reclaim under way gets no answer of its own.
    fn release(&mut self, purse: PurseKey, id: RequestId) -> Answer {
        let reclaims = self.calls.iter().filter(|((of, _), pending)| {
            let call = Call::from_bytes(&pending.effect.body);
            *of == purse && matches!(call, Some(Call::Reclaim { .. }))
        });
        let swallowed = reclaims.map(|((_, id), _)| *id).collect::<Vec<_>>();
        let mut answer = self.effect(purse, id, Call::ReclaimAll);
        for id in swallowed {
            self.calls.remove(&(purse, id));
            answer.delta.remove(id.0.to_be_bytes());
        }
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
                let (count, amount) = (fits.min(TOKENS_MAX), offer.tick);
                self.effect(purse, id, Call::Issue { count, amount })
            }
            // Every third payment must be made at the mint first.
            Request::Pay { seq, amount, .. } if seq.0 % 3 == 0 => {
                self.effect(purse, id, Call::Make { seq, amount })
            }
            Request::Pay { seq, amount, .. } => Answer::outcome(paid(purse, seq, amount)),
            Request::Acked { .. } => Answer::default(),
            Request::Reclaim { seq } => self.effect(purse, id, Call::Reclaim { seq }),
            Request::Release => self.release(purse, id),
            Request::Accept { opening, .. } => {
                let capacity = read_u64(&opening, 0).and_then(|msat| Msat::new(msat).ok());
                match capacity {
                    // Every other opening must be checked at the mint.
                    Some(capacity) if purse.purse != PurseId(0) => {
                        self.effect(purse, id, Call::Accept { capacity })
                    }
                    Some(capacity) => Answer::outcome(Outcome::Accepted { capacity }),
                    None => Answer::failed(BackendError::Fatal(RefusalCode::Malformed)),
                }
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
        let Some(pending) = self.calls.get_mut(&(result.purse, id)) else {
            return Answer::default();
        };
        pending.running = false;
        let Some(call) = Call::from_bytes(&pending.effect.body) else {
            return Answer::default();
        };
        let bytes = match result.result {
            Ok(bytes) => bytes,
            Err(error) => return Answer::failed(error),
        };
        self.calls.remove(&(result.purse, id));
        let mut answer = Answer::outcome(outcome_of(result.purse, call, &bytes));
        answer.delta.remove(id.0.to_be_bytes());
        answer
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn forget(&mut self, purse: PurseKey) {
        self.calls.retain(|(of, _), _| *of != purse);
    }

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
            let pending = Pending {
                effect: effect.clone(),
                running: true,
            };
            self.calls.insert((purse, RequestId(id)), pending);
            answer.effects.push(effect);
        }
        answer
    }
}

fn paid(purse: PurseKey, seq: Seq, amount: Msat) -> Outcome {
    let payload = [
        &purse.session.0[..],
        &purse.purse.0.to_be_bytes(),
        &seq.0.to_be_bytes(),
        &amount.msat().to_be_bytes(),
    ];
    Outcome::Paid {
        payload: payload.concat().into(),
    }
}

fn outcome_of(purse: PurseKey, call: Call, bytes: &[u8]) -> Outcome {
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
        Call::Make { seq, amount } => paid(purse, seq, amount),
        Call::Accept { capacity } => Outcome::Accepted { capacity },
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
