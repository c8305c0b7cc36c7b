//! What a mint does with a wrong witness, tried with a little of one's own money.

use std::time::Duration;

use cdk::nuts::nut11::P2PKWitness;
use cdk::nuts::nut14::HTLCWitness;
use cdk::nuts::{Id, KeySet, Proof, SecretKey, State, SwapRequest, Witness};
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::session::TaggedHash;
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::MintFault;
use crate::chain::{LockKind, LockTerms, Preimage, signature_hex};
use crate::coin::{Seed, to_hex};
use crate::fee::{fee_of, split};
use crate::figures::{self, LEFT};
use crate::job::Place;
use crate::runner::fault::{self, Fault};
use crate::runner::fund::denominations;
use crate::runner::outputs::{Outputs, premint_of, states};
use crate::runner::swap::{Swapped, swap};
use crate::runner::swap_in::{End, Into, swap_inputs};
use crate::runner::{OWN_STORE, keysets};

/// Locks a little of the wallet's own money and tries to spend it wrongly: without a signature,
/// with another key's, by the way back before its time, and (NUT-14) with another preimage. Each
/// must be refused, which the proof's state shows (NUT-07); then it comes home, by the right
/// witness. Costs the fees of two swaps.
///
/// `seed` is random, and durable with the caller before this is called: run again with the same one,
/// it takes up what a crash left. It is of no more use once [`canary_home`] says that nothing is
/// out.
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
    let bird = match Canary::of_before(wallet, &seed, chain).await? {
        Some(bird) => bird,
        None => Canary::fly(wallet, &seed, chain).await?,
    };
    let locked = bird.lock(limit).await?;
    for (number, wrong) in (1_u64..).zip(bird.wrong()) {
        if bird.is_taken(&locked, (number, &wrong), limit).await? {
            // Home it comes by either way, now or with the next call.
            if let Err(error) = bird.home(&locked, limit).await {
                tracing::debug!(%error, "a canary is not home yet");
            }
            return Ok(Some(MintFault::Locks));
        }
    }
    match bird.home(&locked, limit).await? {
        Home::AsTried => Ok(None),
        // What was refused may have been refused for its keyset.
        Home::Otherwise => Err(BackendError::Transient),
        Home::Gone => Ok(Some(MintFault::Locks)),
    }
}

/// Brings home what [`canary`] has out, if it has. Nothing is tried.
///
/// # Errors
/// As the mint's calls fail: it is still out then; run it again with the same seed.
pub async fn canary_home(
    wallet: &Wallet,
    seed: [u8; 64],
    chain: bool,
    limit: Duration,
) -> Result<(), BackendError> {
    let Some(bird) = Canary::of_before(wallet, &seed, chain).await? else {
        return Ok(());
    };
    let locked = bird.lock(limit).await?;
    bird.home(&locked, limit).await?;
    Ok(())
}

/// How it came home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// By the right witness, all else as in the wrong ones.
    AsTried,
    /// By a wrong one, or into another keyset.
    Otherwise,
    /// Not at all: somebody else has it.
    Gone,
}

struct Canary<'a> {
    wallet: &'a Wallet,
    /// What is risked; reserved in the wallet until it is home.
    input: Proof,
    /// Of this one proof, so that no two have an output in common.
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
const POOR: BackendError = BackendError::Fatal(RefusalCode::InsufficientFunds);

/// Whether something comes home of a proof of `amount`: it is swapped into locked ones, and these back.
fn is_worth_it(amount: u64, set: &KeySet) -> bool {
    let ppk = set.input_fee_ppk;
    let locked = amount.saturating_sub(fee_of(ppk));
    split(locked, &denominations(set)).is_some_and(|parts| {
        let count = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        locked > fee_of(ppk.saturating_mul(count))
    })
}

fn place(wallet: &Wallet, seed: &[u8; 64], chain: bool) -> Place {
    let operation = TaggedHash::new("streampay/cashu/canary/v2")
        .blob(seed)
        .u64(u64::from(chain))
        .finish();
    let purse = PurseKey {
        session: SessionId(operation.0),
        purse: PurseId(0),
    };
    Place::new(
        purse,
        &wallet.mint_url.to_string(),
        &wallet.unit.to_string(),
    )
}

