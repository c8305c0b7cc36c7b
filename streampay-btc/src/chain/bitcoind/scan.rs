//! How an output stands: unspent, spent by what waits, or spent in a block.

use std::collections::HashMap;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use super::rpc::btc;
use super::{BitcoinCore, SCAN_MAX};
use crate::chain::{ChainError, Parent, Seen, Spend, Watch};

/// What is known of an output from blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// The last block that was searched.
    upto: Option<(u32, BlockHash)>,
    funding: Option<Found<(TxOut, bool)>>,
    spend: Option<Found<Transaction>>,
    /// The node has not kept all blocks that may hold the spend.
    missing: bool,
}

/// What the node says of an output at once.
pub(super) enum State {
    /// How it stands; none where it does not exist and nothing waits.
    Known(Option<Seen>),
    /// It is not unspent, and nothing that waits spends it: blocks may say.
    InBlocks,
}

impl State {
    pub(super) fn unspent(self) -> Option<Seen> {
        match self {
            Self::Known(seen) => seen,
            Self::InBlocks => None,
        }
    }
}

impl Scan {
    /// The first block that it was not looked for in.
    fn next(&self, watch: &Watch) -> u32 {
        let upto = self.upto.as_ref();
        upto.map_or(watch.since, |(height, _)| height.saturating_add(1))
    }

    /// Blocks that what is known rests on.
    fn places(&self) -> Vec<(u32, BlockHash)> {
        let funding = self.funding.as_ref();
        let spend = self.spend.as_ref();
        let found = [
            self.upto,
            funding.map(|found| (found.height, found.hash)),
            spend.map(|found| (found.height, found.hash)),
        ];
        found.into_iter().flatten().collect()
    }

    /// What blocks say of it, once all were read.
    pub(super) fn seen(&self, watch: &Watch, tip: u32) -> Result<Option<Seen>, ChainError> {
        if watch.since > tip {
            return Ok(None);
        }
        if self.next(watch) <= tip {
            return Err(ChainError::Away("still reading blocks".into()));
        }
        let spend = self.spend.as_ref().map(|found| Spend {
            tx: found.what.clone(),
            height: Some(found.height),
        });
        if spend.is_none() && self.missing {
            let why = "the node has pruned blocks that may hold the spend: use one that keeps them";
            return Err(ChainError::Refused(why.into()));
        }
        let (output, height, coinbase) = match (&self.funding, &spend) {
            (Some(found), _) => (found.what.0.clone(), found.height, found.what.1),
            // Created before the watch began: the spend is what counts.
            (None, Some(_)) => {
                let output = TxOut {
                    value: Amount::ZERO,
                    script_pubkey: watch.script.clone(),
                };
                (output, watch.since.saturating_sub(1), false)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Seen {
            output,
            height: Some(height),
            coinbase,
            parent: None,
            spend,
        }))
    }
}

#[derive(Clone, Debug)]
struct Found<T> {
    height: u32,
    hash: BlockHash,
    what: T,
}

impl BitcoinCore {
    pub(super) async fn state(
        &self,
        watch: &Watch,
        tip: (u32, BlockHash),
        scan: &mut Scan,
    ) -> Result<State, ChainError> {
        let outpoint = watch.outpoint;
        if let Some((output, height, coinbase)) = self.unspent(outpoint, true, tip.0).await? {
            if let Some(height) = height {
                self.note_unspent(scan, tip, height, &output, coinbase)
                    .await?;
            }
            let parent = match height {
                None => match self.raw(outpoint.txid).await? {
                    Some(tx) => self.parent(tx).await?,
                    None => None,
                },
                Some(_) => None,
            };
            return Ok(State::Known(Some(Seen {
                parent,
                output,
                height,
                coinbase,
                spend: None,
            })));
        }
        let waiting = self.waiting_spend(outpoint).await?;
        if let Some(tx) = waiting {
            let spend = Some(Spend { tx, height: None });
            if let Some((output, height, coinbase)) = self.unspent(outpoint, false, tip.0).await? {
                return Ok(State::Known(Some(Seen {
                    output,
                    height,
                    coinbase,
                    parent: None,
                    spend,
                })));
            }
            // Both wait.
            let Some(tx) = self.raw(outpoint.txid).await? else {
                return Ok(State::Known(None));
            };
            let Some(output) = output_of(&tx, outpoint) else {
                return Ok(State::Known(None));
            };
            return Ok(State::Known(Some(Seen {
                output,
                height: None,
                coinbase: false,
                parent: self.parent(tx).await?,
                spend,
            })));
        }
        Ok(State::InBlocks)
    }

