//! Matroska and WebM. Source: RFC 9559.

use std::io::{self, Seek, Write};

use super::{
    Block, Tracks,
    ebml::{element, endless, float, master, text, unsigned, void},
    output::Output,
};
use crate::{
    codec::{Size, av1_configuration, frame_size, is_key_frame, nal, nal_type, nal_units},
    packet::{Codec, Kind},
};

/// Writes each element whole and flushes it.
#[derive(Debug)]
pub(super) struct Muxer<W> {
    out: Output<W>,
    h264: bool,
    /// When the cluster under way begins.
    cluster_ms: Option<u64>,
    /// Where the room for the duration is, from the first byte written.
    duration_at: Option<u64>,
}

/// A new cluster begins with a key frame, or where this is reached.
const CLUSTER_MAX_MS: u64 = 5_000;

impl<W: Write> Muxer<W> {
    pub(super) const fn new(out: W) -> Self {
        Self {
            out: Output::new(out),
            h264: false,
            cluster_ms: None,
            duration_at: None,
        }
    }

    pub(super) const fn written(&self) -> u64 {
        self.out.written()
    }

    /// Writes the head where `first` is a frame that a file can begin with.
    pub(super) fn begin(&mut self, tracks: Tracks, first: &[u8]) -> io::Result<bool> {
        let mut entries = Vec::new();
        if let Some(codec) = tracks.video {
            let size = frame_size(codec, first).filter(|_| is_key_frame(codec, first));
            let Some(size) = size else {
                return Ok(false);
            };
            let private = match codec {
                Codec::H264 => avc_configuration(first),
                Codec::Av1 => av1_configuration(first),
                _ => Some(Vec::new()),
            };
            let Some(private) = private else {
                return Ok(false);
            };
            self.h264 = codec == Codec::H264;
            entries.push(video_entry(codec, size, &private));
        }
        if tracks.audio {
            entries.push(audio_entry());
        }
        let room = void(duration(0).len());
        let info = master(
            0x1549_a966,
            &[
                room.clone(),
                // Time stamps in milliseconds.
                unsigned(0x002a_d7b1, 1_000_000),
                text(0x4d80, "streampay"),
                text(0x5741, "streampay"),
            ],
        );
        let mut head = [self.doc_type(), endless(0x1853_8067)].concat();
        // An identifier of four bytes and a length of eight come before what the element holds.
        let room_at = head.len() + 12;
        head.extend(info);
        head.extend(master(0x1654_ae6b, &entries));
        self.out.put(&head)?;
        self.duration_at = u64::try_from(room_at).ok();
        Ok(true)
    }

    /// Says what kind of file it is.
    fn doc_type(&self) -> Vec<u8> {
        let name = if self.h264 { "matroska" } else { "webm" };
        master(
            0x1a45_dfa3,
            &[
                unsigned(0x4286, 1),
                unsigned(0x42f7, 1),
                unsigned(0x42f2, 4),
                unsigned(0x42f3, 8),
                text(0x4282, name),
                unsigned(0x4287, 4),
                unsigned(0x4285, 2),
            ],
        )
    }

    /// Writes one frame; false where it is too old to be written any more.
    pub(super) fn block(&mut self, block: Block<'_>) -> io::Result<bool> {
        let mut out = Vec::new();
        let picture = block.kind == Kind::Video;
        let cluster_ms = match self.cluster_ms {
            Some(begin)
                if block.at_ms <= begin + CLUSTER_MAX_MS
                    && !(picture && block.key && block.at_ms > begin) =>
            {
                begin
            }
            _ => {
                out = endless(0x1f43_b675);
                out.extend(unsigned(0xe7, block.at_ms));
                block.at_ms
            }
        };
        let relative = i64::try_from(block.at_ms).unwrap_or(i64::MAX)
            - i64::try_from(cluster_ms).unwrap_or(i64::MAX);
        let Ok(relative) = i16::try_from(relative) else {
            return Ok(false);
        };
        self.cluster_ms = Some(cluster_ms);
        let [high, low] = relative.to_be_bytes();
        let track = if picture { 0x81 } else { 0x82 };
        let mut body = vec![track, high, low, if block.key { 0x80 } else { 0 }];
        if picture && self.h264 {
            length_prefixed(block.data, &mut body);
        } else {
            body.extend_from_slice(block.data);
        }
        out.extend(element(0xa3, &body));
        self.out.put(&out)?;
        Ok(true)
    }
}

