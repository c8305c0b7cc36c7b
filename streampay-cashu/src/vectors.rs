//! Vectors for other implementations, in `spec/vectors/cashu`: written by this crate, for the spec's
//! own package knows no mint. `STREAMPAY_WRITE_VECTORS=1 cargo test -p streampay-cashu vectors`
//! writes them; without, the test fails where they have grown old.

mod params;
mod proofs;

use std::path::PathBuf;

use cdk::dhke::{blind_message, hash_to_curve, sign_message};
use cdk::nuts::{BlindSignature, PublicKey, SecretKey};
use cdk::secp256k1::{Keypair, Message};
use cdk::{Amount, SECP256K1};
use serde_json::{Value, json};
use streampay_core::units::{PurseId, PurseKey, SessionId, XOnlyKey};

use crate::chain::{
    Chain, Funded, Funding, Last, LockKind, LockTerms, Preimage, PurseKeys, ReceiverKey, Release,
    nonce_and_blinding,
};
use crate::coin::to_hex;
use crate::verify::tests::{changes, good, key_changes, keyset, mint_key, terms};

const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};
const STEPS: u64 = 4;
const AMOUNTS: [u64; 2] = [8, 2];
const LOCKTIME: u64 = 1_800_014_400;
const SALT: [u8; 32] = [6; 32];
const TOP: [u8; 32] = [5; 32];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn keys() -> PurseKeys {
    PurseKeys {
        payer: XOnlyKey(secret(11).public_key().x_only_public_key().serialize()),
        payee: XOnlyKey(secret(12).public_key().x_only_public_key().serialize()),
        purse: KEY,
    }
}

fn root() -> ReceiverKey {
    ReceiverKey::from_bytes(&[9; 32]).unwrap()
}

fn chain() -> Chain {
    Chain::new(Preimage::new(TOP), STEPS).unwrap()
}

pub(crate) fn receiver() -> PublicKey {
    keys().receiver(root().public()).unwrap()
}

/// With the mint's signatures, by the keys of the verifier's tests.
fn funding() -> Funding {
    let set = keyset(cdk::nuts::CurrencyUnit::Sat, 100, None);
    let mut funding = Funding::new(
        KEY,
        ("https://mint.example", "sat"),
        &set.id.to_bytes(),
        STEPS,
        AMOUNTS.to_vec(),
        (LOCKTIME, secret(8).public_key()),
        SALT,
        &chain().locks(),
    );
    let funded = funding.clone().with_receiver(receiver()).unwrap();
    let pieces = (0..funded.proofs()).flat_map(|number| {
        let amount = funded.amount(number).unwrap();
        let secret = funded.secret(number).unwrap();
        let r = funded.blinding(number).unwrap();
        let (blinded, r) = blind_message(secret.as_bytes(), Some(r)).unwrap();
        let mint = mint_key(amount);
        let c = sign_message(&mint, &blinded).unwrap();
        let amount = Amount::from(amount);
        let signature = BlindSignature::new(amount, c, set.id, &blinded, &mint).unwrap();
        let proofs = cdk::dhke::construct_proofs(vec![signature], vec![r], vec![secret], &set.keys);
        crate::chain::Piece::of(&proofs.unwrap()[0]).unwrap()
    });
    funding.pieces = pieces.collect::<Vec<u8>>().into();
    funding
}

/// What a payee makes of a tick of the chain in `steps.json`, up to `credited` of which was paid, with the
/// preimage `known`.
pub(crate) fn is_credited(
    credited: u64,
    known: Option<[u8; 32]>,
    step: u64,
    payload: &[u8],
) -> bool {
    let last = Last {
        step: credited,
        preimage: known.as_ref(),
    };
    let locks = chain().locks();
    let lock = |step: u64| {
        locks
            .get(usize::try_from(step).ok()?.checked_sub(1)?)
            .copied()
    };
    last.paid_to(step, payload, lock).is_ok()
}

/// The preimage of a step of the chain in `steps.json`.
pub(crate) fn preimage(step: u64) -> Option<[u8; 32]> {
    Some(*chain().preimage(step)?.dangerous_bytes())
}

