use core::num::NonZeroU64;

use crate::planted::{self, Planted};
use crate::units::{Msat, Overflow};

/// The least lead, in milliseconds. Spec: pricing 6.
const LEAD_MIN_MS: u64 = 100;
/// The most lead, as a part of a tick: 20 %. Spec: pricing 6.
const LEAD_MAX_PART: u64 = 5;

/// What was delivered since the session began, over all its connections. Never decreases.
///
/// Spec: pricing 2.
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
pub struct Reading {
    /// Milliseconds of source time delivered, each moment once.
    #[n(0)]
    pub media_ms: u64,
    /// Bytes of RTP payload, first transmissions only.
    #[n(1)]
    pub bytes: u64,
}

impl Reading {
    /// What came since `earlier`, each meter at least zero.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            media_ms: self.media_ms.saturating_sub(earlier.media_ms),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// The higher of both, meter by meter.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            media_ms: self.media_ms.max(other.media_ms),
            bytes: self.bytes.max(other.bytes),
        }
    }

    /// The lower of both, meter by meter.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            media_ms: self.media_ms.min(other.media_ms),
            bytes: self.bytes.min(other.bytes),
        }
    }
}

/// So many millisatoshi for so much of a meter: an exact rational, `msat / per`.
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
pub struct Rate {
    #[n(0)]
    msat: Msat,
    #[n(1)]
    per: NonZeroU64,
}

impl Rate {
    /// The most that `per` may be: with it, no price of any reading overflows 128 bits.
    pub const MAX_PER: u64 = 0xffff_ffff;

    /// `msat` for every `per` units of the meter.
    ///
    /// # Errors
    /// [`Overflow`] where `per` is 0 or above [`Rate::MAX_PER`].
    pub const fn new(msat: Msat, per: u64) -> Result<Self, Overflow> {
        match NonZeroU64::new(per) {
            Some(per) if per.get() <= Self::MAX_PER => Ok(Self { msat, per }),
            _ => Err(Overflow),
        }
    }

    /// The price of `per` units.
    #[must_use]
    pub const fn msat(self) -> Msat {
        self.msat
    }

    /// The quantity that [`Rate::msat`] buys.
    #[must_use]
    pub const fn per(self) -> u64 {
        self.per.get()
    }

    /// How much `amount` buys, rounded down; nothing is known where it is free.
    pub(crate) fn units(self, amount: Msat) -> Option<u64> {
        let units = u128::from(amount.msat()).saturating_mul(self.per().into());
        let units = units.checked_div(self.msat.msat().into())?;
        Some(u64::try_from(units).unwrap_or(u64::MAX))
    }
}

/// The price of each meter; a meter without a rate is free.
///
/// Spec: pricing 3.
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
pub struct Tariff {
    /// For milliseconds of media delivered.
    #[n(0)]
    pub time: Option<Rate>,
    /// For bytes of media delivered.
    #[n(1)]
    pub bytes: Option<Rate>,
}

impl Tariff {
    /// How much of what is paid may be left when the next tick is due, where it takes so long to pay, in
    /// milliseconds. Spec: pricing 6.
    pub(crate) fn lead(&self, tick: Msat, ms: u64) -> Msat {
        let most = Msat::new(tick.msat() / LEAD_MAX_PART).unwrap_or_default();
        if self.time.is_none() || self.bytes.is_some() {
            return most;
        }
        let price = self.price(Reading {
            media_ms: ms.max(LEAD_MIN_MS),
            bytes: 0,
        });
        if planted::is(Planted::LeadUnbounded) {
            return price;
        }
        price.min(most)
    }

    /// The price of `reading`, all meters summed exactly and rounded up once. Capped at
    /// [`Msat::MAX`], so that an absurd reading is unaffordable and never free.
    #[must_use]
    pub fn price(&self, reading: Reading) -> Msat {
        capped(self.exact(reading).map(|(sum, per)| sum.div_ceil(per)))
    }

    /// The same rounded down: what `reading` is worth in whole millisatoshi.
    #[must_use]
    pub fn worth(&self, reading: Reading) -> Msat {
        capped(
            self.exact(reading)
                .and_then(|(sum, per)| sum.checked_div(per)),
        )
    }

    /// Numerator and denominator, above 0, of the exact price; none beyond 128 bits.
    fn exact(&self, reading: Reading) -> Option<(u128, u128)> {
        let (msat_a, per_a) = parts(self.time, reading.media_ms);
        let (msat_b, per_b) = parts(self.bytes, reading.bytes);
        // a/p + b/q = (a q + b p) / (p q). Each `a` is below 2^125 only in theory (amount and
        // reading both at their limits), so the sums are checked.
        let sum = msat_a
            .checked_mul(per_b)?
            .checked_add(msat_b.checked_mul(per_a)?)?;
        Some((sum, per_a.checked_mul(per_b)?.max(1)))
    }

    /// True where no meter costs more than under `cap`. A meter that `cap` does not name must be
    /// free here.
    #[must_use]
    pub fn is_within(&self, cap: &Self) -> bool {
        let rate_within = |rate: Option<Rate>, cap: Option<Rate>| match (rate, cap) {
            (None, _) => true,
            (Some(rate), None) => rate.msat.is_zero(),
            (Some(rate), Some(cap)) => {
                // Two numbers of 64 bits fit into 128.
                let product =
                    |msat: Msat, per| u128::from(msat.msat()).checked_mul(u128::from(per));
                product(rate.msat, cap.per()) <= product(cap.msat, rate.per())
            }
        };
        rate_within(self.time, cap.time) && rate_within(self.bytes, cap.bytes)
    }
}

fn capped(msat: Option<u128>) -> Msat {
    msat.and_then(|msat| u64::try_from(msat).ok())
        .and_then(|msat| Msat::new(msat).ok())
        .unwrap_or(Msat::MAX)
}

/// Numerator and denominator of one meter's price.
fn parts(rate: Option<Rate>, quantity: u64) -> (u128, u128) {
    rate.map_or((0, 1), |rate| {
        (
            u128::from(rate.msat.msat()).saturating_mul(u128::from(quantity)),
            u128::from(rate.per()),
        )
    })
}
