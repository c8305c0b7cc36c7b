//! Blocks and mempool of a simulated chain.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::opcodes::all::{OP_PUSHNUM_1, OP_PUSHNUM_2};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};

use super::policy::{self, Reject};
use crate::chain::{Parent, Seen, Spend};
use crate::tx::fee_for;

/// The height at which a simulated chain begins: heights are as long as today's.
const START: u32 = 900_000;
/// What the faucet gives at a time costs so much.
pub(super) const FAUCET_FEE: u64 = 2_000;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) tip: u32,
    /// Every transaction of the best chain, and its height.
    pub(super) chain: BTreeMap<Txid, (Transaction, u32)>,
    pub(super) mempool: BTreeMap<Txid, Transaction>,
    /// What spends each output, in chain or mempool.
    pub(super) spent: BTreeMap<OutPoint, Txid>,
    pub(super) floor: FeeRate,
    pub(super) rate: FeeRate,
    pub(super) away: bool,
    /// Nothing is searched for by its script.
    pub(super) unsearched: bool,
    /// Outputs that no view holds.
    pub(super) left_out: Vec<OutPoint>,
    /// Payments that blocks take by what they pay, as everybody's.
    pub(super) plain: BTreeSet<Txid>,
    faucets: u32,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            tip: START,
            chain: BTreeMap::new(),
            mempool: BTreeMap::new(),
            spent: BTreeMap::new(),
            floor: FeeRate::BROADCAST_MIN,
            rate: FeeRate::from_sat_per_vb_u32(2),
            away: false,
            unsearched: false,
            left_out: Vec::new(),
            plain: BTreeSet::new(),
            faucets: 0,
        }
    }
}

impl Inner {
    /// An output of chain or mempool.
    pub(super) fn output(&self, outpoint: OutPoint) -> Option<(TxOut, Option<u32>)> {
        let in_chain = self.chain.get(&outpoint.txid);
        let in_chain = in_chain.map(|(tx, height)| (tx, Some(*height)));
        let (tx, height) = in_chain.or_else(|| {
            let tx = self.mempool.get(&outpoint.txid)?;
            Some((tx, None))
        })?;
        let vout = usize::try_from(outpoint.vout).ok()?;
        Some((tx.output.get(vout)?.clone(), height))
    }

    pub(super) fn seen(&self, outpoint: OutPoint) -> Option<Seen> {
        let (output, height) = self.output(outpoint)?;
        let tx = match self.chain.get(&outpoint.txid) {
            Some((tx, _)) => tx,
            None => self.mempool.get(&outpoint.txid)?,
        };
        let segwit = tx.input.iter().all(|input| input.script_sig.is_empty());
        let spend = self.spent.get(&outpoint).and_then(|txid| {
            let in_chain = self.chain.get(txid);
            let in_chain = in_chain.map(|(tx, height)| (tx, Some(*height)));
            let (tx, height) = in_chain.or_else(|| self.mempool.get(txid).map(|tx| (tx, None)))?;
            let tx = tx.clone();
            Some(Spend { tx, height })
        });
        let waits = |input: &TxIn| self.mempool.contains_key(&input.previous_output.txid);
        let fit = segwit && tx.version == Version(3) && !tx.input.iter().any(waits);
        let fee = policy::fee(self, tx).filter(|_| height.is_none() && fit);
        Some(Seen {
            coinbase: tx.is_coinbase(),
            parent: fee.map(|fee| Parent {
                tx: tx.clone(),
                fee,
            }),
            output,
            height,
            spend,
        })
    }

    pub(super) fn accept(&mut self, tx: Transaction) -> Result<(), Reject> {
        self.accept_at(tx, self.floor, Amount::ZERO)
    }

    fn accept_at(&mut self, tx: Transaction, least: FeeRate, over: Amount) -> Result<(), Reject> {
        let txid = tx.compute_txid();
        if self.chain.contains_key(&txid) || self.mempool.contains_key(&txid) {
            return Ok(());
        }
        let replaced = policy::check(self, &tx, least, over)?;
        for txid in replaced {
            self.remove(txid);
        }
        for input in &tx.input {
            self.spent.insert(input.previous_output, txid);
        }
        self.mempool.insert(txid, tx);
        Ok(())
    }

    /// A parent of version 3 below the floor, and the child that pays for both.
    pub(super) fn accept_package(&mut self, package: &[Transaction]) -> Result<(), Reject> {
        let [parent, child] = package else {
            return package.iter().try_for_each(|tx| self.accept(tx.clone()));
        };
        let txid = parent.compute_txid();
        let new = !self.chain.contains_key(&txid) && !self.mempool.contains_key(&txid);
        let hangs = (child.input.iter()).any(|input| input.previous_output.txid == txid);
        if !new || !hangs || parent.version != Version(3) {
            return package.iter().try_for_each(|tx| self.accept(tx.clone()));
        }
        self.accept_at(parent.clone(), FeeRate::ZERO, Amount::ZERO)?;
        let paid = policy::fee(self, parent).unwrap_or(Amount::ZERO);
        let least = fee_for(parent.weight(), self.floor).map_err(|_| Reject::Fee)?;
        let over = least.checked_sub(paid).unwrap_or(Amount::ZERO);
        let child = self.accept_at(child.clone(), self.floor, over);
        if child.is_err() {
            self.remove(txid);
        }
        child
    }

