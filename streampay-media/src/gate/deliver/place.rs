//! Where a viewer is in the source, and how far behind it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, Tracks};
use crate::{
    meter::ReceiveMeter,
    packet::{Kind, MediaPacket},
    source::{Reader, Ring},
};

/// A viewer's place. It takes each packet a constant time after it came to the source, and sees it
/// stamped with when that is: so that to its decoder everything comes as evenly as it came here,
/// picture and sound alike, however much is replayed. That time changes only where the viewer
/// begins, and where it goes on after more was held back than both meters take for a stutter. It is
/// counted to the newest packet, not to the moment, so that what is due later is due when the source
/// brings something: viewers wake with it and together, not each by a timer of its own.
#[derive(Debug)]
pub(super) struct Place {
    /// The next packet.
    pub(super) next: u64,
    /// How long after it came a packet is due.
    pub(super) delay: Duration,
    /// What is added to the source's time, in milliseconds: the same.
    shift_ms: u64,
    /// The viewer's time begins here in the source's; of a young source, before that began: it wraps.
    epoch_ms: u64,
    /// The latest moment that was sent, in the source's time plus `shift_ms`.
    shown_ms: Option<u64>,
    picture: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Where to begin is decided at the first opening.
    Outside,
    Flowing,
    /// The gate is shut, or was and has no credit yet.
    Held,
}

/// What becomes of a viewer whose gate has opened again.
enum AfterHold {
    /// It goes on where it stopped, with what came meanwhile all at once.
    GoOn,
    /// Nothing before then.
    Wait(Instant),
    EnterAnew,
}

impl Place {
    /// The time line of a viewer begins so long before its first packet could be.
    const EPOCH_LEAD_MS: u64 = 10_000;
    /// The longest hold that a viewer makes up for by what came meanwhile, all at once. Decoders take
    /// that for jitter, and wait so long with every picture from then on, for half a minute and more.
    const MADE_UP_MAX: Duration = Duration::from_millis(200);
    /// What is longer shows in the time stamps, as a jump that is longer than this: else the viewer's
    /// meter would take it for media. A hold between the two is made that long.
    const JUMP_MAX_MS: u64 = ReceiveMeter::FRAME_MAX_MS;
    /// So long after a packet is due that is held, its stamp can move with it.
    const JUMP: Duration = Duration::from_millis(Self::JUMP_MAX_MS + 2);
    /// The longest step of a source to wake with, and by how much the first frame is late at most. It is
    /// well below [`Self::MADE_UP_MAX`]; a source of ten frames a second has such steps.
    const STEP_MAX: Duration = Duration::from_millis(100);

    pub(super) fn new(ring: &Ring, tracks: &Tracks) -> Self {
        let now_ms = ring.entry(Reader::Sound).now_us / 1000;
        Self {
            next: 0,
            delay: Duration::ZERO,
            shift_ms: 0,
            epoch_ms: now_ms.wrapping_sub(Self::EPOCH_LEAD_MS),
            shown_ms: None,
            picture: tracks.video.is_some(),
            state: State::Outside,
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.state == State::Outside
    }

    pub(super) fn flows(&self) -> bool {
        self.state == State::Flowing
    }

    /// The gate is open: decides where to go on, if that is to be decided. Says when, where that is
    /// not now.
    pub(super) fn opened(
        &mut self,
        ring: &Ring,
        gate: &mut Gate,
        tracks: &mut Tracks,
    ) -> Option<Instant> {
        match self.state {
            State::Outside => self.enter(ring, Reader::Picture, gate, tracks),
            State::Held if gate.has_credit() => match self.after_hold(ring) {
                AfterHold::GoOn => self.state = State::Flowing,
                AfterHold::Wait(until) => return Some(until),
                AfterHold::EnterAnew => {
                    self.enter(ring, Reader::PictureAfter(self.next), gate, tracks);
                }
            },
            State::Flowing | State::Held => {}
        }
        None
    }

    /// By the clock, which is what the viewer sees, and by the source: one that stood still is not
    /// made up for by falling behind it.
    fn after_hold(&self, ring: &Ring) -> AfterHold {
        let Some((ago, beyond_us)) = ring.beyond(self.next) else {
            return AfterHold::EnterAnew;
        };
        let by_the_clock = ago.saturating_sub(self.delay);
        let beyond = Duration::from_micros(beyond_us);
        let by_the_source = beyond.saturating_sub(Duration::from_millis(self.shift_ms));
        if by_the_clock.min(by_the_source) <= Self::MADE_UP_MAX {
            AfterHold::GoOn
        } else if by_the_clock < Self::JUMP {
            AfterHold::Wait(Instant::now() + (Self::JUMP - by_the_clock))
        } else if by_the_source.as_millis() > u128::from(Self::JUMP_MAX_MS) {
            AfterHold::EnterAnew
        } else {
            AfterHold::GoOn
        }
    }

    /// The packets at this place are gone.
    pub(super) fn lost(&mut self, ring: &Ring, gate: &mut Gate, tracks: &mut Tracks) {
        self.enter(ring, Reader::Picture, gate, tracks);
    }

    /// The gate is shut, or has held the next packet.
    pub(super) fn held(&mut self) {
        if self.state == State::Flowing {
            self.state = State::Held;
        }
    }

    /// This packet was passed on.
    pub(super) fn sent(&mut self, packet: &MediaPacket) {
        let at_ms = packet.covers_us().0 / 1000;
        let shown_ms = at_ms.saturating_add(self.shift_ms);
        self.shown_ms = self.shown_ms.max(Some(shown_ms));
    }

    fn enter(&mut self, ring: &Ring, reader: Reader, gate: &mut Gate, tracks: &mut Tracks) {
        let reader = if self.picture { reader } else { Reader::Sound };
        let entry = ring.entry(reader);
        if self.state == State::Outside || entry.next != self.next {
            gate.resync();
        }
        let now = Instant::now();
        let (at, begin_us) = entry.of.unwrap_or((now, entry.now_us));
        let with_the_source = |newest: &Instant| now.duration_since(*newest) <= Self::STEP_MAX;
        let until = entry.newest.filter(with_the_source).unwrap_or(now);
        self.next = entry.next;
        // Never so near to what was sent last that a meter would take what lies between for media.
        let begin_ms = begin_us / 1000;
        let least_ms = self.shown_ms.map_or(0, |shown_ms| {
            let after = shown_ms.saturating_add(Self::JUMP_MAX_MS + 1);
            after.saturating_sub(begin_ms)
        });
        let delay = until.saturating_duration_since(at);
        self.delay = delay.max(Duration::from_millis(least_ms));
        // Stamped with when it is sent.
        self.shift_ms = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX);
        self.state = State::Flowing;
        let origin_ms = self.epoch_ms.wrapping_sub(self.shift_ms);
        for (kind, track) in [
            (Kind::Video, &mut tracks.video),
            (Kind::Audio, &mut tracks.audio),
        ] {
            if let Some(track) = track {
                track.set_origin(kind, origin_ms);
            }
        }
    }
}
