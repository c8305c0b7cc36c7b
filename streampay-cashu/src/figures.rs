//! A purse's money as the wallet's own ledger of transactions has it.

use std::collections::{BTreeMap, HashMap};

use cdk::nuts::PublicKey;
use cdk::wallet::Wallet;
use cdk::wallet::types::{Transaction, TransactionDirection};
use cdk::{Amount, Error};
use streampay_core::units::{Msat, PurseKey};
use uuid::Uuid;

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
    /// What the mint took for all of that.
    pub fees: Msat,
}

/// The name under which a wallet knows `purse`: its lines and its reserved proofs carry it.
#[must_use]
pub fn purse_name(purse: PurseKey) -> Uuid {
    operation(purse)
}

/// Adds a line of a wallet's ledger to the figures of its purse. False for a line of no purse.
///
/// # Errors
/// [`Error::AmountOverflow`] where the sums are more than there can be.
pub fn add_line(
    figures: &mut BTreeMap<Uuid, PurseFigures>,
    line: &Transaction,
) -> Result<bool, Error> {
    let purse = line.metadata.get(PURSE).and_then(|name| name.parse().ok());
    let Some(purse) = purse else {
        return Ok(false);
    };
    let msat = |amount: Amount| Msat::from_sat(amount.to_u64()).map_err(|_| Error::AmountOverflow);
    let of = figures.entry(purse).or_default();
    let sum = match line.metadata.get(KIND).map(String::as_str) {
        Some(LEFT) => &mut of.left,
        Some(RETURNED) => &mut of.returned,
        Some(RECEIVED) => &mut of.received,
        _ => return Ok(false),
    };
    let overflow = |_| Error::AmountOverflow;
    *sum = sum.plus(msat(line.amount)?).map_err(overflow)?;
    of.fees = of.fees.plus(msat(line.fee)?).map_err(overflow)?;
    Ok(true)
}

/// The figures of `purse` in `wallet`, which is in satoshi.
///
/// # Errors
/// Where the wallet's store cannot be read.
pub async fn purse_figures(wallet: &Wallet, purse: PurseKey) -> Result<PurseFigures, Error> {
    let mut all = BTreeMap::new();
    for line in wallet.list_transactions(None).await? {
        add_line(&mut all, &line)?;
    }
    Ok(all.remove(&purse_name(purse)).unwrap_or_default())
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
    operation: Uuid,
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
fn line_id(operation: Uuid, kind: &str, ys: &[PublicKey]) -> Uuid {
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
    Uuid::from_bytes(bytes)
}
