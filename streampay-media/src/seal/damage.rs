//! Every flipped bit and every cut of the sealed frames and grants in the vectors of the media chapter: none
//! of it opens, and it ends well and in little memory.

use std::path::PathBuf;

use serde_json::Value;

use super::{EpochGrant, Opener};
use crate::packet::Codec;

/// The most that one frame or grant may allocate, all in all.
const ALLOCATED_MAX: u64 = 64 * 1024;

fn file(name: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/media");
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let bytes = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
    bytes.map(Result::unwrap).collect()
}

fn cases<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    of[list].as_array().unwrap().iter()
}

/// Reads it cut at every byte, and with every bit flipped; each must be taken or not, as `taken` says.
fn every_damage(mut bytes: Vec<u8>, taken: bool, mut read: impl FnMut(&[u8]) -> bool) -> usize {
    let mut check = |bytes: &[u8], taken: Option<bool>| {
        let mut is = false;
        let allocated = allocation_counter::measure(|| is = read(bytes)).bytes_total;
        assert!(allocated <= ALLOCATED_MAX, "{allocated} for {bytes:02x?}");
        assert!(taken.is_none_or(|taken| taken == is), "{bytes:02x?}");
    };
    for len in 0..bytes.len() {
        check(&bytes[..len], Some(false));
    }
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, Some(taken));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.len() * 9
}

fn codec(case: &Value) -> Codec {
    let mime = case["codec"].as_str().unwrap();
    let mut all = Codec::ALL.into_iter();
    all.find(|codec| codec.mime() == mime).unwrap()
}

/// An opener with the keys of all epochs that the vectors name.
fn opener(of: &Value) -> Opener {
    let mut opener = Opener::new();
    let valid = cases(of, "valid").map(|case| {
        let epoch: u64 = case["epoch"].as_str().unwrap().parse().unwrap();
        [&epoch.to_be_bytes()[..], &unhex(&case["base_key"])].concat()
    });
    let invalid = cases(of, "invalid").flat_map(|case| cases(case, "grants").map(unhex));
    for grant in invalid.chain(valid) {
        opener
            .grant(&EpochGrant::from_bytes(&grant).unwrap())
            .unwrap();
    }
    opener
}

#[test]
fn no_damaged_frame_opens() {
    let frames = file("frames.json");
    let mut count = 0;
    for case in cases(&frames, "valid") {
        let mut opener = opener(&frames);
        let codec = codec(case);
        count += every_damage(unhex(&case["sealed"]), false, |bytes| {
            opener.open(codec, bytes).is_ok()
        });
        let whole = opener.open(codec, &unhex(&case["sealed"]));
        assert!(whole.is_ok(), "the same without damage: {whole:?}");
    }
    assert!(count > 2_000, "{count}");
}

/// Undoing what was wrong may make one whole: only that it ends well and small is asked.
#[test]
fn frames_that_must_not_open_end_well_and_small_when_damaged_more() {
    let frames = file("frames.json");
    for case in cases(&frames, "invalid") {
        let (mut opener, codec) = (opener(&frames), codec(case));
        let bytes = unhex(&case["sealed"]);
        for len in 0..=bytes.len() {
            let _ = opener.open(codec, &bytes[..len]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let allocated = allocation_counter::measure(|| drop(opener.open(codec, &flipped)));
            assert!(allocated.bytes_total <= ALLOCATED_MAX, "{flipped:02x?}");
        }
    }
}

/// A grant says nothing of itself: one of its length is some key.
#[test]
fn damaged_grants_are_keys_by_their_length_alone() {
    let grants = file("grants.json");
    for case in cases(&grants, "valid").chain(cases(&grants, "invalid")) {
        let bytes = unhex(&case["grant"]);
        let whole = bytes.len() == EpochGrant::LEN;
        let read = |bytes: &[u8]| {
            let grant = EpochGrant::from_bytes(bytes);
            grant.is_ok_and(|grant| Opener::new().grant(&grant).is_ok())
        };
        if bytes.len() <= EpochGrant::LEN {
            every_damage(bytes, whole, read);
        }
    }
}
