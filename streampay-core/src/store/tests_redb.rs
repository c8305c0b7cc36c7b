//! The adapter over redb, where power is cut between two operations.

use alloc::boxed::Box;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ::redb::{Database, StorageBackend, TableDefinition};

use super::*;
use crate::sim::check_failing_store;

#[derive(Clone, Debug)]
enum Done {
    Len(u64),
    Wrote(u64, Vec<u8>),
    Synced,
}

/// A disk in memory that remembers what was done to it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Done>)>>);

fn apply(file: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Len(len) => file.resize(usize::try_from(*len).unwrap(), 0),
        Done::Wrote(at, data) => {
            let at = usize::try_from(*at).unwrap();
            file[at..at + data.len()].copy_from_slice(data);
        }
        Done::Synced => {}
    }
}

impl Disk {
    fn holding(file: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((file, Vec::new()))))
    }

    fn done(&self) -> Vec<Done> {
        self.0.lock().unwrap().1.clone()
    }

    fn note(&self, done: Done) {
        let mut disk = self.0.lock().unwrap();
        apply(&mut disk.0, &done);
        disk.1.push(done);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len().try_into().unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap().0[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(Done::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Done::Synced);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Done::Wrote(offset, data.to_vec()));
        Ok(())
    }
}

/// What is on disk where power is cut right after the first write of the header that follows the
/// growth of the file, and nothing else that was not synced got there, but that write.
fn cut_after_growth(done: &[Done]) -> Vec<u8> {
    let made = done.iter().position(|done| matches!(done, Done::Len(_)));
    let grown = done.iter().rposition(|done| matches!(done, Done::Len(_)));
    let grown = grown.filter(|grown| made < Some(*grown)).unwrap();
    let header = |done: &Done| matches!(done, Done::Wrote(0, _));
    let header = grown + done[grown..].iter().position(header).unwrap();
    let synced = done[..header]
        .iter()
        .rposition(|d| matches!(d, Done::Synced));
    let mut file = Vec::new();
    for done in &done[..synced.unwrap()] {
        apply(&mut file, done);
    }
    apply(&mut file, &done[header]);
    file
}

/// A disk on which no write gets through, once it is full.
#[derive(Debug)]
struct Filling(Disk, Arc<AtomicBool>);

impl Filling {
    fn room(&self) -> io::Result<()> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Filling {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.0.write(offset, data)
    }
}

#[test]
fn store_on_a_disk_that_fails_does_what_every_failing_store_must() {
    let disk = Disk::default();
    check_failing_store(|fails| {
        let full = Arc::new(AtomicBool::new(false));
        let store = RedbStore::open_on(Filling(disk.clone(), Arc::clone(&full)));
        full.store(fails, Ordering::Relaxed);
        Box::new(store.unwrap())
    });
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// More than a new file has room for.
const MUCH: usize = 3_000_000;

/// Why there is [`medium`]: redb 3 alone refuses such a file. When it no longer does, its sync of
/// every length can go.
#[test]
fn redb_alone_refuses_a_file_whose_growth_was_lost() {
    let disk = Disk::default();
    let database = Database::builder().create_with_backend(disk.clone());
    let database = database.unwrap();
    let write = database.begin_write().unwrap();
    let much = vec![7; MUCH];
    let mut table = write.open_table(TABLE).unwrap();
    table.insert(b"k".as_slice(), much.as_slice()).unwrap();
    drop(table);
    write.commit().unwrap();
    let left = Disk::holding(cut_after_growth(&disk.done()));
    let opened = std::panic::catch_unwind(|| Database::builder().create_with_backend(left));
    assert!(!matches!(opened, Ok(Ok(_))));
}

#[test]
fn store_opens_whose_growth_was_cut_short() {
    let disk = Disk::default();
    let mut store = RedbStore::open_on(disk.clone()).unwrap();
    let mut set = ChangeSet::new();
    set.put(*b"before", *b"kept");
    store.append(&[set]).unwrap();
    let mut set = ChangeSet::new();
    set.put(*b"much", vec![7; MUCH]);
    store.append(&[set]).unwrap();
    let left = Disk::holding(cut_after_growth(&disk.done()));
    let store = RedbStore::open_on(left).unwrap();
    let kept = [(b"before".to_vec(), b"kept".to_vec())];
    assert_eq!(store.scan(b"").unwrap(), kept);
}

/// Power is cut at each operation of the first start; all that was done before is on disk.
#[test]
fn store_that_was_never_finished_is_made_anew() {
    let disk = Disk::default();
    drop(RedbStore::open_on(disk.clone()).unwrap());
    let done = disk.done();
    assert!(done.len() > 8);
    let mut file = Vec::new();
    for done in done {
        assert!(RedbStore::open_on(Disk::holding(file.clone())).is_ok());
        apply(&mut file, &done);
    }
}

/// What may once have been a store is not wiped.
#[test]
fn damaged_file_is_refused_and_left_alone() {
    let disk = Disk::default();
    let mut store = RedbStore::open_on(disk.clone()).unwrap();
    let mut set = ChangeSet::new();
    set.put(*b"k", *b"money");
    store.append(&[set]).unwrap();
    drop(store);
    let file = disk.0.lock().unwrap().0.clone();
    let headless = {
        let mut file = file.clone();
        file[..9].fill(0);
        file
    };
    let other = [b"not a store".to_vec(), vec![0; 8_192]].concat();
    for file in [headless, other] {
        let disk = Disk::holding(file.clone());
        assert_eq!(
            RedbStore::open_on(disk.clone()).unwrap_err(),
            StoreError::Failed
        );
        assert_eq!(disk.0.lock().unwrap().0, file);
    }
}
