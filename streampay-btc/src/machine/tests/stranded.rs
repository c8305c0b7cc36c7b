//! Fundings that were taken unconfirmed, and that nodes forget while fees are high.

use super::*;

const TICKS: u64 = 60;

/// A channel that is paid from while its funding waits for a block.
fn unconfirmed() -> Rig {
    let mut rig = taken_unconfirmed();
    (1..=TICKS).for_each(|seq| rig.tick(seq));
    rig
}

/// The same before the first tick, where the payee need not look for that: it has just looked.
fn taken_unconfirmed() -> Rig {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.zero_conf_max = Amount::from_sat(200_000);
    config.payee.depths.retain(|rule| rule.value_max > 200_000);
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    rig.payee.look();
    rig.open();
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened")
    };
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    rig
}

/// From now on nobody relays less, and no block takes less.
fn spike(rig: &Rig, sat_vb: u32) {
    let rate = FeeRate::from_sat_per_vb_u32(sat_vb);
    rig.chain.set_rate(rate);
    rig.chain.set_floor(rate);
}

/// The payee has what it is due but for the fee of both, the payer what it did not pay.
fn both_have_theirs(rig: &mut Rig) {
    assert_eq!(rig.chain.waiting().len(), 2, "funding and close");
    rig.mine(7);
    let (payer, payee) = (
        &rig.payer.machine.report()[0],
        &rig.payee.machine.report()[0],
    );
    assert_eq!(payee.paid.to_sat(), TICKS * STEP + rig.reserve());
    assert_eq!(payer.settled, Some(payer.value - payee.paid));
    let fee = payee.paid - payee.settled.unwrap();
    assert!((1_000..=11_000).contains(&fee.to_sat()), "{fee}");
    assert_eq!(
        rig.balances(),
        (
            payer.settled.unwrap().to_sat(),
            payee.settled.unwrap().to_sat()
        )
    );
}

#[test]
fn a_close_brings_a_funding_along_that_nodes_have_forgotten() {
    let mut rig = unconfirmed();
    spike(&rig, 30);
    assert!(rig.chain.waiting().is_empty(), "forgotten");
    let late = rig.payload(TICKS + 1);
    rig.payee.look();
    rig.payee.look();
    assert_eq!(rig.payee.refused.len(), 1, "alone it is refused");
    assert!(matches!(
        rig.receive(TICKS + 1, late),
        Some(Outcome::Failed(_))
    ));
    both_have_theirs(&mut rig);
}

#[test]
fn a_funding_is_on_the_payees_disk_before_the_first_tick() {
    let mut rig = taken_unconfirmed();
    rig.tick(1);
    rig.chain.set_away(true);
    (2..=TICKS).for_each(|seq| rig.tick(seq));
    spike(&rig, 30);
    rig.chain.set_away(false);
    rig.payee.restart(&[rig.purse]);
    rig.payee.look();
    both_have_theirs(&mut rig);
}

#[test]
fn the_forgotten_funding_is_on_the_payees_disk() {
    let mut rig = unconfirmed();
    rig.payee.look();
    spike(&rig, 30);
    rig.payee.restart(&[rig.purse]);
    rig.payee.look();
    both_have_theirs(&mut rig);
}

#[test]
fn what_a_forgotten_funding_cannot_pay_for_is_stated_and_tried_again() {
    let mut rig = unconfirmed();
    spike(&rig, 300);
    rig.payee.look();
    let events = rig.payee.look().unwrap();
    let lost = |(_, event): &(PurseKey, WatchEvent)| matches!(event, WatchEvent::Uneconomic { .. });
    assert!(events.iter().any(lost), "{events:?}");
    assert!(rig.chain.waiting().is_empty());
    spike(&rig, 30);
    rig.chain.mine(1);
    rig.payee.look();
    both_have_theirs(&mut rig);
}

