//! A funding that the user's wallet replaces by a dearer one, or by none.

use bitcoin::OutPoint;

use super::*;

/// The user has paid by hand, the machine has seen it, and it waits for a block.
fn paid_by_hand() -> (Rig, OutPoint) {
    let mut rig = Rig::new();
    rig.payer.pays = false;
    assert_eq!(rig.open(), LATER);
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    let script = kit.address.unwrap().script_pubkey();
    let outpoint = rig.chain.pay(&script, kit.value).unwrap();
    assert_eq!(rig.open(), LATER);
    assert_eq!(outpoint_of(&rig), Some(outpoint));
    (rig, outpoint)
}

fn outpoint_of(rig: &Rig) -> Option<OutPoint> {
    rig.payer.machine.report()[0].outpoint
}

fn release(rig: &mut Rig) -> Option<Outcome> {
    rig.payer.request(rig.purse, Request::Release)
}

#[test]
fn replaced_funding_opens_the_channel() {
    for restarts in [false, true] {
        let (mut rig, first) = paid_by_hand();
        let second = rig.chain.bump(first).unwrap();
        assert_eq!(rig.open(), LATER);
        rig.mine(1);
        if restarts {
            rig.payer.restart(&[rig.purse]);
        }
        rig.mine(1);
        assert_eq!(outpoint_of(&rig), Some(second));
        let Some(Outcome::Opened(opened)) = rig.open() else {
            panic!("not opened");
        };
        let accepted = rig.accept(&opened);
        assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
        (1..=4).for_each(|seq| rig.tick(seq));
        let (settled, refunded) = rig.close();
        assert!(settled > Msat::ZERO && refunded > Msat::ZERO);
        assert!(rig.payer.refused.is_empty() && rig.payee.refused.is_empty());
    }
}

#[test]
fn replaced_funding_of_a_closed_session_comes_home() {
    let (mut rig, first) = paid_by_hand();
    assert_eq!(release(&mut rig), LATER);
    let second = rig.chain.bump(first).unwrap();
    rig.mine(2);
    rig.payer.restart(&[rig.purse]);
    rig.mine(1);
    assert_eq!(outpoint_of(&rig), Some(second));
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    let spends = |tx: &Transaction| tx.input[0].previous_output == second;
    assert!(!kit.refunds.is_empty() && kit.refunds.iter().all(|(_, tx)| spends(tx)));
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left + FINAL_DEPTH);
    assert!(rig.balances().0 + 500 > rig.value());
    assert!(
        matches!(release(&mut rig), Some(Outcome::Released { refunded }) if refunded > Msat::ZERO)
    );
}

#[test]
fn funding_that_is_replaced_after_the_payee_was_shown_it_only_comes_home() {
    let mut rig = Rig::ready();
    let first = outpoint_of(&rig).unwrap();
    rig.chain.reorganise(1, &[]);
    let second = rig.chain.bump(first).unwrap();
    rig.mine(2);
    assert_eq!(outpoint_of(&rig), Some(second));
    assert_eq!(rig.pay(1), EMPTY, "the payee takes no ticks of it");
    rig.payer.restart(&[rig.purse]);
    assert_eq!(rig.pay(1), EMPTY);
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left + FINAL_DEPTH);
    assert!(rig.balances().0 + 500 > rig.value());
}

#[test]
fn funding_that_was_paid_from_is_only_left_after_its_expiry() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let first = outpoint_of(&rig).unwrap();
    rig.chain.reorganise(1, &[]);
    let second = rig.chain.bump(first).unwrap();
    rig.mine(2);
    assert_eq!(outpoint_of(&rig), Some(first));
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left + 2 + FINAL_DEPTH);
    assert_eq!(outpoint_of(&rig), Some(second));
    assert!(rig.balances().0 + 500 > rig.value());
}

#[test]
fn release_of_a_funding_that_is_gone_for_good_ends() {
    let (mut rig, first) = paid_by_hand();
    assert_eq!(release(&mut rig), LATER);
    rig.chain.reorganise(1, &[first.txid]);
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left + 2_015);
    assert_eq!(release(&mut rig), LATER, "nodes may still know it");
    rig.mine(1);
    let nothing = Some(Outcome::Released {
        refunded: Msat::ZERO,
    });
    assert_eq!(release(&mut rig), nothing);
}
