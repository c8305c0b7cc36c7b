//! The signed terms' part for locked ecash: which mints, whose key, for how long.

use bytes::Bytes;
use cdk::nuts::PublicKey;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::codec;
use crate::params::{AcceptedMint, ParamsError, SwapParams};

/// What the payee signs for the methods `cashu-chain` and `cashu-p2pk`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LockedParams {
    #[n(0)]
    mints: Vec<AcceptedMint>,
    #[n(1)]
    receiver: ByteArray<33>,
    #[n(2)]
    lock_s: u64,
    #[n(3)]
    margin_s: u64,
    #[n(4)]
    max_fee_ppk: u64,
}

impl LockedParams {
    /// How long a purse is locked, in seconds. A mint that is away for an hour or two costs
    /// nobody anything.
    pub const LOCK_S: u64 = 4 * 3600;
    /// How long before the locktime nothing is credited any more and all is redeemed, in seconds.
    pub const MARGIN_S: u64 = 30 * 60;
    /// The most that redeeming a proof may cost, in thousandths of the unit: one unit.
    pub const MAX_FEE_PPK: u64 = 1000;
    /// The shortest and the longest time that anybody agrees to, in seconds.
    const LOCK_RANGE: core::ops::RangeInclusive<u64> = 2..=30 * 86_400;
    const ENCODED_MAX: usize = streampay_core::wire::PARAMS_MAX;

    /// The mints, best first, and the public part of the payee's
    /// [`ReceiverKey`](crate::chain::ReceiverKey).
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong with the list.
    pub fn new(mints: Vec<AcceptedMint>, receiver: PublicKey) -> Result<Self, ParamsError> {
        let params = Self {
            mints,
            receiver: receiver.to_bytes().into(),
            lock_s: Self::LOCK_S,
            margin_s: Self::MARGIN_S,
            max_fee_ppk: Self::MAX_FEE_PPK,
        };
        params.check()?;
        Ok(params)
    }

    /// The same with another lock and margin, in seconds.
    ///
    /// # Errors
    /// [`ParamsError::Lock`] where the margin leaves no time.
    pub fn with_lock(mut self, lock_s: u64, margin_s: u64) -> Result<Self, ParamsError> {
        (self.lock_s, self.margin_s) = (lock_s, margin_s);
        self.check()?;
        Ok(self)
    }

    /// The same with another most for the fee of an input, in thousandths of the unit.
    #[must_use]
    pub const fn with_max_fee_ppk(mut self, max_fee_ppk: u64) -> Self {
        self.max_fee_ppk = max_fee_ppk;
        self
    }

    /// The mints, as listed.
    #[must_use]
    pub fn mints(&self) -> &[AcceptedMint] {
        &self.mints
    }

    /// How long a purse is locked, in seconds.
    #[must_use]
    pub const fn lock_s(&self) -> u64 {
        self.lock_s
    }

    /// How long before the locktime nothing is credited any more, in seconds.
    #[must_use]
    pub const fn margin_s(&self) -> u64 {
        self.margin_s
    }

    /// The most that redeeming a proof may cost, in thousandths of the unit.
    #[must_use]
    pub const fn max_fee_ppk(&self) -> u64 {
        self.max_fee_ppk
    }

    /// The payee's public key, from which both derive a purse's.
    ///
    /// # Errors
    /// [`ParamsError::Malformed`] where it is no point.
    pub fn receiver(&self) -> Result<PublicKey, ParamsError> {
        PublicKey::from_slice(&*self.receiver).map_err(|_| ParamsError::Malformed)
    }

    /// The bytes for [`PurseOffer::params`](streampay_core::backend::PurseOffer::params).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }

    /// From the bytes in the terms, strictly.
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParamsError> {
        let params: Self =
            codec::decode(bytes, Self::ENCODED_MAX).map_err(|_| ParamsError::Malformed)?;
        params.check()?;
        Ok(params)
    }

    fn check(&self) -> Result<(), ParamsError> {
        SwapParams::new(self.mints.clone())?;
        self.receiver()?;
        if !Self::LOCK_RANGE.contains(&self.lock_s) || self.margin_s >= self.lock_s {
            return Err(ParamsError::Lock);
        }
        if self.encode().len() > Self::ENCODED_MAX {
            return Err(ParamsError::TooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cdk::nuts::SecretKey;

    use super::*;

    fn params() -> LockedParams {
        let mint = AcceptedMint::sat("https://mint.example").unwrap();
        let key = SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        LockedParams::new(vec![mint], key).unwrap()
    }

    #[test]
    fn params_are_strict_and_bounded() {
        let good = params().encode();
        assert_eq!(LockedParams::decode(&good), Ok(params()));
        for cut in 0..good.len() {
            assert!(LockedParams::decode(&good[..cut]).is_err(), "{cut}");
        }
        let mut no_point = params();
        no_point.receiver = [9; 33].into();
        assert_eq!(
            LockedParams::decode(&no_point.encode()),
            Err(ParamsError::Malformed)
        );
        for (lock_s, margin_s, fits) in [
            (14_400, 1800, true),
            (1800, 1800, false),
            (2, 1, true),
            (u64::MAX, 0, false),
        ] {
            let got = params().with_lock(lock_s, margin_s).is_ok();
            assert_eq!(got, fits, "{lock_s} {margin_s}");
        }
    }
}
