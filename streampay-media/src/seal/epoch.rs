//! Epochs, their keys, and how a key is granted.

use bytes::Bytes;
use streampay_core::{
    driver,
    session::{MediaGrant, TaggedHash},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// How long an epoch lasts, in milliseconds of the source's time.
///
/// A key leaves only when the credit covers its whole epoch, and a payer pays when what is ahead
/// has fallen to its lead, which is at least 100 ms: half of that lets an epoch be
/// paid for before it begins. Spec: media 4.1.
pub const EPOCH_MS: u64 = 50;

const EPOCH_US: u64 = EPOCH_MS * 1000;

/// The epoch in which a frame is that begins at `us` of the source's time.
pub(crate) const fn epoch_of_us(us: u64) -> u64 {
    us / EPOCH_US
}

/// From where to where an epoch is, in microseconds of the source's time.
pub(crate) const fn span_us(epoch: u64) -> (u64, u64) {
    let from = epoch.saturating_mul(EPOCH_US);
    (from, from.saturating_add(EPOCH_US))
}

/// The key of one epoch: SFrame's `base_key`. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EpochKey(pub(crate) [u8; 16]);

impl EpochKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl core::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EpochKey(<redacted>)")
    }
}

/// What rides on an ack: an epoch and its key. Spec: media 4.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochGrant {
    /// Which epoch.
    pub epoch: u64,
    /// Its key.
    pub key: EpochKey,
}

/// A grant that is none of an epoch's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grant is not the key of an epoch")]
pub struct BadGrant;

impl EpochGrant {
    /// The length of a grant, in bytes.
    pub const LEN: usize = 24;

    /// As it rides on an ack: the epoch in eight bytes, big-endian, and the key.
    #[must_use]
    pub fn to_media_grant(&self) -> MediaGrant {
        let mut bytes = [0; Self::LEN];
        let (epoch, key) = bytes.split_at_mut(8);
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        key.copy_from_slice(&self.key.0);
        let grant = MediaGrant(Bytes::copy_from_slice(&bytes));
        bytes.zeroize();
        grant
    }

    /// The grant of these bytes.
    ///
    /// # Errors
    /// [`BadGrant`] where they are not 24.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadGrant> {
        let (epoch, key) = bytes.split_first_chunk::<8>().ok_or(BadGrant)?;
        Ok(Self {
            epoch: u64::from_be_bytes(*epoch),
            key: EpochKey(key.try_into().map_err(|_| BadGrant)?),
        })
    }
}

/// What all keys of one source come from. Fresh for each source, never stored: a counter
/// that began again under an old key would give it away.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct StreamSecret([u8; 32]);

impl StreamSecret {
    /// A fresh one.
    pub(crate) fn random() -> std::io::Result<Self> {
        Ok(Self(driver::entropy()?.derive("sealed-media")))
    }

    /// For vectors and tests alone: who knows the secret opens everything.
    #[cfg(test)]
    pub(crate) const fn for_testing(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The key of an epoch; it says nothing of any other.
    pub(crate) fn key(&self, epoch: u64) -> EpochKey {
        let mut hash = TaggedHash::new("streampay/seal/v1")
            .bytes32(&self.0)
            .u64(epoch)
            .finish();
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(hash.0) {
            *to = from;
        }
        hash.0.zeroize();
        EpochKey(key)
    }

    pub(crate) fn grant(&self, epoch: u64) -> EpochGrant {
        EpochGrant {
            epoch,
            key: self.key(epoch),
        }
    }
}

impl core::fmt::Debug for StreamSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StreamSecret(<redacted>)")
    }
}
