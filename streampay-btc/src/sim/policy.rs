//! The rules of relay, as far as channels meet them. Source: Bitcoin Core 31, BIP 125 as it is
//! there, BIP 431.

use std::collections::BTreeSet;

use bitcoin::absolute::{Height, LockTime, Time};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, Transaction, TxOut, Txid};

use super::consensus::check_scripts;
use super::ledger::Inner;
use crate::tx::{fee_for, virtual_size};

/// Source: Bitcoin Core, `COINBASE_MATURITY`.
pub(super) const COINBASE_DEPTH: u32 = 100;
/// Source: BIP 431.
const TRUC_WEIGHT_MAX: u64 = 40_000;
const TRUC_CHILD_VSIZE_MAX: u64 = 1_000;
/// Source: Bitcoin Core, `MAX_STANDARD_TX_WEIGHT`.
const WEIGHT_MAX: u64 = 400_000;
/// Source: Bitcoin Core, incremental relay fee; older nodes ask ten times as much.
const INCREMENTAL: FeeRate = FeeRate::BROADCAST_MIN;
/// Source: Bitcoin Core, `MAX_REPLACEMENT_CANDIDATES`.
const REPLACED_MAX: usize = 100;

/// Why a transaction is not taken into the mempool. The words are those of Bitcoin Core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// An input that does not exist.
    #[error("bad-txns-inputs-missingorspent")]
    Missing,
    /// Not before a later block.
    #[error("non-final")]
    NonFinal,
    /// A reward that is not mature.
    #[error("bad-txns-premature-spend-of-coinbase")]
    Premature,
    /// More out than in.
    #[error("bad-txns-in-belowout")]
    BelowOut,
    /// A version that is not relayed.
    #[error("version")]
    Version,
    /// Too heavy.
    #[error("tx-size")]
    Size,
    /// An output that is not relayed.
    #[error("scriptpubkey")]
    Script,
    /// An output below dust.
    #[error("dust")]
    Dust,
    /// Less than the least feerate.
    #[error("min relay fee not met")]
    Fee,
    /// It conflicts, and does not pay enough more.
    #[error("insufficient fee")]
    Replacement,
    /// It breaks the rules of version 3.
    #[error("TRUC-violation")]
    Truc,
    /// An input whose script is not satisfied.
    #[error("mandatory-script-verify-flag-failed")]
    Consensus,
}

/// The fee, where all inputs are known.
pub(super) fn fee(inner: &Inner, tx: &Transaction) -> Option<Amount> {
    let mut spent = Amount::ZERO;
    for input in &tx.input {
        spent = spent.checked_add(inner.output(input.previous_output)?.0.value)?;
    }
    let mut out = tx.output.iter().map(|output| output.value);
    let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
    spent.checked_sub(out)
}

/// The feerate over the virtual size.
pub(super) fn rate(inner: &Inner, tx: &Transaction) -> Option<FeeRate> {
    let size = virtual_size(tx.weight()).checked_mul(4)?;
    let rate = fee(inner, tx)?
        .to_sat()
        .checked_mul(1000)?
        .checked_div(size)?;
    Some(FeeRate::from_sat_per_kwu(rate))
}

/// The feerate of a transaction in the mempool and the one that hangs on it together; none without.
pub(super) fn package_rate(inner: &Inner, txid: Txid) -> Option<FeeRate> {
    let parent = inner.mempool.get(&txid)?;
    let child = inner.mempool.get(children(inner, txid).first()?)?;
    let weight = parent.weight().checked_add(child.weight())?;
    let fee = fee(inner, parent)?.checked_add(fee(inner, child)?)?;
    let size = virtual_size(weight).checked_mul(4)?;
    let rate = fee.to_sat().checked_mul(1000)?.checked_div(size)?;
    Some(FeeRate::from_sat_per_kwu(rate))
}

/// Transactions in the mempool that spend an output of this one.
pub(super) fn children(inner: &Inner, txid: Txid) -> Vec<Txid> {
    let mempool = inner.mempool.iter();
    let spends = |tx: &Transaction| {
        tx.input
            .iter()
            .any(|input| input.previous_output.txid == txid)
    };
    mempool
        .filter(|(_, tx)| spends(tx))
        .map(|(child, _)| *child)
        .collect()
}

/// Checks a transaction and says which ones it replaces. It pays at least `least` a virtual byte, and
/// `over` besides.
pub(super) fn check(
    inner: &Inner,
    tx: &Transaction,
    least: FeeRate,
    over: Amount,
) -> Result<Vec<Txid>, Reject> {
    let spent = inputs(inner, tx)?;
    standard(tx)?;
    let fee = fee(inner, tx).ok_or(Reject::BelowOut)?;
    let floor = fee_for(tx.weight(), least).map_err(|_| Reject::Fee)?;
    if floor.checked_add(over).is_none_or(|floor| fee < floor) {
        return Err(Reject::Fee);
    }
    let replaced = replaced(inner, tx, fee)?;
    truc(inner, tx, &replaced)?;
    check_scripts(tx, &spent).map_err(|_| Reject::Consensus)?;
    Ok(replaced.into_iter().collect())
}

