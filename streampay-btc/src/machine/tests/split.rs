//! What is earned, split among several by each close.

use bitcoin::Transaction;

use super::*;
use crate::policy::PayoutShare;

const TICKS: u64 = 60;
const FIRST: u8 = 11;
const SECOND: u8 = 12;

fn share(number: u8, permille: u16) -> PayoutShare {
    let script = home(number);
    PayoutShare { script, permille }
}

/// So many channels, each paid from `ticks` times, of a payee that shares.
fn rig(channels: u32, ticks: u64, shares: &[PayoutShare]) -> Rig {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 2;
    config.payee.shares = shares.to_vec();
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for number in 0..channels {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=ticks).for_each(|seq| rig.tick(seq));
    }
    rig
}

fn settle(rig: &mut Rig, channels: u32) {
    for number in 0..channels {
        let cumulative = Msat::ZERO;
        let settle = Request::Settle { cumulative };
        assert_eq!(rig.payee.request(key(number), settle), LATER);
    }
    rig.payee.mine_and_look(8);
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
}

fn has(rig: &Rig, number: u8) -> u64 {
    rig.chain.balance(&home(number)).to_sat()
}

#[test]
fn each_gets_its_share_of_what_the_channels_bring_less_the_fee() {
    for channels in [1, 3] {
        let mut rig = rig(channels, TICKS, &[share(FIRST, 300), share(SECOND, 125)]);
        settle(&mut rig, channels);
        let own = rig.payee.machine.report()[0].outpoint.unwrap();
        let close = rig.chain.spender(own).unwrap().0;
        assert_eq!(close.input.len(), usize::try_from(channels).unwrap());
        let [payout, first, second] = [PAYEE, FIRST, SECOND].map(|number| has(&rig, number));
        let all = payout + first + second;
        assert_eq!((first, second), (all * 300 / 1_000, all * 125 / 1_000));
        // The books have all of it, and whose it is.
        let report = rig.payee.machine.report();
        let settled: u64 = report.iter().map(|of| of.settled.unwrap().to_sat()).sum();
        assert_eq!(settled, all, "{report:?}");
        for (number, has) in [(FIRST, first), (SECOND, second)] {
            let parts = report.iter().flat_map(|of| &of.split);
            let own = parts.filter(|part| part.script == home(number));
            assert_eq!(own.map(|part| part.amount.to_sat()).sum::<u64>(), has);
        }
        // Also after a restart.
        let keys: Vec<_> = (0..channels).map(key).collect();
        rig.payee.restart(&keys);
        let again = rig.payee.machine.report();
        let split = |of: &[ChannelReport]| of.iter().map(|of| of.split.clone()).collect::<Vec<_>>();
        assert_eq!(split(&again), split(&report));
    }
}

#[test]
fn share_that_is_too_small_stays_with_the_payout() {
    // 2 000 sat and what is left of the reserve: of the second one less than 1 000 sat.
    let mut rig = rig(1, 4, &[share(FIRST, 600), share(SECOND, 10)]);
    settle(&mut rig, 1);
    assert_eq!(has(&rig, SECOND), 0);
    let all = has(&rig, PAYEE) + has(&rig, FIRST);
    assert_eq!(has(&rig, FIRST), all * 600 / 1_000);
    assert!(has(&rig, FIRST) >= 1_000, "{}", has(&rig, FIRST));
    let report = rig.payee.machine.report().remove(0);
    assert_eq!(report.settled.unwrap().to_sat(), all);
    assert_eq!(report.split.len(), 1);
}

/// One that nodes would not relay, and one that would leave the payout nothing.
#[test]
fn shares_that_cannot_be_keep_no_channel_from_being_closed() {
    let mut nowhere = share(FIRST, 300);
    nowhere.script = vec![0x51].into();
    for shares in [vec![nowhere], vec![share(FIRST, 600), share(SECOND, 500)]] {
        let mut rig = rig(1, TICKS, &shares);
        settle(&mut rig, 1);
        assert!(rig.payee.machine.report()[0].settled.is_some());
        assert!(
            has(&rig, PAYEE) >= 330 && has(&rig, SECOND) == 0,
            "{shares:?}"
        );
    }
}

/// A bump is a close like any other: the shares are of what is left then.
#[test]
fn close_that_is_bumped_is_split_anew() {
    let mut rig = rig(2, TICKS, &[share(FIRST, 300)]);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(4));
    for number in 0..2 {
        let cumulative = Msat::ZERO;
        let settle = Request::Settle { cumulative };
        assert_eq!(rig.payee.request(key(number), settle), LATER);
    }
    rig.payee.mine_and_look(2);
    let first = rig.chain.waiting();
    let shared = |tx: &Transaction| {
        let mut outputs = tx.output.iter();
        let own = outputs.find(|output| output.script_pubkey == home(FIRST));
        own.map(|output| output.value.to_sat())
    };
    let before = shared(&first[0]).unwrap();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(9));
    rig.payee.mine_and_look(9);
    let own = rig.payee.machine.report()[0].outpoint.unwrap();
    let (close, height) = rig.chain.spender(own).unwrap();
    assert!(height.is_some() && close.compute_txid() != first[0].compute_txid());
    let all = has(&rig, PAYEE) + has(&rig, FIRST);
    assert_eq!(has(&rig, FIRST), all * 300 / 1_000);
    assert!(has(&rig, FIRST) < before, "{} {before}", has(&rig, FIRST));
}
