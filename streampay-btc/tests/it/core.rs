//! A node of Bitcoin Core in front of a simulated chain: as much of its JSON-RPC as the adapter asks for,
//! with every call counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, FeeRate, Network, OutPoint, Script, ScriptBuf,
    Transaction, TxMerkleNode, Txid,
};
use serde_json::{Value, json};
use streampay_btc::chain::{BitcoinCore, ChainSource, RpcAuth};
use streampay_btc::sim::{ChainLab, SimChain};

use super::esplora::listen;

/// How often each method was called.
pub(crate) type Calls = Arc<Mutex<BTreeMap<String, usize>>>;

/// What the node has pruned, and whether it says what is unspent.
#[derive(Default)]
pub(crate) struct Pruned {
    /// The first block that it has.
    pub(crate) kept: u32,
    pub(crate) scans: bool,
}

/// A node, and the adapter that asks it.
pub(crate) struct Lab {
    pub(crate) chain: SimChain,
    pub(crate) source: BitcoinCore,
    pub(crate) calls: Calls,
    pub(crate) pruned: Arc<Mutex<Pruned>>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::spoiled(0).await
    }

    /// With a block in each of the first looks, so many.
    pub(crate) async fn spoiled(blocks: usize) -> Self {
        let (chain, calls) = (SimChain::new(), Calls::default());
        let (asked, counted) = (chain.clone(), Arc::clone(&calls));
        let spoil = spoiler(chain.clone(), blocks);
        let pruned = Arc::<Mutex<Pruned>>::default();
        let of = Arc::clone(&pruned);
        let url = listen(move |_, _, body| {
            let request: Value = serde_json::from_str(body).unwrap();
            let method = request["method"].as_str().unwrap();
            *counted
                .lock()
                .unwrap()
                .entry(method.to_owned())
                .or_default() += 1;
            if method == "getmempoolinfo" {
                spoil();
            }
            let answer = match answer(&asked, &of.lock().unwrap(), method, &request["params"]) {
                Ok(result) => json!({"result": result, "error": null}),
                Err((code, why)) => json!({"error": {"code": code, "message": why}}),
            };
            (200, answer.to_string().into_bytes())
        })
        .await;
        let auth = RpcAuth::UserPass("user".into(), "password".into());
        let fallback = FeeRate::from_sat_per_vb_u32(2);
        Self {
            source: BitcoinCore::new(&url, auth, Network::Regtest, fallback),
            chain,
            calls,
            pruned,
        }
    }
}

#[async_trait]
impl ChainLab for Lab {
    fn source(&self) -> &dyn ChainSource {
        &self.source
    }

    async fn pay(&self, script: &Script, value: Amount) -> OutPoint {
        self.chain.pay(script, value).unwrap()
    }

    async fn pay_after(&self, script: &Script, value: Amount) -> OutPoint {
        self.chain.pay_after(script, value).unwrap()
    }

    async fn unpaid(&self, script: &Script, value: Amount) -> Transaction {
        self.chain.unpaid(script, value)
    }

    async fn mine(&self, blocks: u32) {
        self.chain.mine(blocks);
    }

    async fn reorganise(&self, depth: u32) {
        self.chain.reorganise(depth, &[]);
    }
}

/// Mines a block each time that it is called, so many times.
pub(crate) fn spoiler(chain: SimChain, blocks: usize) -> impl Fn() + Send + Sync + 'static {
    let left = AtomicUsize::new(blocks);
    move || {
        let less = |left: usize| left.checked_sub(1);
        if left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
        {
            chain.mine(1);
        }
    }
}

type Answer = Result<Value, (i32, String)>;

fn answer(chain: &SimChain, pruned: &Pruned, method: &str, params: &Value) -> Answer {
    let txid = || params[0].as_str().unwrap().parse::<Txid>().unwrap();
    let unknown = || (-5, "No such transaction".to_owned());
    Ok(match method {
        "getblockchaininfo" => {
            let tip = chain.tip();
            let best = block(chain, tip).block_hash().to_string();
            let mut info = json!({"chain": "regtest", "blocks": tip, "bestblockhash": best});
            if pruned.kept > 0 {
                info["pruneheight"] = json!(pruned.kept);
            }
            info
        }
        "getmempoolinfo" => {
            json!({"loaded": true, "mempoolminfee": 0.00001, "minrelaytxfee": 0.00001})
        }
        "estimatesmartfee" => json!({"feerate": 0.00002}),
        "gettxout" => {
            let vout = params[1].as_u64().unwrap().try_into().unwrap();
            let waiting = params[2].as_bool().unwrap();
            unspent(chain, OutPoint::new(txid(), vout), waiting)
        }
        "gettxspendingprevout" => {
            let of = &params[0][0];
            let txid = of["txid"].as_str().unwrap().parse().unwrap();
            let vout = of["vout"].as_u64().unwrap().try_into().unwrap();
            match chain.spender(OutPoint::new(txid, vout)) {
                Some((tx, None)) => json!([{"spendingtxid": tx.compute_txid().to_string()}]),
                _ => json!([{}]),
            }
        }
        "getrawmempool" => {
            let waiting = chain.waiting().into_iter();
            waiting
                .map(|tx| json!(tx.compute_txid().to_string()))
                .collect()
        }
        "getrawtransaction" => match chain.transaction(txid()) {
            Some((tx, None)) => json!(serialize_hex(&tx)),
            _ => return Err(unknown()),
        },
        "getmempoolentry" => match chain.transaction(txid()) {
            Some((tx, None)) => entry(chain, &tx),
            _ => return Err(unknown()),
        },
        "getblockhash" => {
            let height = params[0].as_u64().unwrap().try_into().unwrap();
            json!(block(chain, height).block_hash().to_string())
        }
        "getblock" => {
            let hash: BlockHash = params[0].as_str().unwrap().parse().unwrap();
            let mut blocks = (pruned.kept..=chain.tip())
                .rev()
                .map(|height| block(chain, height));
            let found = blocks.find(|block| block.block_hash() == hash);
            let gone = || (-1, "Block not available (pruned data)".to_owned());
            json!(serialize_hex(&found.ok_or_else(gone)?))
        }
        "scantxoutset" if pruned.scans => scan(chain, params[1][0].as_str().unwrap()),
        "scantxoutset" => return Err((-8, "Scan already in progress".to_owned())),
        "sendrawtransaction" => send(chain, params[0].as_str().unwrap())?,
        "submitpackage" => package(chain, &params[0]),
        other => return Err((-32601, format!("no method {other}"))),
    })
}

