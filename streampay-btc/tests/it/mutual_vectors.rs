//! The vectors of closing together: both messages, and whole closes. Written by the example
//! `vectors`, checked here. Spec: bitcoin 5.6, 5.7.

use std::path::PathBuf;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use serde_json::{Value, json};
use streampay_btc::script::OutputType;
use streampay_btc::tx::{MutualClose, MutualTerms, cosign};
use streampay_core::session::Entropy;

use crate::transcripts::Stage;
use crate::transcripts::json::{bytes, hex, int};
use crate::transcripts::scenes::{propose, settling, show};
use crate::transcripts::stage::{PAYEE, PAYER};
use crate::vectors::{Channel, RESERVE, VALUE, home, sat};

pub(crate) fn path() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../spec/vectors/btc/mutual.json")
}

#[derive(Clone)]
pub(crate) enum Item {
    Uint(u64),
    Bytes(Vec<u8>),
    Raw(Vec<u8>),
}

pub(crate) fn head(major: u8, value: u64) -> Vec<u8> {
    let small = |value: u64| u8::try_from(value).unwrap();
    match value {
        0..=23 => vec![major << 5 | small(value)],
        24..=0xff => vec![major << 5 | 24, small(value)],
        0x100..=0xffff => [&[major << 5 | 25][..], &value.to_be_bytes()[6..]].concat(),
        0x1_0000..=0xffff_ffff => [&[major << 5 | 26][..], &value.to_be_bytes()[4..]].concat(),
        _ => [&[major << 5 | 27][..], &value.to_be_bytes()].concat(),
    }
}

pub(crate) fn map(items: &[(u64, Item)]) -> Vec<u8> {
    let mut out = head(5, u64::try_from(items.len()).unwrap());
    for (key, item) in items {
        out.extend(head(0, *key));
        match item {
            Item::Uint(value) => out.extend(head(0, *value)),
            Item::Bytes(bytes) => {
                out.extend(head(2, u64::try_from(bytes.len()).unwrap()));
                out.extend(bytes);
            }
            Item::Raw(raw) => out.extend(raw),
        }
    }
    out
}

