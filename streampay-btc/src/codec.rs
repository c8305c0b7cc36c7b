//! Deterministic CBOR: what decodes must be byte for byte what we would have written.

use minicbor::{Decode, Encode};

/// The bytes are not the one encoding of a value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not deterministic CBOR of the expected kind")]
pub(crate) struct Undecodable;

/// Writing into a vector cannot fail; the empty string stands for the impossible.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_default()
}

/// Strict: longer integers than needed, unknown or unordered keys, indefinite lengths and
/// trailing bytes all show as a difference to our own encoding. Source: RFC 8949 4.2.1.
pub(crate) fn decode<T>(bytes: &[u8], max: usize) -> Result<T, Undecodable>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    if bytes.len() > max {
        return Err(Undecodable);
    }
    let value: T = minicbor::decode(bytes).map_err(|_| Undecodable)?;
    if encode(&value) == bytes {
        Ok(value)
    } else {
        Err(Undecodable)
    }
}
