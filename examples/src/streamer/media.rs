//! Where a stream comes from: a file, or somebody who publishes.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use streampay_core::driver::entropy;
use streampay_media::whip::StreamKey;
use zeroize::Zeroizing;

use crate::error::AppError;
use crate::home::private_file;

/// What is streamed.
#[derive(Clone, Debug)]
pub enum Media {
    /// A media file, looped.
    File(PathBuf),
    /// What is published with WHIP.
    Whip(StreamKey),
    /// RTP over UDP, as an SDP file describes it.
    Rtp(PathBuf),
}

impl From<PathBuf> for Media {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

/// The stream key of `folder`, and its file: drawn on the first call, or what the user wrote there.
///
/// # Errors
/// [`AppError`]: the file cannot be read or written, or holds no key.
pub fn stream_key(folder: &Path) -> Result<(StreamKey, PathBuf), AppError> {
    let path = folder.join("stream-key");
    let failed = |error: std::io::Error| AppError::file(&path, &error.to_string());
    let mut file = private_file(&path).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    let most = u64::try_from(StreamKey::LENGTH_MAX * 2).unwrap_or(u64::MAX);
    (&mut file)
        .take(most)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.trim().is_empty() {
        let drawn = entropy().map_err(failed)?;
        let hex = |byte: &u8| format!("{byte:02x}");
        *text = drawn.0.iter().take(20).map(hex).collect();
        writeln!(file, "{}", *text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
    }
    let key = StreamKey::new(text.trim());
    let key = key.map_err(|error| AppError::file(&path, &error.to_string()))?;
    Ok((key, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_key_is_drawn_once_or_chosen_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = stream_key(folder.path()).unwrap();
        let drawn = std::fs::read_to_string(&path).unwrap();
        assert_eq!(drawn.trim().len(), 40);
        stream_key(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), drawn);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&path, "  my own key of letters \n").unwrap();
        assert!(stream_key(folder.path()).is_err(), "it holds white space");
        std::fs::write(&path, "my-own-key-of-letters\n").unwrap();
        stream_key(folder.path()).unwrap();
    }
}
