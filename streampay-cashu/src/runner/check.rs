//! Whether a mint is fit for locked ecash: what it says of itself, what its keys say, and what it
//! does with a wrong witness.

use std::time::Duration;

use cdk::nuts::nut11::P2PKWitness;
use cdk::nuts::nut14::HTLCWitness;
use cdk::nuts::{KeySet, Proof, SecretKey, State, Witness};
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::session::TaggedHash;
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::fund::denominations;
use super::locked::{fits, mint_info};
use super::outputs::{Outputs, premint_of};
use super::swap::{Swapped, swap};
use super::swap_in::{End, Into, swap_inputs};
use super::{OWN_STORE, fault};
use crate::chain::{LockKind, LockTerms, Preimage, signature_hex};
use crate::coin::{Seed, to_hex};
use crate::fee::{fee_of, split};
use crate::job::Place;
use crate::verify::TrustedKeyset;

/// What is asked of a mint before money is entrusted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MintPolicy {
    /// True where NUT-14 is needed, for `cashu-chain`.
    pub chain: bool,
    /// The most that an input may cost, in thousandths of the unit.
    pub max_fee_ppk: u64,
    /// By how much its time may differ from ours, in seconds. A difference hurts nobody, but says
    /// that something is wrong.
    pub max_skew_s: u64,
}

impl Default for MintPolicy {
    fn default() -> Self {
        Self {
            chain: true,
            max_fee_ppk: 1_000,
            max_skew_s: 3_600,
        }
    }
}

/// What is wrong with a mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintFault {
    /// It does not say that it has the NUTs that are needed.
    #[error("the mint lacks one of NUT-07, 09, 10, 11, 12 or 14")]
    Nuts,
    /// It does not tell its time.
    #[error("the mint does not tell its time")]
    NoTime,
    /// Its time and ours differ by more than the policy allows.
    #[error("the mint's clock and ours differ")]
    Skew,
    /// The id of its active keyset is not that of its keys.
    #[error("the mint's keyset has an id that is not that of its keys")]
    KeysetId,
    /// Its fee is above the policy's.
    #[error("the mint's fee is too high")]
    Fee,
    /// It took a locked proof with a wrong witness: its locks are worth nothing.
    #[error("the mint does not enforce locks")]
    Locks,
}

/// Looks at what the mint says. Costs nothing. Source: NUT-02, NUT-06.
///
/// # Errors
/// [`BackendError::Transient`] where the mint does not answer.
pub async fn check_mint(
    wallet: &Wallet,
    policy: MintPolicy,
) -> Result<Vec<MintFault>, BackendError> {
    let info = mint_info(wallet).await?;
    let mut faults = Vec::new();
    if !fits(&info, policy.chain) {
        faults.push(MintFault::Nuts);
    }
    match info.time {
        None => faults.push(MintFault::NoTime),
        Some(time) if time.abs_diff(cdk::util::unix_time()) > policy.max_skew_s => {
            faults.push(MintFault::Skew);
        }
        Some(_) => {}
    }
    let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
    if set.input_fee_ppk > policy.max_fee_ppk {
        faults.push(MintFault::Fee);
    }
    if TrustedKeyset::new(set).is_err() {
        faults.push(MintFault::KeysetId);
    }
    Ok(faults)
}

/// Locks a little of the wallet's own money and tries to spend it wrongly: without a signature,
/// with another key's, and (NUT-14) with another preimage. Each must be refused; then it comes home.
/// Costs the fees of two swaps. `seed` is random and kept by the caller: run again with the same one,
/// it takes up what a crash left.
///
/// # Errors
/// [`BackendError::Fatal`] where the wallet has no proof that is worth more than the fees, else as
/// the mint's calls fail; run it again with the same seed.
pub async fn canary(
    wallet: &Wallet,
    seed: [u8; 64],
    chain: bool,
    limit: Duration,
) -> Result<Option<MintFault>, BackendError> {
    let bird = Canary::new(wallet, seed, chain).await?;
    let locked = bird.lock(limit).await?;
    for (number, wrong) in (1_u64..).zip(bird.wrong()) {
        let inputs = bird.with(&locked, &wrong)?;
        match bird.spend(inputs, number, limit).await {
            // It took it: the money is home, by the wrong way.
            Ok(End::Ours) => return Ok(Some(MintFault::Locks)),
            Ok(_) | Err(BackendError::Rejected(..)) => {}
            Err(error) => return Err(error),
        }
    }
    let inputs = bird.with(&locked, &bird.right())?;
    match bird.spend(inputs, 0, limit).await? {
        End::Ours => Ok(None),
        End::SpentElsewhere => Ok(Some(MintFault::Locks)),
        End::OtherKeyset => Err(BackendError::Transient),
    }
}

