use alloc::string::String;
use alloc::vec::Vec;
use minicbor::Decoder;

use super::map::{MapReader, MapWriter};
use super::{METHOD_NAME_MAX, METHODS_MAX, PARAMS_MAX, TITLE_MAX, WireError};
use crate::meter::{Rate, Tariff};
use crate::session::{Hash, TaggedHash};
use crate::units::{Msat, Unix, XOnlyKey};

/// What the payee offers and signs. Hashed over fixed-width fields under the tag
/// `streampay/terms/v1`, so that two encodings can never mean two things. Spec: pricing 1.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// What is streamed, for people; at most 128 bytes.
    pub title: String,
    /// The price of each meter.
    pub tariff: Tariff,
    /// One payment, in millisatoshi; not zero.
    pub tick: Msat,
    /// What may be used before the first payment, in millisatoshi of the tariff.
    pub preview: Msat,
    /// What may be used beyond what is paid, in millisatoshi.
    pub window: Msat,
    /// How far the payee's reading may be ahead of the payer's and still be paid, in thousandths.
    pub tolerance_permille: u16,
    /// The least that this tolerance comes to, in milliseconds.
    pub tolerance_ms: u32,
    /// A source that gave nothing for so long is dead and not billed, in milliseconds.
    pub live_ms: u32,
    /// How payments may be made, at least one and at most 8, the payee's favourite first.
    pub methods: Vec<Method>,
    /// How long after a lost connection the session can be resumed, in seconds.
    pub resumable_s: u32,
    /// No session opens under these terms from here on.
    pub expires: Unix,
    /// The payee's identity, the key in the link.
    pub payee: XOnlyKey,
    /// What must be paid once in a session, besides the media, to be seen and heard in the
    /// payee's room, in millisatoshi; zero where joining is free. Never given back.
    pub join_fee: Msat,
}

/// A way to pay, and what its backend needs to know of the payee.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Method {
    /// The backend's name, 1 to 16 characters of a-z, 0-9 and `-`.
    pub name: String,
    /// The backend's own parameters, at most 1 KiB.
    pub params: Vec<u8>,
}

impl Terms {
    /// What the payee signs and both sides bind. Spec: pricing 1.2.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let rate = |hash: TaggedHash, rate: Option<Rate>| match rate {
            None => hash.u64(0).u64(0),
            Some(rate) => hash.u64(rate.msat().msat()).u64(rate.per()),
        };
        let hash = TaggedHash::new("streampay/terms/v1").text(&self.title);
        let hash = rate(rate(hash, self.tariff.time), self.tariff.bytes)
            .u64(self.tick.msat())
            .u64(self.preview.msat())
            .u64(self.window.msat())
            .u64(u64::from(self.tolerance_permille))
            .u64(u64::from(self.tolerance_ms))
            .u64(u64::from(self.live_ms))
            .u64(u64::from(self.resumable_s))
            .u64(self.expires.0)
            .bytes32(&self.payee.0)
            .u64(self.join_fee.msat());
        let methods = self.methods.iter();
        methods
            .fold(hash, |hash, method| {
                hash.text(&method.name).blob(&method.params)
            })
            .finish()
    }

    /// Whether others could read these terms: their own encoding, read back.
    ///
    /// # Errors
    /// [`WireError`]: what in them is out of range.
    pub fn check(&self) -> Result<(), WireError> {
        Self::from_bytes(&self.to_bytes()).map(|_| ())
    }

    /// The same terms as a message part of their own, for the store and for signalling.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.write(MapWriter::new()).finish()
    }

    /// Reads [`Terms::to_bytes`].
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        super::scan(bytes)?;
        let mut decoder = Decoder::new(bytes);
        let mut map = MapReader::open(&mut decoder, super::message::TERMS)?;
        let terms = Self::read(&mut map)?;
        map.finish()?;
        Ok(terms)
    }

    pub(super) fn write(&self, map: MapWriter) -> MapWriter {
        let rate = |map: MapWriter, rate: Rate| map.u64(0, rate.msat().msat()).u64(2, rate.per());
        let methods = self.methods.iter().map(|method| {
            MapWriter::new()
                .text(0, &method.name)
                .bytes(2, &method.params)
                .finish()
        });
        map.text(0, &self.title)
            .opt_map(2, self.tariff.time, rate)
            .opt_map(4, self.tariff.bytes, rate)
            .u64(6, self.tick.msat())
            .u64(8, self.preview.msat())
            .u64(10, self.window.msat())
            .u64(12, u64::from(self.tolerance_permille))
            .u64(14, u64::from(self.tolerance_ms))
            .u64(16, u64::from(self.live_ms))
            .list(18, methods)
            .u64(20, u64::from(self.resumable_s))
            .u64(22, self.expires.0)
            .bytes(24, &self.payee.0)
            .opt_amount(26, self.join_fee)
    }

    pub(super) fn read(map: &mut MapReader<'_, '_>) -> Result<Self, WireError> {
        let terms = Self {
            title: map.text(0, TITLE_MAX)?,
            tariff: Tariff {
                time: read_rate(map, 2)?,
                bytes: read_rate(map, 4)?,
            },
            tick: map.msat(6)?,
            preview: map.msat(8)?,
            window: map.msat(10)?,
            tolerance_permille: map.small(12)?,
            tolerance_ms: map.small(14)?,
            live_ms: map.small(16)?,
            methods: map.list(18, METHODS_MAX, |decoder, field| {
                let mut map = MapReader::open(decoder, field.message)
                    .map_err(|_| WireError::WrongKind(field))?;
                let method = read_method(&mut map)?;
                map.finish()?;
                Ok(method)
            })?,
            resumable_s: map.small(20)?,
            expires: Unix(map.u64(22)?),
            payee: XOnlyKey(map.array(24)?),
            join_fee: map.opt_amount(26)?.unwrap_or_default(),
        };
        if terms.tick.is_zero() {
            return Err(WireError::OutOfRange(map.field(6)));
        }
        if terms.tolerance_permille > 1000 {
            return Err(WireError::OutOfRange(map.field(12)));
        }
        let twice = |method: &Method| {
            let named = terms
                .methods
                .iter()
                .filter(|other| other.name == method.name);
            named.count() > 1
        };
        if terms.methods.is_empty() || terms.methods.iter().any(twice) {
            return Err(WireError::OutOfRange(map.field(18)));
        }
        Ok(terms)
    }
}

fn read_rate(map: &mut MapReader<'_, '_>, key: u64) -> Result<Option<Rate>, WireError> {
    map.opt_map(key, |map| {
        let (msat, per) = (map.msat(0)?, map.u64(2)?);
        Rate::new(msat, per).map_err(|_| WireError::OutOfRange(map.field(2)))
    })
}

fn read_method(map: &mut MapReader<'_, '_>) -> Result<Method, WireError> {
    let name = map.text(0, METHOD_NAME_MAX)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(WireError::OutOfRange(map.field(0)));
    }
    Ok(Method {
        name,
        params: map.bytes(2, PARAMS_MAX)?.to_vec(),
    })
}
