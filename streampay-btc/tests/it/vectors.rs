//! The vectors of the bitcoin chapter: written by the example `vectors`, checked here.

use std::path::PathBuf;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Transaction, Txid, WPubkeyHash};
use serde_json::{Value, json};
use streampay_btc::keys::{ChannelSecret, NodeKeys, Seed};
use streampay_btc::params::ChannelParams;
use streampay_btc::policy::PayeePolicy;
use streampay_btc::script::{FundingOutput, OutputType};
use streampay_btc::tx::{
    CloseInput, ClosePlan, Contract, UpdateSignature, close_tx, refund_tx, virtual_size,
};
use streampay_core::units::{PurseId, PurseKey, SessionId};

pub(crate) const VALUE: u64 = 100_000;
pub(crate) const RESERVE: u64 = 927;
const NETWORK: Network = Network::Regtest;

pub(crate) fn path() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../spec/vectors/btc/channel.json")
}

pub(crate) fn file() -> String {
    let channels: Vec<Channel> = (0..3)
        .map(|number| Channel::new(OutputType::Taproot, number, 900_432))
        .chain([
            Channel::new(OutputType::Wsh, 3, 900_432),
            Channel::new(OutputType::Taproot, 4, 200),
        ])
        .collect();
    let described: Vec<Value> = channels.iter().map(Channel::describe).collect();
    let value = json!({
        "format": "1",
        "params": params(),
        "channels": described,
        "batch": batch(&channels[..3]),
        "must_fail": crate::must_fail::cases(&[&channels[0], &channels[3]]),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    text
}

pub(crate) struct Channel {
    pub(crate) number: u32,
    pub(crate) payer: ChannelSecret,
    pub(crate) payee: ChannelSecret,
    pub(crate) contract: Contract,
}

pub(crate) fn home(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([byte; 20]))
}

fn keys(seed: u8) -> NodeKeys {
    NodeKeys::new(&Seed([seed; 32]), NETWORK).unwrap()
}

pub(crate) fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn rate(sat_vb: u32) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(sat_vb)
}

fn params() -> Value {
    let base = keys(2).payee_base();
    let params = PayeePolicy::new(home(2)).params(NETWORK, base).unwrap();
    let bytes = params.encode();
    let fields = ChannelParams::decode(&bytes).unwrap();
    json!({
        "hex": bytes.to_lower_hex_string(),
        "chain": bitcoin::constants::ChainHash::using_genesis_block_const(NETWORK).to_string(),
        "payee": base.0.to_string(),
        "reserve": fields.reserve.to_sat(),
        "margin": fields.margin,
        "life_min": fields.life_min,
        "life_max": fields.life_max,
        "depths": fields.depths.iter().map(|d| json!([d.value_max, d.depth])).collect::<Vec<_>>(),
    })
}

impl Channel {
    pub(crate) fn new(kind: OutputType, number: u32, expiry: u32) -> Self {
        let purse = PurseKey {
            session: SessionId([7; 32]),
            purse: PurseId(number),
        };
        let payer = keys(1).payer(purse).unwrap();
        let payee = keys(2).payee(&payer.public(), purse).unwrap();
        let output = FundingOutput::new(kind, payer.public(), payee.public(), expiry).unwrap();
        let txid = Txid::from_byte_array(core::array::from_fn(|at| {
            u8::try_from(at).unwrap() + u8::try_from(number).unwrap()
        }));
        let contract = Contract::new(
            NETWORK,
            output,
            OutPoint::new(txid, number),
            sat(VALUE),
            sat(RESERVE),
            home(1),
        )
        .unwrap();
        Self {
            number,
            payer,
            payee,
            contract,
        }
    }

