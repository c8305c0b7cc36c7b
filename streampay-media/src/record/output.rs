//! What every kind of file is written to.

use std::io::{self, Seek, SeekFrom, Write};

/// Takes whole pieces, flushes each, and can fill in what was left room for.
#[derive(Debug)]
pub(super) struct Output<W> {
    to: W,
    written: u64,
}

impl<W: Write> Output<W> {
    pub(super) const fn new(to: W) -> Self {
        Self { to, written: 0 }
    }

    /// Bytes so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.to.flush()?;
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        self.written = self.written.saturating_add(length);
        Ok(())
    }
}

impl<W: Write + Seek> Output<W> {
    /// Writes `bytes` over those `at` so far from the first byte written, in one write, and goes
    /// back to the end. Nothing where the output cannot seek after all, as a pipe that is a `File`.
    pub(super) fn fill(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = match self.to.stream_position() {
            Ok(end) => end,
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => return Ok(()),
            Err(error) => return Err(error),
        };
        // What was written last ends here, wherever in the output it began.
        let Some(begin) = end.checked_sub(self.written) else {
            return Ok(());
        };
        self.to.seek(SeekFrom::Start(begin.saturating_add(at)))?;
        self.to.write_all(bytes)?;
        self.to.seek(SeekFrom::Start(end))?;
        self.to.flush()
    }
}
