//! A funding as it is sent: what both sides can derive is left out, so that a proof takes 97 bytes
//! and a step's lock 32, instead of some 650 a proof.

use cdk::Amount;
use cdk::nuts::{Id, Proof, ProofDleq, PublicKey, SecretKey};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::{LockKind, LockTerms, PROOFS_MAX, STEP_PROOFS_MAX, STEPS_MAX, lock};
use crate::codec;
use crate::fee::split;

/// Bytes of one proof: C, e and s. Source: NUT-00, NUT-12.
pub(crate) const PIECE: usize = 97;
const URL_MAX: usize = 256;
const UNIT_MAX: usize = 16;
const ENCODED_MAX: usize = streampay_core::wire::OPENING_MAX;

/// Why bytes are no funding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FundingError {
    /// Not the one encoding of a funding.
    #[error("the funding does not decode")]
    Malformed,
    /// It was made for another session or purse.
    #[error("the funding is of another session or purse")]
    WrongPurse,
    /// Its numbers of steps, proofs, locks or amounts do not fit each other or their bounds.
    #[error("the funding's parts do not fit each other")]
    Shape,
}

/// What opens a purse of locked ecash: the payer's choices, and for `cashu-chain` the locks and
/// the mint's signatures.
///
/// What it says is checked against nothing but itself: see
/// [`verify_funding`](crate::verify::verify_funding).
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Funding {
    #[n(0)]
    session: ByteArray<32>,
    #[n(2)]
    purse: u32,
    #[n(4)]
    pub(crate) mint: String,
    #[n(6)]
    pub(crate) unit: String,
    #[n(8)]
    pub(crate) keyset: ByteVec,
    #[n(10)]
    pub(crate) steps: u64,
    /// The amounts of one step's proofs, largest first.
    #[n(12)]
    pub(crate) amounts: Vec<u64>,
    #[n(14)]
    pub(crate) locktime: u64,
    #[n(16)]
    pub(crate) refund: ByteArray<33>,
    #[n(18)]
    pub(crate) salt: ByteArray<32>,
    /// The steps' locks, 32 bytes each.
    #[n(20)]
    pub(crate) locks: ByteVec,
    /// The proofs, [`PIECE`] bytes each, step by step.
    #[n(22)]
    pub(crate) pieces: ByteVec,
}

