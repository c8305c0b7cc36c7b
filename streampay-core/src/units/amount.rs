//! Money in millisatoshi.

use core::fmt;

/// An amount in millisatoshi, from 0 to [`Msat::MAX`] (21 million bitcoin).
///
/// Spec: pricing 2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Msat(u64);

/// A sum left the range of its unit. The operands are unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount is out of range")]
pub struct Overflow;

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All the bitcoin there can be, in millisatoshi.
    pub const MAX: Self = Self(2_100_000_000_000_000_000);

    /// An amount of `msat` millisatoshi.
    ///
    /// # Errors
    /// [`Overflow`] above [`Msat::MAX`].
    pub const fn new(msat: u64) -> Result<Self, Overflow> {
        if msat > Self::MAX.0 {
            Err(Overflow)
        } else {
            Ok(Self(msat))
        }
    }

    /// An amount of `sat` whole satoshi.
    ///
    /// # Errors
    /// [`Overflow`] above [`Msat::MAX`].
    pub const fn from_sat(sat: u64) -> Result<Self, Overflow> {
        match sat.checked_mul(1000) {
            Some(msat) => Self::new(msat),
            None => Err(Overflow),
        }
    }

    /// The number of millisatoshi.
    #[must_use]
    pub const fn msat(self) -> u64 {
        self.0
    }

    /// The number of whole satoshi, rounded down.
    #[must_use]
    pub const fn sat_floor(self) -> u64 {
        self.0 / 1000
    }

    /// The number of whole satoshi, rounded up.
    #[must_use]
    pub const fn sat_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// True for zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`.
    ///
    /// # Errors
    /// [`Overflow`] above [`Msat::MAX`].
    pub const fn plus(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_add(other.0) {
            Some(sum) => Self::new(sum),
            None => Err(Overflow),
        }
    }

    /// `self - other`.
    ///
    /// # Errors
    /// [`Overflow`] where `other` is more than `self`.
    pub const fn minus(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Ok(Self(rest)),
            None => Err(Overflow),
        }
    }

    /// `self + other`, at most [`Msat::MAX`]. For limits, where more than everything is everything.
    #[must_use]
    pub const fn saturating_plus(self, other: Self) -> Self {
        let sum = self.0.saturating_add(other.0);
        if sum > Self::MAX.0 {
            Self::MAX
        } else {
            Self(sum)
        }
    }

    /// `self - other`, at least zero.
    #[must_use]
    pub const fn saturating_minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self` times `count`.
    ///
    /// # Errors
    /// [`Overflow`] above [`Msat::MAX`].
    pub const fn times(self, count: u64) -> Result<Self, Overflow> {
        match self.0.checked_mul(count) {
            Some(product) => Self::new(product),
            None => Err(Overflow),
        }
    }

    /// Rounded up to a whole number of `quantum`; zero counts as a quantum of one.
    ///
    /// # Errors
    /// [`Overflow`] above [`Msat::MAX`].
    pub const fn round_up_to(self, quantum: Self) -> Result<Self, Overflow> {
        let unit = if quantum.0 == 0 { 1 } else { quantum.0 };
        match self.0.div_ceil(unit).checked_mul(unit) {
            Some(rounded) => Self::new(rounded),
            None => Err(Overflow),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Msat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let msat = <u64 as serde::Deserialize>::deserialize(deserializer)?;
        Self::new(msat).map_err(serde::de::Error::custom)
    }
}

/// As satoshi where it is whole, else as millisatoshi: `21 sat`, `1500 msat`.
impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{} sat", self.0 / 1000)
        } else {
            write!(f, "{} msat", self.0)
        }
    }
}

impl<C> minicbor::Encode<C> for Msat {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u64(self.0).map(|_| ())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Msat {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        Self::new(decoder.u64()?).map_err(|_| minicbor::decode::Error::message("amount"))
    }
}
