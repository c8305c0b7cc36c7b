//! Every flipped bit and every cut of the session descriptions, and of what else is sent to the servers, in
//! the vectors of the media chapter: all that is read of it before anything is built ends well and in little
//! memory.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;

use super::sdp::{
    CANDIDATES_MAX, Fragment, admit, admit_media, candidates_in, codecs_offered, codecs_sent,
    fingerprint, ice_users,
};
use crate::packet::Kind;

/// The most that reading one may allocate, all in all.
const ALLOCATED_MAX: u64 = 64 * 1024;

/// All that is read of a description or a piece of one, whoever sends it.
fn read(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    drop(admit(text, false));
    drop(Fragment::read(text, false, CANDIDATES_MAX));
    let Ok(admitted) = admit_media(text, true) else {
        return;
    };
    let _ = (candidates_in(&admitted), ice_users(&admitted));
    let _ = (codecs_sent(&admitted), fingerprint(&admitted));
    for kind in [Kind::Video, Kind::Audio] {
        drop(codecs_offered(&admitted, kind));
    }
}

fn check(bytes: &[u8]) {
    let allocated = allocation_counter::measure(|| read(bytes)).bytes_total;
    let text = || String::from_utf8_lossy(bytes);
    assert!(allocated <= ALLOCATED_MAX, "{allocated} for {}", text());
}

fn every_damage(mut bytes: Vec<u8>) -> usize {
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

#[test]
fn damaged_descriptions_end_well_and_small() {
    let path = "../spec/vectors/media/http.json";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let offers = file["offers"].as_object().unwrap().values();
    let scenes = file["scenes"].as_array().unwrap().iter();
    let exchanges = scenes.flat_map(|scene| scene["exchanges"].as_array().unwrap());
    let bodies = exchanges.map(|exchange| &exchange["request"]["body"]["text"]);
    let texts: BTreeSet<&str> = offers.chain(bodies).filter_map(Value::as_str).collect();
    let texts = texts.into_iter().map(|text| text.as_bytes().to_vec());
    let count: usize = texts.map(every_damage).sum();
    assert!(count > 60_000, "{count}");
}
