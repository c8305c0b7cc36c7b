//! Files that are there whole, under their name, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One more for each file that this process writes: two at once have two drafts.
static DRAFTS: AtomicU64 = AtomicU64::new(0);
/// The folders in which there is no draft of another process any more.
static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// How the name of a draft ends.
const DRAFT: &str = ".draft";

/// Makes `bytes` the whole of `folder/name`, durably, for its owner alone to read; a file that was
/// there stays as it was until then. The folder is made where it is not there.
///
/// # Errors
/// Where the folder or the file cannot be written.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let (path, draft) = (folder.join(name), folder.join(draft(name)));
    fs::create_dir_all(folder)?;
    // One that cannot be read may still be written.
    let _ = folder.canonicalize().and_then(|folder| sweep(&folder));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(path)
}

fn draft(name: &str) -> String {
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{number}{DRAFT}")
}

/// Removes the drafts that processes have left which died, before this one makes its first in `folder`:
/// one process at a time writes there. Theirs may have any number.
fn sweep(folder: &Path) -> io::Result<()> {
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.contains(folder) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_draft(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    swept.insert(folder.to_owned());
    Ok(())
}

/// As [`draft`] names them.
fn is_draft(name: &str) -> bool {
    let name = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(DRAFT));
    let number = name.and_then(|name| name.rsplit_once('.'));
    number.is_some_and(|(_, number)| number.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_whole_and_is_its_owners_alone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a").join("b");
        write(&folder, "x", b"a longer text").unwrap();
        let path = write(&folder, "x", b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn drafts_of_processes_that_died_do_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".x.18446744073709551615.draft", ".y.3.draft"] {
            fs::write(at(name), b"half").unwrap();
        }
        for name in ["z.3.draft", ".z.draft", ".z.a.draft"] {
            fs::write(at(name), b"whose?").unwrap();
        }
        write(folder.path(), "x", b"whole").unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        left.retain(|entry| entry.as_ref().unwrap().path() != at("x"));
        assert_eq!(left.len(), 3, "what others call so");
    }

    #[test]
    fn files_written_at_once_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let folder = folder.path();
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(folder, "same", &[writer; 100]).unwrap();
                        write(folder, &format!("own-{writer}"), &[writer; 100]).unwrap();
                    }
                });
            }
        });
        for entry in fs::read_dir(folder.path()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert_eq!(bytes.len(), 100);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        }
    }
}
