//! One file with everything a user owns, sealed with a passphrase; and a folder made from it again.
//!
//! Without this program: `age --decrypt FILE | tar x`. What a folder that was restored may lack, and
//! how it finds the rest again, is in `spec/ledger.md`.

mod archive;
pub mod commands;
mod contents;
pub(crate) mod due;
mod passphrase;
pub(crate) mod restored;
mod seal;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use streampay_core::units::Unix;
use tempfile::TempDir;

use self::archive::{List, Unfit};
pub use self::contents::{AtMint, Contents, OpenSession};
use self::restored::Restored;
use self::seal::{Opener, Sealer};
use crate::error::AppError;
use crate::secret::SecretPlace;
use crate::seed_words::SeedWords;
use crate::split;

/// What a backup is of, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// When, by the clock of the machine that made it.
    pub made: Unix,
    /// What the folder held then.
    pub contents: Contents,
}

/// Saves `folder` in `file`, which is there whole and was read again, or not at all. Another
/// backup that was there is replaced.
///
/// # Errors
/// [`AppError`]: the folder is in use, or one of both cannot be read or written.
pub async fn backup(
    folder: &Path,
    file: &Path,
    passphrase: &SecretPlace,
) -> Result<Backup, AppError> {
    let phrase = passphrase::new(passphrase)?;
    if !folder.join("identity").exists() {
        return Err(AppError::file(folder, "there is nothing here to save"));
    }
    let failed = |error: &dyn core::fmt::Display| AppError::file(file, &error.to_string());
    let parent = parent_of(file);
    check_target(folder, file, parent)?;
    let (contents, lock) = Contents::of(folder).await?;
    let list = List::of(folder, contents, cdk::util::unix_time());
    let list = list.map_err(|error| AppError::file(folder, &error.to_string()))?;
    let draft = tempfile::Builder::new()
        .prefix(".backup-")
        .tempfile_in(parent);
    let draft = draft.map_err(|error| failed(&error))?;
    let sealed = || -> Result<(), Unfit> {
        let to = BufWriter::new(draft.as_file());
        let mut sealer = Sealer::begin(to, &phrase, seal::WORK)?;
        list.write(folder, &mut sealer)?;
        sealer.finish()?;
        draft.as_file().sync_all()?;
        // A backup is one once it has been read.
        match open(draft.path(), &phrase, None)? == list {
            true => Ok(()),
            false => Err(Unfit::Damaged("what was written is not what was read")),
        }
    };
    sealed().map_err(|error| failed(&error))?;
    draft.persist(file).map_err(|error| failed(&error.error))?;
    #[cfg(unix)]
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| failed(&error))?;
    // Without it the user is told once more to make one.
    let _ = due::saved(folder, Unix(list.made_unix_s));
    drop(lock);
    Ok(Backup::from(list))
}

/// What is in a backup; all of it is read.
///
/// # Errors
/// [`AppError`] where it does not open, or something is wrong with it.
pub fn look(file: &Path, passphrase: &SecretPlace) -> Result<Backup, AppError> {
    let list = open(file, &passphrase::of(passphrase)?, None);
    let list = list.map_err(|error| AppError::file(file, &error.to_string()))?;
    Ok(list.into())
}

/// Makes `folder` from a backup: there is nothing under this name, or an empty folder. It is there
/// whole then, or not at all. `mints` are those that were used since, as far as they are known.
///
/// # Errors
/// [`AppError`]: there is something in the folder; the backup does not open, or is damaged.
pub async fn restore(
    folder: &Path,
    file: &Path,
    passphrase: &SecretPlace,
    mints: Vec<String>,
) -> Result<Backup, AppError> {
    let phrase = passphrase::of(passphrase)?;
    let staging = staged(folder)?;
    let list = open(file, &phrase, Some(staging.path()));
    let list = list.map_err(|error| AppError::file(file, &error.to_string()))?;
    // Both stores open, or this is no folder to go on with.
    let (contents, lock) = Contents::of(staging.path()).await?;
    if contents != list.contents {
        return Err(AppError::file(
            file,
            "what it says of itself is not what is in it",
        ));
    }
    drop(lock);
    split::doubt_all(staging.path())?;
    Restored::after(staging.path(), list.made_unix_s, mints)?.write(staging.path())?;
    due::saved(staging.path(), Unix(list.made_unix_s))
        .map_err(|error| AppError::file(folder, &error.to_string()))?;
    place(staging, folder)?;
    Ok(list.into())
}

