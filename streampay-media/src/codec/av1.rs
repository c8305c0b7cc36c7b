//! AV1: units (OBUs) and the RTP payload format. Sources: the AV1 specification 5.3; the AOM's RTP
//! payload format for AV1, version 1.0. What is in a sequence header `shiguredo_mp4` reads.
//!
//! A frame here is a temporal unit as low-overhead bytes, each unit with its length, without its
//! temporal delimiter.

use bytes::{BufMut, Bytes, BytesMut};

use shiguredo_mp4::{
    Encode,
    bitstream::av1::{
        Av1SampleEntryConfig, build_av01_box_from_config_obus, parse_sequence_header,
    },
};

use super::Size;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// One unit: its header without the flag of a length, and what it holds.
#[derive(Clone, Copy, Debug)]
struct Unit<'a> {
    header: u8,
    extension: Option<u8>,
    body: &'a [u8],
}

impl Unit<'_> {
    const fn kind(&self) -> u8 {
        self.header >> 3 & 0x0f
    }

    /// As an element of a payload: without a length.
    fn element(&self) -> Bytes {
        let mut element = BytesMut::with_capacity(self.body.len().saturating_add(2));
        element.put_u8(self.header);
        element.extend(self.extension);
        element.put_slice(self.body);
        element.freeze()
    }
}

/// The units of a temporal unit; ends at the first that is cut off.
fn units(mut rest: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    core::iter::from_fn(move || {
        let (header, mut after) = rest.split_first()?;
        let extension = match header & 0x04 {
            0 => None,
            _ => {
                let (extension, left) = after.split_first()?;
                after = left;
                Some(*extension)
            }
        };
        let length = match header & 0x02 {
            0 => after.len(),
            _ => {
                let (length, left) = leb128(after)?;
                after = left;
                length
            }
        };
        let (body, left) = after.split_at_checked(length)?;
        rest = left;
        Some(Unit {
            header: header & !0x02,
            extension,
            body,
        })
    })
}

/// A number of at most 32 bits, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        let shift = u32::try_from(at).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let value = usize::try_from(u32::try_from(value).ok()?).ok()?;
            return Some((value, bytes.get(at.checked_add(1)?..)?));
        }
    }
    None
}

