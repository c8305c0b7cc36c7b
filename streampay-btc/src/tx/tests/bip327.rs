//! The vectors of BIP 327 beyond key aggregation, on the library that signs mutual closes: those with
//! messages of 32 bytes, which are all that it takes.

use bitcoin::hex::FromHex as _;
use bitcoin::secp256k1 as other;
use secp256k1_musig::musig::{
    AggregatedNonce, KeyAggCache, PartialSignature, PublicNonce, SecretNonce, Session,
    SessionSecretRand, new_nonce_pair,
};
use secp256k1_musig::{Keypair, PublicKey, Scalar};
use serde_json::Value;

use crate::keys::{key_agg, secp};

fn vectors(name: &str) -> Value {
    let text = include_str!("../../../tests/data/bip327-signing-vectors.json");
    let all: Value = serde_json::from_str(text).unwrap();
    all[name].clone()
}

fn bytes<const N: usize>(hex: &Value) -> [u8; N] {
    let bytes = Vec::from_hex(hex.as_str().unwrap()).unwrap();
    bytes.try_into().unwrap()
}

fn cases<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().unwrap()
}

fn index(of: &Value) -> usize {
    usize::try_from(of.as_u64().unwrap()).unwrap()
}

/// Those of `all` whose places `case` names.
fn picked<'a>(all: &'a Value, case: &Value, name: &str) -> Vec<&'a Value> {
    let places = cases(case, name).iter();
    places.map(|at| &all[index(at)]).collect()
}

fn key(hex: &Value) -> Option<PublicKey> {
    PublicKey::from_slice(&bytes::<33>(hex)).ok()
}

fn keys(of: &Value, case: &Value) -> Option<Vec<PublicKey>> {
    let all = picked(&of["pubkeys"], case, "key_indices").into_iter();
    all.map(key).collect()
}

/// The aggregate of a case's keys, untweaked, which our own arithmetic gives too.
fn untweaked(of: &Value, case: &Value) -> Option<KeyAggCache> {
    let keys = keys(of, case)?;
    let cache = KeyAggCache::new(&keys.iter().collect::<Vec<_>>());
    let own = keys
        .iter()
        .map(|key| other::PublicKey::from_slice(&key.serialize()).unwrap());
    let own = key_agg(&own.collect::<Vec<_>>()).unwrap();
    assert_eq!(own.serialize(), cache.agg_pk_full().serialize());
    Some(cache)
}

/// The same with the case's tweaks; none where one of them is no number of the curve's.
fn tweaked(of: &Value, case: &Value) -> Option<KeyAggCache> {
    let mut cache = untweaked(of, case)?;
    let tweaks = picked(&of["tweaks"], case, "tweak_indices").into_iter();
    for (tweak, x_only) in tweaks.zip(cases(case, "is_xonly")) {
        let tweak = Scalar::from_be_bytes(bytes(tweak)).ok()?;
        let added = match x_only.as_bool().unwrap() {
            true => cache.pubkey_xonly_tweak_add(&tweak),
            false => cache.pubkey_ec_tweak_add(&tweak),
        };
        added.unwrap();
    }
    Some(cache)
}

fn nonce(hex: &Value) -> Option<PublicNonce> {
    PublicNonce::from_byte_array(&bytes(hex)).ok()
}

fn aggregated(all: &[&Value]) -> Option<AggregatedNonce> {
    let nonces: Option<Vec<PublicNonce>> = all.iter().map(|hex| nonce(hex)).collect();
    Some(AggregatedNonce::new(&nonces?.iter().collect::<Vec<_>>()))
}

/// The library has no way in for a secret nonce but its own bytes: 4 of its own, both numbers, the key.
const NUMBERS: core::ops::Range<usize> = 4..68;

