//! What was restored from a backup, and what a mint or a peer can make of that.

use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::units::RequestId;

use crate::mint::{Fault, Purseless};
use crate::node::{Mode, Pair, purse, sat};

const EMPTY: Option<Outcome> = Some(Outcome::Failed(BackendError::Fatal(
    RefusalCode::PurseEmpty,
)));
const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));

/// A pair at a mint that says it is three hours ago, with a lock of two: the mint takes a refund at once.
async fn with_short_lock(mode: impl Into<Mode>) -> Pair {
    let mut pair = Pair::new(mode, 0, 500, 5).await;
    pair.mint.set_skew(-3 * 3600);
    pair.params = pair.params.clone().with_lock(2 * 3600, 600).unwrap();
    pair
}

fn is_after_the_locktime(pair: &mut Pair) {
    pair.mint.set_skew(0);
    pair.payer.after_s(3 * 3600);
    pair.payee.after_s(3 * 3600);
}

/// Its session was brought forward by a receipt; the payer leaves without another tick.
#[tokio::test]
async fn restored_payee_gives_nothing_away_and_is_shown_the_newest_preimage() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    pair.ticks(3..=6).await;
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let settle = pair.settle_request(6);
    assert_eq!(pair.payee.ask(purse(0), settle).await, TRANSIENT);
    assert_eq!(pair.payee.spendable().await, 10, "what it can prove");
    // The payer takes what is its own, and answers.
    pair.show_note().await;
    assert_eq!(pair.release().await, 20);
    let bytes = pair.payer.notes.get(&purse(0)).cloned().unwrap();
    let forged = bytes::Bytes::from_static(&[7; 32]);
    let forged = Request::Note { bytes: forged };
    pair.payee.ask(purse(0), forged).await;
    assert_eq!(pair.payee.spendable().await, 10);
    let settled = pair.payee.ask(purse(0), Request::Note { bytes }).await;
    assert_eq!(settled, Some(Outcome::Settled { settled: sat(30) }));
    assert_eq!(pair.payee.spendable().await, 30);
    assert_eq!(pair.payer.spendable().await, 470);
}

/// It closed with what it knew, and then its payer comes back with a receipt for more.
#[tokio::test]
async fn restored_payee_signs_again_once_it_knows_of_more() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    pair.ticks(3..=6).await;
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    pair.credited = 2;
    assert_eq!(pair.settle().await, 10);
    let early = pair.payee.notes.remove(&purse(0)).unwrap();
    let settle = pair.settle_request(6);
    assert_eq!(pair.payee.ask(purse(0), settle).await, TRANSIENT);
    let later = pair.payee.notes.get(&purse(0)).cloned().unwrap();
    assert!(later.len() < early.len(), "fewer steps are given back");
    // Neither is the old one said again after a restart.
    pair.payee.restart(&[purse(0)]).await;
    assert_eq!(pair.payee.notes.get(&purse(0)), Some(&later));
    pair.show_note().await;
    let bytes = pair.payer.notes.get(&purse(0)).cloned().unwrap();
    pair.payee.ask(purse(0), Request::Note { bytes }).await;
    pair.credited = 6;
    assert_eq!(pair.settle().await, 30);
    assert_eq!(pair.release().await, 20);
}

#[tokio::test]
async fn payee_whose_payer_never_answers_settles_after_the_locktime() {
    let mut pair = with_short_lock(true).await;
    pair.open(0, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    pair.ticks(3..=6).await;
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let settle = pair.settle_request(6);
    assert_eq!(pair.payee.ask(purse(0), settle).await, TRANSIENT);
    is_after_the_locktime(&mut pair);
    assert_eq!(pair.settle().await, 10);
}

/// The folder is lost, with the wallet, after the purse came home: the backup is of its opening.
#[tokio::test]
async fn restored_payer_finds_what_came_home() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = with_short_lock(mode).await;
        pair.open(0, 10).await;
        let backup = pair.payer.records(purse(0));
        pair.ticks(1..=4).await;
        pair.settle().await;
        pair.show_note().await;
        assert_eq!(pair.release().await, 30);
        pair.payer.purses = Purseless::new(&pair.mint, 1, 0).await;
        pair.payer.put_back(purse(0), &backup);
        pair.payer.restart(&[purse(0)]).await;
        is_after_the_locktime(&mut pair);
        assert_eq!(pair.release().await, 30, "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 30, "{mode:?}");
    }
}

