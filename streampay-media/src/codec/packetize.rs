//! Frames to RTP payloads.

use bytes::{BufMut, Bytes, BytesMut};

use super::{av1, nal, nal_type, nal_units};
use crate::packet::Codec;

/// Makes RTP payloads of at most [`Packetizer::PAYLOAD_MAX`] bytes.
#[derive(Debug)]
pub(crate) struct Packetizer {
    codec: Codec,
    picture_id: u16,
}

impl Packetizer {
    /// Leaves room for RTP, SRTP, UDP and IPv6 headers and an RTX number below 1280 bytes, the
    /// least that IPv6 carries everywhere.
    pub(crate) const PAYLOAD_MAX: usize = 1180;

    pub(crate) const fn new(codec: Codec) -> Self {
        Self {
            codec,
            picture_id: 0,
        }
    }

    #[cfg(feature = "e2ee")]
    pub(crate) const fn codec(&self) -> Codec {
        self.codec
    }

    /// The payloads of one frame, in order; none for a frame that carries nothing.
    pub(crate) fn payloads(&mut self, frame: &Bytes, key: bool) -> Vec<Bytes> {
        match self.codec {
            Codec::Vp8 => pieces(frame, Self::PAYLOAD_MAX - 1)
                .map(|(piece, first, _)| with_header(&[if first { 0x10 } else { 0 }], piece))
                .collect(),
            Codec::Vp9 => self.vp9(frame, key),
            Codec::H264 => h264(frame),
            Codec::Av1 => av1::payloads(frame, key, Self::PAYLOAD_MAX),
            Codec::Opus => vec![frame.clone()],
        }
    }

    /// Non-flexible mode with a 15-bit picture id. Source: RFC 9628 4.2.
    fn vp9(&mut self, frame: &Bytes, key: bool) -> Vec<Bytes> {
        let [id_high, id_low] = self.picture_id.to_be_bytes();
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        let predicted = if key { 0 } else { 0x40 };
        pieces(frame, Self::PAYLOAD_MAX - 3)
            .map(|(piece, first, last)| {
                let begin = if first { 0x08 } else { 0 };
                let end = if last { 0x04 } else { 0 };
                with_header(
                    &[0x80 | predicted | begin | end, 0x80 | id_high, id_low],
                    piece,
                )
            })
            .collect()
    }
}

/// Single NAL units and FU-A. Source: RFC 6184 5.6, 5.8.
fn h264(frame: &Bytes) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    for unit in nal_units(frame) {
        let (kind, Some(header)) = (nal_type(unit), unit.first()) else {
            continue;
        };
        if matches!(kind, nal::AUD | nal::FILLER) {
            continue;
        }
        let unit = frame.slice_ref(unit);
        if unit.len() <= Packetizer::PAYLOAD_MAX {
            payloads.push(unit);
            continue;
        }
        let indicator = header & 0xe0 | nal::FU_A;
        payloads.extend(pieces(&unit.slice(1..), Packetizer::PAYLOAD_MAX - 2).map(
            |(piece, first, last)| {
                let begin = if first { 0x80 } else { 0 };
                let end = if last { 0x40 } else { 0 };
                with_header(&[indicator, begin | end | kind], piece)
            },
        ));
    }
    payloads
}

/// Pieces of nearly equal size, each at most `max` bytes, with: is the first, is the last.
fn pieces(frame: &Bytes, max: usize) -> impl Iterator<Item = (Bytes, bool, bool)> {
    let count = frame.len().div_ceil(max.max(1)).max(1);
    let size = frame.len().div_ceil(count).max(1);
    let mut rest = frame.clone();
    let mut first = true;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(size.min(rest.len()));
        Some((piece, core::mem::take(&mut first), rest.is_empty()))
    })
}

fn with_header(header: &[u8], piece: Bytes) -> Bytes {
    let mut payload = BytesMut::with_capacity(header.len() + piece.len());
    payload.put_slice(header);
    payload.put(piece);
    payload.freeze()
}
