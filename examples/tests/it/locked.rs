//! Sessions paid with locked ecash: to the satoshi as quoted, another way where the mint cannot, and
//! home after the locktime without the streamer.

use streampay_core::session::Event;
use streampay_core::units::Msat;
use streampay_examples::error::AppError;
use streampay_examples::mint::faults_for_testing::{Fault, FaultSwitch};
use streampay_examples::quote::{self, Costs};
use streampay_examples::report::Report;
use streampay_examples::viewer::recover::recover;

use crate::cashu_node::{mint, sat};
use crate::live::{Mode, Party, Plan, play, recover_both};

const QUIET: Report = Report { json: false };

async fn quoted(plan: &Plan, payer: &Party, payee: &Party) -> Vec<Costs> {
    let terms = plan.terms(payee.home());
    quote::costs(payer.home(), &terms, Mode::ALL, sat(plan.budget)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_costs_what_was_quoted_to_the_satoshi() {
    // The fee, the tick, and when the viewer leaves: after one tick, after some, after all.
    let cases = [
        (0, 8, 8, 40),
        (100, 8, 40, 160),
        (100, 7, 7, 70),
        (1000, 8, 24, 60),
        (100, 5, 40, 41),
    ];
    for mode in Mode::ALL {
        for (ppk, tick, leave_at, budget) in cases {
            let case = format!("{mode:?} at {ppk} ppk, {tick} sat");
            let mint = mint(ppk).await;
            let (payer, payee) = (Party::with(&mint.url(), 200).await, Party::new().await);
            let plan = Plan {
                tick,
                tick_ms: 150,
                leave_at,
                budget,
                ..Plan::new(*mode, &mint.url())
            };
            let costs = quoted(&plan, &payer, &payee).await;
            let [costs] = &costs[..] else {
                panic!("{case}: {costs:?}");
            };
            let played = play(&payer, &payee, &plan, |_| {}).await;
            assert_eq!(
                played.settled,
                (true, true),
                "{case}: {:?}",
                played.troubles()
            );
            assert_eq!(played.methods, [mode.method()], "{case}");
            assert_eq!(played.credited, played.acknowledged, "{case}");
            let ticks = played.credited.sat_floor() / tick;
            let ((left, _), (earned, _)) = (payer.held().await, payee.held().await);
            let ledger = mint.ledger().await.unwrap();
            let fees = ledger.fees;
            assert_eq!(left.plus(earned).unwrap(), ledger.outstanding(), "{case}");
            assert_eq!(
                left.plus(earned).unwrap().plus(fees),
                Ok(sat(200)),
                "{case}"
            );
            assert_eq!(
                fees,
                costs.after(ticks),
                "{case}: {ticks} ticks of {costs:?}"
            );
            let of_payee = played.credited.minus(earned).unwrap();
            match mode {
                Mode::Swap => assert_eq!(of_payee, Msat::ZERO, "{case}"),
                _ if ticks == costs.payments => assert_eq!(of_payee, costs.redeeming, "{case}"),
                _ => assert!(of_payee <= costs.redeeming, "{case}"),
            }
        }
    }
}

/// Takes what the mint says of a NUT out of its word.
fn without(faults: &FaultSwitch, nut: &'static str) {
    let (says, instead) = match nut {
        "11" => (r#""11":{"supported":true"#, r#""11":{"supported":false"#),
        _ => (r#""14":{"supported":true"#, r#""14":{"supported":false"#),
    };
    faults.set("/v1/info", Fault::Say(says, instead), u64::MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mint_that_cannot_lock_to_a_hash_or_at_all_is_paid_another_way() {
    for (nut, expect) in [("14", Mode::P2pk), ("11", Mode::Swap)] {
        let mint = mint(100).await;
        let (payer, payee) = (Party::with(&mint.url(), 100).await, Party::new().await);
        without(mint.faults_for_testing(), nut);
        let plan = Plan {
            else_by: vec![Mode::P2pk, Mode::Swap],
            ..Plan::new(Mode::Chain, &mint.url())
        };
        let quoted = quoted(&plan, &payer, &payee).await;
        assert_eq!(quoted[0].pay, expect, "the quote is for what will be paid");
        let played = play(&payer, &payee, &plan, |_| {}).await;
        assert_eq!(played.settled, (true, true), "{:?}", played.troubles());
        let last = played.methods.last().map(String::as_str);
        assert_eq!(last, Some(expect.method()), "without NUT-{nut}");
        assert!(played.acknowledged >= sat(plan.leave_at));
        let owed = mint.ledger().await.unwrap().outstanding();
        let (left, earned) = (payer.held().await.0, payee.held().await.0);
        assert_eq!(left.plus(earned).unwrap(), owed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_its_mint_stops_locking() {
    let mint = mint(100).await;
    let (payer, payee) = (Party::with(&mint.url(), 100).await, Party::new().await);
    let faults = mint.faults_for_testing().clone();
    let plan = Plan {
        else_by: vec![Mode::P2pk, Mode::Swap],
        purse: Some(12),
        leave_at: 40,
        budget: 80,
        ..Plan::new(Mode::Chain, &mint.url())
    };
    let played = play(&payer, &payee, &plan, move |tick| match tick {
        1 => without(&faults, "14"),
        6 => {
            faults.clear();
            without(&faults, "11");
        }
        _ => {}
    })
    .await;
    assert_eq!(played.settled, (true, true), "{:?}", played.troubles());
    for mode in Mode::ALL {
        let used = played.methods.iter().any(|method| method == mode.method());
        assert!(used, "{mode:?} of {:?}", played.methods);
    }
    assert!(played.acknowledged >= sat(40), "{:?}", played.troubles());
    assert!(recover_both(&payer, &payee).await);
    let owed = mint.ledger().await.unwrap().outstanding();
    let (left, earned) = (payer.held().await.0, payee.held().await.0);
    assert_eq!(left.plus(earned).unwrap(), owed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vanished_streamer_holds_locked_comes_home_after_the_locktime() {
    let of = |mode| async move {
        let mint = mint(100).await;
        let (mut payer, mut payee) = (Party::with(&mint.url(), 100).await, Party::new().await);
        // The mint says that it is three hours ago, and takes a lock of two hours for over.
        let faults = mint.faults_for_testing();
        faults.set("/v1/info", Fault::Ago(3 * 3600), u64::MAX);
        let plan = Plan {
            lock: Some((2 * 3600, 600)),
            vanish_at: Some(3),
            ..Plan::new(mode, &mint.url())
        };
        let played = play(&payer, &payee, &plan, |_| {}).await;
        let unsettled = |event: &Event| matches!(event, Event::Unsettled { .. });
        assert!(played.said(unsettled), "{:?}", played.troubles());
        assert_eq!(played.settled, (false, false));
        // The viewer's process dies too. Before the locktime, as the mint says it, nothing comes.
        payer.restart().await;
        assert!(!recover(payer.home(), QUIET).await.unwrap());
        let before = payer.held().await.0;
        // From then on it is three hours later.
        faults.clear();
        payer.restart().await;
        assert!(recover(payer.home(), QUIET).await.unwrap(), "{mode:?}");
        let (left, pending) = payer.held().await;
        assert_eq!(pending, Msat::ZERO);
        assert!(left > before, "{left} {before}");
        let ledger = mint.ledger().await.unwrap();
        let gone = sat(100).minus(left).unwrap();
        assert_eq!(gone, played.acknowledged.plus(ledger.fees).unwrap());
        // What was acknowledged is the streamer's, whenever it comes back.
        payee.restart().await;
        assert!(recover_both(&payer, &payee).await);
        let ledger = mint.ledger().await.unwrap();
        let (left, earned) = (payer.held().await.0, payee.held().await.0);
        assert_eq!(left.plus(earned).unwrap(), ledger.outstanding());
        assert!(earned.plus(ledger.fees).unwrap() >= played.acknowledged);
    };
    tokio::join!(of(Mode::Chain), of(Mode::P2pk));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_whose_fee_eats_more_than_the_share_are_left_out() {
    // A token of 2 sat costs 1 sat at 100 ppk: half of the payment; one of 1 sat costs as much.
    for (tick, share, fits) in [
        (2, 50, true),
        (2, 49, false),
        (1, 50, false),
        (1, 100, true),
    ] {
        let mint = mint(100).await;
        let (payer, payee) = (Party::with(&mint.url(), 100).await, Party::new().await);
        let plan = Plan {
            tick,
            ..Plan::new(Mode::Swap, &mint.url())
        };
        let terms = plan.terms(payee.home());
        let costs = quoted(&plan, &payer, &payee).await;
        let alone = quote::affordable(&[Mode::Swap], &terms, &costs, share);
        match alone {
            Ok(left) => assert_eq!((left, fits), (vec![Mode::Swap], true)),
            Err(AppError::DearPayments { fee, .. }) => {
                assert_eq!((fee, fits), (Some(sat(1)), false))
            }
            Err(other) => panic!("{other}"),
        }
        // Beside another way it goes without a word.
        let plan = Plan {
            else_by: vec![Mode::Chain],
            ..plan
        };
        let terms = plan.terms(payee.home());
        let costs = quoted(&plan, &payer, &payee).await;
        let left = quote::affordable(Mode::ALL, &terms, &costs, share).unwrap();
        assert_eq!(left.contains(&Mode::Swap), fits, "{tick} {share}");
        assert!(left.contains(&Mode::Chain));
        // A mint that does not say what it charges is paid with plain tokens by nobody.
        let unknown = quote::affordable(&[Mode::Swap], &terms, &[], share);
        assert!(matches!(
            unknown,
            Err(AppError::DearPayments { fee: None, .. })
        ));
    }
}
