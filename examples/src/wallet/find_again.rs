//! What a wallet made that its store does not know, since it was restored from a backup.
//! Source: NUT-07, NUT-09, NUT-13.

use std::collections::BTreeSet;

use cdk::mint_url::MintUrl;
use cdk::nuts::{CurrencyUnit, KeySet, PreMintSecrets, Proof, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::{KeysetLoadPolicy, ProofInfo};
use cdk_common::database::WalletDatabase;
use streampay_cashu::find_signed;
use streampay_core::units::Msat;

use super::{WalletError, WalletFolder, sum};

/// Numbers asked for at once.
const BATCH: u32 = 100;
/// So many batches in a row without one that was used are the end.
const GAP: u32 = 3;
/// The most batches of one keyset: a mint cannot keep us asking for ever.
const BATCHES_MAX: u32 = 1_000;

impl WalletFolder {
    /// Asks `mint` for ecash that was made after what the store knows, and what of the rest is spent:
    /// what was found. Numbers that were used are not used again.
    ///
    /// # Errors
    /// [`WalletError`]: ask again later.
    pub(crate) async fn find_again_at(&self, mint: &MintUrl) -> Result<Msat, WalletError> {
        let wallet = self.wallet_of(&mint.to_string()).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let sets = wallet.keysets(KeysetLoadPolicy::Refresh).await;
        let mut found = Msat::ZERO;
        for set in sets.map_err(failed)? {
            if set.unit == CurrencyUnit::Sat {
                found = found.saturating_plus(self.find_of_keyset(&wallet, &set).await?);
            }
        }
        self.forget_spent(&wallet).await?;
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
            let made = made.map_err(|error| failed(error.into()))?.secrets;
            let numbers: Vec<_> = made.iter().map(|made| made.derivation_index).collect();
            let signed = find_signed(wallet, set.id, made).await;
            // Nothing is guessed: the same is asked again.
            let signed = signed.map_err(|_| WalletError::Untried(wallet.mint_url.clone()))?;
            let number = |at: usize| numbers.get(at).copied().flatten();
            let signed = signed.into_iter();
            let signed: Vec<_> = signed
                .filter_map(|(at, proof, state)| Some((number(at)?, proof, state)))
                .collect();
            match signed.iter().map(|(number, ..)| *number).max() {
                Some(highest) => {
                    (empty, next) = (0, highest.saturating_add(1));
                    let amount = self.keep(wallet, signed).await?;
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
        signed: Vec<(u32, Proof, State)>,
    ) -> Result<Msat, WalletError> {
        let mint = &wallet.mint_url;
        let failed = |error| WalletError::of_mint(mint, error);
        let here = self.proofs(Some(mint.clone())).await?;
        let here: BTreeSet<[u8; 33]> = here.iter().map(|info| info.y.to_bytes()).collect();
        let (mut kept, mut amounts) = (Vec::new(), Vec::new());
        for (number, proof, state) in signed {
            let y = proof.y().map_err(|error| failed(error.into()))?;
            if state == State::Spent || here.contains(&y.to_bytes()) {
                continue;
            }
            let state = match state {
                State::Unspent => State::Unspent,
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
