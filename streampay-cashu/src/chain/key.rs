//! The keys of a purse: the payee's, which both sides derive, and the payer's for the way back.

use cdk::SECP256K1;
use cdk::nuts::{PublicKey, SecretKey};
use streampay_core::session::TaggedHash;
use streampay_core::units::{PurseKey, XOnlyKey};

/// The payee's long-lived key for locked ecash. No proof names it: each names a key of its purse,
/// which is this one tweaked by both session keys, the session and the purse, so that a lock of
/// one session is worth nothing in another and no two purses can be linked at the mint.
///
/// It is as secret as the money of all open purses; losing it loses what is not redeemed yet.
#[derive(Clone)]
pub struct ReceiverKey(SecretKey);

/// What a purse's key is derived from, besides the payee's own: all of it is known to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurseKeys {
    /// The payer's key of the session.
    pub payer: XOnlyKey,
    /// The payee's key of the session.
    pub payee: XOnlyKey,
    /// Session and purse.
    pub purse: PurseKey,
}

impl PurseKeys {
    /// The key that the purse's proofs name as receiver, for the payee's public key `root`; none
    /// with a probability of 2^-128.
    #[must_use]
    pub fn receiver(&self, root: PublicKey) -> Option<PublicKey> {
        let tweak = self.tweak(root)?;
        root.add_exp_tweak(&SECP256K1, &tweak.as_scalar())
            .map(PublicKey::from)
            .ok()
    }

    fn tweak(&self, root: PublicKey) -> Option<SecretKey> {
        let hash = TaggedHash::new("streampay/cashu/purse-key/v1")
            .blob(&root.to_bytes())
            .bytes32(&self.payee.0)
            .bytes32(&self.payer.0)
            .bytes32(&self.purse.session.0)
            .u64(u64::from(self.purse.purse.0))
            .finish();
        SecretKey::from_slice(&hash.0).ok()
    }
}

impl ReceiverKey {
    /// The key with these bytes; none for zero and numbers not below the curve's order.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        SecretKey::from_slice(bytes).map(Self).ok()
    }

    /// What stands in the payee's signed terms.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The secret key of one purse.
    pub(crate) fn of_purse(&self, keys: &PurseKeys) -> Option<SecretKey> {
        let tweak = keys.tweak(self.public())?;
        self.0
            .add_tweak(&tweak.as_scalar())
            .map(SecretKey::from)
            .ok()
    }
}

impl core::fmt::Debug for ReceiverKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ReceiverKey({})", self.public())
    }
}
