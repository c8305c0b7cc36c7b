//! What convinces somebody who was not there: a receipt, and how its key became the payee's.

use alloc::vec::Vec;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::binding::{Binding, ChannelIdentity, Choice, Role};
use super::crypto::{Hash, Signature};
use super::record::{StoredEvidence, StoredTerms};
use crate::units::{SessionId, XOnlyKey};
use crate::wire::{Evidence, Terms, VERSIONS_MAX};

/// A receipt that needs nothing else to be verified: the terms that the payee's identity signed,
/// the binding by which the same identity took its key of the session, and what that key signed.
/// Holds no secret. Spec: session 5.5.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub struct ReceiptProof {
    #[n(0)]
    session: SessionId,
    #[n(1)]
    terms: StoredTerms,
    /// The payee's key of the session.
    #[n(2)]
    key: XOnlyKey,
    #[n(3)]
    vouch: Vouch,
    #[n(4)]
    evidence: StoredEvidence,
}

/// Why a proof is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BadProof {
    /// The bytes are no proof.
    #[error("this is no proof of a receipt")]
    Malformed,
    /// The payee's identity did not sign these terms.
    #[error("the terms are not signed by the payee that they name")]
    Terms,
    /// The payee's identity did not take this key for this session.
    #[error("the key of the receipt is not the payee's of this session")]
    Key,
    /// That key did not sign this receipt.
    #[error("the receipt is not signed by the payee's key of this session")]
    Receipt,
}

