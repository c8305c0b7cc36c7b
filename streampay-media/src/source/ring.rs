//! The last packets of a source, shared by all viewers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::packet::{Kind, MediaPacket};

/// Packets newest last. Pushing never waits for anybody: who is too slow finds them gone.
#[derive(Debug)]
pub(crate) struct Ring {
    state: Mutex<State>,
    /// The number of packets so far.
    head: watch::Sender<u64>,
    /// Somebody who pays needs a key frame.
    key_wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Kept>,
    bytes: usize,
    next: u64,
    /// The last key frame, and the bytes from it on.
    key: Option<(u64, usize)>,
    now_us: u64,
}

#[derive(Debug)]
struct Kept {
    packet: Arc<MediaPacket>,
    /// When it came.
    at: Instant,
}

/// The packets at a viewer's place are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

/// Where a viewer that begins, or goes on after a while, does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The first packet to take.
    pub(crate) next: u64,
    /// When that came, and when in the source's time its frame begins, in microseconds; none where
    /// it is still to come.
    pub(crate) of: Option<(Instant, u64)>,
    /// How far the source is, in microseconds since it began.
    pub(crate) now_us: u64,
    /// When the newest packet came.
    pub(crate) newest: Option<Instant>,
}

/// Whom a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Takes no picture, so it can begin anywhere.
    Sound,
    /// Takes the picture and begins.
    Picture,
    /// Takes the picture and has what is before this packet.
    PictureAfter(u64),
}

