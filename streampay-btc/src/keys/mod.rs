//! The keys of a channel: aggregated, derived, held.

mod aggregate;
mod derive;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use bitcoin::secp256k1::{All, Secp256k1};

pub(crate) use aggregate::tagged;
pub use aggregate::{key_agg, key_sort};
pub use derive::{ChannelSecret, NodeKeys, PayeeBase, Seed};

/// Keys that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("no key")]
    NoKey,
    /// Both sides name the same key.
    #[error("both sides have the same key")]
    SameKey,
    /// Not a point of the curve.
    #[error("not a public key")]
    Invalid,
    /// The arithmetic ended outside the curve.
    #[error("the sum of the keys is no key")]
    Infinity,
}

/// The library's tables, made once.
pub(crate) fn secp() -> &'static Secp256k1<All> {
    static SECP: OnceLock<Secp256k1<All>> = OnceLock::new();
    SECP.get_or_init(Secp256k1::new)
}
