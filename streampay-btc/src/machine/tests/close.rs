//! Closing in time, together, and after whatever happened.

use super::*;
use crate::machine::record::{self, Decided};
use crate::policy::PayeePolicy;

#[test]
fn channel_without_a_tick_costs_nothing_and_comes_back_after_expiry() {
    let mut rig = Rig::ready();
    assert_eq!(
        rig.payee.request(
            rig.purse,
            Request::Settle {
                cumulative: Msat::ZERO
            }
        ),
        Some(Outcome::Settled {
            settled: Msat::ZERO
        })
    );
    assert_eq!(rig.payer.request(rig.purse, Request::Release), LATER);
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left - 1);
    assert!(rig.payer.broadcast.is_empty(), "not before T");
    rig.mine(8);
    let refunded = rig.payer.request(rig.purse, Request::Release);
    let home = rig.balances().0;
    assert_eq!(
        refunded,
        Some(Outcome::Released {
            refunded: sat(home)
        })
    );
    let fee = rig.value() - home;
    assert!((200..=300).contains(&fee), "{fee}");
}

#[test]
fn payee_closes_before_the_margin_ends_and_takes_no_tick_in_it() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let margin = 36;
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left - margin - 1);
    rig.tick(2);
    let late = rig.payload(3);
    rig.mine(1);
    assert_eq!(rig.pay(3), EMPTY);
    assert_eq!(rig.receive(3, late), refusal(RefusalCode::PurseEmpty));
    assert_eq!(rig.payee.broadcast.len(), 1);
    rig.mine(margin + 8);
    assert!(rig.balances().1 > 0);
    assert!(rig.payer.broadcast.is_empty(), "nothing is left to refund");
}

#[test]
fn restarts_at_every_step_change_nothing() {
    let mut rig = Rig::new();
    for round in 0..2 {
        if round == 1 {
            rig.chain.mine(1);
        }
        rig.open();
        rig.payer.restart(&[rig.purse]);
    }
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened");
    };
    rig.accept(&opened);
    rig.payee.restart(&[rig.purse]);
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    for seq in 1..=5 {
        let payload = rig.payload(seq);
        rig.payer.restart(&[rig.purse]);
        assert_eq!(rig.payload(seq), payload);
        assert_eq!(rig.receive(seq, payload.clone()), Some(Outcome::Credited));
        rig.payee.restart(&[rig.purse]);
        assert_eq!(rig.receive(seq, payload), Some(Outcome::Credited));
    }
    assert_eq!(
        rig.payee.request(
            rig.purse,
            Request::Settle {
                cumulative: Msat::ZERO
            }
        ),
        LATER
    );
    rig.payee.restart(&[rig.purse]);
    rig.payer.restart(&[rig.purse]);
    let value = rig.value();
    rig.mine(6);
    let (home, payout) = rig.balances();
    assert_eq!(home, value - rig.reserve() - 5 * STEP);
    assert!(payout > 0 && rig.payee.refused.is_empty());
}

#[test]
fn close_that_was_dropped_is_broadcast_again() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    let close = rig.payee.broadcast[0].compute_txid();
    rig.mine(3);
    rig.chain.reorganise(4, &[close]);
    rig.payee.restart(&[rig.purse]);
    assert_eq!(rig.payee.broadcast.len(), 2);
    rig.chain.mine(1);
    rig.mine(8);
    assert!(rig.balances().1 > 0);
}

#[test]
fn fee_spike_is_followed_until_the_close_is_in_a_block() {
    let mut rig = Rig::ready();
    for seq in 1..=150 {
        rig.tick(seq);
    }
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    for sat_vb in [5, 20, 80] {
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        rig.payee.look();
        assert_eq!(rig.balances().1, 0);
        rig.mine(1);
    }
    rig.mine(1);
    assert!(rig.balances().1 > 0, "{:?}", rig.payee.refused);
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
}

