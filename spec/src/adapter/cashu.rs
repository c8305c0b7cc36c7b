//! The machine of one Cashu method, its durable records, and the process that may die at any
//! output.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::transcript::{Call, Called, state};
use streampay_cashu::{LockedMachine, LockedPolicy, SwapMachine, SwapPolicy};
use streampay_core::backend::{Answer, BackendMachine, EffectResult};
use streampay_core::store::ChangeSet;
use streampay_core::units::{EffectId, Now, PurseId, PurseKey, RequestId, SessionId};

use super::Answered;
use super::asked::{outcome_to_json, request_from_json};
use super::input::failure;
use crate::json::{BadJson, Fields, Object};

type Read<T> = Result<T, BadJson>;

/// What makes a machine.
struct Config {
    method: String,
    session: SessionId,
    receiver: Option<ReceiverKey>,
    tokens_max: u64,
    locked: LockedPolicy,
}

/// One thing that comes out.
enum Output {
    Persist(PurseKey, ChangeSet),
    Said(Value),
}

/// A machine and its store.
pub(super) struct Cashu {
    config: Config,
    /// None while the process is dead.
    machine: Option<Box<dyn BackendMachine>>,
    /// By purse and key.
    store: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    requests: u64,
}

impl Config {
    fn read(fields: Fields<'_>) -> Read<Self> {
        let mut locked = LockedPolicy::default();
        let or = |key: &str, usual: u64| match fields.opt(key) {
            Some(_) => fields.int(key),
            None => Ok(usual),
        };
        locked.steps_max = or("steps_max", locked.steps_max)?;
        locked.redeem_ticks = or("redeem_steps", locked.redeem_ticks)?;
        let receiver = match fields.opt("receiver") {
            Some(_) => ReceiverKey::from_bytes(&fields.array("receiver")?),
            None => None,
        };
        Ok(Self {
            method: fields.text("method")?.into(),
            session: SessionId(fields.array("session")?),
            receiver,
            tokens_max: or("steps_max", SwapPolicy::default().tokens_max)?,
            locked,
        })
    }

    fn is_locked(&self) -> bool {
        self.method != SwapMachine::METHOD
    }

    fn machine(&self) -> Read<Box<dyn BackendMachine>> {
        let (locked, receiver) = (self.locked, self.receiver.clone());
        Ok(match self.method.as_str() {
            LockedMachine::CHAIN => Box::new(LockedMachine::chain(locked, receiver)),
            LockedMachine::P2PK => Box::new(LockedMachine::p2pk(locked, receiver)),
            SwapMachine::METHOD => {
                let mut policy = SwapPolicy::default();
                policy.tokens_max = self.tokens_max;
                Box::new(SwapMachine::new(policy))
            }
            _ => return Err(BadJson("method".into())),
        })
    }

    fn purse(&self, purse: u32) -> PurseKey {
        PurseKey {
            session: self.session,
            purse: PurseId(purse),
        }
    }
}

impl Cashu {
    pub(super) fn create(fields: Fields<'_>) -> Read<Self> {
        let config = Config::read(fields.object("config")?)?;
        Ok(Self {
            machine: Some(config.machine()?),
            config,
            store: BTreeMap::new(),
            requests: 0,
        })
    }

    /// Gives an input and takes every output, or as many as `take` says and dies.
    pub(super) fn step(&mut self, now: Now, said: Fields<'_>, take: Option<usize>) -> Answered {
        let (mut outputs, mut misuse) = (Vec::new(), None);
        if said.opt("restart").is_some() {
            outputs = self.restart(now)?;
        } else if said.opt("create").is_none() {
            match self.handle(now, said)? {
                Some((purse, answer)) => outputs = split(purse, answer)?,
                None => misuse = Some("Ended"),
            }
        }
        let taken = outputs.into_iter().take(take.unwrap_or(usize::MAX));
        let outputs: Vec<Value> = taken.map(|output| self.take(output)).collect();
        if take.is_some() {
            self.machine = None;
        }
        Ok(Object::new()
            .with("outputs", outputs)
            .with("state", self.state())
            .maybe("misuse", misuse)
            .done())
    }

