//! The verifier and everything else here that reads a peer's bytes, fed with bytes that nobody would
//! write: plain functions that a fuzzer can call, a seeded mutator over the vectors of the spec, and
//! two runs of it.
//!
//! ```sh
//! cargo test -p streampay-cashu --lib fuzz
//! STREAMPAY_FUZZ_SECONDS=3600 cargo test --release -p streampay-cashu --lib fuzz::long -- --ignored --nocapture
//! ```
//!
//! They are not in the package of the fuzz targets, which would have to build a wallet for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cdk::nuts::nut10::SpendingConditions;
use cdk::nuts::{CurrencyUnit, SigFlag};
use cdk::secret::Secret;
use serde_json::Value;
use streampay_core::session::TaggedHash;
use streampay_core::units::{PurseId, PurseKey, Seq, SessionId};

use crate::chain::{Funding, LockKind, Piece, ReceiverKey, Release, step_of};
use crate::params::SwapParams;
use crate::params_locked::LockedParams;
use crate::vectors;
use crate::verify::tests::{keyset, secret_is_taken, terms};
use crate::verify::{Dleq, TrustedKeyset, Wanted, verify_funding};
use crate::wire::{Expected, Opening, Payload};

const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};
/// The lock in `locks.json`.
const LOCK: [u8; 32] = [0xab; 32];

/// An opening, up to the mint's signatures: what reads has one encoding, and what is taken has the
/// very proofs that the mint signed. True where it is taken.
fn opening(bytes: &[u8]) -> bool {
    let Ok(funding) = Funding::decode(KEY, bytes) else {
        return false;
    };
    assert_eq!(funding.encode(), bytes, "one encoding");
    let Some(funded) = funding.with_receiver(vectors::receiver()) else {
        return false;
    };
    let keyset = TrustedKeyset::new(keyset(CurrencyUnit::Sat, 100, None)).unwrap();
    let wanted = Wanted {
        keyset: &keyset,
        unit: &CurrencyUnit::Sat,
        terms: funded.terms,
        refund_window_s: 3_600,
        max_fee_ppk: 1_000,
    };
    let (pieces, _) = funded.funding.pieces.as_chunks();
    if u64::try_from(pieces.len()).unwrap() != funded.proofs() {
        return false;
    }
    let proofs: Option<Vec<_>> = (0..)
        .zip(pieces)
        .map(|(number, piece)| {
            let proof = funded.proof(number, Piece(piece))?;
            let kind = funded.kind(step_of(number, funded.per_step()))?;
            Some((proof, funded.amount(number)?, kind))
        })
        .collect();
    let Some(proofs) = proofs else { return false };
    let all = proofs
        .iter()
        .map(|(proof, amount, kind)| (proof, *amount, *kind));
    let Ok(ys) = verify_funding(all, &wanted, &BTreeSet::new(), &Dleq) else {
        return false;
    };
    assert_eq!(ys.len(), proofs.len());
    let signed = vectors::funded();
    for (number, (proof, amount, _)) in (0..).zip(&proofs) {
        assert_eq!(
            Some(&proof.secret),
            signed.secret(number).as_ref(),
            "never signed"
        );
        assert_eq!(
            Some(*amount),
            signed.amount(number),
            "signed for another amount"
        );
    }
    true
}

/// The spelling of a lock: what is taken means to a mint's own parser just what was agreed.
fn secret(bytes: &[u8]) -> bool {
    let mut taken = false;
    for kind in [LockKind::Htlc(LOCK), LockKind::P2pk] {
        if !secret_is_taken(bytes, kind) {
            continue;
        }
        taken = true;
        let text = core::str::from_utf8(bytes).unwrap();
        let read = SpendingConditions::try_from(&Secret::new(text)).unwrap();
        let agreed = terms();
        let (pubkeys, conditions) = match (kind, read) {
            (LockKind::Htlc(lock), SpendingConditions::HTLCConditions { data, conditions }) => {
                let data: &[u8] = data.as_ref();
                assert_eq!(data, lock);
                (Some(vec![agreed.receiver]), conditions)
            }
            (LockKind::P2pk, SpendingConditions::P2PKConditions { data, conditions }) => {
                assert_eq!(data, agreed.receiver);
                (None, conditions)
            }
            (_, other) => panic!("taken for another kind: {other:?}"),
        };
        let conditions = conditions.unwrap();
        assert_eq!(conditions.pubkeys, pubkeys);
        assert_eq!(conditions.refund_keys, Some(vec![agreed.refund]));
        assert_eq!(conditions.locktime, Some(agreed.locktime));
        assert_eq!(conditions.sig_flag, SigFlag::SigInputs);
        assert_eq!(conditions.num_sigs, None);
        assert_eq!(conditions.num_sigs_refund, None);
    }
    taken
}

/// A release of the purse in `funding.json`, two steps of which were shown: what is taken is the
/// payee's signature on every proof from the third step on.
fn release(bytes: &[u8]) -> bool {
    let funded = vectors::funded();
    let Ok(release) = Release::decode(KEY, &funded, 2, bytes) else {
        return false;
    };
    assert_eq!(release.encode(), bytes, "one encoding");
    let taken = release.verify(&funded).is_ok();
    assert!(!taken || release.from <= 3);
    taken
}

