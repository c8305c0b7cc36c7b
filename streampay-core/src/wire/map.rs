//! Reading and writing maps with ascending integer keys.

use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decoder, Encoder};

use super::{Field, WireError};
use crate::units::Msat;

/// Reads one map's keys in ascending order. Odd keys that nobody asks for are skipped, even ones
/// are an error. Works on scanned bytes only.
pub(super) struct MapReader<'d, 'b> {
    decoder: &'d mut Decoder<'b>,
    left: u64,
    next: Option<u64>,
    message: u64,
}

impl<'d, 'b> MapReader<'d, 'b> {
    /// Opens the map at the decoder. `message` names it in errors.
    pub(super) fn open(decoder: &'d mut Decoder<'b>, message: u64) -> Result<Self, WireError> {
        let left = decoder.map().ok().flatten().ok_or(WireError::NoType)?;
        let mut reader = Self {
            decoder,
            left,
            next: None,
            message,
        };
        reader.advance()?;
        Ok(reader)
    }

    /// Names the map, once its type is known.
    pub(super) fn name(&mut self, message: u64) {
        self.message = message;
    }

    pub(super) fn field(&self, key: u64) -> Field {
        Field {
            message: self.message,
            key,
        }
    }

    pub(super) fn u64(&mut self, key: u64) -> Result<u64, WireError> {
        self.required(key, Self::opt_u64)
    }

    pub(super) fn opt_u64(&mut self, key: u64) -> Result<Option<u64>, WireError> {
        self.value(key, |decoder| decoder.u64())
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self, key: u64) -> Result<T, WireError> {
        let value = self.u64(key)?;
        T::try_from(value).map_err(|_| WireError::OutOfRange(self.field(key)))
    }

    pub(super) fn msat(&mut self, key: u64) -> Result<Msat, WireError> {
        let value = self.u64(key)?;
        Msat::new(value).map_err(|_| WireError::OutOfRange(self.field(key)))
    }

    /// An amount that is missing where it is zero, so that zero has one encoding.
    pub(super) fn opt_amount(&mut self, key: u64) -> Result<Option<Msat>, WireError> {
        let out_of_range = WireError::OutOfRange(self.field(key));
        let amount = |value| Msat::new(value).ok().filter(|amount| !amount.is_zero());
        let found = self.opt_u64(key)?;
        found
            .map(|value| amount(value).ok_or(out_of_range))
            .transpose()
    }

    pub(super) fn array<const N: usize>(&mut self, key: u64) -> Result<[u8; N], WireError> {
        self.required(key, Self::opt_array)
    }

    pub(super) fn opt_array<const N: usize>(
        &mut self,
        key: u64,
    ) -> Result<Option<[u8; N]>, WireError> {
        let out_of_range = WireError::OutOfRange(self.field(key));
        self.value(key, |decoder| decoder.bytes())?
            .map(|bytes| bytes.try_into().map_err(|_| out_of_range))
            .transpose()
    }

    pub(super) fn bytes(&mut self, key: u64, max: usize) -> Result<&'b [u8], WireError> {
        self.required(key, |reader, key| reader.opt_bytes(key, max))
    }

    pub(super) fn opt_bytes(
        &mut self,
        key: u64,
        max: usize,
    ) -> Result<Option<&'b [u8]>, WireError> {
        let found = self.value(key, |decoder| decoder.bytes())?;
        match found {
            Some(bytes) if bytes.len() > max => Err(WireError::OutOfRange(self.field(key))),
            found => Ok(found),
        }
    }

    pub(super) fn text(&mut self, key: u64, max: usize) -> Result<String, WireError> {
        let text = self.required(key, |reader, key| {
            reader.value(key, |decoder| decoder.str())
        })?;
        if text.len() > max || text.chars().any(unfit) {
            Err(WireError::OutOfRange(self.field(key)))
        } else {
            Ok(text.into())
        }
    }

    /// A text of one line: not empty, nothing that moves what is shown around it.
    pub(super) fn line(&mut self, key: u64, max: usize) -> Result<String, WireError> {
        self.required(key, |reader, key| reader.opt_line(key, max))
    }

    pub(super) fn opt_line(&mut self, key: u64, max: usize) -> Result<Option<String>, WireError> {
        let out_of_range = WireError::OutOfRange(self.field(key));
        let fits = |text: &str| text.len() <= max && super::is_line(text);
        match self.value(key, |decoder| decoder.str())? {
            Some(text) if !fits(text) => Err(out_of_range),
            text => Ok(text.map(Into::into)),
        }
    }

    /// An array of at most `max` items, each read by `item`.
    pub(super) fn list<T>(
        &mut self,
        key: u64,
        max: usize,
        mut item: impl FnMut(&mut Decoder<'b>, Field) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let field = self.field(key);
        if !self.seek(key)? {
            return Err(WireError::Missing(field));
        }
        let count = self
            .decoder
            .array()
            .ok()
            .flatten()
            .ok_or(WireError::WrongKind(field))?;
        let count = usize::try_from(count).ok().filter(|count| *count <= max);
        let count = count.ok_or(WireError::OutOfRange(field))?;
        let items = (0..count)
            .map(|_| item(self.decoder, field))
            .collect::<Result<_, _>>()?;
        self.advance()?;
        Ok(items)
    }

    /// A map inside this one.
    pub(super) fn opt_map<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut MapReader<'_, 'b>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if !self.seek(key)? {
            return Ok(None);
        }
        let field = self.field(key);
        let mut inner =
            MapReader::open(self.decoder, self.message).map_err(|_| WireError::WrongKind(field))?;
        let value = read(&mut inner)?;
        inner.finish()?;
        self.advance()?;
        Ok(Some(value))
    }

    /// Skips what is left, if it may be skipped.
    pub(super) fn finish(mut self) -> Result<(), WireError> {
        while let Some(key) = self.next {
            self.skip_odd(key)?;
        }
        Ok(())
    }

    fn required<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Self, u64) -> Result<Option<T>, WireError>,
    ) -> Result<T, WireError> {
        let missing = WireError::Missing(self.field(key));
        read(self, key)?.ok_or(missing)
    }

    fn value<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<Option<T>, WireError> {
        if !self.seek(key)? {
            return Ok(None);
        }
        let wrong_kind = WireError::WrongKind(self.field(key));
        let value = read(self.decoder).map_err(|_| wrong_kind)?;
        self.advance()?;
        Ok(Some(value))
    }

    fn seek(&mut self, key: u64) -> Result<bool, WireError> {
        while let Some(next) = self.next.filter(|next| *next < key) {
            self.skip_odd(next)?;
        }
        Ok(self.next == Some(key))
    }

    fn skip_odd(&mut self, key: u64) -> Result<(), WireError> {
        if key.is_multiple_of(2) {
            return Err(WireError::UnknownKey(self.field(key)));
        }
        self.decoder.skip().map_err(|_| WireError::Truncated)?;
        self.advance()
    }

    fn advance(&mut self) -> Result<(), WireError> {
        self.next = match self.left.checked_sub(1) {
            None => None,
            Some(left) => {
                self.left = left;
                Some(self.decoder.u64().map_err(|_| WireError::KeyType)?)
            }
        };
        Ok(())
    }
}

