use bitcoin::{Amount, FeeRate, Weight};

/// A fee beyond all bitcoin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fee is out of range")]
pub struct FeeOverflow;

/// A weight in virtual bytes, rounded up. Source: BIP 141.
#[must_use]
pub const fn virtual_size(weight: Weight) -> u64 {
    weight.to_wu().div_ceil(4)
}

/// A transaction that is paid for with the one that spends it: its weight, and what it pays itself.
pub(crate) type Carried = (Weight, Amount);

/// The fee of a transaction of `weight` at `rate` that pays what is missing of a parent too, and never less
/// than for itself: where the parent pays more than it has to, that is the miners'.
///
/// # Errors
/// [`FeeOverflow`].
pub(crate) fn fee_with(
    weight: Weight,
    rate: FeeRate,
    parent: Option<Carried>,
) -> Result<Amount, FeeOverflow> {
    let own = fee_for(weight, rate)?;
    let Some((parent, paid)) = parent else {
        return Ok(own);
    };
    let missing = fee_for(parent, rate)?.checked_sub(paid);
    let both = own.checked_add(missing.unwrap_or(Amount::ZERO));
    both.filter(|fee| *fee <= Amount::MAX_MONEY)
        .ok_or(FeeOverflow)
}

/// The fee of a transaction of `weight` at `rate`, rounded up over its virtual size, as nodes
/// count.
///
/// # Errors
/// [`FeeOverflow`].
pub fn fee_for(weight: Weight, rate: FeeRate) -> Result<Amount, FeeOverflow> {
    let weighed = virtual_size(weight).checked_mul(4).ok_or(FeeOverflow)?;
    let fee = rate
        .to_sat_per_kwu()
        .checked_mul(weighed)
        .ok_or(FeeOverflow)?
        .div_ceil(1000);
    let fee = Amount::from_sat(fee);
    if fee > Amount::MAX_MONEY {
        return Err(FeeOverflow);
    }
    Ok(fee)
}
