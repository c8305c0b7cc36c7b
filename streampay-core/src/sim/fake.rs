//! Backends whose money is numbers, which do what real ones may do: a payment, or an opening, that
//! needs the mint first; silence to a request whose call is under way; a release that answers for
//! a reclaim; payments that stay out when they were refused.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::mint::{Call, read_u64};
use crate::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Opened, Outcome,
    RefusalCode, Request, RestoredPurse,
};
use crate::units::{EffectId, Msat, Now, PurseId, PurseKey, RequestId, Seq};

/// Tokens a purse: few, so that runs open several.
const TOKENS_MAX: u64 = 8;
/// How long such a purse is usable, in seconds: with pauses, shorter than its tokens last.
const LIFE_S: u64 = 15;
/// Steps a purse of the other method.
const STEPS_MAX: u64 = 12;
/// A step of it, in millisatoshi: no whole part of a tick.
const STEP_MSAT: u64 = 300;

/// The machine of a fake method, for either side.
#[derive(Debug)]
pub struct FakeBackend {
    method: &'static str,
    /// What a tick is rounded up to.
    quantum: Msat,
    /// The most ticks of a purse.
    ticks_max: u64,
    /// How long a purse is usable, in seconds.
    life_s: Option<u64>,
    /// Payments and openings that need the mint first, now and then.
    asks_mint: bool,
    /// A token is of a sum, not of a number, and what was shown cannot be taken back.
    stays_out: bool,
    calls: BTreeMap<(PurseKey, RequestId), Pending>,
    /// Purses that come home as soon as their opening has ended.
    called_off: BTreeMap<PurseKey, RequestId>,
    /// What it was told of acknowledged ticks, since it was made.
    #[cfg(test)]
    pub(super) told: Vec<(PurseKey, Seq)>,
    /// What it was told to settle, since it was made.
    #[cfg(test)]
    pub(super) settled: Vec<(PurseKey, Msat)>,
    /// It can settle nothing.
    #[cfg(test)]
    pub(super) fails_to_settle: bool,
}

/// The method [`FakeBackend::METHOD`]: whole satoshi, purses that grow old, and a mint that is
/// asked for much.
impl Default for FakeBackend {
    fn default() -> Self {
        Self {
            method: Self::METHOD,
            quantum: Msat::from_sat(1).unwrap_or_default(),
            ticks_max: TOKENS_MAX,
            life_s: Some(LIFE_S),
            asks_mint: true,
            stays_out: false,
            calls: BTreeMap::new(),
            called_off: BTreeMap::new(),
            #[cfg(test)]
            told: Vec::new(),
            #[cfg(test)]
            settled: Vec::new(),
            #[cfg(test)]
            fails_to_settle: false,
        }
    }
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
    /// The other method's name.
    pub const STEPS: &'static str = "fake-steps";

    /// The method [`FakeBackend::STEPS`]: payments in steps of 300 msat that need no mint and stay out.
    #[must_use]
    pub fn steps() -> Self {
        Self {
            method: Self::STEPS,
            quantum: Msat::new(STEP_MSAT).unwrap_or_default(),
            ticks_max: STEPS_MAX,
            life_s: None,
            asks_mint: false,
            stays_out: true,
            calls: BTreeMap::new(),
            called_off: BTreeMap::new(),
            #[cfg(test)]
            told: Vec::new(),
            #[cfg(test)]
            settled: Vec::new(),
            #[cfg(test)]
            fails_to_settle: false,
        }
    }

    /// What one payment of this method is where the terms say `tick`.
    pub(super) fn step(&self, tick: Msat) -> Msat {
        tick.round_up_to(self.quantum).unwrap_or(Msat::MAX)
    }

    /// Which of the purse's tokens pays this tick.
    fn token(&self, seq: Seq, amount: Msat, cumulative: Msat) -> Seq {
        match cumulative.msat().checked_div(amount.msat()) {
            Some(number) if self.stays_out => Seq(number),
            _ => seq,
        }
    }

    /// A call that failed for good is forgotten: after a restart it must not run again.
    fn failed(&mut self, purse: PurseKey, id: RequestId, error: BackendError) -> Answer {
        let mut answer = Answer::failed(error);
        if matches!(error, BackendError::Fatal(_) | BackendError::Rejected(..)) {
            self.calls.remove(&(purse, id));
            answer.delta.remove(id.0.to_be_bytes());
        }
        answer
    }

    fn outcome_of(&self, now: Now, purse: PurseKey, call: Call, bytes: &[u8]) -> Outcome {
        let quantum = self.quantum;
        match call {
            Call::Issue { amount: step, .. } => {
                let issued = read_u64(bytes, 0).unwrap_or_default();
                let capacity = step.times(issued).unwrap_or_default();
                Outcome::Opened(Opened {
                    opening: Bytes::copy_from_slice(&capacity.msat().to_be_bytes()),
                    capacity,
                    cost: capacity,
                    quantum,
                    usable_until: self.life_s.map(|life_s| now.unix.after_s(life_s)),
                })
            }
            Call::Accept { capacity } => Outcome::Accepted { capacity, quantum },
            call => outcome_of(purse, call, bytes),
        }
    }

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

