//! `cashu-swap` when the mint or the process fails at the wrong moment.

use std::time::Duration;

use streampay_core::backend::{BackendError, Outcome, RefusalCode, Request};
use streampay_core::units::Seq;
use streampay_examples::mint::faults_for_testing::Fault;

use crate::cashu_node::{Crash, Pair, offer, sat};

const SWAP: &str = "/v1/swap";

fn failed(error: BackendError) -> Outcome {
    Outcome::Failed(error)
}

#[tokio::test]
async fn a_lost_answer_is_found_again_within_the_same_effect() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    pair.payee.impatient();
    let payload = pair.paid(1).await;
    let faults = pair.mint.faults_for_testing().clone();
    faults.set(SWAP, Fault::LoseAnswer, 1);
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn a_lost_answer_and_a_mint_that_goes_away_are_unknown_until_it_is_back() {
    for restart in [false, true] {
        let mut pair = Pair::opened(100, 50, 2, 5).await;
        pair.payee.impatient();
        let payload = pair.paid(1).await;
        let faults = pair.mint.faults_for_testing().clone();
        faults.set(SWAP, Fault::LoseAnswer, 1);
        faults.set("/v1/restore", Fault::Refuse, 9);
        let unknown = failed(BackendError::Unknown);
        assert_eq!(pair.credit(1, &payload).await, unknown);
        faults.clear();
        if restart {
            pair.payee.restart().await;
        }
        assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
        pair.settles_conserved(50, 1).await;
    }
}

#[tokio::test]
async fn an_unknown_tick_is_resolved_by_settling() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    pair.payee.impatient();
    let payload = pair.paid(1).await;
    let faults = pair.mint.faults_for_testing().clone();
    faults.set(SWAP, Fault::LoseAnswer, 1);
    faults.set("/v1/restore", Fault::Refuse, 9);
    pair.credit(1, &payload).await;
    faults.clear();
    assert_eq!(pair.settle().await, sat(2));
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn a_split_whose_answer_is_lost_is_not_lost() {
    for restart in [false, true] {
        let mut pair = Pair::new(100, 50, 2).await;
        pair.payer.impatient();
        let faults = pair.mint.faults_for_testing().clone();
        faults.set(SWAP, Fault::LoseAnswer, 1);
        faults.set("/v1/restore", Fault::Refuse, 9);
        let request = Request::Open {
            offer: offer(&pair.mint.url(), pair.tick),
            capacity: sat(10),
            budget: streampay_core::units::Msat::MAX,
        };
        let unknown = Some(failed(BackendError::Unknown));
        assert_eq!(pair.payer.ask(pair.key, request).await, unknown);
        faults.clear();
        if restart {
            pair.payer.restart().await;
        }
        assert_eq!(pair.open(5, &mut Crash::never()).await, sat(10));
        pair.whole_tick(1).await;
        pair.settles_conserved(50, 1).await;
    }
}

#[tokio::test]
async fn a_reclaim_whose_answer_is_lost_is_not_taken_for_spent() {
    for restart in [false, true] {
        let mut pair = Pair::opened(100, 50, 2, 5).await;
        pair.payer.impatient();
        pair.paid(1).await;
        let faults = pair.mint.faults_for_testing().clone();
        faults.set(SWAP, Fault::LoseAnswer, 1);
        faults.set("/v1/checkstate", Fault::Refuse, 9);
        let reclaim = Request::Reclaim { seq: Seq(1) };
        let first = pair.payer.ask(pair.key, reclaim.clone()).await;
        assert_eq!(first, Some(failed(BackendError::Transient)), "{restart}");
        faults.clear();
        if restart {
            pair.payer.restart().await;
        }
        let again = pair.payer.ask(pair.key, reclaim).await;
        assert_eq!(again, Some(Outcome::Reclaimed));
        pair.settles_conserved(50, 0).await;
    }
}

