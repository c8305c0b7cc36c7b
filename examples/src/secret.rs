//! Secrets that a user hands over: by name, never by themselves. A command line is seen by every
//! program of the machine and kept by shells; a settings file is copied and shown around.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;
use zeroize::Zeroizing;

use crate::error::AppError;

/// The longest secret that is read, in bytes. Chosen arbitrarily: no password or seed is so long.
const LENGTH_MAX: u64 = 64 * 1024;
const TOO_LONG: &str = "it is too long: a secret has less than 64 KiB";

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// `env:NAME`: in this environment variable.
    Environment(String),
    /// `file:PATH`: in this file, which nobody else may read.
    File(PathBuf),
}

impl SecretPlace {
    /// What a secret setting says instead of the secret.
    pub const FORMS: &str = "env:NAME for an environment variable, or file:PATH for a file that \
                             only you can read (chmod 600)";

    /// The place that `text` names; none where it names none.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            return (!name.is_empty()).then(|| Self::Environment(name.to_owned()));
        }
        let path = text.strip_prefix("file:")?;
        (!path.is_empty()).then(|| Self::File(path.into()))
    }

    /// The secret, without the line's end.
    ///
    /// # Errors
    /// [`AppError::Setting`]: there is none, it is too long, or others can read the file.
    pub fn read(&self) -> Result<Zeroizing<String>, AppError> {
        let failed = |why: &str| self.unfit(why);
        let text = match self {
            Self::Environment(name) => std::env::var(name)
                .map(Zeroizing::new)
                .map_err(|_| failed("the variable is not set, or is no text"))?,
            Self::File(path) => read_file(path).map_err(|why| failed(&why))?,
        };
        if u64::try_from(text.len()).map_or(true, |length| length >= LENGTH_MAX) {
            return Err(failed(TOO_LONG));
        }
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Err(failed("it is empty"));
        }
        Ok(Zeroizing::new(line.to_owned()))
    }
}

impl SecretPlace {
    /// What is wrong with the secret here.
    pub(crate) fn unfit(&self, why: &str) -> AppError {
        AppError::Setting {
            origin: self.to_string(),
            why: why.to_owned(),
        }
    }
}

impl FromStr for SecretPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::named(text).ok_or_else(|| {
            format!(
                "a secret is not said here, where others can see it: say {}",
                Self::FORMS
            )
        })
    }
}

impl core::fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = path.display();
            return Err(format!(
                "others can use this file (mode {:03o}): chmod 600 {path}",
                mode & 0o777
            ));
        }
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(LENGTH_MAX).read_to_string(&mut text);
    match read.map_err(failed)? {
        read if u64::try_from(read).is_ok_and(|read| read < LENGTH_MAX) => Ok(text),
        _ => Err(TOO_LONG.to_owned()),
    }
}

/// An address that may have a password in it, as a command line or a settings file takes it: the
/// address without one, or where the whole of it is.
///
/// # Errors
/// What to say instead of a password.
pub fn address(text: &str) -> Result<String, String> {
    match SecretPlace::named(text) {
        // It is kept, and the next process may run elsewhere.
        Some(SecretPlace::File(path)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            return Ok(SecretPlace::File(path).to_string());
        }
        Some(place) => return Ok(place.to_string()),
        None => {}
    }
    if text.parse().is_ok_and(|url: Url| url.password().is_some()) {
        return Err(format!(
            "a password is not said here, where others can see it: put the whole address elsewhere, \
             and say {}",
            SecretPlace::FORMS
        ));
    }
    Ok(text.to_owned())
}

/// The address that `text` is, or that is where it says.
///
/// # Errors
/// [`AppError::Setting`] where there is none.
pub fn whole_address(text: &str) -> Result<Zeroizing<String>, AppError> {
    match SecretPlace::named(text) {
        Some(place) => place.read(),
        None => Ok(Zeroizing::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_and_never_said() {
        for bad in ["hunter2", "", "env:", "file:", "ENV:X"] {
            let refused = bad.parse::<SecretPlace>().unwrap_err();
            assert!(refused.contains("env:NAME"), "{refused}");
            assert!(bad.is_empty() || !refused.contains("hunter2"));
        }
        let place: SecretPlace = "env:STREAMPAY_NO_SUCH_VARIABLE".parse().unwrap();
        let error = place.read().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("not set"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let place: SecretPlace = format!("file:{}", path.display()).parse().unwrap();
        assert!(place.read().is_err(), "there is none");
        for (mode, text, good) in [
            (0o644, "hunter2\n", false),
            (0o640, "hunter2\n", false),
            (0o602, "hunter2\n", false),
            (0o600, "\n", false),
            (0o600, "hunter2\r\n", true),
            (0o400, "hunter2", true),
        ] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            match place.read() {
                Ok(read) => assert!(good && *read == "hunter2", "{mode:o}"),
                Err(error) => {
                    assert!(!good && !error.to_string().contains("hunter2"), "{error}");
                }
            }
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_one_without_is_not() {
        for good in [
            "http://127.0.0.1:8332/?cookie=/a/.cookie",
            "https://example.com/api",
            "env:NODE",
            "file:/a/node",
            "nonsense",
        ] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        let refused = address("http://ann:hunter2@127.0.0.1:8332").unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
        assert_eq!(
            *whole_address("http://127.0.0.1").unwrap(),
            "http://127.0.0.1"
        );
        assert!(whole_address("env:STREAMPAY_NO_SUCH_VARIABLE").is_err());
    }
}
