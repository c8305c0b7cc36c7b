//! What the payee gives back at the end: its signature on every proof that it was not paid, with
//! which the payer, who has the preimages, need not wait for the locktime.

use cdk::nuts::SecretKey;
use cdk::secp256k1::schnorr::Signature;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::units::PurseKey;

use super::{Funded, first_proof};
use crate::codec;
use crate::coin::to_hex;

const ENCODED_MAX: usize = 64 * 1024;
const SIGNATURE: usize = 64;

/// Why bytes are no release of a purse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Not the one encoding of a release.
    #[error("the release does not decode")]
    Malformed,
    /// It is of another session or purse.
    #[error("the release is of another session or purse")]
    WrongPurse,
    /// It does not cover all that was never revealed, or not as many proofs as it should.
    #[error("the release covers something else")]
    Shape,
    /// A signature in it is not the payee's on its proof.
    #[error("a signature of the release does not verify")]
    Signature,
}

/// Signatures on the proofs from step `from` on. Source: NUT-11, SIG_INPUTS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Release {
    #[n(0)]
    session: ByteArray<32>,
    #[n(2)]
    purse: u32,
    #[n(4)]
    pub(crate) from: u64,
    /// Only where the payee lacks the newest preimages that it was paid with: the last step of which it
    /// has one. The payer answers with a newer.
    #[n(5)]
    pub(crate) known: Option<u64>,
    /// 64 bytes a proof, in order.
    #[n(6)]
    signatures: ByteVec,
}

impl Release {
    /// Signs every proof from step `from` on. `from` is above the payee's durable closing
    /// cumulative: whoever has the signature and the preimage has the proof.
    pub(crate) fn sign(
        key: PurseKey,
        funded: &Funded,
        from: u64,
        receiver: &SecretKey,
    ) -> Option<Self> {
        let numbers = first_proof(from, funded.per_step())..funded.proofs();
        let signatures = numbers
            .map(|number| {
                let secret = funded.secret(number)?;
                receiver.sign(secret.as_bytes()).ok()
            })
            .map(|signature| signature.map(|signature| signature.serialize()))
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            session: key.session.0.into(),
            purse: key.purse.0,
            from,
            signatures: signatures.concat().into(),
            known: None,
        })
    }

    /// The same, which asks for the preimages above step `known`.
    pub(crate) fn asking(self, known: Option<u64>) -> Self {
        Self { known, ..self }
    }

    #[cfg(any(test, feature = "transcript"))]
    pub(crate) fn of_signatures(key: PurseKey, from: u64, signatures: Vec<u8>) -> Self {
        Self {
            session: key.session.0.into(),
            purse: key.purse.0,
            from,
            signatures: signatures.into(),
            known: None,
        }
    }

    /// The bytes for the purse frames.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// From the purse frames, joined, for a purse of which steps up to `revealed` were paid:
    /// strict in form, of all proofs from its first step on, and of no later first step than the
    /// one after `revealed`. Signatures are not checked yet.
    pub(crate) fn decode(
        key: PurseKey,
        funded: &Funded,
        revealed: u64,
        bytes: &[u8],
    ) -> Result<Self, ReleaseError> {
        let release: Self =
            codec::decode(bytes, ENCODED_MAX).map_err(|_| ReleaseError::Malformed)?;
        if *release.session != key.session.0 || release.purse != key.purse.0 {
            return Err(ReleaseError::WrongPurse);
        }
        let first = first_proof(release.from, funded.per_step());
        let proofs = funded.proofs().checked_sub(first);
        let length = u64::try_from(release.signatures.len()).ok();
        let covers = release.from > 0
            && release.from <= revealed.saturating_add(1)
            && proofs.and_then(|proofs| proofs.checked_mul(64)) == length;
        if covers {
            Ok(release)
        } else {
            Err(ReleaseError::Shape)
        }
    }

    /// Checks every signature.
    pub(crate) fn verify(&self, funded: &Funded) -> Result<(), ReleaseError> {
        let numbers = first_proof(self.from, funded.per_step())..funded.proofs();
        for number in numbers {
            let signature = self
                .signature(funded, number)
                .ok_or(ReleaseError::Signature)?;
            let secret = funded.secret(number).ok_or(ReleaseError::Shape)?;
            funded
                .terms
                .receiver
                .verify(secret.as_bytes(), &signature)
                .map_err(|_| ReleaseError::Signature)?;
        }
        Ok(())
    }

    /// The signature on proof `number`; none where the release does not cover it.
    pub(crate) fn signature(&self, funded: &Funded, number: u64) -> Option<Signature> {
        let first = first_proof(self.from, funded.per_step());
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        let from = index.checked_mul(SIGNATURE)?;
        let bytes = self.signatures.get(from..from.checked_add(SIGNATURE)?)?;
        Signature::from_slice(bytes).ok()
    }
}

/// A signature in the spelling of a witness.
pub(crate) fn signature_hex(signature: &Signature) -> String {
    to_hex(&signature.serialize())
}