/// A tick for each step of the chain in `steps.json`, wherever the payee was: what is credited is that step's
/// preimage, and that is credited. True where it pays something.
pub(crate) fn tick(bytes: &[u8]) -> bool {
    let mut taken = false;
    for step in 1..=vectors::steps() {
        let due = vectors::preimage(step).is_some_and(|preimage| preimage == bytes);
        for credited in 0..step {
            for known in [None, vectors::preimage(credited)] {
                let found = vectors::is_credited(credited, known, step, bytes);
                assert_eq!(found, due, "step {step} after {credited}");
            }
        }
        taken |= due;
    }
    taken
}

/// Everything else that a peer or the terms say in this method's encodings.
fn others(bytes: &[u8]) -> bool {
    let expected = Expected {
        key: KEY,
        seq: Seq(1),
        mint: "https://mint.example",
        unit: "sat",
    };
    let swap = SwapParams::decode(bytes).inspect(|params| assert_eq!(params.encode(), bytes));
    let locked = LockedParams::decode(bytes).inspect(|params| assert_eq!(params.encode(), bytes));
    let opened = Opening::decode(KEY, bytes).is_ok();
    let paid = Payload::decode(expected, bytes).is_ok();
    swap.is_ok() || locked.is_ok() || opened || paid
}

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    seeds: Vec<Vec<u8>>,
}

fn file(name: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/cashu");
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let bytes = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
    bytes.map(Result::unwrap).collect()
}

/// The field `field` of every case under `list`.
fn cases(of: &Value, list: &str, field: &str) -> Vec<String> {
    let cases = of[list].as_array().unwrap().iter();
    cases
        .map(|case| case[field].as_str().unwrap().to_owned())
        .collect()
}

fn hexes(of: &Value, list: &str, field: &str) -> Vec<Vec<u8>> {
    cases(of, list, field)
        .iter()
        .map(|hex| unhex(hex))
        .collect()
}

fn targets() -> Vec<Target> {
    let funding = file("funding.json");
    let mut openings = hexes(&funding, "valid", "hex");
    openings.extend(hexes(&funding, "invalid", "hex"));
    let secrets = cases(&file("locks.json"), "cases", "secret");
    let mint = crate::AcceptedMint::sat("https://mint.example").unwrap();
    let dear = mint
        .clone()
        .with_price_permille(1_045)
        .unwrap()
        .with_purse_max(9)
        .unwrap();
    let receiver = ReceiverKey::from_bytes(&[9; 32]).unwrap().public();
    let params = [
        SwapParams::new(vec![mint.clone()])
            .unwrap()
            .encode()
            .to_vec(),
        SwapParams::new(vec![dear.clone()])
            .unwrap()
            .encode()
            .to_vec(),
        LockedParams::new(vec![mint], receiver)
            .unwrap()
            .encode()
            .to_vec(),
        LockedParams::new(vec![dear], receiver)
            .unwrap()
            .encode()
            .to_vec(),
    ];
    let target = |name, run, seeds| Target { name, run, seeds };
    vec![
        target("opening", opening, openings),
        target(
            "secret",
            secret,
            secrets.into_iter().map(String::into_bytes).collect(),
        ),
        target(
            "release",
            release,
            hexes(&file("release.json"), "cases", "hex"),
        ),
        target("tick", tick, hexes(&file("steps.json"), "cases", "payload")),
        target("others", others, params.into()),
    ]
}

/// Numbers that follow from a seed.
struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.rolled += 1;
        let hash = TaggedHash::new("streampay/test/dice")
            .u64(self.seed)
            .u64(self.rolled)
            .finish();
        let (first, _) = hash.0.split_first_chunk().unwrap();
        usize::try_from(u64::from_be_bytes(*first) % u64::try_from(below.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }
}

/// One seed of the corpus, changed in one to four places.
fn mutate(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let to = (at + dice.roll(40)).min(bytes.len());
        match dice.roll(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x17, 0x18, 0x7f, 0x80, 0xff][dice.roll(7)],
            2 => bytes.insert(at, dice.byte()),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.roll(other.len() + 1);
                let part = other[from..(from + to - at).min(other.len())].to_vec();
                bytes.splice(at..to, part);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Every seed as it is, then as many changed ones as the time or `rounds` allow.
fn hunt(first: u64, rounds: u64, span: Duration) {
    for target in targets() {
        let until = Instant::now() + span;
        let taken = target
            .seeds
            .iter()
            .filter(|seed| (target.run)(seed))
            .count();
        assert!(taken > 0, "{}: no seed is taken", target.name);
        let (mut run, mut kept) = (0_u64, 0_u64);
        while run < rounds || Instant::now() < until {
            let seed = first + run;
            let bytes = mutate(&mut Dice { seed, rolled: 0 }, &target.seeds);
            let caught = std::panic::catch_unwind(|| (target.run)(&bytes));
            let taken = caught.unwrap_or_else(|_| {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("target {}, seed {seed}, input {hex}", target.name)
            });
            run += 1;
            kept += u64::from(taken);
        }
        println!("{}: {run} inputs, {kept} of them taken", target.name);
    }
}

#[test]
fn vectors_changed_at_random_are_read_strictly_or_refused() {
    hunt(0, 300, Duration::ZERO);
}

/// Seconds for each target: `STREAMPAY_FUZZ_SECONDS`, or 60.
#[test]
#[ignore = "as long as one likes; see the head of this file"]
fn long() {
    let seconds = std::env::var("STREAMPAY_FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(60);
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // Another stretch of seeds each time; one that fails is named.
    let first = started.unwrap().as_secs() << 24;
    hunt(first, 1, Duration::from_secs(seconds));
}
