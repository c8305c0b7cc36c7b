//! The passphrase, which is never on the command line: others see that.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::error::AppError;

/// The shortest that a backup is sealed with, in bytes: whoever has the file can try for ever.
const LEAST: usize = 12;
const MOST: u64 = 1_024;

/// Where a passphrase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passphrase {
    /// In a variable of the environment.
    Env(String),
    /// In a file's first line.
    File(PathBuf),
}

impl FromStr for Passphrase {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("a passphrase is not said here, where others see it: env:NAME or file:PATH"),
        }
    }
}

impl Passphrase {
    /// All that is there.
    ///
    /// # Errors
    /// [`AppError`] where it cannot be read.
    pub(super) fn read_all(&self) -> Result<Zeroizing<String>, AppError> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map(Zeroizing::new)
                .map_err(|_| AppError::Usage("the environment has nothing under this name")),
            Self::File(path) => {
                let failed = |error: std::io::Error| AppError::file(path, &error.to_string());
                let mut text = Zeroizing::new(String::new());
                let file = File::open(path).map_err(failed)?;
                let read = file.take(MOST).read_to_string(&mut text);
                read.map_err(failed)?;
                Ok(text)
            }
        }
    }

    /// What to open a backup with.
    ///
    /// # Errors
    /// [`AppError::Usage`] where there is none.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, AppError> {
        let mut text = self.read_all()?;
        let end = text.find(['\r', '\n']).unwrap_or(text.len());
        text.truncate(end);
        match text.is_empty() {
            true => Err(AppError::Usage("the passphrase is empty")),
            false => Ok(text),
        }
    }

    /// What to seal a backup with.
    ///
    /// # Errors
    /// [`AppError::Usage`] where there is none, or one that is soon guessed.
    pub(super) fn read_new(&self) -> Result<Zeroizing<String>, AppError> {
        let text = self.read()?;
        if text.len() < LEAST {
            return Err(AppError::Usage(
                "this passphrase is soon guessed: take 12 characters or more, such as five words \
                 drawn at random",
            ));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrase_is_the_first_line_and_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phrase");
        let said: Passphrase = format!("file:{}", path.display()).parse().unwrap();
        let with = |text: &str| {
            std::fs::write(&path, text).unwrap();
            (
                said.read().ok().map(|text| text.to_string()),
                said.read_new().is_ok(),
            )
        };
        assert_eq!(
            with("five random words here\n"),
            (Some("five random words here".into()), true)
        );
        assert_eq!(with("short\r\nmore"), (Some("short".into()), false));
        assert_eq!(with("\n"), (None, false));
        assert!("hunter2".parse::<Passphrase>().is_err());
        assert!("env:".parse::<Passphrase>().is_err());
    }
}
