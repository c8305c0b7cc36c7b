//! Who gets how much: by weights, in whole satoshi, with no rest.

use std::str::FromStr;

/// The most receivers of one payout.
const SHARES_MAX: usize = 64;
/// The largest weight.
const WEIGHT_MAX: u64 = 1_000_000;

/// A receiver and its weight, such as `name@example.com=70`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// A Lightning address.
    pub to: String,
    /// 1 to 1 000 000.
    pub weight: u64,
}

/// Why shares cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadShare {
    /// It cannot be read.
    #[error("a share is a Lightning address and its weight, such as name@example.com=70")]
    Form,
    /// A weight out of range.
    #[error("a weight is a whole number from 1 to 1000000")]
    Weight,
    /// None, or too many.
    #[error("name 1 to 64 receivers")]
    Count,
    /// The same one twice.
    #[error("a receiver is named twice")]
    Twice,
    /// Somebody would get nothing.
    #[error("this is too little to share: each receiver gets 1 sat at least")]
    Small,
}

impl FromStr for Share {
    type Err = BadShare;

    fn from_str(text: &str) -> Result<Self, BadShare> {
        let (to, weight) = text.rsplit_once('=').ok_or(BadShare::Form)?;
        let (name, host) = to.split_once('@').ok_or(BadShare::Form)?;
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|of| of.is_ascii_graphic());
        if !plain(name) || !plain(host) || host.contains('@') {
            return Err(BadShare::Form);
        }
        let weight = weight.parse().map_err(|_| BadShare::Weight)?;
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(BadShare::Weight);
        }
        // LUD-16: an address has small letters alone.
        let to = to.to_ascii_lowercase();
        Ok(Self { to, weight })
    }
}

/// `total` by the weights of `shares`, in their order: each gets what its weight buys, rounded down,
/// and what is left goes one by one to those who lost most by that, the first ones where it is the
/// same. The amounts come to `total`.
///
/// # Errors
/// [`BadShare`].
pub fn apportion(total: u64, shares: &[Share]) -> Result<Vec<u64>, BadShare> {
    if shares.is_empty() || shares.len() > SHARES_MAX {
        return Err(BadShare::Count);
    }
    let twice = |(at, share): (usize, &Share)| {
        let mut before = shares.iter().take(at);
        before.any(|other| other.to == share.to)
    };
    if shares.iter().enumerate().any(twice) {
        return Err(BadShare::Twice);
    }
    let all: u128 = shares.iter().map(|share| u128::from(share.weight)).sum();
    let mut amounts = Vec::with_capacity(shares.len());
    let mut lost = Vec::with_capacity(shares.len());
    for (at, share) in shares.iter().enumerate() {
        // Both are below 2^64.
        let exact = u128::from(total) * u128::from(share.weight);
        let whole = exact.checked_div(all).ok_or(BadShare::Weight)?;
        let rest = exact.checked_rem(all).ok_or(BadShare::Weight)?;
        amounts.push(u64::try_from(whole).map_err(|_| BadShare::Weight)?);
        lost.push((core::cmp::Reverse(rest), at));
    }
    lost.sort_unstable();
    let given = amounts
        .iter()
        .fold(0, |sum: u64, amount| sum.saturating_add(*amount));
    let left = usize::try_from(total.saturating_sub(given)).map_err(|_| BadShare::Weight)?;
    for (_, at) in lost.iter().take(left) {
        if let Some(amount) = amounts.get_mut(*at) {
            *amount = amount.saturating_add(1);
        }
    }
    match amounts.contains(&0) {
        true => Err(BadShare::Small),
        false => Ok(amounts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[u64]) -> Vec<Share> {
        let shares = weights.iter().enumerate().map(|(at, weight)| Share {
            to: format!("name{at}@example.com"),
            weight: *weight,
        });
        shares.collect()
    }

    #[test]
    fn rest_goes_to_those_who_lost_most() {
        for (total, weights, expect) in [
            (100, [1].as_slice(), Ok([100].as_slice())),
            (50, &[2, 1], Ok(&[33, 17])),
            (100, &[1, 1, 1], Ok(&[34, 33, 33])),
            (101, &[1, 1, 1], Ok(&[34, 34, 33])),
            (10, &[7, 2, 1], Ok(&[7, 2, 1])),
            (11, &[70, 20, 10], Ok(&[8, 2, 1])),
            (7, &[1_000_000, 1], Err(BadShare::Small)),
            (1, &[1, 1], Err(BadShare::Small)),
            (5, &[], Err(BadShare::Count)),
        ] {
            let amounts = apportion(total, &of(weights));
            let expect = expect.map(<[u64]>::to_vec);
            assert_eq!(amounts, expect, "{total} by {weights:?}");
        }
        let twice = [of(&[1]), of(&[2])].concat();
        assert_eq!(apportion(9, &twice), Err(BadShare::Twice));
        assert_eq!(apportion(9, &of(&[1; 65])), Err(BadShare::Count));
    }

    #[test]
    fn shares_come_to_the_amount_and_are_off_by_less_than_one() {
        let mut seed = 7_u64;
        let mut draw = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % most + 1
        };
        for _ in 0..2_000 {
            let weights: Vec<u64> = (0..draw(64)).map(|_| draw(WEIGHT_MAX)).collect();
            let total = draw(21) * draw(100_000_000);
            let Ok(amounts) = apportion(total, &of(&weights)) else {
                continue;
            };
            assert_eq!(amounts.iter().sum::<u64>(), total);
            let all: u128 = weights.iter().map(|of| u128::from(*of)).sum();
            for (amount, weight) in amounts.iter().zip(&weights) {
                let exact = u128::from(total) * u128::from(*weight);
                assert!((u128::from(*amount) * all).abs_diff(exact) < all);
            }
        }
        let most = apportion(u64::MAX, &of(&[WEIGHT_MAX; 64])).unwrap();
        assert_eq!(
            most.iter().map(|of| u128::from(*of)).sum::<u128>(),
            u128::from(u64::MAX)
        );
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        let share: Share = "Name@Example.com=70".parse().unwrap();
        assert_eq!((share.to.as_str(), share.weight), ("name@example.com", 70));
        for (bad, why) in [
            ("", BadShare::Form),
            ("name@example.com", BadShare::Form),
            ("example.com=1", BadShare::Form),
            ("@example.com=1", BadShare::Form),
            ("a b@example.com=1", BadShare::Form),
            ("name@example.com=0", BadShare::Weight),
            ("name@example.com=-1", BadShare::Weight),
            ("name@example.com=1.5", BadShare::Weight),
            ("name@example.com=1000001", BadShare::Weight),
        ] {
            assert_eq!(bad.parse::<Share>(), Err(why), "{bad}");
        }
    }
}