impl Funding {
    #[expect(
        clippy::too_many_arguments,
        reason = "the wire's fields, each of another kind"
    )]
    pub(crate) fn new(
        key: PurseKey,
        (mint, unit): (&str, &str),
        keyset: &[u8],
        steps: u64,
        amounts: Vec<u64>,
        (locktime, refund): (u64, PublicKey),
        salt: [u8; 32],
        locks: &[[u8; 32]],
    ) -> Self {
        Self {
            session: key.session.0.into(),
            purse: key.purse.0,
            mint: mint.to_owned(),
            unit: unit.to_owned(),
            keyset: keyset.to_vec().into(),
            steps,
            amounts,
            locktime,
            refund: refund.to_bytes().into(),
            salt: salt.into(),
            locks: locks.concat().into(),
            pieces: Vec::new().into(),
        }
    }

    /// The bytes for the purse frames.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// From the purse frames, joined, for the purse `key`: strict in form, and its parts fit each
    /// other.
    ///
    /// # Errors
    /// [`FundingError`] for the first thing wrong with it.
    pub fn decode(key: PurseKey, bytes: &[u8]) -> Result<Self, FundingError> {
        let funding: Self =
            codec::decode(bytes, ENCODED_MAX).map_err(|_| FundingError::Malformed)?;
        if *funding.session != key.session.0 || funding.purse != key.purse.0 {
            return Err(FundingError::WrongPurse);
        }
        let most = funding.per_step().saturating_mul(funding.steps);
        let amounts = 1..=STEP_PROOFS_MAX;
        let fits = (1..=STEPS_MAX).contains(&funding.steps)
            && amounts.contains(&funding.amounts.len())
            && !funding.amounts.contains(&0)
            && funding.amounts.is_sorted_by(|a, b| a >= b)
            && most <= PROOFS_MAX
            && funding.step().is_some()
            && funding.mint.len() <= URL_MAX
            && funding.unit.len() <= UNIT_MAX;
        let length = |of: u64, each: u64| of.checked_mul(each);
        let is = |bytes: &ByteVec, wanted: Option<u64>| u64::try_from(bytes.len()).ok() == wanted;
        let chain = is(&funding.locks, length(funding.steps, 32))
            && is(&funding.pieces, length(most, PIECE_U64));
        let single = funding.locks.is_empty() && funding.pieces.is_empty();
        if fits && (chain || single) {
            Ok(funding)
        } else {
            Err(FundingError::Shape)
        }
    }

    /// Without the proofs' own bytes: what secrets are written from.
    pub(crate) fn without_pieces(&self) -> Self {
        Self {
            session: self.session,
            purse: self.purse,
            mint: self.mint.clone(),
            unit: self.unit.clone(),
            keyset: self.keyset.clone(),
            steps: self.steps,
            amounts: self.amounts.clone(),
            locktime: self.locktime,
            refund: self.refund,
            salt: self.salt,
            locks: self.locks.clone(),
            pieces: Vec::new().into(),
        }
    }

    fn per_step(&self) -> u64 {
        u64::try_from(self.amounts.len()).unwrap_or(u64::MAX)
    }

    /// One step in the unit; none where it overflows.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        self.amounts
            .iter()
            .try_fold(0_u64, |sum, amount| sum.checked_add(*amount))
    }

    /// True where a step is in as few proofs as a keyset of these denominations, ascending, allows, by the
    /// largest that fits again and again: who redeems them pays for each.
    pub(crate) fn is_shortest(&self, denominations: &[u64]) -> bool {
        let shortest = self.step().and_then(|step| split(step, denominations));
        shortest.is_some_and(|shortest| shortest == self.amounts)
    }

    pub(crate) fn purse_key(&self) -> PurseKey {
        PurseKey {
            session: SessionId(*self.session),
            purse: PurseId(self.purse),
        }
    }

    /// All its proofs as its payee makes them again from what it was sent, with what each is worth and how it
    /// is locked: what [`verify_funding`](crate::verify::verify_funding) looks at. `receiver` is the key that
    /// the payee derived. None where a point, key or number in it is none, or it has no proofs.
    #[must_use]
    pub fn rebuilt(self, receiver: PublicKey) -> Option<Vec<(Proof, u64, LockKind)>> {
        let funded = self.with_receiver(receiver)?;
        let (pieces, _) = funded.funding.pieces.as_chunks::<PIECE>();
        let numbered = (0..funded.proofs()).zip(pieces);
        let made = numbered.map(|(number, piece)| {
            let kind = funded.kind(super::step_of(number, funded.per_step()))?;
            Some((
                funded.proof(number, Piece(piece))?,
                funded.amount(number)?,
                kind,
            ))
        });
        let made = made.collect::<Option<Vec<_>>>()?;
        (!made.is_empty()).then_some(made)
    }

    /// How many steps it has.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// When the way back opens, by the mint's clock.
    #[must_use]
    pub const fn locktime(&self) -> u64 {
        self.locktime
    }

    /// True where every proof has a lock of its step and its signature is here: `cashu-chain`.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        !self.locks.is_empty()
    }

    /// The funding with the key that the payee derived; none where a key or id in it is none.
    pub(crate) fn with_receiver(self, receiver: PublicKey) -> Option<Funded> {
        let terms = LockTerms {
            receiver,
            refund: PublicKey::from_slice(&*self.refund).ok()?,
            locktime: self.locktime,
        };
        let keyset = Id::from_bytes(&self.keyset).ok()?;
        Some(Funded {
            terms,
            keyset,
            funding: self,
        })
    }
}

