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