impl<W: Write + Seek> Muxer<W> {
    /// Fills the duration in, in one write, and goes back to the end. Nothing where there is no
    /// head yet, and where the output cannot seek after all, as a pipe that is a `File`.
    pub(super) fn set_duration(&mut self, ms: u64) -> io::Result<()> {
        let Some(duration_at) = self.duration_at else {
            return Ok(());
        };
        self.out.fill(duration_at, &duration(ms))
    }
}

/// A duration in the units of the time stamps, always as long. Source: RFC 9559 5.1.2.10.
fn duration(ms: u64) -> Vec<u8> {
    // Exact: a recording has fewer than 2^32 milliseconds, 49 days.
    float(0x4489, u32::try_from(ms).unwrap_or(u32::MAX).into())
}

fn video_entry(codec: Codec, size: Size, private: &[u8]) -> Vec<u8> {
    let name = match codec {
        Codec::Vp8 => "V_VP8",
        Codec::Vp9 => "V_VP9",
        Codec::Av1 => "V_AV1",
        Codec::H264 | Codec::Opus => "V_MPEG4/ISO/AVC",
    };
    let mut parts = vec![
        unsigned(0xd7, 1),
        unsigned(0x73c5, 1),
        unsigned(0x83, 1),
        unsigned(0x9c, 0),
        text(0x86, name),
        master(
            0xe0,
            &[
                unsigned(0xb0, u64::from(size.width)),
                unsigned(0xba, u64::from(size.height)),
            ],
        ),
    ];
    if !private.is_empty() {
        parts.push(element(0x63a2, private));
    }
    master(0xae, &parts)
}

fn audio_entry() -> Vec<u8> {
    // OpusHead: version 1, stereo, 312 samples to skip, 48 kHz. Source: RFC 7845 5.1.
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    master(
        0xae,
        &[
            unsigned(0xd7, 2),
            unsigned(0x73c5, 2),
            unsigned(0x83, 2),
            unsigned(0x9c, 0),
            text(0x86, "A_OPUS"),
            element(0x63a2, head),
            // 312 samples; 80 ms to run in. Source: RFC 9559, codec mappings.
            unsigned(0x56aa, 6_500_000),
            unsigned(0x56bb, 80_000_000),
            master(0xe1, &[float(0xb5, 48_000.0), unsigned(0x9f, 2)]),
        ],
    )
}

/// An AVCDecoderConfigurationRecord; none where the frame lacks its parameter sets.
/// Source: ISO/IEC 14496-15 5.3.3.1.
fn avc_configuration(frame: &[u8]) -> Option<Vec<u8>> {
    let unit = |kind| nal_units(frame).find(|unit| nal_type(unit) == kind);
    let (sps, pps) = (unit(nal::SPS)?, unit(nal::PPS)?);
    let [_, profile, constraints, level, ..] = *sps else {
        return None;
    };
    let mut record = vec![1, profile, constraints, level, 0xff, 0xe1];
    record.extend(u16::try_from(sps.len()).ok()?.to_be_bytes());
    record.extend_from_slice(sps);
    record.push(1);
    record.extend(u16::try_from(pps.len()).ok()?.to_be_bytes());
    record.extend_from_slice(pps);
    Some(record)
}

/// Annex B to four bytes of length before each NAL unit.
pub(super) fn length_prefixed(frame: &[u8], out: &mut Vec<u8>) {
    for unit in nal_units(frame).filter(|unit| nal_type(unit) != nal::AUD) {
        out.extend(u32::try_from(unit.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(unit);
    }
}