/// How many steps it has.
pub(crate) const fn steps() -> u64 {
    STEPS
}

/// What `funding.json` holds.
pub(crate) fn funded() -> Funded {
    funding().with_receiver(receiver()).unwrap()
}

fn keys_file() -> Value {
    let cases = [0_u32, 1, u32::MAX].map(|purse| {
        let mut keys = keys();
        keys.purse.purse = PurseId(purse);
        json!({
            "name": format!("purse {purse}"),
            "root_secret": "09".repeat(32),
            "root": root().public().to_hex(),
            "payee_session_key": hex(&keys.payee.0),
            "payer_session_key": hex(&keys.payer.0),
            "session": hex(&keys.purse.session.0),
            "purse": purse,
            "secret": hex(&root().of_purse(&keys).unwrap().to_secret_bytes()),
            "receiver": keys.receiver(root().public()).unwrap().to_hex(),
        })
    });
    json!({"format": "1", "cases": cases})
}

fn chain_file() -> Value {
    let cases = [1_u64, 2, 5, 1024].map(|steps| {
        let chain = Chain::new(Preimage::new(TOP), steps).unwrap();
        let shown: Vec<u64> = [1, 2, steps / 2, steps]
            .into_iter()
            .filter(|step| (1..=steps).contains(step))
            .collect();
        let locks = chain.locks();
        let steps_shown: Vec<Value> = shown
            .iter()
            .map(|step| {
                let preimage = chain.preimage(*step).unwrap();
                json!({
                    "step": step,
                    "preimage": hex(preimage.dangerous_bytes()),
                    "lock": hex(&locks[usize::try_from(*step).unwrap() - 1]),
                })
            })
            .collect();
        json!({"name": format!("{steps} steps"), "top": hex(&TOP), "steps": steps, "shown": steps_shown})
    });
    json!({"format": "1", "cases": cases})
}

fn secrets_file() -> Value {
    let terms = LockTerms {
        receiver: receiver(),
        refund: secret(8).public_key(),
        locktime: LOCKTIME,
    };
    let lock = chain().locks()[0];
    let cases: Vec<Value> = [
        (LockKind::Htlc(lock), 0_u64),
        (LockKind::Htlc(lock), 767),
        (LockKind::P2pk, 1),
    ]
    .into_iter()
    .map(|(kind, number)| {
        let (nonce, blinding) = nonce_and_blinding(&SALT, number);
        let secret = terms.secret(kind, &nonce);
        let name = match kind {
            LockKind::Htlc(_) => "HTLC",
            LockKind::P2pk => "P2PK",
        };
        let lock = match kind {
            LockKind::Htlc(lock) => Value::String(hex(&lock)),
            LockKind::P2pk => Value::Null,
        };
        json!({
            "name": format!("{name}, proof {number}"),
            "kind": name,
            "lock": lock,
            "receiver": terms.receiver.to_hex(),
            "refund": terms.refund.to_hex(),
            "locktime": terms.locktime.to_string(),
            "salt": hex(&SALT),
            "number": number,
            "nonce": hex(&nonce),
            "blinding": hex(&blinding.unwrap().to_secret_bytes()),
            "secret": secret.to_string(),
            "y": hash_to_curve(secret.as_bytes()).unwrap().to_hex(),
        })
    })
    .collect();
    json!({"format": "1", "cases": cases})
}

