//! An Esplora server in front of a simulated chain: as much of its HTTP as the adapter asks for.

use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize_hex, serialize};
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{Network, OutPoint, Transaction};
use serde_json::{Value, json};
use streampay_btc::chain::Watch;
use streampay_btc::sim::SimChain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the test ends; the address.
pub(crate) async fn serve(chain: SimChain, network: Network) -> String {
    serve_some(chain, network, true).await
}

/// The same, where `heard` is told the path of each call before it is answered.
pub(crate) async fn serve_heard<F>(chain: SimChain, network: Network, heard: F) -> String
where
    F: Fn(&str) + Send + Sync + 'static,
{
    let url = listen(move |method, path, body| {
        heard(path);
        match (method, path) {
            ("POST", "/api/txs/package") => package(&chain, body),
            _ => answer(&chain, network, method, path, body),
        }
    });
    format!("{}/api/", url.await)
}

/// The same from before it knew packages.
pub(crate) async fn serve_without_packages(chain: SimChain, network: Network) -> String {
    serve_some(chain, network, false).await
}

async fn serve_some(chain: SimChain, network: Network, packages: bool) -> String {
    let url = listen(move |method, path, body| match (method, path) {
        ("POST", "/api/txs/package") if packages => package(&chain, body),
        _ => answer(&chain, network, method, path, body),
    });
    format!("{}/api/", url.await)
}

/// Answers every call, by its method, path and body, until the test ends; the address.
pub(crate) async fn listen<F>(answer: F) -> String
where
    F: Fn(&str, &str, &str) -> (u16, Vec<u8>) + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { one(stream, &*answer).await });
        }
    });
    format!("http://{address}")
}

async fn one<F>(mut stream: TcpStream, answer: &F)
where
    F: Fn(&str, &str, &str) -> (u16, Vec<u8>),
{
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).await.unwrap_or(0);
        bytes.extend_from_slice(&more[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return;
            }
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let length = name.eq_ignore_ascii_case("content-length");
            length.then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) || read == 0 {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut first = head.lines().next().unwrap_or("").split(' ');
    let (method, path) = (first.next().unwrap_or(""), first.next().unwrap_or(""));
    let (status, body) = answer(method, path, &body);
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    let _ = stream.shutdown().await;
}

fn answer(
    chain: &SimChain,
    network: Network,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Vec<u8>) {
    let text = |text: String| (200, text.into_bytes());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let Ok(view) = chain.look(&[]) else {
        return (503, b"away".to_vec());
    };
    match (method, parts.as_slice()) {
        ("GET", ["api", "block-height", "0"]) => {
            let first = bitcoin::constants::genesis_block(network);
            text(first.block_hash().to_string())
        }
        ("GET", ["api", "blocks", "tip", "height"]) => text(view.tip.to_string()),
        ("GET", ["api", "blocks", "tip", "hash"]) => {
            text(sha256::Hash::hash(&view.tip.to_be_bytes()).to_string())
        }
        ("GET", ["api", "fee-estimates"]) => text(json!({"1": 2.0, "144": 1.5}).to_string()),
        ("GET", ["api", "scripthash", hash, "utxo"]) => text(utxos(chain, hash).to_string()),
        ("GET", ["api", "tx", txid]) => match chain.transaction(txid.parse().unwrap()) {
            Some((tx, height)) => text(tx_json(chain, &tx, height).to_string()),
            None => (404, Vec::new()),
        },
        ("GET", ["api", "tx", txid, "status"]) => match chain.transaction(txid.parse().unwrap()) {
            Some((_, height)) => text(status(height).to_string()),
            None => (404, Vec::new()),
        },
        ("GET", ["api", "tx", txid, "raw"]) => match chain.transaction(txid.parse().unwrap()) {
            Some((tx, _)) => (200, serialize(&tx)),
            None => (404, Vec::new()),
        },
        ("GET", ["api", "tx", txid, "outspend", vout]) => {
            let outpoint = OutPoint::new(txid.parse().unwrap(), vout.parse().unwrap());
            text(outspend(chain, outpoint).to_string())
        }
        ("POST", ["api", "tx"]) => match deserialize_hex::<Transaction>(body) {
            Ok(tx) => {
                let txid = tx.compute_txid();
                // As the server does: what is in a block is refused.
                let mined = chain.transaction(txid).is_some_and(|(_, at)| at.is_some());
                match chain.submit(tx) {
                    Ok(()) if !mined => text(txid.to_string()),
                    Ok(()) => (400, b"Transaction already in block chain".to_vec()),
                    Err(reject) => (400, reject.to_string().into_bytes()),
                }
            }
            Err(_) => (400, b"TX decode failed".to_vec()),
        },
        _ => (404, Vec::new()),
    }
}

