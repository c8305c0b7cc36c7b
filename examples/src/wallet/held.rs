//! Money that is held back: at a mint that was not asked since the folder was restored from a backup.
//! What the store has there may be spent, and numbers of which it does not know may be used.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use cdk::mint_url::MintUrl;
use cdk_common::database::WalletDatabase;
use streampay_cashu::check_mint_url;

use super::{WalletError, WalletFolder};

impl WalletFolder {
    /// Holds back what is at each mint that the wallet knows, and at `more`, but for those that have been
    /// `asked`.
    ///
    /// # Errors
    /// [`WalletError::Store`], or an address that is none.
    pub(crate) async fn hold_back(
        &self,
        more: &[String],
        asked: &[String],
    ) -> Result<(), WalletError> {
        let known = self.store.get_mints().await.map_err(WalletError::Store)?;
        let mut mints: BTreeSet<MintUrl> = known.into_keys().collect();
        mints.extend(self.mints().await?);
        for mint in more {
            mints.insert(check_mint_url(mint)?);
        }
        mints.retain(|mint| !asked.contains(&mint.to_string()));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = mints;
        Ok(())
    }

    /// Where money is held back.
    pub(crate) fn held_back(&self) -> Vec<MintUrl> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().cloned().collect()
    }

    /// Refuses where all that there is is held back.
    ///
    /// # Errors
    /// [`WalletError::Unasked`], [`WalletError::Store`].
    pub(crate) async fn check_not_all_held(&self) -> Result<(), WalletError> {
        let mut with_money = self.balance().await?;
        with_money.retain(|at| !at.spendable.is_zero());
        let held = with_money.iter().all(|at| self.holds(&at.mint));
        match with_money.first() {
            Some(first) if held => Err(WalletError::Unasked(first.mint.clone())),
            _ => Ok(()),
        }
    }

    /// The mint has been asked.
    pub(crate) fn let_go(&self, mint: &MintUrl) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(mint);
    }

    pub(super) fn holds(&self, mint: &MintUrl) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.contains(mint)
    }

    pub(super) fn check_asked(&self, mint: &MintUrl) -> Result<(), WalletError> {
        match self.holds(mint) {
            true => Err(WalletError::Unasked(mint.clone())),
            false => Ok(()),
        }
    }
}
