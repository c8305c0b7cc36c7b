//! Every flipped bit and every cut of what peers say in the vectors of the bitcoin chapter: it is read or
//! refused, in little memory. Transactions in them come from the own chain source, not from a peer.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use streampay_core::backend::PurseOffer;
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId, XOnlyKey};

use crate::params::ChannelParams;
use crate::script::OutputType;
use crate::tx::UpdateSignature;
use crate::wire::Opening;

/// The most that reading one message may allocate, all in all.
const ALLOCATED_MAX: u64 = 64 * 1024;
const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(0),
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/btc")
}

fn file(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let bytes = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
    bytes.map(Result::unwrap).collect()
}

/// Reads it as it is, cut at every byte, and with every bit flipped.
fn every_damage(mut bytes: Vec<u8>, read: impl Fn(&[u8])) -> usize {
    let check = |bytes: &[u8]| {
        let allocated = allocation_counter::measure(|| read(bytes)).bytes_total;
        assert!(allocated <= ALLOCATED_MAX, "{allocated} for {bytes:02x?}");
    };
    for len in 0..=bytes.len() {
        check(&bytes[..len]);
    }
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.len() * 9
}

/// The field `field` of all that `list` holds.
fn hexes<'a>(list: &'a Value, field: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
    let list = list.as_array().unwrap().iter();
    list.map(move |case| unhex(&case[field]))
}

fn params(bytes: &[u8]) {
    drop(ChannelParams::decode(bytes));
}

#[test]
fn every_file_of_vectors_is_damaged_here() {
    let found = std::fs::read_dir(folder()).unwrap();
    let found: BTreeSet<String> = found
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        found
            .iter()
            .eq(["channel.json", "mutual.json", "openings.json"])
    );
}

#[test]
fn damaged_openings_and_offers_end_well_and_small() {
    let file = file("openings.json");
    let offer = PurseOffer {
        params: unhex(&file["terms"]).into(),
        tick: Msat::new(500).unwrap(),
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    };
    let opening = |bytes: &[u8]| drop(Opening::decode(KEY, &offer, bytes));
    let openings: usize = hexes(&file["openings"], "hex")
        .map(|bytes| every_damage(bytes, opening))
        .sum();
    let offers: usize = hexes(&file["offers"], "hex")
        .map(|bytes| every_damage(bytes, params))
        .sum();
    assert!(openings > 40_000 && offers > 25_000, "{openings}, {offers}");
}

#[test]
fn damaged_ticks_end_well_and_small() {
    let file = file("channel.json");
    every_damage(unhex(&file["params"]["hex"]), params);
    let channels = file["channels"].as_array().unwrap().iter();
    let honest = channels.flat_map(|channel| hexes(&channel["updates"], "signature"));
    let signatures = honest.chain(hexes(&file["must_fail"], "signature"));
    let read = |bytes: &[u8]| {
        for kind in [OutputType::Taproot, OutputType::Wsh] {
            let _ = UpdateSignature::read(kind, bytes);
        }
    };
    let count: usize = signatures.map(|bytes| every_damage(bytes, read)).sum();
    assert!(count > 50_000, "{count}");
}

#[cfg(feature = "musig2")]
#[test]
fn damaged_messages_of_a_mutual_close_end_well_and_small() {
    use crate::wire::{Cosigned, Proposal};

    let file = file("mutual.json");
    let mut count = 0;
    for message in ["part", "proposal"] {
        for list in ["valid", "invalid", "unfair"] {
            let Some(cases) = file[message].get(list) else {
                continue;
            };
            for bytes in hexes(cases, "hex") {
                count += every_damage(bytes, |bytes| {
                    drop(Proposal::decode(bytes));
                    let _ = Cosigned::decode(bytes);
                });
            }
        }
    }
    assert!(count > 30_000, "{count}");
}
