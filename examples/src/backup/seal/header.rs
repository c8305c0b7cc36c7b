//! The start of a sealed file: its key, wrapped by a passphrase.

use std::io::{self, BufRead, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::{SALT, TAG, Unopened, WORK_MAX};

pub(super) const VERSION: &str = "age-encryption.org/v1\n";
const STANZA: &str = "-> scrypt ";
const END: &str = "---";
const LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// Longer than any header with one passphrase, in bytes.
const HEADER_MAX: u64 = 512;
const KEY: usize = 16;

/// The secret of one file.
pub(super) struct FileKey(Zeroizing<[u8; KEY]>);

impl FileKey {
    pub(super) fn new(bytes: &[u8; KEY]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &*self.0
    }

    /// What of the header is sealed: all up to its end mark.
    fn mac(&self) -> Result<hmac::Key, io::Error> {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.bytes());
        let key = key.expand(&[b"header"], hmac::HMAC_SHA256);
        let key = key.map_err(|_| io::Error::other("no key"))?;
        Ok(hmac::Key::from(key))
    }
}

/// The header of a file with `key`.
pub(super) fn write(
    key: &FileKey,
    passphrase: &str,
    salt: &[u8; SALT],
    work: u8,
) -> io::Result<String> {
    let wrapper = wrapper(passphrase, salt, work)?;
    let mut wrapped = key.bytes().to_vec();
    let sealed = wrapper.seal_in_place_append_tag(zero(), Aad::empty(), &mut wrapped);
    sealed.map_err(|_| io::Error::other("sealing failed"))?;
    let (salt, body) = (BASE64.encode(salt), BASE64.encode(wrapped));
    let head = format!("{VERSION}{STANZA}{salt} {work}\n{body}\n{END}");
    let mac = hmac::sign(&key.mac()?, head.as_bytes());
    Ok(format!("{head} {}\n", BASE64.encode(mac)))
}

/// Reads a header and unwraps its key.
pub(super) fn read(from: &mut impl BufRead, passphrase: &str) -> io::Result<FileKey> {
    let mut from = from.take(HEADER_MAX);
    let mut line = || {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        String::from_utf8(line).map_err(|_| io::Error::from(Unopened::Foreign))
    };
    let version = line()?;
    if version != VERSION {
        return Err(Unopened::Foreign.into());
    }
    let (stanza, body, end) = (line()?, line()?, line()?);
    let parsed = parse(&stanza, &body).ok_or(Unopened::Unknown)?;
    let mac = end.strip_prefix(END).and_then(|end| end.strip_prefix(' '));
    let mac = mac.and_then(|mac| BASE64.decode(mac.strip_suffix('\n')?).ok());
    let mac = mac.ok_or(Unopened::Unknown)?;
    let wrapper = wrapper(passphrase, &parsed.salt, parsed.work)?;
    let mut wrapped = parsed.wrapped;
    let opened = wrapper.open_in_place(zero(), Aad::empty(), &mut wrapped);
    let opened = opened.map_err(|_| Unopened::Passphrase)?;
    let opened: &[u8] = opened;
    let key = <&[u8; KEY]>::try_from(opened).map_err(|_| Unopened::Damaged)?;
    let key = FileKey::new(key);
    let head = format!("{version}{stanza}{body}{END}");
    hmac::verify(&key.mac()?, head.as_bytes(), &mac).map_err(|_| Unopened::Damaged)?;
    Ok(key)
}

struct Parsed {
    salt: [u8; SALT],
    work: u8,
    wrapped: Zeroizing<Vec<u8>>,
}

/// One recipient, a passphrase, and work that is bounded.
fn parse(stanza: &str, body: &str) -> Option<Parsed> {
    let stanza = stanza.strip_prefix(STANZA)?.strip_suffix('\n')?;
    let (salt, work) = stanza.split_once(' ')?;
    let digits = !work.starts_with('0') && work.bytes().all(|byte| byte.is_ascii_digit());
    let work: u8 = work
        .parse()
        .ok()
        .filter(|work| digits && *work <= WORK_MAX)?;
    let wrapped = BASE64.decode(body.strip_suffix('\n')?).ok()?;
    (wrapped.len() == KEY + TAG).then_some(())?;
    Some(Parsed {
        salt: BASE64.decode(salt).ok()?.try_into().ok()?,
        work,
        wrapped: Zeroizing::new(wrapped),
    })
}

fn wrapper(passphrase: &str, salt: &[u8; SALT], work: u8) -> io::Result<LessSafeKey> {
    let failed = || io::Error::other("no key of this passphrase");
    let params = scrypt::Params::new(work, 8, 1).map_err(|_| failed())?;
    let mut key = Zeroizing::new([0; 32]);
    let salt = [LABEL, salt].concat();
    let made = scrypt::scrypt(passphrase.as_bytes(), &salt, &params, &mut *key);
    made.map_err(|_| failed())?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| failed())?;
    Ok(LessSafeKey::new(key))
}

/// The wrapping key is used once.
fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
