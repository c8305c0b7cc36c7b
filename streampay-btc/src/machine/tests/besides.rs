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
    assert_eq!(back(&rig), []);
}

/// One view that did not show it: a search finds it again, and it comes home.
#[test]
fn payment_besides_that_one_view_did_not_show_is_found_again() {
    let mut rig = Rig::ready();
    let second = pay(&rig, 5_000);
    assert_eq!(told(&mut rig).len(), 1);
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left + FORGOTTEN);
    let mut view = rig.chain.look(&rig.payer.machine.watched()).unwrap();
    let unseen = view.outputs.iter_mut().filter(|of| of.outpoint == second);
    unseen.for_each(|of| of.seen = None);
    for action in rig.payer.machine.chain(rig.payer.now, &view) {
        rig.payer.act(action);
    }
    assert_eq!(back(&rig), []);
    rig.payer.machine.seek_besides(rig.purse);
    assert_eq!(told(&mut rig), [paid_besides(second, 5_000)]);
    rig.payer.mine_and_look(7);
    assert!(back(&rig)[0].is_some_and(|back| back > Amount::from_sat(4_000)));
}

/// Nobody looked until long after the channel's time: whoever asks for it has it looked for.
#[test]
fn payment_besides_is_looked_for_long_after_the_expiry_where_that_is_asked_for() {
    let mut rig = Rig::ready();
    (1..=5).for_each(|seq| rig.tick(seq));
    rig.close();
    let second = pay(&rig, 5_000);
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left + FORGOTTEN);
    assert_eq!(told(&mut rig), [], "not by itself");
    assert!(rig.payer.machine.besides().is_empty());
    rig.payer.machine.seek_besides(rig.purse);
    assert_eq!(rig.payer.machine.besides().len(), 1);
    rig.chain.set_searched(false);
    assert_eq!(told(&mut rig), []);
    assert_eq!(rig.payer.machine.besides().len(), 1, "not looked for");
    rig.chain.set_searched(true);
    assert_eq!(told(&mut rig), [paid_besides(second, 5_000)]);
    assert!(rig.payer.machine.besides().is_empty(), "once");
    rig.payer.mine_and_look(8);
    assert!(back(&rig)[0].is_some());
}

/// Whoever knows an address can fill the places: a payment of worth still has one.
#[test]
fn larger_payment_takes_the_place_of_the_smallest_whenever_it_comes() {
    let mut rig = Rig::ready();
    let script = address(&rig);
    let many = |rig: &Rig, value: u64| {
        for number in 0..64 {
            let value = Amount::from_sat(value + number);
            rig.chain.pay(&script, value).unwrap();
        }
        rig.chain.mine(1);
    };
    let values = |rig: &Rig| {
        let report = rig.payer.machine.report().remove(0);
        let open = report.besides.iter().filter(|of| of.back.is_none());
        open.map(|of| of.value.to_sat()).collect::<Vec<_>>()
    };
    many(&rig, 5_000);
    assert_eq!(told(&mut rig).len(), 64);
    let larger = pay(&rig, 90_000);
    pay(&rig, 4_900);
    assert_eq!(told(&mut rig), [paid_besides(larger, 90_000)]);
    let held = values(&rig);
    assert_eq!((held.len(), held.iter().min()), (64, Some(&5_001)));
    rig.payer.restart(&[rig.purse]);
    assert_eq!(values(&rig), held, "durable");
    // Those whose refund is under way keep their places; once they are home, there is room.
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.look();
    let late = pay(&rig, 95_000);
    assert_eq!(told(&mut rig), []);
    let events = after_expiry(&mut rig);
    assert!(events.contains(&paid_besides(late, 95_000)), "{events:?}");
    rig.payer.mine_and_look(8);
    assert!(rig.chain.spender(late).is_some());
}

