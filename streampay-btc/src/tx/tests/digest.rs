//! What is hashed once for a channel against rust-bitcoin, which hashes all of it each time.

use bitcoin::hashes::Hash as _;
use bitcoin::{PubkeyHash, ScriptHash, WPubkeyHash, WScriptHash};

use super::*;

/// Every kind of change script, of every length.
fn changes() -> [ScriptBuf; 5] {
    [
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array([1; 20])),
        ScriptBuf::new_p2sh(&ScriptHash::from_byte_array([2; 20])),
        ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([3; 20])),
        ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([4; 32])),
        p2tr(&fixture(OutputType::Taproot, 1).payer),
    ]
}

#[test]
fn digest_of_an_update_is_that_of_bip_341() {
    let mut digests = std::collections::BTreeSet::new();
    let mut count = 0;
    for (number, change) in (0_u8..).zip(changes()) {
        for value in [50_000, VALUE, 0x0102_0304_0506] {
            let Fixture {
                contract, payer, ..
            } = fixture(OutputType::Taproot, number.into());
            let contract = Contract::new(
                Network::Regtest,
                contract.output().clone(),
                OutPoint::new(
                    Txid::from_byte_array([number; 32]),
                    u32::from(number) * 0x0102_0304,
                ),
                sat(value),
                sat(RESERVE),
                change.clone(),
            );
            let contract = contract.unwrap();
            for paid in [RESERVE + 1, 20_000, value - 546] {
                let digest = contract.update_sighash(sat(paid)).unwrap();
                let change = contract.change(sat(paid)).unwrap().unwrap();
                let own = contract
                    .digest()
                    .and_then(|of| of.of(change, contract.change_script()));
                assert_eq!(own, Some(digest), "the one that is hashed once");
                let update = contract.update_tx(sat(paid)).unwrap();
                assert_eq!(contract.sighash_of(&update), Ok(digest), "{change} {paid}");
                let signature = contract.sign_update(&payer, sat(paid)).unwrap();
                let bytes = signature.to_bytes();
                assert_eq!(contract.verify_update(&bytes, sat(paid)), Ok(signature));
                digests.insert(digest);
                count += 1;
            }
        }
    }
    assert_eq!((digests.len(), count), (45, 45), "all differ");
}

/// One that leaves nothing has another form, and P2WSH another digest.
#[test]
fn digest_of_other_updates_is_that_of_the_whole_transaction() {
    for kind in BOTH {
        let Fixture { contract, .. } = fixture(kind, 0);
        assert_eq!(contract.digest().is_some(), kind == OutputType::Taproot);
        for paid in [20_000, VALUE] {
            let update = contract.update_tx(sat(paid)).unwrap();
            let digest = contract.update_sighash(sat(paid));
            assert_eq!(digest, contract.sighash_of(&update), "{kind:?} {paid}");
        }
    }
}
