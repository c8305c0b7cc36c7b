//! A proof's secret, as both sides write it: the one spelling of the one lock that was agreed.

use cdk::nuts::{PublicKey, SecretKey};
use cdk::secret::Secret;

use super::numbered;
use crate::coin::to_hex;

/// How the payee spends a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// With a signature, and the preimage of this hash. Source: NUT-14.
    Htlc([u8; 32]),
    /// With a signature alone. Source: NUT-11.
    P2pk,
}

/// What the proofs of one purse have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockTerms {
    /// The payee's key of the purse, the only one that may sign for it.
    pub receiver: PublicKey,
    /// The payer's key, which may sign from `locktime` on.
    pub refund: PublicKey,
    /// When the way back opens, by the mint's clock, in seconds since 1970.
    pub locktime: u64,
}

impl LockTerms {
    /// The secret of one proof. Source: NUT-10, NUT-11, NUT-14.
    #[must_use]
    pub fn secret(&self, kind: LockKind, nonce: &[u8; 32]) -> Secret {
        let (refund, receiver) = (self.refund.to_hex(), self.receiver.to_hex());
        let (name, data, keys) = match kind {
            LockKind::Htlc(lock) => (
                "HTLC",
                to_hex(&lock),
                format!(r#"["pubkeys","{receiver}"],"#),
            ),
            LockKind::P2pk => ("P2PK", receiver, String::new()),
        };
        Secret::new(format!(
            concat!(
                r#"["{}",{{"nonce":"{}","data":"{}","tags":[{}["locktime","{}"],"#,
                r#"["refund","{}"],["sigflag","SIG_INPUTS"]]}}]"#
            ),
            name,
            to_hex(nonce),
            data,
            keys,
            self.locktime,
            refund
        ))
    }
}

/// The nonce of proof `number`. Knowing it gives nothing to who cannot sign.
pub(crate) fn nonce(salt: &[u8; 32], number: u64) -> [u8; 32] {
    numbered("streampay/cashu/nonce/v1", salt, number)
}

/// The blinding factor of proof `number`, which the payee is to know for the DLEQ proof. None
/// with a probability of 2^-128. Source: NUT-12.
pub(crate) fn blinding(salt: &[u8; 32], number: u64) -> Option<SecretKey> {
    SecretKey::from_slice(&numbered("streampay/cashu/blinding/v1", salt, number)).ok()
}

#[cfg(test)]
pub(crate) fn nonce_and_blinding(salt: &[u8; 32], number: u64) -> ([u8; 32], Option<SecretKey>) {
    (nonce(salt, number), blinding(salt, number))
}
