//! A node under test: a machine, its records, its wallet, and a simulated chain.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network, ScriptBuf, Transaction, WPubkeyHash};
use bytes::Bytes;
use streampay_core::backend::{
    Answer, BackendMachine as _, Effect, EffectResult, Outcome, Request, RestoredPurse,
};
use streampay_core::session::Entropy;
use streampay_core::store::{ChangeSet, MemoryStore, Store as _, purse_prefix};
use streampay_core::units::{Now, PurseKey, RequestId};

use super::{Call, Called, Reject, SimChain};
use crate::keys::Seed;
use crate::machine::{Action, ChannelConfig, ChannelMachine, WatchEvent};
use crate::policy::{PayeePolicy, PayerPolicy};

/// A node with channels. Everything it does is in order: durable first, then done.
#[derive(Debug)]
pub struct SimNode {
    /// Its machine.
    pub machine: ChannelMachine,
    /// Its disk.
    pub store: MemoryStore,
    /// The time it is told.
    pub now: Now,
    /// True where its wallet pays what it is asked to, at once.
    pub pays: bool,
    /// How it does that.
    pub payment: Payment,
    /// What it broadcast and the chain refused.
    pub refused: Vec<(Transaction, Reject)>,
    /// Everything that it broadcast.
    pub broadcast: Vec<Transaction>,
    /// What its machine wants the other side's to be shown.
    pub notes: Vec<(PurseKey, Bytes)>,
    /// What its machine told of in looks that a request asked for, in order.
    pub told: Vec<(PurseKey, WatchEvent)>,
    /// The disk itself: [`SimNode::store`] may be told to fail.
    disk: MemoryStore,
    config: ChannelConfig,
    seed: Seed,
    chain: SimChain,
    requests: BTreeMap<PurseKey, u64>,
    draws: u64,
}

/// How a wallet pays for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payment {
    /// The next block has it, whatever that asks.
    Prompt,
    /// For so much of a fee: it waits for a block that asks no more.
    For(Amount),
    /// Out of what waits for a block itself.
    After,
}

/// A script of nobody's, for a node's money to go to.
#[must_use]
pub fn home(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]))
}

/// The usual limits, with money going to [`home`].
#[must_use]
pub fn sim_config(number: u8) -> ChannelConfig {
    let mut payee = PayeePolicy::new(home(number));
    payee.batch_wait = 0;
    payee.mutual_ms = 0;
    payee.reserve_target = 0;
    ChannelConfig {
        network: Network::Regtest,
        payer: PayerPolicy::new(home(number)),
        payee,
    }
}

impl SimNode {
    /// A node with this configuration, its keys from `seed`.
    ///
    /// # Panics
    /// With a probability of 2^-128: a key that is none.
    #[must_use]
    pub fn new(chain: &SimChain, config: ChannelConfig, seed: u8) -> Self {
        let seed = Seed([seed; 32]);
        let machine = ChannelMachine::new(config.clone(), &seed).expect("derived keys are valid");
        let disk = MemoryStore::new();
        Self {
            machine,
            store: disk.clone(),
            disk,
            now: Now::default(),
            pays: true,
            payment: Payment::Prompt,
            refused: Vec::new(),
            broadcast: Vec::new(),
            notes: Vec::new(),
            told: Vec::new(),
            draws: 0,
            config,
            seed,
            chain: chain.clone(),
            requests: BTreeMap::new(),
        }
    }

    /// Asks the machine and makes its calls, until there is an outcome.
    pub fn request(&mut self, purse: PurseKey, request: Request) -> Option<Outcome> {
        let id = self.requests.entry(purse).or_default();
        *id = id.saturating_add(1);
        let id = RequestId(*id);
        let answer = self.machine.request(self.now, purse, id, request);
        self.follow(purse, answer)
    }

    /// Does what an answer says.
    pub fn follow(&mut self, purse: PurseKey, mut answer: Answer) -> Option<Outcome> {
        let (mut effects, mut outcome) = (VecDeque::new(), None);
        loop {
            let delta = core::mem::take(&mut answer.delta);
            if !self.persist(delta.within_purse(purse)) {
                return None;
            }
            outcome = answer.outcome.take().or(outcome);
            self.notes
                .extend(answer.note.take().map(|note| (purse, note)));
            effects.extend(core::mem::take(&mut answer.effects));
            let Some(effect) = effects.pop_front() else {
                return outcome;
            };
            let result = self.run(&effect);
            answer = self.machine.effect_done(self.now, result);
        }
    }

    /// Makes a network call.
    pub fn run(&mut self, effect: &Effect) -> EffectResult {
        let called = match Call::of(effect) {
            Some(Call::Look) if self.look_for(effect.purse).is_some() => Called::Looked,
            Some(Call::Fund {
                script,
                value,
                since,
            }) => self.fund(&script, value, since),
            Some(Call::Find {
                script,
                value,
                since,
            }) => {
                let known = self.chain.outputs_to(&script, value, since);
                known.first().map_or(Called::Looked, |outpoint| {
                    Called::Funded(*outpoint, Amount::ZERO)
                })
            }
            Some(Call::Draw) => {
                self.draws = self.draws.saturating_add(1);
                // Never the same twice, over restarts too: the counter is the node's, not the process's.
                let entropy = Entropy([self.seed.0[0]; 32]).derive(&format!("draw {}", self.draws));
                Called::Drawn(entropy)
            }
            Some(Call::Look) | None => Called::Failed,
        };
        called.end(effect)
    }

