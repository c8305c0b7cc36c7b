use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use std::sync::{Arc, Mutex, PoisonError};

use super::{ChangeSet, Key, Store, StoreError};

/// A store in memory, shared by its clones: what one wrote, another reads, also after the first
/// is gone. For tests and for nodes that may forget.
#[derive(Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<Key, Vec<u8>>>>,
    fails: bool,
    failed: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every later append of this clone fail.
    pub fn fail_from_now_on(&mut self) {
        self.fails = true;
    }
}

impl Store for MemoryStore {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Poisoned);
        }
        if self.fails {
            self.failed = true;
            return Err(StoreError::Failed);
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for change in sets.iter().flat_map(ChangeSet::changes) {
            match &change.value {
                Some(value) => records.insert(change.key.clone(), value.clone()),
                None => records.remove(&change.key),
            };
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        if self.failed {
            return Err(StoreError::Poisoned);
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let from = records.range(prefix.to_vec()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

impl core::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("fails", &self.fails)
            .finish_non_exhaustive()
    }
}