    fn describe(&self) -> Value {
        let output = self.contract.output();
        let hex = |bytes: &[u8]| bytes.to_lower_hex_string();
        json!({
            "name": format!("{:?} {}", output.output_type(), output.expiry()),
            "type": output.output_type().code(),
            "chain": bitcoin::constants::ChainHash::using_genesis_block_const(NETWORK).to_string(),
            "session": hex(&[7; 32]),
            "purse": self.number,
            "payee_base": keys(2).payee_base().0.to_string(),
            "payer_secret": hex(&self.payer.dangerous_bytes()),
            "payee_secret": hex(&self.payee.dangerous_bytes()),
            "payer": output.payer().to_string(),
            "payee": output.payee().to_string(),
            "expiry": output.expiry(),
            "internal_key": output.internal_key().map(|key| key.to_string()),
            "descriptor": output.descriptor(),
            "script": output.script().to_hex_string(),
            "script_pubkey": output.script_pubkey().to_hex_string(),
            "address": output.address(NETWORK).unwrap().to_string(),
            "txid": hex(self.contract.outpoint().txid.as_byte_array()),
            "vout": self.contract.outpoint().vout,
            "value": VALUE,
            "reserve": RESERVE,
            "change_script": self.contract.change_script().to_hex_string(),
            "channel_id": hex(&self.contract.channel_id()),
            "updates": self.updates(),
            "closes": self.closes(),
            "refunds": self.refunds(),
        })
    }

    fn sign(&self, paid: u64) -> UpdateSignature {
        self.contract.sign_update(&self.payer, sat(paid)).unwrap()
    }

    fn updates(&self) -> Vec<Value> {
        let dust = self.contract.dust().to_sat();
        let paid = [RESERVE + 1, 50_000, VALUE - dust, VALUE];
        let update = |paid: u64| {
            let change = self.contract.change(sat(paid)).unwrap();
            json!({
                "paid": paid,
                "change": change.map(Amount::to_sat),
                "sighash": self.contract.update_sighash(sat(paid)).unwrap().to_lower_hex_string(),
                "signature": self.sign(paid).to_bytes().to_lower_hex_string(),
            })
        };
        paid.into_iter().map(update).collect()
    }

    fn closes(&self) -> Vec<Value> {
        let close = |(paid, sat_vb)| {
            let tx = close(&[(self, paid)], sat_vb);
            tx_json(&tx, VALUE, json!({"paid": paid, "sat_vb": sat_vb}))
        };
        [(50_000, 1), (50_000, 25), (VALUE, 3)].map(close).to_vec()
    }

    fn refunds(&self) -> Vec<Value> {
        let refund = |(sat_vb, tip)| {
            let tx = refund_tx(&self.contract, &self.payer, &home(1), rate(sat_vb), tip).unwrap();
            tx_json(&tx, VALUE, json!({"sat_vb": sat_vb, "tip": tip}))
        };
        [(1, 0), (50, 900_500)].map(refund).to_vec()
    }
}

fn close(channels: &[(&Channel, u64)], sat_vb: u32) -> Transaction {
    let signatures: Vec<_> = channels.iter().map(|(of, paid)| of.sign(*paid)).collect();
    let inputs: Vec<CloseInput<'_>> = (channels.iter().zip(&signatures))
        .map(|((of, paid), signature)| CloseInput {
            contract: &of.contract,
            paid: sat(*paid),
            signature,
            secret: &of.payee,
        })
        .collect();
    let payout = home(2);
    close_tx(&ClosePlan {
        channels: &inputs,
        coins: &[],
        payout: &payout,
        extra: &[],
        rate: rate(sat_vb),
    })
    .unwrap()
}

fn tx_json(tx: &Transaction, spent: u64, mut value: Value) -> Value {
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    value["fee"] = json!(spent - out);
    value["vsize"] = json!(virtual_size(tx.weight()));
    value["tx"] = json!(serialize_hex(tx));
    value
}

/// Three channels, the first of them fully spent: its input comes last.
fn batch(channels: &[Channel]) -> Value {
    let paid = [VALUE, 20_000, 70_000];
    let all: Vec<(&Channel, u64)> = channels.iter().zip(paid).collect();
    let tx = close(&all, 2);
    tx_json(
        &tx,
        3 * VALUE,
        json!({"channels": [0, 1, 2], "paid": paid, "sat_vb": 2}),
    )
}

#[test]
fn vectors_are_up_to_date() {
    let found = std::fs::read_to_string(path()).unwrap();
    assert!(found == file(), "run the example `vectors`");
}
