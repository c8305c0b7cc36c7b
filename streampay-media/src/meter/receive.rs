use streampay_core::meter::Reading;

use super::{Meter, Timeline, unwrap_near_16};
use crate::{
    codec::opus_ticks,
    packet::{Kind, PacketCount},
};

/// The receiver's meter: fed with RTP headers, it reads as the sender's does.
///
/// A frame's span is its successor's stamp minus its own; until that comes, the shorter of the two
/// spans before it (an Opus packet says its own). Where packets are missing between two stamps, the time between
/// counts too: loss is delivered media that got lost, not a pause. Where none is missing, a jump
/// longer than [`ReceiveMeter::FRAME_MAX_MS`] is a pause and does not count.
#[derive(Clone, Debug)]
pub struct ReceiveMeter {
    meter: Meter,
    timeline: Timeline,
    video: Stream,
    audio: Stream,
    count: PacketCount,
    gaps: PacketCount,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    last: Option<Last>,
    /// What the newest frame is taken to last.
    span_ticks: u64,
    /// From the last frame but one to the last.
    step_ticks: u64,
    /// The last sequence numbers seen, by their lowest bits.
    seen: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    seq: u64,
    ticks: u64,
    /// False where it came and does not count: what follows it does not reach back to it.
    counts: bool,
}

impl ReceiveMeter {
    /// The longest that one frame is taken to last, in milliseconds: two frames a second.
    pub const FRAME_MAX_MS: u64 = 500;
    /// The longest loss that counts as delivered in one piece, in milliseconds. Longer ones look
    /// like a pause.
    pub const LOSS_MAX_MS: u64 = 2_000;
    /// Packets that are remembered to count none twice.
    const WINDOW: usize = 1024;

    /// A meter that goes on from `base`, the session's reading.
    #[must_use]
    pub fn new(base: Reading) -> Self {
        Self {
            meter: Meter::new(base),
            timeline: Timeline::default(),
            video: Stream::default(),
            audio: Stream::default(),
            count: PacketCount::default(),
            gaps: PacketCount::default(),
        }
    }

    /// What was received so far.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        self.meter.reading()
    }

    /// Packets so far, repeated ones not counted.
    #[must_use]
    pub const fn packets(&self) -> PacketCount {
        self.count
    }

    /// Sequence numbers that were passed over when they were due, whether or not they came later.
    #[must_use]
    pub const fn gaps(&self) -> PacketCount {
        self.gaps
    }

    /// One RTP packet came. False where it came before: a retransmission that was not needed.
    pub fn receive(&mut self, kind: Kind, seq: u16, stamp: u32, payload: &[u8]) -> bool {
        if payload.is_empty() {
            // Padding, for measuring bandwidth.
            return false;
        }
        let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.receive_opened(kind, seq, stamp, payload, bytes)
    }

    /// The same of a packet whose frame was sealed: `frame` is what was in it, `bytes` what came.
    pub(crate) fn receive_opened(
        &mut self,
        kind: Kind,
        seq: u16,
        stamp: u32,
        frame: &[u8],
        bytes: u64,
    ) -> bool {
        let (ticks, _) = self.timeline.place(kind, stamp);
        let stream = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let near = stream.last.map_or(1 << 16, |last| last.seq);
        let seq = unwrap_near_16(near, seq);
        if !stream.first_time(seq) {
            return false;
        }
        self.count.add(kind);
        let missing = stream
            .last
            .map_or(0, |last| seq.saturating_sub(last.seq + 1));
        (0..missing.min(u64::from(u16::MAX))).for_each(|_| self.gaps.add(kind));
        let bridged = stream.advance(kind, seq, ticks, missing, frame);
        let span = stream.span_ticks;
        let timeline = &self.timeline;
        let place = |from: u64, to: u64| (timeline.us(kind, from), timeline.us(kind, to));
        if let Some((from, to)) = bridged {
            self.meter.add(place(from, to), 0);
        }
        self.meter
            .add(place(ticks, ticks.saturating_add(span)), bytes);
        true
    }

    /// A packet came whose frame did not open: it is not lost, and it does not count.
    #[cfg(feature = "e2ee")]
    pub(crate) fn unopened(&mut self, kind: Kind, seq: u16, stamp: u32) {
        let (ticks, _) = self.timeline.place(kind, stamp);
        let stream = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let near = stream.last.map_or(1 << 16, |last| last.seq);
        let seq = unwrap_near_16(near, seq);
        if stream.first_time(seq) && stream.last.is_none_or(|last| seq > last.seq) {
            let ticks = stream.last.map_or(ticks, |last| last.ticks.max(ticks));
            stream.last = Some(Last {
                seq,
                ticks,
                counts: false,
            });
        }
    }
}

impl Stream {
    /// Takes note of `seq`; false where it came before or is too old to tell.
    fn first_time(&mut self, seq: u64) -> bool {
        let window = ReceiveMeter::WINDOW;
        self.seen.resize(window, u64::MAX);
        let width = u64::try_from(window).unwrap_or(u64::MAX);
        let too_old = self
            .last
            .is_some_and(|last| seq.saturating_add(width) <= last.seq);
        let slot = usize::try_from(seq % width)
            .ok()
            .and_then(|at| self.seen.get_mut(at));
        match slot {
            Some(slot) if !too_old && *slot != seq => {
                *slot = seq;
                true
            }
            _ => false,
        }
    }

    /// Learns the span of frames; where the time since the last frame counts, that time.
    fn advance(
        &mut self,
        kind: Kind,
        seq: u64,
        ticks: u64,
        missing: u64,
        payload: &[u8],
    ) -> Option<(u64, u64)> {
        if kind == Kind::Audio
            && let Some(span) = opus_ticks(payload)
        {
            self.span_ticks = u64::from(span);
        }
        let Some(last) = self.last else {
            self.last = Some(Last {
                seq,
                ticks,
                counts: true,
            });
            return None;
        };
        if seq <= last.seq {
            return None;
        }
        self.last = Some(Last {
            seq,
            ticks: ticks.max(last.ticks),
            counts: true,
        });
        if !last.counts {
            return None;
        }
        let step = ticks.saturating_sub(last.ticks);
        if step == 0 {
            return None;
        }
        let one_frame = step <= ReceiveMeter::FRAME_MAX_MS * kind.ticks_per_ms();
        if missing == 0 && one_frame && kind == Kind::Video {
            // The shorter of the last two: a stutter is not taken for slow frames.
            self.span_ticks = step.min(self.step_ticks);
            self.step_ticks = step;
        }
        // A packet is at most a frame, so so many lost packets are at most so many frames.
        let longest = self.span_ticks.saturating_mul(missing + 1);
        let loss =
            missing > 0 && step <= longest.min(ReceiveMeter::LOSS_MAX_MS * kind.ticks_per_ms());
        ((missing == 0 && one_frame && kind == Kind::Video) || loss).then_some((last.ticks, ticks))
    }
}
