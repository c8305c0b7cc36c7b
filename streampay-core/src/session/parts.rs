//! Purse frames: what one side's backend shows the other's, in parts that fit a message.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::units::PurseId;
use crate::wire::{OPENING_MAX, Purse};

/// The largest part in one message: a message less its frame, rounded down.
const PART: usize = 15 * 1024;

/// `bytes` in frames; none where it is longer than frames can carry.
pub(super) fn frames(purse: PurseId, method: u8, bytes: &Bytes) -> Vec<Purse> {
    let of = bytes.len().div_ceil(PART).max(1);
    let frame = |part: usize| {
        let from = part.saturating_mul(PART).min(bytes.len());
        let to = from.saturating_add(PART).min(bytes.len());
        Some(Purse {
            purse,
            part: u16::try_from(part).ok()?,
            of: u16::try_from(of).ok()?,
            method,
            bytes: bytes.slice(from..to),
        })
    };
    let all: Option<Vec<Purse>> = (0..of).map(frame).collect();
    all.unwrap_or_default()
}

/// What has come of one run of purse frames.
pub(super) struct Parts {
    purse: PurseId,
    method: u8,
    parts: Vec<Option<Bytes>>,
}

impl Parts {
    pub(super) fn new(part: &Purse) -> Self {
        Self {
            purse: part.purse,
            method: part.method,
            parts: core::iter::repeat_n(None, usize::from(part.of)).collect(),
        }
    }

    pub(super) const fn purse(&self) -> PurseId {
        self.purse
    }

    /// Adds a part. True where it fits the others.
    pub(super) fn add(&mut self, part: Purse) -> bool {
        let size: usize = self.parts.iter().flatten().map(Bytes::len).sum();
        let fits = self.purse == part.purse
            && self.method == part.method
            && self.parts.len() == usize::from(part.of);
        let room = size.saturating_add(part.bytes.len()) <= OPENING_MAX;
        match self.parts.get_mut(usize::from(part.part)) {
            Some(Some(known)) => fits && *known == part.bytes,
            Some(empty) if fits && room => {
                *empty = Some(part.bytes);
                true
            }
            _ => false,
        }
    }

    pub(super) fn joined(&self) -> Option<Bytes> {
        let parts: Option<Vec<&Bytes>> = self.parts.iter().map(Option::as_ref).collect();
        Some(
            parts?
                .into_iter()
                .flatten()
                .copied()
                .collect::<Vec<u8>>()
                .into(),
        )
    }
}

#[cfg(test)]
mod tests;
