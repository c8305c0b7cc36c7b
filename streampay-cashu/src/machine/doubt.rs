//! A swap of ours of which an answer was lost, and of which the mint says then that somebody else has spent
//! what went in. That may be its mistake: it is asked again, less and less often, before it is believed.

use minicbor::{Decode, Encode};
use streampay_core::units::Now;

use crate::locked::RETRY_S;

/// For how long a mint has to deny such a swap, in seconds. Chosen: longer than it is mistaken, and no
/// session waits for ever.
const DENIED_S: u64 = 600;

/// What is not known of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Doubt {
    /// An answer was lost: it may be done.
    #[n(0)]
    Lost,
    /// The mint denies it since then, by our own clock, in seconds since 1970.
    #[n(1)]
    Denied(#[n(0)] u64),
}

impl Doubt {
    /// The mint denies it. How long it is left alone before it is asked again, in seconds: as long as it has
    /// denied it so far. None where it is to be believed.
    pub(crate) fn denied(&mut self, now: Now) -> Option<u64> {
        let now = now.unix.0;
        let since = match *self {
            Self::Lost => now,
            // A clock that was set back makes nobody wait for longer.
            Self::Denied(since) => since.min(now),
        };
        *self = Self::Denied(since);
        let so_far = now.saturating_sub(since);
        let left = DENIED_S.checked_sub(so_far).filter(|left| *left > 0)?;
        Some(so_far.max(RETRY_S).min(left))
    }

    /// True once the mint has denied it.
    pub(crate) const fn is_denied(self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::units::Unix;

    use super::*;

    fn at(unix: u64) -> Now {
        Now {
            unix: Unix(unix),
            ..Now::default()
        }
    }

    #[test]
    fn mint_is_asked_less_and_less_often_and_believed_in_the_end() {
        let mut doubt = Doubt::Lost;
        assert!(!doubt.is_denied());
        let (mut time, mut asked) = (1_000, Vec::new());
        while let Some(wait) = doubt.denied(at(time)) {
            asked.push(wait);
            time += wait;
        }
        assert_eq!(asked, [30, 30, 60, 120, 240, 120]);
        assert_eq!((time, doubt), (1_000 + DENIED_S, Doubt::Denied(1_000)));
    }

    #[test]
    fn clock_that_is_set_back_makes_nobody_wait_for_longer() {
        let mut doubt = Doubt::Denied(5_000);
        assert_eq!(doubt.denied(at(1_000)), Some(30));
        assert_eq!(doubt, Doubt::Denied(1_000));
        assert_eq!(doubt.denied(at(1_000 + DENIED_S)), None);
    }
}
