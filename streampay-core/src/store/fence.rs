use std::format;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

/// A file for its owner alone: what is stored is as secret as money.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// Keeps a folder for one process: a locked file, and in it what only this process writes. The
/// lock keeps another one away where the file system has locks; where it has none (some network
/// file systems), or somebody removed the file, the mark tells this one that it was replaced.
#[derive(Debug)]
pub(super) struct Fence {
    path: PathBuf,
    mark: String,
    /// Held for its lock; released when the process ends, however it ends.
    _lock: File,
}

impl Fence {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it; [`StoreError::Failed`] where its file
    /// cannot be written.
    pub(super) fn raise(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("streampay.lock");
        let mut lock = private_file(&path).map_err(|_| StoreError::Failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked),
            Err(TryLockError::Error(_)) => return Err(StoreError::Failed),
        }
        let mark = own_mark();
        write(&mut lock, &mark).map_err(|_| StoreError::Failed)?;
        Ok(Self {
            path,
            mark,
            _lock: lock,
        })
    }

    /// False where another process took the folder meanwhile. A file that cannot be read just now
    /// tells nothing.
    pub(super) fn stands(&self) -> bool {
        match std::fs::read_to_string(&self.path) {
            Ok(mark) => mark == self.mark,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// Which process, and how many it has taken: no other one that runs has written it.
fn own_mark() -> String {
    static RAISED: AtomicU64 = AtomicU64::new(0);
    let count = RAISED.fetch_add(1, Ordering::Relaxed);
    format!("{} {count}\n", std::process::id())
}

fn write(file: &mut File, mark: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(mark.as_bytes())?;
    file.sync_all()
}
