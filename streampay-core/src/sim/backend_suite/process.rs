//! One side's process: a machine, its records, and a session that asks for the next thing until
//! there is an answer.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::BackendWorld;
use crate::backend::{
    Answer, BackendError, BackendMachine, Effect, EffectResult, Outcome, Request, RestoredPurse,
};
use crate::session::Role;
use crate::store::{ChangeSet, MemoryStore, Store, node_prefix, purse_prefix};
use crate::units::{PurseId, PurseKey, RequestId, SessionId};

/// So often the same is asked again before the method counts as stuck.
const ROUNDS_MAX: u32 = 16;

/// The purse that is tried.
pub(super) const PURSE: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(0),
};

/// What becomes of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Each is made once and answered once.
    Sound,
    /// Each is made twice, and both answers come.
    Twice,
    /// Each acts, and its answer is lost the first time.
    AnswerLost,
    /// The first time each does not reach anybody.
    Away,
}

/// Where the process dies: at the n-th boundary between two steps, counted down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash(pub(super) Option<u32>);

struct Died;

impl Crash {
    fn boundary(&mut self) -> Result<(), Died> {
        match self.0 {
            Some(0) => {
                self.0 = None;
                Err(Died)
            }
            left => {
                self.0 = left.map(|left| left.saturating_sub(1));
                Ok(())
            }
        }
    }
}

pub(super) struct Process {
    pub(super) role: Role,
    machine: Box<dyn BackendMachine>,
    store: MemoryStore,
    next_request: u64,
    pub(super) calls: Calls,
    /// Calls that went wrong once.
    troubled: Vec<(u64, Bytes)>,
    pub(super) crash: Crash,
    /// Notes for the other side, the newest last.
    pub(super) notes: VecDeque<Bytes>,
}

impl Process {
    pub(super) fn start(world: &mut impl BackendWorld, role: Role) -> Self {
        let machine = world.machine(role);
        let mut process = Self {
            role,
            machine,
            store: MemoryStore::new(),
            next_request: 0,
            calls: Calls::Sound,
            troubled: Vec::new(),
            crash: Crash(None),
            notes: VecDeque::new(),
        };
        process.machine.restore_node(RestoredPurse::new());
        process
    }