struct Canary<'a> {
    wallet: &'a Wallet,
    seed: Seed,
    set: KeySet,
    place: Place,
    chain: bool,
    receiver: SecretKey,
    stranger: SecretKey,
    refund: SecretKey,
    preimage: Preimage,
}

/// A preimage and the key that signs.
struct Try<'a> {
    preimage: [u8; 32],
    key: Option<&'a SecretKey>,
}

/// A day that no lock of a canary outlives: 2100.
const LOCKTIME: u64 = 4_102_444_800;

impl<'a> Canary<'a> {
    async fn new(wallet: &'a Wallet, seed: [u8; 64], chain: bool) -> Result<Self, BackendError> {
        let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
        let derive = |what: &str| {
            TaggedHash::new("streampay/cashu/canary/v1")
                .blob(&seed)
                .text(what)
                .finish()
                .0
        };
        let key = |what: &str| SecretKey::from_slice(&derive(what));
        let key = |what: &str| key(what).map_err(|_| BackendError::Unknown);
        let purse = PurseKey {
            session: SessionId(derive("operation")),
            purse: PurseId(0),
        };
        let (mint, unit) = (wallet.mint_url.to_string(), wallet.unit.to_string());
        Ok(Self {
            wallet,
            set,
            place: Place::new(purse, &mint, &unit),
            chain,
            receiver: key("receiver")?,
            stranger: key("stranger")?,
            refund: key("refund")?,
            preimage: Preimage::new(derive("preimage")),
            seed: Seed::new(seed),
        })
    }

    /// The locked proofs, of all that one proof of the wallet is worth.
    async fn lock(&self, limit: Duration) -> Result<Vec<Proof>, BackendError> {
        let input = self.input().await?;
        let fee = fee_of(self.set.input_fee_ppk);
        let worth = input.amount.to_u64().saturating_sub(fee);
        let amounts = split(worth, &denominations(&self.set)).ok_or(POOR)?;
        let terms = LockTerms {
            receiver: self.receiver.public_key(),
            refund: self.refund.public_key(),
            locktime: LOCKTIME,
        };
        let kind = match self.chain {
            true => LockKind::Htlc(self.preimage.lock()),
            false => LockKind::P2pk,
        };
        let premints = (0_u64..)
            .zip(&amounts)
            .map(|(number, amount)| {
                let part = TaggedHash::new("streampay/cashu/canary-proof/v1");
                let part = part.blob(self.seed.bytes()).u64(number);
                let nonce = part.finish().0;
                let blinding = TaggedHash::new("streampay/cashu/canary-blinding/v1");
                let blinding = blinding.blob(self.seed.bytes()).u64(number).finish().0;
                let blinding = SecretKey::from_slice(&blinding).ok()?;
                premint_of(terms.secret(kind, &nonce), blinding, self.set.id, *amount).ok()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(BackendError::Unknown)?;
        let outputs = Outputs::of(premints, self.set.clone());
        match swap(self.wallet, vec![input], &outputs, true, limit).await? {
            Swapped::Ours { proofs, .. } => Ok(proofs),
            Swapped::SpentElsewhere => Err(BackendError::Unknown),
            Swapped::OtherKeyset => Err(BackendError::Transient),
        }
    }

    /// The proof that is risked: the one reserved before, else the smallest that is worth it.
    async fn input(&self) -> Result<Proof, BackendError> {
        let store = &self.wallet.localstore;
        let operation = self.place.operation();
        let reserved = store.get_reserved_proofs(&operation).await;
        let reserved = reserved.map_err(|_| OWN_STORE)?;
        if let Some(info) = reserved
            .into_iter()
            .find(|info| info.state == State::Reserved)
        {
            return Ok(info.proof);
        }
        let least = fee_of(self.set.input_fee_ppk.saturating_mul(64)).saturating_add(2);
        let unspent = self.wallet.get_unspent_proofs().await;
        let unspent = unspent.map_err(|_| OWN_STORE)?;
        let worth_it = unspent
            .into_iter()
            .filter(|proof| proof.amount.to_u64() >= least && proof.keyset_id == self.set.id);
        let input = worth_it.min_by_key(|proof| proof.amount).ok_or(POOR)?;
        let y = input.y().map_err(|_| OWN_STORE)?;
        store
            .reserve_proofs(vec![y], &operation)
            .await
            .map_err(|_| BackendError::Transient)?;
        Ok(input)
    }

    fn right(&self) -> Try<'_> {
        Try {
            preimage: *self.preimage.dangerous_bytes(),
            key: Some(&self.receiver),
        }
    }

    fn wrong(&self) -> Vec<Try<'_>> {
        let right = *self.preimage.dangerous_bytes();
        let mut all = vec![
            Try {
                preimage: right,
                key: None,
            },
            Try {
                preimage: right,
                key: Some(&self.stranger),
            },
            Try {
                preimage: [0; 32],
                key: Some(&self.refund),
            },
        ];
        if self.chain {
            all.push(Try {
                preimage: [1; 32],
                key: Some(&self.receiver),
            });
        }
        all
    }