/// A backup of before a batch, with a wallet of after it: the batch that it makes is another.
#[tokio::test]
async fn batches_of_a_restored_payee_share_no_outputs_with_older_ones() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    let mut policy = pair.payee.policy;
    policy.redeem_ticks = 3;
    pair.payee.set_policy(policy);
    pair.payee.restart(&[purse(0)]).await;
    pair.ticks(3..=3).await;
    assert_eq!(pair.payee.spendable().await, 15);
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    pair.ticks(4..=7).await;
    pair.credited = 7;
    assert_eq!(pair.settle().await, 35);
    assert_eq!(pair.payee.spendable().await, 35);
}

/// What a receipt says it has shown, and its records do not, may be a lie: a release that rests on it is
/// worth no preimage, and the locktime brings the rest.
#[tokio::test]
async fn restored_payer_waits_for_what_only_a_receipt_says_it_has_shown() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = with_short_lock(mode).await;
        pair.open(0, 10).await;
        pair.tick(1).await;
        let backup = pair.payer.records(purse(0));
        pair.ticks(2..=4).await;
        pair.settle().await;
        pair.payer.put_back(purse(0), &backup);
        pair.payer.restart(&[purse(0)]).await;
        let acked = pair.acked_request(4, 4);
        assert_eq!(pair.payer.ask(purse(0), acked).await, None);
        let next = pair.pay_request(5, 5);
        assert_eq!(pair.payer.ask(purse(0), next).await, EMPTY, "{mode:?}");
        pair.show_note().await;
        is_after_the_locktime(&mut pair);
        assert_eq!(pair.release().await, 30, "{mode:?}");
    }
}

/// The payer's process began anew with all its records. Its payee signs a receipt for the whole purse, and
/// asks for the preimage that would be worth it.
#[tokio::test]
async fn payee_that_overclaims_after_a_plain_restart_is_shown_no_preimage_for_it() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = with_short_lock(mode).await;
        pair.open(0, 10).await;
        let backup = pair.payee.records(purse(0));
        pair.ticks(1..=2).await;
        pair.payer.restart(&[purse(0)]).await;
        let acked = pair.acked_request(10, 10);
        assert_eq!(pair.payer.ask(purse(0), acked).await, None);
        pair.payee.put_back(purse(0), &backup);
        pair.payee.restart(&[purse(0)]).await;
        let settle = pair.settle_request(10);
        pair.payee.ask(purse(0), settle).await;
        pair.show_note().await;
        assert_eq!(pair.payer.notes.get(&purse(0)), None, "{mode:?}");
        is_after_the_locktime(&mut pair);
        assert_eq!(pair.release().await, 40, "{mode:?}: all that was not paid");
    }
}

/// A tick shows all that is below it.
#[tokio::test]
async fn payee_that_overclaims_after_a_plain_restart_is_paid_no_tick_above_it() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.ticks(1..=2).await;
        pair.payer.restart(&[purse(0)]).await;
        let acked = pair.acked_request(6, 6);
        assert_eq!(pair.payer.ask(purse(0), acked).await, None);
        let next = pair.pay_request(7, 7);
        assert_eq!(pair.payer.ask(purse(0), next).await, EMPTY, "{mode:?}");
        // What was not paid is signed over as ever.
        pair.settle().await;
        pair.show_note().await;
        assert_eq!(pair.release().await, 40, "{mode:?}");
    }
}

#[tokio::test]
async fn acknowledgement_of_a_purse_that_nobody_knows_changes_nothing() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let acked = pair.acked_request(1, 1);
        assert_eq!(pair.payer.ask(purse(9), acked).await, None, "{mode:?}");
    }
}

