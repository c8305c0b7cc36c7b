//! What stands before the first fragment.

use std::num::NonZeroU32;

use shiguredo_mp4::{
    TrackKind,
    bitstream::{
        av1::{Av1SampleEntryConfig, build_av01_box_from_config_obus},
        h264::{H264SampleEntryConfig, LengthSize, build_avc1_box_from_annexb},
        opus::{ChannelCount, OpusSampleEntryConfig, build_opus_box},
        vp8::{Vp8SampleEntryConfig, build_vp08_box},
        vp9::{Vp9SampleEntryConfig, build_vp09_box, parse_frame_header},
    },
    boxes::SampleEntry,
    mux::{Fmp4SegmentMuxer, Sample},
};

use crate::{
    codec::{Size, av1_sequence_header, frame_size},
    packet::{Codec, Kind},
};

/// Samples of Opus that a decoder drops at the beginning. Source: RFC 7845 5.1.
const PRE_SKIP: u16 = 312;

/// The boxes before the first fragment. The muxer learns the tracks from one sample of each; what
/// it makes of those is not used: its fragments would leave no room for a pause.
pub(super) fn head(entries: &[(Kind, SampleEntry)]) -> Option<Vec<u8>> {
    let samples: Option<Vec<Sample>> = entries
        .iter()
        .zip(0..)
        .map(|((kind, entry), data_offset)| {
            Some(Sample {
                track_kind: match kind {
                    Kind::Video => TrackKind::Video,
                    Kind::Audio => TrackKind::Audio,
                },
                sample_entry: Some(entry.clone()),
                keyframe: true,
                timescale: NonZeroU32::new(kind.clock_rate())?,
                duration: 1,
                composition_time_offset: None,
                data_offset,
                data_size: 1,
            })
        })
        .collect();
    let mut muxer = Fmp4SegmentMuxer::new().ok()?;
    muxer.create_media_segment_metadata(&samples?).ok()?;
    muxer.init_segment_bytes().ok()
}

/// Where a head says how long all fragments are: in `mehd`, behind its type, version and flags,
/// in milliseconds. Source: ISO/IEC 14496-12 8.8.2.
pub(super) fn duration_at(head: &[u8]) -> Option<u64> {
    let at = head.windows(4).position(|window| window == b"mehd")?;
    u64::try_from(at.checked_add(8)?).ok()
}

/// What a decoder needs to know of the picture; none where the frame does not say it.
pub(super) fn video_entry(codec: Codec, first: &[u8]) -> Option<SampleEntry> {
    let size: Size = frame_size(codec, first)?;
    let width = u16::try_from(size.width).ok()?;
    let height = u16::try_from(size.height).ok()?;
    Some(match codec {
        Codec::Vp8 => SampleEntry::Vp08(build_vp08_box(&Vp8SampleEntryConfig {
            video_full_range_flag: false,
            colour_primaries: Vp8SampleEntryConfig::COLOUR_PRIMARIES_BT601,
            transfer_characteristics: Vp8SampleEntryConfig::TRANSFER_CHARACTERISTICS_BT601,
            matrix_coefficients: Vp8SampleEntryConfig::MATRIX_COEFFICIENTS_BT601,
            width,
            height,
        })),
        Codec::Vp9 => {
            let config = Vp9SampleEntryConfig {
                level: Vp9SampleEntryConfig::LEVEL_UNDEFINED,
                // Not specified: players go by the stream. Source: ISO/IEC 23091-2 8.
                colour_primaries: 2,
                transfer_characteristics: 2,
                matrix_coefficients: 2,
                width,
                height,
            };
            SampleEntry::Vp09(build_vp09_box(&parse_frame_header(first).ok()?, &config).ok()?)
        }
        Codec::H264 => {
            let config = H264SampleEntryConfig {
                length_size: LengthSize::FourBytes,
            };
            SampleEntry::Avc1(build_avc1_box_from_annexb(first, &config).ok()?)
        }
        Codec::Av1 => {
            let config = Av1SampleEntryConfig {
                initial_presentation_delay_minus_one: None,
            };
            let header = av1_sequence_header(first)?;
            SampleEntry::Av01(build_av01_box_from_config_obus(&header, &config).ok()?)
        }
        Codec::Opus => return None,
    })
}

pub(super) fn audio_entry() -> SampleEntry {
    SampleEntry::Opus(build_opus_box(&OpusSampleEntryConfig {
        channel_count: ChannelCount::Stereo,
        pre_skip: PRE_SKIP,
        input_sample_rate: 48_000,
        output_gain: 0,
    }))
}
