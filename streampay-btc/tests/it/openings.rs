//! Openings and terms, good ones and those that MUST be refused, each with its reason. Written by the
//! example `vectors`. Spec: bitcoin 1, 3.3 to 3.5, 9.1.

use std::path::PathBuf;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;
use bitcoin::{Network, ScriptBuf};
use serde_json::{Value, json};
use streampay_btc::sim::{SimChain, SimNode, sim_config};
use streampay_btc::tx::Contract;
use streampay_core::backend::{BackendError, Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId, XOnlyKey};

use crate::mutual_vectors::{Item, head, map};
use crate::vectors::{Channel, RESERVE, VALUE, home, sat};

/// One tick in satoshi.
const STEP: u64 = 500;
/// What the payer may spend, in satoshi.
const BUDGET: u64 = 60_000;

pub(crate) fn path() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../spec/vectors/btc/openings.json")
}

pub(crate) fn file() -> String {
    let policy = sim_config(1).payer;
    let value = json!({
        "format": "1",
        "session": "07".repeat(32),
        "purse": 0,
        "tick": STEP,
        "terms": terms().encode().to_lower_hex_string(),
        "openings": openings(),
        "payer": {
            "budget": BUDGET,
            "reserve_max": policy.reserve_max.to_sat(),
            "margin_max": policy.margin_max,
            "depth_max": policy.depth_max,
            "life": policy.life,
            "funding_fee_max": policy.funding_fee_max.to_sat(),
            "value_max": policy.value_max.to_sat(),
            "dust": policy.home.minimal_non_dust().to_sat(),
        },
        "offers": offers(),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    text
}

fn purse() -> PurseKey {
    PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(0),
    }
}

fn offer(params: Vec<u8>) -> PurseOffer {
    PurseOffer {
        params: params.into(),
        tick: Msat::from_sat(STEP).unwrap(),
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    }
}

/// The name of a refusal; none where nothing is wrong but that the chain shows no funding.
fn refusal(outcome: Option<Outcome>) -> Option<String> {
    match outcome {
        Some(Outcome::Failed(BackendError::Transient)) => None,
        Some(Outcome::Failed(BackendError::Rejected(code, _) | BackendError::Fatal(code))) => {
            Some(format!("{code:?}"))
        }
        other => panic!("{other:?}"),
    }
}

fn cases(all: Vec<(&str, Vec<u8>)>, judge: impl Fn(Vec<u8>) -> Option<Outcome>) -> Vec<Value> {
    let case = |(name, bytes): (&str, Vec<u8>)| {
        let mut value = json!({"name": name, "hex": bytes.to_lower_hex_string()});
        let error = refusal(judge(bytes));
        assert_eq!(
            error.is_none(),
            name.starts_with("good"),
            "{name}: {error:?}"
        );
        if let Some(error) = error {
            value["error"] = json!(error);
        }
        value
    };
    all.into_iter().map(case).collect()
}

/// Keys and values of a map, of which some are another.
fn with(good: &[(u64, Item)], key: u64, item: Item) -> Vec<u8> {
    let mut items = good.to_vec();
    match items.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => *known = item,
        None => items.push((key, item)),
    }
    map(&items)
}

/// What no encoding of a map of these keys is.
fn badly_encoded(good: &[(u64, Item)]) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = map(good);
    let mut swapped = good.to_vec();
    swapped.swap(0, 1);
    // The length of the map in a byte of its own.
    let longer = [&[0xb8, u8::try_from(good.len()).unwrap()], &bytes[1..]].concat();
    vec![
        ("nothing", Vec::new()),
        ("a byte too many", [bytes.as_slice(), &[0]].concat()),
        ("a byte too few", bytes[..bytes.len() - 1].to_vec()),
        ("keys out of order", map(&swapped)),
        ("a key is missing", map(&good[..good.len() - 1])),
        ("a key too many", with(good, 22, Item::Uint(0))),
        ("a length longer than needed", longer),
    ]
}

fn terms() -> streampay_btc::params::ChannelParams {
    let payee = SimNode::new(&SimChain::new(), sim_config(2), 2);
    payee.machine.params(payee.now).unwrap()
}