fn inputs(inner: &Inner, tx: &Transaction) -> Result<Vec<TxOut>, Reject> {
    let next = inner.tip.saturating_add(1);
    let height = Height::from_consensus(next).map_err(|_| Reject::NonFinal)?;
    let final_now = tx.lock_time == LockTime::ZERO
        || tx.input.iter().all(|input| input.sequence.is_final())
        // A block above the lock's height: the next one must be.
        || tx.lock_time.to_consensus_u32() < next
            && tx.lock_time.is_satisfied_by(height, Time::MIN);
    if !final_now {
        return Err(Reject::NonFinal);
    }
    let mut spent = Vec::with_capacity(tx.input.len());
    let mut seen = BTreeSet::new();
    for input in &tx.input {
        let outpoint = input.previous_output;
        let (output, at) = inner.output(outpoint).ok_or(Reject::Missing)?;
        let in_chain = inner.spent.get(&outpoint);
        if in_chain.is_some_and(|by| inner.chain.contains_key(by)) || !seen.insert(outpoint) {
            return Err(Reject::Missing);
        }
        let coinbase = inner.chain.get(&outpoint.txid);
        let coinbase = coinbase.is_some_and(|(tx, _)| tx.is_coinbase());
        if coinbase && at.is_some_and(|at| next.saturating_sub(at) < COINBASE_DEPTH) {
            return Err(Reject::Premature);
        }
        spent.push(output);
    }
    Ok(spent)
}

fn standard(tx: &Transaction) -> Result<(), Reject> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(Reject::Version);
    }
    if tx.weight().to_wu() > WEIGHT_MAX {
        return Err(Reject::Size);
    }
    for output in &tx.output {
        let script = &output.script_pubkey;
        if !crate::tx::is_standard(script) {
            return Err(Reject::Script);
        }
        if output.value < script.minimal_non_dust() {
            return Err(Reject::Dust);
        }
    }
    Ok(())
}

/// What it conflicts with and whatever hangs on that: all of it must be worth less.
fn replaced(inner: &Inner, tx: &Transaction, own: Amount) -> Result<BTreeSet<Txid>, Reject> {
    let mut all = BTreeSet::new();
    let mut left: Vec<Txid> = (tx.input.iter())
        .filter_map(|input| inner.spent.get(&input.previous_output).copied())
        .collect();
    let own_rate = rate(inner, tx).ok_or(Reject::BelowOut)?;
    for txid in &left {
        let conflict = inner.mempool.get(txid).ok_or(Reject::Missing)?;
        if rate(inner, conflict).is_none_or(|rate| own_rate <= rate) {
            return Err(Reject::Replacement);
        }
    }
    while let Some(txid) = left.pop() {
        if all.insert(txid) {
            left.extend(children(inner, txid));
        }
    }
    if all.is_empty() {
        return Ok(all);
    }
    let mut fees = fee_for(tx.weight(), INCREMENTAL).map_err(|_| Reject::Replacement)?;
    for txid in &all {
        let conflict = inner.mempool.get(txid).ok_or(Reject::Missing)?;
        let more = fee(inner, conflict).ok_or(Reject::Missing)?;
        fees = fees.checked_add(more).ok_or(Reject::Replacement)?;
    }
    if own < fees || all.len() > REPLACED_MAX {
        return Err(Reject::Replacement);
    }
    Ok(all)
}

/// Version 3 hangs on version 3 alone, one on one, and the child is small.
fn truc(inner: &Inner, tx: &Transaction, replaced: &BTreeSet<Txid>) -> Result<(), Reject> {
    let own = tx.version == Version(3);
    if own && tx.weight().to_wu() > TRUC_WEIGHT_MAX {
        return Err(Reject::Truc);
    }
    let parents: BTreeSet<Txid> = (tx.input.iter())
        .map(|input| input.previous_output.txid)
        .filter(|txid| inner.mempool.contains_key(txid))
        .collect();
    for parent in &parents {
        let version = inner.mempool.get(parent).map(|parent| parent.version);
        if (version == Some(Version(3))) != own {
            return Err(Reject::Truc);
        }
        let grandparents = inner.mempool.get(parent).into_iter();
        let mut grandparents = grandparents.flat_map(|parent| &parent.input);
        let deep =
            grandparents.any(|input| inner.mempool.contains_key(&input.previous_output.txid));
        let mut siblings = children(inner, *parent).into_iter();
        let crowded = siblings.any(|sibling| !replaced.contains(&sibling));
        if own && (deep || crowded) {
            return Err(Reject::Truc);
        }
    }
    let small = virtual_size(tx.weight()) <= TRUC_CHILD_VSIZE_MAX;
    if own && (parents.len() > 1 || !parents.is_empty() && !small) {
        return Err(Reject::Truc);
    }
    Ok(())
}
