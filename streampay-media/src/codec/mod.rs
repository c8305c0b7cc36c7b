//! The little of each codec that streaming needs: where a decoder can begin, sizes, durations,
//! and the RTP payload formats both ways.
//!
//! Why not the packetizers and depacketizers of `rtc` 0.21: its H.264 depacketizer indexes past
//! the end of a short STAP-A and buffers FU-A without bound, its VP8 one refuses fragments below
//! four bytes, and its VP9 packetizer marks every frame as not predicted. What a peer sends must
//! not be able to stop this process.

mod av1;
mod bits;
mod depacketize;
mod h264;
mod packetize;
mod vpx;

pub(crate) use av1::{av1_configuration, sequence_header as av1_sequence_header};
pub(crate) use depacketize::FrameAssembler;
pub(crate) use h264::{Sps, nal_type, nal_units};
pub(crate) use packetize::Packetizer;

use crate::packet::Codec;

/// NAL unit types. Source: ITU-T H.264, table 7-1.
pub(crate) mod nal {
    pub(crate) const SLICE: u8 = 1;
    pub(crate) const IDR: u8 = 5;
    pub(crate) const SEI: u8 = 6;
    pub(crate) const SPS: u8 = 7;
    pub(crate) const PPS: u8 = 8;
    pub(crate) const AUD: u8 = 9;
    pub(crate) const FILLER: u8 = 12;
    pub(crate) const STAP_A: u8 = 24;
    pub(crate) const FU_A: u8 = 28;
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// True where a decoder can begin with this frame.
pub(crate) fn is_key_frame(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => frame.first().is_some_and(|tag| tag & 1 == 0),
        Codec::Vp9 => vpx::vp9_is_key(frame),
        Codec::H264 => nal_units(frame).any(|unit| nal_type(unit) == nal::IDR),
        Codec::Av1 => av1::is_key(frame),
        Codec::Opus => true,
    }
}

/// The picture size that a key frame states; none for sound and where it does not say.
pub(crate) fn frame_size(codec: Codec, frame: &[u8]) -> Option<Size> {
    match codec {
        Codec::Vp8 => vpx::vp8_size(frame),
        Codec::Vp9 => vpx::vp9_size(frame),
        Codec::H264 => nal_units(frame)
            .find(|unit| nal_type(unit) == nal::SPS)
            .and_then(Sps::parse)
            .map(|sps| sps.size),
        Codec::Av1 => av1::size(frame),
        Codec::Opus => None,
    }
}

/// How long an Opus packet plays, in ticks of 48 kHz; none where it is not one.
/// Source: RFC 6716 3.1, 3.2.
pub(crate) fn opus_ticks(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880]
            .get(usize::from(config & 3))
            .copied()?,
        12..=15 => [480, 960].get(usize::from(config & 1)).copied()?,
        _ => [120, 240, 480, 960].get(usize::from(config & 3)).copied()?,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let ticks: u32 = frame * count;
    // A packet holds at most 120 ms.
    (1..=5760).contains(&ticks).then_some(ticks)
}

#[cfg(test)]
mod tests;