/// The first channel of `channel.json`, as its payer shows it.
fn opening(channel: &Channel, id: [u8; 32]) -> Vec<(u64, Item)> {
    let (contract, output) = (&channel.contract, channel.contract.output());
    let outpoint = contract.outpoint();
    vec![
        (0, Item::Bytes(vec![7; 32])),
        (2, Item::Uint(channel.number.into())),
        (4, Item::Uint(output.output_type().code().into())),
        (6, Item::Bytes(output.payer().serialize().to_vec())),
        (8, Item::Uint(output.expiry().into())),
        (10, Item::Bytes(outpoint.txid.to_byte_array().to_vec())),
        (12, Item::Uint(outpoint.vout.into())),
        (14, Item::Uint(contract.value().to_sat())),
        (16, Item::Bytes(contract.change_script().to_bytes())),
        (18, Item::Bytes(id.to_vec())),
        (20, Item::Uint(contract.reserve().to_sat())),
    ]
}

/// The same channel but for its value and reserve, on that chain, with the id that follows.
fn another(network: Network, value: u64, reserve: u64, change: ScriptBuf) -> Vec<u8> {
    let channel = first();
    let of = &channel.contract;
    let (output, outpoint) = (of.output().clone(), of.outpoint());
    let (value, reserve) = (sat(value), sat(reserve));
    let contract = Contract::new(network, output, outpoint, value, reserve, change);
    let contract = contract.unwrap();
    let id = contract.channel_id();
    map(&opening(
        &Channel {
            contract,
            ..channel
        },
        id,
    ))
}

fn first() -> Channel {
    Channel::new(streampay_btc::script::OutputType::Taproot, 0, 900_432)
}

fn openings() -> Vec<Value> {
    let channel = first();
    let good = opening(&channel, channel.contract.channel_id());
    let set = |key, item| with(&good, key, item);
    let bytes = |byte: u8, size: usize| Item::Bytes(vec![byte; size]);
    let stranger = Channel::new(channel.contract.output().output_type(), 9, 900_432);
    let payer = Item::Bytes(stranger.payer.public().serialize().to_vec());
    let burn = ScriptBuf::new_op_return([1; 4]);
    let regtest = |value, reserve| another(Network::Regtest, value, reserve, home(1));
    let mut all = vec![
        ("good", map(&good)),
        ("good: another value", regtest(VALUE / 2, RESERVE)),
        ("good: more reserve", regtest(VALUE, RESERVE + 1)),
        ("another session", set(0, bytes(8, 32))),
        ("another purse", set(2, Item::Uint(1))),
        ("a type that is none", set(4, Item::Uint(2))),
        ("another type", set(4, Item::Uint(1))),
        ("a key that is no point", set(6, bytes(0xff, 33))),
        ("another key", set(6, payer)),
        ("no expiry", set(8, Item::Uint(0))),
        ("an expiry that is a time", set(8, Item::Uint(500_000_000))),
        ("another expiry", set(8, Item::Uint(900_433))),
        ("another transaction", set(10, bytes(0xee, 32))),
        ("another output", set(12, Item::Uint(1))),
        ("another value", set(14, Item::Uint(VALUE - 1))),
        ("nothing beside the reserve", set(14, Item::Uint(RESERVE))),
        (
            "more than the deepest takes",
            set(14, Item::Uint(10_000_001)),
        ),
        (
            "another change script",
            set(16, Item::Bytes(home(9).to_bytes())),
        ),
        (
            "a change that nobody could spend",
            set(16, Item::Bytes(burn.to_bytes())),
        ),
        ("no change script", set(16, bytes(0, 0))),
        ("another id", set(18, bytes(0, 32))),
        ("an id that is too short", set(18, bytes(0, 31))),
        (
            "a channel of another chain",
            another(Network::Bitcoin, VALUE, RESERVE, home(1)),
        ),
        ("another reserve", set(20, Item::Uint(RESERVE + 1))),
        ("less reserve than is asked", regtest(VALUE, RESERVE - 1)),
        (
            "a reserve above one bitcoin",
            set(20, Item::Uint(100_000_001)),
        ),
        ("less than a tick", regtest(RESERVE + STEP - 1, RESERVE)),
        ("a map that is too long", set(16, bytes(0, 512))),
    ];
    all.extend(badly_encoded(&good));
    cases(all, |opening| {
        let params = terms().encode().to_vec();
        let mut payee = SimNode::new(&SimChain::new(), sim_config(2), 2);
        let (offer, opening) = (offer(params), opening.into());
        payee.request(purse(), Request::Accept { offer, opening })
    })
}

fn list(items: &[Vec<u8>]) -> Item {
    let count = u64::try_from(items.len()).unwrap();
    Item::Raw([head(4, count), items.concat()].concat())
}

