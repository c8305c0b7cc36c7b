use std::collections::BTreeMap;

use crate::{meter::unwrap_near_16, peer::ReceivedPacket};

/// Packets back in order; waits for a missing one while there are few behind it.
#[derive(Debug)]
pub(crate) struct Reorder {
    wait_max: usize,
    waiting: BTreeMap<u64, ReceivedPacket>,
    next: Option<u64>,
    ended: bool,
}

impl Reorder {
    /// Packets that wait for a missing one: a retransmission takes a round trip, in which a
    /// stream of 2 Mbit/s sends some twenty.
    pub(crate) const WAIT_MAX: usize = 64;

    /// Waits for a missing packet until more than `wait_max` are behind it.
    pub(crate) const fn new(wait_max: usize) -> Self {
        Self {
            wait_max,
            waiting: BTreeMap::new(),
            next: None,
            ended: false,
        }
    }

    pub(crate) fn push(&mut self, packet: ReceivedPacket) {
        let near = self.next.unwrap_or(1 << 16);
        let seq = unwrap_near_16(near, packet.seq);
        let next = *self.next.get_or_insert(seq);
        if seq >= next {
            self.waiting.insert(seq, packet);
        }
    }

    /// Nothing more comes: waiting is over.
    pub(crate) const fn end(&mut self) {
        self.ended = true;
    }

    /// The next packet, and whether some before it are lost.
    pub(crate) fn pop(&mut self) -> Option<(bool, ReceivedPacket)> {
        let (seq, _) = self.waiting.first_key_value()?;
        let gap = Some(*seq) != self.next;
        if gap && !self.ended && self.waiting.len() <= self.wait_max {
            return None;
        }
        let (seq, packet) = self.waiting.pop_first()?;
        self.next = Some(seq + 1);
        Some((gap, packet))
    }
}
