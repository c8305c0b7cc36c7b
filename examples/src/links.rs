//! Where the streams of unsettled sessions are: whoever comes back after a crash finds the streamer,
//! who can sign over at once what is locked.

use std::path::{Path, PathBuf};

use streampay_core::units::SessionId;

use crate::home::private_file;
use crate::link::StreamLink;

/// A file a session, with its link in it. What is lost here costs nobody money.
#[derive(Clone, Debug)]
pub struct Links {
    folder: PathBuf,
}

impl Links {
    /// Those in `folder`, which need not be there yet.
    #[must_use]
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("links"),
        }
    }

    /// Keeps `link`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep(&self, session: SessionId, link: &StreamLink) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.file(session);
        private_file(&path)?;
        std::fs::write(path, link.to_string())
    }

    /// The session's link, where there is one.
    #[must_use]
    pub fn of(&self, session: SessionId) -> Option<StreamLink> {
        let text = std::fs::read_to_string(self.file(session)).ok()?;
        text.parse().ok()
    }

    /// The sessions that have one.
    pub(crate) fn all(&self) -> Vec<SessionId> {
        let Ok(files) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let name =
            |file: std::io::Result<std::fs::DirEntry>| file.ok()?.file_name().into_string().ok();
        let names = files.filter_map(name);
        let mut all: Vec<SessionId> = names.filter_map(|name| name.parse().ok()).collect();
        all.sort_unstable();
        all
    }

    /// The session is settled, and nothing is left to ask.
    pub fn forget(&self, session: SessionId) {
        let _ = std::fs::remove_file(self.file(session));
    }

    fn file(&self, session: SessionId) -> PathBuf {
        self.folder.join(session.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_kept_until_its_session_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let (links, session) = (Links::new(folder.path()), SessionId([7; 32]));
        let text = format!("http://127.0.0.1:8080/whep#key={}", "ab".repeat(32));
        let link: StreamLink = text.parse().unwrap();
        assert_eq!(links.of(session), None);
        links.keep(session, &link).unwrap();
        assert_eq!(links.of(session), Some(link));
        assert_eq!(links.of(SessionId([8; 32])), None);
        assert_eq!(links.all(), [session]);
        links.forget(session);
        assert_eq!(links.of(session), None);
    }
}