    fn with(&self, locked: &[Proof], way: &Try<'_>) -> Result<Vec<Proof>, BackendError> {
        locked
            .iter()
            .map(|proof| {
                let mut proof = proof.clone();
                let signature = way.key.map(|key| key.sign(proof.secret.as_bytes()));
                let signature = signature.transpose().map_err(|_| BackendError::Unknown)?;
                let signatures: Vec<String> = signature.iter().map(signature_hex).collect();
                proof.dleq = None;
                proof.witness = Some(match self.chain {
                    true => Witness::HTLCWitness(HTLCWitness {
                        preimage: to_hex(&way.preimage),
                        signatures: Some(signatures),
                    }),
                    false => Witness::P2PKWitness(P2PKWitness { signatures }),
                });
                Ok(proof)
            })
            .collect()
    }

    async fn spend(
        &self,
        inputs: Vec<Proof>,
        number: u64,
        limit: Duration,
    ) -> Result<End, BackendError> {
        let sum = inputs.iter().map(|input| input.amount.to_u64());
        let sum: u64 = sum.fold(0, u64::saturating_add);
        let count = u64::try_from(inputs.len()).unwrap_or(u64::MAX);
        let fee = fee_of(self.set.input_fee_ppk.saturating_mul(count));
        let seed = self.seed.child(number, b"canary");
        let into = Into {
            place: &self.place,
            seed: &seed,
            keyset: self.set.id,
            net: sum.saturating_sub(fee),
            fee,
            again: true,
            own: true,
        };
        let end = swap_inputs(self.wallet, inputs, &into, limit).await?;
        if matches!(end, End::Ours) {
            self.drop_input().await?;
        }
        Ok(end)
    }

    /// The proof that was risked is spent.
    async fn drop_input(&self) -> Result<(), BackendError> {
        let store = &self.wallet.localstore;
        let reserved = store.get_reserved_proofs(&self.place.operation()).await;
        let spent = reserved.map_err(|_| OWN_STORE)?;
        let spent = spent.into_iter().map(|info| info.y).collect();
        let update = store.update_proofs(Vec::new(), spent).await;
        update.map_err(|_| OWN_STORE)
    }
}

const POOR: BackendError = BackendError::Fatal(RefusalCode::InsufficientFunds);
