//! What a refund may cost.

use super::*;

fn cost(rig: &Rig, tx: &Transaction) -> u64 {
    rig.value() - tx.output[0].value.to_sat()
}

#[test]
fn false_estimate_burns_a_small_part_of_a_refund_and_is_told() {
    let mut rig = Rig::ready();
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(300));
    let events = rig.payer.look().unwrap();
    let told = |(_, event): &(PurseKey, WatchEvent)| matches!(event, WatchEvent::Uneconomic { .. });
    assert!(events.iter().any(told), "{events:?}");
    assert_eq!(rig.payer.broadcast.len(), 1);
    let paid = cost(&rig, &rig.payer.broadcast[0]);
    let part = rig.value() / 20;
    assert!(paid <= part && paid + 200 > part, "{paid} of {part}");
    // It waits for long: more by and by, and half at most.
    let last = rig.payer.broadcast.clone();
    rig.payer.mine_and_look(5);
    assert_eq!(rig.payer.broadcast, last, "nothing new to say");
    rig.payer.mine_and_look(1);
    let paid = cost(&rig, rig.payer.broadcast.last().unwrap());
    assert!(paid > part && paid <= 2 * part, "{paid} of {part}");
    rig.payer.mine_and_look(100);
    for tx in &rig.payer.broadcast {
        assert!(cost(&rig, tx) <= rig.value() / 2);
    }
    assert!(rig.payer.refused.is_empty(), "{:?}", rig.payer.refused);
    // The estimate was true for once.
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(100));
    rig.payer.mine_and_look(7);
    assert!(rig.balances().0 >= rig.value() / 2);
}

/// A twentieth of so little is less than nodes relay: it comes home with a later step.
#[test]
fn refund_of_little_waits_until_its_part_is_what_nodes_relay() {
    let mut rig = Rig::new();
    let least = PayerPolicy::new(home(PAYER)).funding_fee_max.to_sat() + rig.reserve() + STEP;
    for _ in 0..2 {
        let request = Request::Open {
            offer: rig.offer(),
            capacity: sat(least),
            budget: sat(least),
        };
        rig.payer.request(rig.purse, request);
        rig.chain.mine(1);
    }
    assert_eq!(rig.value(), rig.reserve() + STEP);
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    // Half of it does not pay for what nodes relay now.
    rig.chain.set_floor(FeeRate::from_sat_per_vb_u32(8));
    let told = |events: Vec<(PurseKey, WatchEvent)>| {
        let is =
            |(_, event): &(PurseKey, WatchEvent)| matches!(event, WatchEvent::Uneconomic { .. });
        events.iter().any(is)
    };
    for look in 0..40 {
        let events = rig.payer.look().unwrap();
        assert_eq!(told(events), look == 0, "once");
        assert!(rig.payer.machine.report()[0].short.is_some() && rig.payer.broadcast.is_empty());
        rig.chain.mine(1);
    }
    rig.chain.set_floor(FeeRate::BROADCAST_MIN);
    rig.payer.mine_and_look(1);
    assert_eq!(rig.payer.broadcast.len(), 1);
    assert!(cost(&rig, &rig.payer.broadcast[0]) <= rig.value() / 2);
    rig.payer.mine_and_look(7);
    assert!(rig.balances().0 >= rig.value() / 2);

    // From T on, where nodes relay 1 sat/vB.
    rig.purse = key(1);
    let mut payer = SimNode::new(&rig.chain, sim_config(PAYER), PAYER);
    core::mem::swap(&mut rig.payer, &mut payer);
    for _ in 0..2 {
        let request = Request::Open {
            offer: rig.offer(),
            capacity: sat(least),
            budget: sat(least),
        };
        rig.payer.request(rig.purse, request);
        rig.chain.mine(1);
    }
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    for look in 0..6 {
        let events = rig.payer.look().unwrap();
        assert_eq!(told(events), look == 0, "once");
        assert!(rig.payer.machine.report()[0].short.is_some() && rig.payer.broadcast.is_empty());
        rig.chain.mine(1);
    }
    rig.payer.look().unwrap();
    assert_eq!(rig.payer.broadcast.len(), 1);
    assert!(cost(&rig, &rig.payer.broadcast[0]) <= rig.value() / 10);
}
