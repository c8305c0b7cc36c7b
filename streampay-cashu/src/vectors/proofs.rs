//! Keysets and proofs of them, each with one thing wrong: `proofs.json`.

use std::collections::BTreeSet;

use cdk::Amount;
use cdk::nuts::{CurrencyUnit, Id, KeySet, Keys, Proof, PublicKey, Witness};
use serde_json::{Value, json};

use super::hex;
use crate::chain::LockKind;
use crate::verify::tests::{good, key, keyset, signed, terms, wanted};
use crate::verify::{Dleq, TrustedKeyset, VerifyError, verify_funding};

const KIND: LockKind = LockKind::Htlc([0xab; 32]);
const AMOUNT: u64 = 8;

struct Case {
    name: &'static str,
    keyset: KeySet,
    proofs: Vec<Proof>,
    amount: u64,
    seen: Vec<PublicKey>,
    error: Option<VerifyError>,
}

/// Another lock of the same terms.
fn second() -> String {
    terms().secret(KIND, &[8; 32]).to_string()
}

fn plain() -> KeySet {
    keyset(CurrencyUnit::Sat, 100, None)
}

impl Case {
    /// Two good proofs.
    fn good(name: &'static str) -> Self {
        Self {
            name,
            keyset: plain(),
            proofs: vec![signed(&good(KIND), AMOUNT), signed(&second(), AMOUNT)],
            amount: AMOUNT,
            seen: Vec::new(),
            error: None,
        }
    }

    /// Good proofs of another keyset.
    fn of(name: &'static str, keyset: KeySet, error: Option<VerifyError>) -> Self {
        let mut case = Self::good(name);
        for proof in &mut case.proofs {
            proof.keyset_id = keyset.id;
        }
        Self {
            keyset,
            error,
            ..case
        }
    }

    /// The second proof is not good.
    fn with(name: &'static str, change: impl FnOnce(&mut Proof), error: VerifyError) -> Self {
        let mut case = Self::good(name);
        change(&mut case.proofs[1]);
        Self {
            error: Some(error),
            ..case
        }
    }

    fn judged(&self) -> Result<(), VerifyError> {
        let trusted = TrustedKeyset::new(self.keyset.clone())?;
        let all = self.proofs.iter().map(|proof| (proof, self.amount, KIND));
        let seen: BTreeSet<_> = self.seen.iter().map(PublicKey::to_bytes).collect();
        verify_funding(all, &wanted(&trusted), &seen, &Dleq).map(|_| ())
    }

    fn to_json(&self) -> Value {
        assert_eq!(self.judged().err(), self.error, "{}", self.name);
        let set = &self.keyset;
        let keys = set.keys.iter().map(|(amount, key)| {
            let amount = amount.to_u64();
            json!({"amount": amount, "key": key.to_hex()})
        });
        json!({
            "name": self.name,
            "keyset": {
                "id": hex(&set.id.to_bytes()),
                "unit": set.unit.to_string(),
                "input_fee_ppk": set.input_fee_ppk,
                "final_expiry": set.final_expiry.map(|at| at.to_string()),
                "keys": keys.collect::<Vec<_>>(),
            },
            "proofs": serde_json::to_value(&self.proofs).unwrap(),
            "amount": self.amount,
            "seen": self.seen.iter().map(PublicKey::to_hex).collect::<Vec<_>>(),
            "error": self.error.map(|error| format!("{error:?}")),
        })
    }
}

fn keysets() -> Vec<Case> {
    let mut v1 = plain();
    v1.id = Id::v1_from_keys(&v1.keys);
    let mut endless = plain();
    endless.final_expiry = Some(0);
    let mut cheaper = plain();
    cheaper.input_fee_ppk = 0;
    let mut later = keyset(CurrencyUnit::Sat, 100, Some(1));
    later.final_expiry = None;
    let mut swapped = plain();
    let other = swapped
        .keys
        .iter()
        .map(|(amount, found)| match amount.to_u64() {
            AMOUNT => (*amount, key(4).public_key()),
            _ => (*amount, *found),
        });
    swapped.keys = Keys::new(other.collect());
    let ends = terms().locktime + 3_600;
    let end = |at| keyset(CurrencyUnit::Sat, 100, Some(at));
    vec![
        Case::of("an id of version 1", v1, None),
        Case::of("an end of 0 is none", endless, None),
        Case::of("ends with the way back", end(ends), None),
        Case::of(
            "another fee than in its id",
            cheaper,
            Some(VerifyError::KeysetId),
        ),
        Case::of(
            "another end than in its id",
            later,
            Some(VerifyError::KeysetId),
        ),
        Case::of(
            "another key than in its id",
            swapped,
            Some(VerifyError::KeysetId),
        ),
        Case::of(
            "another unit",
            keyset(CurrencyUnit::Msat, 100, None),
            Some(VerifyError::Unit),
        ),
        Case::of(
            "a fee above the agreed one",
            keyset(CurrencyUnit::Sat, 1_001, None),
            Some(VerifyError::Fee),
        ),
        Case::of(
            "ends a second before the way back",
            end(ends - 1),
            Some(VerifyError::FinalExpiry),
        ),
    ]
}