#[test]
fn loss_is_stated_where_closing_is_uneconomic() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(500));
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    // It is broadcast all the same, as dear as it may be: the reserve, and a third of what is due.
    let [close] = rig.payee.broadcast.as_slice() else {
        panic!("{:?}", rig.payee.broadcast);
    };
    let out: u64 = close
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .sum();
    let most = rig.reserve() + STEP / 3;
    let fee = rig.value() - out;
    assert!(fee <= most && fee + 2 > most, "{fee} of {most}");
    let told = WatchEvent::Uneconomic {
        outpoint: close.input[0].previous_output,
        claim: Amount::from_sat(rig.reserve() + STEP),
        fee: Amount::from_sat(500 * u64::try_from(close.vsize()).unwrap()),
    };
    let closing = WatchEvent::Closing {
        txid: close.compute_txid(),
        fee: Amount::from_sat(fee),
    };
    let all = [told, closing].map(|event| (rig.purse, event));
    assert_eq!(rig.payee.told, all);
}

/// It is broadcast as dear as it may be, however long nodes ask for more.
#[test]
fn close_that_should_cost_more_than_it_may_is_told_once_until_it_changes() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let short = |rig: &mut Rig| {
        let events = rig.payee.look().unwrap().into_iter();
        let is =
            |(_, event): &(PurseKey, WatchEvent)| matches!(event, WatchEvent::Uneconomic { .. });
        let told = events.filter(is).count();
        let all: Vec<_> = rig
            .chain
            .waiting()
            .iter()
            .map(Transaction::compute_txid)
            .collect();
        rig.chain.mine_without(1, &all);
        (told, rig.payee.machine.report()[0].short.is_some())
    };
    let cumulative = Msat::ZERO;
    rig.payee.request(rig.purse, Request::Settle { cumulative });
    assert_eq!(short(&mut rig), (0, false));
    for _ in 0..2 {
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(500));
        assert_eq!(short(&mut rig), (1, true));
        for _ in 0..3 {
            assert_eq!(short(&mut rig), (0, true), "told");
        }
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(1));
        assert_eq!(short(&mut rig), (0, false), "what waits is enough");
    }
}

#[test]
fn many_channels_are_closed_together() {
    let mut rig = Rig::new();
    for number in 0..10 {
        rig.purse = key(number);
        let opened = rig.opened();
        assert!(matches!(
            rig.accept(&opened),
            Some(Outcome::Accepted { .. })
        ));
        rig.tick(1);
        rig.tick(2);
    }
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 2;
    let keys: Vec<PurseKey> = (0..10).map(key).collect();
    let disk = rig.payee.snapshot();
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    rig.payee.roll_back(&disk);
    rig.payee.restart(&keys);
    for key in &keys {
        assert_eq!(
            rig.payee.request(
                *key,
                Request::Settle {
                    cumulative: Msat::ZERO
                }
            ),
            LATER
        );
    }
    assert!(rig.payee.broadcast.is_empty(), "they wait for each other");
    rig.mine(3);
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), 10);
    rig.mine(8);
    let settled: u64 = (rig.payee.machine.report().iter())
        .map(|report| report.settled.unwrap().to_sat())
        .sum();
    assert_eq!(settled, rig.balances().1);
}

/// With the payee's defaults: a channel that nears what closing may cost waits for no other.
#[test]
fn channel_that_fees_catch_up_with_does_not_wait_for_a_batch() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = PayeePolicy::new(home(PAYEE)).batch_wait;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for number in 0..2 {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=20).for_each(|seq| rig.tick(seq));
    }
    // 20 ticks may cost 4 260 sat: four fifths are 17 sat/vB.
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(16));
    rig.payee.look();
    assert!(rig.payee.broadcast.is_empty());
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(18));
    rig.payee.look();
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), 2);
    rig.mine(7);
    assert!(rig.balances().1 > 0 && rig.payee.refused.is_empty());
}

