//! What a node keeps its records in.

use std::collections::BTreeMap;

use streampay_core::sim::Rng;
use streampay_core::store::{ChangeSet, Key, RedbStore, Store, StoreError};

use crate::disk::Disk;

/// A node's store: redb on such a disk, or what behaves like it and costs less.
pub(super) enum SimStore {
    Memory {
        records: BTreeMap<Key, Vec<u8>>,
        fail_in: Option<u32>,
        poisoned: bool,
    },
    Redb {
        disk: Disk,
        store: Option<RedbStore>,
    },
}

impl SimStore {
    pub(super) fn new(redb: bool) -> Self {
        if redb {
            let disk = Disk::default();
            let store = RedbStore::open_on(disk.clone()).ok();
            return Self::Redb { disk, store };
        }
        Self::Memory {
            records: BTreeMap::new(),
            fail_in: None,
            poisoned: false,
        }
    }

    pub(super) const fn is_redb(&self) -> bool {
        matches!(self, Self::Redb { .. })
    }

    /// Fails at a write from here.
    pub(super) fn fail_in(&mut self, writes: u32) {
        match self {
            Self::Memory { fail_in, .. } => *fail_in = Some(writes),
            Self::Redb { disk, .. } => disk.fail_in(writes * 20),
        }
    }

    /// Fails at an operation of the disk from here.
    #[cfg(test)]
    pub(super) fn fail_in_operations(&mut self, operations: u32) {
        if let Self::Redb { disk, .. } = self {
            disk.fail_in(operations);
        }
    }

    /// Is cut off at so many operations of the disk from here. What is no disk is not.
    pub(super) fn cut_in(&self, operations: u64) {
        if let Self::Redb { disk, .. } = self {
            disk.cut_in(operations);
        }
    }

    /// True once it was.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Self::Memory { .. } => false,
            Self::Redb { disk, .. } => disk.is_cut(),
        }
    }

    /// Operations of the disk so far.
    pub(super) fn operations(&self) -> u64 {
        match self {
            Self::Memory { .. } => 0,
            Self::Redb { disk, .. } => disk.operations(),
        }
    }

    pub(super) fn heal(&mut self) {
        match self {
            Self::Memory { fail_in, .. } => *fail_in = None,
            Self::Redb { disk, .. } => disk.heal(),
        }
    }

    /// Makes it durable. What failed may be there or not.
    pub(super) fn append(&mut self, rng: &mut Rng, changes: &ChangeSet) -> Result<(), StoreError> {
        match self {
            Self::Memory {
                records,
                fail_in,
                poisoned,
            } => {
                if *poisoned {
                    return Err(StoreError::Poisoned);
                }
                let fails = *fail_in == Some(0);
                *fail_in = fail_in.map(|left| left.saturating_sub(1));
                *poisoned = fails;
                if !fails || rng.next().is_multiple_of(2) {
                    put(records, changes);
                }
                if fails {
                    Err(StoreError::Failed)
                } else {
                    Ok(())
                }
            }
            Self::Redb { store, .. } => {
                let store = store.as_mut().ok_or(StoreError::Failed)?;
                store.append(core::slice::from_ref(changes))
            }
        }
    }

    /// The process dies while it writes this. True where a file was torn.
    pub(super) fn crash(&mut self, rng: &mut Rng, writing: Option<&ChangeSet>) -> bool {
        match self {
            Self::Memory {
                records,
                fail_in,
                poisoned,
            } => {
                (*fail_in, *poisoned) = (None, false);
                if let Some(changes) = writing.filter(|_| rng.next().is_multiple_of(2)) {
                    put(records, changes);
                }
                false
            }
            Self::Redb { disk, store } => {
                let operations = u32::try_from(rng.next() % 30).unwrap_or_default();
                if let (Some(changes), Some(store)) = (writing, store.as_mut()) {
                    disk.fail_in(operations);
                    let _ = store.append(core::slice::from_ref(changes));
                }
                let (left, torn) = disk.crash(rng);
                *store = None;
                *disk = left;
                torn
            }
        }
    }

    /// Opens what a crash left; dies in the middle of it where `dies` says so, or where the disk
    /// fails, and is then as after any crash.
    pub(super) fn open(&mut self, rng: &mut Rng, dies: bool) -> Opened {
        let Self::Redb { disk, store } = self else {
            return Opened::Ready;
        };
        if store.is_some() {
            return Opened::Ready;
        }
        if dies {
            disk.fail_in(u32::try_from(rng.next() % 40).unwrap_or_default());
        }
        let opened = RedbStore::open_on(disk.clone());
        match opened {
            // It was to die later than it took to open.
            Ok(opened) if !dies => {
                *store = Some(opened);
                Opened::Ready
            }
            Err(_) if !disk.is_failing() => Opened::Broken,
            _ => {
                (*disk, _) = disk.crash(rng);
                Opened::Died
            }
        }
    }

    /// None where the disk fails: that is no empty store.
    pub(super) fn scan(&self, prefix: &[u8]) -> Option<Vec<(Key, Vec<u8>)>> {
        match self {
            Self::Memory { records, .. } => {
                let from = records.range(prefix.to_vec()..);
                let found = from.take_while(|(key, _)| key.starts_with(prefix));
                Some(found.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
            Self::Redb { store, .. } => store.as_ref().and_then(|store| store.scan(prefix).ok()),
        }
    }

    /// Drops the records of a session that is over.
    pub(super) fn forget(&mut self, prefix: &[u8]) {
        if let Self::Memory { records, .. } = self {
            records.retain(|key, _| !key.starts_with(prefix));
        }
    }
}

/// How it went to open a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// It can be used.
    Ready,
    /// The process died while it opened, or the disk failed: the next try finds what is left.
    Died,
    /// A sound disk, and a file that does not open.
    Broken,
}

fn put(records: &mut BTreeMap<Key, Vec<u8>>, changes: &ChangeSet) {
    for change in changes.changes() {
        match &change.value {
            Some(value) => records.insert(change.key.clone(), value.clone()),
            None => records.remove(&change.key),
        };
    }
}
