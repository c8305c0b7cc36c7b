use streampay_btc::bitcoin::{Amount, FeeRate};
use streampay_btc::machine::{ChannelMachine, ChannelState};
use streampay_btc::policy::PayeePolicy;
use streampay_btc::sim::home;
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::session::{CloseCode, Event};
use streampay_core::sim::FakeBackend;

use super::stage::{PAYEE, PAYER, Stage, TICK, sat};

const CHANNEL: &[&str] = &[ChannelMachine::METHOD];

#[test]
fn a_hundred_ticks_over_a_channel_and_a_close() {
    let mut stage = Stage::new(CHANNEL);
    stage.run(20_000);
    assert_eq!(
        stage.used_ms(),
        0,
        "nothing is served before the funding is deep enough"
    );
    stage.mine(1);
    stage.run(1_100_000);
    let paid = stage.paid();
    assert!(paid >= sat(100 * TICK), "{paid}");
    assert_eq!(stage.credited(), paid);
    assert!(stage.used_ms() >= 1_000_000 && stage.used_ms() <= paid.sat_floor() * 20);
    stage.close();
    stage.run(60_000);
    stage.mine(7);
    let report = &stage.sides[PAYER].node.machine.report()[0];
    let came_home = stage.chain.balance(&home(1)).to_sat();
    let payout = stage.chain.balance(&home(2)).to_sat();
    assert_eq!(report.state, ChannelState::Settled);
    assert_eq!(report.settled.unwrap().to_sat(), came_home);
    assert_eq!(came_home, report.value.to_sat() - report.paid.to_sat());
    let fee = report.paid.to_sat() - payout;
    assert!((300..=400).contains(&fee), "{fee}");
    for side in &stage.sides {
        assert!(side.node.refused.is_empty(), "{:?}", side.node.refused);
    }
}

#[test]
fn another_method_pays_until_the_channel_confirms() {
    let mut stage = Stage::new(&[ChannelMachine::METHOD, FakeBackend::STEPS]);
    stage.run(60_000);
    let before = stage.credited();
    assert!(before >= sat(4 * TICK), "{before}");
    assert!(stage.mint.payee > sat(0));
    stage.mine(1);
    let opens_at = stage.mint.payee;
    stage.run(600_000);
    let report = &stage.sides[PAYEE].node.machine.report();
    assert!(
        report.iter().any(|report| report.paid.to_sat() > 20 * TICK),
        "{report:?}"
    );
    assert!(
        stage.credited() >= sat(60 * TICK),
        "no gap: {}",
        stage.credited()
    );
    assert!(stage.mint.payee >= opens_at);
}

#[test]
fn both_sides_come_back_from_their_disks_in_the_middle() {
    let mut stage = Stage::new(CHANNEL);
    stage.run(5_000);
    stage.mine(1);
    stage.run(100_000);
    let before = stage.credited();
    stage.restart(PAYEE, 40);
    stage.run(100_000);
    stage.restart(PAYER, 50);
    stage.run(100_000);
    let after = stage.credited();
    assert!(
        after >= before.plus(sat(15 * TICK)).unwrap(),
        "{before} {after}"
    );
    assert_eq!(stage.paid(), after);
    for side in &stage.sides {
        assert_eq!(side.node.machine.report().len(), 1, "the same channel");
    }
    stage.close();
    stage.run(60_000);
    stage.mine(7);
    let report = &stage.sides[PAYEE].node.machine.report()[0];
    assert_eq!(report.state, ChannelState::Settled);
    assert_eq!(report.settled.unwrap(), stage.chain.balance(&home(2)));
}

/// Streamium: the payer signed on, whatever came.
#[test]
fn payer_signs_for_no_more_than_a_tick_while_no_media_comes() {
    let mut stage = Stage::new(CHANNEL);
    stage.run(5_000);
    stage.mine(1);
    stage.run(100_000);
    let signed = |stage: &Stage| {
        let report = &stage.sides[PAYER].node.machine.report()[0];
        (report.paid - report.reserve).to_sat()
    };
    stage.stalled = true;
    let before = signed(&stage);
    stage.run(600_000);
    let used = stage.used_ms() / 20;
    assert!(
        signed(&stage) <= (before + TICK).min(used + 2 * TICK),
        "{before}"
    );
    stage.stalled = false;
    stage.run(100_000);
    assert!(signed(&stage) >= before + 9 * TICK, "it goes on");
}

#[test]
fn next_channel_opens_before_one_runs_out() {
    let mut stage = Stage::new(CHANNEL);
    stage.run(5_000);
    stage.mine(1);
    for _ in 0..40 {
        stage.run(100_000);
        stage.mine(1);
    }
    let report = stage.sides[PAYEE].node.machine.report();
    assert!(report.len() >= 2, "{report:?}");
    let ticks = stage.credited().sat_floor() / TICK;
    assert!(ticks >= 395, "no gap: {ticks}");
}

