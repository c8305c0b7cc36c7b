//! Amounts and prices as people write them: `100sat`, `2sat/10s`.

use std::str::FromStr;

use streampay_core::meter::{Rate, Tariff};
use streampay_core::units::Msat;

/// Why a text is no amount or price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPrice {
    /// Not written as amounts are.
    #[error("expected whole satoshi, at least 1, like 100sat")]
    Amount,
    /// Not written as prices are.
    #[error("expected a price like 2sat/10s: satoshi for each payment, and the seconds it buys")]
    Price,
    /// Seconds out of range.
    #[error("one payment buys {} to {} s, whole seconds", Price::SECONDS.start(), Price::SECONDS.end())]
    Seconds,
}

/// Whole satoshi, written `100sat` or `100`.
///
/// # Errors
/// [`BadPrice`] for anything else, and for nothing at all.
pub fn amount(text: &str) -> Result<Msat, BadPrice> {
    let text = text.trim();
    let digits = text.strip_suffix("sat").unwrap_or(text);
    let sat: u64 = digits.trim().parse().map_err(|_| BadPrice::Amount)?;
    match Msat::from_sat(sat) {
        Ok(amount) if sat > 0 => Ok(amount),
        _ => Err(BadPrice::Amount),
    }
}

/// So much for so many seconds: one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// One payment.
    pub tick: Msat,
    /// What it buys, in milliseconds of media.
    pub per_ms: u64,
}

impl Price {
    /// The shortest and the longest tick, in seconds. Chosen: shorter costs
    /// a mint call a second, longer puts more than a minute at stake.
    pub const SECONDS: core::ops::RangeInclusive<u64> = 1..=60;

    /// For how long `amount` lasts, in milliseconds.
    #[must_use]
    pub(crate) fn lasts_ms(self, amount: Msat) -> u64 {
        let ms = u128::from(amount.msat()).saturating_mul(u128::from(self.per_ms));
        let tick = u128::from(self.tick.msat()).max(1);
        u64::try_from(ms.div_ceil(tick)).unwrap_or(u64::MAX)
    }

    /// As a tariff of time.
    #[must_use]
    pub fn tariff(self) -> Tariff {
        Tariff {
            time: Rate::new(self.tick, self.per_ms).ok(),
            bytes: None,
        }
    }
}

impl FromStr for Price {
    type Err = BadPrice;

    fn from_str(text: &str) -> Result<Self, BadPrice> {
        let (tick, seconds) = text.split_once('/').ok_or(BadPrice::Price)?;
        let seconds = seconds.trim().strip_suffix('s').ok_or(BadPrice::Price)?;
        let seconds = if seconds.is_empty() {
            1
        } else {
            seconds.parse().map_err(|_| BadPrice::Seconds)?
        };
        if !Self::SECONDS.contains(&seconds) {
            return Err(BadPrice::Seconds);
        }
        Ok(Self {
            tick: amount(tick)?,
            per_ms: seconds.saturating_mul(1000),
        })
    }
}

impl core::fmt::Display for Price {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} for {} s", self.tick, self.per_ms / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_as_people_write_them() {
        let price: Price = "2sat/10s".parse().unwrap();
        assert_eq!((price.tick.msat(), price.per_ms), (2000, 10_000));
        assert_eq!("1sat/s".parse::<Price>().unwrap().per_ms, 1000);
        for (bad, why) in [
            ("", BadPrice::Price),
            ("2sat", BadPrice::Price),
            ("2sat/10", BadPrice::Price),
            ("2sat/10m", BadPrice::Price),
            ("0sat/10s", BadPrice::Amount),
            ("x/10s", BadPrice::Amount),
            ("-1sat/1s", BadPrice::Amount),
            ("1.5sat/1s", BadPrice::Amount),
            ("2sat/0s", BadPrice::Seconds),
            ("2sat/61s", BadPrice::Seconds),
            ("2sat/1.5s", BadPrice::Seconds),
        ] {
            assert_eq!(bad.parse::<Price>(), Err(why), "{bad}");
        }
        assert_eq!(amount("100sat"), amount("100"));
        assert!(amount("99999999999999999999sat").is_err());
    }
}
