//! What transcripts are made of: bytes are hexadecimal texts, integers decimal texts, what is missing
//! is left out.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use bytes::Bytes;
use serde_json::{Value, json};
use streampay_btc::chain::{ChainView, FeeTable, OutputState, Parent, Seen, Spend, Watch};
use streampay_btc::kit::TowerEntry;
use streampay_btc::machine::{ChannelConfig, WalletCoin, WatchEvent};
use streampay_btc::params::DepthRule;
use streampay_btc::policy::{PayeePolicy, PayerPolicy};
use streampay_btc::script::OutputType;
use streampay_btc::sim::Call;
use streampay_core::backend::{BackendError, Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, Seq, XOnlyKey};

pub(crate) fn int(value: impl TryInto<u64>) -> Value {
    let value: u64 = value.try_into().ok().unwrap();
    json!(value.to_string())
}

pub(crate) fn hex(bytes: &[u8]) -> Value {
    json!(bytes.to_lower_hex_string())
}

pub(crate) fn number<T: TryFrom<u64>>(value: &Value) -> T {
    let number: u64 = value.as_str().unwrap().parse().unwrap();
    T::try_from(number).ok().unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().unwrap()).unwrap()
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn sat(value: &Value) -> Amount {
    Amount::from_sat(number(value))
}

fn msat(value: &Value) -> Msat {
    Msat::new(number(value)).unwrap()
}

fn script(value: &Value) -> ScriptBuf {
    ScriptBuf::from_bytes(bytes(value))
}

/// The one key of an object, and what is there.
pub(crate) fn one(value: &Value) -> (&str, &Value) {
    let (key, value) = value.as_object().unwrap().iter().next().unwrap();
    (key, value)
}

pub(crate) fn outpoint(value: &Value) -> OutPoint {
    let txid = Txid::from_byte_array(array(&value["txid"]));
    OutPoint::new(txid, number(&value["vout"]))
}

pub(crate) fn config_json(config: &ChannelConfig) -> Value {
    let (payer, payee) = (&config.payer, &config.payee);
    let depths = payee.depths.iter();
    json!({
        "payer": {
            "home": hex(payer.home.as_bytes()),
            "reserve_max": int(payer.reserve_max.to_sat()),
            "margin_max": int(payer.margin_max),
            "depth_max": int(payer.depth_max),
            "life": int(payer.life),
            "funding_fee_max": int(payer.funding_fee_max.to_sat()),
            "value_max": int(payer.value_max.to_sat()),
        },
        "payee": {
            "payout": hex(payee.payout.as_bytes()),
            "reserve": int(payee.reserve.to_sat()),
            "margin": int(payee.margin),
            "life_min": int(payee.life_min),
            "life_max": int(payee.life_max),
            "depths": depths.map(|rule| json!([int(rule.value_max), int(rule.depth)])).collect::<Vec<_>>(),
            "zero_conf_max": int(payee.zero_conf_max.to_sat()),
            "types": payee.types.iter().map(|kind| int(kind.code())).collect::<Vec<_>>(),
            "batch_wait": int(payee.batch_wait),
            "mutual_ms": int(payee.mutual_ms),
            "wallet_fee_max": int(payee.wallet_fee_max.to_sat()),
        },
    })
}

pub(crate) fn config(value: &Value) -> ChannelConfig {
    let (of, to) = (&value["payer"], &value["payee"]);
    let mut payer = PayerPolicy::new(script(&of["home"]));
    payer.reserve_max = sat(&of["reserve_max"]);
    payer.margin_max = number(&of["margin_max"]);
    payer.depth_max = number(&of["depth_max"]);
    payer.life = number(&of["life"]);
    payer.funding_fee_max = sat(&of["funding_fee_max"]);
    payer.value_max = sat(&of["value_max"]);
    let mut payee = PayeePolicy::new(script(&to["payout"]));
    payee.reserve = sat(&to["reserve"]);
    payee.reserve_target = 0;
    payee.margin = number(&to["margin"]);
    payee.life_min = number(&to["life_min"]);
    payee.life_max = number(&to["life_max"]);
    payee.depths = (to["depths"].as_array().unwrap().iter())
        .map(|rule| DepthRule {
            value_max: number(&rule[0]),
            depth: number(&rule[1]),
        })
        .collect();
    payee.zero_conf_max = sat(&to["zero_conf_max"]);
    payee.types = (to["types"].as_array().unwrap().iter())
        .map(|code| OutputType::from_code(number(code)).unwrap())
        .collect();
    payee.batch_wait = number(&to["batch_wait"]);
    payee.mutual_ms = number(&to["mutual_ms"]);
    payee.wallet_fee_max = sat(&to["wallet_fee_max"]);
    ChannelConfig {
        network: Network::Regtest,
        payer,
        payee,
    }
}

