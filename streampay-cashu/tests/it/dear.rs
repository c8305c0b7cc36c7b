//! A mint that raises its fee while a session goes on.

use cdk::nuts::CurrencyUnit;
use streampay_core::backend::{BackendError, Outcome, RefusalCode, Request};

use crate::node::{Mode, Pair, purse};

#[tokio::test]
async fn no_second_purse_is_split_where_the_fee_has_risen_above_the_share() {
    // What a token costs on top, at a whole unit a proof: two of 2, and two of 8.
    for (tick, opens) in [(2, false), (8, true)] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, tick, 5).await;
        let amounts = (0..20).map(|bit| 1 << bit).collect();
        let unit = CurrencyUnit::Sat;
        let rotated = pair
            .mint
            .mint
            .rotate_keyset(unit, amounts, 1_000, true, None);
        rotated.await.unwrap();
        let before = pair.payer.spendable().await;
        let request = pair.open_request(5);
        let opened = pair.payer.ask(purse(1), request).await;
        match opened {
            Some(Outcome::Opened(_)) => assert!(opens, "{tick}"),
            other => {
                let dear = BackendError::Fatal(RefusalCode::FeeTooHigh);
                assert_eq!(other, Some(Outcome::Failed(dear)), "{tick}");
                assert!(!opens, "{tick}");
                assert_eq!(pair.payer.spendable().await, before, "{tick}");
            }
        }
    }
}

/// A mint that takes 100 ppk of a keyset whose id says nothing of that, and tells both sides of none.
async fn told_less(mode: Mode) -> Pair {
    let pair = Pair::new(mode, 0, 500, 5).await;
    let amounts = (0..20).map(|bit| 1 << bit).collect();
    let mint = &pair.mint.mint;
    let rotated = mint.rotate_keyset(CurrencyUnit::Sat, amounts, 100, false, None);
    rotated.await.unwrap();
    pair.mint.says_fee(Some(0));
    pair
}

/// What both sides learnt at the opening is not for ever.
#[tokio::test]
async fn batch_is_made_anew_where_the_mint_takes_another_fee() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = told_less(mode).await;
        pair.open(0, 20).await;
        pair.ticks(1..=10).await;
        pair.mint.says_fee(None);
        // Twenty proofs on each side, two satoshi.
        assert_eq!(pair.settle().await, 48, "{mode:?}");
        pair.show_note().await;
        assert_eq!(pair.release().await, 48, "{mode:?}");
        let (payer, payee) = (pair.payer.spendable().await, pair.payee.spendable().await);
        assert_eq!(payer + payee, 496, "{mode:?}");
    }
}

/// Each fee that it names is another than the one before, and none is what it takes.
#[tokio::test]
async fn mint_that_names_another_fee_each_time_is_asked_now_and_then() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let transient = Some(Outcome::Failed(BackendError::Transient));
        let mut pair = told_less(mode).await;
        pair.open(0, 20).await;
        pair.ticks(1..=10).await;
        pair.mint.drifts(true);
        let before = pair.mint.calls_of("swap");
        let request = pair.settle_request(10);
        let settled = pair.payee.ask(purse(0), request.clone()).await;
        assert_eq!(settled, transient, "{mode:?}");
        assert_eq!(pair.mint.calls_of("swap") - before, 2, "{mode:?}");
        let settled = pair.payee.ask(purse(0), request).await;
        assert_eq!(settled, transient, "{mode:?}");
        assert_eq!(pair.payee.wake(purse(0)).await, None);
        assert_eq!(pair.mint.calls_of("swap") - before, 2, "{mode:?}");
        pair.payee.after_s(31);
        pair.payee.wake(purse(0)).await;
        assert_eq!(pair.mint.calls_of("swap") - before, 3, "{mode:?}");

        pair.show_note().await;
        let before = pair.mint.calls_of("swap");
        for _ in 0..2 {
            let released = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(released, transient, "{mode:?}");
            assert_eq!(pair.mint.calls_of("swap") - before, 2, "{mode:?}");
        }
        pair.payer.after_s(31);
        pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(pair.mint.calls_of("swap") - before, 3, "{mode:?}");

        pair.mint.drifts(false);
        // What it named last is tried, then what it names now.
        for end in [false, true] {
            pair.payee.after_s(31);
            pair.payer.after_s(31);
            if !end {
                let request = pair.settle_request(10);
                let settled = pair.payee.ask(purse(0), request).await;
                assert_eq!(settled, transient, "{mode:?}");
                let released = pair.payer.ask(purse(0), Request::Release).await;
                assert_eq!(released, transient, "{mode:?}");
            }
        }
        assert_eq!(pair.settle().await, 48, "{mode:?}");
        assert_eq!(pair.release().await, 48, "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 448, "{mode:?}");
    }
}
