//! H.264: NAL units of an Annex B frame, and what the sequence parameter set says.

use super::{Size, bits::Bits};

/// The type of a NAL unit; 0, which is unspecified, for an empty one.
pub(crate) fn nal_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// The NAL units of an Annex B byte stream, without start codes. Source: ITU-T H.264 annex B.
pub(crate) fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(stream).map_or(&[][..], |(_, after)| after);
    core::iter::from_fn(move || {
        while !rest.is_empty() {
            let (unit, after) = start_code(rest).unwrap_or((rest, &[]));
            rest = after;
            let end = unit
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            if let Some(unit) = unit.get(..end).filter(|unit| !unit.is_empty()) {
                return Some(unit);
            }
        }
        None
    })
}

/// What is before and after the first start code.
fn start_code(stream: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = stream.windows(3).position(|window| window == [0, 0, 1])?;
    Some((stream.get(..at)?, stream.get(at + 3..)?))
}

/// A sequence parameter set, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sps {
    pub(crate) size: Size,
    /// Frames in `.0` of time over `.1`, where it says.
    pub(crate) frame_rate: Option<(u32, u32)>,
}

impl Sps {
    /// From a NAL unit, header included. Source: ITU-T H.264 7.3.2.1.1, E.1.1.
    pub(crate) fn parse(unit: &[u8]) -> Option<Self> {
        let plain = without_emulation(unit.get(1..)?);
        let mut bits = Bits::new(&plain);
        let profile = bits.bits(8)?;
        bits.bits(16)?;
        bits.ue()?;
        let chroma = if has_chroma(profile) {
            chroma(&mut bits)?
        } else {
            1
        };
        bits.ue()?;
        picture_order(&mut bits)?;
        bits.ue()?;
        bits.bit()?;
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_units = bits.ue()?.checked_add(1)?;
        let frame_mbs_only = bits.bit()?;
        if !frame_mbs_only {
            bits.bit()?;
        }
        bits.bit()?;
        let (mut crop_x, mut crop_y) = (0_u32, 0_u32);
        if bits.bit()? {
            crop_x = bits.ue()?.checked_add(bits.ue()?)?;
            crop_y = bits.ue()?.checked_add(bits.ue()?)?;
        }
        let fields = if frame_mbs_only { 1 } else { 2 };
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * fields;
        let size = Size {
            width: width_mbs
                .checked_mul(16)?
                .checked_sub(crop_x.checked_mul(unit_x)?)?,
            height: height_units
                .checked_mul(16 * fields)?
                .checked_sub(crop_y.checked_mul(unit_y)?)?,
        };
        let frame_rate = timing(&mut bits).filter(|(num, den)| *num > 0 && *den > 0);
        Some(Self { size, frame_rate })
    }
}

const fn has_chroma(profile: u32) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// The chroma format, past the scaling lists.
fn chroma(bits: &mut Bits<'_>) -> Option<u32> {
    let format = bits.ue()?;
    if format == 3 {
        bits.bit()?;
    }
    bits.ue()?;
    bits.ue()?;
    bits.bit()?;
    if bits.bit()? {
        // Scaling lists would need signed values; encoders for the web do not send them.
        return None;
    }
    Some(format)
}

fn picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.skip_se()?;
            bits.skip_se()?;
            let cycle = bits.ue()?;
            (0..cycle.min(255)).try_for_each(|_| bits.skip_se())?;
        }
        _ => {}
    }
    Some(())
}

/// Frames per time of the VUI, where it is there.
fn timing(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    const EXTENDED_SAR: u32 = 255;
    if !bits.bit()? {
        return None;
    }
    if bits.bit()? && bits.bits(8)? == EXTENDED_SAR {
        bits.bits(32)?;
    }
    if bits.bit()? {
        bits.bit()?;
    }
    if bits.bit()? {
        bits.bits(4)?;
        if bits.bit()? {
            bits.bits(24)?;
        }
    }
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    if !bits.bit()? {
        return None;
    }
    let units = bits.bits(32)?;
    let scale = bits.bits(32)?;
    // A tick is a field: two to a frame.
    Some((scale, units.checked_mul(2)?))
}

/// The bytes without the 3 of every 00 00 03.
fn without_emulation(unit: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    unit.iter()
        .copied()
        .filter(|byte| {
            let keep = !(zeros >= 2 && *byte == 3);
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            keep
        })
        .collect()
}