/// Its terms are of the day on which it began: the next channel has the reserve of today.
#[test]
fn next_channel_opens_where_fees_rose_since_the_terms() {
    let mut stage = Stage::new(CHANNEL);
    stage.run(5_000);
    stage.mine(1);
    // Far enough that the channel bears its own close at any rate here.
    for _ in 0..12 {
        stage.run(100_000);
        stage.mine(1);
    }
    let rate = FeeRate::from_sat_per_vb_u32(40);
    stage.chain.set_rate(rate);
    for _ in 0..28 {
        stage.mine(1);
        stage.run(100_000);
    }
    let reports = stage.sides[PAYEE].node.machine.report();
    let reserves: Vec<u64> = reports.iter().map(|of| of.reserve.to_sat()).collect();
    let today = PayeePolicy::reserve_at(rate).to_sat();
    assert!(today > 10 * reserves[0], "{reserves:?}");
    assert!(reserves.len() >= 3, "{reserves:?}");
    assert!(reserves[1..].iter().all(|of| *of == today), "{reserves:?}");
    let ticks = stage.credited().sat_floor() / TICK;
    assert!(ticks >= 390, "no gap: {ticks}");
}

/// Where fees rose beyond what the payer would put aside, it is told why there is no other channel, no money is
/// locked for one, and the session ends once what is paid is used.
#[test]
fn session_whose_fees_rose_beyond_the_payers_limit_says_so_and_ends() {
    let mut stage = Stage::with(CHANNEL, |config| {
        config.payer.reserve_max = Amount::from_sat(2_000);
    });
    stage.run(5_000);
    stage.mine(1);
    for _ in 0..12 {
        stage.run(100_000);
        stage.mine(1);
    }
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(40));
    for _ in 0..8 {
        stage.mine(1);
        stage.run(100_000);
    }
    let payer = &stage.sides[PAYER];
    let dear = BackendError::Fatal(RefusalCode::FeeTooHigh);
    let (told, closed) = (
        Event::BackendTrouble { error: dear },
        Event::Closed {
            code: CloseCode::BackendFailed,
            by_peer: false,
        },
    );
    let at = |wanted: &Event| payer.events.iter().position(|event| event == wanted);
    assert!(
        at(&told).is_some() && at(&told) < at(&closed),
        "{:?}",
        payer.events
    );
    let reports = payer.node.machine.report();
    let [only] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    // All of the channel was used before.
    assert_eq!(only.paid, only.value);
    assert_eq!(stage.credited(), stage.paid());
    assert!(stage.used_ms() + 10_000 >= stage.paid().sat_floor() * 20);
}

/// The close of a session's channel, and how many elements its witness has.
fn closed_by(stage: &Stage) -> usize {
    let outpoint = stage.sides[PAYEE].node.machine.report()[0]
        .outpoint
        .unwrap();
    let (tx, height) = stage.chain.spender(outpoint).unwrap();
    assert!(height.is_some());
    tx.input[0].witness.len()
}

#[test]
fn sides_that_are_connected_close_with_one_signature() {
    let mut stage = Stage::closing(CHANNEL, 10_000);
    stage.run(5_000);
    stage.mine(1);
    stage.run(100_000);
    let paid = stage.credited();
    stage.close();
    stage.run(1_000);
    assert_eq!(stage.chain.waiting().len(), 1, "at once");
    stage.mine(7);
    assert_eq!(closed_by(&stage), 1);
    assert_eq!(stage.chain.balance(&home(2)).to_sat(), paid.sat_floor());
    let report = &stage.sides[PAYER].node.machine.report()[0];
    let back = stage.chain.balance(&home(1));
    assert_eq!(report.settled, Some(back));
    assert!(back > report.value - report.paid, "the unused reserve too");
    stage.run(60_000);
    for side in &stage.sides {
        let settled = |event: &Event| matches!(event, Event::Settled { .. });
        assert!(side.events.iter().any(settled), "{:?}", side.events);
    }
}

#[test]
fn a_mutual_close_that_is_cut_short_at_any_frame_becomes_the_other() {
    for from in [PAYEE, PAYER] {
        let mut stage = Stage::closing(CHANNEL, 10_000);
        stage.run(5_000);
        stage.mine(1);
        stage.run(100_000);
        stage.lose_purse_frames_of = Some(from);
        stage.close();
        stage.run(5_000);
        assert!(stage.chain.waiting().is_empty(), "it waits for the payer");
        stage.run(20_000);
        stage.mine(8);
        assert_eq!(closed_by(&stage), 4, "both signatures, leaf, control block");
        let report = &stage.sides[PAYER].node.machine.report()[0];
        assert_eq!(report.settled, Some(report.value - report.paid));
    }
    // The connection is gone as soon as the session closes.
    let mut stage = Stage::closing(CHANNEL, 10_000);
    stage.run(5_000);
    stage.mine(1);
    stage.run(100_000);
    stage.lose_purse_frames_of = Some(PAYEE);
    stage.close();
    stage.disconnect();
    stage.run(30_000);
    stage.mine(8);
    assert_eq!(closed_by(&stage), 4);
}
