//! What the strict verifier costs a proof, against the DLEQ check alone, in one run, by itself and with
//! making the proofs again from the funding as it was sent, as an opening does:
//! `cargo run --release -p streampay-cashu --example verify_cost`.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cdk::Amount;
use cdk::dhke::{blind_message, construct_proofs, sign_message};
use cdk::nuts::{BlindSignature, CurrencyUnit, Id, KeySet, Keys, Proof, SecretKey};
use minicbor::Encoder;
use streampay_cashu::chain::{Chain, Funding, LockKind, LockTerms, Preimage};
use streampay_cashu::verify::{Dleq, TrustedKeyset, Wanted, verify_funding};
use streampay_core::session::TaggedHash;
use streampay_core::units::{PurseId, PurseKey, SessionId};

const PROOFS: u64 = 500;
const ROUNDS: u32 = 9;
const SALT: [u8; 32] = [6; 32];
const PURSE: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};

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
    let made = |number: u64, lock: &[u8; 32]| {
        let kind = LockKind::Htlc(*lock);
        let secret = terms.secret(kind, &numbered("nonce", number));
        let r = SecretKey::from_slice(&numbered("blinding", number)).unwrap();
        let (blinded, r) = blind_message(secret.as_bytes(), Some(r)).unwrap();
        let c = sign_message(&mint, &blinded).unwrap();
        let amount = Amount::from(8);
        let signature = BlindSignature::new(amount, c, set.id, &blinded, &mint).unwrap();
        let made = construct_proofs(vec![signature], vec![r], vec![secret], &set.keys);
        (made.unwrap().pop().unwrap(), kind)
    };
    let proofs: Vec<(Proof, LockKind)> = (0..).zip(&locks).map(|(n, lock)| made(n, lock)).collect();
    let sent = funding(&set, &terms, &locks, &proofs);
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
    // From the bytes that a payee was sent.
    let opening = || {
        let funding = Funding::decode(PURSE, &sent).unwrap();
        let proofs = funding.rebuilt(terms.receiver).unwrap();
        let proofs = (proofs.iter()).map(|(proof, amount, kind)| (proof, *amount, *kind));
        verify_funding(proofs, &wanted, &BTreeSet::new(), &Dleq).unwrap();
    };
    let (mut strict, mut alone, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(time(dleq));
        strict.push(time(all));
        whole.push(time(opening));
    }
    let (strict, alone, whole) = (median(strict), median(alone), median(whole));
    let each = |all: Duration| all.as_secs_f64() * 1e6 / f64::from(u16::try_from(PROOFS).unwrap());
    let ratio = |of: Duration| of.as_secs_f64() / alone.as_secs_f64();
    println!("DLEQ alone           {:8.1} us a proof", each(alone));
    println!(
        "strict verifier      {:8.1} us a proof, {:.2} times",
        each(strict),
        ratio(strict)
    );
    println!(
        "with making it again {:8.1} us a proof, {:.2} times",
        each(whole),
        ratio(whole)
    );
}

/// What both sides derive of proof `number`. Spec: cashu 3.2.
fn numbered(what: &str, number: u64) -> [u8; 32] {
    let tag = format!("streampay/cashu/{what}/v1");
    TaggedHash::new(&tag).bytes32(&SALT).u64(number).finish().0
}

/// A funding of one proof a step as it is sent. Spec: cashu 3.2.
fn funding(
    set: &KeySet,
    terms: &LockTerms,
    locks: &[[u8; 32]],
    proofs: &[(Proof, LockKind)],
) -> Vec<u8> {
    let mut pieces = Vec::new();
    for (proof, _) in proofs {
        let dleq = proof.dleq.as_ref().unwrap();
        pieces.extend(proof.c.to_bytes());
        pieces.extend(dleq.e.to_secret_bytes());
        pieces.extend(dleq.s.to_secret_bytes());
    }
    let mut to = Encoder::new(Vec::new());
    let mut write = || {
        to.map(12)?.u8(0)?.bytes(&PURSE.session.0)?;
        to.u8(2)?.u32(PURSE.purse.0)?;
        to.u8(4)?.str("https://mint.example")?.u8(6)?.str("sat")?;
        to.u8(8)?.bytes(&set.id.to_bytes())?.u8(10)?.u64(PROOFS)?;
        to.u8(12)?.array(1)?.u8(8)?.u8(14)?.u64(terms.locktime)?;
        to.u8(16)?.bytes(&terms.refund.to_bytes())?;
        to.u8(18)?.bytes(&SALT)?.u8(20)?.bytes(&locks.concat())?;
        to.u8(22)?.bytes(&pieces).map(|_| ())
    };
    write().unwrap();
    to.into_writer()
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
