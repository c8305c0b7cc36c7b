use alloc::vec::Vec;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, StorageBackend, TableDefinition};

use super::medium::Medium;
use super::{ChangeSet, Key, Store, StoreError};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// The default store: one redb file and one lock file in a folder.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    poisoned: bool,
    /// Held for its lock; released when the process ends, however it ends. None on a disk that is
    /// nobody else's.
    _lock: Option<std::fs::File>,
}

/// A file for its owner alone: what is stored is as secret as money.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

impl RedbStore {
    /// Opens the store in `folder`, which must exist; creates it where there is none.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open; [`StoreError::Failed`] where the
    /// files cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let private = |name| private_file(&folder.join(name)).map_err(|_| StoreError::Failed);
        let lock = private("streampay.lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::Locked),
            Err(std::fs::TryLockError::Error(_)) => return Err(StoreError::Failed),
        }
        let file = private("streampay.redb")?;
        // A file is durable when its name is.
        #[cfg(unix)]
        let named = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        #[cfg(unix)]
        named.map_err(|_| StoreError::Failed)?;
        let file = FileBackend::new(file).map_err(|_| StoreError::Failed)?;
        Self::with(file, Some(lock))
    }

    /// Opens the store on any medium, as a simulated disk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] where it cannot be opened.
    pub fn open_on(disk: impl StorageBackend) -> Result<Self, StoreError> {
        Self::with(disk, None)
    }

    fn with(medium: impl StorageBackend, lock: Option<std::fs::File>) -> Result<Self, StoreError> {
        let medium = Medium::new(medium).map_err(|_| StoreError::Failed)?;
        let database = Database::builder().create_with_backend(medium);
        let database = database.map_err(|_| StoreError::Failed)?;
        let mut store = Self {
            database,
            poisoned: false,
            _lock: lock,
        };
        store.append(&[])?;
        Ok(store)
    }

    fn commit(&self, sets: &[ChangeSet]) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        // Two phases: a peer chooses some of our bytes, and one-phase commits can be made to
        // look complete by crafted data (redb's own documentation).
        write.set_two_phase_commit(true);
        write.set_durability(Durability::Immediate)?;
        {
            let mut table = write.open_table(RECORDS)?;
            for change in sets.iter().flat_map(ChangeSet::changes) {
                match &change.value {
                    Some(value) => table.insert(change.key.as_slice(), value.as_slice())?,
                    None => table.remove(change.key.as_slice())?,
                };
            }
        }
        write.commit()?;
        Ok(())
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