/// Makes `folder` from its words alone: who its owner is, and the wallet's seed. `mints` are those
/// where there may be ecash. What was in sessions that are open is not in words.
///
/// # Errors
/// [`AppError`]: there is something in the folder; the words are none.
pub fn restore_words(
    folder: &Path,
    words: &SecretPlace,
    mints: Vec<String>,
) -> Result<(), AppError> {
    let words = SeedWords::parse(&words.read()?).ok_or(AppError::Usage(
        "these are no seed words: twelve English ones of BIP 39, the last of which checks the others",
    ))?;
    let staging = staged(folder)?;
    let failed = AppError::io("the words cannot be written");
    words.write(staging.path()).map_err(failed)?;
    // Of any time: nothing of the wallet is known.
    Restored::new(0, mints).write(staging.path())?;
    place(staging, folder)
}

/// A folder beside `folder`, which is empty or not there.
fn staged(folder: &Path) -> Result<TempDir, AppError> {
    let is_empty = match fs::read_dir(folder) {
        Ok(mut within) => within.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !is_empty {
        return Err(AppError::file(
            folder,
            "there is something here, and restoring would overwrite it: name an empty folder with \
             --data",
        ));
    }
    let failed = |error: io::Error| AppError::file(folder, &error.to_string());
    let parent = parent_of(folder);
    fs::create_dir_all(parent).map_err(failed)?;
    let mut staging = tempfile::Builder::new();
    staging.prefix(".restoring-");
    staging.tempdir_in(parent).map_err(failed)
}

/// Under its own name at once, and durable.
fn place(staging: TempDir, folder: &Path) -> Result<(), AppError> {
    let failed = |error: io::Error| AppError::file(folder, &error.to_string());
    if folder.exists() {
        fs::remove_dir(folder).map_err(failed)?;
    }
    fs::rename(staging.path(), folder).map_err(failed)?;
    // There is nothing left under its old name.
    let _ = staging.keep();
    #[cfg(unix)]
    File::open(parent_of(folder))
        .and_then(|parent| parent.sync_all())
        .map_err(failed)?;
    Ok(())
}

impl From<List> for Backup {
    fn from(list: List) -> Self {
        Self {
            made: Unix(list.made_unix_s),
            contents: list.contents,
        }
    }
}

fn open(file: &Path, phrase: &str, into: Option<&Path>) -> Result<List, Unfit> {
    let opener = Opener::begin(BufReader::new(File::open(file)?), phrase)?;
    List::read(opener, into)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Not within the folder, where it would be lost with it; and over nothing but a backup.
fn check_target(folder: &Path, file: &Path, parent: &Path) -> Result<(), AppError> {
    let real = |path: &Path| -> Result<PathBuf, AppError> {
        let real = path.canonicalize();
        real.map_err(|error| AppError::file(path, &error.to_string()))
    };
    if real(parent)?.starts_with(real(folder)?) {
        return Err(AppError::file(
            file,
            "this is within the folder that it saves, and would be lost with it",
        ));
    }
    let mut start = [0; seal::START];
    match File::open(file).and_then(|mut there| there.read_exact(&mut start)) {
        Ok(()) if seal::is_sealed(&start) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(AppError::file(
            file,
            "this is there, and no backup: name another file",
        )),
    }
}

#[cfg(test)]
mod tests;
