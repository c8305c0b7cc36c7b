//! Replays every corpus on stable Rust.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use streampay_core::session::{Entropy, PayeeSession, PayerSession, Policy, SecretKey};
use streampay_core::store::StoreError;
use streampay_core::units::{Now, SessionId};
use streampay_core::wire::{Terms, decode};
use streampay_fuzz::{corpus, split_records};

mod hunted;
mod seeds;
mod stored;

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = corpus::kept(target).expect("each target has a corpus");
    kept.into_iter()
        .map(|(path, bytes)| (path.into(), bytes))
        .collect()
}

#[test]
fn every_input_of_every_corpus_ends_well() {
    for (name, target) in streampay_fuzz::TARGETS {
        assert!(!inputs(name).is_empty(), "{name} has an empty corpus");
        for (path, bytes) in corpus::inputs(name).unwrap() {
            // The name of an input that breaks is the last line before the panic.
            println!("{path}");
            target(&bytes);
        }
    }
}

/// Not a fuzzer, but enough to see at once that something is badly wrong: each input with one
/// byte changed, and cut.
#[test]
fn every_input_with_one_byte_changed_ends_well() {
    for (name, target) in streampay_fuzz::TARGETS {
        for (path, bytes) in inputs(name) {
            println!("{}", path.display());
            // What runs whole sessions, or a store, or signs, takes longer.
            let step = match name {
                "session" | "resume" | "channel" => 67,
                "store" => 97,
                "receipts" => 9,
                _ => 1,
            };
            for at in (0..bytes.len().min(600)).step_by(step) {
                target(&bytes[..at]);
                for change in [0x01, 0x20, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    target(&changed);
                }
            }
        }
    }
}

#[test]
fn corpus_begins_with_every_message_and_every_refusal() {
    let kinds: BTreeSet<u64> = inputs("wire")
        .iter()
        .filter_map(|(_, bytes)| decode(bytes).ok().flatten())
        .map(|message| message.number())
        .collect();
    let all = (0..=36).step_by(2).chain((40..=52).step_by(2)).chain([1]);
    assert_eq!(kinds, all.collect());
    let errors: BTreeSet<u16> = inputs("wire")
        .iter()
        .filter_map(|(_, bytes)| decode(bytes).err())
        .map(|error| error.code())
        .collect();
    assert_eq!(errors, (1..=17).collect());
    let terms = inputs("terms");
    assert!(terms.iter().any(|(_, b)| Terms::from_bytes(b).is_ok()));
    assert!(terms.iter().any(|(_, b)| Terms::from_bytes(b).is_err()));
}

#[test]
fn vectors_belong_to_the_corpora_of_those_that_read_them() {
    let count = |target| corpus::of_vectors(target).unwrap().len();
    let (wire, terms) = (count("wire"), count("terms"));
    assert!(wire > 1_000 && terms > 50, "{wire} and {terms}");
    assert_eq!(count("scan"), wire + terms);
    assert_eq!(count("store"), 0);
}

#[test]
fn records_of_the_corpus_are_read_by_their_role_alone() {
    let session = SessionId(Entropy([2; 32]).derive("session-id"));
    let key = SecretKey::from_bytes([3; 32]).unwrap();
    for (name, payer) in [("payer", true), ("payee", false)] {
        let record = fs::read(corpus::folder("records").join(name)).unwrap();
        let records = split_records(session, &record);
        let (now, policy) = (Now::default(), Policy::nothing());
        let as_payer = PayerSession::restore(key.clone(), policy, now, session, &records);
        let as_payee = PayeeSession::restore(key.clone(), 1, now, session, &records);
        assert_eq!((as_payer.is_ok(), as_payee.is_ok()), (payer, !payer));
        let other = |error: Option<StoreError>| error.is_none_or(|e| e == StoreError::OtherRole);
        assert!(other(as_payer.err()) && other(as_payee.err()));
    }
}

/// The seeds are made from messages, so that they never grow old. `UPDATE_SEEDS=1 cargo test -p
/// streampay-fuzz` writes them.
#[test]
fn seeds_are_what_this_version_writes() {
    for (target, name, bytes) in seeds::all() {
        let path = corpus::folder(target).join(&name);
        if env::var_os("UPDATE_SEEDS").is_some() {
            fs::create_dir_all(corpus::folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == bytes, "{target}/{name} has grown old");
    }
}

/// As the last one: a few hundred runs of whole sessions that a seed chooses.
#[test]
fn sessions_that_a_seed_chooses_end_well() {
    for seed in 0..200 {
        let mut rng = streampay_core::sim::Rng::new(seed);
        let bytes: Vec<u8> = (0..8).flat_map(|_| rng.bytes()).collect();
        println!("seed {seed}");
        streampay_fuzz::session(&bytes);
    }
}