/// Writes one map: collects `key: value` in ascending order of keys, which the callers keep.
pub(super) struct MapWriter {
    pairs: u64,
    /// Where in the bytes the map's head is, which tells how many pairs follow.
    head: usize,
    body: Encoder<Vec<u8>>,
}

/// Room for most messages, in bytes.
const ROOM: usize = 256;
/// The most pairs of which a head of one byte tells. Source: RFC 8949 3.
const SHORT: u64 = 23;
/// That head, for no pairs.
const MAP: u8 = 0xa0;

impl MapWriter {
    pub(super) fn new() -> Self {
        Self::within(Encoder::new(Vec::with_capacity(ROOM)))
    }

    /// A map behind what is written already.
    fn within(mut body: Encoder<Vec<u8>>) -> Self {
        let head = body.writer().len();
        body.writer_mut().push(MAP);
        Self {
            pairs: 0,
            head,
            body,
        }
    }

    pub(super) fn message(message: u64) -> Self {
        Self::new().u64(0, message)
    }

    pub(super) fn u64(self, key: u64, value: u64) -> Self {
        self.pair(key, |body| infallible(body.u64(value)))
    }

    /// Nothing where it is zero.
    pub(super) fn opt_amount(self, key: u64, value: Msat) -> Self {
        match value.msat() {
            0 => self,
            value => self.u64(key, value),
        }
    }

    pub(super) fn bytes(self, key: u64, value: &[u8]) -> Self {
        self.pair(key, |body| infallible(body.bytes(value)))
    }

    pub(super) fn opt_bytes(self, key: u64, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.bytes(key, value),
            None => self,
        }
    }

    pub(super) fn text(self, key: u64, value: &str) -> Self {
        self.pair(key, |body| infallible(body.str(value)))
    }

    pub(super) fn opt_text(self, key: u64, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    pub(super) fn list(self, key: u64, items: impl ExactSizeIterator<Item = Vec<u8>>) -> Self {
        self.pair(key, |body| {
            // A list in memory is far shorter than 2^64.
            infallible(body.array(u64::try_from(items.len()).unwrap_or(u64::MAX)));
            items.for_each(|item| body.writer_mut().extend(item));
        })
    }

    /// The map that `write` writes, in its place.
    pub(super) fn map(mut self, key: u64, write: impl FnOnce(Self) -> Self) -> Self {
        infallible(self.body.u64(key));
        let body = write(Self::within(self.body)).close();
        let pairs = self.pairs.saturating_add(1);
        Self {
            pairs,
            body,
            ..self
        }
    }

    /// Nothing where there is none.
    pub(super) fn opt_map<T>(
        self,
        key: u64,
        of: Option<T>,
        write: impl FnOnce(Self, T) -> Self,
    ) -> Self {
        match of {
            Some(of) => self.map(key, |map| write(map, of)),
            None => self,
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.close().into_writer()
    }

    /// Writes the head.
    fn close(mut self) -> Encoder<Vec<u8>> {
        let body = self.body.writer_mut();
        let short = u8::try_from(self.pairs).ok();
        let short = short.filter(|_| self.pairs <= SHORT);
        if let (Some(pairs), Some(head)) = (short, body.get_mut(self.head)) {
            *head = MAP | pairs;
        } else {
            let mut head = Encoder::new(Vec::new());
            infallible(head.map(self.pairs));
            let place = self.head..self.head.saturating_add(1);
            body.splice(place, head.into_writer());
        }
        self.body
    }

    fn pair(mut self, key: u64, value: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Self {
        infallible(self.body.u64(key));
        value(&mut self.body);
        self.pairs = self.pairs.saturating_add(1);
        self
    }
}

/// One unsigned integer by itself, as an item of a list.
pub(super) fn item_u64(value: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    infallible(encoder.u64(value));
    encoder.into_writer()
}

/// Writing to memory cannot fail.
fn infallible<T>(_: Result<T, minicbor::encode::Error<core::convert::Infallible>>) {}

/// Characters that do more to a line than stand in it: control characters, line and paragraph
/// separators, and those that change the direction of what follows. Source: Unicode Standard
/// Annex 9, explicit formatting.
pub(super) fn unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
