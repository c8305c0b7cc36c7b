use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

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

/// Keeps a folder for one process: a locked file, and a number in it that each process raises. The
/// lock keeps another one away where the file system has locks; where it has none (some network
/// file systems), or somebody removed the file, the number tells this one that it was replaced.
#[derive(Debug)]
pub(super) struct Fence {
    path: PathBuf,
    epoch: u64,
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
        let epoch = next_epoch(&mut lock).map_err(|_| StoreError::Failed)?;
        Ok(Self {
            path,
            epoch,
            _lock: lock,
        })
    }

    /// False where another process took the folder meanwhile.
    pub(super) fn stands(&self) -> bool {
        let text = std::fs::read_to_string(&self.path);
        text.is_ok_and(|text| epoch_in(&text) == self.epoch)
    }
}

/// What does not read as a number is none yet.
fn epoch_in(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

fn next_epoch(file: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok();
    let epoch = epoch_in(&text).saturating_add(1);
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{epoch}")?;
    file.sync_all()?;
    Ok(epoch)
}