/// The payer has spent the coin otherwise: what is due is lost, as was said of unconfirmed fundings, and
/// nothing else breaks.
#[test]
fn a_funding_that_was_spent_otherwise_is_refused_with_its_close() {
    let mut rig = unconfirmed();
    let funding = rig.payer.machine.report()[0].outpoint.unwrap();
    rig.chain.bump(funding).unwrap();
    rig.payee.look();
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    assert_eq!(rig.payee.request(rig.purse, settle.clone()), LATER);
    rig.chain.mine(1);
    let closing = |(_, event): &(PurseKey, WatchEvent)| matches!(event, WatchEvent::Closing { .. });
    assert!(!rig.payee.look().unwrap().iter().any(closing), "none is");
    assert!(!rig.payee.refused.is_empty());
    assert_eq!(rig.balances(), (0, 0));
    assert_eq!(
        rig.payee.machine.report()[0].state,
        ChannelState::Closing,
        "watched on"
    );
    let left = rig.payee.machine.report()[0].expiry - rig.chain.tip();
    rig.chain.mine(left + 2_015);
    assert_eq!(rig.payee.request(rig.purse, settle.clone()), LATER);
    rig.chain.mine(1);
    let nothing = Some(Outcome::Settled {
        settled: Msat::ZERO,
    });
    rig.payee.look();
    assert_eq!(rig.payee.request(rig.purse, settle), nothing);
    rig.payee.restart(&[rig.purse]);
    let report = rig.payee.machine.report().remove(0);
    assert_eq!(report.settled, Some(Amount::ZERO), "it is durable");
}

/// A node that has lost it takes it again where it pays for itself: no close, and ticks go on.
#[test]
fn a_funding_that_a_node_has_lost_is_given_back_to_it_alone() {
    let mut rig = unconfirmed();
    let spent = rig.payee.machine.report()[0].paid;
    spike(&rig, 30);
    spike(&rig, 2);
    assert!(rig.chain.waiting().is_empty(), "forgotten");
    rig.payee.look();
    rig.payee.look();
    assert_eq!(rig.chain.waiting().len(), 1, "the funding alone");
    let report = rig.payee.machine.report().remove(0);
    assert_eq!((report.state, report.paid), (ChannelState::Open, spent));
    rig.tick(TICKS + 1);
    assert!(rig.payee.refused.is_empty());
}

/// What a view leaves out is not gone, also where it was never seen since the start.
#[test]
fn a_funding_that_is_left_out_is_brought_along_by_nothing() {
    let mut rig = unconfirmed();
    rig.payee.look();
    let outpoint = rig.payer.machine.report()[0].outpoint.unwrap();
    rig.chain.leave_out(&[outpoint]);
    rig.payee.restart(&[rig.purse]);
    rig.payee.look();
    rig.payee.look();
    assert!(rig.payee.broadcast.is_empty());
    rig.chain.leave_out(&[]);
    rig.payee.look();
    rig.tick(TICKS + 1);
}

#[test]
fn a_funding_that_had_to_confirm_is_not_kept() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.chain.reorganise(1, &[]);
    rig.payee.look();
    spike(&rig, 30);
    rig.mine(3);
    assert!(
        rig.payee.broadcast.is_empty(),
        "no close without its parent"
    );
}

/// A close cannot follow a child of what waits: such a funding has to be alone.
#[test]
fn a_funding_that_hangs_on_what_waits_is_no_parent_of_a_close() {
    let chain = SimChain::new();
    let home = crate::sim::open_home();
    let first = chain.pay(&home, Amount::from_sat(50_000)).unwrap();
    chain.hang(first, Amount::from_sat(1_000), 1).unwrap();
    let (tx, _) = chain.spender(first).unwrap();
    let watch = Watch {
        outpoint: bitcoin::OutPoint::new(tx.compute_txid(), 0),
        script: home,
        since: 0,
    };
    let parent = || {
        let view = chain.look(core::slice::from_ref(&watch)).unwrap();
        let parent = view.outputs[0].seen.clone().unwrap().parent;
        parent.map(|of| of.tx)
    };
    assert_eq!(parent(), None);
    chain.mine_without(1, &[tx.compute_txid()]);
    assert_eq!(parent(), Some(tx));
}

#[test]
fn a_kept_funding_that_cannot_be_read_costs_no_channel() {
    let mut rig = unconfirmed();
    rig.payee.look();
    let mut records = rig.payee.records(rig.purse);
    let mut kept = records.iter_mut().filter(|(key, _)| key == b"p");
    kept.next().unwrap().1 = vec![1, 0x42];
    let report = rig.payee.machine.report().remove(0);
    let other = ChannelMachine::new(sim_config(PAYEE), &Seed([PAYEE; 32])).unwrap();
    let read = other.report_of(rig.purse, &records).unwrap();
    assert_eq!((read.paid, read.outpoint), (report.paid, report.outpoint));
}
