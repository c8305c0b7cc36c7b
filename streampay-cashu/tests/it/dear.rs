//! A mint that raises its fee while a session goes on.

use cdk::nuts::CurrencyUnit;
use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::units::Seq;

use crate::mint::{Fault, deposit};
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

/// With a purse of twenty ticks of 5, each of two proofs.
async fn opened_at_an_old_fee(mode: Mode) -> Pair {
    let mut pair = told_less(mode).await;
    pair.open(0, 20).await;
    pair
}

/// Of a keyset whose id says nothing of its fee: what both sides learnt at the opening is not for ever.
#[tokio::test]
async fn batch_is_made_anew_where_the_mint_takes_another_fee() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = opened_at_an_old_fee(mode).await;
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

/// The payee refuses a token that gives less than a tick now; to the payer it is worth what is left.
#[tokio::test]
async fn token_comes_back_where_the_mint_takes_another_fee() {
    for fault in [Fault::Fine, Fault::Away, Fault::LoseAnswer] {
        for restarts in [false, true] {
            let mut pair = opened_at_an_old_fee(Mode::Swap).await;
            pair.mint.says_fee(None);
            let sent = pair.paid(1, 1).await;
            let request = pair.receive_request(1, 1, sent);
            let short = BackendError::Rejected(RefusalCode::WrongAmount, Consumed::No);
            let refused = pair.payee.ask(purse(0), request).await;
            assert_eq!(refused, Some(Outcome::Failed(short)));
            // The swap at the old fee, and the one that is made of it.
            pair.mint.fail("swap", Fault::Fine);
            pair.mint.fail("swap", fault);
            let mut got = None;
            for _ in 0..3 {
                let reclaim = Request::Reclaim { seq: Seq(1) };
                got = pair.payer.ask(purse(0), reclaim).await;
                if got == Some(Outcome::Reclaimed) {
                    break;
                }
                if restarts {
                    pair.payer.restart(&[purse(0)]).await;
                }
            }
            let label = format!("{fault:?} {restarts}");
            assert_eq!(got, Some(Outcome::Reclaimed), "{label}");
            assert_eq!(pair.release().await, 99, "{label}");
            assert_eq!(pair.payer.spendable().await, 499, "{label}");
        }
    }
}

/// Each refusal of its swap comes with another fee; none is what the mint takes.
#[tokio::test]
async fn token_is_not_asked_for_without_a_pace() {
    for releases in [false, true] {
        let mut pair = Pair::new(Mode::Swap, 0, 500, 50).await;
        pair.open(0, 4).await;
        pair.paid(1, 1).await;
        let transient = Some(Outcome::Failed(BackendError::Transient));
        let request = match releases {
            true => Request::Release,
            false => Request::Reclaim { seq: Seq(1) },
        };
        let before = pair.mint.calls_of("swap");
        for (fee, after_s, calls) in [(700, 0, 1), (1_400, 0, 2), (2_100, 31, 3), (2_800, 31, 4)] {
            pair.payer.after_s(after_s);
            pair.mint.says_fee(Some(fee));
            // Also what is made of it at once.
            for _ in 0..2 {
                pair.mint.fail("swap", Fault::Unbalanced);
            }
            if calls == 1 {
                // At the agreed fee, and at the one that it names.
                let got = pair.payer.ask(purse(0), request.clone()).await;
                assert_eq!(got, transient);
                continue;
            }
            let got = pair.payer.ask(purse(0), request.clone()).await;
            assert_eq!(got, transient, "{releases} {fee}");
            let asked = pair.mint.calls_of("swap") - before;
            assert_eq!(asked, calls, "{releases} {fee}");
            pair.mint.heal();
        }
        pair.mint.heal();
        pair.mint.says_fee(None);
        pair.payer.after_s(31);
        // At the fee that it named last, which it does not take; then at none.
        let mut got = pair.payer.ask(purse(0), request.clone()).await;
        for _ in 0..2 {
            if got == transient {
                pair.payer.after_s(31);
                got = pair.payer.ask(purse(0), request.clone()).await;
            }
        }
        assert_ne!(got, transient, "{releases}");
        assert_eq!(pair.release().await, 200, "{releases}");
        assert_eq!(pair.payer.spendable().await, 500, "{releases}");
    }
}

/// Some of what the payer has is of keys that its mint has put out of use, and just as much as it wants to pay.
#[tokio::test]
async fn purse_is_opened_from_old_keys_with_their_fee() {
    for mode in Mode::ALL {
        for (old, new) in [(2, 64), (6, 94), (126, 0), (14, 33)] {
            for ticks in [1, 2, 3, 7, 15] {
                let mut pair = Pair::new(mode, 100, old, 2).await;
                let amounts = (0..20).map(|bit| 1 << bit).collect();
                let mint = &pair.mint.mint;
                let rotated = mint.rotate_keyset(CurrencyUnit::Sat, amounts, 100, true, None);
                rotated.await.unwrap();
                let wallet = pair.payer.purses.wallet.clone();
                let policy = cdk::wallet::types::KeysetLoadPolicy::Refresh;
                wallet.keysets(policy).await.unwrap();
                deposit(&wallet, &pair.mint, new).await;
                pair.open(0, ticks).await;
                let left = pair.payer.spendable().await;
                let of = format!("{mode:?} {old} {new} {ticks}: {left}");
                // What a token costs on top, and a unit or two for the proofs that went in.
                assert!(left <= old + new - 2 * ticks, "{of}");
                assert!(left + 4 * ticks + 2 >= old + new, "{of}");
            }
        }
    }
}

/// Nobody takes a token for gone by one answer of its mint.
#[tokio::test]
async fn token_that_is_said_once_to_be_worth_nothing_comes_back() {
    for restarts in [false, true] {
        let mut pair = opened_at_an_old_fee(Mode::Swap).await;
        pair.paid(1, 1).await;
        pair.mint.says_fee(Some(2_500));
        pair.mint.fail("swap", Fault::Unbalanced);
        let got = pair.payer.ask(purse(0), Request::Reclaim { seq: Seq(1) });
        let transient = Some(Outcome::Failed(BackendError::Transient));
        assert_eq!(got.await, transient);
        pair.mint.says_fee(None);
        pair.payer.after_s(3_600);
        if restarts {
            pair.payer.restart(&[purse(0)]).await;
        }
        // At the fee of before, then at the one that it takes.
        if pair.payer.ask(purse(0), Request::Release).await == transient {
            pair.payer.after_s(31);
        }
        assert_eq!(pair.release().await, 99);
        assert_eq!(pair.payer.spendable().await, 499);
    }
}

/// It is worth nothing to either; the purse closes, in a while.
#[tokio::test]
async fn token_that_is_worth_no_more_than_its_fee_keeps_no_purse_open() {
    let mut pair = opened_at_an_old_fee(Mode::Swap).await;
    pair.paid(1, 1).await;
    pair.mint.says_fee(Some(2_500));
    let transient = Some(Outcome::Failed(BackendError::Transient));
    for _ in 0..19 {
        pair.mint.fail("swap", Fault::Unbalanced);
        let released = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(released, transient);
        pair.payer.after_s(31);
    }
    pair.payer.after_s(31);
    pair.mint.fail("swap", Fault::Unbalanced);
    assert_eq!(pair.release().await, 95);
}