    /// A transaction that waits, where a close can follow it.
    async fn parent(&self, tx: Transaction) -> Result<Option<Parent>, ChainError> {
        if !is_truc(&tx) {
            return Ok(None);
        }
        let fee = self.fee_alone(tx.compute_txid()).await?;
        Ok(fee.map(|fee| Parent { tx, fee }))
    }

    /// What is unspent now is not spent in any block so far: a search begins here.
    async fn note_unspent(
        &self,
        scan: &mut Scan,
        tip: (u32, BlockHash),
        height: u32,
        output: &TxOut,
        coinbase: bool,
    ) -> Result<(), ChainError> {
        let known = scan.funding.as_ref().map(|found| found.height);
        let first = known != Some(height);
        let hash = match &scan.funding {
            Some(found) if !first => found.hash,
            _ => self.hash_at(height).await?,
        };
        scan.upto = Some(tip);
        (scan.spend, scan.missing) = (None, false);
        scan.funding = Some(Found {
            height,
            hash,
            what: (output.clone(), coinbase),
        });
        Ok(())
    }

    /// Reads the blocks that these outputs have not been looked for in, each once for all of them, and
    /// no more than [`SCAN_MAX`]: the rest is left to the next look. What was found in blocks that are
    /// no more is forgotten.
    pub(super) async fn read_spends(
        &self,
        watches: &[&Watch],
        tip: (u32, BlockHash),
        scans: &mut HashMap<OutPoint, Scan>,
    ) -> Result<(), ChainError> {
        let mut hashes = HashMap::from([tip]);
        let mut first = tip.0.saturating_add(1);
        for watch in watches {
            let scan = scans.entry(watch.outpoint).or_default();
            for (height, hash) in scan.places() {
                let now = match hashes.get(&height) {
                    Some(now) => *now,
                    None if height > tip.0 => tip.1,
                    None => {
                        let now = self.hash_at(height).await?;
                        hashes.insert(height, now);
                        now
                    }
                };
                if now != hash {
                    *scan = Scan::default();
                    break;
                }
            }
            first = first.min(scan.next(watch));
        }
        if first > tip.0 {
            return Ok(());
        }
        let kept = self.kept_from().await?;
        for watch in watches {
            let scan = scans.entry(watch.outpoint).or_default();
            if scan.next(watch) < kept {
                let last = kept.saturating_sub(1);
                scan.missing = true;
                scan.upto = Some((last, self.hash_at(last).await?));
            }
        }
        let first = first.max(kept);
        for height in first..=tip.0.min(first.saturating_add(SCAN_MAX)) {
            let hash = self.hash_at(height).await?;
            let block = self.block(hash).await?;
            for tx in block.txdata {
                let txid = tx.compute_txid();
                for watch in watches {
                    let outpoint = watch.outpoint;
                    let Some(scan) = scans.get_mut(&outpoint) else {
                        continue;
                    };
                    let spends = || tx.input.iter().any(|of| of.previous_output == outpoint);
                    if scan.next(watch) != height {
                        continue;
                    }
                    if txid == outpoint.txid {
                        let what = output_of(&tx, outpoint).map(|out| (out, tx.is_coinbase()));
                        scan.funding = what.map(|what| Found { height, hash, what });
                    } else if spends() {
                        let what = tx.clone();
                        scan.spend = Some(Found { height, hash, what });
                    }
                }
            }
            for watch in watches {
                if let Some(scan) = scans.get_mut(&watch.outpoint)
                    && scan.next(watch) == height
                {
                    scan.upto = Some((height, hash));
                }
            }
        }
        Ok(())
    }

