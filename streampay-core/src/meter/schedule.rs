use super::{Reading, Tariff};
use crate::planted::{self, Planted};
use crate::units::Msat;

/// The tariff that holds, from where it holds, and the one that follows it. Prices any later
/// reading by itself, so that a gate can decide without asking anybody.
///
/// Spec: pricing 4.2.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
pub struct Schedule {
    /// What was used up to `base`, in millisatoshi.
    #[n(0)]
    pub base_msat: Msat,
    /// The reading at which the tariff began.
    #[n(1)]
    pub base: Reading,
    /// What holds since.
    #[n(2)]
    pub tariff: Tariff,
    /// What holds after it, where that is agreed.
    #[n(3)]
    pub next: Option<NextTariff>,
    /// The last reading that was told: the next tariff begins there or after it. With one meter
    /// the reading at which it begins follows from the amount alone; with several it lies on the
    /// straight line from here.
    #[n(4)]
    pub known: Reading,
}

/// A tariff that is agreed and has not begun.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
pub struct NextTariff {
    /// It holds for what is used beyond this amount, in millisatoshi since the session began.
    #[n(0)]
    pub from: Msat,
    /// What holds then.
    #[n(1)]
    pub tariff: Tariff,
}

impl Schedule {
    /// A session's first: `tariff` from nothing used on.
    #[must_use]
    pub fn new(tariff: Tariff) -> Self {
        Self {
            tariff,
            ..Self::default()
        }
    }

    /// What is used at `reading`, rounded up once for each tariff. Never decreases as the reading
    /// grows.
    #[must_use]
    pub fn used(&self, reading: Reading) -> Msat {
        self.amount(reading, Tariff::price)
    }

    /// The tariff that holds, without what is agreed to come after it.
    #[must_use]
    pub const fn alone(self) -> Self {
        Self { next: None, ..self }
    }

    /// The same with the tariff that holds there rounded down. Whoever used no more than this
    /// has used no more than `reading`, and whatever comes on top of both keeps it so.
    #[must_use]
    pub fn worth(&self, reading: Reading) -> Msat {
        self.amount(reading, Tariff::worth)
    }

    fn amount(&self, reading: Reading, price: impl Fn(&Tariff, Reading) -> Msat) -> Msat {
        match self.next {
            Some(next) if self.by_this_tariff(reading) > next.from => {
                let begin = self.begin(next.from, reading);
                let since = price(&next.tariff, reading.since(begin));
                next.from.saturating_plus(since)
            }
            _ => {
                let since = price(&self.tariff, reading.since(self.base));
                self.base_msat.saturating_plus(since)
            }
        }
    }

    /// Takes a newer reading. True where with it the next tariff has begun.
    pub fn advance(&mut self, reading: Reading) -> bool {
        let begun = self
            .next
            .filter(|next| self.by_this_tariff(reading) > next.from);
        if let Some(next) = begun {
            self.base = self.begin(next.from, reading);
            self.base_msat = next.from;
            self.tariff = next.tariff;
            self.next = None;
        }
        if planted::is(Planted::RoundingPerTick) {
            (self.base_msat, self.base) = (self.used(reading), reading);
        }
        // Below the one before in some meter: a crash lost that one, and this one counts on.
        self.known = reading;
        begun.is_some()
    }

    /// Takes a newer reading, and no more of it than this tariff buys for `from`.
    pub(crate) fn stand_at(&mut self, from: Msat, reading: Reading) {
        let fits = |at| self.by_this_tariff(at) <= from;
        self.known = last_on_way(self.known, reading, fits);
    }

    /// How much media time `step` buys from `from` on, in milliseconds, whichever tariff holds by then. 0 where
    /// neither sells time. Spec: pricing 2.3.
    pub(crate) fn bought_ms(&self, from: Reading, step: Msat) -> u64 {
        let next = self.next.map(|next| next.tariff);
        let by_rate = |tariff: Tariff| tariff.time.and_then(|rate| rate.units(step));
        let most = [by_rate(self.tariff), next.and_then(by_rate)];
        let most = most.into_iter().flatten().max().unwrap_or_default();
        let furthest = Reading {
            media_ms: from.media_ms.saturating_add(most),
            ..from
        };
        let reach = self.used(from).saturating_plus(step);
        let last = last_on_way(from, furthest, |at| self.used(at) <= reach);
        last.since(from).media_ms
    }

    fn by_this_tariff(&self, reading: Reading) -> Msat {
        self.base_msat
            .saturating_plus(self.tariff.price(reading.since(self.base)))
    }

    /// The last reading, on the straight line from the last known one to `reading`, that `from`
    /// still buys by this tariff: so nothing that has passed is ever priced anew. `reading` costs
    /// more than `from`.
    fn begin(&self, from: Msat, reading: Reading) -> Reading {
        last_on_way(self.known, reading, |at| self.by_this_tariff(at) <= from)
    }
}

/// The last reading on the straight line between two that still `fits`; where the last does, that one.
/// What fits does so up to some reading, and from there on nothing. By bisection: 64 steps at most.
pub(crate) fn last_on_way(
    known: Reading,
    reading: Reading,
    fits: impl Fn(Reading) -> bool,
) -> Reading {
    if fits(reading) {
        return reading;
    }
    let way = reading.since(known);
    let steps = way.media_ms.max(way.bytes);
    let at = |step: u64| Reading {
        media_ms: part(known.media_ms, way.media_ms, step, steps),
        bytes: part(known.bytes, way.bytes, step, steps),
    };
    let (mut low, mut high) = (0, steps);
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        if fits(at(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(low)
}

/// `start + way * step / steps`, rounded down; `step` is at most `steps`.
fn part(start: u64, way: u64, step: u64, steps: u64) -> u64 {
    let share = u128::from(way)
        .saturating_mul(step.into())
        .checked_div(steps.into())
        .unwrap_or_default();
    start.saturating_add(u64::try_from(share).unwrap_or(way))
}
