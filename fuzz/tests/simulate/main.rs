//! A little of what the bin `simulate` does at length, in every test run.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use streampay_fuzz::simulate::{
    Options, PLAN, Planted, Switches, options, points_of, run_points, run_world,
};

const ALL: Switches = Switches {
    crashes: true,
    repeats: true,
};

fn short() -> Options {
    Options {
        rough_ms: 240_000,
        ..Options::default()
    }
}

#[test]
fn worlds_keep_every_promise_with_both_kinds_of_signatures_and_stores() {
    // The world of seed 64 has redb on a simulated disk.
    for seed in [1, 2, 64] {
        let report = run_world(seed, &short());
        assert_eq!(report.violations, [], "seed {seed}");
        assert!(report.ticks > 30, "{} ticks", report.ticks);
    }
    let real = Options {
        fake_crypto: false,
        ..short()
    };
    assert_eq!(run_world(3, &real).violations, []);
}

/// What came before a second pause was taken for unasked, for no event tells that a user goes on while no
/// connection is bound.
#[test]
fn user_that_goes_on_between_two_connections_asks_for_what_comes() {
    let report = run_world(400_337, &Options::default());
    assert_eq!(report.violations, []);
}

#[test]
fn seed_replays_exactly() {
    let options = Options {
        transcript: true,
        ..short()
    };
    let (first, second) = (run_world(5, &options), run_world(5, &options));
    assert!(first.transcript.len() > 1_000);
    assert_eq!(first.transcript, second.transcript);
}

/// The worlds of 1 and 4, the second with its records on simulated disks.
#[test]
fn process_that_dies_at_any_point_even_twice_breaks_no_promise() {
    for (seed, every) in [(1, 13), (4, 31)] {
        let points: Vec<_> = points_of(seed)
            .unwrap()
            .into_iter()
            .step_by(every)
            .collect();
        let report = run_points(&points, None, 2);
        assert_eq!(report.failed, []);
        assert!(report.passed > 50 && report.twice > 10, "{report:?}");
    }
}

#[test]
fn bugs_in_the_order_of_things_are_found_at_crash_points() {
    for (bug, invariant) in [
        (Planted::AckBeforePersist, "Acknowledged"),
        (Planted::LeaseNotDurable, "PayeeBound"),
    ] {
        let found = (1..=3).any(|seed| {
            let points: Vec<_> = points_of(seed).unwrap().into_iter().step_by(5).collect();
            let report = run_points(&points, Some(bug), 2);
            let mut found = report.failed.iter().flat_map(|(.., found)| found);
            found.any(|found| found.invariant() == invariant)
        });
        assert!(found, "{bug:?}");
    }
}

#[test]
fn every_bug_that_can_be_planted_has_its_invariant() {
    let planned: Vec<Planted> = PLAN.iter().map(|(bug, ..)| *bug).collect();
    for bug in Planted::ALL {
        assert!(planned.contains(bug), "{bug:?}");
    }
    assert!(PLAN.iter().filter(|(.., both)| *both).count() >= 5);
}

/// The others take longer, and are found by `simulate --planted all`.
#[test]
fn bugs_that_show_at_once_are_found_by_their_invariant() {
    let quick = [
        Planted::CreditBeforeMint,
        Planted::CreditOnSend,
        Planted::RoundingPerTick,
        Planted::TwoPursesAhead,
        Planted::GateBeforeCredit,
    ];
    for (bug, invariant, _) in PLAN.iter().filter(|(bug, ..)| quick.contains(bug)) {
        let found = (1..=12).any(|seed| {
            let report = run_world(seed, &options(Some(*bug), ALL));
            let mut violations = report.violations.iter();
            violations.any(|(_, violation)| violation.invariant() == *invariant)
        });
        assert!(found, "{bug:?}");
    }
}
