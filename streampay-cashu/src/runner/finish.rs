//! The end of a payer's purse, within the wallet.

use cdk::nuts::State;
use cdk::wallet::Wallet;
use streampay_core::backend::BackendError;

use super::OWN_STORE;
use crate::coin::{self, Coin};
use crate::figures::{self, KIND, PURSE, RETURNED};
use crate::job::Done;

/// Unsent coins become spendable again: nobody else has seen them, so no swap is needed. Coins
/// that are gone leave the wallet. Ends in all that came back from this purse.
pub(crate) async fn finish(
    wallet: &Wallet,
    operation: uuid::Uuid,
    unsent: &[Coin],
    gone: &[Coin],
) -> Result<Done, BackendError> {
    let unsent_ys = ys(unsent)?;
    let stored = wallet.localstore.get_proofs_by_ys(unsent_ys.clone()).await;
    let freed = stored
        .map_err(|_| OWN_STORE)?
        .into_iter()
        .filter(|info| info.used_by_operation == Some(operation) && info.state == State::Reserved)
        .map(|mut info| {
            info.state = State::Unspent;
            info.used_by_operation = None;
            info
        })
        .collect();
    let updated = wallet.localstore.update_proofs(freed, ys(gone)?).await;
    updated.map_err(|_| OWN_STORE)?;
    if !unsent.is_empty() {
        let amount = coin::sum(unsent).ok_or(BackendError::Unknown)?;
        let noted = figures::note(wallet, operation, RETURNED, amount, 0, unsent_ys).await;
        noted.map_err(|_| OWN_STORE)?;
    }
    ledger_sum(wallet, operation, RETURNED).await
}

/// The sum of the wallet's ledger lines of one kind for one purse.
pub(crate) async fn ledger_sum(
    wallet: &Wallet,
    operation: uuid::Uuid,
    kind: &str,
) -> Result<Done, BackendError> {
    let name = operation.to_string();
    let lines = wallet.list_transactions(None).await;
    let lines = lines.map_err(|_| OWN_STORE)?;
    lines
        .iter()
        .filter(|line| {
            line.metadata.get(PURSE) == Some(&name)
                && line.metadata.get(KIND).map(String::as_str) == Some(kind)
        })
        .try_fold(0_u64, |sum, line| sum.checked_add(line.amount.to_u64()))
        .map(Done::Sum)
        .ok_or(BackendError::Unknown)
}

fn ys(coins: &[Coin]) -> Result<Vec<cdk::nuts::PublicKey>, BackendError> {
    coins
        .iter()
        .map(|coin| coin.to_proof().ok()?.y().ok())
        .collect::<Option<_>>()
        .ok_or(BackendError::Unknown)
}