pub(crate) fn offer_json(offer: &PurseOffer) -> Value {
    json!({
        "params": hex(&offer.params),
        "tick": int(offer.tick.msat()),
        "payer_key": hex(&offer.payer_key.0),
        "payee_key": hex(&offer.payee_key.0),
    })
}

fn offer(value: &Value) -> PurseOffer {
    PurseOffer {
        params: bytes(&value["params"]).into(),
        tick: msat(&value["tick"]),
        payer_key: XOnlyKey(array(&value["payer_key"])),
        payee_key: XOnlyKey(array(&value["payee_key"])),
    }
}

pub(crate) fn request(value: &Value) -> Request {
    let (what, of) = one(value);
    let payload = |name: &str| Bytes::from(bytes(&of[name]));
    match what {
        "open" => Request::Open {
            offer: offer(of),
            capacity: msat(&of["capacity"]),
            budget: msat(&of["budget"]),
        },
        "accept" => Request::Accept {
            offer: offer(of),
            opening: payload("opening"),
        },
        "pay" => Request::Pay {
            seq: Seq(number(&of["seq"])),
            amount: msat(&of["amount"]),
            cumulative: msat(&of["cumulative"]),
        },
        "receive" => Request::Receive {
            seq: Seq(number(&of["seq"])),
            amount: msat(&of["amount"]),
            cumulative: msat(&of["cumulative"]),
            payload: payload("payload"),
        },
        "note" => Request::Note {
            bytes: payload("bytes"),
        },
        "release" => Request::Release,
        "settle" => Request::Settle {
            // Nothing of a channel depends on it.
            cumulative: of.get("cumulative").map_or(Msat::ZERO, msat),
        },
        other => panic!("{other}"),
    }
}

pub(crate) fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Opened(opened) => json!({"opened": {
            "opening": hex(&opened.opening),
            "capacity": int(opened.capacity.msat()),
            "cost": int(opened.cost.msat()),
            "quantum": int(opened.quantum.msat()),
            "usable_until": int(opened.usable_until.unwrap().0),
        }}),
        Outcome::Paid { payload } => json!({"paid": {"payload": hex(payload)}}),
        Outcome::Released { refunded } => json!({"released": {"refunded": int(refunded.msat())}}),
        Outcome::Accepted { capacity, quantum } => json!({"accepted": {
            "capacity": int(capacity.msat()),
            "quantum": int(quantum.msat()),
        }}),
        Outcome::Credited => json!({"credited": {}}),
        Outcome::Settled { settled } => json!({"settled": {"settled": int(settled.msat())}}),
        Outcome::Failed(error) => json!({"failed": error_json(*error)}),
        other => panic!("{other:?}"),
    }
}