/// As the server passes on what its node says.
fn package(chain: &SimChain, body: &str) -> (u16, Vec<u8>) {
    let all: Vec<String> = serde_json::from_str(body).unwrap_or_default();
    let all: Vec<Transaction> = (all.iter())
        .filter_map(|hex| deserialize_hex(hex).ok())
        .collect();
    let mined = |tx: &Transaction| {
        let found = chain.transaction(tx.compute_txid());
        found.is_some_and(|(_, at)| at.is_some())
    };
    let said = match chain.submit_package(&all) {
        Ok(()) if !all.iter().any(mined) => "success".to_owned(),
        Ok(()) => "transaction failed: txn-already-known".to_owned(),
        Err(reject) => format!("transaction failed: {reject}"),
    };
    let answer = json!({"package_msg": said, "tx-results": {}});
    (200, answer.to_string().into_bytes())
}

fn status(height: Option<u32>) -> Value {
    json!({"confirmed": height.is_some(), "block_height": height})
}

fn tx_json(chain: &SimChain, tx: &Transaction, height: Option<u32>) -> Value {
    let spent = tx.input.iter().filter_map(|input| {
        let of = input.previous_output;
        let (tx, _) = chain.transaction(of.txid)?;
        Some(tx.output[usize::try_from(of.vout).unwrap()].value.to_sat())
    });
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    let fee = spent.sum::<u64>().saturating_sub(out);
    let vin: Vec<Value> = (tx.input.iter())
        .map(|input| {
            json!({
                "txid": input.previous_output.txid.to_string(),
                "vout": input.previous_output.vout,
                "scriptsig": input.script_sig.to_hex_string(),
                "is_coinbase": tx.is_coinbase(),
            })
        })
        .collect();
    let vout: Vec<Value> = (tx.output.iter())
        .map(|output| {
            json!({
                "scriptpubkey": output.script_pubkey.to_hex_string(),
                "value": output.value.to_sat(),
            })
        })
        .collect();
    json!({
        "version": tx.version.0,
        "vin": vin,
        "vout": vout,
        "fee": fee,
        "status": status(height),
    })
}

fn outspend(chain: &SimChain, outpoint: OutPoint) -> Value {
    let watch = Watch {
        outpoint,
        script: bitcoin::ScriptBuf::new(),
        since: 0,
    };
    let view = chain.look(&[watch]).unwrap();
    let spend = view.outputs[0].seen.clone().and_then(|seen| seen.spend);
    match spend {
        None => json!({"spent": false}),
        Some(spend) => json!({
            "spent": true,
            "txid": spend.tx.compute_txid().to_string(),
            "vin": 0,
            "status": status(spend.height),
        }),
    }
}

fn utxos(chain: &SimChain, hash: &str) -> Value {
    let mut found = Vec::new();
    for (tx, height) in chain.transactions() {
        for (vout, output) in tx.output.iter().enumerate() {
            let own = sha256::Hash::hash(output.script_pubkey.as_bytes()).to_string();
            let outpoint = OutPoint::new(tx.compute_txid(), u32::try_from(vout).unwrap());
            if own == hash && chain.spender(outpoint).is_none() {
                found.push(json!({
                    "txid": tx.compute_txid().to_string(),
                    "vout": vout,
                    "value": output.value.to_sat(),
                    "status": status(height),
                }));
            }
        }
    }
    Value::Array(found)
}
