use alloc::vec::Vec;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, StorageBackend, TableDefinition};

use super::fence::{Fence, private_file};
use super::medium::Medium;
use super::{ChangeSet, Key, Store, StoreError};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// What the file says of itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// The version of the records' form. A file without one is of the first.
const FORMAT: &str = "format";
/// The version that this code writes. One that is higher is refused; one that is lower is brought
/// up by [`MIGRATIONS`], each in a commit of its own.
const FORMAT_NOW: u64 = 1;

/// Brings the records from one version to the next.
type Migration = fn(&mut Records<'_>) -> Result<(), redb::Error>;
type Records<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// From version `index + 1` on.
const MIGRATIONS: &[Migration] = &[];

/// The default store: one redb file and one lock file in a folder.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    poisoned: bool,
    /// Keeps other processes away. None on a disk that is nobody else's.
    fence: Option<Fence>,
}

impl RedbStore {
    /// Opens the store in `folder`, which must exist; creates it where there is none.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open; [`StoreError::NewerFormat`] where
    /// a later version wrote it; [`StoreError::Failed`] where the files cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let fence = Fence::raise(folder)?;
        let file = folder.join("streampay.redb");
        let file = private_file(&file).map_err(|_| StoreError::Failed)?;
        // A file is durable when its name is.
        #[cfg(unix)]
        let named = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        #[cfg(unix)]
        named.map_err(|_| StoreError::Failed)?;
        let file = FileBackend::new(file).map_err(|_| StoreError::Failed)?;
        Self::with(file, Some(fence))
    }

    /// Opens the store on any medium, as a simulated disk.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] where a later version wrote it, [`StoreError::Failed`] where it
    /// cannot be opened.
    pub fn open_on(disk: impl StorageBackend) -> Result<Self, StoreError> {
        Self::with(disk, None)
    }

    fn with(medium: impl StorageBackend, fence: Option<Fence>) -> Result<Self, StoreError> {
        let medium = Medium::new(medium).map_err(|_| StoreError::Failed)?;
        let database = Database::builder().create_with_backend(medium);
        let store = Self {
            database: database.map_err(|_| StoreError::Failed)?,
            poisoned: false,
            fence,
        };
        store.migrate(MIGRATIONS, FORMAT_NOW)?;
        Ok(store)
    }

    /// Brings the records to the version `wanted`, one at a time. A new file, and one from before
    /// files had a version, is of the first.
    fn migrate(&self, migrations: &[Migration], wanted: u64) -> Result<(), StoreError> {
        let failed = |_: redb::Error| StoreError::Failed;
        loop {
            let known = self.format().map_err(failed)?;
            if known == Some(wanted) {
                return Ok(());
            }
            let step = match known {
                None => None,
                Some(known) if known > wanted => return Err(StoreError::NewerFormat),
                Some(known) => {
                    let at = known.checked_sub(1).and_then(|at| usize::try_from(at).ok());
                    let step = at.and_then(|at| migrations.get(at));
                    Some(step.ok_or(StoreError::Corrupt)?)
                }
            };
            let migrated = self.write(|records, about| {
                if let Some(step) = step {
                    step(records)?;
                }
                about.insert(FORMAT, known.map_or(1, |known| known.saturating_add(1)))?;
                Ok(())
            });
            migrated.map_err(failed)?;
        }
    }

    fn format(&self) -> Result<Option<u64>, redb::Error> {
        match self.database.begin_read()?.open_table(ABOUT) {
            Ok(about) => Ok(about.get(FORMAT)?.map(|format| format.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One durable commit.
    fn write(
        &self,
        change: impl FnOnce(
            &mut Records<'_>,
            &mut redb::Table<'_, &'static str, u64>,
        ) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        // Two phases: a peer chooses some of our bytes, and one-phase commits can be made to
        // look complete by crafted data (redb's own documentation).
        write.set_two_phase_commit(true);
        write.set_durability(Durability::Immediate)?;
        {
            let mut records = write.open_table(RECORDS)?;
            let mut about = write.open_table(ABOUT)?;
            change(&mut records, &mut about)?;
        }
        write.commit()?;
        Ok(())
    }

    fn commit(&self, sets: &[ChangeSet]) -> Result<(), redb::Error> {
        self.write(|records, _| {
            for change in sets.iter().flat_map(ChangeSet::changes) {
                match &change.value {
                    Some(value) => records.insert(change.key.as_slice(), value.as_slice())?,
                    None => records.remove(change.key.as_slice())?,
                };
            }
            Ok(())
        })
    }

    fn read(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(RECORDS)?;
        let mut found = Vec::new();
        for record in table.range(prefix..)? {
            let (key, value) = record?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }
}

impl Store for RedbStore {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        if self.fence.as_ref().is_some_and(|fence| !fence.stands()) {
            self.poisoned = true;
            return Err(StoreError::Fenced);
        }
        self.commit(sets).map_err(|_| {
            // After a failed sync nobody knows what is on disk; only opening anew tells.
            self.poisoned = true;
            StoreError::Failed
        })
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        self.read(prefix).map_err(|_| StoreError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableTable;

    use super::*;
    use crate::store::Change;

    fn one(key: &[u8], value: &[u8]) -> ChangeSet {
        let mut set = ChangeSet::new();
        set.put(key.to_vec(), value.to_vec());
        set
    }

    fn upper_case(records: &mut Records<'_>) -> Result<(), redb::Error> {
        let found: Vec<Change> = records
            .range::<&[u8]>(..)?
            .map(|record| {
                let (key, value) = record?;
                let value = Some(value.value().to_ascii_uppercase());
                Ok(Change {
                    key: key.value().to_vec(),
                    value,
                })
            })
            .collect::<Result<_, redb::Error>>()?;
        for change in found {
            let value = change.value.unwrap_or_default();
            records.insert(change.key.as_slice(), value.as_slice())?;
        }
        Ok(())
    }

    #[test]
    fn records_of_an_older_version_are_brought_up_one_version_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RedbStore::open(folder.path()).unwrap();
        store.append(&[one(b"a", b"text")]).unwrap();
        let never = |_: &mut Records<'_>| panic!("this version is there already");
        store.migrate(&[never], 1).unwrap();
        assert_eq!(store.scan(b"a").unwrap()[0].1, b"text");
        store.migrate(&[upper_case], 2).unwrap();
        assert_eq!(store.scan(b"a").unwrap()[0].1, b"TEXT");
        assert_eq!(store.format().unwrap(), Some(2));
        assert_eq!(store.migrate(&[upper_case], 4), Err(StoreError::Corrupt));
        drop(store);
        let refused = RedbStore::open(folder.path()).unwrap_err();
        assert_eq!(refused, StoreError::NewerFormat);
    }

    #[test]
    fn store_stops_when_another_process_took_its_folder_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RedbStore::open(folder.path()).unwrap();
        store.append(&[one(b"a", b"1")]).unwrap();
        // Somebody removes the lock, and another process begins.
        std::fs::remove_file(folder.path().join("streampay.lock")).unwrap();
        drop(Fence::raise(folder.path()).unwrap());
        assert_eq!(store.append(&[one(b"a", b"2")]), Err(StoreError::Fenced));
        assert_eq!(store.append(&[]), Err(StoreError::Poisoned));
    }
}