    /// The first block that the node has: above 0 where it is pruned.
    pub(super) async fn kept_from(&self) -> Result<u32, ChainError> {
        let info = self.rpc("getblockchaininfo", json!([])).await?;
        let height = info.get("pruneheight").and_then(Value::as_u64);
        Ok(height
            .and_then(|height| u32::try_from(height).ok())
            .unwrap_or(0))
    }

    async fn unspent(
        &self,
        outpoint: OutPoint,
        waiting: bool,
        tip: u32,
    ) -> Result<Option<(TxOut, Option<u32>, bool)>, ChainError> {
        let params = json!([outpoint.txid.to_string(), outpoint.vout, waiting]);
        let found = self.rpc("gettxout", params).await?;
        if found.is_null() {
            return Ok(None);
        }
        let nonsense = || ChainError::Nonsense("gettxout".into());
        let depth = found.get("confirmations").and_then(Value::as_u64);
        let depth = depth
            .and_then(|depth| u32::try_from(depth).ok())
            .ok_or_else(nonsense)?;
        let script = found.pointer("/scriptPubKey/hex").and_then(Value::as_str);
        let script = script
            .and_then(|hex| ScriptBuf::from_hex(hex).ok())
            .ok_or_else(nonsense)?;
        let output = TxOut {
            value: found.get("value").and_then(btc).ok_or_else(nonsense)?,
            script_pubkey: script,
        };
        let height = (depth > 0).then(|| tip.saturating_add(1).saturating_sub(depth));
        let coinbase = found.get("coinbase").and_then(Value::as_bool);
        Ok(Some((output, height, coinbase.unwrap_or_default())))
    }

    async fn waiting_spend(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ChainError> {
        let of = json!([[{"txid": outpoint.txid.to_string(), "vout": outpoint.vout}]]);
        let found = self.rpc("gettxspendingprevout", of).await?;
        let txid = found.pointer("/0/spendingtxid").and_then(Value::as_str);
        match txid.and_then(|txid| txid.parse().ok()) {
            Some(txid) => self.raw(txid).await,
            None => Ok(None),
        }
    }

    /// A transaction that waits for a block.
    pub(super) async fn raw(&self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        let params = json!([txid.to_string()]);
        match self.rpc("getrawtransaction", params).await {
            Ok(Value::String(hex)) => Ok(deserialize_hex(&hex).ok()),
            Ok(_) => Err(ChainError::Nonsense("getrawtransaction".into())),
            Err(ChainError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn hash_at(&self, height: u32) -> Result<BlockHash, ChainError> {
        let hash = self.rpc("getblockhash", json!([height])).await?;
        let hash = hash.as_str().and_then(|hash| hash.parse().ok());
        hash.ok_or_else(|| ChainError::Nonsense("getblockhash".into()))
    }

    pub(super) async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let block = self.rpc("getblock", json!([hash.to_string(), 0])).await?;
        let block = block.as_str().and_then(|hex| deserialize_hex(hex).ok());
        block.ok_or_else(|| ChainError::Nonsense("getblock".into()))
    }
}

fn output_of(tx: &Transaction, outpoint: OutPoint) -> Option<TxOut> {
    let vout = usize::try_from(outpoint.vout).ok()?;
    tx.output.get(vout).cloned()
}

fn is_truc(tx: &Transaction) -> bool {
    let segwit = tx.input.iter().all(|input| input.script_sig.is_empty());
    segwit && tx.version == bitcoin::transaction::Version(3)
}