#[tokio::test]
async fn a_mint_that_is_away_delays_and_loses_nothing() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    let payload = pair.paid(1).await;
    let faults = pair.mint.faults_for_testing().clone();
    // Every path, as often as a session would ask within 20 s.
    faults.set("/", Fault::Refuse, u64::MAX);
    let away = failed(BackendError::Transient);
    for _ in 0..10 {
        assert_eq!(pair.credit(1, &payload).await, away);
    }
    let reclaim = Request::Reclaim { seq: Seq(1) };
    let reclaimed = pair.payer.ask(pair.key, reclaim).await;
    assert_eq!(reclaimed, Some(away.clone()));
    assert_eq!(
        pair.payer.ask(pair.key, Request::Release).await,
        Some(away.clone())
    );
    assert_eq!(
        pair.payee
            .ask(
                pair.key,
                Request::Settle {
                    cumulative: streampay_core::units::Msat::ZERO
                }
            )
            .await,
        Some(away)
    );
    faults.clear();
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn a_mint_that_hangs_is_given_up_in_time() {
    let mut pair = Pair::opened(0, 50, 2, 5).await;
    pair.payee.impatient();
    let payload = pair.paid(1).await;
    let faults = pair.mint.faults_for_testing().clone();
    faults.set("/", Fault::Hang, u64::MAX);
    let started = std::time::Instant::now();
    let unknown = failed(BackendError::Unknown);
    assert_eq!(pair.credit(1, &payload).await, unknown);
    assert!(started.elapsed() < Duration::from_secs(3));
    faults.clear();
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    pair.settles_conserved(50, 1).await;
}

/// A whole purse, dying once at the given boundary; false where it ended before.
async fn purse_that_dies(mint_ppk: u64, at: u64) -> bool {
    let mut pair = Pair::new(mint_ppk, 40, 2).await;
    let mut crash = Crash(Some(at));
    pair.open(4, &mut crash).await;
    for seq in 1..=2 {
        let request = pair.pay(seq);
        let paid = pair.payer.ask_crashing(pair.key, request, &mut crash).await;
        let Some(Outcome::Paid { payload }) = paid else {
            panic!("{paid:?} at {at}");
        };
        let request = pair.receive(seq, &payload);
        let credited = pair.payee.ask_crashing(pair.key, request, &mut crash).await;
        assert_eq!(credited, Some(Outcome::Credited), "at {at}");
        if seq == 1 {
            let acked = Request::Acked {
                seq: Seq(seq),
                cumulative: streampay_core::units::Msat::ZERO,
            };
            pair.payer.ask_crashing(pair.key, acked, &mut crash).await;
        }
    }
    let request = pair.pay(3);
    pair.payer.ask_crashing(pair.key, request, &mut crash).await;
    let released = pair
        .payer
        .ask_crashing(pair.key, Request::Release, &mut crash);
    assert!(matches!(released.await, Some(Outcome::Released { .. })));
    let settled = pair.payee.ask_crashing(
        pair.key,
        Request::Settle {
            cumulative: streampay_core::units::Msat::ZERO,
        },
        &mut crash,
    );
    assert_eq!(settled.await, Some(Outcome::Settled { settled: sat(4) }));
    pair.payer.restart().await;
    pair.payee.restart().await;
    pair.settles_conserved(40, 2).await;
    crash.0.is_none()
}

#[tokio::test]
async fn dying_between_any_two_steps_loses_nothing() {
    let mut at = 0;
    while purse_that_dies(100, at).await {
        at += 1;
    }
    assert!(at > 30, "only {at} boundaries");
}

#[tokio::test]
async fn a_split_that_is_refused_for_good_leaves_all_money_spendable() {
    for restart in [false, true] {
        let mut pair = Pair::new(100, 50, 2).await;
        let faults = pair.mint.faults_for_testing().clone();
        faults.set(SWAP, Fault::Forbid, 1);
        let request = Request::Open {
            offer: offer(&pair.mint.url(), pair.tick),
            capacity: sat(10),
            budget: streampay_core::units::Msat::MAX,
        };
        let opened = pair.payer.ask(pair.key, request).await;
        let refused = matches!(
            opened,
            Some(Outcome::Failed(BackendError::Fatal(RefusalCode::Other)))
        );
        assert!(refused, "{opened:?}");
        assert_eq!(pair.payer.balance().await, (sat(50), sat(0)));
        if restart {
            pair.payer.restart().await;
        }
        pair.release().await;
        assert_eq!(pair.payer.balance().await, (sat(50), sat(0)));
        pair.settles_conserved(50, 0).await;
    }
}
