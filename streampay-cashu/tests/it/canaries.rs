//! Whether a mint keeps what is locked with it, and that nothing is lost in finding out.

use std::time::Duration;

use cdk::nuts::CurrencyUnit;
use streampay_cashu::{MintFault, canary, canary_home};
use streampay_core::backend::{BackendError, RefusalCode};

use crate::mint::{Fault, Manner, Purseless, TestMint};

const LIMIT: Duration = Duration::from_secs(10);

/// nutshell refuses a wrong witness with a code that cdk has no name for.
#[tokio::test]
async fn refusal_without_a_name_is_one_where_the_state_shows_it() {
    for chain in [true, false] {
        let mint = TestMint::new(0).await;
        mint.set_manner(Manner::Unnamed);
        let purses = Purseless::new(&mint, 1, 100).await;
        let states = mint.calls_of("state");
        let flown = canary(&purses.wallet, [5; 64], chain, LIMIT).await;
        assert_eq!(flown, Ok(None));
        let wrong = if chain { 4 } else { 3 };
        assert!(mint.calls_of("state") >= states + wrong, "each is shown");
        assert_eq!(purses.spendable().await, 100);
    }
}

#[tokio::test]
async fn mint_that_takes_a_wrong_witness_is_found_out_and_gives_it_back() {
    for chain in [true, false] {
        let mint = TestMint::new(0).await;
        mint.set_manner(Manner::TakesAll);
        let purses = Purseless::new(&mint, 1, 100).await;
        let flown = canary(&purses.wallet, [5; 64], chain, LIMIT).await;
        assert_eq!(flown, Ok(Some(MintFault::Locks)));
        let home = canary_home(&purses.wallet, [5; 64], chain, LIMIT).await;
        assert_eq!(home, Ok(()));
        assert_eq!(purses.spendable().await, 100);
    }
}

/// Whatever call of a trial fails, its money is found by the same seed.
#[tokio::test]
async fn canary_is_lost_at_no_call() {
    for kind in ["swap", "restore", "state", "keys", "keysets"] {
        for before in 0..6 {
            for fault in [Fault::Away, Fault::LoseAnswer] {
                let mint = TestMint::new(0).await;
                let purses = Purseless::new(&mint, 1, 100).await;
                (0..before).for_each(|_| mint.fail(kind, Fault::Fine));
                mint.fail(kind, fault);
                let case = format!("{fault:?} after {before} of {kind}");
                let first = canary(&purses.wallet, [5; 64], true, LIMIT).await;
                assert!(first.is_err() || first == Ok(None), "{case}: {first:?}");
                mint.heal();
                let home = canary_home(&purses.wallet, [5; 64], true, LIMIT).await;
                assert_eq!(home, Ok(()), "{case}");
                assert_eq!(purses.spendable().await, 100, "{case}");
            }
        }
    }
}

/// The seed of one that is home and that nobody forgot risks nothing either.
#[tokio::test]
async fn seed_that_was_used_before_makes_another_canary() {
    let mint = TestMint::new(0).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    for _ in 0..3 {
        let flown = canary(&purses.wallet, [5; 64], true, LIMIT).await;
        assert_eq!(flown, Ok(None));
        assert_eq!(purses.spendable().await, 100);
    }
}

#[tokio::test]
async fn canary_comes_home_though_the_mint_signs_with_other_keys_by_then() {
    let mint = TestMint::new(0).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    // It is locked, and then everything fails.
    mint.fail("swap", Fault::Fine);
    mint.fail("swap", Fault::Away);
    let first = canary(&purses.wallet, [5; 64], true, LIMIT).await;
    assert_eq!(first, Err(BackendError::Transient));
    let amounts = (0..20).map(|bit| 1 << bit).collect();
    let rotated = mint
        .mint
        .rotate_keyset(CurrencyUnit::Sat, amounts, 0, true, None);
    rotated.await.unwrap();
    let home = canary_home(&purses.wallet, [5; 64], true, LIMIT).await;
    assert_eq!(home, Ok(()));
    assert_eq!(purses.spendable().await, 100);
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
