//! Key aggregation as public-key arithmetic. Source: BIP 327.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::secp256k1::{PublicKey, Scalar};

use super::{KeyError, secp};

/// The keys in the order of their 33 bytes. Source: BIP 327, `KeySort`.
#[must_use]
pub fn key_sort(mut keys: Vec<PublicKey>) -> Vec<PublicKey> {
    keys.sort_by_key(PublicKey::serialize);
    keys
}

/// The aggregate of the keys in this order. Source: BIP 327, `KeyAgg`.
///
/// # Errors
/// [`KeyError::NoKey`] without a key, [`KeyError::Infinity`] where the sum is no key, which nobody
/// can bring about on purpose.
pub fn key_agg(keys: &[PublicKey]) -> Result<PublicKey, KeyError> {
    let first = keys.first().ok_or(KeyError::NoKey)?;
    let second = keys.iter().find(|key| *key != first);
    let mut list = tagged("KeyAgg list");
    keys.iter().for_each(|key| list.input(&key.serialize()));
    let list = sha256::Hash::from_engine(list);
    let mut terms = Vec::with_capacity(keys.len());
    for key in keys {
        terms.push(if Some(key) == second {
            *key
        } else {
            let mut coefficient = tagged("KeyAgg coefficient");
            coefficient.input(list.as_byte_array());
            coefficient.input(&key.serialize());
            let coefficient = sha256::Hash::from_engine(coefficient);
            let coefficient = reduce(coefficient.to_byte_array())?;
            key.mul_tweak(secp(), &coefficient)
                .map_err(|_| KeyError::Infinity)?
        });
    }
    PublicKey::combine_keys(&terms.iter().collect::<Vec<_>>()).map_err(|_| KeyError::Infinity)
}

/// The engine after `SHA256(tag) || SHA256(tag)`. Source: BIP 340.
pub(crate) fn tagged(tag: &str) -> sha256::HashEngine {
    let tag = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    engine
}

/// A hash as a number below the curve's order. Of 2^128 hashes one is not below it; it is refused.
pub(crate) fn reduce(hash: [u8; 32]) -> Result<Scalar, KeyError> {
    Scalar::from_be_bytes(hash).map_err(|_| KeyError::Infinity)
}
