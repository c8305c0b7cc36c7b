use streampay_core::session::Entropy;

use super::{Fixture, RESERVE, VALUE, fixture, payout, sat};
use crate::script::OutputType;
use crate::sim::check_scripts;
use crate::tx::*;

fn terms(paid: u64, fee: u64) -> MutualTerms {
    MutualTerms {
        paid: sat(paid),
        payout: payout(),
        fee: sat(fee),
    }
}

fn begin(of: &Fixture, terms: &MutualTerms) -> MutualClose {
    MutualClose::begin(&of.contract, &of.payee, terms, Entropy([1; 32])).unwrap()
}

fn part(of: &Fixture, terms: &MutualTerms, close: &MutualClose, entropy: u8) -> PayerPart {
    let nonce = close.public_nonce();
    let entropy = Entropy([entropy; 32]);
    cosign(&of.contract, &of.payer, terms, &nonce, entropy).unwrap()
}

#[test]
fn both_close_with_one_signature_and_the_unused_reserve_comes_back() {
    for number in 0..4 {
        let of = fixture(OutputType::Taproot, number);
        for (paid, fee) in [
            (50_000, 154),
            (50_000, RESERVE + 500),
            (VALUE, 300),
            (VALUE, 990),
        ] {
            let terms = terms(paid, fee);
            let close = begin(&of, &terms);
            let part = part(&of, &terms, &close, 2);
            let tx = close.complete(&part).unwrap();
            check_scripts(&tx, &[of.contract.funding()]).unwrap();
            let out: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
            let due = paid - RESERVE - fee.saturating_sub(RESERVE);
            let back = VALUE - paid + RESERVE.saturating_sub(fee);
            let kept = if back < 330 { 0 } else { back };
            assert_eq!(out, due + kept);
            // An output to P2TR is 43 vB.
            let size = if kept == 0 { 111 } else { 154 };
            assert!(tx.vsize().abs_diff(size) <= 2, "{}", tx.vsize());
        }
    }
}

#[test]
fn part_for_anything_else_is_refused() {
    let of = fixture(OutputType::Taproot, 0);
    let good = terms(50_000, 154);
    for other in [terms(50_001, 154), terms(50_000, 155)] {
        let close = begin(&of, &good);
        let part = part(&of, &other, &close, 2);
        assert_eq!(close.complete(&part), Err(MutualError::Part));
    }
    for at in [0, 40, 70] {
        let close = begin(&of, &good);
        let mut part = part(&of, &good, &close, 2);
        match part.nonce.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => part.partial[at - 66] ^= 1,
        }
        assert_eq!(close.complete(&part), Err(MutualError::Part), "{at}");
    }
    let wsh = fixture(OutputType::Wsh, 0);
    let refused = MutualClose::begin(&wsh.contract, &wsh.payee, &good, Entropy([1; 32]));
    assert_eq!(refused.err(), Some(MutualError::NoKeyPath));
    let swapped = MutualClose::begin(&of.contract, &of.payer, &good, Entropy([1; 32]));
    assert_eq!(swapped.err(), Some(MutualError::Key));
}

#[test]
fn aborted_mutual_close_leaves_the_other_way() {
    let of = fixture(OutputType::Taproot, 0);
    let terms = terms(50_000, 154);
    let close = begin(&of, &terms);
    let _ = part(&of, &terms, &close, 2);
    drop(close);
    let signature = of.contract.sign_update(&of.payer, sat(50_000)).unwrap();
    let tx = close_tx(&ClosePlan {
        channels: &[CloseInput {
            contract: &of.contract,
            paid: sat(50_000),
            signature: &signature,
            secret: &of.payee,
        }],
        coins: &[],
        payout: &payout(),
        extra: &[],
        rate: bitcoin::FeeRate::BROADCAST_MIN,
    });
    check_scripts(&tx.unwrap(), &[of.contract.funding()]).unwrap();
}