    /// Takes back all that is left; a reclaim under way gets no answer of its own, an opening under
    /// way is waited for.
    fn release(&mut self, purse: PurseKey, id: RequestId) -> Answer {
        let own = self.calls.iter().filter(|((of, _), _)| *of == purse);
        let (mut swallowed, mut opening) = (Vec::new(), false);
        for ((_, id), pending) in own {
            match Call::from_bytes(&pending.effect.body) {
                Some(Call::Reclaim { .. }) => swallowed.push(*id),
                Some(Call::Issue { .. }) => {
                    swallowed.push(*id);
                    opening |= pending.running;
                }
                _ => {}
            }
        }
        if opening {
            self.called_off.insert(purse, id);
            return Answer::default();
        }
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
        self.method
    }

    fn request(&mut self, _: Now, purse: PurseKey, id: RequestId, request: Request) -> Answer {
        match request {
            Request::Open { offer, budget, .. } => {
                let amount = self.step(offer.tick);
                let fits = budget.msat().checked_div(amount.msat()).unwrap_or_default();
                let count = fits.min(self.ticks_max);
                self.effect(purse, id, Call::Issue { count, amount })
            }
            // Every third payment must be made at the mint first.
            Request::Pay { seq, amount, .. } if self.asks_mint && seq.0 % 3 == 0 => {
                self.effect(purse, id, Call::Make { seq, amount })
            }
            Request::Pay {
                seq,
                amount,
                cumulative,
            } => Answer::outcome(paid(purse, self.token(seq, amount, cumulative), amount)),
            #[cfg(test)]
            Request::Acked { seq, .. } => {
                self.told.push((purse, seq));
                Answer::default()
            }
            #[cfg(not(test))]
            Request::Acked { .. } => Answer::default(),
            Request::Note { .. } => Answer::default(),
            Request::Reclaim { .. } if self.stays_out => Answer::outcome(Outcome::Outstanding),
            Request::Reclaim { seq } => self.effect(purse, id, Call::Reclaim { seq }),
            Request::Release => self.release(purse, id),
            Request::Accept { opening, .. } => {
                let capacity = read_u64(&opening, 0).and_then(|msat| Msat::new(msat).ok());
                match capacity {
                    // Every other opening must be checked at the mint.
                    Some(capacity) if self.asks_mint && purse.purse != PurseId(0) => {
                        self.effect(purse, id, Call::Accept { capacity })
                    }
                    Some(capacity) => {
                        let quantum = self.quantum;
                        Answer::outcome(Outcome::Accepted { capacity, quantum })
                    }
                    None => Answer::failed(BackendError::Fatal(RefusalCode::Malformed)),
                }
            }
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => {
                let token = self.token(seq, amount, cumulative);
                self.receive(purse, id, token, amount, &payload)
            }
            // Each payment came by itself: nothing is left to bring home.
            Request::Settle {
                #[cfg(test)]
                cumulative,
                ..
            } => {
                #[cfg(test)]
                if self.fails_to_settle {
                    return Answer::failed(BackendError::Fatal(RefusalCode::Other));
                }
                #[cfg(test)]
                self.settled.push((purse, cumulative));
                Answer::outcome(Outcome::Settled {
                    settled: Msat::ZERO,
                })
            }
        }
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        let id = RequestId(result.id.0);
        let Some(pending) = self.calls.get_mut(&(result.purse, id)) else {
            return Answer::default();
        };
        pending.running = false;
        let Some(call) = Call::from_bytes(&pending.effect.body) else {
            return Answer::default();
        };
        let called_off = self.called_off.remove(&result.purse);
        let unsure = matches!(
            result.result,
            Err(BackendError::Transient | BackendError::Unknown)
        );
        if let Some(release) = called_off.filter(|_| !unsure) {
            return self.release(result.purse, release);
        }
        let bytes = match result.result {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(result.purse, id, error),
        };
        self.calls.remove(&(result.purse, id));
        let mut answer = Answer::outcome(self.outcome_of(now, result.purse, call, &bytes));
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
        Call::Make { seq, amount } => paid(purse, seq, amount),
        Call::Redeem { .. } if yes => Outcome::Credited,
        Call::Redeem { .. } => Outcome::Failed(BackendError::Rejected(
            RefusalCode::AlreadySpent,
            Consumed::Yes,
        )),
        Call::Reclaim { .. } if yes => Outcome::Reclaimed,
        Call::Reclaim { .. } => Outcome::Spent,
        Call::ReclaimAll => Outcome::Released { refunded: amount },
        Call::Issue { .. } | Call::Accept { .. } => Outcome::Failed(BackendError::Unknown),
    }
}
