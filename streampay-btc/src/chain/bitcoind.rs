//! Bitcoin Core over its JSON-RPC: no wallet, no index. Bitcoin Core 25 or later.

mod find;

use std::collections::HashMap;
use std::path::PathBuf;

use async_trait::async_trait;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{
    Amount, Block, BlockHash, Denomination, FeeRate, Network, OutPoint, Script, ScriptBuf,
    Transaction, TxOut, Txid,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::http::{call, shown};
use super::{ChainError, ChainSource, ChainView, FeeTable, OutputState, Seen, Spend, Watch};

/// Targets that estimates are asked for, in blocks.
const TARGETS: [u32; 6] = [2, 3, 6, 12, 36, 144];
/// The most blocks that one look goes through: more are left to the next. It comes to that only
/// for what was spent while nobody looked.
const SCAN_MAX: u32 = 288;

/// How a node lets its users in.
#[derive(Clone)]
pub enum RpcAuth {
    /// Name and password.
    UserPass(String, String),
    /// The node's cookie file, read at every call: it changes when the node starts.
    Cookie(PathBuf),
}

impl core::fmt::Debug for RpcAuth {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UserPass(..) => f.write_str("UserPass(<redacted>)"),
            Self::Cookie(path) => f.debug_tuple("Cookie").field(path).finish(),
        }
    }
}

/// A node of Bitcoin Core.
///
/// It sees spends of outputs that it is asked about: unspent ones by `gettxout`, spends that wait
/// by `gettxspendingprevout`, others in the blocks since, each read once. So are the transactions
/// that wait for a block, where an output is looked for by its script: in a full mempool that takes
/// several calls of [`ChainSource::find`].
#[derive(Debug)]
pub struct BitcoinCore {
    url: String,
    auth: RpcAuth,
    network: Network,
    fallback: FeeRate,
    scans: Mutex<HashMap<OutPoint, Scan>>,
    searches: Mutex<find::Searches>,
}

