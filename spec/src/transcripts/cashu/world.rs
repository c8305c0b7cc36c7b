//! A payer's and a payee's machine, the mint between them, and what each is told and does.

mod acts;

use std::collections::VecDeque;

use serde_json::Value;
use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::transcript::{Call, Mint, MintKeys};
use streampay_cashu::{LockedMachine, SwapMachine};
use streampay_core::units::{PurseId, PurseKey};

use crate::adapter::Adapter;
use crate::conformance::{InProcess, Subject, Trouble};
use crate::json::{Fields, Object, int, unhex};
use crate::peer::Played;
use crate::people::{key, session};

/// Whose machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Payer,
    Payee,
}

/// A method as a scene wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub(super) method: &'static str,
    /// The mint's fee for an input, in thousandths of a sat.
    pub(super) ppk: u64,
    /// The price of the mint's ecash, in thousandths.
    pub(super) price: u64,
    /// The most of a purse, in sat.
    pub(super) most: Option<u64>,
    /// The most steps that the payer puts into a purse.
    pub(super) steps: u64,
    /// How many credited steps make the payee redeem.
    pub(super) redeem: u64,
}

/// Four steps of 10 sat, at a mint without a fee.
pub(super) const CHAIN: Cast = Cast {
    method: LockedMachine::CHAIN,
    ppk: 0,
    price: 1_000,
    most: None,
    steps: 4,
    redeem: 64,
};

/// One tick, in satoshi, and how long a purse is locked, in seconds.
pub(super) const TICK: u64 = 10;
pub(super) const LOCK_S: u64 = 14_400;
pub(super) const MARGIN_S: u64 = 1_800;
/// By how much the mint's clock is ahead of the sides', in seconds.
pub(super) const AHEAD_S: u64 = 5;
/// The secret bytes of the payee's long-lived key.
const ROOT: [u8; 32] = [9; 32];

/// One side.
struct Side {
    subject: InProcess,
    outputs: Vec<Value>,
    /// The last outcome since the last request.
    outcome: Option<Value>,
    /// What is to be done: purse, effect, call.
    pending: VecDeque<(u32, String, Call)>,
    notes: Vec<(u32, Vec<u8>)>,
    steps: Vec<Value>,
}

/// Both sides and the mint.
pub(super) struct World {
    cast: Cast,
    payer: Side,
    payee: Side,
    pub(super) mint: Mint,
    mono_ms: u64,
    unix_s: u64,
}

fn key_error(_: streampay_core::session::BadKey) -> String {
    "a fixed key is none".into()
}

impl World {
    pub(super) fn new(cast: Cast) -> Played<Self> {
        let root = ReceiverKey::from_bytes(&ROOT).ok_or("a fixed key is none")?;
        let public = |name| key(name).map(|key| key.public()).map_err(key_error);
        let keys = MintKeys {
            root,
            payer: public("payer-session")?,
            payee: public("payee-session")?,
        };
        let is_locked = cast.method != SwapMachine::METHOD;
        let side = || Side {
            subject: InProcess::new(Adapter::default()),
            outputs: Vec::new(),
            outcome: None,
            pending: VecDeque::new(),
            notes: Vec::new(),
            steps: Vec::new(),
        };
        let mut world = Self {
            cast,
            payer: side(),
            payee: side(),
            mint: Mint::new(is_locked, cast.ppk, keys),
            mono_ms: 1_000,
            unix_s: 1_800_000_000,
        };
        world.later(0);
        for who in [Who::Payer, Who::Payee] {
            let config = Object::new()
                .with("method", cast.method)
                .hex("session", &session().0)
                .int("steps_max", cast.steps)
                .int("redeem_steps", cast.redeem);
            let config = match who {
                Who::Payee if is_locked => config.hex("receiver", &ROOT),
                _ => config,
            };
            let create = Object::new().with("role", "cashu").with("config", config);
            world.step(who, Object::new().with("create", create), None)?;
        }
        Ok(world)
    }

