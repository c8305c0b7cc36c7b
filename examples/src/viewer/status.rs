//! The line that a viewer's terminal shows while it watches: how much of the budget is paid, and how
//! long the rest lasts.

use streampay_core::session::Event;
use streampay_core::units::Msat;

use crate::progress::{bar, minutes};
use crate::quote::a_minute;

/// What one session has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    budget: Msat,
    paid: Msat,
    media_ms: u64,
    /// What a minute costs, once it is agreed.
    minute: Msat,
}

impl Status {
    pub(crate) const fn new(budget: Msat) -> Self {
        Self {
            budget,
            paid: Msat::ZERO,
            media_ms: 0,
            minute: Msat::ZERO,
        }
    }

    /// Notes what happened; the line anew, where it has changed.
    pub(crate) fn note(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Bound { terms, .. } | Event::TermsBegan { terms } => {
                self.minute = a_minute(terms.tariff);
                None
            }
            Event::TickPaid { total, reading, .. } => {
                (self.paid, self.media_ms) = (*total, reading.media_ms);
                Some(self.line())
            }
            _ => None,
        }
    }

    fn line(&self) -> String {
        let (paid, budget) = (self.paid, self.budget);
        let bar = bar(paid.msat(), budget.msat());
        let seen = minutes(self.media_ms / 1000);
        format!("{bar} {paid} of {budget} paid, {seen} seen{}", self.left())
    }

    /// How long the rest of the budget lasts, fees left out.
    fn left(&self) -> String {
        let rest = self.budget.saturating_minus(self.paid);
        let seconds = u128::from(rest.msat()).saturating_mul(60);
        let Some(seconds) = seconds.checked_div(self.minute.msat().into()) else {
            return String::new();
        };
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        format!(", at most {} left", minutes(seconds))
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::meter::Reading;
    use streampay_core::units::Seq;

    use super::*;

    fn sat(sat: u64) -> Msat {
        Msat::from_sat(sat).unwrap()
    }

    fn paid(total: Msat, media_ms: u64) -> Event {
        Event::TickPaid {
            seq: Seq(1),
            total,
            reading: Reading { media_ms, bytes: 0 },
        }
    }

    #[test]
    fn the_bar_fills_as_the_budget_is_paid() {
        let mut status = Status::new(sat(100));
        assert_eq!(status.note(&Event::Resumed), None);
        status.minute = sat(12);
        for (total, media_ms, expect) in [
            (
                sat(0),
                0,
                "[------------------------] 0 sat of 100 sat paid, 0:00 seen, at most 8:20 left",
            ),
            (
                sat(50),
                250_999,
                "[############------------] 50 sat of 100 sat paid, 4:10 seen, at most 4:10 left",
            ),
            (
                sat(100),
                3_700_000,
                "[########################] 100 sat of 100 sat paid, 1:01:40 seen, at most 0:00 left",
            ),
            // Tips may be in it: it never grows beyond its end.
            (
                sat(500),
                0,
                "[########################] 500 sat of 100 sat paid, 0:00 seen, at most 0:00 left",
            ),
        ] {
            assert_eq!(status.note(&paid(total, media_ms)).as_deref(), Some(expect));
        }
        let mut unknown = Status::new(Msat::ZERO);
        let line = unknown.note(&paid(sat(1), 1_000)).unwrap();
        assert!(line.ends_with("0:01 seen"), "no price, no end: {line}");
    }
}