fn types(codes: &[u8]) -> Item {
    let codes: Vec<Vec<u8>> = codes.iter().map(|code| head(0, (*code).into())).collect();
    list(&codes)
}

fn depths(rules: &[(u64, u64)]) -> Item {
    let rule =
        |(value, depth): &(u64, u64)| map(&[(0, Item::Uint(*value)), (2, Item::Uint(*depth))]);
    let rules: Vec<Vec<u8>> = rules.iter().map(rule).collect();
    list(&rules)
}

/// The terms of a payee, as their payer is offered them.
fn offers() -> Vec<Value> {
    let config = sim_config(2);
    let chain = |network| {
        ChainHash::using_genesis_block_const(network)
            .to_bytes()
            .to_vec()
    };
    let payee = SimNode::new(&SimChain::new(), sim_config(2), 2)
        .machine
        .params(streampay_core::units::Now::default())
        .unwrap();
    let base = streampay_btc::params::ChannelParams::decode(&payee.encode())
        .unwrap()
        .payee;
    let rules: Vec<(u64, u64)> = (config.payee.depths.iter())
        .map(|rule| (rule.value_max, rule.depth.into()))
        .collect();
    let good = vec![
        (0, Item::Bytes(chain(Network::Regtest))),
        (2, Item::Bytes(base.0.serialize().to_vec())),
        (4, types(&[0, 1])),
        (6, Item::Uint(RESERVE)),
        (8, Item::Uint(36)),
        (10, Item::Uint(108)),
        (12, Item::Uint(2_016)),
        (14, depths(&rules)),
    ];
    assert_eq!(map(&good), payee.encode().to_vec());
    let set = |key, item| with(&good, key, item);
    let uint = |key, value| set(key, Item::Uint(value));
    let nine: Vec<(u64, u64)> = (1..10).map(|at| (at * 100_000, 1)).collect();
    let mut all = vec![
        ("good", map(&good)),
        ("good: P2WSH alone", set(4, types(&[1]))),
        (
            "good: unconfirmed to a cap",
            set(14, depths(&[(60_000, 0), (100_000, 1)])),
        ),
        (
            "another network",
            set(0, Item::Bytes(chain(Network::Bitcoin))),
        ),
        (
            "a chain that nobody knows",
            set(0, Item::Bytes(vec![1; 32])),
        ),
        (
            "a base that is no point",
            set(2, Item::Bytes(vec![0xff; 33])),
        ),
        ("no type", set(4, types(&[]))),
        ("three types", set(4, types(&[0, 1, 0]))),
        ("a type that is none", set(4, types(&[2]))),
        ("a reserve above one bitcoin", uint(6, 100_000_001)),
        ("a reserve above the payer's limit", uint(6, 20_001)),
        ("a reserve that leaves no tick", uint(6, 49_600)),
        ("too little margin", uint(8, 17)),
        ("more margin than the payer's limit", uint(8, 73)),
        ("a life within the margin", uint(10, 36)),
        ("a longest life below the shortest", uint(12, 107)),
        ("a life beyond two weeks", uint(12, 2_017)),
        ("a life beyond the payer's limit", uint(10, 432)),
        ("no depths", set(14, depths(&[]))),
        ("nine depths", set(14, depths(&nine))),
        (
            "values that do not ascend",
            set(14, depths(&[(100_000, 1), (100_000, 2)])),
        ),
        (
            "depths that descend",
            set(14, depths(&[(50_000, 2), (100_000, 1)])),
        ),
        (
            "a depth above a hundred",
            set(14, depths(&[(100_000, 101)])),
        ),
        (
            "a depth above the payer's limit",
            set(14, depths(&[(100_000, 7)])),
        ),
        (
            "values below one tick",
            set(14, depths(&[(RESERVE + STEP - 1, 1)])),
        ),
    ];
    all.extend(badly_encoded(&good));
    cases(all, |params| {
        let mut payer = SimNode::new(&SimChain::new(), sim_config(1), 1);
        let open = Request::Open {
            offer: offer(params),
            capacity: Msat::from_sat(BUDGET).unwrap(),
            budget: Msat::from_sat(BUDGET).unwrap(),
        };
        payer.request(purse(), open)
    })
}

#[test]
fn openings_are_up_to_date() {
    let found = std::fs::read_to_string(path()).unwrap();
    assert!(found == file(), "run the example `vectors`");
}
