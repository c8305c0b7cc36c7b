//! RTP payloads, in order, to frames.

use bytes::{BufMut, Bytes, BytesMut};

use super::{av1, nal};
use crate::packet::Codec;

/// Joins the payloads of one frame. Any bytes give a frame, nothing, or a dropped frame.
#[derive(Debug)]
pub(crate) struct FrameAssembler {
    codec: Codec,
    frame: BytesMut,
    /// AV1: a unit that goes on in the next payload.
    unit: BytesMut,
    /// Set where a piece is missing or wrong: the frame will be dropped.
    broken: bool,
    /// Set while a frame is under way.
    open: bool,
    /// Set where packets before the next one are lost.
    lost: bool,
    ticks: u32,
}

/// A whole frame. H.264 as Annex B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub(crate) ticks: u32,
    pub(crate) data: Bytes,
}

impl FrameAssembler {
    /// The largest frame that is put together, in bytes.
    const FRAME_MAX: usize = 4 * 1024 * 1024;

    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            frame: BytesMut::new(),
            unit: BytesMut::new(),
            broken: false,
            open: false,
            lost: false,
            ticks: 0,
        }
    }

    /// Some packets before the next one are lost.
    pub(crate) const fn gap(&mut self) {
        self.lost = true;
    }

    /// The next payload in order; a frame where it completes one.
    pub(crate) fn push(&mut self, ticks: u32, marker: bool, payload: &[u8]) -> Option<Assembled> {
        let lost = core::mem::take(&mut self.lost);
        if !self.open || ticks != self.ticks {
            self.frame.clear();
            self.unit.clear();
            self.ticks = ticks;
            self.broken = !self.starts_frame(payload, lost);
        } else if lost {
            self.broken = true;
        }
        self.open = !marker;
        let length = self.frame.len() + self.unit.len() + payload.len();
        let too_long = length > Self::FRAME_MAX;
        if self.broken || too_long || self.append(payload).is_none() {
            self.broken = true;
            return None;
        }
        if !marker {
            return None;
        }
        // AV1: its last unit ends with it.
        let whole = self.unit.is_empty();
        let data = self.frame.split().freeze();
        (whole && !data.is_empty()).then_some(Assembled { ticks, data })
    }

    /// Whether a frame can begin with this payload. H.264 cannot tell a later slice from the
    /// first one here; its decoder will.
    fn starts_frame(&self, payload: &[u8], lost: bool) -> bool {
        let first = payload.first().copied().unwrap_or(0);
        match self.codec {
            Codec::Vp8 => first & 0x10 != 0 && first & 0x07 == 0,
            Codec::Vp9 => first & 0x08 != 0,
            Codec::H264 => {
                first & 0x1f != nal::FU_A || payload.get(1).is_some_and(|fu| fu & 0x80 != 0)
            }
            Codec::Av1 => av1::starts(payload, lost),
            Codec::Opus => true,
        }
    }

    fn append(&mut self, payload: &[u8]) -> Option<()> {
        match self.codec {
            Codec::Vp8 => self.frame.put_slice(vp8_body(payload)?),
            Codec::Vp9 => self.frame.put_slice(vp9_body(payload)?),
            Codec::Opus => self.frame.put_slice(payload),
            Codec::H264 => self.append_h264(payload)?,
            Codec::Av1 => av1::append(&mut self.frame, &mut self.unit, payload)?,
        }
        Some(())
    }

    fn append_h264(&mut self, payload: &[u8]) -> Option<()> {
        let (header, body) = payload.split_first()?;
        match header & 0x1f {
            nal::STAP_A => {
                let mut rest = body;
                while let [high, low, after @ ..] = rest {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let (unit, after) = after.split_at_checked(length)?;
                    self.unit(&[], unit);
                    rest = after;
                }
            }
            nal::FU_A => {
                let (fu, piece) = body.split_first()?;
                if fu & 0x80 != 0 {
                    self.unit(&[header & 0xe0 | fu & 0x1f], piece);
                } else {
                    self.frame.put_slice(piece);
                }
            }
            1..nal::STAP_A => self.unit(&[], payload),
            _ => return None,
        }
        Some(())
    }

    fn unit(&mut self, header: &[u8], body: &[u8]) {
        self.frame.put_slice(&[0, 0, 0, 1]);
        self.frame.put_slice(header);
        self.frame.put_slice(body);
    }
}

/// Past the payload descriptor. Source: RFC 7741 4.2.
fn vp8_body(payload: &[u8]) -> Option<&[u8]> {
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (extended, after) = rest.split_first()?;
        rest = after;
        if extended & 0x80 != 0 {
            let (id, _) = rest.split_first()?;
            rest = rest.get(if id & 0x80 != 0 { 2 } else { 1 }..)?;
        }
        if extended & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if extended & 0x30 != 0 {
            rest = rest.get(1..)?;
        }
    }
    Some(rest)
}

/// Past the payload descriptor. Source: RFC 9628 4.2.
fn vp9_body(payload: &[u8]) -> Option<&[u8]> {
    let (first, mut rest) = payload.split_first()?;
    let [has_id, predicted, layers, flexible] =
        [0x80, 0x40, 0x20, 0x10].map(|bit| first & bit != 0);
    if has_id {
        let (id, _) = rest.split_first()?;
        rest = rest.get(if id & 0x80 != 0 { 2 } else { 1 }..)?;
    }
    if layers {
        rest = rest.get(if flexible { 1 } else { 2 }..)?;
    }
    if flexible && predicted {
        for _ in 0..3 {
            let (reference, after) = rest.split_first()?;
            rest = after;
            if reference & 1 == 0 {
                break;
            }
        }
    }
    if first & 0x02 != 0 {
        rest = vp9_past_structure(rest)?;
    }
    Some(rest)
}

fn vp9_past_structure(payload: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = payload.split_first()?;
    if head & 0x10 != 0 {
        rest = rest.get(4 * (usize::from(head >> 5) + 1)..)?;
    }
    if head & 0x08 != 0 {
        let (pictures, after) = rest.split_first()?;
        rest = after;
        for _ in 0..*pictures {
            let (picture, after) = rest.split_first()?;
            rest = after.get(usize::from(picture >> 2 & 3)..)?;
        }
    }
    Some(rest)
}