fn put_leb128(out: &mut BytesMut, mut value: usize) {
    while let Ok(low) = u8::try_from(value & 0x7f) {
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// True where a decoder can begin: encoders put a sequence header before such a frame.
pub(super) fn is_key(frame: &[u8]) -> bool {
    units(frame).any(|unit| unit.kind() == SEQUENCE_HEADER)
}

/// The sequence header of a frame that a decoder can begin with, as a whole unit with its length.
pub(crate) fn sequence_header(frame: &[u8]) -> Option<Bytes> {
    let unit = units(frame).find(|unit| unit.kind() == SEQUENCE_HEADER)?;
    let mut whole = BytesMut::new();
    put_unit(&mut whole, &unit.element());
    Some(whole.freeze())
}

pub(super) fn size(frame: &[u8]) -> Option<Size> {
    let unit = units(frame).find(|unit| unit.kind() == SEQUENCE_HEADER)?;
    let sequence = parse_sequence_header(unit.body).ok()?;
    Some(Size {
        width: sequence.max_frame_width,
        height: sequence.max_frame_height,
    })
}

/// An `AV1CodecConfigurationRecord`. Source: AV1 in ISOBMFF 2.3.3.
pub(crate) fn av1_configuration(frame: &[u8]) -> Option<Vec<u8>> {
    let config = Av1SampleEntryConfig {
        initial_presentation_delay_minus_one: None,
    };
    let built = build_av01_box_from_config_obus(&sequence_header(frame)?, &config).ok()?;
    // Past the box's length and type.
    built
        .av1c_box
        .encode_to_vec()
        .ok()?
        .get(8..)
        .map(<[u8]>::to_vec)
}

/// The payloads of one temporal unit, each element with its length (W = 0).
pub(super) fn payloads(frame: &[u8], key: bool, most: usize) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let mut payload = BytesMut::new();
    let elements = units(frame)
        .filter(|unit| !matches!(unit.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING))
        .map(|unit| unit.element());
    for mut element in elements {
        let mut goes_on = false;
        while !element.is_empty() {
            if payload.is_empty() {
                let first = key && payloads.is_empty();
                payload.put_u8(u8::from(goes_on) << 7 | u8::from(first) << 3);
            }
            // Two bytes of length are enough for any payload.
            let room = most.saturating_sub(payload.len()).saturating_sub(2);
            if room == 0 {
                finish(&mut payloads, &mut payload, false);
                continue;
            }
            let piece = element.split_to(room.min(element.len()));
            put_leb128(&mut payload, piece.len());
            payload.put_slice(&piece);
            goes_on = !element.is_empty();
            if goes_on {
                finish(&mut payloads, &mut payload, true);
            }
        }
    }
    if !payload.is_empty() {
        finish(&mut payloads, &mut payload, false);
    }
    payloads
}

/// Ends a payload; `goes_on` where its last element does in the next one.
fn finish(payloads: &mut Vec<Bytes>, payload: &mut BytesMut, goes_on: bool) {
    let mut whole = payload.split();
    if let Some(head) = whole.first_mut() {
        *head |= u8::from(goes_on) << 6;
    }
    payloads.push(whole.freeze());
}

/// Whether a frame can begin with this payload: its first element does not go on. After a loss
/// that may be so within a frame too: only the begin of a coded sequence is sure then.
pub(super) fn starts(payload: &[u8], lost: bool) -> bool {
    payload
        .first()
        .is_some_and(|head| head & 0x80 == 0 && (!lost || head & 0x08 != 0))
}

/// Adds a payload's units to `frame`. `open` is a unit that goes on. None where it makes no sense.
pub(super) fn append(frame: &mut BytesMut, open: &mut BytesMut, payload: &[u8]) -> Option<()> {
    let (head, mut rest) = payload.split_first()?;
    let (mut continues, unfinished) = (head & 0x80 != 0, head & 0x40 != 0);
    let count = usize::from(head >> 4 & 0x03);
    let mut at = 0_usize;
    if !continues {
        open.clear();
    }
    while !rest.is_empty() {
        at = at.checked_add(1)?;
        let (length, after) = if at == count {
            (rest.len(), rest)
        } else {
            leb128(rest)?
        };
        let (piece, after) = after.split_at_checked(length)?;
        rest = after;
        if core::mem::take(&mut continues) && open.is_empty() {
            return None;
        }
        open.put_slice(piece);
        if !(rest.is_empty() && unfinished) {
            put_unit(frame, &open.split());
        }
    }
    Some(())
}

/// An element as a unit with its length. Delimiters and what is empty are left out.
fn put_unit(frame: &mut BytesMut, element: &[u8]) {
    let Some(unit) = units(element).next() else {
        return;
    };
    if matches!(unit.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return;
    }
    frame.put_u8(unit.header | 0x02);
    frame.extend(unit.extension);
    put_leb128(frame, unit.body.len());
    frame.put_slice(unit.body);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What libaom wrote for 64 x 48: a delimiter and a sequence header.
    const HEAD: [u8; 14] = [
        0x12, 0, 0x0a, 0x0a, 0, 0, 0, 2, 0xaf, 0xf7, 0x9b, 0x5f, 0x20, 8,
    ];

    /// A frame of so many bytes behind that.
    fn unit_of_time(length: usize) -> Vec<u8> {
        let mut frame = BytesMut::from(&HEAD[..]);
        frame.put_u8(0x32);
        put_leb128(&mut frame, length);
        frame.extend((0..length).map(|at| u8::try_from(at % 251).unwrap()));
        frame.to_vec()
    }

    fn joined(payloads: &[Bytes]) -> Option<Vec<u8>> {
        let (mut frame, mut open) = (BytesMut::new(), BytesMut::new());
        for payload in payloads {
            append(&mut frame, &mut open, payload)?;
        }
        Some(frame.to_vec())
    }

    #[test]
    fn a_sequence_header_says_size_and_configuration() {
        let frame = unit_of_time(10);
        let size = size(&frame).unwrap();
        assert_eq!((size.width, size.height), (64, 48));
        assert!(is_key(&frame) && !is_key(&frame[14..]));
        // As ffmpeg writes it into WebM.
        let record = av1_configuration(&frame).unwrap();
        assert_eq!(record[..4], [0x81, 0, 0x0c, 0]);
        assert_eq!(record[4..], HEAD[2..]);
    }

    #[test]
    fn units_survive_packets_whatever_their_length() {
        for length in [0, 1, 2, 80, 82, 83, 84, 85, 100, 126, 128, 5_000, 20_000] {
            let frame = unit_of_time(length);
            let payloads = payloads(&frame, true, 100);
            assert!(payloads.iter().all(|payload| payload.len() <= 100));
            assert!(starts(&payloads[0], true) && payloads[0][0] & 0x08 != 0);
            assert!(payloads[1..].iter().all(|payload| payload[0] & 0x08 == 0));
            assert_eq!(joined(&payloads).unwrap(), frame[2..], "{length}");
        }
    }

    #[test]
    fn elements_without_a_length_at_the_end_are_read() {
        // Two elements (W = 2), the last without its length; units without lengths, as browsers send.
        let payload = [0x28, 2, 0x08, 7, 0x30, 1, 2, 3];
        let whole = joined(&[Bytes::copy_from_slice(&payload)]).unwrap();
        assert_eq!(whole, [0x0a, 1, 7, 0x32, 3, 1, 2, 3]);
    }

    #[test]
    fn no_bytes_stop_it() {
        let mut seed = 1_u32;
        let mut bytes = Vec::new();
        for round in 0..20_000_usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if round % 40 == 0 {
                bytes = if round % 80 == 0 {
                    HEAD[2..].to_vec()
                } else {
                    Vec::new()
                };
            }
            let [high, low, ..] = seed.to_be_bytes();
            let at = usize::from(low) % (bytes.len() + 1);
            bytes.insert(at, high);
            let _ = (size(&bytes), is_key(&bytes), av1_configuration(&bytes));
            let _ = joined(&[Bytes::from(bytes.clone()), Bytes::from(bytes.clone())]);
            let _ = payloads(&bytes, false, 100);
        }
        let cut = unit_of_time(10);
        assert!((0..14).all(|length| size(&cut[..length]).is_none()));
        assert_eq!(joined(&[Bytes::from_static(&[0x80, 1, 0x30])]), None);
    }
}
