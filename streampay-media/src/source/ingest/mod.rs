//! RTP of a publisher to frames of a source.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::{Description, SourceWriter};
use crate::{
    codec::{FrameAssembler, is_key_frame, nal, nal_type, nal_units, opus_ticks},
    packet::{Codec, Kind},
    peer::ReceivedPacket,
    reorder::Reorder,
};

/// Feeds a source from one publisher after another.
///
/// Both kinds are put on the source's time line by when their first packet came, and follow the
/// publisher's time stamps from there. Where those jump, or part from the clock by more than two
/// seconds, they are set anew: time goes on with the clock, also over a change of publishers.
#[derive(Debug)]
pub(crate) struct Ingest {
    writer: SourceWriter,
    began: Instant,
    video: Stream,
    audio: Stream,
}

/// What is known of one kind.
#[derive(Debug)]
struct Stream {
    kind: Kind,
    line: Line,
    /// None while no publisher sends this kind.
    frames: Option<Frames>,
}

#[derive(Debug)]
struct Frames {
    codec: Codec,
    reorder: Reorder,
    assembler: FrameAssembler,
    /// Something was lost: nothing passes before the next key frame, for it could not be decoded
    /// and, with sequence numbers made anew, no viewer could know.
    need_key: bool,
    parameters: Bytes,
}

impl Ingest {
    pub(crate) fn new(writer: SourceWriter) -> Self {
        Self {
            writer,
            began: Instant::now(),
            video: Stream::new(Kind::Video),
            audio: Stream::new(Kind::Audio),
        }
    }

    pub(crate) const fn writer(&self) -> &SourceWriter {
        &self.writer
    }

    /// A publisher begins, with these codecs.
    pub(crate) fn begin(&mut self, description: Description) {
        self.video.begin(description.video.map(|video| video.codec));
        self.audio.begin(description.audio);
        self.writer.describe(description);
    }

    /// H.264 parameter sets that the stream does not carry, as Annex B.
    pub(crate) fn set_parameters(&mut self, parameters: Bytes) {
        if let Some(frames) = &mut self.video.frames {
            frames.parameters = parameters;
        }
    }

    /// One packet of it. True where a key frame has to be asked for.
    pub(crate) fn push(&mut self, packet: ReceivedPacket, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.began);
        let now_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let stream = match packet.codec.kind() {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        stream.push(packet, now_us, &mut self.writer)
    }
}

impl Stream {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            line: Line::new(kind),
            frames: None,
        }
    }

    fn begin(&mut self, codec: Option<Codec>) {
        self.line.stamp = None;
        self.frames = codec.map(Frames::new);
    }

    fn push(&mut self, packet: ReceivedPacket, now_us: u64, writer: &mut SourceWriter) -> bool {
        let Some(frames) = &mut self.frames else {
            return false;
        };
        if packet.codec != frames.codec {
            return false;
        }
        frames.reorder.push(packet);
        let mut key_wanted = false;
        while let Some((gap, packet)) = frames.reorder.pop() {
            if gap {
                frames.assembler.gap();
                if self.kind == Kind::Video {
                    frames.need_key = true;
                    key_wanted = true;
                }
            }
            let (stamp, marker) = (packet.stamp, packet.marker || self.kind == Kind::Audio);
            let Some(frame) = frames.assembler.push(stamp, marker, &packet.payload) else {
                continue;
            };
            let key = is_key_frame(frames.codec, &frame.data);
            let data = frames.with_parameters(frame.data, key);
            frames.need_key &= !key;
            let (ticks, span) = self.line.place(frame.ticks, now_us, &data);
            if !frames.need_key {
                writer.write(self.kind, ticks, span, key, &data);
            }
        }
        key_wanted
    }
}

impl Frames {
    /// Sound is not sent again when it is lost: a few packets are waited for, 80 ms.
    const AUDIO_WAIT_MAX: usize = 4;

    fn new(codec: Codec) -> Self {
        let picture = codec.kind() == Kind::Video;
        Self {
            codec,
            reorder: Reorder::new(if picture {
                Reorder::WAIT_MAX
            } else {
                Self::AUDIO_WAIT_MAX
            }),
            assembler: FrameAssembler::new(codec),
            need_key: picture,
            parameters: Bytes::new(),
        }
    }

    /// H.264: a viewer begins at any key frame, so that each needs the parameter sets. Some
    /// encoders send them once.
    fn with_parameters(&mut self, frame: Bytes, key: bool) -> Bytes {
        if self.codec != Codec::H264 {
            return frame;
        }
        let is_parameter = |unit: &&[u8]| matches!(nal_type(unit), nal::SPS | nal::PPS);
        let has_sps = nal_units(&frame).any(|unit| nal_type(unit) == nal::SPS);
        if has_sps {
            let mut parameters = BytesMut::new();
            for unit in nal_units(&frame).filter(is_parameter) {
                parameters.put_slice(&[0, 0, 0, 1]);
                parameters.put_slice(unit);
            }
            self.parameters = parameters.freeze();
        } else if key && !self.parameters.is_empty() {
            let mut whole = BytesMut::with_capacity(self.parameters.len() + frame.len());
            whole.put_slice(&self.parameters);
            whole.put_slice(&frame);
            return whole.freeze();
        }
        frame
    }
}

/// One kind's time stamps on the source's time line.
#[derive(Debug)]
struct Line {
    kind: Kind,
    /// The last stamp and where on the line it is.
    stamp: Option<(u32, u64)>,
    /// Where the last frame was put, which no later one may precede.
    last: u64,
    /// Of the last two frames.
    spans: [u32; 2],
}

impl Line {
    /// The most that a publisher's clock may part from ours before it is set anew.
    const PART_MAX_MS: u64 = 2_000;

    const fn new(kind: Kind) -> Self {
        // Until two frames are known: thirty a second.
        let span = kind.clock_rate() / 30;
        Self {
            kind,
            stamp: None,
            last: 0,
            spans: [span; 2],
        }
    }

    /// Where a frame with this stamp is, and how long it lasts as far as can be said now: the
    /// shorter of the last two, as the viewer's meter takes it.
    fn place(&mut self, stamp: u32, now_us: u64, frame: &[u8]) -> (u64, u32) {
        let now = now_us.saturating_mul(self.kind.ticks_per_ms()) / 1000;
        let follows = self.stamp.map(|(last, at)| {
            let step = stamp.wrapping_sub(last).cast_signed();
            at.saturating_add_signed(i64::from(step))
        });
        let part_max = Self::PART_MAX_MS.saturating_mul(self.kind.ticks_per_ms());
        let at = follows
            .filter(|at| at.abs_diff(now) <= part_max)
            .unwrap_or(now);
        self.stamp = Some((stamp, at));
        let ticks = at.max(self.last.saturating_add(1));
        let step = u32::try_from(ticks.saturating_sub(self.last)).unwrap_or(u32::MAX);
        self.last = ticks;
        if self.kind == Kind::Audio {
            return (ticks, opus_ticks(frame).unwrap_or(960));
        }
        // A pause is no frame.
        if step <= self.kind.clock_rate() / 2 {
            self.spans = [self.spans[1], step];
        }
        let [before, newest] = self.spans;
        (ticks, before.min(newest))
    }
}

#[cfg(test)]
mod tests;
