use bitcoin::Network;
use bitcoin::hex::FromHex as _;
use bitcoin::secp256k1::{Keypair, Message, PublicKey, XOnlyPublicKey, schnorr};
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::derive::purse_path;
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    Vec::from_hex(hex).unwrap()
}

/// Source: BIP 327, key_agg_vectors.json.
#[test]
fn bip_327_key_aggregation() {
    let text = include_str!("../../tests/data/bip327-key-agg-vectors.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let keys = |case: &serde_json::Value| -> Result<Vec<PublicKey>, _> {
        let indices = case["key_indices"].as_array().unwrap().iter();
        let hex =
            indices.map(|at| &file["pubkeys"][usize::try_from(at.as_u64().unwrap()).unwrap()]);
        hex.map(|hex| PublicKey::from_slice(&bytes(hex.as_str().unwrap())))
            .collect()
    };
    for case in file["valid_test_cases"].as_array().unwrap() {
        let found = key_agg(&keys(case).unwrap()).unwrap();
        let expected = bytes(case["expected"].as_str().unwrap());
        assert_eq!(found.x_only_public_key().0.serialize().to_vec(), expected);
    }
    for case in file["error_test_cases"].as_array().unwrap() {
        assert!(keys(case).is_err());
    }
    assert_eq!(key_agg(&[]), Err(KeyError::NoKey));
}

/// Source: BIP 340, test-vectors.csv; the messages are those of 32 bytes.
#[test]
fn bip_340_signatures() {
    let text = include_str!("../../tests/data/bip340-test-vectors.csv");
    let mut cases = 0;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.splitn(8, ',').collect();
        let message = Message::from_digest_slice(&bytes(fields[4])).unwrap();
        let signature = schnorr::Signature::from_slice(&bytes(fields[5])).unwrap();
        if !fields[1].is_empty() {
            let pair = Keypair::from_seckey_slice(secp(), &bytes(fields[1])).unwrap();
            let aux: [u8; 32] = bytes(fields[3]).try_into().unwrap();
            let made = secp().sign_schnorr_with_aux_rand(&message, &pair, &aux);
            assert_eq!(made, signature, "{line}");
        }
        let valid = XOnlyPublicKey::from_slice(&bytes(fields[2]))
            .is_ok_and(|key| secp().verify_schnorr(&signature, &message, &key).is_ok());
        assert_eq!(valid, fields[6] == "TRUE", "{line}");
        cases += 1;
    }
    assert_eq!(cases, 15);
}

fn purse(session: u8, purse: u32) -> PurseKey {
    PurseKey {
        session: SessionId([session; 32]),
        purse: PurseId(purse),
    }
}

#[test]
fn payee_key_is_known_to_both_without_asking() {
    let payer = NodeKeys::new(&Seed([1; 32]), Network::Regtest).unwrap();
    let payee = NodeKeys::new(&Seed([2; 32]), Network::Regtest).unwrap();
    let v = payer.payer(purse(7, 0)).unwrap().public();
    let known = payee.payee_base().channel_key(&v, purse(7, 0)).unwrap();
    assert_eq!(payee.payee(&v, purse(7, 0)).unwrap().public(), known);
}

#[test]
fn no_two_channels_share_a_key() {
    let node = NodeKeys::new(&Seed([1; 32]), Network::Regtest).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for session in 0..8 {
        for number in 0..8 {
            let v = node.payer(purse(session, number)).unwrap().public();
            let s = node.payee(&v, purse(session, number)).unwrap().public();
            assert!(seen.insert(v.serialize()) && seen.insert(s.serialize()));
        }
    }
    let other = NodeKeys::new(&Seed([1; 32]), Network::Bitcoin).unwrap();
    assert!(seen.insert(other.payer(purse(0, 0)).unwrap().public().serialize()));
}

#[test]
fn secrets_are_not_printed() {
    let node = NodeKeys::new(&Seed([0xab; 32]), Network::Regtest).unwrap();
    let secret = node.payer(purse(1, 1)).unwrap();
    let shown = format!("{:?} {node:?} {secret:?}", Seed([0xab; 32]));
    let hex: String = secret
        .dangerous_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(!shown.contains("abab") && !shown.contains(&hex), "{shown}");
}

#[test]
fn path_of_the_payers_key_is_of_the_hash_that_the_vectors_show() {
    let purse = PurseKey {
        session: SessionId([0x62; 32]),
        purse: PurseId(7),
    };
    let text = include_str!("../../../spec/vectors/hashes.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut cases = file["cases"].as_array().unwrap().iter();
    let shown = cases.find(|case| case["tag"] == "streampay/btc/payer/v1");
    let hash = bytes(shown.unwrap()["hash"].as_str().unwrap());
    let number = |at: usize| {
        let four: [u8; 4] = hash[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(four) % (1 << 31)
    };
    assert_eq!(
        purse_path(purse),
        [number(0), number(4), number(8), number(12)]
    );
}
