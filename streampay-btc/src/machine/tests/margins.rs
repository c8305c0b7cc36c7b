//! Batches that wait for a block when the margin of their members comes.

use bitcoin::OutPoint;

use super::*;
use crate::sim::open_home;

/// So many channels with these ticks, opened in one block or, where `apart`, so many blocks apart; a close
/// of all of them waits when the margin of the first one comes in the next block.
fn together(ticks: &[u64], apart: u32, sat_vb: u32) -> Rig {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 1;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let mut config = sim_config(PAYER);
    config.payer.home = open_home();
    rig.payer = SimNode::new(&rig.chain, config, PAYER);
    let purses = || (0..).map(key).zip(ticks);
    for (purse, _) in purses() {
        rig.purse = purse;
        rig.open();
        rig.chain.mine(apart);
    }
    rig.chain.mine(1);
    for (purse, ticks) in purses() {
        rig.purse = purse;
        let opened = match rig.open() {
            Some(Outcome::Opened(opened)) => opened,
            other => panic!("{other:?}"),
        };
        rig.accept(&opened);
        (1..=*ticks).for_each(|seq| rig.tick(seq));
    }
    let first = rig.payee.machine.report()[0].expiry;
    rig.chain.mine(first - 38 - rig.chain.tip());
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
    rig.payee.look();
    for (purse, _) in purses() {
        let settle = Request::Settle {
            cumulative: Msat::ZERO,
        };
        rig.payee.request(purse, settle);
    }
    rig.chain.mine(1);
    rig.payee.look();
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), ticks.len());
    rig
}

/// A block that takes nothing of this chain's.
fn empty_block(rig: &mut Rig) -> Vec<(PurseKey, WatchEvent)> {
    let all: Vec<_> = (rig.chain.waiting().iter())
        .map(Transaction::compute_txid)
        .collect();
    rig.chain.mine_without(1, &all);
    rig.payee.look().unwrap()
}

fn fee(rig: &Rig, tx: &Transaction) -> u64 {
    let funding = |outpoint: OutPoint| rig.chain.transaction(outpoint.txid).unwrap().0;
    let spent = tx.input.iter().map(|input| input.previous_output);
    let spent: u64 = spent
        .map(|outpoint| {
            funding(outpoint).output[usize::try_from(outpoint.vout).unwrap()]
                .value
                .to_sat()
        })
        .sum();
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    spent - out
}

/// Channels that are opened together have one expiry: taken apart, the first would have to pay more than
/// all did.
#[test]
fn batch_whose_margins_all_come_at_once_is_bumped_whole() {
    let mut rig = together(&[5; 8], 0, 6);
    let mut last = fee(&rig, &rig.payee.broadcast[0]);
    for _ in 0..3 {
        empty_block(&mut rig);
        let waiting = rig.chain.waiting();
        assert_eq!(waiting.len(), 1, "{:?}", rig.payee.refused);
        assert_eq!(waiting[0].input.len(), 8);
        let paid = fee(&rig, &waiting[0]);
        assert!(paid > last, "{paid} after {last}");
        last = paid;
    }
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
    rig.mine(7);
    let reports = rig.payee.machine.report();
    assert!(reports.iter().all(|report| report.settled.is_some()));
}

#[test]
fn batch_whose_rest_cannot_pay_for_the_one_it_replaces_is_bumped_whole() {
    let mut rig = together(&[100, 1], 10, 9);
    let old = fee(&rig, &rig.payee.broadcast[0]);
    empty_block(&mut rig);
    let waiting = rig.chain.waiting();
    assert_eq!(waiting.len(), 1, "{:?}", rig.payee.refused);
    assert_eq!(waiting[0].input.len(), 2);
    assert!(fee(&rig, &waiting[0]) > old);
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
    rig.mine(7);
    let reports = rig.payee.machine.report();
    assert!(reports.iter().all(|report| report.settled.is_some()));
}

/// Another payer hangs on its own change what no single claim should pay for.
#[test]
fn pin_on_a_batch_makes_no_close_dearer_than_it_may_be() {
    for pin in [6_000, 30_000] {
        let ticks = [100, 20];
        let mut rig = together(&ticks, 10, 3);
        let batch = rig.payee.broadcast[0].compute_txid();
        let pin = Amount::from_sat(pin);
        rig.chain.hang(OutPoint::new(batch, 1), pin, 19).unwrap();
        let mut told = false;
        for _ in 0..36 {
            let before = rig.payee.broadcast.len();
            let events = empty_block(&mut rig);
            told |= (events.iter()).any(|(_, of)| matches!(of, WatchEvent::Uneconomic { .. }));
            let reports = rig.payee.machine.report();
            for tx in &rig.payee.broadcast[before..] {
                let spends = |at: &usize| {
                    let mut inputs = tx.input.iter().map(|input| input.previous_output);
                    inputs.any(|input| Some(input) == reports[*at].outpoint)
                };
                let most = |at: usize| {
                    let due = ticks[at] * STEP;
                    let last = match reports[at].left {
                        Some(..=6) => (rig.reserve() + due) / 2,
                        _ => 0,
                    };
                    last.max(rig.reserve() + due / 3)
                };
                let (paid, most) = (fee(&rig, tx), (0..2).filter(spends).map(most).sum());
                assert!(paid <= most, "{paid} of {most}");
            }
        }
        assert!(told, "the loss is stated");
    }
}
