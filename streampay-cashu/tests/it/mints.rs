//! Whether a mint is fit, and what it costs.

use std::time::Duration;

use streampay_cashu::{MintFault, MintPolicy, canary, check_mint, locked_quote};
use streampay_core::backend::{BackendError, RefusalCode};

use crate::mint::{Fault, Purseless, TestMint};
use crate::node::{Pair, sat};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn sound_mint_passes_and_faults_are_named() {
    let mint = TestMint::new(100).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    let policy = MintPolicy::default();
    assert_eq!(check_mint(&purses.wallet, policy).await, Ok(vec![]));
    let mut strict = policy;
    strict.max_fee_ppk = 99;
    assert_eq!(
        check_mint(&purses.wallet, strict).await,
        Ok(vec![MintFault::Fee])
    );
    mint.set_skew(7_200);
    assert_eq!(
        check_mint(&purses.wallet, policy).await,
        Ok(vec![MintFault::Skew])
    );
}

#[tokio::test]
async fn canary_comes_home_from_a_mint_that_enforces_locks() {
    for (chain, ppk) in [(true, 0), (false, 0), (true, 100)] {
        let mint = TestMint::new(ppk).await;
        let purses = Purseless::new(&mint, 1, 100).await;
        let flown = canary(&purses.wallet, [5; 64], chain, LIMIT).await;
        assert_eq!(flown, Ok(None), "{chain} {ppk}");
        let fees = if ppk == 0 { 0 } else { 2 };
        assert_eq!(purses.spendable().await, 100 - fees, "{chain} {ppk}");
    }
}

#[tokio::test]
async fn canary_that_a_crash_left_comes_home_with_the_same_seed() {
    let mint = TestMint::new(0).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    mint.fail("swap", Fault::LoseAnswer);
    mint.fail("restore", Fault::Fine);
    mint.fail("restore", Fault::Away);
    let first = canary(&purses.wallet, [5; 64], true, LIMIT).await;
    assert!(first.is_err(), "{first:?}");
    assert!(purses.spendable().await < 100);
    let again = canary(&purses.wallet, [5; 64], true, LIMIT).await;
    assert_eq!(again, Ok(None));
    assert_eq!(purses.spendable().await, 100);
}

#[tokio::test]
async fn canary_needs_money() {
    let mint = TestMint::new(0).await;
    let purses = Purseless::new(&mint, 1, 0).await;
    let flown = canary(&purses.wallet, [5; 64], true, LIMIT).await;
    assert_eq!(
        flown,
        Err(BackendError::Fatal(RefusalCode::InsufficientFunds))
    );
}

#[tokio::test]
async fn fees_are_as_quoted() {
    for ppk in [0, 100, 1_000] {
        let mut pair = Pair::opened(true, ppk, 5_000, 10, 100).await;
        let wallet = pair.payer.purses.wallet.clone();
        let quote = locked_quote(&wallet, sat(10), 100).await.unwrap();
        let settled = pair.settle().await;
        assert_eq!(settled, 0);
        pair.show_note().await;
        let refunded = pair.release().await;
        assert_eq!(1_000 - refunded, quote.refund.sat_floor(), "{ppk}");
    }
}
