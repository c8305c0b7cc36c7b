//! Every session's money: what was paid, what came back, what it cost, and what proves it.
//!
//! Nothing here is written by the ledger itself. Its rows are the sessions' own records, in which
//! each purse's sums become durable with the money that they tell of, and the wallet's book beside
//! them, which is written by others: see `spec/adr/0011-the-ledger-is-the-records.md`.

pub mod audit;
pub mod cash;
pub mod commands;
pub mod history;
pub(crate) mod notes;
mod purse;
pub mod receipts;
pub mod unsettled;

use streampay_core::session::SessionLedger;

use crate::error::AppError;
use crate::home::Home;

/// The rows of every session that has records, the oldest first.
///
/// # Errors
/// [`AppError`] where they cannot be read.
pub async fn sessions(home: &Home) -> Result<Vec<SessionLedger>, AppError> {
    let mut all = Vec::new();
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        all.push(SessionLedger::read(id, &records)?);
    }
    all.sort_by_key(|of| (of.began, of.session));
    Ok(all)
}
