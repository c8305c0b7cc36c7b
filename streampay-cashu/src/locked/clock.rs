//! The mint's time, carried on the monotonic clock: what the locks of both sides go by.

use streampay_core::units::{Now, Unix};

/// By how much wall and monotonic time may part before the mint is asked again, in seconds.
const PARTED_S: u64 = 60;
/// For how long an answer of the mint is carried on, in seconds. Chosen for clocks that lose a
/// second in an hour.
const GOOD_FOR_S: u64 = 24 * 3600;

/// The mint's time at one moment. Never stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MintClock {
    mint_s: u64,
    at: Now,
}

impl MintClock {
    pub(crate) const fn new(mint_s: u64, at: Now) -> Self {
        Self { mint_s, at }
    }

    /// True where it was learnt after `other`.
    pub(crate) const fn is_newer(&self, other: &Self) -> bool {
        self.at.mono.0 > other.at.mono.0
    }

    /// The mint's time now, in seconds since 1970; none where it must be learnt again: the
    /// computer slept, or its clock was set.
    pub(crate) fn at(&self, now: Now) -> Option<u64> {
        let mono_s = now.mono.0.checked_sub(self.at.mono.0)? / 1000;
        let wall_s = i128::from(now.unix.0) - i128::from(self.at.unix.0);
        let parted = (wall_s - i128::from(mono_s)).unsigned_abs();
        if parted >= u128::from(PARTED_S) || mono_s > GOOD_FOR_S {
            return None;
        }
        self.mint_s.checked_add(mono_s)
    }

    /// When our own wall clock shows that the mint's shows `mint_s`.
    pub(crate) const fn wall(&self, mint_s: u64) -> Unix {
        let later = mint_s.saturating_sub(self.mint_s);
        let earlier = self.mint_s.saturating_sub(mint_s);
        Unix(self.at.unix.0.saturating_add(later).saturating_sub(earlier))
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::units::Mono;

    use super::*;

    const fn at(mono_s: u64, unix_s: u64) -> Now {
        Now {
            mono: Mono(mono_s * 1000),
            unix: Unix(unix_s),
        }
    }

    #[test]
    fn mint_time_runs_on_the_monotonic_clock() {
        // The own wall clock is 31 minutes off; it is not asked.
        let clock = MintClock::new(10_000, at(5, 10_000 - 1860));
        assert_eq!(clock.at(at(5, 8140)), Some(10_000));
        assert_eq!(clock.at(at(105, 8240)), Some(10_100));
        assert_eq!(clock.wall(10_600), Unix(8740));
        assert_eq!(clock.wall(9_000), Unix(7140));
    }

    #[test]
    fn mint_time_is_learnt_again_once_the_clocks_part() {
        let clock = MintClock::new(10_000, at(5, 10_000));
        let cases = [
            (at(65, 10_060), Some(10_060)),
            (at(65, 10_119), Some(10_060)),
            (at(65, 10_120), None),
            (at(65, 10_000), None),
            (at(65, 0), None),
            (at(4, 10_000), None),
            (at(86_500, 96_495), None),
        ];
        for (now, expect) in cases {
            assert_eq!(clock.at(now), expect, "{now:?}");
        }
    }
}
