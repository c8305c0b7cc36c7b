#[cfg(feature = "musig2")]
mod bip327;
mod bip341;
mod digest;
#[cfg(feature = "musig2")]
mod mutual;
mod sizes;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::FromHex as _;
use bitcoin::secp256k1::{Keypair, Message};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Txid};
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::*;
use crate::keys::{ChannelSecret, NodeKeys, Seed, secp};
use crate::script::{FundingOutput, OutputType, Signatures};
use crate::sim::check_scripts;

const T: u32 = 900_000;
const VALUE: u64 = 100_000;
const RESERVE: u64 = 1_000;
const BOTH: [OutputType; 2] = [OutputType::Taproot, OutputType::Wsh];

struct Fixture {
    contract: Contract,
    payer: ChannelSecret,
    payee: ChannelSecret,
}

fn p2tr(secret: &ChannelSecret) -> ScriptBuf {
    ScriptBuf::new_p2tr(secp(), secret.public().x_only_public_key().0, None)
}

fn fixture(kind: OutputType, number: u32) -> Fixture {
    let purse = PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(number),
    };
    let payer = NodeKeys::new(&Seed([1; 32]), Network::Regtest).unwrap();
    let payee = NodeKeys::new(&Seed([2; 32]), Network::Regtest).unwrap();
    let v = payer.payer(purse).unwrap();
    let s = payee.payee(&v.public(), purse).unwrap();
    let output = FundingOutput::new(kind, v.public(), s.public(), T).unwrap();
    let contract = Contract::new(
        Network::Regtest,
        output,
        OutPoint::new(Txid::from_byte_array([9; 32]), number),
        Amount::from_sat(VALUE),
        Amount::from_sat(RESERVE),
        p2tr(&v),
    );
    Fixture {
        contract: contract.unwrap(),
        payer: v,
        payee: s,
    }
}

fn rate(sat_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(sat_vb).unwrap()
}

fn payout() -> ScriptBuf {
    let payee = NodeKeys::new(&Seed([3; 32]), Network::Regtest).unwrap();
    p2tr(&payee.fee_wallet().unwrap())
}

fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn close(fixtures: &[(&Fixture, u64)], sat_vb: u64) -> Result<Transaction, CloseError> {
    let signatures: Vec<_> = fixtures
        .iter()
        .map(|(of, paid)| of.contract.sign_update(&of.payer, sat(*paid)).unwrap())
        .collect();
    let channels: Vec<_> = fixtures
        .iter()
        .zip(&signatures)
        .map(|((of, paid), signature)| CloseInput {
            contract: &of.contract,
            paid: sat(*paid),
            signature,
            secret: &of.payee,
        })
        .collect();
    close_tx(&ClosePlan {
        channels: &channels,
        coins: &[],
        payout: &payout(),
        extra: &[],
        rate: rate(sat_vb),
    })
}

fn spent(tx: &Transaction, fixtures: &[&Fixture]) -> Vec<TxOut> {
    let of = |outpoint: OutPoint| {
        let mut all = fixtures.iter();
        all.find(|of| of.contract.outpoint() == outpoint)
            .map(|of| of.contract.funding())
    };
    tx.input
        .iter()
        .map(|input| of(input.previous_output).unwrap())
        .collect()
}

#[test]
fn close_is_valid_and_conserves_every_satoshi() {
    for kind in BOTH {
        let of = fixture(kind, 0);
        for paid in [RESERVE + 1, 50_000, VALUE - 330, VALUE] {
            let tx = close(&[(&of, paid)], 1);
            let tx = match tx {
                Err(CloseError::Uneconomic { .. }) if paid < 1_400 => continue,
                tx => tx.unwrap(),
            };
            check_scripts(&tx, &spent(&tx, &[&of])).unwrap();
            let out: Amount = tx.output.iter().map(|out| out.value).sum();
            let fee = VALUE - out.to_sat();
            let vsize = u64::try_from(tx.vsize()).unwrap();
            let exact = kind == OutputType::Taproot;
            assert!(fee == vsize || !exact && fee - vsize <= 2, "{fee} {vsize}");
            assert!(
                tx.output
                    .iter()
                    .all(|out| out.value >= out.script_pubkey.minimal_non_dust())
            );
            if paid < VALUE {
                assert_eq!(tx.output[0].value, sat(VALUE - paid));
                assert_eq!(tx.output[0].script_pubkey, *of.contract.change_script());
            }
        }
    }
}