fn error_json(error: BackendError) -> Value {
    match error {
        BackendError::Transient => json!({"transient": {}}),
        BackendError::Unknown => json!({"unknown": {}}),
        BackendError::Fatal(code) => json!({"fatal": {"code": int(code.code())}}),
        BackendError::Rejected(code, consumed) => json!({"rejected": {
            "code": int(code.code()),
            "consumed": int(consumed.code()),
        }}),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn call_json(call: &Call) -> Value {
    let output = |script: &ScriptBuf, value: &Amount, since: &u32| {
        json!({
            "script": hex(script.as_bytes()),
            "value": int(value.to_sat()),
            "since": int(*since),
        })
    };
    match call {
        Call::Look => json!({"look": {}}),
        Call::Draw => json!({"draw": {}}),
        Call::Fund {
            script,
            value,
            since,
        } => json!({"fund": output(script, value, since)}),
        Call::Find {
            script,
            value,
            since,
        } => json!({"find": output(script, value, since)}),
    }
}

pub(crate) fn event_json(event: &WatchEvent) -> Value {
    let txid = |txid: &Txid| hex(txid.as_byte_array());
    match event {
        WatchEvent::FundingGone => json!({"funding_gone": {}}),
        WatchEvent::Spent { txid: by, height } => {
            let mut value = json!({"txid": txid(by)});
            if let Some(height) = height {
                value["height"] = int(*height);
            }
            json!({"spent": value})
        }
        WatchEvent::Closing { txid: by, fee } => {
            json!({"closing": {"txid": txid(by), "fee": int(fee.to_sat())}})
        }
        WatchEvent::Refunding { txid: by, .. } => json!({"refunding": {"txid": txid(by)}}),
        WatchEvent::Uneconomic { claim, fee, .. } => {
            json!({"uneconomic": {"claim": int(claim.to_sat()), "fee": int(fee.to_sat())}})
        }
        WatchEvent::Settled { amount } => json!({"settled": {"amount": int(amount.to_sat())}}),
        WatchEvent::PaidBesides { outpoint, value } => {
            json!({"paid_besides": output_json(outpoint, "value", *value)})
        }
        WatchEvent::Returned { outpoint, amount } => {
            json!({"returned": output_json(outpoint, "amount", *amount)})
        }
        other => panic!("{other:?}"),
    }
}

fn output_json(outpoint: &OutPoint, name: &str, amount: Amount) -> Value {
    let mut value = json!({
        "txid": hex(outpoint.txid.as_byte_array()),
        "vout": int(outpoint.vout),
    });
    value[name] = int(amount.to_sat());
    value
}

pub(crate) fn view_json(view: &ChainView) -> Value {
    let rate = |rate: FeeRate| int(rate.to_sat_per_kwu());
    let targets = view.fees.targets.iter();
    let outputs = view.outputs.iter().map(|state| {
        let mut value = json!({
            "txid": hex(state.outpoint.txid.as_byte_array()),
            "vout": int(state.outpoint.vout),
        });
        if let Some(seen) = &state.seen {
            value["seen"] = seen_json(seen);
        }
        value
    });
    json!({
        "tip": int(view.tip),
        "floor": rate(view.fees.floor),
        "rates": targets.map(|(blocks, of)| json!([int(*blocks), rate(*of)])).collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

pub(crate) fn coin(value: &Value) -> WalletCoin {
    WalletCoin {
        outpoint: outpoint(value),
        value: sat(&value["value"]),
        since: number(&value["since"]),
    }
}

pub(crate) fn coin_json(coin: &WalletCoin) -> Value {
    json!({
        "txid": hex(coin.outpoint.txid.as_byte_array()),
        "vout": int(coin.outpoint.vout),
        "value": int(coin.value.to_sat()),
        "since": int(coin.since),
    })
}

/// A channel as a watchtower is given it.
pub(crate) fn entry(value: &Value) -> TowerEntry {
    let close = |of: &Value| {
        let rate = FeeRate::from_sat_per_kwu(number(&of["rate"]));
        (rate, deserialize_hex(of["tx"].as_str().unwrap()).unwrap())
    };
    TowerEntry {
        watch: Watch {
            outpoint: outpoint(value),
            script: script(&value["script"]),
            since: number(&value["since"]),
        },
        expiry: number(&value["expiry"]),
        margin: number(&value["margin"]),
        closes: (value["closes"].as_array().unwrap().iter())
            .map(close)
            .collect(),
        early: number(&value["early"]),
    }
}

pub(crate) fn entry_json(entry: &TowerEntry) -> Value {
    let close = |(rate, tx): &(FeeRate, Transaction)| json!({"rate": int(rate.to_sat_per_kwu()), "tx": serialize_hex(tx)});
    json!({
        "txid": hex(entry.watch.outpoint.txid.as_byte_array()),
        "vout": int(entry.watch.outpoint.vout),
        "script": hex(entry.watch.script.as_bytes()),
        "since": int(entry.watch.since),
        "expiry": int(entry.expiry),
        "margin": int(entry.margin),
        "closes": entry.closes.iter().map(close).collect::<Vec<_>>(),
        "early": int(entry.early),
    })
}

fn seen_json(seen: &Seen) -> Value {
    let mut value = json!({
        "value": int(seen.output.value.to_sat()),
        "script": hex(seen.output.script_pubkey.as_bytes()),
        "coinbase": seen.coinbase,
    });
    if let Some(parent) = &seen.parent {
        value["parent"] = json!({
            "tx": serialize_hex(&parent.tx),
            "fee": int(parent.fee.to_sat()),
        });
    }
    if let Some(height) = seen.height {
        value["height"] = int(height);
    }
    if let Some(spend) = &seen.spend {
        value["spend"] = json!({"tx": serialize_hex(&spend.tx)});
        if let Some(height) = spend.height {
            value["spend"]["height"] = int(height);
        }
    }
    value
}

pub(crate) fn view(value: &Value) -> ChainView {
    let rate = |value: &Value| FeeRate::from_sat_per_kwu(number(value));
    let height = |value: &Value| value.get("height").map(number);
    let seen = |value: &Value| Seen {
        output: TxOut {
            value: sat(&value["value"]),
            script_pubkey: script(&value["script"]),
        },
        height: height(value),
        coinbase: value["coinbase"].as_bool().unwrap(),
        parent: value.get("parent").map(|parent| Parent {
            tx: deserialize_hex(parent["tx"].as_str().unwrap()).unwrap(),
            fee: sat(&parent["fee"]),
        }),
        spend: value.get("spend").map(|spend| Spend {
            tx: deserialize_hex(spend["tx"].as_str().unwrap()).unwrap(),
            height: height(spend),
        }),
    };
    let list = |name: &str| value[name].as_array().unwrap().iter();
    ChainView {
        tip: number(&value["tip"]),
        fees: FeeTable {
            targets: list("rates")
                .map(|of| (number(&of[0]), rate(&of[1])))
                .collect(),
            floor: rate(&value["floor"]),
        },
        outputs: list("outputs")
            .map(|of| OutputState {
                outpoint: outpoint(of),
                seen: of.get("seen").map(seen),
            })
            .collect(),
    }
}