fn funding_file() -> Value {
    let good = funding();
    let decode = |bytes: &[u8]| match Funding::decode(KEY, bytes) {
        Ok(_) => panic!("an invalid vector decodes"),
        Err(error) => format!("{error:?}"),
    };
    type Change = fn(&mut Funding);
    let changes: [(&str, Change); 8] = [
        ("no step", |funding| funding.steps = 0),
        ("too many steps", |funding| funding.steps = 1_025),
        ("a lock too few", |funding| {
            funding.locks = funding.locks[32..].to_vec().into();
        }),
        ("a proof too few", |funding| {
            funding.pieces = funding.pieces[97..].to_vec().into();
        }),
        ("no amounts", |funding| funding.amounts = Vec::new()),
        ("an amount of nothing", |funding| {
            funding.amounts = vec![8, 0]
        }),
        ("smallest first", |funding| funding.amounts = vec![2, 8]),
        ("amounts that overflow", |funding| {
            funding.amounts = vec![u64::MAX, 8];
        }),
    ];
    let mut invalid: Vec<Value> = changes
        .iter()
        .map(|(name, change)| {
            let mut funding = good.clone();
            change(&mut funding);
            let bytes = funding.encode();
            json!({"name": name, "hex": hex(&bytes), "error": decode(&bytes)})
        })
        .collect();
    let encoded = good.encode();
    let mut trailing = encoded.clone();
    trailing.push(0);
    let mut long = encoded.clone();
    // The purse's number, 3, in two bytes instead of one.
    assert_eq!(long.get(36..38), Some([2, 3].as_slice()));
    long.splice(37..38, [0x18, 3]);
    let mut elsewhere = encoded.clone();
    elsewhere[37] = 4;
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("cut off", encoded[..encoded.len() - 1].to_vec()),
        ("something behind it", trailing),
        ("a longer integer than needed", long),
        ("of another purse", elsewhere),
    ] {
        invalid.push(json!({"name": name, "hex": hex(&bytes), "error": decode(&bytes)}));
    }
    let mint: Vec<Value> = [1_u64, 2, 4, 8]
        .map(|amount| {
            let key = mint_key(amount);
            json!({"amount": amount, "secret": hex(&key.to_secret_bytes()), "key": key.public_key().to_hex()})
        })
        .into();
    json!({
        "format": "1",
        "session": hex(&KEY.session.0),
        "purse": KEY.purse.0,
        "mint": {"unit": "sat", "input_fee_ppk": 100, "keys": mint,
                 "keyset": keyset(cdk::nuts::CurrencyUnit::Sat, 100, None).id.to_string()},
        "receiver": receiver().to_hex(),
        "valid": [{
            "name": "4 steps of 8 + 2",
            "hex": hex(&encoded),
            "steps": STEPS,
            "amounts": AMOUNTS,
            "locktime": LOCKTIME.to_string(),
            "refund": secret(8).public_key().to_hex(),
            "salt": hex(&SALT),
            "secrets": (0..funded().proofs())
                .map(|number| funded().secret(number).unwrap().to_string())
                .collect::<Vec<_>>(),
        }],
        "invalid": invalid,
    })
}

fn steps_file() -> Value {
    let shown = |step| preimage(step).unwrap().to_vec();
    let lock = |step: usize| chain().locks()[step - 1].to_vec();
    let after = |name: &str, (credited, known): (u64, _), step: u64, payload: &[u8], credits| {
        let found = is_credited(credited, known, step, payload);
        assert_eq!(found, credits, "{name}");
        json!({
            "name": name, "credited": credited, "known": known.map(|known| hex(&known)),
            "step": step, "payload": hex(payload), "credits": found,
        })
    };
    let case = |name: &str, credited: u64, step: u64, payload: Vec<u8>, credits: bool| {
        after(
            name,
            (credited, preimage(credited)),
            step,
            &payload,
            credits,
        )
    };
    let cases = vec![
        case("the first step", 0, 1, shown(1), true),
        case("the next step", 2, 3, shown(3), true),
        case("three at once, two were lost", 1, 4, shown(4), true),
        case("all at once", 0, 4, shown(4), true),
        case("an older one", 2, 3, shown(2), false),
        case("a newer one than said", 1, 2, shown(3), false),
        case("out of order", 3, 4, shown(1), false),
        case("forged", 0, 1, vec![1; 32], false),
        case("the lock of the next step", 0, 1, lock(2), false),
        case("the own lock", 0, 1, lock(1), false),
        case("too short", 0, 1, shown(1)[1..].to_vec(), false),
        case("too long", 0, 1, [shown(1), vec![0]].concat(), false),
        case("nothing", 0, 1, Vec::new(), false),
        after(
            "after a step whose preimage the payee lacks",
            (2, None),
            4,
            &shown(4),
            true,
        ),
        after(
            "of another chain than the step before",
            (2, Some([1; 32])),
            3,
            &shown(3),
            false,
        ),
    ];
    json!({
        "format": "1",
        "locks": chain().locks().iter().map(|lock| hex(lock)).collect::<Vec<_>>(),
        "cases": cases,
    })
}

