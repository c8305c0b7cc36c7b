//! Closes of several channels of which a node does not know all, or all at a time.

use bitcoin::OutPoint;

use super::*;

const TICKS: u64 = 60;

/// Channels 0 and 1, both paid from, and the payee's disk before the second one.
fn two() -> (Rig, RestoredPurse) {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 2;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let mut before = RestoredPurse::default();
    for number in 0..2 {
        before = rig.payee.snapshot();
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=TICKS).for_each(|seq| rig.tick(seq));
    }
    (rig, before)
}

/// One close of both waits at this rate.
fn closed_at(rig: &mut Rig, sat_vb: u32) {
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
    for number in 0..2 {
        let cumulative = Msat::ZERO;
        let settle = Request::Settle { cumulative };
        assert_eq!(rig.payee.request(key(number), settle), LATER);
    }
    rig.payee.mine_and_look(2);
    let waiting = rig.chain.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].input.len(), 2);
}

fn outpoint(rig: &Rig, number: usize) -> OutPoint {
    rig.payer.machine.report()[number].outpoint.unwrap()
}

/// What came to the payee is what it booked.
fn booked(rig: &Rig) -> u64 {
    let reports = rig.payee.machine.report();
    let settled = reports.iter().map(|of| of.settled.unwrap().to_sat());
    settled.sum()
}

#[test]
fn what_is_closed_together_is_booked_together_where_one_is_left_out() {
    for number in 0..2 {
        let (mut rig, _) = two();
        closed_at(&mut rig, 5);
        rig.chain.leave_out(&[outpoint(&rig, number)]);
        rig.payee.mine_and_look(6);
        let first = rig.payee.machine.report()[1 - number].settled.unwrap();
        rig.payee
            .machine
            .forget(key(u32::try_from(1 - number).unwrap()));
        rig.chain.leave_out(&[]);
        rig.payee.mine_and_look(1);
        assert_eq!(booked(&rig) + first.to_sat(), rig.balances().1, "{number}");
    }
}

#[test]
fn what_is_booked_together_is_durable_together() {
    let (mut rig, _) = two();
    closed_at(&mut rig, 5);
    rig.chain.mine(6);
    let view = rig.chain.look(&rig.payee.machine.watched()).unwrap();
    let actions = rig.payee.machine.chain(rig.payee.now, &view);
    let persists = |action: &Action| matches!(action, Action::Persist(_));
    let places: Vec<_> = (actions.iter().enumerate())
        .filter(|(_, action)| persists(action))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(places, [0], "{actions:?}");
    assert_eq!(booked(&rig), rig.balances().1);
}

/// The other channel came after the backup.
#[test]
fn a_close_with_a_channel_that_is_not_known_is_outbid_in_the_margin() {
    let (mut rig, before) = two();
    closed_at(&mut rig, 8);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(9));
    rig.payee.roll_back(&before);
    rig.payee.restart(&[key(0)]);
    let own = outpoint(&rig, 0);
    rig.payee.mine_and_look(3);
    let inputs = |rig: &Rig| rig.chain.spender(own).unwrap().0.input.len();
    assert_eq!(inputs(&rig), 2, "the other is closed by this one alone");
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left - 36);
    rig.payee.mine_and_look(12);
    assert!(!rig.payee.refused.is_empty(), "the first bids are too low");
    let (close, height) = rig.chain.spender(own).unwrap();
    assert_eq!((close.input.len(), height.is_some()), (1, true));
    let report = rig.payee.machine.report().remove(0);
    let most = report.reserve + (report.paid - report.reserve) / 3;
    assert!(report.settled.unwrap() + most >= report.paid);
    assert_eq!(report.settled.unwrap().to_sat(), rig.balances().1);
}
