use proptest::prelude::*;

use super::*;
use crate::meter::PauseReason;
use crate::session::Event;

fn check(config: PairConfig, ms: u64, faults: &[(u64, Fault)]) -> Pair {
    let mut pair = Pair::new(config);
    pair.run(ms, faults).unwrap();
    pair.settle().unwrap();
    pair
}

fn paused(pair: &Pair, of: Direction, wanted: PauseReason) -> bool {
    let is_wanted =
        |event: &Event| matches!(event, Event::Paused { reason, .. } if *reason == wanted);
    pair.events(of).iter().any(is_wanted)
}

#[test]
fn fair_weather_pays_for_what_flows_and_returns_the_rest() {
    let config = PairConfig::default();
    let mut pair = Pair::new(config.clone());
    pair.run(30_000, &[]).unwrap();
    let delivered = pair.delivered().media_ms;
    assert!(delivered > 28_000, "{delivered}");
    pair.settle().unwrap();
    assert!(pair.credited().msat() >= 28 * config.tick.msat());
}

#[test]
fn time_and_bytes_are_priced_together() {
    let mut pair = Pair::new(PairConfig {
        bytes_msat: 500,
        ..PairConfig::default()
    });
    pair.run(30_000, &[]).unwrap();
    let delivered = pair.delivered();
    assert!(delivered.media_ms > 28_000 && delivered.bytes > 5_000_000);
    let used = config::tariff(&pair.config).price(delivered);
    assert!(pair.credited() >= used && pair.credited().msat() <= used.msat() + 2_400);
    pair.settle().unwrap();
}

#[test]
fn budget_is_used_up_and_never_exceeded() {
    let config = PairConfig {
        budget: crate::units::Msat::from_sat(21).unwrap(),
        ..PairConfig::default()
    };
    let mut pair = Pair::new(config);
    pair.run(60_000, &[]).unwrap();
    let spent = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                code: crate::session::CloseCode::BudgetSpent,
                ..
            }
        )
    };
    assert!(pair.events(Direction::ToPayer).iter().any(spent));
    pair.settle().unwrap();
    assert_eq!(pair.credited().sat_floor(), 20);
    assert!(pair.delivered().media_ms > 9_800);
}

#[test]
fn mint_away_pauses_with_that_reason_and_resumes_by_itself() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(40_000, &[(5_000, Fault::MintAway(20_000))])
        .unwrap();
    assert!(paused(&pair, Direction::ToPayee, PauseReason::BackendAway));
    assert!(paused(&pair, Direction::ToPayer, PauseReason::BackendAway));
    let delivered = pair.delivered().media_ms;
    assert!((12_000..25_000).contains(&delivered), "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn lost_answer_of_the_mint_is_asked_again_and_credited_once() {
    let pair = check(
        PairConfig::default(),
        20_000,
        &[(3_000, Fault::LoseAnswers(2))],
    );
    assert!(pair.delivered().media_ms > 12_000);
}

#[test]
fn crash_of_either_side_loses_no_payment() {
    for outputs in 0..25 {
        for fault in [
            Fault::CrashPayer {
                outputs,
                away_ms: 500,
            },
            Fault::CrashPayee {
                outputs,
                away_ms: 500,
            },
        ] {
            for at in [0, 100, 3_900] {
                let pair = check(PairConfig::default(), 12_000, &[(at, fault)]);
                assert_eq!(pair.crashes(), 1, "{fault:?} at {at}");
            }
        }
    }
}

/// A payee that nobody has met ends with its connection: what stands in for it comes at once, though
/// nothing else is to happen.
#[test]
fn payer_that_is_back_before_its_connection_is_gone_meets_a_payee() {
    for away_ms in [0, 30, 60, 61, 500] {
        let outputs = 0;
        let fault = Fault::CrashPayer { outputs, away_ms };
        let mut pair = Pair::new(PairConfig::default());
        pair.run(0, &[(0, fault)]).unwrap();
        pair.settle().unwrap();
        let bound = |event: &Event| matches!(event, Event::Bound { .. });
        assert!(
            pair.events(Direction::ToPayer).iter().any(bound),
            "{away_ms}"
        );
        assert!(pair.delivered().media_ms > 50_000, "{away_ms}");
    }
}

#[test]
fn reconnect_goes_on_with_the_same_money() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(20_000, &[(4_300, Fault::LinkDown(3_000))])
        .unwrap();
    let resumed = |event: &Event| matches!(event, Event::Bound { resumed: true, .. });
    assert!(pair.events(Direction::ToPayer).iter().any(resumed));
    assert!(pair.delivered().media_ms > 14_000);
    pair.settle().unwrap();
}

/// One case: at least 20 ticks of a second and 3 faults.
fn weather(config: PairConfig, faults: &[(u64, Fault)]) -> Result<(), TestCaseError> {
    let fail = |violation: Violation| TestCaseError::fail(violation.to_string());
    let mut pair = Pair::new(config);
    pair.run(30_000, faults).map_err(fail)?;
    pair.heal(20, 120_000).map_err(fail)?;
    let bound = |event: &Event| matches!(event, Event::Bound { .. });
    if pair.events(Direction::ToPayer).iter().any(bound) {
        prop_assert!(pair.credited().msat() >= 20 * 2_000, "{pair:?}");
    } else {
        // Nobody answered the first hello for 15 s: the only way not to begin.
        prop_assert_eq!(pair.mint.payer, pair.total);
    }
    pair.settle().map_err(fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 900, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_weather_keeps_the_bounds_and_settles(seed: u64, faults in faults(30_000)) {
        weather(PairConfig { seed, ..PairConfig::default() }, &faults)?;
    }

    /// All at once: while the first purse opens and the first ticks flow.
    #[test]
    fn any_rough_start_keeps_the_bounds_and_settles(seed: u64, faults in faults(4_000)) {
        weather(PairConfig { seed, ..PairConfig::default() }, &faults)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Milliseconds and bytes under one tariff. Where the price changes on the way depends on the
    /// way, and the judge does not know it: no offers here.
    #[test]
    fn two_meters_keep_the_bounds_and_settle(seed: u64, faults in faults(20_000)) {
        let mut faults = faults;
        faults.retain(|(_, fault)| !matches!(fault, Fault::OfferTariff(_)));
        let sat = |sat| crate::units::Msat::from_sat(sat).unwrap();
        let config = PairConfig {
            seed,
            bytes_msat: 500,
            budget: sat(900),
            ..PairConfig::default()
        };
        weather(config, &faults)?;
    }
}
