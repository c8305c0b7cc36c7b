//! Bitcoin Core over its JSON-RPC: no wallet, no index. Bitcoin Core 25 or later.

mod find;
mod rpc;
mod scan;

use std::collections::HashMap;

use async_trait::async_trait;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, BlockHash, FeeRate, Network, OutPoint, Script, Transaction, Txid};
use serde_json::{Value, json};
use tokio::sync::Mutex;

pub use self::rpc::RpcAuth;
use self::rpc::{btc, btc_per_kvb};
use self::scan::{Scan, State};
use super::{
    BLOCKS_CAME, ChainError, ChainSource, ChainView, FeeTable, LOOKS, OutputState, Seen, Watch,
    one_by_one,
};
use crate::machine::WalletCoin;

/// Targets that estimates are asked for, in blocks.
const TARGETS: [u32; 6] = [2, 3, 6, 12, 36, 144];
/// What may go to outputs that nobody can spend, in bitcoin: whoever made the funding says so.
const BURN_MAX: u32 = 21_000_000;
/// The most blocks that one look goes through: more are left to the next. It comes to that only
/// for what was spent while nobody looked.
const SCAN_MAX: u32 = 288;

/// A node of Bitcoin Core.
///
/// It sees spends of outputs that it is asked about: unspent ones by `gettxout`, spends that wait
/// by `gettxspendingprevout`, others in the blocks since, each read once for all of them. So are the
/// transactions that wait for a block, where an output is looked for by its script: in a full mempool
/// that takes several calls of [`ChainSource::find`].
///
/// A pruned node has to have the blocks since an output was last seen unspent. Machines write that down
/// every 36 blocks, so one that keeps the least, 288, serves whoever looks once a day. What it has
/// pruned it says in the log, and of an output whose spend may be there it says nothing else. What is paid to
/// a script is found by `scantxoutset` once; where that takes too long, what the blocks that it has hold is
/// told with [`ChainError::Pruned`], and it is asked again some blocks later.
#[derive(Debug)]
pub struct BitcoinCore {
    url: String,
    auth: RpcAuth,
    network: Network,
    fallback: FeeRate,
    scans: Mutex<HashMap<OutPoint, Scan>>,
    outputs: Mutex<find::Outputs>,
}

impl BitcoinCore {
    /// The node at `url`, as `http://127.0.0.1:18443`, on `network`. `fallback` is the feerate
    /// where the node has no estimate.
    #[must_use]
    pub fn new(url: &str, auth: RpcAuth, network: Network, fallback: FeeRate) -> Self {
        Self {
            url: url.to_owned(),
            auth,
            network,
            fallback,
            scans: Mutex::new(HashMap::new()),
            outputs: Mutex::default(),
        }
    }

    async fn fees(&self) -> Result<FeeTable, ChainError> {
        let info = self.rpc("getmempoolinfo", json!([])).await?;
        // Until then it does not know what waits, and what is not known is not gone.
        if info.get("loaded") == Some(&Value::Bool(false)) {
            return Err(ChainError::Away("the node still reads its mempool".into()));
        }
        let least = |name: &str| info.get(name).and_then(btc_per_kvb);
        let floor = [least("mempoolminfee"), least("minrelaytxfee")];
        let floor = floor.into_iter().flatten().max();
        let floor = floor.unwrap_or(FeeRate::BROADCAST_MIN);
        let mut targets = Vec::with_capacity(TARGETS.len());
        for target in TARGETS {
            let estimate = self.rpc("estimatesmartfee", json!([target])).await?;
            let rate = estimate.get("feerate").and_then(btc_per_kvb);
            targets.push((target, rate.unwrap_or(self.fallback)));
        }
        Ok(FeeTable { targets, floor })
    }

    /// One output could not be looked at. Where the node is away, nothing is said of any.
    async fn left_out(&self, outpoint: OutPoint, error: &ChainError) -> Result<(), ChainError> {
        self.tip().await?;
        tracing::warn!(%outpoint, %error, "an output cannot be looked at");
        Ok(())
    }

