//! A purse's money as the wallet's own ledger of transactions has it.

use std::collections::HashMap;

use cdk::nuts::PublicKey;
use cdk::wallet::Wallet;
use cdk::wallet::types::{Transaction, TransactionDirection};
use cdk::{Amount, Error};
use streampay_core::units::{Msat, PurseKey};

use crate::job::operation;

/// What one purse moved, each figure summed from the wallet's transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurseFigures {
    /// Payer: left the spendable balance when the purse was split, the split's fee included.
    pub left: Msat,
    /// Payer: came back, net of fees: reclaimed and released tokens.
    pub returned: Msat,
    /// Payee: arrived, net of fees.
    pub received: Msat,
}

/// The figures of `purse` in `wallet`, which is in satoshi.
///
/// # Errors
/// Where the wallet's store cannot be read.
pub async fn purse_figures(wallet: &Wallet, purse: PurseKey) -> Result<PurseFigures, Error> {
    let name = operation(purse).to_string();
    let mut figures = PurseFigures::default();
    for transaction in wallet.list_transactions(None).await? {
        if transaction.metadata.get(PURSE) != Some(&name) {
            continue;
        }
        let amount =
            Msat::from_sat(transaction.amount.to_u64()).map_err(|_| Error::AmountOverflow)?;
        let kind = transaction.metadata.get(KIND).map(String::as_str);
        let sum = match kind {
            Some(LEFT) => &mut figures.left,
            Some(RETURNED) => &mut figures.returned,
            Some(RECEIVED) => &mut figures.received,
            _ => continue,
        };
        *sum = sum.plus(amount).map_err(|_| Error::AmountOverflow)?;
    }
    Ok(figures)
}

pub(crate) const PURSE: &str = "streampay-purse";
pub(crate) const KIND: &str = "streampay-kind";
pub(crate) const LEFT: &str = "left";
pub(crate) const RETURNED: &str = "returned";
pub(crate) const RECEIVED: &str = "received";

/// Writes a line into the wallet's ledger. The same purse, kind and `ys` again replace the line,
/// so that writing it twice counts once.
pub(crate) async fn note(
    wallet: &Wallet,
    operation: uuid::Uuid,
    kind: &'static str,
    amount: u64,
    fee: u64,
    ys: Vec<PublicKey>,
) -> Result<(), Error> {
    let direction = if kind == LEFT {
        TransactionDirection::Outgoing
    } else {
        TransactionDirection::Incoming
    };
    let line_id = line_id(operation, kind, &ys);
    let transaction = Transaction {
        mint_url: wallet.mint_url.clone(),
        direction,
        amount: Amount::from(amount),
        fee: Amount::from(fee),
        unit: wallet.unit.clone(),
        ys,
        timestamp: cdk::util::unix_time(),
        memo: None,
        metadata: HashMap::from([
            (PURSE.to_owned(), operation.to_string()),
            (KIND.to_owned(), kind.to_owned()),
        ]),
        quote_id: None,
        payment_request: None,
        payment_proof: None,
        payment_method: None,
        saga_id: Some(line_id),
        status: cdk::wallet::types::TransactionStatus::Completed,
    };
    wallet.localstore.add_transaction(transaction).await?;
    Ok(())
}

/// cdk names a transaction by its saga, else by its proofs alone; the same proofs may well come
/// back from one purse and go into the next.
fn line_id(operation: uuid::Uuid, kind: &str, ys: &[PublicKey]) -> uuid::Uuid {
    use bitcoin_hashes::{Hash, HashEngine, sha256};
    let mut engine = sha256::Hash::engine();
    engine.input(operation.as_bytes());
    engine.input(kind.as_bytes());
    ys.iter().for_each(|y| engine.input(&y.to_bytes()));
    let digest = sha256::Hash::from_engine(engine).to_byte_array();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    uuid::Uuid::from_bytes(bytes)
}
