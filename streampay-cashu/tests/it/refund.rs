//! The payer's own way back, from the locktime on.

use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::units::RequestId;

use crate::mint::Fault;
use crate::node::{Mode, Pair, purse};

const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));

/// A pair at a mint that says it is three hours ago, with a lock of two: the mint takes a refund at once.
async fn opened(mode: Mode) -> Pair {
    let mut pair = Pair::new(mode, 0, 500, 5).await;
    pair.mint.set_skew(-3 * 3_600);
    pair.params = pair.params.clone().with_lock(2 * 3_600, 600).unwrap();
    pair.open(0, 10).await;
    pair
}

fn is_after_the_locktime(pair: &mut Pair) {
    pair.mint.set_skew(0);
    pair.payer.after_s(3 * 3_600);
    pair.payee.after_s(3 * 3_600);
}

#[tokio::test]
async fn release_that_the_mint_refuses_gives_way_to_the_refund() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for restarts in [false, true] {
            let mut pair = opened(mode).await;
            pair.ticks(1..=4).await;
            pair.settle().await;
            pair.show_note().await;
            pair.mint.fail("swap", Fault::Refused);
            let early = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(early, TRANSIENT, "{mode:?}");
            // Until the locktime it may be taken yet.
            pair.mint.fail("swap", Fault::Refused);
            let early = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(early, TRANSIENT, "{mode:?}");
            is_after_the_locktime(&mut pair);
            pair.mint.fail("swap", Fault::Refused);
            if restarts {
                // It learns the time between.
                pair.mint.fail("swap", Fault::Refused);
                pair.payer.restart(&[purse(0)]).await;
            }
            assert_eq!(pair.release().await, 30, "{mode:?} {restarts}");
            assert_eq!(pair.payer.spendable().await, 480, "{mode:?} {restarts}");
            let shown = pair.mint.shown();
            let (_, preimages) = shown.last().unwrap();
            assert!(preimages.iter().all(|preimage| *preimage == [0; 32]));
        }
    }
}

/// It was shown before, and reaches its payee when all of it is home.
#[tokio::test]
async fn tick_after_the_refund_is_not_credited() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for restarts in [false, true] {
            let mut pair = opened(mode).await;
            pair.ticks(1..=2).await;
            let third = pair.paid(3, 3).await;
            is_after_the_locktime(&mut pair);
            assert_eq!(pair.release().await, 40, "{mode:?}");
            let request = pair.receive_request(3, 3, third);
            let late = BackendError::Rejected(RefusalCode::TooLate, Consumed::No);
            let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
            let refused = match restarts {
                true => spent,
                false => late,
            };
            if restarts {
                pair.payee.restart(&[purse(0)]).await;
            }
            let got = pair.payee.ask(purse(0), request).await;
            assert_eq!(got, Some(Outcome::Failed(refused)), "{mode:?} {restarts}");
            // What was credited before is the payee's.
            assert_eq!(pair.settle().await, 10, "{mode:?} {restarts}");
            assert_eq!(pair.payer.spendable().await, 490, "{mode:?} {restarts}");
        }
    }
}

/// Each costs the payer hundreds of signatures to look at, and its payee nothing.
#[tokio::test]
async fn forged_releases_are_looked_at_once_and_not_for_ever() {
    let mut pair = opened(Mode::Chain).await;
    pair.ticks(1..=4).await;
    pair.settle().await;
    let good = pair.payee.notes.get(&purse(0)).cloned().unwrap();
    let (now, runner) = (pair.payer.now, pair.payer.runner());
    let mut looked = 0;
    for forged in 0..100_u8 {
        let mut bytes = good.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= forged / 2 + 1;
        let bytes = bytes.into();
        let note = Request::Note { bytes };
        let machine = &mut pair.payer.machine;
        for effect in machine.request(now, purse(0), RequestId(1), note).effects {
            looked += 1;
            machine.effect_done(now, runner.run(effect).await);
        }
        assert!(looked <= usize::from(forged / 2) + 1, "the same again");
    }
    assert_eq!(looked, 16);
    // What is the payer's comes home all the same.
    is_after_the_locktime(&mut pair);
    assert_eq!(pair.release().await, 30);
}