/// Source: measured on built transactions with Core's script code.
#[test]
fn sizes_are_those_of_the_specification() {
    let expected = [(OutputType::Taproot, 199, 139), (OutputType::Wsh, 194, 133)];
    for (kind, of_close, of_refund) in expected {
        let of = fixture(kind, 0);
        let tx = close(&[(&of, 50_000)], 1).unwrap();
        assert!(
            tx.vsize().abs_diff(of_close) <= 2,
            "{kind:?} {}",
            tx.vsize()
        );
        let tx = refund_tx(&of.contract, &of.payer, &p2tr(&of.payer), rate(1), 0).unwrap();
        assert!(
            tx.vsize().abs_diff(of_refund) <= 2,
            "{kind:?} {}",
            tx.vsize()
        );
    }
}

#[test]
fn batches_to_68_are_valid_and_within_the_limit() {
    let all: Vec<Fixture> = (0..69).map(|n| fixture(OutputType::Taproot, n)).collect();
    for count in [2, 10, 50, 68] {
        // Every third is fully spent: it has no change.
        let paid = |n: usize| if n.is_multiple_of(3) { VALUE } else { 50_000 };
        let some = all.iter().take(count).enumerate();
        let some: Vec<_> = some.map(|(n, of)| (of, paid(n))).collect();
        let tx = close(&some, 2).unwrap();
        let of: Vec<&Fixture> = all.iter().collect();
        check_scripts(&tx, &spent(&tx, &of)).unwrap();
        assert!(tx.weight() <= WEIGHT_MAX);
    }
    let full: Vec<_> = all.iter().take(68).map(|of| (of, 50_000)).collect();
    let tx = close(&full, 2).unwrap();
    assert!(
        tx.weight() <= WEIGHT_MAX && tx.vsize() <= 146 * 68 + 60,
        "{}",
        tx.vsize()
    );
    let fifty: Vec<_> = all.iter().take(50).map(|of| (of, 50_000)).collect();
    let vsize = close(&fifty, 2).unwrap().vsize();
    assert!((vsize * 10).abs_diff(1_458 * 50) <= 100, "{vsize}");
    let more: Vec<_> = all.iter().map(|of| (of, 50_000)).collect();
    assert_eq!(close(&more, 2), Err(CloseError::Count));
}

#[test]
fn payee_may_change_its_own_output_and_fee_and_nothing_of_the_payers() {
    for kind in BOTH {
        let of = fixture(kind, 0);
        let cheap = close(&[(&of, 50_000)], 1).unwrap();
        let dear = close(&[(&of, 50_000)], 100).unwrap();
        check_scripts(&dear, &spent(&dear, &[&of])).unwrap();
        assert_eq!(cheap.output[0], dear.output[0]);
        let changes: [fn(&mut Transaction); 7] = [
            |tx| tx.output[0].value -= Amount::ONE_SAT,
            |tx| tx.output[0].script_pubkey = payout(),
            |tx| tx.output.swap(0, 1),
            |tx| tx.output[1].value -= Amount::ONE_SAT,
            |tx| tx.version = bitcoin::transaction::Version::TWO,
            |tx| tx.lock_time = LockTime::from_consensus(1),
            |tx| tx.input[0].sequence = Sequence::MAX,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut tx = cheap.clone();
            change(&mut tx);
            assert!(
                check_scripts(&tx, &spent(&tx, &[&of])).is_err(),
                "{kind:?} {number}"
            );
        }
    }
}

/// Streamium and bitcore-channel: the refund was signed blind, by the payee, whatever it said.
/// Here nobody signs one but the payer, and the chain holds it back until T.
#[test]
fn refund_needs_no_signature_of_the_payee_and_no_blind_signing() {
    for kind in BOTH {
        let of = fixture(kind, 0);
        for tip in [0, T, T + 500] {
            let tx = refund_tx(&of.contract, &of.payer, &p2tr(&of.payer), rate(3), tip).unwrap();
            check_scripts(&tx, &[of.contract.funding()]).unwrap();
            assert_eq!(tx.lock_time, LockTime::from_height(T.max(tip)).unwrap());
            let fee = VALUE - tx.output[0].value.to_sat();
            let vsize = u64::try_from(tx.vsize()).unwrap();
            assert!(fee.abs_diff(3 * vsize) <= 6);
        }
        let other = refund_tx(&of.contract, &of.payee, &p2tr(&of.payer), rate(3), T);
        assert_eq!(other, Err(RefundError::Key));
    }
}

