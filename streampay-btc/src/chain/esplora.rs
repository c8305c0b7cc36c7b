//! An Esplora server over HTTP.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{Amount, FeeRate, Network, OutPoint, Script, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::http::{BODY_MAX, call_up_to, shown};
use super::{
    BLOCKS_CAME, ChainError, ChainSource, ChainView, FeeTable, LOOKS, OutputState, Parent, Seen,
    Spend, Watch, one_by_one,
};
use crate::machine::WalletCoin;

/// The most transactions that are asked about to learn whether a funding that waits spends what waits too:
/// a call each, and strangers name the funding.
const ANCESTORS_MAX: usize = 16;

/// A server that speaks Esplora's HTTP. One's own, or one that one trusts: it can lie.
#[derive(Debug)]
pub struct Esplora {
    url: String,
    network: Network,
    fallback: FeeRate,
    floor: FeeRate,
    checked: OnceCell<()>,
}

impl Esplora {
    /// The server at `url`, as `https://esplora.example/api`, on `network`. `fallback` is the
    /// feerate where it has no estimate, `floor` the least that is relayed: Esplora does not say.
    #[must_use]
    pub fn new(url: &str, network: Network, fallback: FeeRate, floor: FeeRate) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            network,
            fallback,
            floor,
            checked: OnceCell::new(),
        }
    }

    /// None for 404.
    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ChainError> {
        let url = format!("{}{path}", self.url);
        let request = bitreq::Request::new(bitreq::Method::Get, url);
        match call_up_to(BODY_MAX, request).await? {
            (200, body) => Ok(Some(body)),
            (404, _) => Ok(None),
            (status, body) => Err(ChainError::Away(format!("{status}: {}", shown(&body)))),
        }
    }

    async fn text(&self, path: &str) -> Result<String, ChainError> {
        let body = self.get(path).await?;
        let body = body.ok_or_else(|| ChainError::Nonsense(path.to_owned()))?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    async fn json(&self, path: &str) -> Result<Option<Value>, ChainError> {
        let Some(body) = self.get(path).await? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&body);
        value
            .map(Some)
            .map_err(|_| ChainError::Nonsense(shown(&body)))
    }

    /// Once: the first block must be that of the network.
    async fn check(&self) -> Result<(), ChainError> {
        let check = || async {
            let first = self.text("/block-height/0").await?;
            let expected = genesis_block(self.network).block_hash().to_string();
            if first == expected {
                Ok(())
            } else {
                Err(ChainError::Network)
            }
        };
        self.checked.get_or_try_init(check).await.copied()
    }

    async fn tip(&self) -> Result<(u32, String), ChainError> {
        let hash = self.text("/blocks/tip/hash").await?;
        let height = self.text("/blocks/tip/height").await?;
        let height = height.parse().map_err(|_| ChainError::Nonsense(height))?;
        Ok((height, hash))
    }

    async fn fees(&self) -> Result<FeeTable, ChainError> {
        let found = self.json("/fee-estimates").await?.unwrap_or(Value::Null);
        let mut targets: Vec<(u32, FeeRate)> = (found.as_object().into_iter().flatten())
            .filter_map(|(target, rate)| {
                let rate = format!("{:.0}", rate.as_f64()? * 250.0).parse().ok()?;
                Some((target.parse().ok()?, FeeRate::from_sat_per_kwu(rate)))
            })
            .collect();
        targets.sort_unstable();
        if targets.is_empty() {
            targets.push((1, self.fallback));
        }
        Ok(FeeTable {
            targets,
            floor: self.floor,
        })
    }

    /// Unspent outputs to `script` from height `since` on, the deepest first; those that wait last.
    async fn unspent(
        &self,
        script: &Script,
        since: u32,
    ) -> Result<Vec<(Option<u32>, WalletCoin)>, ChainError> {
        self.check().await?;
        let hash = sha256::Hash::hash(script.as_bytes());
        let found = self.json(&format!("/scripthash/{hash}/utxo")).await?;
        let mut outputs: Vec<_> = (found.iter().filter_map(Value::as_array).flatten())
            .filter_map(|utxo| {
                let txid = utxo.get("txid")?.as_str()?.parse().ok()?;
                let vout = utxo.get("vout")?.as_u64()?.try_into().ok()?;
                let height = height_of(utxo);
                let coin = WalletCoin {
                    outpoint: OutPoint::new(txid, vout),
                    value: Amount::from_sat(utxo.get("value")?.as_u64()?),
                    since: height.unwrap_or(u32::MAX),
                };
                (coin.since >= since).then_some((height, coin))
            })
            .collect();
        outputs.sort_unstable_by_key(|(_, coin)| (coin.since, coin.outpoint));
        Ok(outputs)
    }

    async fn state(&self, outpoint: OutPoint) -> Result<Option<Seen>, ChainError> {
        let Some(tx) = self.json(&format!("/tx/{}", outpoint.txid)).await? else {
            return Ok(None);
        };
        let nonsense = || ChainError::Nonsense("tx".into());
        let Some(output) = tx.pointer(&format!("/vout/{}", outpoint.vout)) else {
            return Ok(None);
        };
        let script = output.get("scriptpubkey").and_then(Value::as_str);
        let script = script.and_then(|hex| ScriptBuf::from_hex(hex).ok());
        let output = TxOut {
            value: output
                .get("value")
                .and_then(Value::as_u64)
                .map(Amount::from_sat)
                .ok_or_else(nonsense)?,
            script_pubkey: script.ok_or_else(nonsense)?,
        };
        let inputs = tx.get("vin").and_then(Value::as_array);
        let inputs = inputs.ok_or_else(nonsense)?;
        let is = |input: &Value, name: &str| input.get(name) == Some(&Value::Bool(true));
        let coinbase = inputs.iter().any(|input| is(input, "is_coinbase"));
        let segwit = |input: &Value| input.get("scriptsig").and_then(Value::as_str) == Some("");
        let truc = tx.get("version").and_then(Value::as_u64) == Some(3);
        let (height, truc) = (height_of(&tx), truc && inputs.iter().all(segwit));
        let fit = height.is_none() && truc && self.waits_alone(inputs).await?;
        let raw = match fit {
            true => self.get(&format!("/tx/{}/raw", outpoint.txid)).await?,
            false => None,
        };
        let parent = raw.map(|raw| {
            let fee = tx.get("fee").and_then(Value::as_u64);
            Some(Parent {
                tx: deserialize(&raw).ok()?,
                fee: fee.map(Amount::from_sat)?,
            })
        });
        Ok(Some(Seen {
            output,
            height,
            coinbase,
            parent: parent
                .map(|parent| parent.ok_or_else(nonsense))
                .transpose()?,
            spend: self.spend(outpoint).await?,
        }))
    }

    /// True where all that these inputs spend is in blocks. Of more than [`ANCESTORS_MAX`] transactions
    /// it is not looked for: whoever funds a channel like that waits for a block.
    async fn waits_alone(&self, inputs: &[Value]) -> Result<bool, ChainError> {
        let txid = |input: &Value| input.get("txid")?.as_str()?.parse::<Txid>().ok();
        let spent: Option<BTreeSet<Txid>> = inputs.iter().map(txid).collect();
        let spent = spent.ok_or_else(|| ChainError::Nonsense("vin".into()))?;
        if spent.len() > ANCESTORS_MAX {
            return Ok(false);
        }
        for txid in spent {
            let status = self.json(&format!("/tx/{txid}/status")).await?;
            let confirmed = status.as_ref().and_then(|status| status.get("confirmed"));
            // Gone between two calls: then what spends it is not there any more.
            if confirmed != Some(&Value::Bool(true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// None where a block came meanwhile: part of what was seen is of another chain.
    async fn look(&self, watches: &[Watch]) -> Result<Option<ChainView>, ChainError> {
        let (tip, hash) = self.tip().await?;
        let fees = self.fees().await?;
        let mut outputs = Vec::with_capacity(watches.len());
        for watch in watches {
            let outpoint = watch.outpoint;
            match self.state(outpoint).await {
                Ok(seen) => outputs.push(OutputState { outpoint, seen }),
                Err(error) => {
                    // Where the server is away, nothing is said of any.
                    self.tip().await?;
                    tracing::warn!(%outpoint, %error, "an output cannot be looked at");
                }
            }
        }
        let same = self.tip().await?.1 == hash;
        Ok(same.then_some(ChainView { tip, fees, outputs }))
    }

    async fn spend(&self, outpoint: OutPoint) -> Result<Option<Spend>, ChainError> {
        let OutPoint { txid, vout } = outpoint;
        let nonsense = || ChainError::Nonsense("outspend".into());
        let found = self.json(&format!("/tx/{txid}/outspend/{vout}")).await?;
        let found = found.ok_or_else(nonsense)?;
        match found.get("spent").and_then(Value::as_bool) {
            Some(false) => return Ok(None),
            Some(true) => {}
            None => return Err(nonsense()),
        }
        let by = found.get("txid").and_then(Value::as_str);
        let by: Txid = by.and_then(|txid| txid.parse().ok()).ok_or_else(nonsense)?;
        let raw = self.get(&format!("/tx/{by}/raw")).await?;
        // Gone between two calls: nothing can be said now.
        let raw = raw.ok_or_else(|| ChainError::Away("a spend was replaced".into()))?;
        let tx: Transaction = deserialize(&raw).map_err(|_| nonsense())?;
        let spends = |tx: &Transaction| {
            let mut inputs = tx.input.iter();
            inputs.any(|input| input.previous_output == outpoint)
        };
        if !spends(&tx) {
            return Err(nonsense());
        }
        Ok(Some(Spend {
            tx,
            height: height_of(&found),
        }))
    }
}

#[async_trait]
impl ChainSource for Esplora {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.check().await?;
        for _ in 0..LOOKS {
            if let Some(view) = self.look(watches).await? {
                return Ok(view);
            }
        }
        Err(ChainError::Away(BLOCKS_CAME.into()))
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        let mut found = self.unspent(script, since).await?;
        found.retain(|(_, coin)| coin.value == value);
        Ok(found.into_iter().map(|(_, coin)| coin.outpoint).collect())
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        let mut found = self.unspent(script, since).await?;
        found.retain(|(height, _)| height.is_some());
        Ok(found.into_iter().map(|(_, coin)| coin).collect())
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        let request = bitreq::Request::new(bitreq::Method::Post, format!("{}/tx", self.url));
        let (status, body) = call_up_to(BODY_MAX, request.with_body(serialize_hex(tx))).await?;
        let raw = format!("/tx/{}/raw", tx.compute_txid());
        match status {
            200 => Ok(()),
            400 if self.get(&raw).await?.is_some() => Ok(()),
            400 => Err(ChainError::Refused(shown(&body))),
            _ => Err(ChainError::Away(format!("{status}: {}", shown(&body)))),
        }
    }

    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        let all: Vec<String> = package.iter().map(serialize_hex).collect();
        let url = format!("{}/txs/package", self.url);
        let request = bitreq::Request::new(bitreq::Method::Post, url)
            .with_header("Content-Type", "application/json")
            .with_body(serde_json::json!(all).to_string());
        let (status, body) = call_up_to(BODY_MAX, request).await?;
        let why = match status {
            200 => {
                let answer: Value = serde_json::from_slice(&body)
                    .map_err(|_| ChainError::Nonsense(shown(&body)))?;
                let said = answer.get("package_msg").and_then(Value::as_str);
                if said == Some("success") {
                    return Ok(());
                }
                shown(&body)
            }
            400 => shown(&body),
            // Servers from before packages.
            404 | 405 | 501 => format!("the server takes no packages ({status})"),
            _ => return Err(ChainError::Away(format!("{status}: {}", shown(&body)))),
        };
        one_by_one(self, package, &why).await
    }
}

/// The height in a `status`, where it is in a block.
fn height_of(value: &Value) -> Option<u32> {
    let status = value.get("status")?;
    let confirmed = status.get("confirmed").and_then(Value::as_bool)?;
    let height = status.get("block_height").and_then(Value::as_u64);
    height.filter(|_| confirmed)?.try_into().ok()
}