impl ReceiptProof {
    /// Puts together what a payer's records hold.
    pub(super) fn new(
        session: SessionId,
        terms: StoredTerms,
        key: XOnlyKey,
        vouch: Vouch,
        evidence: Evidence,
    ) -> Self {
        Self {
            session,
            terms,
            key,
            vouch,
            evidence: StoredEvidence(evidence),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BadProof::Malformed`]. What it says is not verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadProof> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let proof: Self = decoder.decode().map_err(|_| BadProof::Malformed)?;
        let whole = decoder.position() == bytes.len();
        let few = proof.vouch.versions.len() <= VERSIONS_MAX;
        // One encoding of a proof, so that no two files say the same.
        if whole && few && proof.to_bytes() == bytes {
            Ok(proof)
        } else {
            Err(BadProof::Malformed)
        }
    }

    /// The same as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        let _ = minicbor::encode(self, &mut bytes);
        bytes
    }

    /// Checks every signature, from the payee's identity down to the receipt.
    ///
    /// # Errors
    /// [`BadProof`]: which of them does not hold.
    pub fn verify(&self) -> Result<(), BadProof> {
        let (payee, vouch) = (self.terms.0.payee, &self.vouch);
        let terms = self.terms.0.hash();
        if !payee.verifies(terms, &Signature(*vouch.terms_signature)) {
            return Err(BadProof::Terms);
        }
        let taken = Role::Payee.hash(self.binding(terms).hash());
        if !payee.verifies(taken, &Signature(*vouch.binding_signature)) {
            return Err(BadProof::Key);
        }
        let Evidence { receipt, signature } = &self.evidence.0;
        match self.key.verifies(receipt.hash(self.session), signature) {
            true => Ok(()),
            false => Err(BadProof::Receipt),
        }
    }

    fn binding(&self, terms: Hash) -> Binding {
        let vouch = &self.vouch;
        Binding {
            session: self.session,
            payer_nonce: *vouch.payer_nonce,
            payee_nonce: *vouch.payee_nonce,
            payer: vouch.payer,
            payee: self.terms.0.payee,
            payer_session_key: vouch.payer_key,
            payee_session_key: self.key,
            channel: ChannelIdentity {
                payer: *vouch.payer_certificate,
                payee: *vouch.payee_certificate,
            },
            terms,
            root: *vouch.root,
            choice: Choice {
                versions: vouch.versions.clone(),
                offered: vouch.offered,
                version: vouch.version,
                features: vouch.features,
            },
        }
    }

    /// Which session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Who paid.
    #[must_use]
    pub const fn payer(&self) -> XOnlyKey {
        self.vouch.payer
    }

    /// What was agreed; it names the payee.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms.0
    }

    /// The receipt and its signature.
    #[must_use]
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence.0
    }
}

impl core::fmt::Debug for ReceiptProof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ReceiptProof")
            .field("session", &self.session)
            .field("payee", &self.terms.0.payee)
            .field("receipt", &self.evidence.0.receipt)
            .finish_non_exhaustive()
    }
}

/// What a payer keeps of the binding in which the payee took its key of the session: all that the
/// payee's identity signed then, but for what the session's record has anyway.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub(super) struct Vouch {
    #[n(0)]
    payer: XOnlyKey,
    #[n(1)]
    payer_key: XOnlyKey,
    #[n(2)]
    payer_nonce: ByteArray<32>,
    #[n(3)]
    payee_nonce: ByteArray<32>,
    #[n(4)]
    payer_certificate: ByteArray<32>,
    #[n(5)]
    payee_certificate: ByteArray<32>,
    #[n(6)]
    root: ByteArray<32>,
    #[n(7)]
    versions: Vec<u16>,
    #[n(8)]
    offered: u64,
    #[n(9)]
    version: u16,
    #[n(10)]
    features: u64,
    #[n(11)]
    terms_signature: ByteArray<64>,
    #[n(12)]
    binding_signature: ByteArray<64>,
}

impl Vouch {
    /// Of a binding that the payee signed with `signature`, to terms that it signed with `terms`.
    pub(super) fn new(binding: &Binding, terms: &Signature, signature: &Signature) -> Self {
        Self {
            payer: binding.payer,
            payer_key: binding.payer_session_key,
            payer_nonce: binding.payer_nonce.into(),
            payee_nonce: binding.payee_nonce.into(),
            payer_certificate: binding.channel.payer.into(),
            payee_certificate: binding.channel.payee.into(),
            root: binding.root.into(),
            versions: binding.choice.versions.clone(),
            offered: binding.choice.offered,
            version: binding.choice.version,
            features: binding.choice.features,
            terms_signature: terms.0.into(),
            binding_signature: signature.0.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::meter::Reading;
    use crate::session::{Entropy, Receipt, SecretKey, tests::terms};
    use crate::units::{Msat, PurseId, Seq};

    fn key(label: &str) -> SecretKey {
        SecretKey::derive(&Entropy([1; 32]), label).unwrap()
    }

    fn proof() -> ReceiptProof {
        let (payee, of_session) = (key("payee"), key("payee of the session"));
        let mut terms = terms();
        terms.payee = payee.public();
        let binding = Binding {
            session: SessionId([1; 32]),
            payer_nonce: [2; 32],
            payee_nonce: [3; 32],
            payer: key("payer").public(),
            payee: payee.public(),
            payer_session_key: key("payer of the session").public(),
            payee_session_key: of_session.public(),
            channel: ChannelIdentity {
                payer: [4; 32],
                payee: [5; 32],
            },
            terms: terms.hash(),
            root: [0; 32],
            choice: Choice {
                versions: [1].into(),
                offered: 0,
                version: 1,
                features: 0,
            },
        };
        let (aux, taken) = ([0; 32], Role::Payee.hash(binding.hash()));
        let vouch = Vouch::new(
            &binding,
            &payee.sign(terms.hash(), &aux),
            &payee.sign(taken, &aux),
        );
        let receipt = Receipt {
            purse: PurseId(0),
            seq: Seq(3),
            cumulative: Msat::new(6_000).unwrap(),
            total: Msat::new(6_000).unwrap(),
            reading: Reading::default(),
            tips: Msat::ZERO,
        };
        let evidence = receipt.sign(binding.session, &of_session);
        let terms = StoredTerms(Arc::new(terms));
        ReceiptProof::new(binding.session, terms, of_session.public(), vouch, evidence)
    }

    #[test]
    fn proof_holds_after_it_was_written_and_read() {
        let proof = proof();
        assert_eq!(proof.verify(), Ok(()));
        let again = ReceiptProof::from_bytes(&proof.to_bytes()).unwrap();
        assert_eq!(again.verify(), Ok(()));
        assert_eq!(again.evidence(), proof.evidence());
    }

    #[test]
    fn forged_proof_says_which_signature_does_not_hold() {
        type Forge = fn(&mut ReceiptProof);
        let cases: [(Forge, BadProof); 7] = [
            (
                |proof| proof.evidence.0.receipt.total = Msat::new(7_000).unwrap(),
                BadProof::Receipt,
            ),
            (|proof| proof.session = SessionId([9; 32]), BadProof::Key),
            (
                |proof| proof.vouch.payer = key("another").public(),
                BadProof::Key,
            ),
            (
                |proof| {
                    // Somebody's own key, with which he signs what he likes.
                    let own = key("forger");
                    proof.key = own.public();
                    let receipt = proof.evidence.0.receipt;
                    proof.evidence = StoredEvidence(receipt.sign(proof.session, &own));
                },
                BadProof::Key,
            ),
            (
                |proof| {
                    let mut terms = (*proof.terms.0).clone();
                    terms.title.push('!');
                    proof.terms = StoredTerms(Arc::new(terms));
                },
                BadProof::Terms,
            ),
            (
                |proof| {
                    let mut terms = (*proof.terms.0).clone();
                    terms.payee = key("forger").public();
                    proof.terms = StoredTerms(Arc::new(terms));
                },
                BadProof::Terms,
            ),
            (|proof| proof.vouch.root = [1; 32].into(), BadProof::Key),
        ];
        for (number, (forge, expect)) in cases.into_iter().enumerate() {
            let mut proof = proof();
            forge(&mut proof);
            assert_eq!(proof.verify(), Err(expect), "case {number}");
        }
    }

    #[test]
    fn cut_or_longer_bytes_are_no_proof() {
        let bytes = proof().to_bytes();
        for end in 0..bytes.len() {
            let cut = ReceiptProof::from_bytes(&bytes[..end]);
            assert_eq!(cut.unwrap_err(), BadProof::Malformed, "{end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        let longer = ReceiptProof::from_bytes(&longer);
        assert_eq!(longer.unwrap_err(), BadProof::Malformed);
    }
}
