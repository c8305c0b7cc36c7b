//! Money that is held back: at a mint that was not asked since the folder was restored from a backup.
//! What the store has there may be spent, and numbers of which it does not know may be used.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use cdk::mint_url::MintUrl;
use cdk_common::database::WalletDatabase;
use streampay_cashu::check_mint_url;

use super::{WalletError, WalletFolder};
use crate::backup::restored;
use crate::error::AppError;

/// Of a folder that was restored.
pub(super) struct Since {
    /// Those that have answered since.
    asked: BTreeSet<MintUrl>,
    /// Those that the user named.
    named: BTreeSet<MintUrl>,
}

impl WalletFolder {
    /// Holds back what is at each mint but those that have been `asked`, also at mints of which this
    /// wallet does not know yet. The user `named` some.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn hold_back(&self, named: &[String], asked: &[String]) -> Result<(), WalletError> {
        let mints = |urls: &[String]| -> Result<BTreeSet<MintUrl>, WalletError> {
            let urls = urls.iter();
            urls.map(|url| Ok(check_mint_url(url)?)).collect()
        };
        let since = Since {
            asked: mints(asked)?,
            named: mints(named)?,
        };
        *self.since() = Some(since);
        Ok(())
    }

    fn since(&self) -> MutexGuard<'_, Option<Since>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where money is held back, as far as the wallet knows of it.
    ///
    /// # Errors
    /// [`WalletError::Store`].
    pub(crate) async fn held_back(&self) -> Result<Vec<MintUrl>, WalletError> {
        let known = self.store.get_mints().await.map_err(WalletError::Store)?;
        let mut mints: BTreeSet<MintUrl> = known.into_keys().collect();
        mints.extend(self.mints().await?);
        Ok(match &*self.since() {
            None => Vec::new(),
            Some(since) => {
                mints.extend(since.named.iter().cloned());
                mints.difference(&since.asked).cloned().collect()
            }
        })
    }

    /// A mint that the wallet had never used when the folder was saved: the self that was lost may have
    /// used it since, and so is asked before it is used now.
    pub(super) async fn ask_at_first(&self, mint: &MintUrl) -> Result<(), WalletError> {
        if !self.holds(mint) || self.held_back().await?.contains(mint) {
            return Ok(());
        }
        match restored::first_used(self, mint).await {
            Err(AppError::Wallet(error @ WalletError::Store(_))) => Err(error),
            Err(error) => {
                tracing::info!(%error, "a mint does not say what is newer than the backup");
                Err(WalletError::Unasked(mint.clone()))
            }
            Ok(()) => Ok(()),
        }
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
        if let Some(since) = &mut *self.since() {
            since.asked.insert(mint.clone());
        }
    }

    pub(super) fn holds(&self, mint: &MintUrl) -> bool {
        let since = self.since();
        since
            .as_ref()
            .is_some_and(|since| !since.asked.contains(mint))
    }

    pub(super) fn check_asked(&self, mint: &MintUrl) -> Result<(), WalletError> {
        match self.holds(mint) {
            true => Err(WalletError::Unasked(mint.clone())),
            false => Ok(()),
        }
    }
}
