//! What a reading may be ahead of the disk by.

use crate::meter::{Rate, Reading};
use crate::wire::Terms;

/// The longest lease: a second. Source: ADR 3.
const MOST_MS: u64 = 1_000;
/// The same of bytes: a second at 2 Mbit/s.
const MOST_BYTES: u64 = 256 * 1024;
/// The shortest: each is a write to disk.
const LEAST_MS: u64 = 100;
const LEAST_BYTES: u64 = 16 * 1024;
/// A lease is so many parts of what a tick buys: a restart, which counts it as used, must not look
/// like a drift of a tick.
const PARTS: u128 = 4;

/// What a payee's lease adds to its reading under these terms, and so what a restart may count as
/// used beyond what was. Spec: pricing 7.3.
pub(super) fn lease(terms: &Terms) -> Reading {
    let part = |rate: Option<Rate>, least: u64, most: u64| {
        let bought = rate.and_then(|rate| {
            let price = u128::from(rate.msat().msat()).checked_mul(PARTS)?;
            let parts = u128::from(terms.tick.msat()).checked_mul(u128::from(rate.per()))?;
            u64::try_from(parts.checked_div(price)?).ok()
        });
        bought.unwrap_or(most).clamp(least, most)
    };
    Reading {
        media_ms: part(terms.tariff.time, LEAST_MS, MOST_MS),
        bytes: part(terms.tariff.bytes, LEAST_BYTES, MOST_BYTES),
    }
}
