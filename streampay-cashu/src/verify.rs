//! The strict verifier: whether locked ecash that nobody has shown to the mint is as good as money
//! to the receiver. Offline and sync; keys and time are the caller's.
//!
//! A wallet's usual check asks whether it *could* spend a proof. This one asks more: that nobody
//! else can before the agreed time, and that it is the mint's. It refuses what it does not know.
//!
//! | refused | because |
//! |---|---|
//! | another kind, unknown or repeated tags, or a repeated key in the JSON | mints differ on what it means |
//! | any key but the receiver's, `SIG_ALL` | somebody else has a say |
//! | `n_sigs`, `n_sigs_refund`, or no flag | not the one form that was agreed, whatever it comes to |
//! | another locktime, another refund key, or none | after a locktime without refund key anybody may spend |
//! | a keyset whose id is not that of its keys, of another unit, or that ends too early | the mint need not honour it |
//! | no DLEQ proof, or one that does not verify | the mint has not signed it |
//! | a Y that was seen, twice in one run or before | it is paid once |
//!
//! What it cannot know is whether the mint has seen the proof spent (NUT-07), and whether the mint
//! enforces locks at all (NUT-06, and a canary). Source: NUT-00, 02, 10, 11, 12, 14.

mod secret;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use cdk::nuts::{
    BlindSignature, BlindSignatureDleq, CurrencyUnit, Id, KeySet, Proof, PublicKey, SecretKey,
};
use cdk::{Amount, SECP256K1};

use self::secret::Spending;
use crate::chain::{LockKind, LockTerms};

/// Why a proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The keyset's id is not the one of its keys.
    #[error("the keyset's id is not that of its keys")]
    KeysetId,
    /// The keyset is of another unit than agreed.
    #[error("the keyset is of another unit")]
    Unit,
    /// The keyset ends before the way back has been open for the agreed time.
    #[error("the keyset ends too early")]
    FinalExpiry,
    /// The proof is of another keyset.
    #[error("the proof is of another keyset")]
    Keyset,
    /// Redeeming costs more a proof than agreed.
    #[error("the keyset's fee is too high")]
    Fee,
    /// The keyset has no key for the amount.
    #[error("the keyset has no key for the amount")]
    Denomination,
    /// The proof is worth something else than agreed.
    #[error("the proof has another amount")]
    WrongAmount,
    /// The secret is no NUT-10 condition in the one form that is read.
    #[error("the secret is no condition that can be read strictly")]
    Secret,
    /// The condition is of another kind.
    #[error("the condition is of another kind")]
    Kind,
    /// The hash or the key that the condition is about is another.
    #[error("the condition is about another hash or key")]
    Data,
    /// A tag stands there twice.
    #[error("a tag stands there twice")]
    DuplicateTag,
    /// A tag that is not known, or of a form that is not known.
    #[error("an unknown tag")]
    UnknownTag,
    /// Keys other than exactly the receiver's may sign.
    #[error("other keys may sign too")]
    Keys,
    /// It says how many signatures are asked for, which the agreed form does not: one each.
    #[error("it says how many signatures are asked for")]
    Signatures,
    /// The signature is not over each input alone, or that is not said.
    #[error("the signature flag is not SIG_INPUTS")]
    Flag,
    /// There is another locktime, or none.
    #[error("the locktime is another")]
    Locktime,
    /// The way back leads to another key, or to anybody.
    #[error("the refund key is another")]
    Refund,
    /// The proof carries a witness, or a key to derive its keys from: nothing that was agreed.
    #[error("the proof carries more than was agreed")]
    Extra,
    /// The mint's proof that it signed is missing.
    #[error("the mint's DLEQ proof is missing")]
    NoDleq,
    /// The mint's proof does not verify.
    #[error("the mint's DLEQ proof does not verify")]
    Dleq,
    /// The proof was seen before, here or earlier.
    #[error("the proof was seen before")]
    Seen,
}

/// Whether the mint signed a proof, without asking it. NUT-12 says how for keysets of today;
/// keysets to come may prove it otherwise, by another verifier: for whoever checks proofs by [`verify_proof`]. The
/// payment methods of this crate take [`Dleq`] alone, for an opening and a tick have room for C, e and s of a proof.
pub trait SignatureVerifier {
    /// Checks the mint's signature on `proof`, whose Y is `y`, under its `key` for the proof's
    /// amount.
    ///
    /// # Errors
    /// [`VerifyError::NoDleq`] or [`VerifyError::Dleq`].
    fn verify(&self, proof: &Proof, y: PublicKey, key: PublicKey) -> Result<(), VerifyError>;
}

/// DLEQ proofs. Source: NUT-12.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dleq;

impl SignatureVerifier for Dleq {
    /// As `Proof::verify_dleq`, without hashing the secret to the curve once more.
    fn verify(&self, proof: &Proof, y: PublicKey, key: PublicKey) -> Result<(), VerifyError> {
        let dleq = proof.dleq.as_ref().ok_or(VerifyError::NoDleq)?;
        let blinded = |r: &SecretKey| {
            let mask = key.mul_tweak(&SECP256K1, &r.as_scalar()).ok()?;
            let c = proof.c.combine(&mask).ok()?;
            let message = y.combine(&r.public_key()).ok()?;
            Some((PublicKey::from(c), PublicKey::from(message)))
        };
        let (c, message) = blinded(&dleq.r).ok_or(VerifyError::Dleq)?;
        let signature = BlindSignature {
            amount: proof.amount,
            keyset_id: proof.keyset_id,
            c,
            dleq: Some(BlindSignatureDleq {
                e: dleq.e.clone(),
                s: dleq.s.clone(),
            }),
        };
        let verified = signature.verify_dleq(key, message);
        verified.map_err(|_| VerifyError::Dleq)
    }
}

