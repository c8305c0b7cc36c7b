//! How to write a store: one file to which every append adds a frame, and a map in memory.
//!
//! ```sh
//! cargo run -p streampay-core --example own_store --features sim
//! ```
//!
//! What a store must do is little and strict, see [`Store`]: what `append` was given is durable
//! when it returns, all of it or nothing; after a failure it refuses everything until it is opened
//! anew. [`check_store`] is the suite, and [`check_failing_store`] the one for the day on which the disk
//! fails: for that the store writes to a [`Log`], which is a file, or one that fails. What a power cut
//! does cannot be asked through the trait: the tests below cut the file at every byte instead.
//!
//! `RedbStore`, the store of the programs, does the same with a tree on disk, and does not keep
//! everything in memory.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a store has a file"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use streampay_core::session::TaggedHash;
use streampay_core::sim::{check_failing_store, check_store};
use streampay_core::store::{ChangeSet, Key, Store, StoreError};

/// What frames are written to.
pub trait Log: Send {
    /// Adds a frame, durable when this returns.
    ///
    /// # Errors
    /// Where it may not be: what is there then is unknown.
    fn add(&mut self, frame: &[u8]) -> std::io::Result<()>;
}

impl Log for File {
    fn add(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.write_all(frame)?;
        self.sync_data()
    }
}

/// Records in memory, and the file that they come back from.
#[derive(Debug)]
pub struct LogStore<L = File> {
    file: L,
    records: BTreeMap<Key, Vec<u8>>,
    failed: bool,
}

impl LogStore {
    /// Opens a file, or makes it. A frame that was being written when the power went is cut off:
    /// whoever waited for it was never told that it is durable.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it; [`StoreError::Failed`] where it cannot
    /// be read; [`StoreError::Corrupt`] where a whole frame holds something else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(|_| StoreError::Failed)?;
        // The system gives the lock up with the process, however that ends.
        file.try_lock().map_err(|_| StoreError::Locked)?;
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes);
        read.map_err(|_| StoreError::Failed)?;
        let (mut records, mut rest) = (BTreeMap::new(), bytes.as_slice());
        while let Some((changes, after)) = frame(rest) {
            apply(&mut records, &decode(changes).ok_or(StoreError::Corrupt)?);
            rest = after;
        }
        let whole = bytes.len().saturating_sub(rest.len());
        let whole = u64::try_from(whole).map_err(|_| StoreError::Failed)?;
        let mut store = Self {
            file,
            records,
            failed: false,
        };
        let cut = store.cut(whole).and_then(|()| sync_name(path));
        cut.map_err(|_| StoreError::Failed)?;
        Ok(store)
    }

    fn cut(&mut self, whole: u64) -> std::io::Result<()> {
        self.file.set_len(whole)?;
        self.file.seek(SeekFrom::Start(whole))?;
        self.file.sync_all()
    }
}

impl<L: Log> Store for LogStore<L> {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Poisoned);
        }
        let changes = encode(sets).ok_or(StoreError::Failed)?;
        if changes.is_empty() {
            return Ok(());
        }
        // One write and one sync for all the sets: the driver hands over those of many sessions.
        if self.file.add(&framed(&changes)).is_err() {
            // What is on disk is unknown now, also to a second sync. Only opening it anew tells.
            self.failed = true;
            return Err(StoreError::Failed);
        }
        apply(&mut self.records, sets);
        Ok(())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        if self.failed {
            return Err(StoreError::Poisoned);
        }
        let from = self.records.range(prefix.to_vec()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        let found = found.map(|(key, value)| (key.clone(), value.clone()));
        Ok(found.collect())
    }
}

fn apply(records: &mut BTreeMap<Key, Vec<u8>>, sets: &[ChangeSet]) {
    for change in sets.iter().flat_map(ChangeSet::changes) {
        match &change.value {
            Some(value) => records.insert(change.key.clone(), value.clone()),
            None => records.remove(&change.key),
        };
    }
}

/// A new file's name is durable only once its folder is.
fn sync_name(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn checksum(changes: &[u8]) -> [u8; 32] {
    TaggedHash::new("own-store/frame").blob(changes).finish().0
}

/// A frame is its length, four bytes big-endian, a checksum of 32, and the changes.
fn framed(changes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(changes.len()).unwrap_or(u32::MAX);
    let sum = checksum(changes);
    [&length.to_be_bytes(), sum.as_slice(), changes].concat()
}

/// The first frame, if it is whole, and what comes after it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<32>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (changes, rest) = rest.split_at_checked(length)?;
    (checksum(changes) == *sum).then_some((changes, rest))
}