#[test]
fn refund_before_expiry_or_with_a_final_sequence_is_refused() {
    let of = fixture(OutputType::Taproot, 0);
    let good = refund_tx(&of.contract, &of.payer, &p2tr(&of.payer), rate(1), T).unwrap();
    for (lock_time, sequence) in [
        (T - 1, Sequence::ENABLE_RBF_NO_LOCKTIME),
        (T, Sequence::MAX),
    ] {
        let mut tx = good.clone();
        tx.lock_time = LockTime::from_consensus(lock_time);
        tx.input[0].sequence = sequence;
        let funding = [of.contract.funding()];
        let leaf = of.contract.output().leaf_hash().unwrap();
        let mut cache = SighashCache::new(&tx);
        let digest = cache
            .taproot_script_spend_signature_hash(
                0,
                &Prevouts::All(&funding),
                leaf,
                TapSighashType::Default,
            )
            .unwrap();
        let digest = Message::from_digest(digest.to_byte_array());
        let payer = &bitcoin::taproot::Signature {
            signature: secp().sign_schnorr_no_aux_rand(&digest, of.payer.keypair()),
            sighash_type: TapSighashType::Default,
        };
        let signatures = Signatures::Taproot { payer, payee: None };
        let output = of.contract.output();
        let refused = output.witness(signatures, LockTime::from_consensus(T - 1));
        assert!(refused.is_none());
        let at_expiry = LockTime::from_height(T).unwrap();
        tx.input[0].witness = output.witness(signatures, at_expiry).unwrap();
        assert!(check_scripts(&tx, &funding).is_err(), "{lock_time}");
    }
}

#[test]
fn nobody_spends_with_one_signature_before_expiry() {
    let of = fixture(OutputType::Taproot, 0);
    let mut tx = close(&[(&of, 50_000)], 1).unwrap();
    let full = tx.input[0].witness.clone();
    for missing in 0..2 {
        let stack: Vec<Vec<u8>> = (full.iter().enumerate())
            .map(|(at, item)| {
                if at == missing {
                    Vec::new()
                } else {
                    item.to_vec()
                }
            })
            .collect();
        tx.input[0].witness = bitcoin::Witness::from_slice(&stack);
        assert!(
            check_scripts(&tx, &[of.contract.funding()]).is_err(),
            "{missing}"
        );
    }
}

#[test]
fn updates_are_verified_as_what_they_are() {
    for kind in BOTH {
        let of = fixture(kind, 0);
        let other = fixture(kind, 1);
        let paid = sat(50_000);
        let good = of.contract.sign_update(&of.payer, paid).unwrap().to_bytes();
        of.contract.verify_update(&good, paid).unwrap();
        let verify = |bytes: &[u8], paid| of.contract.verify_update(bytes, sat(paid)).unwrap_err();
        let mut flipped = good.clone();
        flipped[20] ^= 1;
        assert!(matches!(
            verify(&flipped, 50_000),
            Refusal::Signature | Refusal::Malformed
        ));
        assert_eq!(verify(&good, 50_001), Refusal::Signature);
        assert_eq!(verify(&good, VALUE), Refusal::SighashType);
        assert_eq!(verify(&good, VALUE + 1), Refusal::OverCapacity);
        assert_eq!(verify(&good, VALUE - 1), Refusal::ChangeIsDust);
        assert_eq!(verify(&good, VALUE - 329), Refusal::ChangeIsDust);
        assert_eq!(verify(&good, RESERVE), Refusal::UnderReserve);
        assert_eq!(verify(&[], 50_000), Refusal::Malformed);
        let cut = &good[..good.len() - 1];
        assert!(matches!(
            verify(cut, 50_000),
            Refusal::Malformed | Refusal::SighashType
        ));
        for flag in [0x00, 0x01, 0x02, 0x03, 0x81, 0x82, 0x84, 0xff] {
            let mut bytes = good.clone();
            *bytes.last_mut().unwrap() = flag;
            assert_eq!(verify(&bytes, 50_000), Refusal::SighashType, "{flag:02x}");
        }
        // Another channel's, another output's, another value's.
        let theirs = other.contract.sign_update(&other.payer, paid).unwrap();
        assert_eq!(verify(&theirs.to_bytes(), 50_000), Refusal::Signature);
        let full = of.contract.sign_update(&of.payer, sat(VALUE)).unwrap();
        of.contract
            .verify_update(&full.to_bytes(), sat(VALUE))
            .unwrap();
        assert_eq!(verify(&full.to_bytes(), 50_000), Refusal::SighashType);
        let stranger = of.contract.sign_update(&of.payee, paid);
        assert_eq!(stranger, Err(Refusal::Signature));
    }
}

