//! What the mint and the way to it do to calls.

use bytes::Bytes;
use streampay_core::backend::{BackendError, BackendMachine, Effect, EffectResult};
use streampay_core::planted::dangerous_set_restarted;
use streampay_core::session::{BackendEvent, Input};

use super::kinds::Kind;
use super::mint::Call;
use super::world::{Ev, PAYEE, World};

/// How long the mint takes, in milliseconds.
const MINT_MS: u64 = 30;
/// After so long a caller gives up on a mint that is away, in milliseconds.
const AWAY_MS: u64 = 5_000;
/// After so long on one that never answers.
const NEVER_MS: u64 = 60_000;

/// What happens to a slot's next calls.
#[derive(Debug, Default)]
pub(super) struct MintFaults {
    pub(super) away_until: u64,
    pub(super) next: Option<(Kind, u64)>,
    /// It refuses what opens the next purse, when the payee shows it.
    pub(super) refuse_opening: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Away,
    AnswerLost,
    CallLost,
    Refused,
    Twice,
    Wrong,
    Never,
}

/// True where a payee asks whether an opening is good.
fn is_opening(effect: &Effect) -> bool {
    matches!(
        Call::from_bytes(&effect.body),
        Some(Call::Look { what: u64::MAX, .. })
    )
}

impl World {
    /// A machine wants a network call.
    pub(super) fn make_call(&mut self, slot: usize, side: usize, effect: Effect) {
        let (now, mut wait) = (self.now, MINT_MS);
        let node = self.slots[slot].ends[side].node;
        let (life, generation) = (self.nodes[node].life, self.slots[slot].generation);
        let faults = &mut self.slots[slot].faults;
        let mut fate = Fate::Done;
        let mut counted = None;
        let opening = faults.refuse_opening && side == PAYEE && is_opening(&effect);
        faults.refuse_opening &= !opening;
        if opening {
            (fate, counted) = (Fate::Refused, Some(Kind::MintRefused));
        } else if now < faults.away_until {
            (fate, wait) = (Fate::Away, AWAY_MS);
            counted = Some(Kind::MintAway);
        } else if let Some((kind, left)) = faults.next {
            faults.next = (left > 1).then_some((kind, left.saturating_sub(1)));
            counted = Some(kind);
            fate = match kind {
                Kind::AnswerLost => Fate::AnswerLost,
                Kind::CallLost => Fate::CallLost,
                Kind::MintRefused => Fate::Refused,
                Kind::AnswerTwice => Fate::Twice,
                Kind::AnswerWrong => Fate::Wrong,
                Kind::AnswerNever => Fate::Never,
                _ => Fate::Done,
            };
        }
        match counted {
            Some(Kind::AnswerLate) => wait = self.between(1_000, 90_000),
            Some(Kind::AnswerNever) => wait = NEVER_MS,
            // Counted when it is known that it is one that can be refused.
            _ => {}
        }
        if let Some(kind) = counted.filter(|kind| *kind != Kind::MintRefused) {
            self.count(slot, kind);
        }
        let event = Ev::Call {
            slot,
            side,
            life,
            generation,
            effect,
            fate,
        };
        self.after(wait, event);
    }

    /// The call is at the mint.
    pub(super) fn on_call(
        &mut self,
        slot: usize,
        side: usize,
        of: (u32, u32),
        effect: &Effect,
        fate: Fate,
    ) {
        let (now, (life, generation)) = (self.now, of);
        if self.slots[slot].generation != generation {
            return;
        }
        let Some(call) = Call::from_bytes(&effect.body) else {
            return;
        };
        let purse = effect.purse.purse;
        let account = &mut self.slots[slot].account;
        let refused = account.refuse(side, purse, effect.id, call, fate == Fate::Refused);
        let acts = !matches!(fate, Fate::Away | Fate::CallLost | Fate::Wrong);
        let result = match refused {
            Some(error) => Err(error),
            None if acts => account.run(now, purse, call),
            None => Err(BackendError::Transient),
        };
        let result = match fate {
            Fate::AnswerLost | Fate::CallLost | Fate::Never => Err(BackendError::Unknown),
            Fate::Wrong => Ok(Bytes::from_static(b"?!")),
            _ => result,
        };
        if fate == Fate::Refused && refused.is_some() {
            self.count(slot, Kind::MintRefused);
            // What follows is where mistakes are made: the nack, the tick again.
            let repeats = self.switches.repeats && self.one_in(2);
            self.slots[slot].link.repeat = 2 * u64::from(repeats);
        }
        self.log(|| {
            format!(
                "s{slot}.{side} mint {call:?} {fate:?} -> {}",
                result.is_ok()
            )
        });
        let result = EffectResult {
            purse: effect.purse,
            id: effect.id,
            result,
        };
        if fate == Fate::Twice {
            let again = Ev::Answer {
                slot,
                side,
                life,
                generation,
                result: result.clone(),
            };
            let late = if self.one_in(2) {
                self.below(200)
            } else {
                self.below(15_000)
            };
            self.after(late, again);
        }
        self.on_answer(slot, side, of, result);
    }

    /// An answer is back. A process that died since does not hear of it.
    pub(super) fn on_answer(
        &mut self,
        slot: usize,
        side: usize,
        of: (u32, u32),
        result: EffectResult,
    ) {
        let (life, generation) = of;
        let end = &self.slots[slot].ends[side];
        let node = end.node;
        let alive = self.nodes[node].up && self.nodes[node].life == life;
        if !alive || self.slots[slot].generation != generation {
            return;
        }
        let Some(method) = end.methods.get(&result.purse.purse).copied() else {
            return;
        };
        let (now, purse) = (self.clock(node), result.purse);
        dangerous_set_restarted(end.restarted);
        let machines = &mut self.nodes[node].machines;
        let Some(machine) = machines.iter_mut().find(|machine| machine.method == method) else {
            return;
        };
        let answer = machine.effect_done(now, result);
        self.input(slot, side, Input::Backend(BackendEvent { purse, answer }));
    }
}