    /// The steps of a side; none where nothing happened there.
    pub(super) fn into_steps(self) -> [(Who, Vec<Value>); 2] {
        [
            (Who::Payer, self.payer.steps),
            (Who::Payee, self.payee.steps),
        ]
    }

    const fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Payer => &mut self.payer,
            Who::Payee => &mut self.payee,
        }
    }

    /// Time passes, everywhere alike.
    pub(super) const fn later(&mut self, seconds: u64) {
        self.mono_ms = self.mono_ms.saturating_add(seconds.saturating_mul(1_000));
        self.unix_s = self.unix_s.saturating_add(seconds);
        self.mint.set_time(self.unix_s.saturating_add(AHEAD_S));
    }

    /// Gives a side an input; with `take`, its process dies after so many outputs.
    pub(super) fn step(&mut self, who: Who, input: Object, take: Option<u64>) -> Played {
        let now = Object::new()
            .int("mono_ms", self.mono_ms)
            .int("unix_s", self.unix_s)
            .done();
        let input = input.done();
        let request = Object::new()
            .with("cmd", "step")
            .with("now", now.clone())
            .with("input", input.clone())
            .maybe("take", take.map(int));
        let side = self.side(who);
        let answer = side.subject.ask(request);
        let answer = answer.map_err(|trouble: Trouble| format!("{trouble} for {input}"))?;
        let fields = Fields::new(&answer);
        if let Ok(misuse) = fields.text("misuse") {
            return Err(format!("the step is misuse: {misuse}"));
        }
        let outputs = fields.list("outputs").map_err(|bad| bad.to_string())?;
        side.outputs.clone_from(outputs);
        if take.is_some() {
            side.pending.clear();
        }
        let step = Object::new()
            .with("now", now)
            .with("input", input)
            .maybe("take", take.map(int))
            .with("outputs", outputs.clone())
            .maybe("state", fields.opt("state").cloned());
        side.steps.push(step.done());
        side.look()
    }

    /// Asks a side's machine for something.
    pub(super) fn ask(&mut self, who: Who, purse: u32, name: &str, fields: Object) -> Played {
        self.ask_taking(who, purse, (name, fields), None)
    }

    pub(super) fn ask_taking(
        &mut self,
        who: Who,
        purse: u32,
        (name, fields): (&str, Object),
        take: Option<u64>,
    ) -> Played {
        self.side(who).outcome = None;
        let request = Object::new().int("purse", purse).with(name, fields);
        self.step(who, Object::new().with("request", request), take)
    }

    /// Does whatever a side wants done, until it wants nothing more.
    pub(super) fn run(&mut self, who: Who) -> Played {
        while self.one(who, None)? {}
        Ok(())
    }

    /// Does the first thing that a side wants done; false where there is none. With `take`, its
    /// process dies after so many outputs.
    pub(super) fn one(&mut self, who: Who, take: Option<u64>) -> Played<bool> {
        let Some((purse, id, call)) = self.side(who).pending.pop_front() else {
            return Ok(false);
        };
        let called = self.at_mint(who, purse, &call)?;
        let called = serde_json::to_value(called).map_err(|error| error.to_string())?;
        let done = Object::new().int("purse", purse).with("id", id);
        let done = (called.as_object().into_iter().flatten())
            .fold(done, |done, (name, value)| done.with(name, value.clone()));
        self.step(who, Object::new().with("done", done), take)?;
        Ok(true)
    }

    fn at_mint(
        &mut self,
        who: Who,
        purse: u32,
        call: &Call,
    ) -> Played<streampay_cashu::transcript::Called> {
        let key = PurseKey {
            session: session(),
            purse: PurseId(purse),
        };
        self.mint.answer(key, who == Who::Payer, call)
    }

    /// The first thing that a side wants done fails. Where it `acts`, the mint does it all the same.
    pub(super) fn fail(&mut self, who: Who, failure: Object, acts: bool) -> Played {
        let first = self.side(who).pending.pop_front();
        let (purse, id, call) = first.ok_or("it must want something done")?;
        if acts {
            self.at_mint(who, purse, &call)?;
        }
        let done = Object::new().int("purse", purse).with("id", id);
        let done = done.with("failed", failure);
        self.step(who, Object::new().with("done", done), None)
    }

    /// The first thing that a side wants done ends so, whatever the mint says.
    pub(super) fn end(&mut self, who: Who, name: &str, called: Object) -> Played {
        let first = self.side(who).pending.pop_front();
        let (purse, id, _) = first.ok_or("it must want something done")?;
        let done = Object::new().int("purse", purse).with("id", id);
        let done = done.with(name, called);
        self.step(who, Object::new().with("done", done), None)
    }

    /// The mint does what a side wants done first, and the process dies before it hears of it.
    pub(super) fn acts_unheard(&mut self, who: Who) -> Played {
        let first = self.side(who).pending.pop_front();
        let (purse, _, call) = first.ok_or("it must want something done")?;
        self.at_mint(who, purse, &call)?;
        self.side(who).pending.clear();
        Ok(())
    }

    /// The process begins anew.
    pub(super) fn restart(&mut self, who: Who) -> Played {
        let side = self.side(who);
        side.pending.clear();
        side.outcome = None;
        self.step(who, Object::new().with("restart", Object::new()), None)
    }

    /// A side is told that it is time.
    pub(super) fn wake(&mut self, who: Who, purse: u32) -> Played {
        let wake = Object::new().int("purse", purse);
        self.step(who, Object::new().with("wake", wake), None)
    }

    /// The last outcome since the last request, by its name.
    pub(super) fn outcome(&mut self, who: Who, name: &str) -> Played<Value> {
        let outcome = self.side(who).outcome.clone().unwrap_or_default();
        let found = outcome.get(name).cloned();
        found.ok_or_else(|| format!("{who:?} must say `{name}`, says {outcome}"))
    }

    /// The last outcome must be a failure of this kind and, where it has one, this code.
    pub(super) fn must_fail(&mut self, who: Who, kind: &str, code: Option<u64>) -> Played {
        let failed = self.outcome(who, "failed")?;
        let found = failed.pointer(&format!("/{kind}/code"));
        let found = found.and_then(crate::json::as_int);
        match failed.get(kind) {
            Some(_) if found == code => Ok(()),
            _ => Err(format!("{who:?} must fail {kind} {code:?}, fails {failed}")),
        }
    }

    pub(super) fn wants(&mut self, who: Who) -> Option<Call> {
        let first = self.side(who).pending.front();
        first.map(|(_, _, call)| call.clone())
    }

    /// The notes that a side left since they were last asked for.
    pub(super) fn notes(&mut self, who: Who) -> Vec<(u32, Vec<u8>)> {
        core::mem::take(&mut self.side(who).notes)
    }
}

