//! The passphrase of a backup: a secret like any other, of one line.

use zeroize::Zeroizing;

use crate::error::AppError;
use crate::secret::SecretPlace;

/// The shortest that a backup is sealed with, in bytes: whoever has the file can try for ever.
const LEAST: usize = 12;

/// What to open a backup with.
///
/// # Errors
/// [`AppError::Setting`] where there is none, or more than one line.
pub(super) fn of(place: &SecretPlace) -> Result<Zeroizing<String>, AppError> {
    let text = place.read()?;
    match text.contains(['\r', '\n']) {
        true => Err(place.unfit("a passphrase is one line, and here are more")),
        false => Ok(text),
    }
}

/// What to seal a backup with.
///
/// # Errors
/// As [`of`]; [`AppError::Usage`] for one that is soon guessed.
pub(super) fn new(place: &SecretPlace) -> Result<Zeroizing<String>, AppError> {
    let text = of(place)?;
    if text.len() < LEAST {
        return Err(AppError::Usage(
            "this passphrase is soon guessed: take 12 characters or more, such as five words drawn \
             at random",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn passphrase_is_one_line_that_nobody_else_reads_and_is_never_cut() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phrase");
        let place: SecretPlace = format!("file:{}", path.display()).parse().unwrap();
        let with = |text: &str, mode: u32| {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = of(&place).ok().map(|text| text.to_string());
            (read, new(&place).is_ok())
        };
        let words = "five random words here";
        let line = format!("{words}\r\n");
        assert_eq!(with(&line, 0o600), (Some(words.to_owned()), true));
        assert_eq!(with("short\n", 0o600), (Some("short".to_owned()), false));
        assert_eq!(with("\n", 0o600), (None, false));
        assert_eq!(with("five random words\nhere", 0o600), (None, false));
        // Whoever has the backup and this has the money.
        assert_eq!(with(words, 0o644), (None, false));
        assert_eq!(with(words, 0o640), (None, false));
        // The whole of it, or nothing.
        let long = "a".repeat(2_000);
        assert_eq!(with(&long, 0o600), (Some(long.clone()), true));
        assert_eq!(with(&"a".repeat(64 * 1024), 0o600), (None, false));
    }
}
