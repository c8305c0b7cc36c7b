//! One side of a channel, driven by the inputs of a transcript.

use std::collections::BTreeSet;

use bitcoin::Amount;
use bitcoin::consensus::encode::serialize_hex;
use serde_json::{Value, json};
use streampay_btc::chain::Watch;
use streampay_btc::keys::Seed;
use streampay_btc::kit::Watchtower;
use streampay_btc::machine::{Action, ChannelMachine};
use streampay_btc::sim::{Call, Called};
use streampay_core::backend::{Answer, BackendMachine as _, Effect};
use streampay_core::store::{ChangeSet, MemoryStore, Store as _, purse_prefix};
use streampay_core::units::{Mono, Now, PurseId, PurseKey, RequestId, SessionId, Unix};

use super::json::{
    bytes, call_json, coin, config, entry, event_json, hex, int, number, one, outcome_json,
    outpoint, request, view,
};

/// A machine and what is durable of it.
#[derive(Default)]
pub(crate) struct Side {
    created: Option<Value>,
    pub(crate) machine: Option<ChannelMachine>,
    /// In place of a machine, where it is a watchtower's side.
    tower: Option<Watchtower>,
    disk: MemoryStore,
    purses: BTreeSet<PurseKey>,
    /// Calls under way.
    calls: Vec<Effect>,
    requests: u64,
}

/// The purse of that number in the one session of all transcripts.
pub(crate) fn purse(number: u32) -> PurseKey {
    PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(number),
    }
}

impl Side {
    /// Takes one input and says what follows, and how the side then stands.
    pub(crate) fn step(&mut self, now: &Value, input: &Value) -> (Vec<Value>, Value) {
        let now = Now {
            mono: Mono(number(&now["mono_ms"])),
            unix: Unix(number(&now["unix_s"])),
        };
        let (what, of) = one(input);
        let mut outputs = Vec::new();
        match what {
            "create" if of["role"] == "tower" => self.tower = Some(Watchtower::new()),
            "entry" => self.tower.as_mut().unwrap().put(entry(of)),
            "view" if self.tower.is_some() => {
                for tx in self.tower.as_mut().unwrap().chain(&view(of)) {
                    outputs.push(json!({"broadcast": serialize_hex(&tx)}));
                }
            }
            "coins" => {
                let coins: Vec<_> = of.as_array().unwrap().iter().map(coin).collect();
                let action = self.machine().add_fee_coins(&coins).unwrap();
                self.act(action, &mut outputs);
            }
            "besides" => {
                let coins: Vec<_> = (of["outputs"].as_array().unwrap().iter())
                    .map(coin)
                    .collect();
                let purse = purse(number(&of["purse"]));
                for action in self.machine().paid_besides(purse, &coins, true) {
                    self.act(action, &mut outputs);
                }
            }
            "create" => {
                self.created = Some(of.clone());
                self.start();
            }
            "restart" => {
                self.start();
                let records = self.node_records();
                self.machine().restore_node(records);
                for purse in self.purses.clone() {
                    let records = self.records(purse);
                    let answer = self.machine().restore(now, purse, records);
                    self.answer(purse, answer, &mut outputs);
                }
            }
            "view" => {
                for action in self.machine().chain(now, &view(of)) {
                    self.act(action, &mut outputs);
                }
            }
            "request" => {
                let purse = purse(number(&of["purse"]));
                self.purses.insert(purse);
                self.requests += 1;
                let id = RequestId(self.requests);
                let answer = self.machine().request(now, purse, id, request(&of["ask"]));
                self.answer(purse, answer, &mut outputs);
            }
            "done" => {
                let purse = purse(number(&of["purse"]));
                let (called, name) = called(&of["call"]);
                let at = self.calls.iter().position(|effect| {
                    let call = Call::of(effect).unwrap();
                    effect.purse == purse && one(&call_json(&call)).0 == name
                });
                let effect = self.calls.remove(at.unwrap());
                let answer = self.machine().effect_done(now, called.end(&effect));
                self.answer(purse, answer, &mut outputs);
            }
            other => panic!("{other}"),
        }
        (outputs, self.state())
    }

