//! Counting what was delivered, alike on both sides.
//!
//! # What counts
//! `media_ms`: every packet belongs to a frame, and a frame covers `[begin, begin + span)` of the
//! source's time line. A moment counts once it is covered by any delivered packet, picture or
//! sound, and never twice: `media_ms` is the length of the union of all those intervals, rounded
//! down. So a replayed cache counts once, sound under a picture is not counted again, and a wait
//! for a key frame without sound counts nothing. `bytes`: RTP payloads, first transmissions.
//!
//! [`Meter`] is what both sides share. The sender knows the source's time line ([`MediaPacket`]);
//! the receiver reads it off the RTP time stamps ([`ReceiveMeter`]). Both are pure.
//!
//! Not counted twice within one connection: after a reconnect the cache, at most two seconds, may
//! be delivered and counted again, by both sides alike.

mod coverage;
mod receive;
mod timeline;

pub use receive::ReceiveMeter;
pub(crate) use timeline::{Timeline, unwrap_near_16};

use coverage::Coverage;
use streampay_core::meter::Reading;

use crate::packet::MediaPacket;

/// What was delivered, on top of a reading from earlier connections of the session.
///
/// ```
/// use streampay_core::meter::Reading;
/// use streampay_media::meter::Meter;
///
/// let mut meter = Meter::new(Reading::default());
/// meter.add((0, 40_000), 1000);
/// meter.add((20_000, 60_000), 100);
/// assert_eq!(meter.reading(), Reading { media_ms: 60, bytes: 1100 });
/// ```
#[derive(Clone, Debug)]
pub struct Meter {
    base: Reading,
    covered: Coverage,
    bytes: u64,
}

impl Meter {
    /// A meter that goes on from `base`.
    #[must_use]
    pub const fn new(base: Reading) -> Self {
        Self {
            base,
            covered: Coverage::new(),
            bytes: 0,
        }
    }

    /// What is delivered so far.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        self.plus(0, 0)
    }

    /// What would be delivered with one packet more, which covers `from` to `to` in microseconds
    /// and has `bytes` of payload.
    #[must_use]
    pub fn reading_with(&self, span_us: (u64, u64), bytes: u64) -> Reading {
        self.plus(self.covered.fresh(span_us.0, span_us.1), bytes)
    }

    /// One packet is delivered.
    pub fn add(&mut self, span_us: (u64, u64), bytes: u64) {
        self.covered.add(span_us.0, span_us.1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// What would be delivered with one packet more of what is covered.
    pub(crate) const fn reading_with_bytes(&self, bytes: u64) -> Reading {
        self.plus(0, bytes)
    }

    /// One packet more of what is covered is delivered.
    pub(crate) const fn add_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn plus(&self, more_us: u64, more_bytes: u64) -> Reading {
        let us = self.covered.total_us().saturating_add(more_us);
        Reading {
            media_ms: self.base.media_ms.saturating_add(us / 1000),
            bytes: self
                .base
                .bytes
                .saturating_add(self.bytes)
                .saturating_add(more_bytes),
        }
    }
}

impl MediaPacket {
    /// The payload's length, as the meters count it.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        u64::try_from(self.payload.len()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
