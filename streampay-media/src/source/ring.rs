//! The last packets of a source, shared by all viewers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

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
    packets: VecDeque<Arc<MediaPacket>>,
    bytes: usize,
    next: u64,
    key: Option<u64>,
    now_us: u64,
}

/// The packets at a viewer's place are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

/// Where a viewer that begins, or lagged, goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The first packet to take.
    pub(crate) next: u64,
    /// Sound before this packet is skipped: a picture has to be replayed, old sound has not.
    pub(crate) audio_from: u64,
}

impl Ring {
    /// The longest group of pictures that is kept, in microseconds. Chosen so that a viewer is
    /// at most so far behind; encoders for live streams send a key frame every one or two
    /// seconds.
    const KEEP_US: u64 = 2_000_000;
    /// The largest one, in bytes: 2 s of 8 Mbit/s.
    const KEEP_BYTES: usize = 2 * 1024 * 1024;

    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            head: watch::Sender::new(0),
            key_wanted: Notify::new(),
        }
    }

    /// The packets of one frame: viewers wake once for all of them.
    pub(crate) fn push(&self, packets: impl IntoIterator<Item = MediaPacket>) {
        let mut state = self.lock();
        let before = state.next;
        for packet in packets {
            state.push(packet);
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

    /// At the last key frame where it is still here, else at the newest packet.
    pub(crate) fn entry(&self) -> Entry {
        let state = self.lock();
        Entry {
            next: state.key.unwrap_or(state.next),
            audio_from: state.next,
        }
    }

    /// At most `most` packets from `next`, in place of what is in `into`.
    pub(crate) fn pull(
        &self,
        next: u64,
        most: usize,
        into: &mut Vec<Arc<MediaPacket>>,
    ) -> Result<(), Lagged> {
        into.clear();
        let state = self.lock();
        let first = state
            .packets
            .front()
            .map_or(state.next, |front| front.index);
        let skip = next.checked_sub(first).ok_or(Lagged)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        // Not `skip`: most viewers are at the end of a long ring.
        let from = skip.min(state.packets.len());
        let to = from.saturating_add(most).min(state.packets.len());
        into.extend(state.packets.range(from..to).cloned());
        Ok(())
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
    fn push(&mut self, mut packet: MediaPacket) {
        packet.index = self.next;
        self.next += 1;
        self.bytes += packet.payload.len();
        self.now_us = self.now_us.max(packet.covers_us().1);
        if packet.key_start && packet.kind == Kind::Video {
            self.key = Some(packet.index);
        }
        self.packets.push_back(Arc::new(packet));
        let oldest = self.now_us.saturating_sub(Ring::KEEP_US);
        while let Some(front) = self.packets.front()
            && (self.bytes > Ring::KEEP_BYTES || front.covers_us().1 < oldest)
        {
            let (index, length) = (front.index, front.payload.len());
            self.bytes -= length;
            self.key = self.key.filter(|key| *key != index);
            self.packets.pop_front();
        }
    }
}