    fn start(&mut self) {
        let created = self.created.as_ref().unwrap();
        let seed = Seed(bytes(&created["seed"]).try_into().unwrap());
        self.calls.clear();
        self.machine = Some(ChannelMachine::new(config(&created["config"]), &seed).unwrap());
    }

    /// The outputs that a view should hold: those of its channels, and of openings it was shown.
    pub(crate) fn asked(&self) -> Vec<Watch> {
        if let Some(tower) = &self.tower {
            return tower.watched();
        }
        let machine = self.machine.as_ref().unwrap();
        let shown = self.purses.iter().filter_map(|key| machine.candidate(*key));
        machine.watched().into_iter().chain(shown).collect()
    }

    fn machine(&mut self) -> &mut ChannelMachine {
        self.machine.as_mut().unwrap()
    }

    fn node_records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut probe = ChangeSet::new();
        probe.put(Vec::new(), Vec::new());
        let probe = probe.within_node(ChannelMachine::METHOD);
        self.records_at(&probe.changes()[0].key)
    }

    fn records(&self, purse: PurseKey) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.records_at(&purse_prefix(purse))
    }

    fn records_at(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let records = self.disk.scan(prefix).unwrap().into_iter();
        let cut = |(key, value): (Vec<u8>, Vec<u8>)| (key[prefix.len()..].to_vec(), value);
        records.map(cut).collect()
    }

    fn persist(&mut self, changes: ChangeSet, outputs: &mut Vec<Value>) {
        if !changes.is_empty() {
            self.disk.append(&[changes]).unwrap();
            outputs.push(json!({"persist": {}}));
        }
    }

    fn answer(&mut self, purse: PurseKey, answer: Answer, outputs: &mut Vec<Value>) {
        self.persist(answer.delta.within_purse(purse), outputs);
        if let Some(outcome) = answer.outcome {
            outputs.push(json!({"outcome": outcome_json(&outcome)}));
        }
        if let Some(note) = answer.note {
            outputs.push(json!({"note": hex(&note)}));
        }
        for effect in answer.effects {
            outputs.push(json!({"call": call_json(&Call::of(&effect).unwrap())}));
            self.calls.push(effect);
        }
    }

    fn act(&mut self, action: Action, outputs: &mut Vec<Value>) {
        match action {
            Action::Persist(changes) => self.persist(changes, outputs),
            Action::Broadcast(tx) => outputs.push(json!({"broadcast": serialize_hex(&tx)})),
            Action::Package(package) => {
                let package: Vec<String> = package.iter().map(serialize_hex).collect();
                outputs.push(json!({"package": package}));
            }
            Action::Event(_, event) => outputs.push(json!({"event": event_json(&event)})),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> Value {
        if let Some(tower) = &self.tower {
            return int(tower.watched().len());
        }
        let reports = self.machine.as_ref().unwrap().report();
        let channels = reports.iter().map(|report| {
            let mut value = json!({
                "purse": int(report.purse.purse.0),
                "state": format!("{:?}", report.state).to_lowercase(),
                "value": int(report.value.to_sat()),
                "paid": int(report.paid.to_sat()),
                "expiry": int(report.expiry),
            });
            if let Some(settled) = report.settled {
                value["settled"] = int(settled.to_sat());
            }
            if report.besides_open() > Amount::ZERO {
                value["besides"] = int(report.besides_open().to_sat());
            }
            value
        });
        Value::Array(channels.collect())
    }
}

/// How a call ended, and which one it was.
fn called(value: &Value) -> (Called, &str) {
    let (name, of) = one(value);
    if of.get("failed").is_some() {
        return (Called::Failed, name);
    }
    let called = match (name, of.get("txid")) {
        ("draw", _) => Called::Drawn(bytes(&of["entropy"]).try_into().unwrap()),
        (_, Some(_)) => Called::Funded(outpoint(of), Amount::from_sat(number(&of["fee"]))),
        _ => Called::Looked,
    };
    (called, name)
}