fn proofs() -> Vec<Case> {
    let mut odd = Case::good("an amount without a key");
    for proof in &mut odd.proofs {
        proof.amount = Amount::from(3);
    }
    (odd.amount, odd.error) = (3, Some(VerifyError::Denomination));
    let mut twice = Case::good("the same proof twice");
    twice.proofs[1] = twice.proofs[0].clone();
    twice.error = Some(VerifyError::Seen);
    let mut before = Case::good("a proof that was seen before");
    before.seen = vec![before.proofs[1].y().unwrap()];
    before.error = Some(VerifyError::Seen);
    let mut cheap = Case::good("signed for a smaller amount");
    cheap.proofs[1] = signed(&second(), 4);
    cheap.proofs[1].amount = Amount::from(AMOUNT);
    cheap.error = Some(VerifyError::Dleq);
    let dleq = |proof: &mut Proof| proof.dleq.clone().unwrap();
    vec![
        Case::with(
            "of another keyset",
            |proof| proof.keyset_id = keyset(CurrencyUnit::Sat, 101, None).id,
            VerifyError::Keyset,
        ),
        Case::with(
            "a witness",
            |proof| proof.witness = Some(Witness::P2PKWitness(Default::default())),
            VerifyError::Extra,
        ),
        Case::with(
            "a key to derive its keys from",
            |proof| proof.p2pk_e = Some(key(4).public_key()),
            VerifyError::Extra,
        ),
        Case::with(
            "worth something else",
            |proof| *proof = signed(&second(), 4),
            VerifyError::WrongAmount,
        ),
        odd,
        Case::with(
            "no DLEQ proof",
            |proof| proof.dleq = None,
            VerifyError::NoDleq,
        ),
        Case::with(
            "another e",
            |proof| {
                let mut changed = dleq(proof);
                changed.e = key(51);
                proof.dleq = Some(changed);
            },
            VerifyError::Dleq,
        ),
        Case::with(
            "another s",
            |proof| {
                let mut changed = dleq(proof);
                changed.s = key(51);
                proof.dleq = Some(changed);
            },
            VerifyError::Dleq,
        ),
        Case::with(
            "another blinding factor",
            |proof| {
                let mut changed = dleq(proof);
                changed.r = key(51);
                proof.dleq = Some(changed);
            },
            VerifyError::Dleq,
        ),
        Case::with(
            "another C",
            |proof| proof.c = key(4).public_key(),
            VerifyError::Dleq,
        ),
        cheap,
        twice,
        before,
    ]
}

/// In which amounts a step may be, by the mint's denominations.
fn steps() -> Vec<Value> {
    let powers: Vec<u64> = (0..6).map(|bit| 1 << bit).collect();
    let cases: [(&str, &[u64], &[u64]); 8] = [
        ("as few as can be", &powers, &[8, 2]),
        ("one", &powers, &[32]),
        ("more of the largest than one", &powers, &[32, 32, 1]),
        ("the largest halved", &powers, &[4, 4, 2]),
        ("the smallest halved", &powers, &[8, 1, 1]),
        ("ones", &powers, &[1; 10]),
        ("a denomination that the mint does not have", &powers, &[10]),
        ("without a one", &[2, 8], &[8, 2]),
    ];
    let case = |(name, denominations, amounts): (&str, &[u64], &[u64])| {
        let mut funding = super::funding();
        funding.amounts = amounts.to_vec();
        let refusal = (!funding.is_shortest(denominations)).then_some("2");
        json!({
            "name": name, "denominations": denominations, "amounts": amounts, "refusal": refusal,
        })
    };
    cases.map(case).to_vec()
}

pub(super) fn file() -> Value {
    let mut cases = vec![Case::good("as agreed")];
    cases.extend(keysets());
    cases.extend(proofs());
    let terms = terms();
    json!({
        "format": "1",
        "unit": "sat",
        "max_fee_ppk": 1_000,
        "refund_window_s": 3_600,
        "lock": "ab".repeat(32),
        "receiver": terms.receiver.to_hex(),
        "refund": terms.refund.to_hex(),
        "locktime": terms.locktime.to_string(),
        "cases": cases.iter().map(Case::to_json).collect::<Vec<_>>(),
        "steps": steps(),
    })
}