fn secret_nonce(hex: &Value) -> SecretNonce {
    let vector: [u8; 97] = bytes(hex);
    let key = PublicKey::from_slice(&vector[64..]).unwrap();
    let random = SessionSecretRand::assume_uniformly_random([7; 32]);
    let (any, _) = new_nonce_pair(random, None, None, key, None, None);
    let mut raw = any.dangerous_into_bytes();
    raw[NUMBERS].copy_from_slice(&vector[..64]);
    SecretNonce::dangerous_from_bytes(raw)
}

#[test]
fn bip_327_nonce_generation() {
    let all = vectors("nonce_gen");
    let mut count = 0;
    for case in cases(&all, "test_cases") {
        // An aggregate key alone is nothing that the library takes.
        if !case["aggpk"].is_null() {
            continue;
        }
        assert!(case["sk"].is_null() && case["msg"].is_null() && case["extra_in"].is_null());
        let random = SessionSecretRand::assume_uniformly_random(bytes(&case["rand_"]));
        let key = key(&case["pk"]).unwrap();
        let (secret, public) = new_nonce_pair(random, None, None, key, None, None);
        let expected: [u8; 97] = bytes(&case["expected_secnonce"]);
        assert_eq!(secret.dangerous_into_bytes()[NUMBERS], expected[..64]);
        assert_eq!(public.serialize(), bytes::<66>(&case["expected_pubnonce"]));
        count += 1;
    }
    assert_eq!(count, 1);
}

#[test]
fn bip_327_nonce_aggregation() {
    let all = vectors("nonce_agg");
    for case in cases(&all, "valid_test_cases") {
        let found = aggregated(&picked(&all["pnonces"], case, "pnonce_indices")).unwrap();
        assert_eq!(found.serialize(), bytes::<66>(&case["expected"]));
    }
    for case in cases(&all, "error_test_cases") {
        let nonces = picked(&all["pnonces"], case, "pnonce_indices");
        let bad: Vec<_> = nonces.iter().map(|hex| nonce(hex).is_none()).collect();
        let signer = index(&case["signer"]);
        assert!(
            bad.iter()
                .enumerate()
                .all(|(at, bad)| *bad == (at == signer)),
            "{case}"
        );
    }
}

#[test]
fn bip_327_signing() {
    let all = vectors("sign_verify");
    let pair = Keypair::from_secret_bytes(bytes(&all["sk"])).unwrap();
    for case in cases(&all, "valid_test_cases") {
        let cache = untweaked(&all, case).unwrap();
        let nonces = aggregated(&picked(&all["pnonces"], case, "nonce_indices")).unwrap();
        let expected = &all["aggnonces"][index(&case["aggnonce_index"])];
        assert_eq!(nonces.serialize(), bytes::<66>(expected));
        let message = bytes(&all["msgs"][index(&case["msg_index"])]);
        let session = Session::new(&cache, nonces, &message);
        let signed = session.partial_sign(secret_nonce(&all["secnonces"][0]), &pair, &cache);
        assert_eq!(signed.serialize(), bytes::<32>(&case["expected"]), "{case}");
        let signer = &cases(case, "nonce_indices")[index(&case["signer_index"])];
        let own = nonce(&all["pnonces"][index(signer)]).unwrap();
        assert!(session.partial_verify(&cache, &signed, &own, pair.public_key()));
    }
    let mut refused = 0;
    for case in cases(&all, "sign_error_test_cases") {
        let aggregate = bytes(&all["aggnonces"][index(&case["aggnonce_index"])]);
        refused += match case["error"].as_str().unwrap() {
            "aggnonce" => u32::from(AggregatedNonce::from_byte_array(&aggregate).is_err()),
            "pubkey" => u32::from(keys(&all, case).is_none()),
            // A secret nonce that was used: the library ends the process.
            _ => 0,
        };
    }
    // Nor does it look whether the signer is one of the keys, which the BIP leaves open.
    assert_eq!(refused, 4);
}

