//! What is in a backup once it is open: a tar archive, a list of its files first.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ring::digest;
use serde::{Deserialize, Serialize};

use super::contents::Contents;

/// The list's name within the archive.
const LIST: &str = "streampay-backup.json";
/// What this form of a backup calls itself.
const FORM: &str = "streampay-backup/1";
/// What any form does.
const FORMS: &str = "streampay-backup/";
/// The most files, and the most bytes of the list and of all of them.
const FILES_MAX: usize = 100_000;
const LIST_MAX: u64 = 64 * 1024 * 1024;
const BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
const NAME_MAX: usize = 255;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) form: String,
    /// When it was made, by the clock of the machine, in seconds of Unix time.
    pub(super) made_unix_s: u64,
    /// What the folder held.
    pub(super) contents: Contents,
    pub(super) files: Vec<Entry>,
}

/// One file. Names are relative to the folder, with `/` between at most two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Of the file's bytes, in hex.
    pub(super) sha256: String,
}

/// Why an archive cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0}: this name cannot be in a backup")]
    Name(String),
    #[error("it is too large for a backup")]
    Size,
    #[error("{0} changed while it was saved")]
    Changed(String),
    #[error("a later version of this program made this backup; use that one")]
    Newer,
    #[error("this is no backup, or it is damaged: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl List {
    /// All files of `folder` but locks and drafts.
    pub(super) fn of(folder: &Path, contents: Contents, now: u64) -> Result<Self, Unfit> {
        let mut files = Vec::new();
        collect(folder, "", &mut files)?;
        files.sort_by(|one: &Entry, other| one.name.cmp(&other.name));
        let list = Self {
            form: FORM.to_owned(),
            made_unix_s: now,
            contents,
            files,
        };
        list.check()?;
        Ok(list)
    }

    /// Writes the list and its files.
    pub(super) fn write(&self, folder: &Path, to: impl Write) -> Result<(), Unfit> {
        let mut archive = tar::Builder::new(to);
        let list = serde_json::to_vec_pretty(self).map_err(io::Error::from)?;
        let length = u64::try_from(list.len()).unwrap_or(u64::MAX);
        archive.append_data(&mut self.header(length), LIST, list.as_slice())?;
        for entry in &self.files {
            let file = File::open(path_of(folder, &entry.name))?;
            let mut file = Hashing::new(file.take(entry.bytes));
            archive.append_data(&mut self.header(entry.bytes), &entry.name, &mut file)?;
            if file.finish() != (entry.bytes, entry.sha256.clone()) {
                return Err(Unfit::Changed(entry.name.clone()));
            }
        }
        archive.finish()?;
        Ok(())
    }

    /// Reads an archive to its end and checks all of it. With `folder`, its files are there then,
    /// durable, for their owner alone.
    pub(super) fn read(mut from: impl Read, folder: Option<&Path>) -> Result<Self, Unfit> {
        let mut archive = tar::Archive::new(&mut from);
        let mut entries = archive.entries()?;
        let first = entries.next().ok_or(Unfit::Damaged("it is empty"))??;
        let list = Self::parse(first)?;
        for wanted in &list.files {
            let entry = entries
                .next()
                .ok_or(Unfit::Damaged("a file is missing"))??;
            let same = *entry.path_bytes() == *wanted.name.as_bytes()
                && entry.size() == wanted.bytes
                && entry.header().entry_type() == tar::EntryType::Regular;
            if !same {
                return Err(Unfit::Damaged("its files are not those of its list"));
            }
            let mut entry = Hashing::new(entry);
            match folder {
                Some(folder) => unpack(&path_of(folder, &wanted.name), &mut entry)?,
                None => {
                    io::copy(&mut entry, &mut io::sink())?;
                }
            }
            if entry.finish() != (wanted.bytes, wanted.sha256.clone()) {
                return Err(Unfit::Damaged("a file is not what it was"));
            }
        }
        if entries.next().is_some() {
            return Err(Unfit::Damaged("it has more files than its list"));
        }
        // Only the end tells that nothing is cut off. After the archive there is padding at most.
        let rest = io::copy(&mut from.take(LIST_MAX), &mut io::sink())?;
        if rest >= LIST_MAX {
            return Err(Unfit::Damaged("it goes on after its end"));
        }
        Ok(list)
    }

    fn parse(entry: tar::Entry<'_, impl Read>) -> Result<Self, Unfit> {
        if *entry.path_bytes() != *LIST.as_bytes() || entry.size() > LIST_MAX {
            return Err(Unfit::Damaged("it has no list"));
        }
        let mut text = Vec::new();
        entry.take(LIST_MAX).read_to_end(&mut text)?;
        let no_list = |_| Unfit::Damaged("its list cannot be read");
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(no_list)?;
        match value.get("form").and_then(serde_json::Value::as_str) {
            Some(FORM) => {}
            Some(other) if other.starts_with(FORMS) => return Err(Unfit::Newer),
            _ => return Err(Unfit::Damaged("its list is of another form")),
        }
        let list: Self = serde_json::from_value(value).map_err(no_list)?;
        list.check()?;
        Ok(list)
    }

    /// Names that stay within the folder, each once, and sizes that are borne.
    fn check(&self) -> Result<(), Unfit> {
        let mut bytes = 0_u64;
        for entry in &self.files {
            if !is_fit(&entry.name) {
                return Err(Unfit::Name(crate::report::plain(&entry.name)));
            }
            bytes = bytes.saturating_add(entry.bytes);
        }
        let in_order = self.files.is_sorted_by(|one, next| one.name < next.name);
        if !in_order {
            return Err(Unfit::Damaged("its list is not in order"));
        }
        match self.files.len() > FILES_MAX || bytes > BYTES_MAX {
            true => Err(Unfit::Size),
            false => Ok(()),
        }
    }

    fn header(&self, bytes: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_mtime(self.made_unix_s);
        header.set_size(bytes);
        header
    }
}

