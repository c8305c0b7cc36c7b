//! Closes that wait, and what their payer or the payee's own settings do to them.

use bitcoin::OutPoint;

use super::*;
use crate::sim::open_home;

/// A channel with many ticks, whose payer can do something with its change, closed at 2 sat/vB and in
/// no block as it is now.
fn waiting() -> (Rig, Transaction) {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYER);
    config.payer.home = open_home();
    rig.payer = SimNode::new(&rig.chain, config, PAYER);
    let opened = rig.opened();
    rig.accept(&opened);
    (1..=100).for_each(|seq| rig.tick(seq));
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    let close = rig.payee.broadcast[0].clone();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(6));
    (rig, close)
}

fn is_mined(rig: &Rig) -> bool {
    let outpoint = rig.payer.machine.report()[0].outpoint.unwrap();
    let spent = rig.chain.spender(outpoint);
    spent.is_some_and(|(_, height)| height.is_some())
}

#[test]
fn close_that_a_child_on_the_change_pins_is_bid_for_until_it_is_replaced() {
    let (mut rig, close) = waiting();
    let change = OutPoint::new(close.compute_txid(), 0);
    // 900 vB at less than a block asks: a bump at 6 sat/vB does not pay for it.
    let fee = Amount::from_sat(3_000);
    rig.chain.hang(change, fee, 19).unwrap();
    rig.mine(1);
    assert!(!rig.payee.refused.is_empty(), "the pin holds");
    rig.mine(8);
    assert!(is_mined(&rig), "{:?}", rig.payee.refused.len());
    let mut bids: Vec<_> = rig
        .payee
        .refused
        .iter()
        .map(|(tx, _)| tx.compute_txid())
        .collect();
    let count = bids.len();
    bids.dedup();
    assert_eq!(bids.len(), count, "none is sent twice");
}

#[test]
fn what_is_bid_over_a_pin_is_no_more_than_a_close_may_cost() {
    let (mut rig, close) = waiting();
    let change = OutPoint::new(close.compute_txid(), 0);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(40));
    rig.chain
        .hang(change, Amount::from_sat(20_000), 19)
        .unwrap();
    rig.mine(30);
    let most = rig.reserve() + 100 * STEP / 3;
    for tx in &rig.payee.broadcast {
        let out: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
        assert!(rig.value() - out <= most);
    }
}

#[test]
fn close_to_an_earlier_payout_is_bumped_to_the_new_one() {
    let (mut rig, close) = waiting();
    let mut config = sim_config(PAYEE);
    config.payee.payout = home(9);
    let disk = rig.payee.snapshot();
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    rig.payee.roll_back(&disk);
    rig.payee.restart(&[rig.purse]);
    rig.mine(7);
    let bump = rig.payee.broadcast.first().unwrap();
    assert_ne!(bump.compute_txid(), close.compute_txid());
    assert!(is_mined(&rig), "{:?}", rig.payee.refused);
    let settled = rig.payee.machine.report()[0].settled.unwrap();
    assert_eq!(rig.chain.balance(&home(9)), settled);
    assert_eq!(rig.balances().1, 0);
}

/// The home that a channel was opened with is not the one that it is refunded to.
#[test]
fn refund_to_a_new_home_is_booked() {
    let mut rig = Rig::ready();
    let mut config = sim_config(PAYER);
    config.payer.home = home(9);
    let disk = rig.payer.snapshot();
    rig.payer = SimNode::new(&rig.chain, config, PAYER);
    rig.payer.roll_back(&disk);
    rig.payer.restart(&[rig.purse]);
    let left = rig.expiry() - rig.chain.tip();
    rig.payer.mine_and_look(left + 7);
    let came = rig.chain.balance(&home(9));
    assert!(came.to_sat() + 1_000 > rig.value());
    assert_eq!(rig.payer.machine.report()[0].settled, Some(came));
}

#[test]
fn refund_replaces_a_close_that_waits_after_the_expiry() {
    for pinned in [false, true] {
        let (mut rig, close) = waiting();
        if pinned {
            let change = OutPoint::new(close.compute_txid(), 0);
            rig.chain.hang(change, Amount::from_sat(3_000), 19).unwrap();
        }
        // The payee is not there any more.
        let left = rig.expiry() - rig.chain.tip();
        rig.payer.mine_and_look(left + 5);
        assert!(rig.payer.broadcast.is_empty(), "it may still come");
        rig.payer.mine_and_look(14);
        let refund = rig.payer.broadcast.last().unwrap();
        assert!(is_mined(&rig), "{:?}", rig.payer.refused);
        let home = rig.chain.balance(&open_home());
        assert_eq!(home, refund.output[0].value);
        assert!(home.to_sat() + 10_000 > rig.value());
        assert_eq!(rig.payer.machine.report()[0].settled, Some(home));
    }
}
