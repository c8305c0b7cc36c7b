//! One side is away: its kit, its tower, a spike while nobody looks.

use bitcoin::FeeRate;
use streampay_core::backend::{BackendError, Outcome, Request};

use super::{PAYEE, Rig, STEP, key};
use crate::kit::Watchtower;
use crate::sim::{SimNode, sim_config};

#[test]
fn rescue_kit_is_there_before_money_moves_and_refunds_without_the_machine() {
    let mut rig = Rig::new();
    rig.payer.pays = false;
    rig.open();
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    assert!(rig.chain.waiting().is_empty() && kit.refunds.is_empty());
    let uri = kit.uri().unwrap();
    assert!(
        uri.starts_with("bitcoin:bcrt1p") && uri.contains("?amount=0.00"),
        "{uri}"
    );
    assert!(!format!("{kit:?}").contains(&kit.dangerous_wif));
    // Any wallet pays.
    let address = kit.address.clone().unwrap();
    rig.chain.pay(&address.script_pubkey(), kit.value).unwrap();
    rig.open();
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    assert_eq!(kit.refunds.len(), 3);
    assert!(kit.dangerous_text().contains(&kit.descriptor));
    let left = kit.expiry - rig.chain.tip();
    rig.chain.mine(left - 1);
    for (_, tx) in &kit.refunds {
        assert!(rig.chain.submit(tx.clone()).is_err(), "before T");
    }
    rig.chain.mine(1);
    let (_, tx) = kit.refunds.last().unwrap();
    rig.chain.submit(tx.clone()).unwrap();
    rig.chain.mine(1);
    assert_eq!(rig.balances().0, tx.output[0].value.to_sat());
}

#[test]
fn tower_without_keys_closes_for_a_payee_that_is_away() {
    let mut rig = Rig::ready();
    for seq in 1..=60 {
        rig.tick(seq);
    }
    let rates = [2, 10, 40].map(FeeRate::from_sat_per_vb_u32);
    let mut tower = Watchtower::new();
    tower.put(rig.payee.machine.tower_entry(rig.purse, &rates).unwrap());
    // What is paid after that the tower does not know.
    for seq in 61..=80 {
        rig.tick(seq);
    }
    let left = rig.expiry() - rig.chain.tip();
    let look = |tower: &mut Watchtower, rig: &Rig| {
        let view = rig.chain.look(&tower.watched()).unwrap();
        tower.chain(&view)
    };
    rig.chain.mine(left - 37);
    assert!(look(&mut tower, &rig).is_empty(), "the margin has not come");
    rig.chain.mine(1);
    let closes = look(&mut tower, &rig);
    assert_eq!(closes.len(), 1);
    rig.chain.submit(closes[0].clone()).unwrap();
    assert!(look(&mut tower, &rig).is_empty());
    // It does not get into a block: the next rate.
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(9));
    rig.chain.mine(1);
    let dearer = look(&mut tower, &rig);
    rig.chain.submit(dearer[0].clone()).unwrap();
    rig.chain.mine(6);
    assert!(rig.balances().1 > 20_000);
    let _ = look(&mut tower, &rig);
    assert!(tower.watched().is_empty());
    // The payee is back, and books what came: not what it could have taken.
    rig.payee.look();
    let (home, payout) = rig.balances();
    let report = rig.payee.machine.report().remove(0);
    assert_eq!(report.settled.unwrap().to_sat(), payout);
    assert_eq!(home, rig.value() - rig.reserve() - 60 * STEP);
    assert_eq!(report.paid.to_sat(), rig.reserve() + 80 * STEP);
}

/// A payee that closed, or whose tower did, and something of the payer's hangs on it.
fn pinned_before_the_margin(members: u32) -> (Rig, Watchtower) {
    let mut rig = Rig::new();
    let mut config = sim_config(super::PAYER);
    config.payer.home = crate::sim::open_home();
    rig.payer = SimNode::new(&rig.chain, config, super::PAYER);
    for number in 0..members {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        (1..=60).for_each(|seq| rig.tick(seq));
    }
    let rates = [1, 2, 4, 8, 16, 32].map(FeeRate::from_sat_per_vb_u32);
    let mut tower = Watchtower::new();
    let entry = rig.payee.machine.tower_entry(rig.purse, &rates).unwrap();
    tower.put(entry);
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left - 36);
    (rig, tower)
}

/// A block and a look of the tower's; what it broadcasts.
fn tower_looks(rig: &Rig, tower: &mut Watchtower) -> usize {
    rig.chain.mine(1);
    let view = rig.chain.look(&tower.watched()).unwrap();
    let closes = tower.chain(&view);
    for close in &closes {
        // Refused while it pays too little for what hangs on the other.
        let _ = rig.chain.submit(close.clone());
    }
    assert!(tower.chain(&view).is_empty(), "one step a block");
    closes.len()
}

fn hang_on(rig: &Rig) {
    let outpoint = rig.payer.machine.report().last().unwrap().outpoint.unwrap();
    let (tx, height) = rig.chain.spender(outpoint).unwrap();
    assert_eq!(height, None);
    let index = tx.input.iter().position(|i| i.previous_output == outpoint);
    let on = bitcoin::OutPoint::new(tx.compute_txid(), u32::try_from(index.unwrap()).unwrap());
    let fee = bitcoin::Amount::from_sat(3_000);
    rig.chain.hang(on, fee, 19).unwrap();
}

fn is_mined(rig: &Rig) -> bool {
    let outpoint = rig.payer.machine.report().last().unwrap().outpoint.unwrap();
    rig.chain.spender(outpoint).is_some_and(|of| of.1.is_some())
}