/// What is known of an output from blocks.
#[derive(Clone, Debug, Default)]
struct Scan {
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
            searches: Mutex::default(),
        }
    }

    /// Calls the node. For tests and for what this source does not do.
    ///
    /// # Errors
    /// [`ChainError::Away`] where it does not answer or is still starting,
    /// [`ChainError::Refused`] with the node's own words where it says no.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, ChainError> {
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        let request = bitreq::Request::new(bitreq::Method::Post, self.url.as_str())
            .with_header("Content-Type", "application/json")
            .with_header("Authorization", self.authorization()?)
            .with_body(body.to_string());
        let (status, body) = call(request).await?;
        if status == 401 || status == 403 {
            return Err(ChainError::Away("wrong user, password or cookie".into()));
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|_| ChainError::Nonsense(shown(&body)))?;
        let error = answer.get("error").filter(|error| !error.is_null());
        match error {
            None => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
            // Still starting. Source: Bitcoin Core, `RPC_IN_WARMUP`.
            Some(error) if code(error) == -28 => Err(ChainError::Away("starting".into())),
            Some(error) => Err(ChainError::Refused(words(error))),
        }
    }

    fn authorization(&self) -> Result<String, ChainError> {
        let plain = match &self.auth {
            RpcAuth::UserPass(user, password) => format!("{user}:{password}"),
            RpcAuth::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|error| ChainError::Away(format!("cookie: {error}")))?,
        };
        Ok(format!("Basic {}", base64(plain.trim().as_bytes())))
    }

    async fn fees(&self) -> Result<FeeTable, ChainError> {
        let info = self.rpc("getmempoolinfo", json!([])).await?;
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

    async fn state(
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
            return Ok(Some(Seen {
                truc: height.is_none() && self.is_truc(outpoint.txid).await?,
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
                    truc: false,
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
                truc: is_truc(&parent),
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
                    truc: false,
                    spend: Some(spend),
                })
            },
            |found| {
                Some(Seen {
                    output: found.what.0,
                    height: Some(found.height),
                    coinbase: found.what.1,
                    truc: false,
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
    async fn raw(&self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        let params = json!([txid.to_string()]);
        match self.rpc("getrawtransaction", params).await {
            Ok(Value::String(hex)) => Ok(deserialize_hex(&hex).ok()),
            Ok(_) => Err(ChainError::Nonsense("getrawtransaction".into())),
            Err(ChainError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn is_truc(&self, txid: Txid) -> Result<bool, ChainError> {
        Ok(self.raw(txid).await?.is_some_and(|tx| is_truc(&tx)))
    }

    async fn hash_at(&self, height: u32) -> Result<BlockHash, ChainError> {
        let hash = self.rpc("getblockhash", json!([height])).await?;
        let hash = hash.as_str().and_then(|hash| hash.parse().ok());
        hash.ok_or_else(|| ChainError::Nonsense("getblockhash".into()))
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let block = self.rpc("getblock", json!([hash.to_string(), 0])).await?;
        let block = block.as_str().and_then(|hex| deserialize_hex(hex).ok());
        block.ok_or_else(|| ChainError::Nonsense("getblock".into()))
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
}

#[async_trait]
impl ChainSource for BitcoinCore {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        let mut scans = self.scans.lock().await;
        let tip = self.tip().await?;
        let fees = self.fees().await?;
        let mut outputs = Vec::with_capacity(watches.len());
        for watch in watches {
            let scan = scans.entry(watch.outpoint).or_default();
            outputs.push(OutputState {
                outpoint: watch.outpoint,
                seen: self.state(watch, tip, scan).await?,
            });
        }
        let watched = |outpoint: &OutPoint| watches.iter().any(|of| of.outpoint == *outpoint);
        scans.retain(|outpoint, _| watched(outpoint));
        // A block that came meanwhile: part of what was seen is of another chain.
        if self.tip().await?.1 != tip.1 {
            return Err(ChainError::Away("a block came while looking".into()));
        }
        Ok(ChainView {
            tip: tip.0,
            fees,
            outputs,
        })
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        self.search((script.to_owned(), value), since).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        // The machine decides what a transaction may cost, not the node.
        let params = json!([serialize_hex(tx), 0]);
        match self.rpc("sendrawtransaction", params).await {
            Ok(_) => Ok(()),
            Err(ChainError::Refused(why)) if is_known(&why) => Ok(()),
            Err(error) => Err(error),
        }
    }
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

fn output_of(tx: &Transaction, outpoint: OutPoint) -> Option<TxOut> {
    let vout = usize::try_from(outpoint.vout).ok()?;
    tx.output.get(vout).cloned()
}

fn is_truc(tx: &Transaction) -> bool {
    let segwit = tx.input.iter().all(|input| input.script_sig.is_empty());
    segwit && tx.version == bitcoin::transaction::Version(3)
}

fn code(error: &Value) -> i64 {
    error
        .get("code")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn words(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str);
    shown(message.unwrap_or("no reason given").as_bytes())
}

/// An amount in bitcoin, as the node writes it.
fn btc(value: &Value) -> Option<Amount> {
    let text = format!("{:.8}", value.as_f64()?);
    Amount::from_str_in(&text, Denomination::Bitcoin).ok()
}

/// A feerate in bitcoin for 1000 virtual bytes.
fn btc_per_kvb(value: &Value) -> Option<FeeRate> {
    let sat_per_kvb = btc(value)?.to_sat();
    Some(FeeRate::from_sat_per_kwu(sat_per_kvb.div_ceil(4)))
}

/// Source: RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let shift = 18_usize.saturating_sub(at.saturating_mul(6));
            let index = usize::try_from(bits >> shift & 63).unwrap_or_default();
            let symbol = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(char::from(if at > chunk.len() { b'=' } else { symbol }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 4648, section 10.
    #[test]
    fn base64_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn amounts_are_read_to_the_satoshi() {
        for (text, sat) in [
            ("0.00000001", 1),
            ("1e-8", 1),
            ("20999999.9769", 2_099_999_997_690_000),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(btc(&value), Some(Amount::from_sat(sat)), "{text}");
        }
        assert_eq!(btc(&json!(-1)), None);
        let rate: Value = json!(0.00001);
        assert_eq!(btc_per_kvb(&rate), Some(FeeRate::BROADCAST_MIN));
    }
}
