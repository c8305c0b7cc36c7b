//! A mint that restarts, changes its keys or limits its callers, in the middle of a session.

use std::sync::Mutex;
use std::time::Duration;

use cdk::nuts::CurrencyUnit;
use streampay_core::meter::PauseReason;
use streampay_core::session::Event;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::mint::{EmbeddedMint, Storage};

use crate::cashu_node::{mint, sat};
use crate::live::{Mode, Party, Plan, all_is_fair, play, recover_both};

const FUNDS: u64 = 100;

async fn is_fair(
    plan: &Plan,
    played: &crate::live::Played,
    sides: (&Party, &Party),
    mint: &EmbeddedMint,
) {
    assert!(!played.stuck, "{:?}", played.troubles());
    assert!(recover_both(sides.0, sides.1).await);
    let ledger = mint.ledger().await.unwrap();
    let (owed, fees) = (ledger.outstanding(), ledger.fees);
    let fair = all_is_fair(plan, played, (sides.0, FUNDS), sides.1, owed, fees).await;
    fair.unwrap_or_else(|why| panic!("{why}: {:?}", played.troubles()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mint_that_restarts_is_waited_for() {
    for mode in Mode::ALL {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Folder(folder.path().join("mint"));
        let any = "127.0.0.1:0".parse().unwrap();
        let first = EmbeddedMint::start(any, storage.clone(), 100)
            .await
            .unwrap();
        let address = first.url().trim_start_matches("http://").parse().unwrap();
        let url = first.url();
        let (payer, payee) = (Party::with(&url, FUNDS).await, Party::new().await);
        let plan = Plan {
            limit: Duration::from_secs(90),
            ..Plan::new(*mode, &url)
        };
        let stop = std::sync::Arc::new(tokio::sync::Notify::new());
        let stopping = stop.clone();
        let restart = tokio::spawn(async move {
            stop.notified().await;
            first.stop().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            EmbeddedMint::start(address, storage, 100).await.unwrap()
        });
        let played = play(&payer, &payee, &plan, move |tick| {
            if tick == 2 {
                stopping.notify_one();
            }
        })
        .await;
        let mint = restart.await.unwrap();
        assert!(
            played.acknowledged >= sat(plan.leave_at),
            "{:?}",
            played.troubles()
        );
        is_fair(&plan, &played, (&payer, &payee), &mint).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_change_in_mid_session_are_learnt() {
    for mode in Mode::ALL {
        let mint = mint(100).await;
        let url = mint.url();
        let (payer, payee) = (Party::with(&url, FUNDS).await, Party::new().await);
        let plan = Plan::new(*mode, &url);
        let inner = mint.mint_for_testing().clone();
        let rotated = Mutex::new(None);
        let played = play(&payer, &payee, &plan, |tick| {
            if tick == 2 {
                let inner = inner.clone();
                let rotation = tokio::spawn(async move {
                    let amounts = (0..32).map(|bit| 1_u64 << bit).collect();
                    inner
                        .rotate_keyset(CurrencyUnit::Sat, amounts, 200, true, None)
                        .await
                        .unwrap();
                });
                *rotated.lock().unwrap() = Some(rotation);
            }
        })
        .await;
        let rotation = rotated.lock().unwrap().take().expect("two ticks were paid");
        rotation.await.unwrap();
        assert!(
            played.acknowledged >= sat(plan.leave_at),
            "{:?}",
            played.troubles()
        );
        is_fair(&plan, &played, (&payer, &payee), &mint).await;
        // And a new session, which begins with the new keys.
        let again = play(&payer, &payee, &plan, |_| {}).await;
        assert_eq!(again.settled, (true, true), "{:?}", again.troubles());
        let (left, earned) = (payer.held().await, payee.held().await);
        let owed = mint.ledger().await.unwrap().outstanding();
        assert_eq!(left.0.plus(earned.0).unwrap(), owed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mint_that_limits_its_callers_pauses_a_session_and_is_not_hammered() {
    for mode in Mode::ALL {
        let mint = mint(100).await;
        let url = mint.url();
        let (payer, payee) = (Party::with(&url, FUNDS).await, Party::new().await);
        let plan = Plan::new(*mode, &url);
        let faults = mint.faults_for_testing().clone();
        let limited = faults.clone();
        let played = play(&payer, &payee, &plan, move |tick| {
            if tick == 2 {
                limited.set("/", Fault::TooMany(1), 3);
            }
        })
        .await;
        assert!(
            played.acknowledged >= sat(plan.leave_at),
            "{:?}",
            played.troubles()
        );
        let paused = |event: &Event| {
            let why = PauseReason::BackendAway;
            matches!(event, Event::Paused { reason, .. } if *reason == why)
        };
        match mode {
            Mode::Swap => {
                assert!(played.said(paused), "{:?}", played.troubles());
                assert!(played.said(|event| matches!(event, Event::Resumed)));
            }
            // A tick asks the mint nothing: what the limits meet is the redemption.
            Mode::Chain | Mode::P2pk | Mode::Btc => {
                let until_closed = |events: &[Event]| {
                    let before = events.iter();
                    let mut before =
                        before.take_while(|event| !matches!(event, Event::Closed { .. }));
                    before.any(paused)
                };
                assert!(!until_closed(&played.payer) && !until_closed(&played.payee));
            }
        }
        // All three seconds were kept, for each refusal is followed by a second of silence.
        assert_eq!(faults.met(), 3);
        is_fair(&plan, &played, (&payer, &payee), &mint).await;
    }
}