/// A change is a byte for what it does, and one or two fields, each with its length.
fn encode(sets: &[ChangeSet]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for change in sets.iter().flat_map(ChangeSet::changes) {
        let fields = [Some(&change.key), change.value.as_ref()];
        bytes.push(u8::from(change.value.is_some()));
        for field in fields.into_iter().flatten() {
            let length = u32::try_from(field.len()).ok()?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field);
        }
    }
    // Longer than a frame can say: nothing that this library writes comes near.
    u32::try_from(bytes.len()).ok()?;
    Some(bytes)
}

fn decode(mut bytes: &[u8]) -> Option<Vec<ChangeSet>> {
    let mut set = ChangeSet::new();
    while let Some((kind, rest)) = bytes.split_first() {
        let (key, rest) = field(rest)?;
        match kind {
            0 => {
                set.remove(key);
                bytes = rest;
            }
            1 => {
                let (value, rest) = field(rest)?;
                set.put(key, value);
                bytes = rest;
            }
            _ => return None,
        }
    }
    Some(vec![set])
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg_attr(test, allow(dead_code, reason = "the tests have no main"))]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("records");
    check_store(|| match LogStore::open(&path) {
        Ok(store) => Box::new(store),
        Err(error) => Box::new(Broken(error)),
    });
    std::fs::remove_file(&path)?;
    check_failing_store(|fails| match open_failing(&path, fails.then_some(1)) {
        Ok(store) => store,
        Err(error) => Box::new(Broken(error)),
    });
    println!("the suites pass: {} bytes written", path.metadata()?.len());
    Ok(())
}

/// A file on a disk that fails: so many parts of three of a frame still get there.
#[derive(Debug)]
struct Failing {
    file: File,
    thirds: usize,
}

impl Log for Failing {
    fn add(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let length = frame.len().saturating_mul(self.thirds) / 3;
        self.file.write_all(frame.get(..length).unwrap_or(frame))?;
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

/// The store at `path`, on a disk that fails where `thirds` says after how much.
fn open_failing(path: &Path, thirds: Option<usize>) -> Result<Box<dyn Store>, StoreError> {
    let store = LogStore::open(path)?;
    let Some(thirds) = thirds else {
        return Ok(Box::new(store));
    };
    let file = Failing {
        file: store.file,
        thirds,
    };
    Ok(Box::new(LogStore {
        file,
        records: store.records,
        failed: false,
    }))
}

/// A store that could not be opened, so that the suite says why.
#[cfg_attr(test, allow(dead_code, reason = "the tests have no main"))]
struct Broken(StoreError);

impl Store for Broken {
    fn append(&mut self, _: &[ChangeSet]) -> Result<(), StoreError> {
        Err(self.0)
    }

    fn scan(&self, _: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        Err(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut LogStore, key: &[u8], value: &[u8]) {
        let mut set = ChangeSet::new();
        set.put(key, value);
        store.append(&[set]).unwrap();
    }

    #[test]
    fn own_store_passes_the_suite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        check_store(|| Box::new(LogStore::open(&path).unwrap()));
    }

    #[test]
    fn own_store_refuses_everything_once_the_disk_has_failed() {
        for thirds in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("records");
            check_failing_store(|fails| open_failing(&path, fails.then_some(thirds)).unwrap());
        }
    }

    #[test]
    fn frame_cut_off_by_a_power_cut_takes_nothing_before_it_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let mut store = LogStore::open(&path).unwrap();
        put(&mut store, b"a", b"durable");
        let first = path.metadata().unwrap().len();
        put(&mut store, b"b", b"under way");
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        let first = usize::try_from(first).unwrap();
        for length in first..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut store = LogStore::open(&path).unwrap();
            let found = store.scan(b"").unwrap();
            assert_eq!(found, [(b"a".to_vec(), b"durable".to_vec())], "{length}");
            // What is written next does not stand behind half a frame.
            put(&mut store, b"c", b"next");
            drop(store);
            let store = LogStore::open(&path).unwrap();
            assert_eq!(store.scan(b"").unwrap().len(), 2, "{length}");
        }
    }

    #[test]
    fn second_process_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let _first = LogStore::open(&path).unwrap();
        let second = LogStore::open(&path).map(|_| ());
        assert_eq!(second, Err(StoreError::Locked));
    }

    #[test]
    fn frame_of_another_length_is_none() {
        let frame_of = framed(b"changes");
        assert_eq!(frame_of.len(), 4 + 32 + 7);
        assert!(frame(&frame_of).is_some());
        for at in 0..frame_of.len() {
            let mut wrong = frame_of.clone();
            wrong[at] ^= 1;
            assert!(frame(&wrong).is_none(), "{at}");
        }
    }
}
