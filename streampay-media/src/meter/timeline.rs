//! RTP time stamps to one time line.

use crate::packet::Kind;

/// The number that ends in `low` (its lowest 32 bits) and is nearest to `near`; none would be
/// negative.
const fn unwrap_near(near: u64, low: u32) -> u64 {
    unwrap_modulo(near, widen(low), 1 << 32)
}

/// The same for 16 bits: sequence numbers.
pub(crate) const fn unwrap_near_16(near: u64, low: u16) -> u64 {
    unwrap_modulo(near, widen_16(low), 1 << 16)
}

const fn unwrap_modulo(near: u64, low: u64, modulus: u64) -> u64 {
    let candidate = near - near % modulus + low;
    if candidate > near.saturating_add(modulus / 2) && candidate >= modulus {
        candidate - modulus
    } else if candidate.saturating_add(modulus / 2) < near {
        candidate + modulus
    } else {
        candidate
    }
}

#[allow(clippy::as_conversions)]
const fn widen(value: u32) -> u64 {
    value as u64
}

#[allow(clippy::as_conversions)]
const fn widen_16(value: u16) -> u64 {
    value as u64
}

/// Puts the time stamps of both kinds on one line, in microseconds.
///
/// Senders of this crate count both kinds from the same moment, so that the time stamps of one
/// moment, each divided by its clock rate, are equal. Where the first stamps of both kinds are
/// further apart than any cache is long, the sender is another one with offsets of its own: then
/// the later kind is taken to begin where the earlier one has got to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    video: Option<Line>,
    audio: Option<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    last_ticks: u64,
    offset_us: i64,
}

impl Timeline {
    /// Stamps of one moment by one of our senders differ by at most a cache and a pause's edge.
    const SHARED_WITHIN_US: u64 = 10_000_000;
    /// Room for packets from before the first one.
    const ORIGIN: u64 = 1 << 32;

    /// The unwrapped stamp and where that is on the line, in microseconds.
    pub(crate) fn place(&mut self, kind: Kind, stamp: u32) -> (u64, u64) {
        let other_us = self.line(kind.other()).map(|line| line.at_us(kind.other()));
        let line = self.line_mut(kind).get_or_insert_with(|| {
            let ticks = Self::ORIGIN + u64::from(stamp);
            // Both kinds must unwrap around the same moment, so take the origin out again.
            let own_us = kind.us(u64::from(stamp));
            let target = match other_us {
                Some(other) if other.abs_diff(own_us + BASE_US) > Self::SHARED_WITHIN_US => other,
                _ => own_us + BASE_US,
            };
            Line {
                last_ticks: ticks,
                offset_us: signed(target) - signed(kind.us(ticks)),
            }
        });
        let ticks = unwrap_near(line.last_ticks, stamp);
        line.last_ticks = line.last_ticks.max(ticks);
        let us = kind.us(ticks).saturating_add_signed(line.offset_us);
        (ticks, us)
    }

    /// Where `ticks` of `kind`, as [`Timeline::place`] gave them, are on the line.
    pub(crate) fn us(&self, kind: Kind, ticks: u64) -> u64 {
        let offset_us = self.line(kind).map_or(0, |line| line.offset_us);
        kind.us(ticks).saturating_add_signed(offset_us)
    }

    const fn line(&self, kind: Kind) -> Option<Line> {
        match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
        }
    }

    const fn line_mut(&mut self, kind: Kind) -> &mut Option<Line> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

impl Line {
    const fn at_us(self, kind: Kind) -> u64 {
        kind.us(self.last_ticks)
            .saturating_add_signed(self.offset_us)
    }
}

/// Where the line begins, so that nothing on it is negative.
const BASE_US: u64 = 60_000_000;

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
