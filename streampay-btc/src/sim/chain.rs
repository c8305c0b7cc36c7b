//! A chain in memory: blocks, a mempool with the rules of relay, reorganisations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};

use super::policy::{self, Reject};
use crate::chain::{ChainError, ChainSource, ChainView, FeeTable, OutputState, Seen, Spend, Watch};

/// The height at which a simulated chain begins: heights are as long as today's.
const START: u32 = 900_000;
/// What the faucet gives at a time costs so much.
const FAUCET_FEE: u64 = 2_000;

/// A simulated chain. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimChain {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) tip: u32,
    /// Every transaction of the best chain, and its height.
    pub(super) chain: BTreeMap<Txid, (Transaction, u32)>,
    pub(super) mempool: BTreeMap<Txid, Transaction>,
    /// What spends each output, in chain or mempool.
    pub(super) spent: BTreeMap<OutPoint, Txid>,
    pub(super) floor: FeeRate,
    rate: FeeRate,
    away: bool,
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
            faucets: 0,
        }
    }
}

impl SimChain {
    /// A chain with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The height of the best block.
    #[must_use]
    pub fn tip(&self) -> u32 {
        self.lock().tip
    }

    /// What blocks ask from now on, and what estimates say.
    pub fn set_rate(&self, rate: FeeRate) {
        self.lock().rate = rate;
    }

    /// Makes the source answer nothing, or answer again.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// A transaction of somebody's that pays `value` to `script`, in the mempool.
    ///
    /// # Errors
    /// [`Reject`] where the script or value is not one that nodes relay.
    pub fn pay(&self, script: &Script, value: Amount) -> Result<OutPoint, Reject> {
        let mut inner = self.lock();
        let tx = inner.faucet(script, value);
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        inner.accept(tx)?;
        Ok(outpoint)
    }

    /// Takes a transaction into the mempool as a node with the usual rules would.
    ///
    /// # Errors
    /// [`Reject`]: why not.
    pub fn submit(&self, tx: Transaction) -> Result<(), Reject> {
        self.lock().accept(tx)
    }

    /// Mines so many blocks, each with all that pays enough.
    pub fn mine(&self, blocks: u32) {
        let mut inner = self.lock();
        for _ in 0..blocks {
            inner.mine(|_| true);
        }
    }

    /// Mines so many blocks without these transactions.
    pub fn mine_without(&self, blocks: u32, without: &[Txid]) {
        let mut inner = self.lock();
        for _ in 0..blocks {
            inner.mine(|txid| !without.contains(&txid));
        }
    }

    /// Replaces the last `depth` blocks by as many and one. What was in them waits again, except
    /// what is to be `lost`: its inputs were spent otherwise, or it never comes back.
    pub fn reorganise(&self, depth: u32, lost: &[Txid]) {
        let mut inner = self.lock();
        inner.disconnect(depth, lost);
        let blocks = depth.saturating_add(1);
        for _ in 0..blocks {
            inner.mine(|_| false);
        }
    }

    /// The transaction, and its height where it is in a block.
    #[must_use]
    pub fn transaction(&self, txid: Txid) -> Option<(Transaction, Option<u32>)> {
        let inner = self.lock();
        let in_chain = inner.chain.get(&txid);
        let in_chain = in_chain.map(|(tx, height)| (tx.clone(), Some(*height)));
        in_chain.or_else(|| inner.mempool.get(&txid).map(|tx| (tx.clone(), None)))
    }

    /// Every transaction, and its height where it is in a block.
    #[must_use]
    pub fn transactions(&self) -> Vec<(Transaction, Option<u32>)> {
        let inner = self.lock();
        let chain = inner.chain.values();
        let chain = chain.map(|(tx, height)| (tx.clone(), Some(*height)));
        let waiting = inner.mempool.values().map(|tx| (tx.clone(), None));
        chain.chain(waiting).collect()
    }

    /// The transaction that spends an output, and its height where it is in a block.
    #[must_use]
    pub fn spender(&self, outpoint: OutPoint) -> Option<(Transaction, Option<u32>)> {
        let txid = self.lock().spent.get(&outpoint).copied()?;
        self.transaction(txid)
    }

    /// Transactions that wait for a block.
    #[must_use]
    pub fn waiting(&self) -> Vec<Transaction> {
        self.lock().mempool.values().cloned().collect()
    }

