use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, PoisonError};

use super::{Clock, EffectRunner, StoreWriter};
use crate::backend::{Answer, BackendError, BackendMachine, EffectResult, RefusalCode, Request};
use crate::store::{Key, StoreError, node_prefix, purse_prefix, session_of};
use crate::units::{PurseId, PurseKey, RequestId, SessionId, Unix};

/// What all sessions of a process share: payment methods, store, clock.
pub struct Node {
    methods: BTreeMap<String, Method>,
    pub(super) store: StoreWriter,
    pub(super) clock: Clock,
}

struct Method {
    machine: Mutex<Box<dyn BackendMachine>>,
    runner: Arc<dyn EffectRunner>,
}

/// Collects the methods of a [`Node`].
pub struct NodeBuilder {
    methods: BTreeMap<String, Method>,
    store: StoreWriter,
}

impl NodeBuilder {
    /// A payment method: its machine, and what makes its network calls.
    #[must_use]
    pub fn method(
        mut self,
        machine: Box<dyn BackendMachine>,
        runner: Arc<dyn EffectRunner>,
    ) -> Self {
        let name = String::from(machine.method());
        self.methods.insert(
            name,
            Method {
                machine: Mutex::new(machine),
                runner,
            },
        );
        self
    }

    /// The node, with what each method keeps for all its purses read from the store.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub async fn build(self) -> Result<Arc<Node>, StoreError> {
        for (name, method) in &self.methods {
            let prefix = node_prefix(name);
            let records = self.store.scan(prefix.clone()).await?;
            let mut machine = method
                .machine
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            machine.restore_node(without_prefix(records, &prefix));
        }
        Ok(Arc::new(Node {
            methods: self.methods,
            store: self.store,
            clock: Clock::start(),
        }))
    }
}

impl Node {
    /// Begins a node over a store.
    #[must_use]
    pub const fn builder(store: StoreWriter) -> NodeBuilder {
        NodeBuilder {
            methods: BTreeMap::new(),
            store,
        }
    }

    /// The clock that all sessions are told.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The names of the methods, as they stand in terms.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// All sessions that have records.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub async fn sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        let records = self.store.scan(Key::from(*b"s")).await?;
        let sessions: BTreeSet<_> = records
            .iter()
            .filter_map(|(key, _)| session_of(key))
            .collect();
        Ok(sessions.into_iter().collect())
    }

    /// The records of one session, its purses' included; empty where there are none.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub async fn records_of(&self, session: SessionId) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.store.scan(crate::store::session_prefix(session)).await
    }

    /// Gives the machines what they had written of a session's purses, and takes their answers.
    pub(super) fn restore(
        &self,
        session: SessionId,
        purses: &[(PurseId, String)],
        records: &[(Key, Vec<u8>)],
    ) -> Vec<(PurseKey, Answer)> {
        let mut answers = Vec::new();
        for (purse, method) in purses {
            let key = PurseKey {
                session,
                purse: *purse,
            };
            let prefix = purse_prefix(key);
            let own = records
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .cloned()
                .collect();
            let Some(found) = self.methods.get(method) else {
                continue;
            };
            let mut machine = found.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = machine.restore(self.clock.now(), key, without_prefix(own, &prefix));
            answers.push((key, answer));
        }
        answers
    }

    /// The purse whose machine wants to be told the time first, and when.
    pub(super) fn wake_at(
        &self,
        session: SessionId,
        purses: &[(PurseId, String)],
    ) -> Option<(Unix, PurseKey, String)> {
        let wakes = purses.iter().filter_map(|(purse, method)| {
            let key = PurseKey {
                session,
                purse: *purse,
            };
            let found = self.methods.get(method)?;
            let machine = found.machine.lock().unwrap_or_else(PoisonError::into_inner);
            Some((machine.wake_at(key)?, key, method.clone()))
        });
        wakes.min_by_key(|(at, ..)| *at)
    }

    pub(super) fn wake(&self, method: &str, purse: PurseKey) -> Answer {
        match self.methods.get(method) {
            Some(method) => {
                let mut machine = method
                    .machine
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                machine.wake(self.clock.now(), purse)
            }
            None => Answer::default(),
        }
    }

    /// The machines need not know these purses any more: all their money is where it belongs, and
    /// durably so.
    pub(super) fn forget(&self, session: SessionId, purses: &[(PurseId, String)]) {
        for (purse, method) in purses {
            let key = PurseKey {
                session,
                purse: *purse,
            };
            if let Some(found) = self.methods.get(method) {
                let mut machine = found.machine.lock().unwrap_or_else(PoisonError::into_inner);
                machine.forget(key);
            }
        }
    }

    pub(super) fn request(
        &self,
        method: &str,
        purse: PurseKey,
        id: RequestId,
        request: Request,
    ) -> Answer {
        match self.methods.get(method) {
            Some(method) => {
                let mut machine = method
                    .machine
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                machine.request(self.clock.now(), purse, id, request)
            }
            None => Answer::failed(BackendError::Fatal(RefusalCode::NoCommonMethod)),
        }
    }

    pub(super) fn effect_done(&self, method: &str, result: EffectResult) -> Answer {
        match self.methods.get(method) {
            Some(method) => {
                let mut machine = method
                    .machine
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                machine.effect_done(self.clock.now(), result)
            }
            None => Answer::default(),
        }
    }

    pub(super) fn runner(&self, method: &str) -> Option<Arc<dyn EffectRunner>> {
        self.methods
            .get(method)
            .map(|method| Arc::clone(&method.runner))
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("methods", &self.methods.keys())
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("methods", &self.methods.keys())
            .finish_non_exhaustive()
    }
}

fn without_prefix(records: Vec<(Key, Vec<u8>)>, prefix: &[u8]) -> Vec<(Key, Vec<u8>)> {
    let cut = |(key, value): (Key, Vec<u8>)| Some((key.strip_prefix(prefix)?.to_vec(), value));
    records.into_iter().filter_map(cut).collect()
}