/// A block of another chain has other transactions, or another height.
fn block(chain: &SimChain, height: u32) -> Block {
    let all = chain.transactions().into_iter();
    let txdata: Vec<Transaction> = all
        .filter(|(_, at)| *at == Some(height))
        .map(|(tx, _)| tx)
        .collect();
    let txids: Vec<u8> = txdata
        .iter()
        .flat_map(|tx| tx.compute_txid().to_byte_array())
        .collect();
    Block {
        header: Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::from_byte_array(sha256::Hash::hash(&txids).to_byte_array()),
            time: height,
            bits: CompactTarget::from_consensus(0),
            nonce: 0,
        },
        txdata,
    }
}

/// All that is unspent to `raw(SCRIPT)`.
fn scan(chain: &SimChain, descriptor: &str) -> Value {
    let hex = descriptor.strip_prefix("raw(").unwrap();
    let script = ScriptBuf::from_hex(hex.strip_suffix(')').unwrap()).unwrap();
    let coins = chain.coins_to(&script, 0).into_iter();
    let unspents: Vec<Value> = coins
        .map(|coin| {
            let (txid, vout) = (coin.outpoint.txid.to_string(), coin.outpoint.vout);
            let amount = coin.value.to_btc();
            json!({"txid": txid, "vout": vout, "amount": amount, "height": coin.since})
        })
        .collect();
    let tip = chain.tip();
    let best = block(chain, tip).block_hash().to_string();
    json!({"height": tip, "bestblock": best, "unspents": unspents})
}

fn unspent(chain: &SimChain, outpoint: OutPoint, waiting: bool) -> Value {
    let tip = chain.tip();
    let free = chain.seen(outpoint).filter(|seen| match &seen.spend {
        Some(spend) => !waiting && spend.height.is_none() && seen.height.is_some(),
        None => waiting || seen.height.is_some(),
    });
    free.map_or(Value::Null, |seen| {
        json!({
            "confirmations": seen.depth(tip),
            "value": seen.output.value.to_btc(),
            "scriptPubKey": {"hex": seen.output.script_pubkey.to_hex_string()},
            "coinbase": seen.coinbase,
        })
    })
}

fn entry(chain: &SimChain, tx: &Transaction) -> Value {
    let (mut ancestors, mut next) = (BTreeSet::new(), vec![tx.clone()]);
    while let Some(tx) = next.pop() {
        if ancestors.insert(tx.compute_txid()) {
            let spent = tx
                .input
                .iter()
                .map(|input| chain.transaction(input.previous_output.txid));
            next.extend(
                spent
                    .flatten()
                    .filter(|(_, at)| at.is_none())
                    .map(|(tx, _)| tx),
            );
        }
    }
    let spent = tx
        .input
        .iter()
        .map(|input| chain.seen(input.previous_output).unwrap().output.value);
    let out: Amount = tx.output.iter().map(|output| output.value).sum();
    let fee = spent.sum::<Amount>() - out;
    json!({"ancestorcount": ancestors.len(), "fees": {"base": fee.to_btc()}})
}

fn send(chain: &SimChain, hex: &str) -> Answer {
    let tx: Transaction = deserialize_hex(hex).unwrap();
    let txid = tx.compute_txid();
    if chain.transaction(txid).is_some_and(|(_, at)| at.is_some()) {
        return Err((-27, "Transaction outputs already in utxo set".into()));
    }
    let sent = chain.submit(tx).map(|()| json!(txid.to_string()));
    sent.map_err(|reject| (-26, reject.to_string()))
}

fn package(chain: &SimChain, all: &Value) -> Value {
    let all = all.as_array().unwrap().iter();
    let all: Vec<Transaction> = all
        .map(|hex| deserialize_hex(hex.as_str().unwrap()).unwrap())
        .collect();
    match chain.submit_package(&all) {
        Ok(()) => json!({"package_msg": "success", "tx-results": {}}),
        Err(reject) => {
            json!({"package_msg": "transaction failed", "tx-results": {"": {"error": reject.to_string()}}})
        }
    }
}
