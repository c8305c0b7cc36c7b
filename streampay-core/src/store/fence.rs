use std::format;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::string::String;

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
        let mark = next_mark(&read(&mut lock));
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

/// What a process writes that takes a folder after the one that wrote `before`: a number, the epoch,
/// that is higher by one, the process, and a random number. Not by the process alone: in containers
/// that share a folder each may be process 1, and two that took it at once have the same epoch.
fn next_mark(before: &str) -> String {
    let epoch = before.split_whitespace().next();
    let epoch = epoch.and_then(|epoch| epoch.parse::<u64>().ok());
    let epoch = epoch.unwrap_or_default().saturating_add(1);
    let random = RandomState::new().build_hasher().finish();
    format!("{epoch} {} {random:016x}\n", std::process::id())
}

/// What is there, if anything that can be read.
fn read(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => text,
        Err(_) => String::new(),
    }
}

fn write(file: &mut File, mark: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(mark.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_has_a_higher_epoch_and_is_nobody_elses() {
        for (before, epoch) in [
            ("", "1 "),
            ("7 4711 00\n", "8 "),
            ("no number", "1 "),
            ("18446744073709551615", "18446744073709551615 "),
        ] {
            let mark = next_mark(before);
            assert!(mark.starts_with(epoch), "{mark}");
            assert_ne!(mark, next_mark(before), "of the same process, at once");
        }
        let folder = tempfile::tempdir().unwrap();
        let first = Fence::raise(folder.path()).unwrap();
        assert!(first.stands());
        let mark = first.mark.clone();
        drop(first);
        let second = Fence::raise(folder.path()).unwrap();
        assert!(mark.starts_with("1 ") && second.mark.starts_with("2 "));
        assert!(second.stands());
    }
}
