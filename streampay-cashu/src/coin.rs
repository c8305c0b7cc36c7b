//! A proof as we send and store it.

use cdk::Amount;
use cdk::nuts::{Id, Proof, PublicKey};
use cdk::secret::Secret;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::Undecodable;

/// A bearer proof without spending conditions: its secret is 32 bytes, written as hex at the
/// mint. `keyset` is the full id, for short ones are ambiguous. Source: NUT-00, NUT-02.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Coin {
    #[n(0)]
    keyset: ByteVec,
    #[n(1)]
    pub(crate) amount: u64,
    #[n(2)]
    secret: ByteArray<32>,
    #[n(3)]
    c: ByteArray<33>,
}

impl Coin {
    /// From a wallet's proof; none where its secret is not 64 hexadecimal digits.
    pub(crate) fn from_proof(proof: &Proof) -> Option<Self> {
        Some(Self {
            keyset: proof.keyset_id.to_bytes().into(),
            amount: proof.amount.to_u64(),
            secret: from_hex(proof.secret.as_bytes())?.into(),
            c: proof.c.to_bytes().into(),
        })
    }

    pub(crate) fn keyset(&self) -> Result<Id, Undecodable> {
        Id::from_bytes(&self.keyset).map_err(|_| Undecodable)
    }

    pub(crate) fn keyset_bytes(&self) -> &[u8] {
        &self.keyset
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    pub(crate) fn to_proof(&self) -> Result<Proof, Undecodable> {
        Ok(Proof::new(
            Amount::from(self.amount),
            self.keyset()?,
            Secret::new(to_hex(&*self.secret)),
            PublicKey::from_slice(&*self.c).map_err(|_| Undecodable)?,
        ))
    }
}

impl core::fmt::Debug for Coin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Coin({})", self.amount)
    }
}

impl Drop for Coin {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for Coin {}

/// The sum of the coins' amounts; none where it overflows.
pub(crate) fn sum(coins: &[Coin]) -> Option<u64> {
    coins
        .iter()
        .try_fold(0_u64, |sum, coin| sum.checked_add(coin.amount))
}

/// Proofs as the mint's calls want them.
pub(crate) fn to_proofs(coins: &[Coin]) -> Result<Vec<Proof>, Undecodable> {
    coins.iter().map(Coin::to_proof).collect()
}

/// The secret root of one purse's outputs. Source: NUT-13, with a seed of its own.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seed(zeroize::Zeroizing<[u8; 64]>);

impl Seed {
    pub(crate) fn new(bytes: [u8; 64]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The seed of one swap: no two swaps share an output, whatever they are of.
    pub(crate) fn child(&self, seq: u64, what: &[u8]) -> Self {
        use bitcoin_hashes::{Hash, HashEngine, Hmac, HmacEngine, sha512};
        let mut engine = HmacEngine::<sha512::Hash>::new(self.bytes());
        engine.input(b"streampay/cashu-swap/outputs/v1");
        engine.input(&seq.to_be_bytes());
        engine.input(what);
        Self::new(Hmac::from_engine(engine).to_byte_array())
    }
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl<C> Encode<C> for Seed {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&*self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Seed {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into();
        bytes
            .map(Self::new)
            .map_err(|_| minicbor::decode::Error::message("a seed has 64 bytes"))
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .filter_map(|nibble| DIGITS.get(usize::from(nibble)))
        .map(|digit| char::from(*digit))
        .collect()
}

pub(crate) fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(bytes)
}