    fn handle(&mut self, now: Now, said: Fields<'_>) -> Read<Option<(PurseKey, Answer)>> {
        let fields = ["request", "done", "wake"].map(|name| said.opt(name).map(Fields::new));
        let purse = fields.iter().flatten().next();
        let purse = purse.ok_or_else(|| BadJson("input".into()))?.int("purse")?;
        let purse = self.config.purse(purse);
        let Some(machine) = &mut self.machine else {
            return Ok(None);
        };
        let answer = match fields {
            [Some(request), _, _] => {
                self.requests = self.requests.saturating_add(1);
                let id = RequestId(self.requests);
                machine.request(now, purse, id, request_from_json(request)?)
            }
            [_, Some(done), _] => {
                let result = result(purse, done, self.config.is_locked())?;
                machine.effect_done(now, result)
            }
            _ => machine.wake(now, purse),
        };
        Ok(Some((purse, answer)))
    }

    /// The process begins anew, with what is durable.
    fn restart(&mut self, now: Now) -> Read<Vec<Output>> {
        let mut machine = self.config.machine()?;
        let mut outputs = Vec::new();
        for purse in self.purses() {
            let answer = machine.restore(now, self.config.purse(purse), self.records(purse));
            outputs.extend(split(self.config.purse(purse), answer)?);
        }
        self.machine = Some(machine);
        Ok(outputs)
    }

    fn purses(&self) -> BTreeSet<u32> {
        self.store.keys().map(|(purse, _)| *purse).collect()
    }

    fn records(&self, purse: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = self.store.iter().filter(|((of, _), _)| *of == purse);
        all.map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }

    fn take(&mut self, output: Output) -> Value {
        match output {
            Output::Said(value) => value,
            Output::Persist(purse, changes) => {
                for change in changes.changes() {
                    let key = (purse.purse.0, change.key.clone());
                    match &change.value {
                        Some(value) => self.store.insert(key, value.clone()),
                        None => self.store.remove(&key),
                    };
                }
                let purse = Object::new().int("purse", purse.purse.0);
                Object::new().with("persist", purse).done()
            }
        }
    }

    fn state(&self) -> Value {
        let Some(machine) = &self.machine else {
            return Object::new().with("dead", true).done();
        };
        let (mut purses, mut wake) = (Object::new(), Object::new());
        for purse in self.purses() {
            let name = purse.to_string();
            let found = state(self.config.is_locked(), &self.records(purse));
            let found = found.and_then(|state| serde_json::to_value(state).ok());
            purses = purses.maybe(&name, found);
            let at = machine.wake_at(self.config.purse(purse));
            wake = wake.maybe(&name, at.map(|at| at.0.to_string()));
        }
        Object::new()
            .with("purses", purses)
            .with("wake_s", wake)
            .done()
    }
}

/// An answer as outputs: first what must be durable, for all else rests on it.
fn split(purse: PurseKey, answer: Answer) -> Read<Vec<Output>> {
    let mut outputs = Vec::new();
    if !answer.delta.is_empty() {
        outputs.push(Output::Persist(purse, answer.delta));
    }
    let of = |fields: Object| fields.int("purse", purse.purse.0);
    let said = |name: &str, fields: Object| Output::Said(Object::new().with(name, fields).done());
    if let Some(outcome) = &answer.outcome {
        let mut fields = of(Object::new());
        for (name, value) in outcome_to_json(outcome).as_object().into_iter().flatten() {
            fields = fields.with(name, value.clone());
        }
        outputs.push(said("outcome", fields));
    }
    for effect in &answer.effects {
        let call = Call::of(effect).and_then(|call| serde_json::to_value(call).ok());
        let call = call.ok_or_else(|| BadJson("effect".into()))?;
        let mut fields = of(Object::new()).int("id", effect.id.0);
        for (name, value) in call.as_object().into_iter().flatten() {
            fields = fields.with(name, value.clone());
        }
        outputs.push(said("effect", fields));
    }
    if let Some(note) = &answer.note {
        outputs.push(said("note", of(Object::new()).hex("bytes", note)));
    }
    Ok(outputs)
}

/// How an effect ended.
fn result(purse: PurseKey, done: Fields<'_>, is_locked: bool) -> Read<EffectResult> {
    let id = EffectId(done.int("id")?);
    if let Some(failed) = done.opt("failed") {
        return Ok(EffectResult {
            purse,
            id,
            result: Err(failure(Fields::new(failed))?),
        });
    }
    let bad = || BadJson("done".into());
    let called: Called =
        serde_json::from_value(done.without(&["purse", "id"])).map_err(|_| bad())?;
    called.result(purse, id, is_locked).ok_or_else(bad)
}

impl core::fmt::Debug for Cashu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cashu")
            .field("method", &self.config.method)
            .finish_non_exhaustive()
    }
}
