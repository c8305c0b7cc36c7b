//! MP4 in fragments, of the boxes of `shiguredo_mp4`. Source: ISO/IEC 14496-12 8.8; Opus, VP and
//! AV1 in ISOBMFF.

mod head;

use std::io::{self, Seek, Write};

use shiguredo_mp4::{
    BoxHeader, BoxSize, Encode, SampleFlags,
    boxes::{MdatBox, MfhdBox, MoofBox, TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample},
};

use super::{Block, Tracks, matroska::length_prefixed, output::Output};
use crate::{
    codec::{is_key_frame, opus_ticks},
    packet::{Codec, Kind},
};
use head::{audio_entry, duration_at, head, video_entry};

/// Writes fragment by fragment, each whole.
#[derive(Debug)]
pub(super) struct Mp4<W> {
    out: Output<W>,
    h264: bool,
    video: Option<Run>,
    audio: Option<Run>,
    fragments: u32,
    /// When the fragment under way begins.
    fragment_ms: Option<u64>,
    /// Where the room for the duration is, from the first byte written.
    duration_at: Option<u64>,
}

/// A track, and its frames in the fragment under way.
#[derive(Debug)]
struct Run {
    kind: Kind,
    track: u32,
    frames: Vec<Frame>,
    data: Vec<u8>,
    /// Of the last frame that was written.
    last_ms: Option<u64>,
    /// How long the last frame was whose end is known.
    span_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    at_ms: u64,
    length: u32,
    key: bool,
    /// What the frame says of how long it lasts, in ticks.
    ticks: Option<u32>,
}

/// A fragment ends with the next key frame, or where one of these is reached.
const FRAGMENT_MAX_MS: u64 = 1_000;
const FRAGMENT_MAX_BYTES: usize = 4 * 1024 * 1024;

impl Run {
    const fn new(kind: Kind, track: u32) -> Self {
        Self {
            kind,
            track,
            frames: Vec::new(),
            data: Vec::new(),
            last_ms: None,
            span_ms: 40,
        }
    }

    const fn ticks(&self, ms: u64) -> u64 {
        ms.saturating_mul(self.kind.ticks_per_ms())
    }

    /// Adds a frame. Time stamps of a track ascend.
    fn push(&mut self, block: Block<'_>, data: &[u8]) -> bool {
        let Ok(length) = u32::try_from(data.len()) else {
            return false;
        };
        let after = self.last_ms.map_or(0, |last| last.saturating_add(1));
        let at_ms = block.at_ms.max(after);
        if let Some(last) = self.last_ms {
            self.span_ms = at_ms.saturating_sub(last);
        }
        self.last_ms = Some(at_ms);
        self.frames.push(Frame {
            at_ms,
            length,
            key: block.key,
            ticks: match self.kind {
                Kind::Audio => opus_ticks(data),
                Kind::Video => None,
            },
        });
        self.data.extend_from_slice(data);
        true
    }

    /// The frames as a fragment has them; `next_ms` is when the frame after them begins, if that
    /// is known.
    fn samples(&self, next_ms: Option<u64>) -> Vec<TrunSample> {
        let nexts = self.frames.iter().skip(1).map(|frame| Some(frame.at_ms));
        let nexts = nexts.chain([next_ms]);
        self.frames
            .iter()
            .zip(nexts)
            .map(|(frame, next)| {
                let until_next = next.map(|next| self.ticks(next.saturating_sub(frame.at_ms)));
                let said = frame.ticks.map(u64::from);
                let ticks = until_next
                    .or(said)
                    .unwrap_or_else(|| self.ticks(self.span_ms));
                TrunSample {
                    duration: Some(u32::try_from(ticks).unwrap_or(u32::MAX)),
                    size: Some(frame.length),
                    flags: Some(flags(frame.key)),
                    composition_time_offset: None,
                }
            })
            .collect()
    }

    fn fragment(&self, samples: &[TrunSample], data_offset: i32) -> Option<TrafBox> {
        let first = self.frames.first()?;
        Some(TrafBox {
            tfhd_box: TfhdBox {
                track_id: self.track,
                base_data_offset: None,
                sample_description_index: None,
                default_sample_duration: None,
                default_sample_size: None,
                default_sample_flags: None,
                duration_is_empty: false,
                default_base_is_moof: true,
            },
            tfdt_box: Some(TfdtBox {
                version: 1,
                base_media_decode_time: self.ticks(first.at_ms),
            }),
            trun_boxes: vec![TrunBox {
                data_offset: Some(data_offset),
                first_sample_flags: None,
                samples: samples.to_vec(),
            }],
            unknown_boxes: Vec::new(),
        })
    }
}

/// Whether others are needed to decode it. Source: ISO/IEC 14496-12 8.8.3.1.
const fn flags(key: bool) -> SampleFlags {
    SampleFlags::new(if key { 0x0200_0000 } else { 0x0101_0000 })
}