#[test]
fn batch_member_that_nears_its_margin_is_taken_out_and_closed_alone() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 1;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for number in 0..3 {
        rig.purse = key(number);
        let opened = rig.opened();
        assert!(matches!(
            rig.accept(&opened),
            Some(Outcome::Accepted { .. })
        ));
        for seq in 1..=20 {
            rig.tick(seq);
        }
        // The first expires first.
        rig.mine(if number == 0 { 30 } else { 0 });
    }
    let tip = rig.chain.tip();
    let first = rig.payee.machine.report()[0].expiry;
    rig.mine(first - tip - 39);
    for number in 0..3 {
        rig.payee.request(
            key(number),
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        );
    }
    rig.mine(1);
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), 3);
    // It gets into no block for a while.
    let together = rig.payee.broadcast.len();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(60));
    rig.chain.mine(2);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(3));
    rig.payee.look();
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
    let after: Vec<usize> = (rig.payee.broadcast.iter().skip(together))
        .map(|tx| tx.input.len())
        .collect();
    assert_eq!(after, [2, 1], "the rest, then the urgent one alone");
    rig.mine(8);
    assert!(
        rig.payee
            .machine
            .report()
            .iter()
            .all(|report| report.settled.is_some())
    );
}

#[test]
fn what_a_batch_is_booked_as_is_what_came_however_unequal_its_members() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 1;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for (number, ticks) in [(0, 1), (1, 120)] {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=ticks).for_each(|seq| rig.tick(seq));
    }
    // Half of the fee is more than the first one's claim.
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(10));
    for number in 0..2 {
        rig.payee.request(
            key(number),
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        );
    }
    rig.mine(9);
    assert_eq!(rig.payee.broadcast[0].input.len(), 2);
    let reports = rig.payee.machine.report();
    let settled = reports.iter().map(|report| report.settled.unwrap());
    let settled: Vec<u64> = settled.map(Amount::to_sat).collect();
    assert!(settled[0] > 0, "{settled:?}");
    assert_eq!(settled.iter().sum::<u64>(), rig.balances().1);
}

#[test]
fn member_that_costs_a_batch_more_than_it_brings_is_closed_alone() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 1;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for (number, ticks) in [(0, 1), (1, 120), (2, 120)] {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=ticks).for_each(|seq| rig.tick(seq));
    }
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(14));
    for number in 0..3 {
        rig.payee.request(
            key(number),
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        );
    }
    rig.mine(9);
    assert_eq!(rig.payee.broadcast[0].input.len(), 2);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    rig.mine(9);
    let reports = rig.payee.machine.report();
    assert!(
        reports
            .iter()
            .all(|report| report.settled > Some(Amount::ZERO))
    );
}

/// A payee that never closes is not paid, whatever it acknowledged. The sums alone do not tell: a refund may cost more
/// than was paid.
#[test]
fn refund_that_costs_more_than_was_paid_is_told_from_a_close() {
    for (refunded, rate) in [(false, 2), (true, 2), (true, 300)] {
        let mut rig = Rig::ready();
        (1..=3).for_each(|seq| rig.tick(seq));
        assert_eq!(rig.payer.machine.report()[0].refunded, None);
        if refunded {
            rig.chain.mine(rig.expiry() - rig.chain.tip());
            rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(rate));
            rig.payer.look();
            rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
            rig.payer.mine_and_look(6);
        } else {
            rig.close();
        }
        let settled = rig.payer.machine.report()[0].clone();
        assert!(settled.settled.is_some());
        assert_eq!(settled.refunded, Some(refunded));
        if refunded {
            let cost = settled.value - settled.settled.unwrap();
            assert_eq!(cost.to_sat() > 3 * STEP, rate == 300, "{cost}");
        }
        rig.payer.restart(&[rig.purse]);
        assert_eq!(rig.payer.machine.report()[0].refunded, Some(refunded));
    }
}

/// What an older version decided is read as it is, and says nothing of a refund.
#[test]
fn decision_of_an_older_version_is_read_without_a_word_of_a_refund() {
    #[derive(minicbor::Encode)]
    struct Older(#[n(0)] bool, #[n(1)] Option<u64>, #[n(2)] Option<u32>);
    for older in [
        Older(true, Some(7), Some(9)),
        Older(true, Some(7), None),
        Older(false, None, None),
    ] {
        let bytes = [&[1], minicbor::to_vec(&older).unwrap().as_slice()].concat();
        let decided: Decided = record::read(&bytes).unwrap();
        assert_eq!((decided.closing, decided.settled), (older.0, older.1));
        assert_eq!((decided.unspent, decided.refunded), (older.2, None));
        // And written as it was.
        assert_eq!(record::write(&decided), bytes);
    }
}