/// A keyset that the verifier's owner fetched from the mint itself, and whose id is that of its
/// keys. Source: NUT-02, ids of version 1 and 2.
#[derive(Clone, Debug)]
pub struct TrustedKeyset(KeySet);

impl TrustedKeyset {
    /// Recomputes the id.
    ///
    /// # Errors
    /// [`VerifyError::KeysetId`] where it is another.
    pub fn new(keyset: KeySet) -> Result<Self, VerifyError> {
        keyset.verify_id().map_err(|_| VerifyError::KeysetId)?;
        Ok(Self(keyset))
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> Id {
        self.0.id
    }

    /// Its fee for an input, in thousandths of the unit.
    #[must_use]
    pub const fn input_fee_ppk(&self) -> u64 {
        self.0.input_fee_ppk
    }

    fn key(&self, amount: Amount) -> Option<PublicKey> {
        self.0.keys.amount_key(amount)
    }
}

/// What all proofs of one run must be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Keys of the mint, fetched by the verifier's owner.
    pub keyset: &'a TrustedKeyset,
    /// The unit.
    pub unit: &'a CurrencyUnit,
    /// The lock.
    pub terms: LockTerms,
    /// For how long after the locktime the keyset must live on, in seconds.
    pub refund_window_s: u64,
    /// The most that an input may cost, in thousandths of the unit.
    pub max_fee_ppk: u64,
}

impl Wanted<'_> {
    /// What is to be checked once, whatever the proofs.
    ///
    /// # Errors
    /// [`VerifyError::Unit`], [`VerifyError::Fee`] or [`VerifyError::FinalExpiry`].
    pub fn check_keyset(&self) -> Result<(), VerifyError> {
        let keyset = &self.keyset.0;
        if keyset.unit != *self.unit {
            return Err(VerifyError::Unit);
        }
        if keyset.input_fee_ppk > self.max_fee_ppk {
            return Err(VerifyError::Fee);
        }
        let needed = self.terms.locktime.saturating_add(self.refund_window_s);
        // Zero stands for none with some mints.
        match keyset.final_expiry {
            Some(expiry) if expiry != 0 && expiry < needed => Err(VerifyError::FinalExpiry),
            _ => Ok(()),
        }
    }
}

/// Checks one proof: that it is worth `amount`, locked as `wanted` says and with `kind`, signed by
/// the mint, and not in `seen`. It gives the proof's Y, which the caller adds to what it has seen.
///
/// ```
/// # use std::collections::BTreeSet;
/// # use cdk::nuts::{KeySet, Proof, PublicKey};
/// # use streampay_cashu::chain::LockKind;
/// # use streampay_cashu::verify::{Dleq, VerifyError, Wanted, verify_proof};
/// fn take(proof: &Proof, wanted: &Wanted<'_>, seen: &mut BTreeSet<[u8; 33]>) -> Result<(), VerifyError> {
///     wanted.check_keyset()?;
///     let y = verify_proof(proof, 8, LockKind::P2pk, wanted, seen, &Dleq)?;
///     seen.insert(y.to_bytes());
///     Ok(())
/// }
/// ```
///
/// # Errors
/// [`VerifyError`] for the first thing wrong with it.
pub fn verify_proof(
    proof: &Proof,
    amount: u64,
    kind: LockKind,
    wanted: &Wanted<'_>,
    seen: &BTreeSet<[u8; 33]>,
    signatures: &impl SignatureVerifier,
) -> Result<PublicKey, VerifyError> {
    if proof.keyset_id != wanted.keyset.id() {
        return Err(VerifyError::Keyset);
    }
    if proof.witness.is_some() || proof.p2pk_e.is_some() {
        return Err(VerifyError::Extra);
    }
    if proof.amount.to_u64() != amount {
        return Err(VerifyError::WrongAmount);
    }
    let key = wanted.keyset.key(proof.amount);
    let key = key.ok_or(VerifyError::Denomination)?;
    Spending::read(proof.secret.as_bytes())?.check(kind, &wanted.terms)?;
    let y = proof.y().map_err(|_| VerifyError::Secret)?;
    if seen.contains(&y.to_bytes()) {
        return Err(VerifyError::Seen);
    }
    signatures.verify(proof, y, key)?;
    Ok(y)
}

/// Checks a run of proofs and gives their Ys, in order: each as [`verify_proof`] does, of the
/// amount and the kind beside it, and no two alike.
///
/// # Errors
/// [`VerifyError`] for the first thing wrong with the keyset or the first bad proof.
pub fn verify_funding<'a>(
    proofs: impl IntoIterator<Item = (&'a Proof, u64, LockKind)>,
    wanted: &Wanted<'_>,
    seen: &BTreeSet<[u8; 33]>,
    signatures: &impl SignatureVerifier,
) -> Result<Vec<PublicKey>, VerifyError> {
    wanted.check_keyset()?;
    let mut own = BTreeSet::new();
    let mut ys = Vec::new();
    for (proof, amount, kind) in proofs {
        let y = verify_proof(proof, amount, kind, wanted, seen, signatures)?;
        if !own.insert(y.to_bytes()) {
            return Err(VerifyError::Seen);
        }
        ys.push(y);
    }
    Ok(ys)
}