impl<W: Write> Mp4<W> {
    pub(super) const fn new(out: W) -> Self {
        Self {
            out: Output::new(out),
            h264: false,
            video: None,
            audio: None,
            fragments: 0,
            fragment_ms: None,
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
            if !is_key_frame(codec, first) {
                return Ok(false);
            }
            let Some(entry) = video_entry(codec, first) else {
                return Ok(false);
            };
            entries.push((Kind::Video, entry));
        }
        if tracks.audio {
            entries.push((Kind::Audio, audio_entry()));
        }
        let Some(head) = head(&entries) else {
            return Ok(false);
        };
        self.out.put(&head)?;
        self.h264 = tracks.video == Some(Codec::H264);
        for ((kind, _), track) in entries.into_iter().zip(1..) {
            *self.run(kind) = Some(Run::new(kind, track));
        }
        self.duration_at = duration_at(&head);
        Ok(true)
    }

    const fn run(&mut self, kind: Kind) -> &mut Option<Run> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    /// Writes one frame, at the latest a second after; false where it is not one of a track.
    pub(super) fn block(&mut self, block: Block<'_>) -> io::Result<bool> {
        let bytes = |run: &Option<Run>| run.as_ref().map_or(0, |run| run.data.len());
        let held = bytes(&self.video).saturating_add(bytes(&self.audio));
        let over = self.fragment_ms.is_some_and(|begin| {
            let key = block.key && block.kind == Kind::Video && block.at_ms > begin;
            key || block.at_ms >= begin.saturating_add(FRAGMENT_MAX_MS)
        });
        if over || held.saturating_add(block.data.len()) > FRAGMENT_MAX_BYTES {
            self.flush(Some((block.kind, block.at_ms)))?;
        }
        let mut prefixed = Vec::new();
        let data = if self.h264 && block.kind == Kind::Video {
            length_prefixed(block.data, &mut prefixed);
            &prefixed
        } else {
            block.data
        };
        let Some(run) = self.run(block.kind) else {
            return Ok(false);
        };
        if !run.push(block, data) {
            return Ok(false);
        }
        let begin = self.fragment_ms.unwrap_or(block.at_ms);
        self.fragment_ms = Some(begin.min(block.at_ms));
        Ok(true)
    }

    /// Writes what waits.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.flush(None)
    }

    /// Writes the fragment under way. `next` is the frame that comes after it.
    fn flush(&mut self, next: Option<(Kind, u64)>) -> io::Result<()> {
        self.fragment_ms = None;
        let Some(fragment) = self.fragment(next) else {
            return Ok(());
        };
        self.out.put(&fragment)?;
        for run in [&mut self.video, &mut self.audio].into_iter().flatten() {
            run.frames.clear();
            run.data.clear();
        }
        Ok(())
    }

    /// None where there is nothing in it.
    fn fragment(&mut self, next: Option<(Kind, u64)>) -> Option<Vec<u8>> {
        let runs = [&self.video, &self.audio].into_iter().flatten();
        let runs: Vec<&Run> = runs.filter(|run| !run.frames.is_empty()).collect();
        let length = runs
            .iter()
            .fold(0_usize, |sum, run| sum.saturating_add(run.data.len()));
        if runs.is_empty() {
            return None;
        }
        self.fragments = self.fragments.checked_add(1)?;
        let moof = |offset: usize| {
            let mut at = offset;
            let trafs = runs.iter().map(|run| {
                let of_it = next.filter(|(kind, _)| *kind == run.kind);
                let samples = run.samples(of_it.map(|(_, at_ms)| at_ms));
                let data_offset = i32::try_from(at).ok()?;
                at = at.saturating_add(run.data.len());
                run.fragment(&samples, data_offset)
            });
            let moof = MoofBox {
                mfhd_box: MfhdBox {
                    sequence_number: self.fragments,
                },
                traf_boxes: trafs.collect::<Option<_>>()?,
                unknown_boxes: Vec::new(),
            };
            moof.encode_to_vec().ok()
        };
        // How long it is does not depend on the numbers in it.
        let head = BoxHeader::MIN_SIZE;
        let mut out = moof(moof(0)?.len().checked_add(head)?)?;
        let size = u32::try_from(length.checked_add(head)?).ok()?;
        let header = BoxHeader {
            box_type: MdatBox::TYPE,
            box_size: BoxSize::U32(size),
        };
        out.extend(header.encode_to_vec().ok()?);
        for run in runs {
            out.extend_from_slice(&run.data);
        }
        Some(out)
    }
}

impl<W: Write + Seek> Mp4<W> {
    /// Fills the duration in and goes back to the end. Nothing where there is no head yet, and
    /// where the output cannot seek after all, as a pipe that is a `File`.
    pub(super) fn set_duration(&mut self, ms: u64) -> io::Result<()> {
        let Some(duration_at) = self.duration_at else {
            return Ok(());
        };
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        self.out.fill(duration_at, &ms.to_be_bytes())
    }
}