/// The payee that was lost had signed the rest over.
#[tokio::test]
async fn payer_gains_a_tick_at_most_from_a_release_that_a_restored_payee_forgot() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    let mut kept = Vec::new();
    for step in 3..=6 {
        kept.push(pair.paid(step, step).await);
    }
    // Of what was shown nothing reached the payee.
    pair.settle().await;
    pair.show_note().await;
    let mut policy = pair.payee.policy;
    policy.restored = Some(pair.payee.now.unix);
    pair.payee.set_policy(policy);
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let third = pair.receive_request(3, 3, kept[0].clone());
    // First what is open is redeemed.
    assert_eq!(pair.payee.ask(purse(0), third.clone()).await, TRANSIENT);
    assert_eq!(pair.payee.spendable().await, 10);
    let got = pair.payee.ask(purse(0), third).await;
    assert_eq!(got, Some(Outcome::Credited));
    assert_eq!(pair.payee.spendable().await, 15, "redeemed at once");
    // Now the payer takes all that is left.
    assert_eq!(pair.release().await, 35);
    let fourth = pair.receive_request(4, 4, kept[1].clone());
    pair.payee.ask(purse(0), fourth).await;
    let fifth = pair.receive_request(5, 5, kept[2].clone());
    let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    let got = pair.payee.ask(purse(0), fifth).await;
    assert_eq!(got, Some(Outcome::Failed(spent)));
    assert_eq!(pair.payee.troubles, [spent], "its user hears of it");
    pair.credited = 4;
    assert_eq!(pair.settle().await, 15);
}

/// A tick by itself would go to the mint, which takes a whole satoshi a swap.
#[tokio::test]
async fn restored_payee_redeems_no_tick_that_its_fee_would_eat() {
    let mut pair = Pair::opened(true, 100, 500, 1, 40).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    let mut policy = pair.payee.policy;
    policy.restored = Some(pair.payee.now.unix);
    pair.payee.set_policy(policy);
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    for (step, spendable) in [(3, 0), (4, 3), (5, 3), (7, 3), (8, 6), (11, 6), (12, 9)] {
        while pair.credited < step {
            pair.ticks(pair.credited + 1..=pair.credited + 1).await;
        }
        assert_eq!(pair.payee.spendable().await, spendable, "{step}");
    }
    assert_eq!(pair.settle().await, 9);
}

/// A step was shown and not acknowledged, and its release comes while the way back has begun.
#[tokio::test]
async fn release_that_comes_during_a_refund_does_not_hold_it_up() {
    let mut pair = with_short_lock(true).await;
    pair.open(0, 10).await;
    pair.ticks(1..=2).await;
    let third = pair.paid(3, 3).await;
    let request = pair.receive_request(3, 3, third);
    pair.payee.ask(purse(0), request).await;
    assert_eq!(pair.settle().await, 15);
    is_after_the_locktime(&mut pair);
    // The payer knows the mint's time, and is told of the release as it begins.
    let bytes = pair.payee.notes.get(&purse(0)).cloned().unwrap();
    let (now, payer) = (pair.payer.now, &mut pair.payer.machine);
    let id = RequestId(1);
    let mut offered = payer.request(now, purse(0), id, Request::Note { bytes });
    let mut begun = payer.request(now, purse(0), id, Request::Release);
    pair.mint.fail("swap", Fault::Away);
    let runner = pair.payer.runner();
    let failed = runner.run(begun.effects.remove(0)).await;
    let checked = runner.run(offered.effects.remove(0)).await;
    for done in [failed, checked] {
        pair.payer.machine.effect_done(now, done);
    }
    assert_eq!(pair.release().await, 35);
    assert_eq!(pair.payer.spendable().await, 485);
}

#[tokio::test]
async fn ecash_that_no_payee_can_check_comes_home() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = with_short_lock(mode).await;
        pair.mint.without_dleq();
        let opening = pair.offered(0, 10).await;
        let request = pair.accept_request(opening);
        let code = match mode {
            Mode::Chain => RefusalCode::BadProof,
            _ => RefusalCode::Malformed,
        };
        let refused = BackendError::Rejected(code, Consumed::No);
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, Some(Outcome::Failed(refused)), "{mode:?}");
        assert_eq!(pair.payer.ask(purse(0), Request::Release).await, TRANSIENT);
        pair.payer.restart(&[purse(0)]).await;
        is_after_the_locktime(&mut pair);
        assert_eq!(pair.release().await, 50, "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 500, "{mode:?}");
    }
}