    /// As the runner does: a channel that is not accepted is looked at by itself.
    fn look_for(&mut self, purse: PurseKey) -> Option<()> {
        let Some(watch) = self.machine.candidate(purse) else {
            return match self.machine.knows(purse) {
                // It is said once: what is told of here comes in no later look.
                true => self.look().map(|events| self.told.extend(events)),
                false => Some(()),
            };
        };
        let view = self.chain.look(core::slice::from_ref(&watch)).ok()?;
        let seen = view.outputs.into_iter().next()?.seen;
        self.machine.show(purse, &watch, view.tip, seen);
        Some(())
    }

    fn fund(&self, script: &ScriptBuf, value: Amount, since: u32) -> Called {
        let known = self.chain.outputs_to(script, value, since);
        let outpoint = match known.first() {
            Some(outpoint) => Ok(*outpoint),
            None if self.pays => match self.payment {
                Payment::Prompt => self.chain.pay(script, value),
                Payment::For(fee) => self.chain.pay_for(script, value, fee),
                Payment::After => self.chain.pay_after(script, value),
            },
            None => return Called::Failed,
        };
        outpoint.map_or(Called::Failed, |outpoint| {
            Called::Funded(outpoint, Amount::ZERO)
        })
    }

    /// Shows the machine the chain and does what it says; none where the chain is away or the
    /// disk fails: then only what cannot wait is done.
    pub fn look(&mut self) -> Option<Vec<(PurseKey, WatchEvent)>> {
        let mut sound = true;
        for of in self.machine.unpaid() {
            let known = self.chain.outputs_to(&of.script, of.value, of.since);
            if let Some(outpoint) = known.first() {
                let changes = self.machine.paid_late(of.purse, *outpoint);
                sound &= self.persist(changes);
            }
        }
        let view = self.chain.look(&self.machine.watched()).ok()?;
        let mut actions = VecDeque::from(self.machine.chain(self.now, &view));
        if !sound {
            actions = self.machine.without_disk(actions);
        }
        let mut events = Vec::new();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Persist(changes) => {
                    if !self.persist(changes) {
                        sound = false;
                        actions = self.machine.without_disk(actions);
                    }
                }
                Action::Broadcast(tx) => {
                    self.broadcast.push(tx.clone());
                    if let Err(reject) = self.chain.submit(tx.clone()) {
                        self.refused.push((tx, reject));
                    }
                }
                Action::Package(package) => {
                    let submitted = self.chain.submit_package(&package);
                    self.broadcast.extend(package.last().cloned());
                    if let (Err(reject), Some(tx)) = (submitted, package.last()) {
                        self.refused.push((tx.clone(), reject));
                    }
                }
                Action::Event(purse, event) => events.push((purse, event)),
            }
        }
        if !sound {
            return None;
        }
        for of in self.machine.besides() {
            let Ok(coins) = self.chain.search(&of.script, of.since) else {
                continue;
            };
            for action in self.machine.paid_besides(of.purse, &coins, true) {
                match action {
                    Action::Persist(changes) => sound &= self.persist(changes),
                    Action::Event(purse, event) => events.push((purse, event)),
                    Action::Broadcast(_) | Action::Package(_) => {}
                }
            }
        }
        sound.then_some(events)
    }

    /// Looks until nothing happens any more, mining a block each time.
    pub fn mine_and_look(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.mine(1);
            self.look();
        }
    }

    /// The process dies and comes back from its disk.
    ///
    /// # Panics
    /// With a probability of 2^-128: a key that is none.
    pub fn restart(&mut self, purses: &[PurseKey]) {
        let machine = ChannelMachine::new(self.config.clone(), &self.seed);
        self.machine = machine.expect("derived keys are valid");
        self.store = self.disk.clone();
        self.machine.restore_node(self.node_records());
        for purse in purses {
            let records = self.records(*purse);
            let answer = self.machine.restore(self.now, *purse, records);
            self.follow(*purse, answer);
        }
    }

    /// Everything on its disk.
    #[must_use]
    pub fn snapshot(&self) -> RestoredPurse {
        self.disk.scan(&[]).unwrap_or_default()
    }

    /// The disk is an old one: whatever was written since is gone. Restart it after.
    pub fn roll_back(&mut self, snapshot: &RestoredPurse) {
        let mut disk = MemoryStore::new();
        let mut changes = ChangeSet::new();
        for (key, value) in snapshot {
            changes.put(key.clone(), value.clone());
        }
        if disk.append(&[changes]).is_ok() {
            self.disk = disk;
        }
    }

    /// A purse's records as they are on disk.
    #[must_use]
    pub fn records(&self, purse: PurseKey) -> RestoredPurse {
        let prefix = purse_prefix(purse);
        let records = self.store.scan(&prefix).unwrap_or_default();
        let cut = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(prefix.as_slice())?.to_vec(), value))
        };
        records.into_iter().filter_map(cut).collect()
    }

    /// Does what the machine says outside of a look or request.
    pub fn act(&mut self, action: Action) {
        if let Action::Persist(changes) = action {
            self.persist(changes);
        }
    }

    /// The method's records of the whole node, as they are on disk.
    fn node_records(&self) -> RestoredPurse {
        let mut probe = ChangeSet::new();
        probe.put(Vec::new(), Vec::new());
        let probe = probe.within_node(ChannelMachine::METHOD);
        let prefix = probe.changes().first().map(|change| change.key.clone());
        let prefix = prefix.unwrap_or_default();
        let records = self.store.scan(&prefix).unwrap_or_default();
        let cut = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(prefix.as_slice())?.to_vec(), value))
        };
        records.into_iter().filter_map(cut).collect()
    }

    fn persist(&mut self, changes: ChangeSet) -> bool {
        changes.is_empty() || self.store.append(&[changes]).is_ok()
    }
}