    pub(super) fn method(&self) -> &'static str {
        self.machine.method()
    }

    /// A request until it has an outcome that is one. None where the method waits for something
    /// that this process cannot bring about.
    pub(super) fn ask(
        &mut self,
        world: &mut impl BackendWorld,
        request: &Request,
    ) -> Option<Outcome> {
        self.next_request = self.next_request.saturating_add(1);
        let id = RequestId(self.next_request);
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            let answer = self
                .machine
                .request(world.now(), PURSE, id, request.clone());
            match self.work(world, answer) {
                Ok(outcome) if is_unsure(outcome.as_ref()) => last = outcome,
                Ok(outcome) => return outcome,
                Err(Died) => self.restart(world),
            }
        }
        // What is locked comes home when the lock is over: that a machine says by when it is to be woken.
        let later = || self.machine.wake_at(PURSE);
        let waits = *request == Request::Release && later().is_some_and(|at| at > world.now().unix);
        assert!(last.is_none() || waits, "{request:?}: {last:?} for ever");
        None
    }

    /// Takes what a request leads to only so far that its calls are known; they are made later.
    pub(super) fn ask_and_hold(
        &mut self,
        world: &mut impl BackendWorld,
        request: Request,
    ) -> Answer {
        self.next_request = self.next_request.saturating_add(1);
        let id = RequestId(self.next_request);
        let answer = self.machine.request(world.now(), PURSE, id, request);
        self.keep(&answer);
        answer
    }

    /// Makes calls that were held.
    pub(super) fn go_on(
        &mut self,
        world: &mut impl BackendWorld,
        answer: Answer,
    ) -> Option<Outcome> {
        let answer = Answer {
            delta: ChangeSet::new(),
            node_delta: ChangeSet::new(),
            ..answer
        };
        self.work(world, answer).ok().flatten()
    }

    /// Lets time go on to when the machine wants to be told it, if that can be had.
    pub(super) fn wake(&mut self, world: &mut impl BackendWorld) -> Option<Outcome> {
        for _ in 0..ROUNDS_MAX {
            let at = self.machine.wake_at(PURSE)?;
            if world.now().unix < at && !world.pass(at) {
                return None;
            }
            let answer = self.machine.wake(world.now(), PURSE);
            match self.work(world, answer) {
                Ok(None) => {}
                Ok(outcome) if is_unsure(outcome.as_ref()) => {}
                Ok(outcome) => return outcome,
                Err(Died) => self.restart(world),
            }
        }
        None
    }

    /// Dies and starts again: what was only in memory is gone.
    pub(super) fn restart(&mut self, world: &mut impl BackendWorld) {
        self.machine = world.machine(self.role);
        let node = self.records(&node_prefix(self.machine.method()));
        self.machine.restore_node(node);
        self.restore(world);
    }

    /// As after the purse's session was over: the machine is told to forget it, and gets it back.
    pub(super) fn forget_and_restore(&mut self, world: &mut impl BackendWorld) {
        self.machine.forget(PURSE);
        self.restore(world);
    }

    fn restore(&mut self, world: &mut impl BackendWorld) {
        let records = self.records(&purse_prefix(PURSE));
        let answer = self.machine.restore(world.now(), PURSE, records);
        // An outcome is that of a request which the session asks again.
        if self.work(world, answer).is_err() {
            self.restart(world);
        }
    }

    fn records(&self, prefix: &[u8]) -> RestoredPurse {
        let found = self.store.scan(prefix).unwrap_or_default();
        let cut =
            |(key, value): (Vec<u8>, Vec<u8>)| Some((key.strip_prefix(prefix)?.to_vec(), value));
        found.into_iter().filter_map(cut).collect()
    }

    fn keep(&mut self, answer: &Answer) {
        let own = answer.delta.clone().within_purse(PURSE);
        let node = answer.node_delta.clone().within_node(self.machine.method());
        let kept = self.store.append(&[own, node]);
        assert_eq!(kept, Ok(()), "a store in memory");
    }

    /// Both deltas, then the outcome, the note and the calls, as a session does it.
    fn work(
        &mut self,
        world: &mut impl BackendWorld,
        answer: Answer,
    ) -> Result<Option<Outcome>, Died> {
        let (mut outcome, mut next) = (None, answer);
        let mut waiting: VecDeque<Effect> = VecDeque::new();
        loop {
            self.crash.boundary()?;
            self.keep(&next);
            self.crash.boundary()?;
            self.notes.extend(next.note);
            if let Some(ends) = next.outcome {
                let settled = outcome.filter(|before| !is_unsure(Some(before)));
                assert!(settled.is_none(), "two outcomes: {settled:?} and {ends:?}");
                outcome = Some(ends);
            }
            for effect in next.effects {
                assert_eq!(effect.purse, PURSE, "an effect names its purse");
                waiting.push_back(effect);
            }
            let Some(effect) = waiting.pop_front() else {
                return Ok(outcome);
            };
            let result = self.call(world, effect);
            self.crash.boundary()?;
            next = self.machine.effect_done(world.now(), result.clone());
            if self.calls == Calls::Twice && result.result.is_ok() {
                self.keep(&next);
                let again = self.machine.effect_done(world.now(), result);
                assert_eq!(again.outcome, None, "the end of a call, told again");
                self.keep(&again);
                waiting.extend(again.effects);
            }
        }
    }

    fn call(&mut self, world: &mut impl BackendWorld, effect: Effect) -> EffectResult {
        let name = (effect.id.0, effect.body.clone());
        let first = !self.troubled.contains(&name);
        let failed = |error| EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: Err(error),
        };
        if !first || self.calls == Calls::Sound {
            return world.run(self.role, effect);
        }
        self.troubled.push(name);
        match self.calls {
            Calls::Away => failed(BackendError::Transient),
            Calls::AnswerLost => {
                drop(world.run(self.role, effect.clone()));
                failed(BackendError::Unknown)
            }
            Calls::Sound | Calls::Twice => {
                drop(world.run(self.role, effect.clone()));
                world.run(self.role, effect)
            }
        }
    }
}

fn is_unsure(outcome: Option<&Outcome>) -> bool {
    matches!(
        outcome,
        Some(Outcome::Failed(
            BackendError::Transient | BackendError::Unknown
        ))
    )
}
