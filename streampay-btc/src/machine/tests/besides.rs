//! What is paid to a channel's address besides: it is told, opens nothing, and comes home.

use bitcoin::{OutPoint, ScriptBuf};

use super::*;
use crate::machine::payer::FORGOTTEN;

fn address(rig: &Rig) -> ScriptBuf {
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    kit.address.unwrap().script_pubkey()
}

/// A payment to the channel's address, in a block.
fn pay(rig: &Rig, value: u64) -> OutPoint {
    let paid = rig.chain.pay(&address(rig), Amount::from_sat(value));
    rig.chain.mine(1);
    paid.unwrap()
}

/// What the payer is told of such payments.
fn told(rig: &mut Rig) -> Vec<WatchEvent> {
    let events = rig.payer.look().unwrap().into_iter();
    let besides = |event: &WatchEvent| {
        matches!(
            event,
            WatchEvent::PaidBesides { .. } | WatchEvent::Returned { .. }
        )
    };
    events.map(|(_, event)| event).filter(besides).collect()
}

fn paid_besides(outpoint: OutPoint, value: u64) -> WatchEvent {
    let value = Amount::from_sat(value);
    WatchEvent::PaidBesides { outpoint, value }
}

/// What came back of each.
fn back(rig: &Rig) -> Vec<Option<Amount>> {
    let report = rig.payer.machine.report().remove(0);
    report.besides.iter().map(|of| of.back).collect()
}

/// Blocks until the expiry, and until what is broadcast then is buried.
fn after_expiry(rig: &mut Rig) -> Vec<WatchEvent> {
    let left = rig.expiry().saturating_sub(rig.chain.tip());
    rig.chain.mine(left);
    let mut all = told(rig);
    for _ in 0..7 {
        rig.chain.mine(1);
        all.extend(told(rig));
    }
    all
}

#[test]
fn second_payment_is_told_and_comes_home_though_the_channel_was_closed() {
    for restarts in [false, true] {
        let mut rig = Rig::ready();
        rig.tick(1);
        let value = rig.value();
        let second = pay(&rig, value);
        assert_eq!(told(&mut rig), [paid_besides(second, value)]);
        assert_eq!(told(&mut rig), [], "once");
        (2..=5).for_each(|seq| rig.tick(seq));
        rig.close();
        assert_eq!(back(&rig), [None]);
        let (first_home, _) = rig.balances();
        rig.payer.machine.forget(rig.purse);
        if restarts {
            rig.payer.restart(&[rig.purse]);
        }
        let left = rig.expiry() - 1 - rig.chain.tip();
        rig.chain.mine(left);
        assert_eq!(told(&mut rig), []);
        assert!(rig.chain.spender(second).is_none(), "not before T");
        let events = after_expiry(&mut rig);
        let came = rig.balances().0 - first_home;
        assert!(came + 500 > value, "{came} of {value}");
        let amount = Amount::from_sat(came);
        let outpoint = second;
        assert_eq!(events, [WatchEvent::Returned { outpoint, amount }]);
        assert_eq!(back(&rig), [Some(amount)]);
        rig.payer.machine.forget(rig.purse);
        assert!(rig.payer.machine.report().is_empty(), "nothing is left");
        assert!(rig.payer.refused.is_empty(), "{:?}", rig.payer.refused);
    }
}

/// As where an exchange takes its fee out of what it sends.
#[test]
fn payment_of_another_value_opens_nothing_and_comes_home() {
    for opens in [false, true] {
        let mut rig = Rig::new();
        rig.payer.pays = false;
        assert_eq!(rig.open(), LATER);
        let value = rig.value();
        let less = pay(&rig, value - 1_000);
        assert_eq!(told(&mut rig), [paid_besides(less, value - 1_000)]);
        let more = pay(&rig, value + 1);
        assert_eq!(told(&mut rig), [paid_besides(more, value + 1)]);
        assert_eq!(rig.open(), LATER, "neither is the channel");
        let mut sum = 2 * value - 999;
        if opens {
            pay(&rig, value);
            assert_eq!(rig.open(), LATER, "found");
            let Some(Outcome::Opened(opened)) = rig.open() else {
                panic!("not opened");
            };
            let accepted = rig.accept(&opened);
            assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
            rig.tick(1);
            rig.close();
            sum += rig.balances().0;
        } else {
            assert_eq!(rig.payer.request(rig.purse, Request::Release), LATER);
            rig.payer.machine.forget(rig.purse);
        }
        rig.payer.restart(&[rig.purse]);
        let events = after_expiry(&mut rig);
        assert_eq!(events.len(), 2, "{events:?}");
        let home = rig.balances().0;
        assert!(home < sum && home + 1_000 > sum, "{home} of {sum}");
    }
}