#[test]
fn signature_under_another_sighash_type_is_refused() {
    let of = fixture(OutputType::Wsh, 0);
    let update = of.contract.update_tx(sat(50_000)).unwrap();
    for kind in [
        EcdsaSighashType::All,
        EcdsaSighashType::None,
        EcdsaSighashType::Single,
        EcdsaSighashType::AllPlusAnyoneCanPay,
        EcdsaSighashType::NonePlusAnyoneCanPay,
    ] {
        let output = of.contract.output();
        let digest = SighashCache::new(&update)
            .p2wsh_signature_hash(0, output.script(), sat(VALUE), kind)
            .unwrap();
        let digest = Message::from_digest(digest.to_byte_array());
        let signature = bitcoin::ecdsa::Signature {
            signature: secp().sign_ecdsa(&digest, &of.payer.keypair().secret_key()),
            sighash_type: kind,
        };
        let refused = of.contract.verify_update(&signature.to_vec(), sat(50_000));
        assert_eq!(refused, Err(Refusal::SighashType));
    }
}

#[test]
fn signature_over_an_annex_is_refused() {
    let of = fixture(OutputType::Taproot, 0);
    let update = of.contract.update_tx(sat(50_000)).unwrap();
    let leaf = of.contract.output().leaf_hash().unwrap();
    let digest = SighashCache::new(&update)
        .taproot_signature_hash(
            0,
            &Prevouts::One(0, of.contract.funding()),
            Some(Annex::new(&[0x50]).unwrap()),
            Some((leaf, 0xffff_ffff)),
            TapSighashType::SinglePlusAnyoneCanPay,
        )
        .unwrap();
    let digest = Message::from_digest(digest.to_byte_array());
    let signature = bitcoin::taproot::Signature {
        signature: secp().sign_schnorr_no_aux_rand(&digest, of.payer.keypair()),
        sighash_type: TapSighashType::SinglePlusAnyoneCanPay,
    };
    let refused = of.contract.verify_update(&signature.to_vec(), sat(50_000));
    assert_eq!(refused, Err(Refusal::Signature));
}

#[test]
fn close_that_costs_more_than_it_brings_is_not_made() {
    let of = fixture(OutputType::Taproot, 0);
    let refused = close(&[(&of, 5_000)], 500);
    assert!(
        matches!(refused, Err(CloseError::Uneconomic { .. })),
        "{refused:?}"
    );
    let refused = refund_tx(&of.contract, &of.payer, &payout(), rate(1_000), T);
    assert!(matches!(refused, Err(RefundError::Uneconomic { .. })));
}

#[test]
fn fee_coin_helps_in_a_spike() {
    let of = fixture(OutputType::Taproot, 0);
    let signature = of.contract.sign_update(&of.payer, sat(5_000)).unwrap();
    let wallet = NodeKeys::new(&Seed([3; 32]), Network::Regtest).unwrap();
    let secret = &wallet.fee_wallet().unwrap();
    let coin = FeeCoin {
        outpoint: OutPoint::new(Txid::from_byte_array([5; 32]), 3),
        value: sat(200_000),
        secret,
    };
    let tx = close_tx(&ClosePlan {
        channels: &[CloseInput {
            contract: &of.contract,
            paid: sat(5_000),
            signature: &signature,
            secret: &of.payee,
        }],
        coins: &[coin],
        payout: &payout(),
        extra: &[],
        rate: rate(500),
    });
    let tx = tx.unwrap();
    let coin_output = TxOut {
        value: sat(200_000),
        script_pubkey: payout(),
    };
    check_scripts(&tx, &[of.contract.funding(), coin_output]).unwrap();
}

#[test]
fn capacity_leaves_no_dust_at_any_tick() {
    let dust = 330;
    for value in [1_000, 1_330, 2_000, 10_001, 99_999] {
        for reserve in [0, 1, 329, 700] {
            for step in [1, 7, 100, 329, 330, 331, 999] {
                let of = |step| contract::capacity(sat(value), sat(reserve), sat(dust), sat(step));
                let capacity = of(step).to_sat();
                assert_eq!(capacity % step, 0);
                for ticks in 1..=capacity / step {
                    let change = value - reserve - ticks * step;
                    assert!(
                        change == 0 || change >= dust,
                        "{value} {reserve} {step} {ticks}"
                    );
                }
            }
        }
    }
}
