//! Bytes that choose what happens.

use bytes::Bytes;
use streampay_core::sim::Direction;

/// Bytes as choices; zeros where they end.
pub(crate) struct Actions<'a>(pub(crate) &'a [u8]);

impl Actions<'_> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(crate) fn number(&mut self) -> u64 {
        u64::from(u16::from_be_bytes([self.byte(), self.byte()])) * 4
    }

    pub(crate) fn direction(&mut self) -> Direction {
        if self.byte().is_multiple_of(2) {
            Direction::ToPayer
        } else {
            Direction::ToPayee
        }
    }

    pub(crate) fn message(&mut self) -> Bytes {
        let length = usize::from(self.byte()).min(self.0.len());
        let (message, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(message)
    }

    /// Takes what is beyond the next `count` bytes away.
    pub(crate) fn rest_after(&mut self, count: usize) -> Vec<u8> {
        let (here, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = here;
        rest.to_vec()
    }
}
