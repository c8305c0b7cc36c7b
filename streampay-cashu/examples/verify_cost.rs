//! What the strict verifier costs a proof, against the DLEQ check alone, in one run:
//! `cargo run --release -p streampay-cashu --example verify_cost`.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cdk::Amount;
use cdk::dhke::{blind_message, construct_proofs, sign_message};
use cdk::nuts::{BlindSignature, CurrencyUnit, Id, KeySet, Keys, Proof, SecretKey};
use streampay_cashu::chain::{Chain, LockKind, LockTerms, Preimage};
use streampay_cashu::verify::{Dleq, TrustedKeyset, Wanted, verify_funding};

const PROOFS: u64 = 500;
const ROUNDS: u32 = 9;

fn main() {
    let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
    let mint = key(100);
    let keys = Keys::new(BTreeMap::from([(Amount::from(8), mint.public_key())]));
    let unit = CurrencyUnit::Sat;
    let set = KeySet {
        id: Id::v2_from_data(&keys, &unit, 0, None),
        unit: unit.clone(),
        active: Some(true),
        keys,
        input_fee_ppk: 0,
        final_expiry: None,
    };
    let terms = LockTerms {
        receiver: key(1).public_key(),
        refund: key(2).public_key(),
        locktime: 1_800_000_000,
    };
    let locks = Chain::new(Preimage::new([5; 32]), PROOFS).unwrap().locks();
    let proofs: Vec<(Proof, LockKind)> = (0_u8..=u8::MAX)
        .cycle()
        .zip(&locks)
        .map(|(nonce, lock)| {
            let kind = LockKind::Htlc(*lock);
            let secret = terms.secret(kind, &[nonce; 32]);
            let (blinded, r) = blind_message(secret.as_bytes(), None).unwrap();
            let c = sign_message(&mint, &blinded).unwrap();
            let amount = Amount::from(8);
            let signature = BlindSignature::new(amount, c, set.id, &blinded, &mint).unwrap();
            let made = construct_proofs(vec![signature], vec![r], vec![secret], &set.keys);
            (made.unwrap().pop().unwrap(), kind)
        })
        .collect();
    let trusted = TrustedKeyset::new(set).unwrap();
    let wanted = Wanted {
        keyset: &trusted,
        unit: &unit,
        terms,
        refund_window_s: 86_400,
        max_fee_ppk: 1_000,
    };
    let all = || {
        let proofs = proofs.iter().map(|(proof, kind)| (proof, 8, *kind));
        verify_funding(proofs, &wanted, &BTreeSet::new(), &Dleq).unwrap();
    };
    let dleq = || {
        let key = mint.public_key();
        proofs
            .iter()
            .for_each(|(proof, _)| proof.verify_dleq(key).unwrap());
    };
    let (mut strict, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(time(dleq));
        strict.push(time(all));
    }
    let (strict, alone) = (median(strict), median(alone));
    let each = |all: Duration| all.as_secs_f64() * 1e6 / f64::from(u16::try_from(PROOFS).unwrap());
    println!("DLEQ alone      {:8.1} us a proof", each(alone));
    println!("strict verifier {:8.1} us a proof", each(strict));
    println!(
        "ratio           {:8.2}",
        strict.as_secs_f64() / alone.as_secs_f64()
    );
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