/// What must be equal in a scene.
pub(super) fn must_be<T: PartialEq + core::fmt::Debug>(what: &str, is: T, must: T) -> Played {
    if is == must {
        Ok(())
    } else {
        Err(format!("{what} must be {must:?}, is {is:?}"))
    }
}

impl Side {
    /// What it wants done, says and leaves.
    fn look(&mut self) -> Played {
        for output in &self.outputs {
            if let Some(effect) = output.get("effect") {
                let fields = Fields::new(effect);
                let (purse, id) = (fields.int("purse"), fields.text("id"));
                let (purse, id) = purse
                    .and_then(|purse| Ok((purse, id?)))
                    .map_err(|bad| bad.to_string())?;
                let call: Result<Call, _> =
                    serde_json::from_value(fields.without(&["purse", "id"]));
                let call = call.map_err(|error| error.to_string())?;
                self.pending.push_back((purse, id.into(), call));
            }
            if let Some(outcome) = output.get("outcome") {
                self.outcome = Some(outcome.clone());
            }
            if let Some(note) = output.get("note") {
                let fields = Fields::new(note);
                let bytes = fields.text("bytes").ok().and_then(unhex);
                let purse = fields.int("purse").map_err(|bad| bad.to_string())?;
                self.notes.push((purse, bytes.ok_or("a note of bytes")?));
            }
        }
        Ok(())
    }
}