const PIECE_U64: u64 = 97;

impl core::fmt::Debug for Funding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Funding")
            .field("mint", &self.mint)
            .field("steps", &self.steps)
            .field("amounts", &self.amounts)
            .field("locktime", &self.locktime)
            .finish_non_exhaustive()
    }
}

/// One proof's own bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a>(pub(crate) &'a [u8; PIECE]);

impl Piece<'_> {
    pub(crate) fn c(&self) -> Option<PublicKey> {
        PublicKey::from_slice(self.0.get(..33)?).ok()
    }

    fn dleq(&self, r: SecretKey) -> Option<ProofDleq> {
        let e = SecretKey::from_slice(self.0.get(33..65)?).ok()?;
        let s = SecretKey::from_slice(self.0.get(65..)?).ok()?;
        Some(ProofDleq::new(e, s, r))
    }

    /// The bytes of a proof. Zeros stand for a DLEQ proof that the mint left out, and are none.
    pub(crate) fn of(proof: &Proof) -> Option<[u8; PIECE]> {
        let dleq = match &proof.dleq {
            Some(dleq) => [dleq.e.to_secret_bytes(), dleq.s.to_secret_bytes()].concat(),
            None => vec![0; 64],
        };
        let bytes = [proof.c.to_bytes().as_slice(), &dleq].concat();
        bytes.try_into().ok()
    }

    /// False where the mint left out the DLEQ proof.
    pub(crate) fn is_proven(&self) -> bool {
        self.0.iter().skip(33).any(|byte| *byte != 0)
    }
}

/// A funding whose secrets can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Funded {
    pub(crate) terms: LockTerms,
    pub(crate) keyset: Id,
    pub(crate) funding: Funding,
}

impl Funded {
    pub(crate) fn per_step(&self) -> usize {
        self.funding.amounts.len()
    }

    pub(crate) fn proofs(&self) -> u64 {
        self.funding.per_step().saturating_mul(self.funding.steps)
    }

    pub(crate) fn amount(&self, number: u64) -> Option<u64> {
        let within = number.checked_rem(self.funding.per_step())?;
        self.funding
            .amounts
            .get(usize::try_from(within).ok()?)
            .copied()
    }

    /// The lock of `step`; none where the funding has none.
    pub(crate) fn lock(&self, step: u64) -> Option<[u8; 32]> {
        let index = usize::try_from(step.checked_sub(1)?).ok()?;
        let from = index.checked_mul(32)?;
        let lock = self.funding.locks.get(from..from.checked_add(32)?)?;
        lock.try_into().ok()
    }

    pub(crate) fn kind(&self, step: u64) -> Option<LockKind> {
        if self.funding.is_chain() {
            self.lock(step).map(LockKind::Htlc)
        } else {
            Some(LockKind::P2pk)
        }
    }

    pub(crate) fn secret(&self, number: u64) -> Option<cdk::secret::Secret> {
        let kind = self.kind(super::step_of(number, self.per_step()))?;
        let nonce = lock::nonce(&self.funding.salt, number);
        Some(self.terms.secret(kind, &nonce))
    }

    pub(crate) fn blinding(&self, number: u64) -> Option<SecretKey> {
        lock::blinding(&self.funding.salt, number)
    }

    /// Proof `number`, with its DLEQ proof and without a witness.
    pub(crate) fn proof(&self, number: u64, piece: Piece<'_>) -> Option<Proof> {
        let mut proof = self.bare_proof(number, piece)?;
        proof.dleq = Some(piece.dleq(self.blinding(number)?)?);
        Some(proof)
    }

    /// The same without its DLEQ proof: as the mint takes it, which needs no proof of its own signature.
    pub(crate) fn bare_proof(&self, number: u64, piece: Piece<'_>) -> Option<Proof> {
        Some(Proof::new(
            Amount::from(self.amount(number)?),
            self.keyset,
            self.secret(number)?,
            piece.c()?,
        ))
    }
}
