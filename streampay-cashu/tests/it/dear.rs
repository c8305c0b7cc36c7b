//! A mint that raises its fee while a session goes on.

use cdk::nuts::CurrencyUnit;
use streampay_core::backend::{BackendError, Outcome, RefusalCode};

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

/// Of a keyset whose id says nothing of its fee: what both sides learnt at the opening is not for ever.
#[tokio::test]
async fn batch_is_made_anew_where_the_mint_takes_another_fee() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let amounts = (0..20).map(|bit| 1 << bit).collect();
        let unit = CurrencyUnit::Sat;
        let rotated = pair
            .mint
            .mint
            .rotate_keyset(unit, amounts, 100, false, None);
        rotated.await.unwrap();
        pair.mint.says_fee(Some(0));
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
