//! How an output stands: unspent, spent by what waits, or spent in a block.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use super::rpc::btc;
use super::{BitcoinCore, SCAN_MAX};
use crate::chain::{ChainError, Seen, Spend, Watch};

/// What is known of an output from blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// The last block that was searched.
    upto: Option<(u32, BlockHash)>,
    funding: Option<Found<(TxOut, bool)>>,
    spend: Option<Found<Transaction>>,
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
    ) -> Result<Option<Seen>, ChainError> {
        let outpoint = watch.outpoint;
        if let Some((output, height, coinbase)) = self.unspent(outpoint, true, tip.0).await? {
            if let Some(height) = height {
                self.note_unspent(scan, tip, height, &output, coinbase)
                    .await?;
            }
            let parent = match height {
                None => self.raw(outpoint.txid).await?.filter(is_truc),
                Some(_) => None,
            };
            return Ok(Some(Seen {
                parent,
                output,
                height,
                coinbase,
                spend: None,
            }));
        }
        let waiting = self.waiting_spend(outpoint).await?;
        if let Some(tx) = waiting {
            let spend = Some(Spend { tx, height: None });
            if let Some((output, height, coinbase)) = self.unspent(outpoint, false, tip.0).await? {
                return Ok(Some(Seen {
                    output,
                    height,
                    coinbase,
                    parent: None,
                    spend,
                }));
            }
            // Both wait.
            let Some(parent) = self.raw(outpoint.txid).await? else {
                return Ok(None);
            };
            return Ok(output_of(&parent, outpoint).map(|output| Seen {
                output,
                height: None,
                coinbase: false,
                parent: is_truc(&parent).then(|| parent.clone()),
                spend,
            }));
        }
        if watch.since > tip.0 {
            return Ok(None);
        }
        self.scan(watch, tip, scan).await?;
        let spend = scan.spend.clone().map(|found| Spend {
            tx: found.what,
            height: Some(found.height),
        });
        Ok(scan.funding.clone().map_or_else(
            || {
                // Created before the watch began: the spend is what counts.
                spend.clone().map(|spend| Seen {
                    output: TxOut {
                        value: Amount::ZERO,
                        script_pubkey: watch.script.clone(),
                    },
                    height: Some(watch.since.saturating_sub(1)),
                    coinbase: false,
                    parent: None,
                    spend: Some(spend),
                })
            },
            |found| {
                Some(Seen {
                    output: found.what.0,
                    height: Some(found.height),
                    coinbase: found.what.1,
                    parent: None,
                    spend: spend.clone(),
                })
            },
        ))
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
        scan.spend = None;
        scan.funding = Some(Found {
            height,
            hash,
            what: (output.clone(), coinbase),
        });
        Ok(())
    }

    /// Searches the blocks since the last time. What was found in blocks that are no more is
    /// forgotten.
    async fn scan(
        &self,
        watch: &Watch,
        tip: (u32, BlockHash),
        scan: &mut Scan,
    ) -> Result<(), ChainError> {
        let places = [
            scan.upto,
            scan.funding
                .as_ref()
                .map(|found| (found.height, found.hash)),
            scan.spend.as_ref().map(|found| (found.height, found.hash)),
        ];
        for (height, hash) in places.into_iter().flatten() {
            if height > tip.0 || self.hash_at(height).await? != hash {
                *scan = Scan::default();
                break;
            }
        }
        let first = scan
            .upto
            .map_or(watch.since, |(height, _)| height.saturating_add(1));
        let last = tip.0.min(first.saturating_add(SCAN_MAX));
        for height in first..=last {
            let hash = self.hash_at(height).await?;
            let block = self.block(hash).await?;
            for tx in block.txdata {
                let spends = |tx: &Transaction| {
                    let mut inputs = tx.input.iter();
                    inputs.any(|input| input.previous_output == watch.outpoint)
                };
                if tx.compute_txid() == watch.outpoint.txid {
                    let what = output_of(&tx, watch.outpoint).map(|out| (out, tx.is_coinbase()));
                    scan.funding = what.map(|what| Found { height, hash, what });
                } else if spends(&tx) {
                    let what = tx;
                    scan.spend = Some(Found { height, hash, what });
                }
            }
            scan.upto = Some((height, hash));
        }
        if last < tip.0 {
            return Err(ChainError::Away("still reading blocks".into()));
        }
        Ok(())
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
