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
