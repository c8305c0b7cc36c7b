//! Every way in which a wallet's usual check can be fooled, each with a proof that the mint did
//! sign.

mod keysets;

use std::collections::BTreeMap;

use cdk::dhke::{blind_message, construct_proofs, sign_message};
use cdk::nuts::{BlindSignature, Keys, SecretKey};
use cdk::secret::Secret;
use proptest::prelude::*;

use super::*;

const LOCKTIME: u64 = 1_800_000_000;
const LOCK: [u8; 32] = [0xab; 32];

pub(crate) fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

pub(crate) fn mint_key(amount: u64) -> SecretKey {
    key(u8::try_from(amount).unwrap() + 100)
}

pub(crate) fn keyset(unit: CurrencyUnit, ppk: u64, expiry: Option<u64>) -> KeySet {
    let keys: BTreeMap<Amount, PublicKey> = [1_u64, 2, 4, 8]
        .map(|amount| (Amount::from(amount), mint_key(amount).public_key()))
        .into();
    let keys = Keys::new(keys);
    KeySet {
        id: Id::v2_from_data(&keys, &unit, ppk, expiry),
        unit,
        active: Some(true),
        keys,
        input_fee_ppk: ppk,
        final_expiry: expiry,
    }
}

fn trusted() -> TrustedKeyset {
    TrustedKeyset::new(keyset(CurrencyUnit::Sat, 100, None)).unwrap()
}

pub(crate) fn terms() -> LockTerms {
    LockTerms {
        receiver: key(1).public_key(),
        refund: key(2).public_key(),
        locktime: LOCKTIME,
    }
}

pub(crate) fn wanted(keyset: &TrustedKeyset) -> Wanted<'_> {
    Wanted {
        keyset,
        unit: &CurrencyUnit::Sat,
        terms: terms(),
        refund_window_s: 3_600,
        max_fee_ppk: 1_000,
    }
}

/// A proof with this secret that the mint did sign, with its DLEQ proof.
pub(crate) fn signed(secret: &str, amount: u64) -> Proof {
    let set = keyset(CurrencyUnit::Sat, 100, None);
    let secret = Secret::new(secret);
    let (blinded, r) = blind_message(secret.as_bytes(), Some(key(50))).unwrap();
    let mint = mint_key(amount);
    let c = sign_message(&mint, &blinded).unwrap();
    let signature = BlindSignature::new(Amount::from(amount), c, set.id, &blinded, &mint).unwrap();
    construct_proofs(vec![signature], vec![r], vec![secret], &set.keys)
        .unwrap()
        .remove(0)
}

/// True where these bytes spell the lock that was agreed.
pub(crate) fn secret_is_taken(bytes: &[u8], kind: LockKind) -> bool {
    let read = Spending::read(bytes);
    read.and_then(|read| read.check(kind, &terms())).is_ok()
}

pub(crate) fn good(kind: LockKind) -> String {
    terms().secret(kind, &[7; 32]).to_string()
}

fn check(proof: &Proof, amount: u64, kind: LockKind) -> Result<(), VerifyError> {
    let keyset = trusted();
    let seen = BTreeSet::new();
    verify_proof(proof, amount, kind, &wanted(&keyset), &seen, &Dleq).map(|_| ())
}

#[test]
fn agreed_locks_are_taken() {
    for kind in [LockKind::Htlc(LOCK), LockKind::P2pk] {
        assert_eq!(check(&signed(&good(kind), 8), 8, kind), Ok(()));
    }
}

