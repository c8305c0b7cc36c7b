//! Fundings that were taken unconfirmed, pay little, and wait.

use super::*;
use crate::sim::{Payment, Reject};

/// About 1 sat/vB of a funding.
const POOR: Payment = Payment::For(Amount::from_sat(110));

/// A payee that takes unconfirmed fundings, and a payer whose wallet pays for them like this.
fn sides(payment: Payment) -> Rig {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.zero_conf_max = Amount::from_sat(200_000);
    config.payee.depths.retain(|rule| rule.value_max > 200_000);
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    rig.payer.payment = payment;
    rig
}

fn opened(rig: &mut Rig) -> Opened {
    rig.open();
    match rig.open() {
        Some(Outcome::Opened(opened)) => opened,
        other => panic!("{other:?}"),
    }
}

fn accepted(rig: &mut Rig) {
    let opened = opened(rig);
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
}

fn rate(rig: &Rig, sat_vb: u32) {
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
}

fn settle(rig: &mut Rig) -> Option<Outcome> {
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    rig.payee.request(rig.purse, settle)
}

/// The payee closed while the funding paid less than blocks asked, at the rate of the close alone: both
/// waited, and the payer could take the funding back all the while.
#[test]
fn a_close_pays_what_is_missing_of_a_funding_that_waits() {
    for later in [false, true] {
        let mut rig = sides(POOR);
        accepted(&mut rig);
        (1..=60).for_each(|seq| rig.tick(seq));
        if later {
            // Blocks ask more once it is on its way.
            rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
            assert_eq!(settle(&mut rig), LATER);
            assert_eq!(rig.chain.waiting().len(), 2);
            rate(&rig, 20);
            rig.mine(1);
        } else {
            rate(&rig, 20);
            rig.payee.look();
            assert_eq!(settle(&mut rig), LATER);
        }
        assert_eq!(rig.chain.waiting().len(), 2, "funding and close");
        rig.mine(1);
        assert!(rig.chain.waiting().is_empty(), "one block takes both");
        rig.mine(6);
        let report = rig.payee.machine.report().remove(0);
        let fee = report.paid - report.settled.unwrap();
        // The close has 175 vB, the funding less than 120.
        assert!((3_500..=20 * 300).contains(&fee.to_sat()), "{fee}");
        assert!(rig.payee.refused.is_empty());
    }
}

/// A close that brings its funding along was weighed as one with larger outputs, and paid a little less
/// than both of them cost: nodes refused it where they relay nothing below that.
#[test]
fn a_package_pays_in_full_for_a_funding_that_pays_hardly_anything() {
    let mut rig = sides(POOR);
    accepted(&mut rig);
    (1..=60).for_each(|seq| rig.tick(seq));
    rate(&rig, 30);
    rig.chain.set_floor(FeeRate::from_sat_per_vb_u32(30));
    assert!(rig.chain.waiting().is_empty(), "forgotten");
    rig.payee.look();
    rig.payee.look();
    let refused: Vec<Reject> = rig
        .payee
        .refused
        .iter()
        .map(|(_, reject)| *reject)
        .collect();
    assert_eq!(refused, [Reject::Fee], "the funding alone");
    assert_eq!(rig.chain.waiting().len(), 2, "funding and close");
    rig.mine(1);
    assert!(rig.chain.waiting().is_empty());
}

/// After a reorganisation a funding may wait for what waits itself: no close can follow it, and ticks were
/// taken on it.
#[test]
fn no_tick_is_taken_on_a_funding_that_no_close_can_follow() {
    let mut rig = sides(Payment::After);
    let opened = opened(&mut rig);
    assert_eq!(rig.accept(&opened), LATER, "it waits for what waits");
    rig.mine(1);
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    (1..=8).for_each(|seq| rig.tick(seq));
    rig.chain.reorganise(1, &[]);
    rig.payer.look();
    rig.payee.look();
    assert_eq!(rig.chain.waiting().len(), 2);
    let late = rig.payload(9);
    assert_eq!(rig.receive(9, late.clone()), LATER);
    // Nor is it closed, by one or by both, until a block has the funding.
    asks_for_mutual_closes(&mut rig);
    rig.payee.look();
    assert_eq!(settle(&mut rig), LATER);
    assert!(rig.payee.broadcast.is_empty() && rig.payee.notes.is_empty());
    rig.mine(8);
    assert!(rig.payee.refused.is_empty());
    assert!(rig.balances().1 > 8 * STEP);
}

fn asks_for_mutual_closes(rig: &mut Rig) {
    let mut config = sim_config(PAYEE);
    config.payee.mutual_ms = 60_000;
    let machine = ChannelMachine::new(config, &Seed([PAYEE; 32])).unwrap();
    rig.payee.machine = machine;
    let records = rig.payee.records(rig.purse);
    let answer = (rig.payee.machine).restore(rig.payee.now, rig.purse, records);
    rig.payee.follow(rig.purse, answer);
}

/// What closing costs is known before a tick is taken: also what a funding that waits is short of.
#[test]
fn a_funding_that_pays_little_counts_in_what_closing_costs() {
    let mut rig = sides(POOR);
    accepted(&mut rig);
    rate(&rig, 8);
    rig.payee.look();
    let amount = sat(5 * STEP);
    let pay = Request::Pay {
        seq: Seq(1),
        amount,
        cumulative: amount,
    };
    let Some(Outcome::Paid { payload }) = rig.payer.request(rig.purse, pay) else {
        panic!("not paid");
    };
    let receive = Request::Receive {
        seq: Seq(1),
        amount,
        cumulative: amount,
        payload,
    };
    let shown = rig.payee.request(rig.purse, receive.clone());
    assert_eq!(shown, refusal(RefusalCode::FeeTooHigh));
    rate(&rig, 1);
    rig.mine(1);
    rate(&rig, 8);
    rig.payee.look();
    let shown = rig.payee.request(rig.purse, receive);
    assert_eq!(shown, Some(Outcome::Credited), "in a block it is no matter");
}