    /// What pays less than this, for itself and what hangs on it, is forgotten.
    pub(super) fn set_floor(&mut self, floor: FeeRate) {
        self.floor = floor;
        loop {
            let poor = |(txid, tx): &(&Txid, &Transaction)| {
                let rates = [policy::rate(self, tx), policy::package_rate(self, **txid)];
                rates.into_iter().flatten().all(|rate| rate < floor)
            };
            let next = self.mempool.iter().find(poor).map(|(txid, _)| *txid);
            let Some(txid) = next else { return };
            self.remove(txid);
        }
    }

    /// Out of the mempool, with whatever hangs on it.
    pub(super) fn remove(&mut self, txid: Txid) {
        let Some(tx) = self.mempool.remove(&txid) else {
            return;
        };
        for input in &tx.input {
            self.spent.remove(&input.previous_output);
        }
        for child in policy::children(self, txid) {
            self.remove(child);
        }
    }

    pub(super) fn mine(&mut self, may: impl Fn(Txid) -> bool) {
        self.tip = self.tip.saturating_add(1);
        loop {
            let fits = |(txid, tx): &(&Txid, &Transaction)| {
                let ready = (tx.input.iter())
                    .all(|input| self.chain.contains_key(&input.previous_output.txid));
                let pays = policy::rate(self, tx).is_some_and(|rate| rate >= self.rate);
                let carried =
                    || policy::package_rate(self, **txid).is_some_and(|rate| rate >= self.rate);
                may(**txid) && ready && (pays || self.is_faucet(tx) || carried())
            };
            let next = self.mempool.iter().find(fits).map(|(txid, _)| *txid);
            let Some(txid) = next else { return };
            if let Some(tx) = self.mempool.remove(&txid) {
                self.chain.insert(txid, (tx, self.tip));
            }
        }
    }

    fn is_faucet(&self, tx: &Transaction) -> bool {
        let mut inputs = tx.input.iter();
        let plain = !self.plain.is_empty() && self.plain.contains(&tx.compute_txid());
        !plain
            && inputs.all(|input| {
                let spent = self.output(input.previous_output);
                spent.is_some_and(|(output, _)| output.script_pubkey == anyone().to_p2wsh())
            })
    }

    pub(super) fn disconnect(&mut self, depth: u32, lost: &[Txid]) {
        let base = self.tip.saturating_sub(depth);
        let undone = self.chain.iter();
        let mut undone: Vec<(u32, Txid)> = undone
            .filter(|(_, (_, height))| *height > base)
            .map(|(txid, (_, height))| (*height, *txid))
            .collect();
        undone.sort_unstable();
        self.tip = base;
        let mut back = Vec::new();
        for (_, txid) in &undone {
            let Some((tx, _)) = self.chain.remove(txid) else {
                continue;
            };
            if tx.is_coinbase() {
                // The faucet's own reward: its coins are mined again.
                self.chain.insert(*txid, (tx, base));
                continue;
            }
            for input in &tx.input {
                self.spent.remove(&input.previous_output);
            }
            back.push(tx);
        }
        let waiting: Vec<Transaction> = core::mem::take(&mut self.mempool).into_values().collect();
        for tx in &waiting {
            for input in &tx.input {
                self.spent.remove(&input.previous_output);
            }
        }
        let mut rest: Vec<Transaction> = back.into_iter().chain(waiting).collect();
        rest.retain(|tx| !lost.contains(&tx.compute_txid()));
        // Parents before children, whatever their order: as often as it helps.
        for _ in 0..rest.len() {
            rest.retain(|tx| self.accept(tx.clone()).is_err());
        }
    }

    /// A segwit transaction of version 3 out of a coin that anyone can spend.
    pub(super) fn faucet(&mut self, script: &Script, value: Amount) -> Transaction {
        self.coin(script, value, Amount::from_sat(FAUCET_FEE))
    }

    /// The same at this fee.
    pub(super) fn coin(&mut self, script: &Script, value: Amount, fee: Amount) -> Transaction {
        self.faucets = self.faucets.saturating_add(1);
        let coinbase = Transaction {
            version: Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: Builder::new()
                    .push_int(i64::from(self.faucets))
                    .into_script(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                value: value.checked_add(fee).unwrap_or(Amount::MAX_MONEY),
                script_pubkey: anyone().to_p2wsh(),
            }],
        };
        let txid = coinbase.compute_txid();
        // So old that no reorganisation makes it young again.
        let mature = START.saturating_sub(policy::COINBASE_DEPTH.saturating_mul(2));
        self.chain.insert(txid, (coinbase, mature));
        Transaction {
            version: Version(3),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(txid, 0),
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::from_slice(&[anyone().to_bytes()]),
            }],
            output: vec![TxOut {
                value,
                script_pubkey: script.to_owned(),
            }],
        }
    }
}

/// A script that anyone can satisfy, for money to go to whose owner does something with it.
#[must_use]
pub fn open_home() -> ScriptBuf {
    opened_by().to_p2wsh()
}

pub(super) fn opened_by() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_2).into_script()
}

/// A script that anyone can satisfy.
fn anyone() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}