fn release_file() -> Value {
    let funded = funded();
    let key = root().of_purse(&keys()).unwrap();
    // Without randomness, so that the file stays as it is.
    let sign = |number: u64| {
        use bitcoin_hashes::{Hash, sha256};
        let secret = funded.secret(number).unwrap();
        let digest = sha256::Hash::hash(secret.as_bytes()).to_byte_array();
        let pair = Keypair::from_seckey_slice(&SECP256K1, &key.to_secret_bytes()).unwrap();
        let message = Message::from_digest(digest);
        SECP256K1
            .sign_schnorr_no_aux_rand(&message, &pair)
            .serialize()
    };
    let signatures: Vec<u8> = (4..8).flat_map(sign).collect();
    let release = Release::of_signatures(KEY, 3, signatures);
    let mut forged = release.encode();
    *forged.last_mut().unwrap() ^= 1;
    let case = |name: &str, revealed: u64, bytes: &[u8], valid: bool| {
        let read = Release::decode(KEY, &funded, revealed, bytes);
        let found = read.and_then(|release| release.verify(&funded)).is_ok();
        assert_eq!(found, valid, "{name}");
        json!({"name": name, "from": 3, "revealed": revealed, "hex": hex(bytes), "valid": found})
    };
    json!({
        "format": "1",
        "receiver": receiver().to_hex(),
        "secrets": (4..8).map(|number| funded.secret(number).unwrap().to_string()).collect::<Vec<_>>(),
        "cases": [
            case("from step 3, two are paid", 2, &release.encode(), true),
            case("a signature changed", 2, &forged, false),
            case("leaves out a step that was never shown", 1, &release.encode(), false),
        ],
    })
}

/// Locks that are refused, whoever signed them.
fn locks_file() -> Value {
    let lock = LockKind::Htlc([0xab; 32]);
    let mut cases = Vec::new();
    for (name, kind) in [("HTLC", lock), ("P2PK", LockKind::P2pk)] {
        cases.push(json!({"name": format!("{name} as agreed"), "kind": name, "secret": good(kind), "error": null}));
        for (what, change, error) in changes() {
            cases.push(json!({
                "name": format!("{name}: {what}"), "kind": name,
                "secret": change(&good(kind)), "error": format!("{error:?}"),
            }));
        }
    }
    for (kind, secret, error) in key_changes() {
        let name = match kind {
            LockKind::Htlc(_) => "HTLC",
            LockKind::P2pk => "P2PK",
        };
        cases.push(json!({
            "name": format!("{name}: other keys"), "kind": name,
            "secret": secret, "error": format!("{error:?}"),
        }));
    }
    json!({
        "format": "1",
        "lock": "ab".repeat(32),
        "receiver": terms().receiver.to_hex(),
        "refund": terms().refund.to_hex(),
        "locktime": terms().locktime.to_string(),
        "cases": cases,
    })
}

#[test]
fn vectors_are_up_to_date() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/cashu");
    let write = std::env::var_os("STREAMPAY_WRITE_VECTORS").is_some();
    let files = [
        ("keys.json", keys_file()),
        ("chain.json", chain_file()),
        ("secrets.json", secrets_file()),
        ("funding.json", funding_file()),
        ("steps.json", steps_file()),
        ("release.json", release_file()),
        ("locks.json", locks_file()),
        ("proofs.json", proofs::file()),
        ("params.json", params::file()),
    ];
    assert_eq!(to_hex(&[0; 32]), hex(&[0; 32]));
    for (name, value) in files {
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        let path = folder.join(name);
        if write {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{name} has grown old: see the top of this file"
        );
    }
}
