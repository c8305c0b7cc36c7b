//! The vectors of BIP 341: trees, outputs, control blocks, and signatures by the key path.

use bitcoin::TapNodeHash;
use bitcoin::hashes::Hash as _;
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::XOnlyPublicKey;
use bitcoin::taproot::{LeafVersion, NodeInfo, TapLeafHash, TaprootSpendInfo};
use serde_json::Value;

use super::*;

/// Source: BIP 341, wallet-test-vectors.json.
fn file() -> Value {
    let text = include_str!("../../../tests/data/bip341-wallet-test-vectors.json");
    serde_json::from_str(text).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    Vec::<u8>::from_hex(value.as_str().unwrap()).unwrap()
}

/// The tree, and its leaves from the left to the right.
fn tree(of: &Value, leaves: &mut Vec<(ScriptBuf, LeafVersion)>) -> NodeInfo {
    if let Some([left, right]) = of.as_array().map(Vec::as_slice) {
        let left = tree(left, leaves);
        return NodeInfo::combine(left, tree(right, leaves)).unwrap();
    }
    let script = ScriptBuf::from_bytes(hex(&of["script"]));
    let version = u8::try_from(of["leafVersion"].as_u64().unwrap()).unwrap();
    let version = LeafVersion::from_consensus(version).unwrap();
    leaves.push((script.clone(), version));
    NodeInfo::new_leaf_with_ver(script, version)
}

#[test]
fn bip_341_trees_and_outputs() {
    let mut count = 0;
    for case in file()["scriptPubKey"].as_array().unwrap() {
        let internal = XOnlyPublicKey::from_slice(&hex(&case["given"]["internalPubkey"])).unwrap();
        let (given, between) = (&case["given"]["scriptTree"], &case["intermediary"]);
        let expected = &case["expected"];
        let root = &between["merkleRoot"];
        let root = (!root.is_null()).then(|| TapNodeHash::from_slice(&hex(root)).unwrap());
        let script = ScriptBuf::new_p2tr(secp(), internal, root);
        assert_eq!(script.to_bytes(), hex(&expected["scriptPubKey"]));
        let address = bitcoin::Address::from_script(&script, Network::Bitcoin).unwrap();
        assert_eq!(
            address.to_string(),
            expected["bip350Address"].as_str().unwrap()
        );
        if given.is_null() {
            assert_eq!(root, None);
            continue;
        }
        let mut leaves = Vec::new();
        let info = tree(given, &mut leaves);
        let info = TaprootSpendInfo::from_node_info(secp(), internal, info);
        assert_eq!(info.merkle_root(), root);
        assert_eq!(
            info.output_key().serialize().to_vec(),
            hex(&between["tweakedPubkey"])
        );
        let hashes = between["leafHashes"].as_array().unwrap();
        let blocks = expected["scriptPathControlBlocks"].as_array().unwrap();
        assert_eq!((hashes.len(), blocks.len()), (leaves.len(), leaves.len()));
        for ((leaf, hash), block) in leaves.into_iter().zip(hashes).zip(blocks) {
            let own = TapLeafHash::from_script(&leaf.0, leaf.1);
            assert_eq!(own.to_byte_array().to_vec(), hex(hash));
            let own = info.control_block(&leaf).unwrap();
            assert_eq!(own.serialize(), hex(block));
            assert!(own.verify_taproot_commitment(secp(), info.output_key().into(), &leaf.0));
            count += 1;
        }
    }
    assert_eq!(count, 12);
}

#[test]
fn bip_341_key_path_signatures() {
    let file = file();
    let case = &file["keyPathSpending"][0];
    let raw = hex(&case["given"]["rawUnsignedTx"]);
    let tx: Transaction = bitcoin::consensus::deserialize(&raw).unwrap();
    let spent: Vec<TxOut> = (case["given"]["utxosSpent"].as_array().unwrap().iter())
        .map(|utxo| TxOut {
            value: sat(utxo["amountSats"].as_u64().unwrap()),
            script_pubkey: ScriptBuf::from_bytes(hex(&utxo["scriptPubKey"])),
        })
        .collect();
    let mut cache = SighashCache::new(&tx);
    for input in case["inputSpending"].as_array().unwrap() {
        let given = &input["given"];
        let index = usize::try_from(given["txinIndex"].as_u64().unwrap()).unwrap();
        let flag = u8::try_from(given["hashType"].as_u64().unwrap()).unwrap();
        let kind = TapSighashType::from_consensus_u8(flag).unwrap();
        let digest = cache
            .taproot_key_spend_signature_hash(index, &Prevouts::All(&spent), kind)
            .unwrap();
        let expected = hex(&input["intermediary"]["sigHash"]);
        assert_eq!(digest.to_byte_array().to_vec(), expected);
        let pair = Keypair::from_seckey_slice(secp(), &hex(&given["internalPrivkey"])).unwrap();
        let root = &given["merkleRoot"];
        let root = (!root.is_null()).then(|| TapNodeHash::from_slice(&hex(root)).unwrap());
        let tweaked = pair.tap_tweak(secp(), root).to_keypair();
        let digest = Message::from_digest(digest.to_byte_array());
        let signature = secp().sign_schnorr_with_aux_rand(&digest, &tweaked, &[0; 32]);
        let signature = bitcoin::taproot::Signature {
            signature,
            sighash_type: kind,
        };
        assert_eq!(signature.to_vec(), hex(&input["expected"]["witness"][0]));
    }
}
