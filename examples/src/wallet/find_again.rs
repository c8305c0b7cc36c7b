//! What a wallet made that its store does not know, since it was restored from a backup.
//! Source: NUT-07, NUT-09, NUT-13.

use std::collections::{BTreeSet, HashMap};

use cdk::Amount;
use cdk::dhke::construct_proofs;
use cdk::nuts::{
    BlindSignature, CheckStateRequest, CurrencyUnit, KeySet, PreMint, PreMintSecrets, Proof,
    PublicKey, RestoreRequest, State,
};
use cdk::wallet::Wallet;
use cdk::wallet::types::{KeysetLoadPolicy, ProofInfo};
use cdk_common::database::WalletDatabase;
use streampay_core::units::Msat;

use super::{WalletError, WalletFolder, sum};

/// Numbers asked for at once.
const BATCH: u32 = 100;
/// So many batches in a row without one that was used are the end.
const GAP: u32 = 3;
/// The most batches of one keyset: a mint cannot keep us asking for ever.
const BATCHES_MAX: u32 = 1_000;

impl WalletFolder {
    /// Asks every mint of the wallet, and `more`, for ecash that was made after what the store
    /// knows: what was found, mint by mint. Numbers that were used are not used again.
    ///
    /// # Errors
    /// [`WalletError::Store`]. What went wrong at one mint is in its place.
    pub(crate) async fn find_again(
        &self,
        more: &[String],
    ) -> Result<Vec<(String, Result<Msat, WalletError>)>, WalletError> {
        let known = self.store.get_mints().await.map_err(WalletError::Store)?;
        let mut mints: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
        let held = self.mints().await?.into_iter();
        mints.extend(held.map(|mint| mint.to_string()));
        mints.extend(more.iter().cloned());
        let mut all = Vec::new();
        for mint in mints {
            let found = self.find_again_at(&mint).await;
            all.push((mint, found));
        }
        Ok(all)
    }

    async fn find_again_at(&self, mint: &str) -> Result<Msat, WalletError> {
        let wallet = self.wallet_at(mint).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let sets = wallet.keysets(KeysetLoadPolicy::Refresh).await;
        let mut found = Msat::ZERO;
        for set in sets.map_err(failed)? {
            if set.unit == CurrencyUnit::Sat {
                found = found.saturating_plus(self.find_of_keyset(&wallet, &set).await?);
            }
        }
        Ok(found)
    }

    async fn find_of_keyset(&self, wallet: &Wallet, set: &KeySet) -> Result<Msat, WalletError> {
        let counted = self.store.increment_keyset_counter(&set.id, 0).await;
        let counted = counted.map_err(WalletError::Store)?;
        let (mut from, mut empty, mut next) = (counted, 0_u32, counted);
        let mut found = Msat::ZERO;
        for _ in 0..BATCHES_MAX {
            if empty >= GAP {
                break;
            }
            let until = from.saturating_add(BATCH);
            let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
            let made = PreMintSecrets::restore_batch(set.id, &self.seed, from, until);
            let made = made.map_err(|error| failed(error.into()))?;
            let signed = signed(wallet, &made.secrets).await?;
            match signed.iter().map(|(number, ..)| *number).max() {
                Some(highest) => {
                    (empty, next) = (0, highest.saturating_add(1));
                    let amount = self.keep(wallet, set, signed).await?;
                    found = found.saturating_plus(amount);
                }
                None => empty = empty.saturating_add(1),
            }
            from = until;
        }
        // Last: cut short before, the same is found again.
        if next > counted {
            let by = next.saturating_sub(counted);
            let moved = self.store.increment_keyset_counter(&set.id, by).await;
            moved.map_err(WalletError::Store)?;
        }
        Ok(found)
    }

    /// Keeps what of it is not spent, and not here already.
    async fn keep(
        &self,
        wallet: &Wallet,
        set: &KeySet,
        signed: Vec<(u32, PreMint, BlindSignature)>,
    ) -> Result<Msat, WalletError> {
        let mint = &wallet.mint_url;
        let failed = |error| WalletError::of_mint(mint, error);
        let here = self.proofs(Some(mint.clone())).await?;
        let here: BTreeSet<[u8; 33]> = here.iter().map(|info| info.y.to_bytes()).collect();
        let mut new = Vec::new();
        for (number, made, signature) in signed {
            let Some(proof) = unblinded(set, made, signature) else {
                return Err(failed(cdk::Error::InvalidMintResponse(
                    "a signature is not the mint's".to_owned(),
                )));
            };
            let y = proof.y().map_err(|error| failed(error.into()))?;
            if !here.contains(&y.to_bytes()) {
                new.push((number, proof, y));
            }
        }
        let states = states(wallet, new.iter().map(|(_, _, y)| *y).collect()).await?;
        let (mut kept, mut amounts) = (Vec::new(), Vec::new());
        for (number, proof, y) in new {
            let state = match states.get(&y.to_bytes()) {
                Some(State::Unspent) => State::Unspent,
                Some(State::Spent) => continue,
                // In a payment that is under way; the next recovery asks again.
                _ => State::Pending,
            };
            amounts.push(proof.amount);
            let info = ProofInfo::new(proof, mint.clone(), state, CurrencyUnit::Sat);
            let info = info.map_err(failed)?;
            kept.push(info.with_derivation_index(number));
        }
        let added = self.store.update_proofs(kept, Vec::new()).await;
        added.map_err(WalletError::Store)?;
        sum(amounts)
    }
}

/// Those of `made` that the mint has signed, with their numbers.
async fn signed(
    wallet: &Wallet,
    made: &[PreMint],
) -> Result<Vec<(u32, PreMint, BlindSignature)>, WalletError> {
    let outputs = made
        .iter()
        .map(|made| made.blinded_message.clone())
        .collect();
    let answer = wallet
        .mint_connector()
        .post_restore(RestoreRequest { outputs })
        .await;
    let answer = answer.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
    let mut by_output: HashMap<PublicKey, BlindSignature> = answer
        .outputs
        .iter()
        .map(|output| output.blinded_secret)
        .zip(answer.signatures)
        .collect();
    let signed = made.iter().filter_map(|made| {
        let signature = by_output.remove(&made.blinded_message.blinded_secret)?;
        Some((made.derivation_index?, made.clone(), signature))
    });
    Ok(signed.collect())
}

/// The proof, if the mint's key signed it: proven by DLEQ, where there is one. Source: NUT-12.
fn unblinded(set: &KeySet, made: PreMint, signature: BlindSignature) -> Option<Proof> {
    if signature.keyset_id != set.id || signature.amount == Amount::ZERO {
        return None;
    }
    let key = set.keys.amount_key(signature.amount)?;
    let output = made.blinded_message.blinded_secret;
    let proven = signature.dleq.is_none() || signature.verify_dleq(key, output).is_ok();
    let made = proven.then_some((signature, made.r, made.secret))?;
    let (signature, r, secret) = made;
    let proofs = construct_proofs(vec![signature], vec![r], vec![secret], &set.keys).ok()?;
    proofs.into_iter().next()
}

async fn states(
    wallet: &Wallet,
    ys: Vec<PublicKey>,
) -> Result<HashMap<[u8; 33], State>, WalletError> {
    if ys.is_empty() {
        return Ok(HashMap::new());
    }
    let answer = wallet
        .mint_connector()
        .post_check_state(CheckStateRequest { ys })
        .await;
    let answer = answer.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
    let states = answer.states.iter();
    Ok(states.map(|of| (of.y.to_bytes(), of.state)).collect())
}
