//! Tokens that were sent and that nobody has redeemed yet.

use cdk::nuts::{ProofsMethods, State};
use cdk::wallet::Wallet;
use cdk_common::wallet::OperationData;

use super::{WalletError, WalletFolder};

impl WalletFolder {
    /// Lets the ecash of every sent token carry the name of its sending.
    ///
    /// cdk 0.18 names what it takes out of the wallet, not what a swap makes for the token. Its
    /// recovery takes a sending that names no ecash for one that never was, and drops it: the token
    /// would count as held for ever, and could not be taken back. So before each recovery.
    ///
    /// # Errors
    /// Where the wallet cannot be read or written.
    pub(super) async fn name_sent(wallet: &Wallet) -> Result<(), WalletError> {
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let store = &wallet.localstore;
        for sent in wallet.get_pending_sends().await.map_err(failed)? {
            let saga = store.get_saga(&sent).await.map_err(WalletError::Store)?;
            let Some(OperationData::Send(data)) = saga.map(|saga| saga.data) else {
                continue;
            };
            let ys = data.proofs.unwrap_or_default().ys();
            let ys = ys.map_err(|error| failed(error.into()))?;
            let held = store.get_proofs_by_ys(ys).await;
            let mut held = held.map_err(WalletError::Store)?;
            held.retain(|info| info.used_by_operation.is_none() && info.state != State::Spent);
            for info in &mut held {
                info.used_by_operation = Some(sent);
            }
            if !held.is_empty() {
                let named = store.update_proofs(held, Vec::new()).await;
                named.map_err(WalletError::Store)?;
            }
        }
        Ok(())
    }
}
