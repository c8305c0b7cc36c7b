use std::io;

use redb::StorageBackend;

/// The first bytes of a file of redb. They are written last when one is made.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// How much is read at once, in bytes; also where the first page ends. redb's own page.
const PAGE: usize = 4096;

/// What redb 3 writes to, so that a process which dies at any instant leaves a file that opens.
///
/// Two things are missing below it. The header tells the new length of a file that grew, and
/// nothing says that the file is that long before the header is on disk: if it is not, redb
/// refuses the file for ever, though all that was committed is there (mended in redb 4.2). So
/// here a length is durable before anything is written after it; files grow seldom. And a file
/// whose making was cut short has a length but no header, and is refused too. Nothing was ever
/// promised of it, so it is made anew.
#[derive(Debug)]
pub(super) struct Medium<B>(B);

impl<B: StorageBackend> Medium<B> {
    /// Takes up what is there.
    pub(super) fn new(inner: B) -> io::Result<Self> {
        if is_unfinished(&inner)? {
            inner.set_len(0)?;
            inner.sync_data()?;
        }
        Ok(Self(inner))
    }
}

impl<B: StorageBackend> StorageBackend for Medium<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// True where a file was never finished: no header, or the start of one, and no page after it
/// that anything was written to. Whatever else has no header was damaged, and is left alone.
fn is_unfinished(file: &impl StorageBackend) -> io::Result<bool> {
    let len = file.len()?;
    let mut at = 0_u64;
    while at < len {
        let size = usize::try_from(len.saturating_sub(at)).unwrap_or(PAGE);
        let mut page = [0; PAGE];
        let page = page.get_mut(..size.min(PAGE)).unwrap_or_default();
        file.read(at, page)?;
        let unwritten = if at == 0 {
            !page.starts_with(&MAGIC) && is_cut(page)
        } else {
            page.iter().all(|byte| *byte == 0)
        };
        if !unwritten {
            return Ok(false);
        }
        at = at.saturating_add(u64::try_from(PAGE).unwrap_or(u64::MAX));
    }
    Ok(len > 0)
}

/// True for the start of the magic number, or none of it, and zeros in the place of the rest.
fn is_cut(page: &[u8]) -> bool {
    let mut pairs = page
        .iter()
        .zip(&MAGIC)
        .skip_while(|(is, magic)| is == magic);
    pairs.all(|(is, _)| *is == 0)
}
