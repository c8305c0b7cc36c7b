//! At a start: what a crash cut short is finished before anything new is begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdk::mint_url::MintUrl;
use streampay_core::units::Msat;
use tokio::task::JoinSet;

use super::{WalletError, WalletFolder};

/// How long a mint is waited for at which there are only invoices that were over long ago: one of them
/// may have been paid, and most never are.
const FOR_OLD: Duration = Duration::from_secs(2);

/// What was found at a start, at all mints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Operations that were cut short and are finished or undone now.
    pub operations: usize,
    /// Paid deposits that are ecash now.
    pub deposited: Msat,
    /// Mints that did not answer in time: what was begun there is kept.
    pub left: usize,
}

impl WalletFolder {
    /// Finishes what was cut short at every mint, all of them at once, and collects deposits that were
    /// paid. Mints at which nothing was begun are not asked. To be done before sessions begin: finishing
    /// must not meet what is being done. For at most `limit`; whatever is done then stays done, and the
    /// rest is left for the next start or `recover`.
    ///
    /// # Errors
    /// [`WalletError::Store`].
    pub async fn finish_begun(self: &Arc<Self>, limit: Duration) -> Result<Finished, WalletError> {
        let mut under_way = JoinSet::new();
        for (mint, is_old) in self.begun().await? {
            let (wallet, limit) = (
                self.clone(),
                if is_old { limit.min(FOR_OLD) } else { limit },
            );
            under_way.spawn(async move {
                let finish = tokio::time::timeout(limit, wallet.finish_at(&mint));
                let silent = |_| Err(WalletError::of_mint(&mint, cdk::Error::Timeout));
                finish.await.unwrap_or_else(silent)
            });
        }
        let mut finished = Finished {
            left: under_way.len(),
            ..Finished::default()
        };
        let all = async {
            while let Some(done) = under_way.join_next().await {
                match done {
                    Ok(Ok((operations, deposited))) => {
                        finished.left = finished.left.saturating_sub(1);
                        finished.operations = finished.operations.saturating_add(operations);
                        finished.deposited = finished.deposited.saturating_plus(deposited);
                    }
                    Ok(Err(error @ WalletError::Store(_))) => return Err(error),
                    Ok(Err(error)) => tracing::warn!(%error, "what was begun is left as it is"),
                    Err(error) => tracing::error!(%error, "what was begun is left as it is"),
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, all).await.unwrap_or(Ok(()))?;
        Ok(finished)
    }

    /// Where something was begun; true where that is nothing but invoices that were over long ago.
    async fn begun(&self) -> Result<BTreeMap<MintUrl, bool>, WalletError> {
        let sagas = self.sagas().await?.into_iter();
        let mut mints: BTreeMap<MintUrl, bool> = BTreeMap::new();
        let quoted = self.quoted_now().await?.into_iter();
        for (mint, is_new) in quoted.chain(sagas.map(|saga| (saga.mint_url, true))) {
            let is_old = mints.entry(mint).or_insert(true);
            *is_old &= !is_new;
        }
        Ok(mints)
    }

    async fn finish_at(&self, mint: &MintUrl) -> Result<(usize, Msat), WalletError> {
        let wallet = self.wallet_at(&mint.to_string()).await?;
        Self::name_sent(&wallet).await?;
        let begun = self.sagas_at(mint).await?.len();
        let done = wallet.recover_incomplete_sagas().await;
        done.map_err(|error| WalletError::of_mint(mint, error))?;
        // A token that nobody has redeemed is not cut short: it waits for its receiver.
        let left = self.sagas_at(mint).await?.len();
        let deposits = self.collect_deposits(&wallet).await?;
        Ok((begun.saturating_sub(left), deposits.arrived))
    }
}