    /// What `script` holds in blocks, unspent.
    #[must_use]
    pub fn balance(&self, script: &Script) -> Amount {
        let inner = self.lock();
        let mut sum = Amount::ZERO;
        for (txid, (tx, _)) in &inner.chain {
            for (vout, output) in (0_u32..).zip(&tx.output) {
                let outpoint = OutPoint::new(*txid, vout);
                let spent = inner.spent.get(&outpoint);
                let unspent = spent.is_none_or(|txid| !inner.chain.contains_key(txid));
                if output.script_pubkey == *script && unspent {
                    sum = sum.checked_add(output.value).unwrap_or(Amount::MAX_MONEY);
                }
            }
        }
        sum
    }

    /// Outputs of exactly `value` to `script` from height `since` on, those in blocks first.
    #[must_use]
    pub fn outputs_to(&self, script: &Script, value: Amount, since: u32) -> Vec<OutPoint> {
        let inner = self.lock();
        let chain = inner.chain.iter();
        let chain = chain.map(|(txid, (tx, height))| (*height, *txid, tx));
        let waiting = inner.mempool.iter();
        let waiting = waiting.map(|(txid, tx)| (u32::MAX, *txid, tx));
        let mut found = Vec::new();
        for (height, txid, tx) in chain.chain(waiting) {
            for (vout, output) in (0_u32..).zip(&tx.output) {
                let fits = output.value == value && output.script_pubkey == *script;
                if fits && height >= since {
                    found.push((height, OutPoint::new(txid, vout)));
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, outpoint)| outpoint).collect()
    }

    /// The chain as a source would show it.
    ///
    /// # Errors
    /// [`ChainError::Away`] where it was told to be.
    pub fn look(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        let inner = self.lock();
        if inner.away {
            return Err(ChainError::Away("told to be away".into()));
        }
        let outputs = watches.iter().map(|watch| OutputState {
            outpoint: watch.outpoint,
            seen: inner.seen(watch.outpoint),
        });
        Ok(ChainView {
            tip: inner.tip,
            fees: FeeTable {
                targets: vec![(1, inner.rate)],
                floor: inner.floor,
            },
            outputs: outputs.collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn seen(&self, outpoint: OutPoint) -> Option<Seen> {
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
        Some(Seen {
            coinbase: tx.is_coinbase(),
            truc: segwit && tx.version == Version(3),
            output,
            height,
            spend,
        })
    }

    fn accept(&mut self, tx: Transaction) -> Result<(), Reject> {
        let txid = tx.compute_txid();
        if self.chain.contains_key(&txid) || self.mempool.contains_key(&txid) {
            return Ok(());
        }
        let replaced = policy::check(self, &tx)?;
        for txid in replaced {
            self.remove(txid);
        }
        for input in &tx.input {
            self.spent.insert(input.previous_output, txid);
        }
        self.mempool.insert(txid, tx);
        Ok(())
    }

    /// Out of the mempool, with whatever hangs on it.
    fn remove(&mut self, txid: Txid) {
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

    fn mine(&mut self, may: impl Fn(Txid) -> bool) {
        self.tip = self.tip.saturating_add(1);
        loop {
            let fits = |(txid, tx): &(&Txid, &Transaction)| {
                let ready = (tx.input.iter())
                    .all(|input| self.chain.contains_key(&input.previous_output.txid));
                let pays = policy::rate(self, tx).is_some_and(|rate| rate >= self.rate);
                may(**txid) && ready && (pays || self.is_faucet(tx))
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
        inputs.all(|input| {
            let spent = self.output(input.previous_output);
            spent.is_some_and(|(output, _)| output.script_pubkey == anyone().to_p2wsh())
        })
    }

    fn disconnect(&mut self, depth: u32, lost: &[Txid]) {
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
    fn faucet(&mut self, script: &Script, value: Amount) -> Transaction {
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
                value: value
                    .checked_add(Amount::from_sat(FAUCET_FEE))
                    .unwrap_or(Amount::MAX_MONEY),
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

/// A script that anyone can satisfy.
fn anyone() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

#[async_trait]
impl ChainSource for SimChain {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.look(watches)
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        if self.lock().away {
            return Err(ChainError::Away("told to be away".into()));
        }
        Ok(self.outputs_to(script, value, since))
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        if self.lock().away {
            return Err(ChainError::Away("told to be away".into()));
        }
        let submitted = self.submit(tx.clone());
        submitted.map_err(|reject| ChainError::Refused(reject.to_string()))
    }
}
