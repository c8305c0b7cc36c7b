//! Frame headers of VP8 and VP9.

use super::{Size, bits::Bits};

/// Source: RFC 6386 9.1. A key frame is 3 bytes of tag, the start code, then both sizes.
pub(super) fn vp8_size(frame: &[u8]) -> Option<Size> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = *frame else {
        return None;
    };
    (tag & 1 == 0).then(|| Size {
        width: u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff),
        height: u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff),
    })
}

pub(super) fn vp9_is_key(frame: &[u8]) -> bool {
    vp9_start(frame).is_some()
}

/// The reader after the frame type of a key frame, and the profile.
/// Source: VP9 bitstream specification, 6.2.
fn vp9_start(frame: &[u8]) -> Option<(Bits<'_>, u32)> {
    let mut bits = Bits::new(frame);
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = bits.bits(1)? | bits.bits(1)? << 1;
    if profile == 3 {
        bits.bit()?;
    }
    let show_existing = bits.bit()?;
    let inter = bits.bit()?;
    (!show_existing && !inter).then_some((bits, profile))
}

pub(super) fn vp9_size(frame: &[u8]) -> Option<Size> {
    const SYNC_CODE: u32 = 0x49_83_42;
    const RGB: u32 = 7;
    let (mut bits, profile) = vp9_start(frame)?;
    bits.bits(2)?;
    if bits.bits(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.bit()?;
    }
    let color_space = bits.bits(3)?;
    if color_space != RGB {
        bits.bit()?;
        if profile & 1 == 1 {
            bits.bits(3)?;
        }
    } else if profile & 1 == 1 {
        bits.bit()?;
    }
    Some(Size {
        width: bits.bits(16)? + 1,
        height: bits.bits(16)? + 1,
    })
}