#[test]
fn bip_327_verification_of_parts() {
    let all = vectors("sign_verify");
    let parts = |case: &Value| {
        let hex = picked(&all["pnonces"], case, "nonce_indices");
        let nonces: Option<Vec<_>> = hex.into_iter().map(nonce).collect();
        let part = PartialSignature::from_byte_array(&bytes(&case["sig"])).ok();
        Some((untweaked(&all, case)?, nonces?, part))
    };
    for case in cases(&all, "verify_fail_test_cases") {
        let (cache, nonces, part) = parts(case).unwrap();
        let message = bytes(&all["msgs"][index(&case["msg_index"])]);
        let aggregate = AggregatedNonce::new(&nonces.iter().collect::<Vec<_>>());
        let session = Session::new(&cache, aggregate, &message);
        let signer = index(&case["signer_index"]);
        let key = keys(&all, case).unwrap()[signer];
        let holds = part.map(|part| session.partial_verify(&cache, &part, &nonces[signer], key));
        let expected = match case["error"].as_str().unwrap() {
            "sig" => None,
            _ => Some(false),
        };
        assert_eq!(holds, expected, "{case}");
    }
    for case in cases(&all, "verify_error_test_cases") {
        assert!(parts(case).is_none(), "{case}");
        assert_eq!(
            keys(&all, case).is_none(),
            case["error"] == "pubkey",
            "{case}"
        );
    }
}

#[test]
fn bip_327_signing_with_tweaks() {
    let all = vectors("tweak");
    let pair = Keypair::from_secret_bytes(bytes(&all["sk"])).unwrap();
    for case in cases(&all, "valid_test_cases") {
        let cache = tweaked(&all, case).unwrap();
        let nonces = aggregated(&picked(&all["pnonces"], case, "nonce_indices")).unwrap();
        assert_eq!(nonces.serialize(), bytes::<66>(&all["aggnonce"]));
        let session = Session::new(&cache, nonces, &bytes(&all["msg"]));
        let signed = session.partial_sign(secret_nonce(&all["secnonce"]), &pair, &cache);
        assert_eq!(signed.serialize(), bytes::<32>(&case["expected"]), "{case}");
    }
    for case in cases(&all, "error_test_cases") {
        assert!(tweaked(&all, case).is_none() && untweaked(&all, case).is_some());
    }
}

#[test]
fn bip_327_aggregation_of_signatures() {
    let all = vectors("sig_agg");
    let parts = |case: &Value| {
        let parts = picked(&all["psigs"], case, "psig_indices").into_iter();
        let parts = parts.map(|hex| PartialSignature::from_byte_array(&bytes(hex)).ok());
        parts.collect::<Vec<_>>()
    };
    let message: [u8; 32] = bytes(&all["msg"]);
    for case in cases(&all, "valid_test_cases") {
        let cache = tweaked(&all, case).unwrap();
        let nonces = AggregatedNonce::from_byte_array(&bytes(&case["aggnonce"])).unwrap();
        let session = Session::new(&cache, nonces, &message);
        let parts: Vec<_> = parts(case).into_iter().map(Option::unwrap).collect();
        let whole = session.partial_sig_agg(&parts.iter().collect::<Vec<_>>());
        let whole = whole.assume_valid().to_byte_array();
        assert_eq!(whole, bytes::<64>(&case["expected"]), "{case}");
        // And with the library that ticks use.
        let key = other::XOnlyPublicKey::from_slice(&cache.agg_pk().to_byte_array()).unwrap();
        let whole = other::schnorr::Signature::from_slice(&whole).unwrap();
        let message = other::Message::from_digest(message);
        assert!(secp().verify_schnorr(&whole, &message, &key).is_ok());
    }
    for case in cases(&all, "error_test_cases") {
        let signer = index(&case["signer"]);
        let bad = parts(case).into_iter().enumerate();
        assert!(
            bad.into_iter()
                .all(|(at, part)| part.is_none() == (at == signer))
        );
    }
}
