//! What it costs to redeem a token, and what a token must hold so that its receiver nets a tick.

/// The fee of a swap of `inputs` proofs at `ppk` each, in the unit. Source: NUT-02, fees.
pub(crate) fn fee_of(ppk_sum: u64) -> u64 {
    ppk_sum.div_ceil(1000)
}

/// The most proofs in one token. A payload of that many stays below half a message.
pub(crate) const PROOFS_MAX: usize = 32;

/// Amounts of proofs, largest first, of which exactly `net` is left after the fee of redeeming
/// them together; none where no such token of at most [`PROOFS_MAX`] proofs and a fee of at most
/// `fee_max` exists. `denominations` are those of the keyset, ascending.
///
/// The fee depends on the number of proofs and the number of proofs on the amount with the fee: a
/// fixed point, looked for from the smallest fee up. Where the amount's shortest split costs less
/// than the fee in it, proofs are halved until they cost just that.
pub(crate) fn token_amounts(
    net: u64,
    ppk: u64,
    denominations: &[u64],
    fee_max: u64,
) -> Option<Vec<u64>> {
    if net == 0 {
        return None;
    }
    let dearest = fee_of(ppk.checked_mul(u64::try_from(PROOFS_MAX).ok()?)?);
    (0..=dearest.min(fee_max)).find_map(|fee| {
        let mut amounts = split(net.checked_add(fee)?, denominations)?;
        loop {
            let count = u64::try_from(amounts.len()).ok()?;
            match fee_of(ppk.checked_mul(count)?).cmp(&fee) {
                core::cmp::Ordering::Equal => return Some(amounts),
                core::cmp::Ordering::Greater => return None,
                core::cmp::Ordering::Less => halve_one(&mut amounts, denominations)?,
            }
        }
    })
}

/// The shortest split of `amount`, largest first; none where the denominations cannot make it or
/// it takes more than [`PROOFS_MAX`].
pub(crate) fn split(amount: u64, denominations: &[u64]) -> Option<Vec<u64>> {
    let mut rest = amount;
    let mut amounts = Vec::new();
    for &part in denominations.iter().rev().filter(|part| **part > 0) {
        while rest >= part {
            if amounts.len() == PROOFS_MAX {
                return None;
            }
            rest = rest.checked_sub(part)?;
            amounts.push(part);
        }
    }
    (rest == 0).then_some(amounts)
}

fn halve_one(amounts: &mut Vec<u64>, denominations: &[u64]) -> Option<()> {
    if amounts.len() >= PROOFS_MAX {
        return None;
    }
    let whole = amounts
        .iter()
        .position(|amount| amount % 2 == 0 && denominations.contains(&(amount / 2)))?;
    let half = amounts.remove(whole) / 2;
    amounts.extend([half, half]);
    amounts.sort_unstable_by(|a, b| b.cmp(a));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn powers() -> Vec<u64> {
        (0..32).map(|bit| 1 << bit).collect()
    }

    #[test]
    fn a_token_nets_exactly_the_tick_for_every_fee() {
        let denominations = powers();
        for ppk in [0, 1, 99, 100, 334, 500, 999, 1000, 1001, 2500] {
            for net in (1..300).chain([1000, 4095, 65_535, 1_000_000]) {
                let Some(amounts) = token_amounts(net, ppk, &denominations, 1000) else {
                    assert!(ppk > 1000, "{net} at {ppk} ppk has a token");
                    continue;
                };
                let count = u64::try_from(amounts.len()).unwrap();
                assert!(amounts.len() <= PROOFS_MAX);
                assert_eq!(
                    amounts.iter().sum::<u64>(),
                    net + fee_of(count * ppk),
                    "{net} at {ppk}"
                );
            }
        }
    }

    #[test]
    fn known_tokens() {
        let cases: [(u64, u64, &[u64]); 6] = [
            (2, 0, &[2]),
            (2, 100, &[2, 1]),
            (8, 100, &[8, 1]),
            (2, 1000, &[2, 2]),
            (1, 1000, &[2]),
            (1023, 100, &[1024]),
        ];
        for (net, ppk, expect) in cases {
            let got = token_amounts(net, ppk, &powers(), 10);
            assert_eq!(got.as_deref(), Some(expect), "{net} at {ppk} ppk");
        }
    }

    #[test]
    fn no_token_for_nothing_nor_beyond_the_fee_cap() {
        assert_eq!(token_amounts(0, 0, &powers(), 9), None);
        assert_eq!(token_amounts(2, 100, &powers(), 0), None);
        assert_eq!(token_amounts(3, 0, &[2], 9), None);
        assert_eq!(token_amounts(33, 0, &[1], 9), None);
        assert_eq!(token_amounts(u64::MAX, 1000, &powers(), 9), None);
    }
}