/// After the expiry each comes home within blocks: the record of them does not grow with what is paid.
#[test]
fn places_of_payments_that_came_back_are_bounded_too() {
    let mut rig = Rig::ready();
    let script = address(&rig);
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    let mut newest = Vec::new();
    for number in 0..3 {
        newest.clear();
        for of in 0..40 {
            let value = Amount::from_sat(5_000 + 40 * number + of);
            newest.push(rig.chain.pay(&script, value).unwrap());
        }
        rig.chain.mine(1);
        rig.payer.mine_and_look(10);
    }
    let held = back(&rig);
    assert_eq!(held.len(), 64);
    assert!(held.iter().all(Option::is_some));
    let report = rig.payer.machine.report().remove(0);
    let known = |of: &OutPoint| report.besides.iter().any(|held| held.outpoint == *of);
    assert!(newest.iter().all(known));
    rig.payer.restart(&[rig.purse]);
    assert_eq!(back(&rig), held, "durable");
}

/// A node that takes no refund is asked at each block; the user is told once, until it is raised.
#[test]
fn refund_that_is_refused_is_told_once() {
    let mut rig = Rig::ready();
    let second = pay(&rig, 60_000);
    assert_eq!(told(&mut rig).len(), 1);
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    let own = rig.payer.machine.report()[0].outpoint.unwrap();
    let look = |rig: &mut Rig, kept: bool| {
        let view = rig.chain.look(&rig.payer.machine.watched()).unwrap();
        let (mut sent, mut refunding) = (0, Vec::new());
        for action in rig.payer.machine.chain(rig.payer.now, &view) {
            match action {
                Action::Broadcast(tx) => {
                    sent += 1;
                    if kept {
                        rig.chain.submit(tx).unwrap();
                    }
                }
                Action::Event(_, WatchEvent::Refunding { outpoint, .. }) => {
                    refunding.push(outpoint)
                }
                other => rig.payer.act(other),
            }
        }
        rig.chain.mine_without(
            1,
            &rig.chain
                .waiting()
                .iter()
                .map(Transaction::compute_txid)
                .collect::<Vec<_>>(),
        );
        (sent, refunding)
    };
    let both = vec![own, second];
    assert_eq!(look(&mut rig, false), (2, both.clone()));
    for _ in 0..3 {
        assert_eq!(look(&mut rig, false), (2, vec![]), "asked, and not told");
    }
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(5));
    assert_eq!(look(&mut rig, false), (2, both.clone()), "raised");
    assert_eq!(look(&mut rig, true), (2, vec![]));
    assert_eq!(look(&mut rig, true), (0, vec![]), "they wait");
    // Nodes forget both: that they are broadcast again is news.
    for tx in rig.chain.waiting() {
        rig.chain.forget(tx.compute_txid());
    }
    assert_eq!(look(&mut rig, true), (2, both));
}

/// Nodes relay nothing for what half of it would pay: that is told once, and nothing waits for it.
#[test]
fn what_does_not_pay_for_its_refund_is_told_once_and_set_aside() {
    let mut rig = Rig::ready();
    let small = pay(&rig, 600);
    assert_eq!(told(&mut rig).len(), 1);
    (1..=5).for_each(|seq| rig.tick(seq));
    rig.close();
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.chain.set_floor(FeeRate::from_sat_per_vb_u32(4));
    let mut short = Vec::new();
    for _ in 0..80 {
        let events = rig.payer.look().unwrap().into_iter();
        short.extend(events.filter_map(|(_, event)| match event {
            WatchEvent::Uneconomic { outpoint, .. } => Some(outpoint),
            _ => None,
        }));
        rig.chain.mine(1);
    }
    assert_eq!(short, [small]);
    let report = rig.payer.machine.report().remove(0);
    assert_eq!(
        (report.besides.len(), report.besides_open()),
        (1, Amount::ZERO)
    );
    assert!(rig.chain.spender(small).is_none());
    // Nodes relay for less again.
    rig.chain.set_floor(FeeRate::from_sat_per_vb_u32(1));
    rig.payer.mine_and_look(8);
    assert!(back(&rig)[0].is_some());
}

/// It only helps: the channel itself comes home without it.
#[test]
fn broken_record_of_what_was_paid_besides_keeps_no_refund_back() {
    let mut rig = Rig::ready();
    let mut broken = ChangeSet::new();
    broken.put([b's'], vec![1, 0xff]);
    let broken = broken.within_purse(rig.purse);
    rig.payer.act(Action::Persist(broken));
    rig.payer.restart(&[rig.purse]);
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.mine_and_look(8);
    let report = rig.payer.machine.report().into_iter().next();
    assert!(report.is_some_and(|of| of.settled.is_some()));
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
