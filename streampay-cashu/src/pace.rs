//! How often the same is asked of a mint that brings it to no end.

use streampay_core::units::{Now, Unix};

use crate::locked::RETRY_S;

/// When something that was made anew may be asked for, or made anew, once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace(Option<Unix>);

impl Pace {
    /// It is made anew, for another fee or keyset. At once, but for a mint that names another each time:
    /// then it waits.
    pub(crate) fn made_anew(&mut self, now: Now) {
        let wait = self.0.map_or(0, |_| RETRY_S);
        self.wait(now, wait);
    }

    /// It waits for so long, in seconds.
    pub(crate) fn wait(&mut self, now: Now, seconds: u64) {
        self.0 = Some(Unix(now.unix.0.saturating_add(seconds)));
    }

    /// True while it waits.
    pub(crate) fn waits(self, now: Now) -> bool {
        self.0.is_some_and(|at| now.unix < at)
    }

    /// When it may be asked for; none where nothing was made anew since it last came to an end.
    pub(crate) const fn at(self) -> Option<Unix> {
        self.0
    }

    /// It has come to an end.
    pub(crate) fn ended(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix: u64) -> Now {
        Now {
            unix: Unix(unix),
            ..Now::default()
        }
    }

    #[test]
    fn first_is_at_once_and_each_later_one_waits_until_it_ended() {
        let mut pace = Pace::default();
        assert_eq!((pace.at(), pace.waits(at(0))), (None, false));
        pace.made_anew(at(100));
        assert!(!pace.waits(at(100)));
        for from in [100, 100 + RETRY_S] {
            pace.made_anew(at(from));
            assert!(pace.waits(at(from + RETRY_S - 1)));
            assert!(!pace.waits(at(from + RETRY_S)));
        }
        pace.ended();
        pace.made_anew(at(500));
        assert!(!pace.waits(at(500)));
        pace.wait(at(500), 7);
        assert_eq!((pace.at(), pace.waits(at(506))), (Some(Unix(507)), true));
    }
}