fn collect(folder: &Path, within: &str, files: &mut Vec<Entry>) -> Result<(), Unfit> {
    for found in fs::read_dir(path_of(folder, within))? {
        let found = found?;
        let name = found.file_name();
        let bad = || Unfit::Name(name.to_string_lossy().into_owned());
        let name = name.to_str().ok_or_else(bad)?;
        if name.starts_with('.') || name.ends_with(".lock") {
            continue;
        }
        let path = match within {
            "" => name.to_owned(),
            within => format!("{within}/{name}"),
        };
        let about = fs::metadata(found.path())?;
        if about.is_dir() && within.is_empty() && is_fit(name) {
            collect(folder, name, files)?;
        } else if about.is_file() && is_fit(&path) && files.len() < FILES_MAX {
            let mut file = Hashing::new(File::open(found.path())?);
            io::copy(&mut file, &mut io::sink())?;
            let (bytes, sha256) = file.finish();
            files.push(Entry {
                name: path,
                bytes,
                sha256,
            });
        } else {
            return Err(Unfit::Name(path));
        }
    }
    Ok(())
}

/// One or two parts of letters, digits, `-`, `_` and `.`, none of them hidden.
fn is_fit(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(fine);
    name.len() <= NAME_MAX && name.split('/').count() <= 2 && name.split('/').all(part)
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    name.split('/')
        .filter(|part| !part.is_empty())
        .fold(folder.to_owned(), |path, part| path.join(part))
}

fn unpack(path: &Path, from: &mut impl Read) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        let mut maker = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
        maker.create(parent)?;
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    io::copy(from, &mut file)?;
    file.sync_all()?;
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Counts and hashes what is read through it.
struct Hashing<R> {
    from: R,
    hash: digest::Context,
    bytes: u64,
}

impl<R> Hashing<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            hash: digest::Context::new(&digest::SHA256),
            bytes: 0,
        }
    }

    fn finish(self) -> (u64, String) {
        let digest = self.hash.finish();
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        (self.bytes, hex.collect())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.hash.update(into.get(..count).unwrap_or_default());
        let read = u64::try_from(count).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(read);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
