//! Every flipped bit and every cut of what peers say in the vectors of the Cashu chapter: it is read or
//! refused, in little memory. What is read and then verified is mangled at random by `fuzz`: a signature
//! costs too much for each of so many.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use streampay_core::units::{PurseId, PurseKey, Seq, SessionId};

use crate::chain::{Funding, LockKind, Release};
use crate::fuzz;
use crate::params::SwapParams;
use crate::params_locked::LockedParams;
use crate::vectors;
use crate::verify::tests::secret_is_taken;
use crate::wire::{Expected, Opening, Payload};

/// The most that reading one message may allocate, all in all.
const ALLOCATED_MAX: u64 = 64 * 1024;
/// The purse of `funding.json`, `release.json` and `params.json`.
const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};
/// The lock in `locks.json`.
const LOCK: [u8; 32] = [0xab; 32];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/cashu")
}

fn file(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let bytes = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
    bytes.map(Result::unwrap).collect()
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().unwrap().as_bytes().to_vec()
}

fn cases<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    of[list].as_array().unwrap().iter()
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

/// What the terms say, as every method reads it.
fn params(bytes: &[u8]) {
    drop(SwapParams::decode(bytes));
    drop(LockedParams::decode(bytes));
}

/// An opening and a payload, as every method reads it.
fn said(bytes: &[u8]) {
    let expected = Expected {
        key: KEY,
        seq: Seq(1),
        mint: "https://mint.example",
        unit: "sat",
    };
    drop(Funding::decode(KEY, bytes));
    drop(Opening::decode(KEY, bytes));
    drop(Payload::decode(expected, bytes));
}

/// The spelling of a lock, as either kind is read.
fn secret(bytes: &[u8]) {
    let _ = secret_is_taken(bytes, LockKind::Htlc(LOCK));
    let _ = secret_is_taken(bytes, LockKind::P2pk);
}

/// `keys.json` and `chain.json` are derivations from one's own secrets: nobody says them.
#[test]
fn every_file_of_vectors_is_damaged_here() {
    let found = std::fs::read_dir(folder()).unwrap();
    let found: BTreeSet<String> = found
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(found.iter().eq([
        "chain.json",
        "funding.json",
        "keys.json",
        "locks.json",
        "params.json",
        "proofs.json",
        "release.json",
        "secrets.json",
        "steps.json",
    ]));
}

#[test]
fn damaged_openings_and_offers_end_well_and_small() {
    let (funding, listed) = (file("funding.json"), file("params.json"));
    let fundings = ["valid", "invalid"].map(|list| cases(&funding, list));
    let fundings = fundings.into_iter().flatten().map(|case| &case["hex"]);
    let openings = cases(&listed, "openings").map(|case| &case["opening"]);
    let openings: usize = fundings
        .chain(openings)
        .map(|hex| every_damage(unhex(hex), said))
        .sum();
    let offers = ["valid", "invalid"].map(|list| cases(&listed, list));
    let offers = offers.into_iter().flatten().map(|case| &case["hex"]);
    let offers: usize = offers.map(|hex| every_damage(unhex(hex), params)).sum();
    assert!(openings > 40_000 && offers > 25_000, "{openings}, {offers}");
}

/// What is locked, as the payer spells it.
#[test]
fn damaged_locks_end_well_and_small() {
    let (locks, secrets, proofs) = (
        file("locks.json"),
        file("secrets.json"),
        file("proofs.json"),
    );
    let spelt = cases(&locks, "cases").chain(cases(&secrets, "cases"));
    let proofs = cases(&proofs, "cases").flat_map(|case| cases(case, "proofs"));
    let spelt: BTreeSet<Vec<u8>> = spelt
        .chain(proofs)
        .map(|case| text(&case["secret"]))
        .collect();
    let count: usize = spelt
        .into_iter()
        .map(|bytes| every_damage(bytes, secret))
        .sum();
    assert!(count > 100_000, "{count}");
}

#[test]
fn damaged_ticks_and_releases_end_well_and_small() {
    let steps = file("steps.json");
    let ticks = cases(&steps, "cases").map(|case| unhex(&case["payload"]));
    let tick = |bytes: &[u8]| {
        fuzz::tick(bytes);
        said(bytes);
    };
    let ticks: usize = ticks.map(|bytes| every_damage(bytes, tick)).sum();
    let (funded, releases) = (vectors::funded(), file("release.json"));
    let release = |bytes: &[u8]| drop(Release::decode(KEY, &funded, 2, bytes));
    let releases = cases(&releases, "cases").map(|case| unhex(&case["hex"]));
    let releases: usize = releases.map(|bytes| every_damage(bytes, release)).sum();
    assert!(ticks > 3_000 && releases > 5_000, "{ticks}, {releases}");
}