#[test]
fn tower_climbs_over_a_pin_on_its_own_close() {
    let (rig, mut tower) = pinned_before_the_margin(1);
    let view = rig.chain.look(&tower.watched()).unwrap();
    rig.chain.submit(tower.chain(&view).remove(0)).unwrap();
    hang_on(&rig);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(6));
    let sent: usize = (0..10).map(|_| tower_looks(&rig, &mut tower)).sum();
    assert!(is_mined(&rig), "{sent}");
    assert!((3..=5).contains(&sent), "{sent}");
}

#[test]
fn tower_replaces_a_batch_that_it_does_not_know() {
    let (rig, mut tower) = pinned_before_the_margin(3);
    let keys = [0, 1, 2].map(key);
    let inner = rig.payee.machine.lock();
    let batch = inner.close(&keys, &[], FeeRate::BROADCAST_MIN).unwrap();
    drop(inner);
    assert_eq!(batch.input.len(), 3);
    rig.chain.submit(batch).unwrap();
    hang_on(&rig);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(6));
    let sent: usize = (0..10).map(|_| tower_looks(&rig, &mut tower)).sum();
    assert!(is_mined(&rig), "{sent}");
}

#[test]
fn spike_to_500_is_survived_by_a_channel_worth_it() {
    let mut rig = Rig::ready();
    for seq in 1..=150 {
        rig.tick(seq);
    }
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(500));
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: streampay_core::units::Msat::ZERO,
        },
    );
    let events = rig.payee.look().unwrap_or_default();
    // A third of 75 000 sat buys no block at 500 sat/vB: it waits, as dear as it may be.
    let waiting = rig.chain.waiting();
    assert!(
        waiting.len() <= 1 && rig.payee.refused.is_empty(),
        "{events:?}"
    );
    rig.mine(3);
    assert_eq!(rig.balances().1, 0);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(100));
    rig.mine(3);
    assert!(rig.balances().1 > 45_000, "{:?}", rig.payee.refused);
}

/// Found by a long run: version 3 allows one parent that waits.
#[test]
fn channels_whose_fundings_wait_again_are_not_closed_together() {
    let mut rig = Rig::new();
    for number in 0..2 {
        rig.purse = key(number);
        let opened = rig.opened();
        rig.accept(&opened);
        rig.tick(1);
    }
    rig.chain.reorganise(3, &[]);
    for number in 0..2 {
        rig.payee.request(
            key(number),
            Request::Settle {
                cumulative: streampay_core::units::Msat::ZERO,
            },
        );
    }
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
    rig.mine(8);
    let reports = rig.payee.machine.report();
    assert!(reports.iter().all(|report| report.settled.is_some()));
}

#[test]
fn unconfirmed_funding_is_taken_only_below_the_payees_cap() {
    for (cap, taken) in [(0, false), (20_000, false), (200_000, true)] {
        let mut rig = Rig::new();
        let mut config = sim_config(PAYEE);
        config.payee.zero_conf_max = bitcoin::Amount::from_sat(cap);
        config
            .payee
            .depths
            .retain(|rule| rule.value_max > 200_000 || cap < 200_000);
        rig.payee = SimNode::new(&rig.chain, config, PAYEE);
        rig.open();
        let opened = rig.open();
        let accepted = match opened {
            Some(Outcome::Opened(opened)) => rig.accept(&opened),
            other => other,
        };
        let accepted = matches!(accepted, Some(Outcome::Accepted { .. }));
        assert_eq!(accepted, taken, "{cap}");
        assert_eq!(rig.chain.waiting().len(), 1);
    }
}

#[test]
fn a_release_asks_nobody_to_pay() {
    let mut rig = Rig::new();
    rig.payer.pays = false;
    assert!(matches!(
        rig.open(),
        Some(Outcome::Failed(BackendError::Transient))
    ));
    rig.payer.pays = true;
    let released = rig.payer.request(rig.purse, Request::Release);
    // Whoever was shown the address may yet pay to it.
    let transient = Outcome::Failed(BackendError::Transient);
    assert_eq!(released, Some(transient));
    assert!(rig.chain.waiting().is_empty(), "nothing was funded");
}

/// It spends what the owner would: a third of what is due, and half of all in the last blocks.
#[test]
fn tower_spends_no_more_than_the_owner_may() {
    let mut rig = Rig::ready();
    (1..=160).for_each(|seq| rig.tick(seq));
    let (due, paid) = (160 * STEP, 160 * STEP + rig.reserve());
    let rates = [1, 20, 60, 100, 130, 180, 200, 250, 300, 400];
    let rates = rates.map(FeeRate::from_sat_per_vb_u32);
    let mut tower = Watchtower::new();
    let entry = rig.payee.machine.tower_entry(rig.purse, &rates).unwrap();
    let fee = |tx: &bitcoin::Transaction| {
        let out = tx.output.iter().map(|out| out.value.to_sat());
        rig.value() - out.sum::<u64>()
    };
    tower.put(entry);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(500));
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left - 37);
    let mut fees = Vec::new();
    for left in (1..=36).rev() {
        rig.chain.mine(1);
        let view = rig.chain.look(&tower.watched()).unwrap();
        let most = rig.reserve() + due / 3;
        let most = if left > 6 { most } else { most.max(paid / 2) };
        for close in tower.chain(&view) {
            assert!(fee(&close) <= most, "{} of {most} at {left}", fee(&close));
            fees.push((left, fee(&close)));
            rig.chain.submit(close).unwrap();
        }
    }
    assert_eq!(fees.first().unwrap().0, 36);
    assert!(
        fees.iter()
            .any(|(left, fee)| *left <= 6 && *fee > rig.reserve() + due / 3)
    );
}