impl<'a> Canary<'a> {
    /// The one that an earlier run left.
    async fn of_before(
        wallet: &'a Wallet,
        seed: &[u8; 64],
        chain: bool,
    ) -> Result<Option<Self>, BackendError> {
        let place = place(wallet, seed, chain);
        let operation = place.operation();
        let reserved = wallet.localstore.get_reserved_proofs(&operation).await;
        let reserved = reserved.map_err(|_| OWN_STORE)?.into_iter();
        let mut out = reserved.filter(|info| info.state == State::Reserved);
        match out.next() {
            Some(info) => Self::of(wallet, seed, (chain, place), info.proof)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// A new one: the smallest proof that is worth it.
    async fn fly(wallet: &'a Wallet, seed: &[u8; 64], chain: bool) -> Result<Self, BackendError> {
        let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
        let unspent = wallet.get_unspent_proofs().await.map_err(|_| OWN_STORE)?;
        let worth_it = unspent
            .into_iter()
            .filter(|proof| proof.keyset_id == set.id && is_worth_it(proof.amount.to_u64(), &set));
        let input = worth_it.min_by_key(|proof| proof.amount).ok_or(POOR)?;
        let place = place(wallet, seed, chain);
        let y = input.y().map_err(|_| OWN_STORE)?;
        let store = &wallet.localstore;
        let reserved = store.reserve_proofs(vec![y], &place.operation()).await;
        // Another purse may have been quicker.
        reserved.map_err(|_| BackendError::Transient)?;
        Self::of(wallet, seed, (chain, place), input).await
    }

    async fn of(
        wallet: &'a Wallet,
        seed: &[u8; 64],
        (chain, place): (bool, Place),
        input: Proof,
    ) -> Result<Self, BackendError> {
        let set = wallet.keyset(input.keyset_id).await;
        let set = set.map_err(fault::of_reading)?;
        let seed = Seed::new(*seed).child(u64::from(chain), input.secret.as_bytes());
        let derive = |what: &str| {
            let hash = TaggedHash::new("streampay/cashu/canary-key/v2");
            hash.blob(seed.bytes()).text(what).finish().0
        };
        let key = |what: &str| SecretKey::from_slice(&derive(what));
        let key = |what: &str| key(what).map_err(|_| BackendError::Unknown);
        Ok(Self {
            wallet,
            set,
            place,
            chain,
            receiver: key("receiver")?,
            stranger: key("stranger")?,
            refund: key("refund")?,
            preimage: Preimage::new(derive("preimage")),
            input,
            seed,
        })
    }

    /// The locked proofs, of all that the proof is worth.
    async fn lock(&self, limit: Duration) -> Result<Vec<Proof>, BackendError> {
        let fee = fee_of(self.set.input_fee_ppk);
        let worth = self.input.amount.to_u64().saturating_sub(fee);
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
        let derive = |tag: &str, number: u64| {
            let part = TaggedHash::new(tag).blob(self.seed.bytes()).u64(number);
            part.finish().0
        };
        let premints = (0_u64..)
            .zip(&amounts)
            .map(|(number, amount)| {
                let nonce = derive("streampay/cashu/canary-proof/v2", number);
                let blinding = derive("streampay/cashu/canary-blinding/v2", number);
                let blinding = SecretKey::from_slice(&blinding).ok()?;
                premint_of(terms.secret(kind, &nonce), blinding, self.set.id, *amount).ok()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(BackendError::Unknown)?;
        let outputs = Outputs::of(premints, self.set.clone());
        match swap(self.wallet, vec![self.input.clone()], &outputs, true, limit).await? {
            Swapped::Ours { proofs, .. } => {
                self.note_left(fee).await?;
                Ok(proofs)
            }
            Swapped::SpentElsewhere => {
                // As in a wallet that was restored from an old copy.
                self.drop_input().await?;
                Err(BackendError::Fatal(RefusalCode::AlreadySpent))
            }
            Swapped::OtherKeyset => {
                // It never left.
                let store = &self.wallet.localstore;
                let freed = store.release_proofs(&self.place.operation()).await;
                freed.map_err(|_| OWN_STORE)?;
                keysets(self.wallet, true).await?;
                Err(BackendError::Transient)
            }
        }
    }

    /// The wallet's book tells of it as of a purse: this left, and [`Self::home`] returned it. Written
    /// again it is the same line.
    async fn note_left(&self, fee: u64) -> Result<(), BackendError> {
        let y = self.input.y().map_err(|_| OWN_STORE)?;
        let (operation, amount) = (self.place.operation(), self.input.amount.to_u64());
        let noted = figures::note(self.wallet, operation, LEFT, amount, fee, vec![y]);
        noted.await.map_err(|_| OWN_STORE)
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

    /// What is left of it after another swap, and that swap's fee.
    fn net(&self, locked: &[Proof]) -> (u64, u64) {
        let sum = locked.iter().map(|proof| proof.amount.to_u64());
        let sum: u64 = sum.fold(0, u64::saturating_add);
        let count = u64::try_from(locked.len()).unwrap_or(u64::MAX);
        let fee = fee_of(self.set.input_fee_ppk.saturating_mul(count));
        (sum.saturating_sub(fee), fee)
    }

    fn outputs_seed(&self, number: u64) -> Seed {
        self.seed.child(number, b"canary")
    }

    /// Whether the mint takes the proofs with a wrong witness. An answer without a code that we know
    /// is a refusal where the proofs are unspent after it.
    async fn is_taken(
        &self,
        locked: &[Proof],
        (number, wrong): (u64, &Try<'_>),
        limit: Duration,
    ) -> Result<bool, BackendError> {
        let inputs = self.with(locked, wrong)?;
        let ys: Vec<_> = inputs.iter().filter_map(|input| input.y().ok()).collect();
        let amounts = split(self.net(locked).0, &denominations(&self.set)).ok_or(POOR)?;
        let seed = self.outputs_seed(number);
        let outputs = Outputs::derive(self.wallet, &seed, self.set.id, &amounts).await?;
        let request = SwapRequest::new(inputs, outputs.messages());
        let connector = self.wallet.mint_connector();
        let answer = tokio::time::timeout(limit / 2, connector.post_swap(request)).await;
        let error = match answer {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) => error,
            Err(_) => return Err(BackendError::Transient),
        };
        let answered = !matches!(error, cdk::Error::HttpError(..))
            && (error.is_definitive_failure()
                || matches!(error, cdk::Error::UnknownErrorResponse(_)));
        match fault::of_swap(&error) {
            // Spent, by an earlier run of ours or not: the states say it.
            Fault::Used => {}
            Fault::Keyset => return Err(BackendError::Transient),
            _ if answered => {}
            _ => return Err(fault::of_reading(error)),
        }
        let states = states(self.wallet, ys).await?;
        if states.iter().all(|state| *state == State::Unspent) {
            return Ok(false);
        }
        if !states.contains(&State::Spent) {
            return Err(BackendError::Transient);
        }
        Ok(outputs.restore(self.wallet).await?.is_some())
    }

    /// Brings it home by whatever way is open, into whatever keyset the mint signs with.
    async fn home(&self, locked: &[Proof], limit: Duration) -> Result<Home, BackendError> {
        let right = self.right();
        let own = self.set.id;
        match self.spend(locked, (0, &right), own, limit).await? {
            End::Ours => return self.is_home(Home::AsTried).await,
            End::OtherKeyset | End::SpentElsewhere => {}
        }
        for id in keysets(self.wallet, true).await?.ids() {
            if id == own {
                continue;
            }
            if let End::Ours = self.spend(locked, (0, &right), id, limit).await? {
                return self.is_home(Home::Otherwise).await;
            }
        }
        for (number, wrong) in (1_u64..).zip(self.wrong()) {
            if let Ok(End::Ours) = self.spend(locked, (number, &wrong), own, limit).await {
                return self.is_home(Home::Otherwise).await;
            }
        }
        let ys = locked.iter().filter_map(|proof| proof.y().ok()).collect();
        match states(self.wallet, ys).await?.contains(&State::Spent) {
            true => self.is_home(Home::Gone).await,
            false => Err(BackendError::Transient),
        }
    }

    async fn spend(
        &self,
        locked: &[Proof],
        (number, way): (u64, &Try<'_>),
        keyset: Id,
        limit: Duration,
    ) -> Result<End, BackendError> {
        let inputs = self.with(locked, way)?;
        let (net, fee) = self.net(locked);
        let seed = self.outputs_seed(number);
        let into = Into {
            place: &self.place,
            seed: &seed,
            keyset,
            net,
            fee,
            again: true,
            own: true,
        };
        swap_inputs(self.wallet, inputs, &into, limit).await
    }

    async fn is_home(&self, how: Home) -> Result<Home, BackendError> {
        self.drop_input().await?;
        Ok(how)
    }

    /// The proof that was risked is spent.
    async fn drop_input(&self) -> Result<(), BackendError> {
        let y = self.input.y().map_err(|_| OWN_STORE)?;
        let update = self.wallet.localstore.update_proofs(Vec::new(), vec![y]);
        update.await.map_err(|_| OWN_STORE)
    }
}