type Cases = Vec<(&'static str, Vec<u8>)>;

/// What is wrong with the bytes of either message, whatever is in them. `items` are those of a good
/// one, `fixed` is a key whose value has a fixed length.
fn malformed(items: &[(u64, Item)], fixed: usize) -> Cases {
    let good = map(items);
    let mut indefinite = vec![0xbf];
    indefinite.extend(&good[1..]);
    indefinite.push(0xff);
    let with = |at: usize, item: Item| {
        let mut items = items.to_vec();
        items[at].1 = item;
        map(&items)
    };
    let Item::Bytes(whole) = items[fixed].1.clone() else {
        panic!("a key of bytes");
    };
    let mut swapped = items.to_vec();
    swapped.swap(0, 1);
    let mut twice = items.to_vec();
    twice.push(items[items.len() - 1].clone());
    let more = |key: u64| {
        let mut items = items.to_vec();
        items.push((key, Item::Uint(0)));
        items.sort_by_key(|(key, _)| *key);
        map(&items)
    };
    let mut text = head(3, u64::try_from(whole.len()).unwrap());
    text.extend(vec![b'a'; whole.len()]);
    let mut long_head = vec![2 << 5 | 25, 0];
    long_head.push(u8::try_from(whole.len()).unwrap());
    long_head.extend(&whole);
    vec![
        ("nothing", Vec::new()),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("a byte after the end", [good.as_slice(), &[0]].concat()),
        ("an indefinite map", indefinite),
        ("keys out of order", map(&swapped)),
        ("a key twice", map(&twice)),
        ("a key missing", map(&items[..items.len() - 1])),
        ("another even key", more(8)),
        ("another odd key", more(1)),
        (
            "a value too short",
            with(fixed, Item::Bytes(whole[1..].to_vec())),
        ),
        (
            "a value too long",
            with(fixed, Item::Bytes([whole.as_slice(), &[0]].concat())),
        ),
        ("text for bytes", with(fixed, Item::Raw(text))),
        (
            "a length not in its shortest form",
            with(fixed, Item::Raw(long_head)),
        ),
        ("a tag before it", [&[0xc1][..], &good].concat()),
        ("a list", [&[0x82][..], &good[1..]].concat()),
    ]
}

fn proposal_items(paid: u64, payout: &[u8], fee: u64, nonce: &[u8]) -> Vec<(u64, Item)> {
    vec![
        (0, Item::Uint(paid)),
        (2, Item::Bytes(payout.to_vec())),
        (4, Item::Uint(fee)),
        (6, Item::Bytes(nonce.to_vec())),
    ]
}

fn bad_proposals(paid: u64, payout: &[u8], fee: u64, nonce: &[u8]) -> Cases {
    let items = proposal_items(paid, payout, fee, nonce);
    let mut cases = malformed(&items, 3);
    let with = |at: usize, item: Item| {
        let mut items = items.clone();
        items[at].1 = item;
        map(&items)
    };
    let long = |value: u64| {
        let mut raw = vec![27];
        raw.extend(value.to_be_bytes());
        Item::Raw(raw)
    };
    cases.push(("an integer not in its shortest form", with(2, long(fee))));
    cases.push(("a negative amount", with(0, Item::Raw(vec![0x20]))));
    cases.push(("more than 256 bytes", with(1, Item::Bytes(vec![0x51; 200]))));
    cases
}

/// Well-formed, and not to be signed, with what is wrong.
pub(crate) fn unfair_proposals(good: &[u8]) -> Cases {
    let (paid, payout, fee, nonce) = read_proposal(good);
    let of =
        |paid, payout: &[u8], fee, nonce: &[u8]| map(&proposal_items(paid, payout, fee, nonce));
    let mut cut = nonce.clone();
    cut[0] = 4;
    vec![
        ("more than was signed", of(paid + 1, &payout, fee, &nonce)),
        ("more than there is", of(u64::MAX, &payout, fee, &nonce)),
        ("the reserve alone", of(RESERVE, &payout, fee, &nonce)),
        (
            "a fee above what is paid",
            of(paid, &payout, paid + 1, &nonce),
        ),
        (
            "a fee that leaves dust",
            of(paid, &payout, paid - 1, &nonce),
        ),
        (
            "a script that is not relayed",
            of(paid, &[0x51], fee, &nonce),
        ),
        ("no script", of(paid, &[], fee, &nonce)),
        ("a nonce that is no point", of(paid, &payout, fee, &cut)),
        ("a nonce of zeros", of(paid, &payout, fee, &[0; 66])),
    ]
}

/// By its places: it is one of our own.
fn read_proposal(good: &[u8]) -> (u64, Vec<u8>, u64, Vec<u8>) {
    let mut reader = minicbor::Decoder::new(good);
    assert_eq!(reader.map().unwrap(), Some(4));
    let key = |reader: &mut minicbor::Decoder<'_>| reader.u64().unwrap();
    key(&mut reader);
    let paid = reader.u64().unwrap();
    key(&mut reader);
    let payout = reader.bytes().unwrap().to_vec();
    key(&mut reader);
    let fee = reader.u64().unwrap();
    key(&mut reader);
    let nonce = reader.bytes().unwrap().to_vec();
    (paid, payout, fee, nonce)
}

fn part_items(nonce: &[u8], partial: &[u8]) -> Vec<(u64, Item)> {
    vec![
        (0, Item::Bytes(nonce.to_vec())),
        (2, Item::Bytes(partial.to_vec())),
    ]
}

struct Close {
    described: Value,
    proposal: Vec<u8>,
    part: Vec<u8>,
    fields: [Value; 2],
}

fn close(channel: &Channel, paid: u64, fee: u64) -> Close {
    let (own, other) = ([0x2a; 32], [0x1b; 32]);
    let terms = MutualTerms {
        paid: sat(paid),
        payout: home(2),
        fee: sat(fee),
    };
    let contract = &channel.contract;
    let begun = MutualClose::begin(contract, &channel.payee, &terms, Entropy(own)).unwrap();
    let payee_nonce = begun.public_nonce();
    let part = cosign(
        contract,
        &channel.payer,
        &terms,
        &payee_nonce,
        Entropy(other),
    )
    .unwrap();
    let unsigned = contract.mutual_tx(&terms).unwrap();
    let sighash = SighashCache::new(&unsigned)
        .taproot_key_spend_signature_hash(
            0,
            &Prevouts::All(&[contract.funding()]),
            TapSighashType::Default,
        )
        .unwrap();
    let tx = begun.complete(&part).unwrap();
    let payout = home(2).to_bytes();
    Close {
        described: json!({
            "channel": channel.number,
            "paid": int(paid),
            "payout": hex(&payout),
            "fee": int(fee),
            "payee_entropy": hex(&own),
            "payer_entropy": hex(&other),
            "payee_nonce": hex(&payee_nonce),
            "payer_nonce": hex(&part.nonce),
            "partial": hex(&part.partial),
            "sighash": hex(sighash.as_byte_array()),
            "tx": serialize_hex(&tx),
        }),
        proposal: map(&proposal_items(paid, &payout, fee, &payee_nonce)),
        part: map(&part_items(&part.nonce, &part.partial)),
        fields: [
            json!({
                "paid": int(paid),
                "payout": hex(&payout),
                "fee": int(fee),
                "nonce": hex(&payee_nonce),
            }),
            json!({"nonce": hex(&part.nonce), "partial": hex(&part.partial)}),
        ],
    }
}

pub(crate) fn file() -> String {
    let channels: Vec<Channel> = (0..3)
        .map(|number| Channel::new(OutputType::Taproot, number, 900_432))
        .collect();
    let closes = [
        close(&channels[0], 50_000, 308),
        close(&channels[1], RESERVE + 5_000, RESERVE + 400),
        close(&channels[2], VALUE, 400),
        close(&channels[2], VALUE, 700),
    ];
    let (paid, payout, fee, nonce) = read_proposal(&closes[0].proposal);
    let invalid = |cases: Cases| -> Vec<Value> {
        let cases = cases.into_iter();
        let case = |(error, raw): (&str, Vec<u8>)| json!({"error": error, "hex": hex(&raw)});
        cases.map(case).collect()
    };
    let valid = |at: usize, raw: fn(&Close) -> &Vec<u8>| -> Vec<Value> {
        let closes = closes.iter();
        let case = |of: &Close| json!({"hex": hex(raw(of)), "fields": of.fields[at]});
        closes.map(case).collect()
    };
    let value = json!({
        "format": "1",
        "proposal": {
            "valid": valid(0, |of| &of.proposal),
            "invalid": invalid(bad_proposals(paid, &payout, fee, &nonce)),
            "unfair": invalid(unfair_proposals(&closes[0].proposal)),
        },
        "part": {
            "valid": valid(1, |of| &of.part),
            "invalid": invalid(malformed(&part_items(&nonce, &[5; 32]), 1)),
        },
        "closes": closes.iter().map(|of| of.described.clone()).collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    text
}

#[test]
fn mutual_vectors_are_up_to_date() {
    let found = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(found == file(), "run the example `vectors`");
}

/// A channel of which the payee waits for the payer's part.
fn asked() -> Stage {
    let mut stage = settling();
    propose(&mut stage);
    stage
}

#[test]
fn a_payer_answers_good_proposals_alone() {
    let mut stage = settling();
    let good = bytes(&stage.note(PAYEE));
    let (paid, payout, fee, nonce) = read_proposal(&good);
    assert_eq!(map(&proposal_items(paid, &payout, fee, &nonce)), good);
    let bad = bad_proposals(paid, &payout, fee, &nonce);
    for (what, raw) in bad.into_iter().chain(unfair_proposals(&good)) {
        let before = stage.payer.steps.len();
        show(&mut stage, PAYER, &hex(&raw));
        let steps = &stage.payer.steps[before..];
        let said = steps
            .iter()
            .flat_map(|step| step["outputs"].as_array().unwrap());
        assert!(
            said.clone().all(|output| output.get("note").is_none()),
            "{what}"
        );
    }
    show(&mut stage, PAYER, &hex(&good));
    assert_eq!(bytes(&stage.note(PAYER)).len(), 1 + 1 + 68 + 1 + 34);
}

#[test]
fn a_payee_completes_with_good_parts_alone() {
    let good = bytes(&asked().note(PAYER));
    let nonce = good[4..70].to_vec();
    for (what, raw) in malformed(&part_items(&nonce, &good[73..]), 1) {
        let mut stage = asked();
        show(&mut stage, PAYEE, &hex(&raw));
        // One attempt, whoever spoiled it.
        show(&mut stage, PAYEE, &hex(&good));
        assert!(stage.chain.waiting().is_empty(), "{what}");
        stage.look(PAYEE);
        assert_eq!(stage.chain.waiting()[0].input[0].witness.len(), 4, "{what}");
    }
}
