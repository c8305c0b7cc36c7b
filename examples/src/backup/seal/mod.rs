//! Sealed with a passphrase, in the form of age v1, so that `age --decrypt` opens it without this
//! program. Source: <https://age-encryption.org/v1>, RFC 7914, RFC 5869, RFC 8439.
//!
//! Whoever reads to the end knows that nothing is missing or changed: the last chunk is marked.

mod header;

use std::io::{self, BufRead, Read, Write};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::{Zeroize, Zeroizing};

use self::header::FileKey;

/// What of the plaintext is sealed at once, in bytes.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// The random start of the payload, of which its key is made.
const SALT: usize = 16;

/// The work for one guess: 2^18 times 1 KiB, about a second and 256 MiB, as `age` itself.
pub(super) const WORK: u8 = 18;
/// The most that is done to open a file that somebody sealed again: a gibibyte.
const WORK_MAX: u8 = 20;

/// Why a sealed file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    #[error("this is no backup")]
    Foreign,
    #[error(
        "this is sealed in a way that this program does not know, or with more work than it does"
    )]
    Unknown,
    #[error("the passphrase is another one, or the file is damaged")]
    Passphrase,
    #[error("the file is damaged")]
    Damaged,
}

impl From<Unopened> for io::Error {
    fn from(why: Unopened) -> Self {
        Self::new(io::ErrorKind::InvalidData, why)
    }
}

/// True where `start` is that of a sealed file.
pub(super) fn is_sealed(start: &[u8]) -> bool {
    start.starts_with(header::VERSION.as_bytes())
}

/// The length of [`is_sealed`]'s start.
pub(super) const START: usize = header::VERSION.len();

/// Seals what is written to it. Nothing is whole before [`Self::finish`].
pub(super) struct Sealer<W> {
    to: W,
    key: LessSafeKey,
    count: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Begins a file that `passphrase` opens, with 2^`work` of it for a guess.
    pub(super) fn begin(mut to: W, passphrase: &str, work: u8) -> io::Result<Self> {
        let file_key = FileKey::new(&random()?);
        let header = header::write(&file_key, passphrase, &random()?, work)?;
        to.write_all(header.as_bytes())?;
        let salt: [u8; SALT] = random()?;
        to.write_all(&salt)?;
        Ok(Self {
            to,
            key: payload_key(&file_key, &salt)?,
            count: 0,
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)),
        })
    }

    /// The last chunk: from here on the file is whole.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.count, last)?;
        let sealed = (self.key).seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.chunk);
        sealed.map_err(|_| io::Error::other("sealing failed"))?;
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known whether it is the last.
        if self.chunk.len() >= CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let room = CHUNK.saturating_sub(self.chunk.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what was sealed. Only what was read to the end is known to be whole.
pub(super) struct Opener<R> {
    from: R,
    key: LessSafeKey,
    count: u64,
    chunk: Zeroizing<Vec<u8>>,
    read: usize,
    done: bool,
}

impl<R: BufRead> Opener<R> {
    /// Opens a file with its passphrase.
    ///
    /// # Errors
    /// [`Unopened`] within an [`io::Error`]; the reader's own.
    pub(super) fn begin(mut from: R, passphrase: &str) -> io::Result<Self> {
        let file_key = header::read(&mut from, passphrase)?;
        let mut salt = [0; SALT];
        from.read_exact(&mut salt)?;
        Ok(Self {
            key: payload_key(&file_key, &salt)?,
            from,
            count: 0,
            chunk: Zeroizing::new(Vec::new()),
            read: 0,
            done: false,
        })
    }

    fn next(&mut self) -> io::Result<()> {
        self.chunk.zeroize();
        self.read = 0;
        let most = u64::try_from(CHUNK + TAG).unwrap_or_default();
        let mut sealed = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        (&mut self.from).take(most).read_to_end(&mut sealed)?;
        let last = self.from.fill_buf()?.is_empty();
        let nonce = nonce(self.count, last)?;
        let opened = (self.key).open_in_place(nonce, Aad::empty(), &mut sealed);
        let length = opened.map_err(|_| Unopened::Damaged)?.len();
        // An empty chunk is a file of nothing, or somebody's addition.
        if length == 0 && self.count > 0 {
            return Err(Unopened::Damaged.into());
        }
        sealed.truncate(length);
        (self.chunk, self.done) = (sealed, last);
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl<R: BufRead> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read >= self.chunk.len() && !self.done {
            self.next()?;
        }
        let mut left = self.chunk.get(self.read..).unwrap_or_default();
        let count = left.read(into)?;
        self.read = self.read.saturating_add(count);
        Ok(count)
    }
}

fn payload_key(file_key: &FileKey, salt: &[u8]) -> io::Result<LessSafeKey> {
    let failed = |_| io::Error::other("no key");
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(file_key.bytes());
    let key = key
        .expand(&[b"payload"], &CHACHA20_POLY1305)
        .map_err(failed)?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
}

/// 11 bytes of count, and whether it is the last.
fn nonce(count: u64, last: bool) -> io::Result<Nonce> {
    let mut bytes = [0; NONCE_LEN];
    let (head, mark) = bytes.split_at_mut(NONCE_LEN - 1);
    let from = head.len().saturating_sub(8);
    let low = head.get_mut(from..).unwrap_or_default();
    low.copy_from_slice(&count.to_be_bytes());
    mark.fill(u8::from(last));
    // Far beyond any file; never the same one twice.
    if count == u64::MAX {
        return Err(io::Error::other("the file is too long"));
    }
    Ok(Nonce::assume_unique_for_key(bytes))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    for part in bytes.chunks_mut(32) {
        let entropy = streampay_core::driver::entropy()?.0;
        part.iter_mut()
            .zip(entropy)
            .for_each(|(to, from)| *to = from);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
