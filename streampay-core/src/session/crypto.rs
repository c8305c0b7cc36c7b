//! Tagged hashes and BIP 340 signatures.

use alloc::vec::Vec;

use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use secp256k1::{Keypair, Message, Secp256k1, XOnlyPublicKey, schnorr};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::planted::fake;
use crate::units::XOnlyKey;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Hash(pub [u8; 32]);

/// A BIP 340 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// A secret key of secp256k1. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(secp256k1::SecretKey);

/// Bytes are no key: zero, or not below the curve's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid secret key")]
pub struct BadKey;

impl SecretKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`BadKey`] for zero and for numbers not below the curve's order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, BadKey> {
        secp256k1::SecretKey::from_slice(&bytes)
            .map(Self)
            .map_err(|_| BadKey)
    }

    /// A key derived from 32 random bytes, for the use that `label` names. Another label gives an
    /// independent key.
    ///
    /// # Errors
    /// [`BadKey`] with a probability of 2^-128.
    pub fn derive(entropy: &Entropy, label: &str) -> Result<Self, BadKey> {
        Self::from_bytes(entropy.derive(label))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> XOnlyKey {
        if fake::is_on() {
            return XOnlyKey(fake::public(self.dangerous_bytes()));
        }
        XOnlyKey(self.keypair().x_only_public_key().0.serialize())
    }

    /// Signs `hash`. `aux` is fresh randomness where there is some; reusing it is harmless.
    /// Source: BIP 340.
    #[must_use]
    pub fn sign(&self, hash: Hash, aux: &[u8; 32]) -> Signature {
        if fake::is_on() {
            return Signature(fake::seal(&fake::public(self.dangerous_bytes()), &hash.0));
        }
        let message = Message::from_digest(hash.0);
        let secp = Secp256k1::signing_only();
        Signature(
            secp.sign_schnorr_with_aux_rand(&message, &self.keypair(), aux)
                .serialize(),
        )
    }

    /// The bytes, for the store. Handle like the money that they guard.
    #[must_use]
    pub fn dangerous_bytes(&self) -> &[u8; 32] {
        self.0.as_ref()
    }

    fn keypair(&self) -> Keypair {
        Keypair::from_secret_key(&Secp256k1::signing_only(), &self.0)
    }
}

impl Zeroize for SecretKey {
    /// Of what is no key nothing is left: it has the same bytes as any other that was wiped.
    fn zeroize(&mut self) {
        self.0.non_secure_erase();
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for SecretKey {}

impl XOnlyKey {
    /// True where `signature` is this key's over `hash`. Source: BIP 340.
    #[must_use]
    pub fn verifies(&self, hash: Hash, signature: &Signature) -> bool {
        if fake::is_on() {
            return signature.0 == fake::seal(&self.0, &hash.0);
        }
        let Ok(key) = XOnlyPublicKey::from_slice(&self.0) else {
            return false;
        };
        let Ok(signature) = schnorr::Signature::from_slice(&signature.0) else {
            return false;
        };
        let secp = Secp256k1::verification_only();
        secp.verify_schnorr(&signature, &Message::from_digest(hash.0), &key)
            .is_ok()
    }
}

/// 32 random bytes that the caller drew. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Entropy(pub [u8; 32]);

impl Entropy {
    /// 32 bytes for the use that `label` names, independent of all other labels'.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        TaggedHash::new("streampay/entropy/v1")
            .bytes32(&self.0)
            .text(label)
            .finish()
            .0
    }
}

/// A tag of hashes that are made often: what it comes to is computed once, at compile time.
pub(super) struct Tag(sha256::Midstate);

impl Tag {
    pub(super) const fn new(tag: &str) -> Self {
        Self(sha256::Midstate::hash_tag(tag.as_bytes()))
    }

    /// Starts as [`TaggedHash::new`] does with the same tag.
    pub(super) fn hash(&self) -> TaggedHash {
        TaggedHash(sha256::HashEngine::from_midstate(self.0, TAGS))
    }
}

/// What a tag comes to, in bytes: its SHA-256, twice. Source: BIP 340.
const TAGS: usize = 64;

/// A BIP 340 tagged hash over fields of fixed width, built field by field.
#[derive(Clone)]
pub struct TaggedHash(sha256::HashEngine);

impl TaggedHash {
    /// Starts with `SHA256(tag) || SHA256(tag)`.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let tag = sha256::Hash::hash(tag.as_bytes()).to_byte_array();
        let mut engine = sha256::HashEngine::default();
        engine.input(&tag);
        engine.input(&tag);
        Self(engine)
    }

    /// A number, 8 bytes big-endian.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// 32 bytes as they are.
    #[must_use]
    pub fn bytes32(self, bytes: &[u8; 32]) -> Self {
        self.raw(bytes)
    }

    /// Bytes of any length, as their SHA-256.
    #[must_use]
    pub fn blob(self, bytes: &[u8]) -> Self {
        self.raw(&sha256::Hash::hash(bytes).to_byte_array())
    }

    /// A text, as the SHA-256 of its UTF-8.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.blob(text.as_bytes())
    }

    /// Bytes of any length as they are. Only as the last field: where they end is the end.
    #[must_use]
    pub(super) fn last(self, bytes: &[u8]) -> Self {
        self.raw(bytes)
    }

    /// The hash.
    #[must_use]
    pub fn finish(self) -> Hash {
        Hash(sha256::Hash::from_engine(self.0).to_byte_array())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.input(bytes);
        self
    }
}

impl core::fmt::Debug for TaggedHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TaggedHash")
    }
}

impl core::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SecretKey(<redacted>)")
    }
}

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy(<redacted>)")
    }
}

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}..)")
    }
}

impl serde::Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <Vec<u8> as serde::Deserialize>::deserialize(deserializer)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("expected 64 bytes"))
    }
}