    /// What a transaction pays that waits for a block and spends nothing that does; none for others.
    async fn fee_alone(&self, txid: Txid) -> Result<Option<Amount>, ChainError> {
        match self.rpc("getmempoolentry", json!([txid.to_string()])).await {
            Ok(entry) => {
                let fee = entry.pointer("/fees/base").and_then(btc);
                let fee = fee.ok_or_else(|| ChainError::Nonsense("getmempoolentry".into()))?;
                // It counts itself.
                let alone = entry.get("ancestorcount").and_then(Value::as_u64) == Some(1);
                Ok(alone.then_some(fee))
            }
            // It is not there any more.
            Err(ChainError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tip(&self) -> Result<(u32, BlockHash), ChainError> {
        let info = self.rpc("getblockchaininfo", json!([])).await?;
        let chain = info.get("chain").and_then(Value::as_str);
        if chain != Some(self.network.to_core_arg()) {
            return Err(ChainError::Network);
        }
        let height = info.get("blocks").and_then(Value::as_u64);
        let height = height.and_then(|height| u32::try_from(height).ok());
        let hash = info.get("bestblockhash").and_then(Value::as_str);
        let hash = hash.and_then(|hash| hash.parse().ok());
        height
            .zip(hash)
            .ok_or_else(|| ChainError::Nonsense("getblockchaininfo".into()))
    }

    /// None where a block came meanwhile: part of what was seen is of another chain.
    async fn look(&self, watches: &[Watch]) -> Result<Option<ChainView>, ChainError> {
        let mut scans = self.scans.lock().await;
        let tip = self.tip().await?;
        let fees = self.fees().await?;
        let mut outputs = Vec::with_capacity(watches.len());
        let mut spent = Vec::new();
        for watch in watches {
            let outpoint = watch.outpoint;
            let scan = scans.entry(outpoint).or_default();
            match self.state(watch, tip, scan).await {
                Ok(State::Known(seen)) => outputs.push(OutputState { outpoint, seen }),
                Ok(State::InBlocks) => spent.push(watch),
                Err(error) => self.left_out(outpoint, &error).await?,
            }
        }
        if let Err(error) = self.read_spends(&spent, tip, &mut scans).await {
            self.tip().await?;
            tracing::warn!(%error, "blocks cannot be read");
        }
        for watch in spent {
            let outpoint = watch.outpoint;
            let scan = scans.entry(outpoint).or_default();
            match scan.seen(watch, tip.0) {
                Ok(seen) => outputs.push(OutputState { outpoint, seen }),
                Err(error) => self.left_out(outpoint, &error).await?,
            }
        }
        let watched = |outpoint: &OutPoint| watches.iter().any(|of| of.outpoint == *outpoint);
        scans.retain(|outpoint, _| watched(outpoint));
        let same = self.tip().await?.1 == tip.1;
        Ok(same.then_some(ChainView {
            tip: tip.0,
            fees,
            outputs,
        }))
    }
}

#[async_trait]
impl ChainSource for BitcoinCore {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        for _ in 0..LOOKS {
            if let Some(view) = self.look(watches).await? {
                return Ok(view);
            }
        }
        Err(ChainError::Away(BLOCKS_CAME.into()))
    }

    async fn output(&self, watch: &Watch) -> Result<(u32, Option<Seen>), ChainError> {
        let tip = self.tip().await?;
        let state = self.state(watch, tip, &mut Scan::default()).await?;
        Ok((tip.0, state.unspent()))
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        let found = self.search(script.to_owned(), value, since).await?;
        Ok(found.into_iter().map(|of| of.outpoint).collect())
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        let (found, whole) = self.in_blocks(script.to_owned(), since).await?;
        let mut coins = Vec::new();
        for of in found {
            let Some(since) = of.height else { continue };
            // Null where something spends it, also where that waits for a block.
            let params = json!([of.outpoint.txid.to_string(), of.outpoint.vout, true]);
            if !self.rpc("gettxout", params).await?.is_null() {
                coins.push(WalletCoin {
                    outpoint: of.outpoint,
                    value: of.value,
                    since,
                });
            }
        }
        if whole {
            Ok(coins)
        } else {
            Err(ChainError::Pruned(coins))
        }
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        // The machine decides what a transaction may cost, not the node.
        let params = json!([serialize_hex(tx), 0, BURN_MAX]);
        match self.rpc("sendrawtransaction", params).await {
            Ok(_) => Ok(()),
            Err(ChainError::Refused(why)) if is_known(&why) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        let all: Vec<String> = package.iter().map(serialize_hex).collect();
        let why = match self.rpc("submitpackage", json!([all, 0, BURN_MAX])).await {
            Ok(answer) => match package_refusal(&answer) {
                None => return Ok(()),
                Some(why) => why,
            },
            // Also where the node is too old to know packages: its words say so.
            Err(ChainError::Refused(why)) => why,
            Err(error) => return Err(error),
        };
        // A member that is in a block already makes a package invalid, and nothing else need be.
        one_by_one(self, package, &why).await
    }
}

/// Why the node did not take a package; none where it did. Source: Bitcoin Core, `submitpackage`.
fn package_refusal(answer: &Value) -> Option<String> {
    let whole = answer.get("package_msg").and_then(Value::as_str);
    if whole == Some("success") {
        return None;
    }
    let each = answer.get("tx-results").and_then(Value::as_object);
    let each = each.into_iter().flatten().filter_map(|(_, of)| {
        let error = of.get("error").and_then(Value::as_str)?;
        Some(error.to_owned())
    });
    let words: Vec<String> = whole.map(str::to_owned).into_iter().chain(each).collect();
    Some(super::http::shown(words.join("; ").as_bytes()))
}

/// The node has it already. Source: Bitcoin Core, `TransactionErrorString`.
fn is_known(why: &str) -> bool {
    [
        "already in utxo set",
        "already in block chain",
        "already-in-mempool",
        "txn-already-known",
    ]
    .iter()
    .any(|known| why.contains(known))
}
