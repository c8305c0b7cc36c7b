//! Disks that forget: what was not synced is lost with the process, in whole or in part.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use streampay_core::sim::Rng;
use streampay_core::store::{ChangeSet, Key, RedbStore, Store, StoreError};

/// A sector: what a disk writes in whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct State {
    /// What the process reads.
    live: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// What is not synced, in order.
    pending: Vec<Write>,
    /// Fails at so many operations from here.
    fail_in: Option<u32>,
    /// The process is gone.
    dead: bool,
}

#[derive(Debug)]
enum Write {
    Len(usize),
    Bytes(usize, Vec<u8>),
}

/// A disk in memory on which redb runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("the process is gone"));
        }
        match &mut state.fail_in {
            Some(0) => return Err(io::Error::other("the disk fails")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }

    /// Cuts the power: some of what is pending is there, some is not, some in part.
    fn crash(&self, rng: &mut Rng) -> (Self, bool) {
        let mut state = self.state();
        state.dead = true;
        let mut durable = core::mem::take(&mut state.durable);
        let mut torn = false;
        for write in core::mem::take(&mut state.pending) {
            match rng.next() % 4 {
                0 => torn = true,
                1 => {
                    torn = true;
                    apply(&mut durable, tear(write, rng));
                }
                _ => apply(&mut durable, write),
            }
        }
        let state = State {
            live: durable.clone(),
            durable,
            ..State::default()
        };
        (Self(Arc::new(Mutex::new(state))), torn)
    }
}

/// The first part of a write: whole sectors, or up to any byte.
fn tear(write: Write, rng: &mut Rng) -> Write {
    let Write::Bytes(at, mut bytes) = write else {
        return write;
    };
    let any = usize::try_from(rng.next()).unwrap_or_default() % bytes.len().max(1);
    let cut = match rng.next() % 2 {
        0 => any,
        _ => any / SECTOR * SECTOR,
    };
    bytes.truncate(cut);
    Write::Bytes(at, bytes)
}

fn apply(disk: &mut Vec<u8>, write: Write) {
    match write {
        Write::Len(len) => disk.resize(len, 0),
        Write::Bytes(at, bytes) => {
            let end = at + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            if let Some(place) = disk.get_mut(at..end) {
                place.copy_from_slice(&bytes);
            }
        }
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.used()?.live.len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset)?;
        let state = self.used()?;
        let found = state.live.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        let mut state = self.used()?;
        state.live.resize(len, 0);
        state.pending.push(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.used()?;
        for write in core::mem::take(&mut state.pending) {
            apply(&mut state.durable, write);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = place(offset)?;
        let mut state = self.used()?;
        apply(&mut state.live, Write::Bytes(at, data.to_vec()));
        state.pending.push(Write::Bytes(at, data.to_vec()));
        Ok(())
    }
}

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
            Self::Redb { disk, .. } => disk.state().fail_in = Some(writes * 20),
        }
    }

    pub(super) fn heal(&mut self) {
        match self {
            Self::Memory { fail_in, .. } => *fail_in = None,
            Self::Redb { disk, .. } => disk.state().fail_in = None,
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
                    disk.state().fail_in = Some(operations);
                    let _ = store.append(core::slice::from_ref(changes));
                }
                let (left, torn) = disk.crash(rng);
                *store = None;
                *disk = left;
                torn
            }
        }
    }

    /// Opens what a crash left.
    pub(super) fn open(&mut self) -> Result<(), StoreError> {
        if let Self::Redb { disk, store } = self
            && store.is_none()
        {
            *store = Some(RedbStore::open_on(disk.clone())?);
        }
        Ok(())
    }

    pub(super) fn scan(&self, prefix: &[u8]) -> Vec<(Key, Vec<u8>)> {
        match self {
            Self::Memory { records, .. } => {
                let from = records.range(prefix.to_vec()..);
                let found = from.take_while(|(key, _)| key.starts_with(prefix));
                found.map(|(k, v)| (k.clone(), v.clone())).collect()
            }
            Self::Redb { store, .. } => {
                let found = store.as_ref().and_then(|store| store.scan(prefix).ok());
                found.unwrap_or_default()
            }
        }
    }

    /// Drops the records of a session that is over.
    pub(super) fn forget(&mut self, prefix: &[u8]) {
        if let Self::Memory { records, .. } = self {
            records.retain(|key, _| !key.starts_with(prefix));
        }
    }
}

fn put(records: &mut BTreeMap<Key, Vec<u8>>, changes: &ChangeSet) {
    for change in changes.changes() {
        match &change.value {
            Some(value) => records.insert(change.key.clone(), value.clone()),
            None => records.remove(&change.key),
        };
    }
}
