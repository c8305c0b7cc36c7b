//! A chain in memory: blocks, a mempool with the rules of relay, reorganisations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};

use super::ledger::{FAUCET_FEE, Inner, open_home, opened_by};
use super::policy::Reject;
use crate::chain::{ChainError, ChainSource, ChainView, FeeTable, OutputState, Seen, Watch};
use crate::machine::WalletCoin;

/// A simulated chain. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimChain {
    inner: Arc<Mutex<Inner>>,
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

    /// The least that is relayed from now on, as where the mempool is full; what waits and pays less
    /// is forgotten.
    pub fn set_floor(&self, floor: FeeRate) {
        self.lock().set_floor(floor);
    }

    /// Makes the source answer nothing, or answer again.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Whether blocks are searched for outputs to a script: a source may show views all the same.
    pub fn set_searched(&self, searched: bool) {
        self.lock().unsearched = !searched;
    }

    /// Leaves these outputs out of every view from now on, as a source does that cannot look at them.
    pub fn leave_out(&self, outpoints: &[OutPoint]) {
        self.lock().left_out = outpoints.to_vec();
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

    /// The same for so much of a fee. Blocks take it only where that is what they ask; what
    /// [`SimChain::pay`] pays is in the next one, whatever that asks.
    ///
    /// # Errors
    /// [`Reject`] where the script, value or fee is not one that nodes relay.
    pub fn pay_for(&self, script: &Script, value: Amount, fee: Amount) -> Result<OutPoint, Reject> {
        let mut inner = self.lock();
        let tx = inner.coin(script, value, fee);
        let txid = tx.compute_txid();
        inner.plain.insert(txid);
        inner.accept(tx)?;
        Ok(OutPoint::new(txid, 0))
    }

    /// Has nodes forget a transaction that waits, and whatever hangs on it.
    pub fn forget(&self, txid: Txid) {
        self.lock().remove(txid);
    }

    /// The same out of what waits for a block itself.
    ///
    /// # Errors
    /// [`Reject`] where the script or value is not one that nodes relay.
    pub fn pay_after(&self, script: &Script, value: Amount) -> Result<OutPoint, Reject> {
        let fee = Amount::from_sat(FAUCET_FEE);
        let first = value.checked_add(fee).ok_or(Reject::BelowOut)?;
        let on = self.pay(&open_home(), first)?;
        let tx = Transaction {
            version: Version(3),
            lock_time: LockTime::ZERO,
            input: vec![opened(on)],
            output: vec![TxOut {
                value,
                script_pubkey: script.to_owned(),
            }],
        };
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        self.lock().accept(tx)?;
        Ok(outpoint)
    }

    /// Replaces a payment of [`SimChain::pay`] that waits by a dearer one with the same output, as
    /// wallets do.
    ///
    /// # Errors
    /// [`Reject`]; [`Reject::Missing`] where it does not wait.
    pub fn bump(&self, payment: OutPoint) -> Result<OutPoint, Reject> {
        let mut inner = self.lock();
        let old = inner.mempool.get(&payment.txid).cloned();
        let old = old.ok_or(Reject::Missing)?;
        let output = old.output.first().ok_or(Reject::Missing)?;
        let mut tx = inner.faucet(&output.script_pubkey, output.value);
        tx.input.extend(old.input);
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        inner.accept(tx)?;
        Ok(outpoint)
    }

    /// Hangs a transaction of so many outputs, which pays `fee`, on an output to
    /// [`open_home`](super::open_home): what replaces the one with that output pays for it too.
    ///
    /// # Errors
    /// [`Reject`]; [`Reject::Missing`] where it does not wait.
    pub fn hang(&self, on: OutPoint, fee: Amount, outputs: usize) -> Result<(), Reject> {
        let mut inner = self.lock();
        let parent = inner.mempool.get(&on.txid).ok_or(Reject::Missing)?;
        let version = parent.version;
        let (output, _) = inner.output(on).ok_or(Reject::Missing)?;
        let script = open_home();
        let dust = script.minimal_non_dust();
        let small = TxOut {
            value: dust,
            script_pubkey: script,
        };
        let mut output = TxOut {
            value: output.value.checked_sub(fee).ok_or(Reject::BelowOut)?,
            ..small.clone()
        };
        let mut all = vec![small; outputs.saturating_sub(1)];
        for _ in &all {
            output.value = output.value.checked_sub(dust).ok_or(Reject::BelowOut)?;
        }
        all.push(output);
        inner.accept(Transaction {
            version,
            lock_time: LockTime::ZERO,
            input: vec![opened(on)],
            output: all,
        })
    }

    /// Takes a transaction into the mempool as a node with the usual rules would.
    ///
    /// # Errors
    /// [`Reject`]: why not.
    pub fn submit(&self, tx: Transaction) -> Result<(), Reject> {
        self.lock().accept(tx)
    }

    /// Takes a parent and the child that pays for both as a node would.
    ///
    /// # Errors
    /// [`Reject`]: why not.
    pub fn submit_package(&self, package: &[Transaction]) -> Result<(), Reject> {
        self.lock().accept_package(package)
    }

    /// A transaction that pays `value` to `script` and no fee at all, handed to nobody.
    #[must_use]
    pub fn unpaid(&self, script: &Script, value: Amount) -> Transaction {
        let less = value.checked_sub(Amount::from_sat(FAUCET_FEE));
        let mut tx = self.lock().faucet(script, less.unwrap_or(Amount::ZERO));
        for output in &mut tx.output {
            output.value = value;
        }
        tx
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

    /// How an output stands, also while the source is told to be away.
    #[must_use]
    pub fn seen(&self, outpoint: OutPoint) -> Option<Seen> {
        self.lock().seen(outpoint)
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

    /// Unspent outputs to `script` in blocks from height `since` on.
    #[must_use]
    pub fn coins_to(&self, script: &Script, since: u32) -> Vec<WalletCoin> {
        let inner = self.lock();
        let mut found = Vec::new();
        for (txid, (tx, height)) in &inner.chain {
            for (vout, output) in (0_u32..).zip(&tx.output) {
                let outpoint = OutPoint::new(*txid, vout);
                let unspent = !inner.spent.contains_key(&outpoint);
                if output.script_pubkey == *script && unspent && *height >= since {
                    found.push(WalletCoin {
                        outpoint,
                        value: output.value,
                        since: *height,
                    });
                }
            }
        }
        found
    }

    /// The same as a source would say it.
    ///
    /// # Errors
    /// [`ChainError::Away`] where it was told to be, or to search nothing.
    pub fn search(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        let inner = self.lock();
        if inner.away || inner.unsearched {
            return Err(ChainError::Away("told to be away".into()));
        }
        drop(inner);
        Ok(self.coins_to(script, since))
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
        let asked = |watch: &&Watch| !inner.left_out.contains(&watch.outpoint);
        let outputs = watches.iter().filter(asked).map(|watch| OutputState {
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

/// An input that spends an output to [`open_home`].
fn opened(on: OutPoint) -> TxIn {
    TxIn {
        previous_output: on,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[opened_by().to_bytes()]),
    }
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

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        self.search(script, since)
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        if self.lock().away {
            return Err(ChainError::Away("told to be away".into()));
        }
        let submitted = self.submit(tx.clone());
        submitted.map_err(|reject| ChainError::Refused(reject.to_string()))
    }

    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        if self.lock().away {
            return Err(ChainError::Away("told to be away".into()));
        }
        let submitted = self.submit_package(package);
        submitted.map_err(|reject| ChainError::Refused(reject.to_string()))
    }
}