/// What is changed in a good secret, and why it is refused.
pub(crate) type Change = (&'static str, fn(&str) -> String, VerifyError);

pub(crate) fn changes() -> [Change; 28] {
    [
        (
            "taken back by anybody: no refund key",
            |s| cut(s, "refund"),
            VerifyError::Refund,
        ),
        (
            "a short locktime",
            |s| s.replace("1800000000", "1700000003"),
            VerifyError::Locktime,
        ),
        (
            "a longer locktime",
            |s| s.replace("1800000000", "1800000001"),
            VerifyError::Locktime,
        ),
        ("no locktime", |s| cut(s, "locktime"), VerifyError::Locktime),
        (
            "a locktime in another spelling",
            |s| s.replace("\"1800000000", "\"01800000000"),
            VerifyError::Locktime,
        ),
        (
            "another refund key",
            |s| s.replace(&key(2).public_key().to_hex(), &key(3).public_key().to_hex()),
            VerifyError::Refund,
        ),
        (
            "two refund keys",
            |s| add(s, "\"refund\",", &key(3)),
            VerifyError::Refund,
        ),
        (
            "SIG_ALL",
            |s| s.replace("SIG_INPUTS", "SIG_ALL"),
            VerifyError::Flag,
        ),
        (
            "an unknown flag",
            |s| s.replace("SIG_INPUTS", "SIG_NONE"),
            VerifyError::Flag,
        ),
        (
            "two signatures",
            |s| tag(s, "[\"n_sigs\",\"2\"]"),
            VerifyError::Signatures,
        ),
        (
            "no signature",
            |s| tag(s, "[\"n_sigs\",\"0\"]"),
            VerifyError::Signatures,
        ),
        (
            "two refund signatures",
            |s| tag(s, "[\"n_sigs_refund\",\"2\"]"),
            VerifyError::Signatures,
        ),
        (
            "one signature, spelt out",
            |s| tag(s, "[\"n_sigs\",\"1\"]"),
            VerifyError::Signatures,
        ),
        (
            "one refund signature, spelt out",
            |s| tag(s, "[\"n_sigs_refund\",\"1\"]"),
            VerifyError::Signatures,
        ),
        (
            "no flag, which stands for SIG_INPUTS",
            |s| s.replace(",[\"sigflag\",\"SIG_INPUTS\"]", ""),
            VerifyError::Flag,
        ),
        (
            "a second locktime",
            |s| tag(s, "[\"locktime\",\"1\"]"),
            VerifyError::DuplicateTag,
        ),
        (
            "a second refund tag",
            |s| tag(s, "[\"refund\",\"02\"]"),
            VerifyError::DuplicateTag,
        ),
        (
            "a second flag",
            |s| tag(s, "[\"sigflag\",\"SIG_ALL\"]"),
            VerifyError::DuplicateTag,
        ),
        (
            "an unknown tag",
            |s| tag(s, "[\"oracle\",\"x\"]"),
            VerifyError::UnknownTag,
        ),
        ("an empty tag", |s| tag(s, "[]"), VerifyError::UnknownTag),
        (
            "a locktime of two values",
            |s| s.replace("\"1800000000\"", "\"1800000000\",\"1\""),
            VerifyError::UnknownTag,
        ),
        (
            "a repeated key",
            |s| s.replace("\"tags\"", "\"nonce\":\"aa\",\"tags\""),
            VerifyError::Secret,
        ),
        (
            "an unknown key",
            |s| s.replace("\"tags\"", "\"more\":\"aa\",\"tags\""),
            VerifyError::Secret,
        ),
        (
            "a list without names",
            |s| {
                let bare = ["nonce", "data", "tags"].map(|name| format!("\"{name}\":"));
                let bare = bare
                    .iter()
                    .fold(s.to_owned(), |s, name| s.replace(name, ""));
                bare.replace('{', "[").replace('}', "]")
            },
            VerifyError::Secret,
        ),
        (
            "something behind it",
            |s| format!("{s} x"),
            VerifyError::Secret,
        ),
        (
            "another kind's name",
            |s| s.replacen("P2PK", "P2SH", 1).replacen("HTLC", "P2SH", 1),
            VerifyError::Kind,
        ),
        (
            "no condition at all",
            |_| "00".repeat(32),
            VerifyError::Secret,
        ),
        (
            "no nonce",
            |s| s.replace(&"07".repeat(32), ""),
            VerifyError::Secret,
        ),
    ]
}

#[test]
fn other_locks_are_refused_though_the_mint_signed_them() {
    for kind in [LockKind::Htlc(LOCK), LockKind::P2pk] {
        for (name, change, expect) in changes() {
            let secret = change(&good(kind));
            assert_ne!(secret, good(kind), "{name} changes something");
            let got = check(&signed(&secret, 8), 8, kind);
            assert_eq!(got, Err(expect), "{name}, {kind:?}");
        }
    }
}

fn cut(secret: &str, name: &str) -> String {
    let from = secret.find(&format!("[\"{name}\"")).unwrap();
    let to = from + secret[from..].find(']').unwrap() + 1;
    let rest = secret[to..].strip_prefix(',').unwrap();
    format!("{}{rest}", &secret[..from])
}

fn tag(secret: &str, tag: &str) -> String {
    secret.replacen("\"tags\":[", &format!("\"tags\":[{tag},"), 1)
}

fn add(secret: &str, after: &str, key: &SecretKey) -> String {
    let more = format!("{after}\"{}\",", key.public_key().to_hex());
    secret.replacen(after, &more, 1)
}

pub(crate) fn key_changes() -> [(LockKind, String, VerifyError); 9] {
    let htlc = LockKind::Htlc(LOCK);
    let other = key(3).public_key().to_hex();
    let own = key(1).public_key().to_hex();
    let more = format!("[\"pubkeys\",\"{own}\",\"{other}\"]");
    let only = format!("[\"pubkeys\",\"{own}\"]");
    [
        (htlc, good(htlc).replace(&only, &more), VerifyError::Keys),
        (htlc, good(htlc).replace(&own, &other), VerifyError::Keys),
        (htlc, cut(&good(htlc), "pubkeys"), VerifyError::Keys),
        (
            htlc,
            good(htlc).replace("[\"pubkeys\"", "[\"pubkeys\",\"\""),
            VerifyError::Keys,
        ),
        (
            LockKind::P2pk,
            tag(&good(LockKind::P2pk), &only),
            VerifyError::Keys,
        ),
        (
            LockKind::P2pk,
            good(LockKind::P2pk).replace(&own, &other),
            VerifyError::Data,
        ),
        (htlc, good(LockKind::Htlc([1; 32])), VerifyError::Data),
        // As a wallet's check takes it: the right key, and a preimage that nobody knows.
        (LockKind::P2pk, good(htlc), VerifyError::Kind),
        (htlc, good(LockKind::P2pk), VerifyError::Kind),
    ]
}

#[test]
fn keys_that_were_not_agreed_are_refused() {
    for (kind, secret, expect) in key_changes() {
        assert_eq!(check(&signed(&secret, 8), 8, kind), Err(expect), "{secret}");
    }
}

#[test]
fn only_what_the_mint_signed_is_taken() {
    let kind = LockKind::P2pk;
    let proof = || signed(&good(kind), 8);
    type Change = fn(&mut Proof);
    let cases: [(&str, Change, VerifyError); 9] = [
        (
            "no DLEQ proof",
            |proof| proof.dleq = None,
            VerifyError::NoDleq,
        ),
        (
            "another blinding factor",
            |proof| {
                proof.dleq.as_mut().unwrap().r = key(51);
            },
            VerifyError::Dleq,
        ),
        (
            "another e",
            |proof| proof.dleq.as_mut().unwrap().e = key(51),
            VerifyError::Dleq,
        ),
        (
            "another s",
            |proof| proof.dleq.as_mut().unwrap().s = key(51),
            VerifyError::Dleq,
        ),
        (
            "another C",
            |proof| proof.c = key(4).public_key(),
            VerifyError::Dleq,
        ),
        (
            "another amount",
            |proof| proof.amount = Amount::from(4),
            VerifyError::WrongAmount,
        ),
        (
            "another keyset",
            |proof| {
                proof.keyset_id = keyset(CurrencyUnit::Sat, 101, None).id;
            },
            VerifyError::Keyset,
        ),
        (
            "a witness",
            |proof| {
                proof.witness = Some(cdk::nuts::Witness::P2PKWitness(Default::default()));
            },
            VerifyError::Extra,
        ),
        (
            "keys to be derived",
            |proof| {
                proof.p2pk_e = Some(key(4).public_key());
            },
            VerifyError::Extra,
        ),
    ];
    for (name, change, expect) in cases {
        let mut proof = proof();
        change(&mut proof);
        assert_eq!(check(&proof, 8, kind), Err(expect), "{name}");
    }
    // Signed as 4, said to be 8.
    let mut dear = signed(&good(kind), 4);
    dear.amount = Amount::from(8);
    assert_eq!(check(&dear, 8, kind), Err(VerifyError::Dleq));
    let mut odd = proof();
    odd.amount = Amount::from(3);
    assert_eq!(check(&odd, 3, kind), Err(VerifyError::Denomination));
}

#[test]
fn proofs_are_taken_once() {
    let kind = LockKind::Htlc(LOCK);
    let proof = signed(&good(kind), 8);
    let keyset = trusted();
    let wanted = wanted(&keyset);
    let run = |proofs: Vec<&Proof>, seen: &BTreeSet<[u8; 33]>| {
        let all = proofs.into_iter().map(|proof| (proof, 8, kind));
        verify_funding(all, &wanted, seen, &Dleq)
    };
    let ys = run(vec![&proof], &BTreeSet::new()).unwrap();
    assert_eq!(ys, vec![proof.y().unwrap()]);
    assert_eq!(
        run(vec![&proof, &proof], &BTreeSet::new()),
        Err(VerifyError::Seen)
    );
    let seen = BTreeSet::from([ys[0].to_bytes()]);
    assert_eq!(run(vec![&proof], &seen), Err(VerifyError::Seen));
}

proptest! {
    #[test]
    fn no_mangled_secret_is_taken_for_the_agreed_one(
        at: prop::sample::Index, flip in 1_u8..=127, htlc: bool,
    ) {
        let kind = if htlc { LockKind::Htlc(LOCK) } else { LockKind::P2pk };
        let secret = good(kind);
        let mut bytes = secret.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // A nonce may be any text.
        let nonce = secret.find(&"07".repeat(32)).unwrap();
        prop_assume!(!(nonce..nonce + 64).contains(&at));
        prop_assert!(!secret_is_taken(&bytes, kind));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Spending::read(&bytes).is_ok();
    }
}