impl Ring {
    /// The longest group of pictures that a viewer can begin with, in microseconds. Chosen so that
    /// a viewer is at most so far behind; encoders for live streams send a key frame every one or
    /// two seconds.
    const GROUP_US: u64 = 2_000_000;
    /// The largest one, in bytes: 2 s of 8 Mbit/s.
    const GROUP_BYTES: usize = 2 * 1024 * 1024;
    /// What is kept: such a group, and half as much again for a viewer that is so far behind and
    /// is held for a while.
    const KEEP_US: u64 = Self::GROUP_US / 2 * 3;
    const KEEP_BYTES: usize = Self::GROUP_BYTES / 2 * 3;
    /// Viewers wake with the source, and take then what is due within this: all who are behind by whole
    /// steps of it have a packet due at that moment, but for what its pace is uneven.
    const EARLY: Duration = Duration::from_millis(2);

    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            head: watch::Sender::new(0),
            key_wanted: Notify::new(),
        }
    }

    /// The packets of one frame: viewers wake once for all of them.
    pub(crate) fn push(&self, packets: impl IntoIterator<Item = MediaPacket>) {
        let at = Instant::now();
        let mut state = self.lock();
        let before = state.next;
        for packet in packets {
            state.push(packet, at);
        }
        let next = state.next;
        drop(state);
        if next != before {
            self.head.send_replace(next);
        }
    }

    /// Changes whenever there are more packets.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// How far the source is, in microseconds since it began.
    pub(crate) fn now_us(&self) -> u64 {
        self.lock().now_us
    }

    /// At the last key frame where it is still here, else at the newest packet. Whoever has seen
    /// that key frame goes on where it stopped, where that is not too long ago.
    pub(crate) fn entry(&self, reader: Reader) -> Entry {
        let state = self.lock();
        let key = state.key.filter(|(_, bytes)| *bytes <= Self::GROUP_BYTES);
        let key = key.map(|(key, _)| key);
        let from = match reader {
            Reader::Sound => None,
            Reader::Picture => key,
            Reader::PictureAfter(next) => key.max(Some(next)),
        };
        let oldest = state.now_us.saturating_sub(Self::GROUP_US);
        let fresh = |kept: &&Kept| kept.packet.covers_us().1 >= oldest;
        let kept = from.and_then(|from| state.kept(from)).filter(fresh);
        Entry {
            next: kept.map_or(state.next, |kept| kept.packet.index),
            of: kept.map(|kept| (kept.at, kept.packet.covers_us().0)),
            now_us: state.now_us,
            newest: state.packets.back().map(|kept| kept.at),
        }
    }

    /// How long ago the packet at a viewer's place came, and how far the source is beyond it, in
    /// microseconds; none where that packet is gone.
    pub(crate) fn beyond(&self, next: u64) -> Option<(Duration, u64)> {
        let now = Instant::now();
        let state = self.lock();
        if next == state.next {
            return Some((Duration::ZERO, 0));
        }
        let kept = state.kept(next)?;
        let beyond_us = state.now_us.saturating_sub(kept.packet.covers_us().0);
        Some((now.saturating_duration_since(kept.at), beyond_us))
    }

    /// At most `most` packets from `next`, in place of what is in `into`.
    pub(crate) fn pull(
        &self,
        next: u64,
        most: usize,
        into: &mut Vec<Arc<MediaPacket>>,
    ) -> Result<(), Lagged> {
        let always = |_: &Kept| true;
        self.pull_while(next, most, into, always).map(|_| ())
    }

    /// The same for a viewer that takes each packet `delay` after it came: those that are due, or so soon
    /// that they are taken [early](Self::EARLY), and when the first one is that is not.
    pub(crate) fn pull_due(
        &self,
        next: u64,
        most: usize,
        delay: Duration,
        into: &mut Vec<Arc<MediaPacket>>,
    ) -> Result<Option<Instant>, Lagged> {
        let now = Instant::now() + Self::EARLY;
        let due = |kept: &Kept| kept.at + delay <= now;
        let left = self.pull_while(next, most, into, due)?;
        Ok(left.map(|at| at + delay))
    }

    /// Gives when the first packet came that `take` does not want.
    fn pull_while(
        &self,
        next: u64,
        most: usize,
        into: &mut Vec<Arc<MediaPacket>>,
        take: impl Fn(&Kept) -> bool,
    ) -> Result<Option<Instant>, Lagged> {
        into.clear();
        let state = self.lock();
        let skip = state.skip(next)?;
        // Not `skip`: most viewers are at the end of a long ring.
        let from = skip.min(state.packets.len());
        let to = from.saturating_add(most).min(state.packets.len());
        for kept in state.packets.range(from..to) {
            if !take(kept) {
                return Ok(Some(kept.at));
            }
            into.push(kept.packet.clone());
        }
        Ok(None)
    }

    #[cfg(test)]
    pub(crate) fn pulled(&self, next: u64, most: usize) -> Option<Vec<Arc<MediaPacket>>> {
        let mut packets = Vec::new();
        self.pull(next, most, &mut packets).ok()?;
        Some(packets)
    }

    /// Asks for a key frame, on behalf of a viewer who pays. Many requests are one.
    pub(crate) fn want_key(&self) {
        self.key_wanted.notify_one();
    }

    /// Ends when one was asked for.
    pub(crate) async fn key_wanted(&self) {
        self.key_wanted.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many packets are before that one; an error where it is gone.
    fn skip(&self, next: u64) -> Result<usize, Lagged> {
        let front = self.packets.front();
        let first = front.map_or(self.next, |front| front.packet.index);
        let skip = next.checked_sub(first).ok_or(Lagged)?;
        Ok(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    fn kept(&self, index: u64) -> Option<&Kept> {
        self.packets.get(self.skip(index).ok()?)
    }

    fn push(&mut self, mut packet: MediaPacket, at: Instant) {
        packet.index = self.next;
        self.next += 1;
        let length = packet.payload.len();
        self.bytes += length;
        self.now_us = self.now_us.max(packet.covers_us().1);
        if packet.key_start && packet.kind == Kind::Video {
            self.key = Some((packet.index, 0));
        }
        if let Some((_, bytes)) = &mut self.key {
            *bytes = bytes.saturating_add(length);
        }
        let packet = Arc::new(packet);
        self.packets.push_back(Kept { packet, at });
        let oldest = self.now_us.saturating_sub(Ring::KEEP_US);
        while let Some(Kept { packet: front, .. }) = self.packets.front()
            && (self.bytes > Ring::KEEP_BYTES || front.covers_us().1 < oldest)
        {
            self.bytes -= front.payload.len();
            self.packets.pop_front();
        }
    }
}