#[test]
fn funding_that_was_replaced_is_not_paid_besides() {
    let mut rig = Rig::new();
    rig.payer.pays = false;
    assert_eq!(rig.open(), LATER);
    let value = Amount::from_sat(rig.value());
    let first = rig.chain.pay(&address(&rig), value).unwrap();
    assert_eq!(rig.open(), LATER);
    let second = rig.chain.bump(first).unwrap();
    for _ in 0..4 {
        rig.chain.mine(1);
        assert_eq!(told(&mut rig), []);
    }
    let report = rig.payer.machine.report().remove(0);
    assert_eq!((report.outpoint, report.besides.len()), (Some(second), 0));
}

#[test]
fn what_is_worth_no_refund_and_more_than_can_be_watched_is_left() {
    let mut rig = Rig::ready();
    let script = address(&rig);
    for number in 0..70 {
        let value = Amount::from_sat(1_000 + number);
        rig.chain.pay(&script, value).unwrap();
    }
    rig.chain.pay(&script, Amount::from_sat(400)).unwrap();
    rig.chain.mine(1);
    assert_eq!(told(&mut rig).len(), 64);
    let report = rig.payer.machine.report().remove(0);
    let least = report.besides.iter().map(|of| of.value.to_sat()).min();
    assert_eq!(least, Some(1_006), "the largest");
    rig.chain.mine(1);
    assert_eq!(told(&mut rig), []);
}

#[test]
fn payment_besides_that_a_reorganisation_took_is_let_go_long_after_the_expiry() {
    let mut rig = Rig::ready();
    let second = pay(&rig, 5_000);
    assert_eq!(told(&mut rig).len(), 1);
    rig.chain.reorganise(1, &[second.txid]);
    assert_eq!(told(&mut rig), []);
    let left = rig.expiry() - rig.chain.tip();
    rig.payer.mine_and_look(left + FORGOTTEN - 1);
    assert_eq!(back(&rig), [None]);
    rig.payer.mine_and_look(1);
    assert_eq!(back(&rig), [Some(Amount::ZERO)]);
}

/// Nodes take a refund of it by their own rules, bumped where fees have risen.
#[test]
fn refund_of_what_was_paid_besides_is_bumped() {
    let mut rig = Rig::ready();
    let second = pay(&rig, 60_000);
    assert_eq!(told(&mut rig).len(), 1);
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.look();
    let first = rig.chain.spender(second).unwrap().0;
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(12));
    rig.payer.mine_and_look(1);
    let (bumped, height) = rig.chain.spender(second).unwrap();
    assert_ne!(bumped, first);
    assert_eq!(height, None);
    rig.payer.mine_and_look(7);
    assert!(back(&rig)[0].is_some());
    assert!(rig.payer.refused.is_empty(), "{:?}", rig.payer.refused);
}

/// Sources read blocks from there on: not from where it was paid, after every restart.
#[test]
fn what_was_seen_unspent_is_looked_for_from_there_on() {
    let mut rig = Rig::ready();
    let second = pay(&rig, 5_000);
    assert_eq!(told(&mut rig).len(), 1);
    rig.chain.mine(200);
    assert_eq!(told(&mut rig), []);
    rig.payer.restart(&[rig.purse]);
    let mut watched = rig.payer.machine.watched().into_iter();
    let of = watched.find(|of| of.outpoint == second).unwrap();
    assert_eq!(of.since, rig.chain.tip() - 36);
}
