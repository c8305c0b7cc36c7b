//! A purse of locked ecash from its opening to its end.

use streampay_cashu::LockedMachine;
use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::units::Seq;

use crate::mint::{Fault, URL};
use crate::node::{Mode, Pair, purse, receiver, sat};

fn refused(code: RefusalCode) -> Option<Outcome> {
    let error = BackendError::Rejected(code, Consumed::No);
    Some(Outcome::Failed(error))
}

#[tokio::test]
async fn chain_pays_redeems_and_gives_back_the_rest() {
    for (ppk, tick) in [(0, 1), (0, 10), (100, 10)] {
        let mut pair = Pair::opened(true, ppk, 1_000, tick, 20).await;
        let before = pair.mint.calls();
        pair.ticks(1..=13).await;
        assert_eq!(pair.mint.calls(), before, "a tick asks the mint nothing");
        let settled = pair.settle().await;
        assert_eq!(settled, pair.payee.spendable().await);
        assert_eq!(pair.show_note().await, None);
        let refunded = pair.release().await;
        let payer = pair.payer.spendable().await;
        if ppk == 0 {
            assert_eq!(settled, 13 * tick);
            assert_eq!(refunded, 7 * tick);
            assert_eq!(payer + settled, 1_000);
        }
        assert!(
            settled <= 13 * tick && settled + 3 >= 13 * tick,
            "{settled}"
        );
        assert!(payer + settled <= 1_000, "{payer} {settled}");
        assert!(payer + settled + 12 >= 1_000, "{payer} {settled}");
    }
}

#[tokio::test]
async fn p2pk_pays_redeems_and_gives_back_the_rest() {
    let mut pair = Pair::opened(false, 0, 1_000, 10, 5).await;
    let before = pair.mint.calls();
    pair.ticks(1..=2).await;
    assert_eq!(pair.mint.calls(), before);
    assert_eq!(pair.settle().await, 20);
    assert_eq!(pair.show_note().await, None);
    assert_eq!(pair.release().await, 30);
    assert_eq!(pair.payer.spendable().await, 980);
}

#[tokio::test]
async fn refund_after_the_locktime_needs_nobody() {
    for chain in [true, false] {
        let mut pair = Pair::new(chain, 0, 1_000, 8).await;
        // The mint says that it is three hours ago; it enforces the real time.
        pair.mint.set_skew(-3 * 3600);
        pair.params = pair.params.clone().with_lock(2 * 3600, 600).unwrap();
        pair.open(0, 10).await;
        pair.ticks(1..=4).await;
        let too_early = pair.payer.ask(purse(0), Request::Release).await;
        let later = Some(Outcome::Failed(BackendError::Transient));
        assert_eq!(too_early, later.clone());
        assert_eq!(pair.payer.wake(purse(0)).await, None, "not yet");
        // A restart while the lock holds ends nothing.
        assert_eq!(pair.payer.restart(&[purse(0)]).await, None);
        let too_early = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(too_early, later);
        pair.mint.set_skew(0);
        pair.payer.after_s(3 * 3600);
        let back = pair.payer.wake(purse(0)).await;
        let refunded = sat(6 * 8);
        assert_eq!(back, Some(Outcome::Released { refunded }));
        // What was acknowledged is still the payee's.
        assert_eq!(pair.settle().await, 4 * 8);
        assert_eq!(pair.payer.spendable().await, 1_000 - 32);
    }
}

#[tokio::test]
async fn forged_and_old_preimages_are_refused() {
    let mut pair = Pair::opened(true, 0, 500, 3, 10).await;
    pair.ticks(1..=3).await;
    let old = pair.paid(4, 2).await;
    let cases = [
        (bytes::Bytes::from(vec![1; 32]), RefusalCode::BadProof),
        (bytes::Bytes::from(vec![1; 31]), RefusalCode::Malformed),
        (bytes::Bytes::new(), RefusalCode::Malformed),
        (old, RefusalCode::BadProof),
    ];
    for (payload, code) in cases {
        let request = pair.receive_request(4, 4, payload);
        assert_eq!(pair.payee.ask(purse(0), request).await, refused(code));
    }
    let payload = pair.paid(4, 4).await;
    let request = pair.receive_request(4, 5, payload);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::WrongAmount));
}

#[tokio::test]
async fn newest_preimage_heals_lost_ticks() {
    let mut pair = Pair::opened(true, 0, 500, 3, 10).await;
    pair.tick(1).await;
    for seq in 2..=4 {
        pair.paid(seq, seq).await;
    }
    let payload = pair.paid(5, 5).await;
    let request = Request::Receive {
        seq: Seq(5),
        amount: sat(12),
        cumulative: sat(15),
        payload,
    };
    let credited = pair.payee.ask(purse(0), request.clone()).await;
    assert_eq!(credited, Some(Outcome::Credited));
    assert_eq!(pair.payee.ask(purse(0), request).await, credited, "replay");
    assert_eq!(pair.settle().await, 15);
}

#[tokio::test]
async fn long_stream_is_redeemed_in_batches() {
    let mut pair = Pair::opened(true, 100, 1_000, 2, 200).await;
    pair.ticks(1..=63).await;
    assert_eq!(pair.payee.spendable().await, 0);
    let swaps = pair.mint.calls_of("swap");
    pair.ticks(64..=64).await;
    assert_eq!(pair.mint.calls_of("swap"), swaps + 1);
    // 60 of 64, for the fee of 60 inputs at 100 ppk is whole.
    assert_eq!(pair.payee.spendable().await, 120 - 6);
    pair.ticks(65..=200).await;
    assert_eq!(pair.settle().await, 400 - 20);
}

#[tokio::test]
async fn payee_redeems_early_at_its_limit_of_what_may_be_open() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let mut policy = pair.payee.policy;
    policy.exposure = sat(40);
    pair.payee.set_policy(policy);
    pair.open(0, 20).await;
    pair.ticks(1..=3).await;
    assert_eq!(pair.payee.spendable().await, 0);
    pair.tick(4).await;
    assert_eq!(pair.payee.spendable().await, 20);
    pair.ticks(5..=7).await;
    assert_eq!(pair.payee.spendable().await, 20);
}

/// A mint that is trusted with less, or with more.
#[tokio::test]
async fn limit_of_what_may_be_open_is_each_mints_own() {
    for (mint, early) in [(URL, false), ("https://other.example", true)] {
        let mut pair = Pair::new(true, 0, 500, 5).await;
        let mut policy = pair.payee.policy;
        policy.exposure = sat(20);
        let chain = LockedMachine::chain(policy, Some(receiver()));
        let machine = chain.with_exposure_at(mint, sat(40));
        pair.payee.set_machine(machine);
        pair.open(0, 20).await;
        pair.tick(1).await;
        for (seq, home) in [(2, 10), (3, 10), (4, 20)] {
            pair.tick(seq).await;
            let other = if seq < 4 { 0 } else { 20 };
            let expect = if early { home } else { other };
            assert_eq!(pair.payee.spendable().await, expect, "{mint} {seq}");
        }
    }
}

#[tokio::test]
async fn any_tick_is_made_of_the_mints_denominations() {
    for tick in [1, 3, 7, 10, 100, 1_023] {
        let mut pair = Pair::opened(true, 0, 5_000, tick, 4).await;
        pair.ticks(1..=3).await;
        assert_eq!(pair.settle().await, 3 * tick, "{tick}");
        pair.show_note().await;
        assert_eq!(pair.release().await, tick, "{tick}");
    }
}

#[tokio::test]
async fn p2pk_proofs_are_checked_and_taken_once_and_in_turn() {
    let mut pair = Pair::opened(false, 0, 500, 10, 5).await;
    let first = pair.paid(1, 1).await;
    let second = pair.paid(2, 2).await;
    let mut forged = first.to_vec();
    // The mint's proof of its signature.
    forged[40] ^= 1;
    let cases = [
        (second.clone(), RefusalCode::BadProof),
        (forged.into(), RefusalCode::BadProof),
        (first.slice(1..), RefusalCode::Malformed),
        (bytes::Bytes::new(), RefusalCode::Malformed),
    ];
    for (payload, code) in cases {
        let request = pair.receive_request(1, 1, payload);
        assert_eq!(pair.payee.ask(purse(0), request).await, refused(code));
    }
    let request = pair.receive_request(1, 1, first.clone());
    for _ in 0..2 {
        let got = pair.payee.ask(purse(0), request.clone()).await;
        assert_eq!(got, Some(Outcome::Credited));
    }
    let again = pair.receive_request(2, 2, first);
    let got = pair.payee.ask(purse(0), again).await;
    assert_eq!(got, refused(RefusalCode::BadProof));
    let backup = pair.payee.records(purse(0));
    let request = pair.receive_request(2, 2, second);
    let got = pair.payee.ask(purse(0), request.clone()).await;
    assert_eq!(got, Some(Outcome::Credited));
    assert_eq!(pair.settle().await, 20);
    // Restored from a backup it does not take the same money twice.
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let got = pair.payee.ask(purse(0), request).await;
    let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    assert_eq!(got, Some(Outcome::Failed(spent)));
    // It ends with what it knows, and nothing is in its way.
    assert_eq!(pair.settle().await, 20);
    pair.show_note().await;
    assert_eq!(pair.release().await, 30);
}

#[tokio::test]
async fn limit_of_what_may_be_open_is_over_all_purses_at_a_mint() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let mut policy = pair.payee.policy;
    policy.exposure = sat(50);
    pair.payee.set_policy(policy);
    pair.open(0, 10).await;
    pair.open(1, 10).await;
    for (of, step) in [(1, 1), (1, 2), (0, 1), (0, 2)] {
        let request = pair.pay_request(step, step);
        let Some(Outcome::Paid { payload }) = pair.payer.ask(purse(of), request).await else {
            panic!("not paid");
        };
        let request = pair.receive_request(step, step, payload);
        let got = pair.payee.ask(purse(of), request).await;
        assert_eq!(got, Some(Outcome::Credited));
    }
    assert_eq!(pair.payee.spendable().await, 0, "20 are open");
    pair.tick(3).await;
    assert_eq!(
        pair.payee.spendable().await,
        15,
        "25 were: this purse redeems"
    );
    pair.payee.restart(&[purse(0), purse(1)]).await;
    pair.ticks(4..=5).await;
    assert_eq!(pair.payee.spendable().await, 15, "20 are open");
    pair.tick(6).await;
    assert_eq!(pair.payee.spendable().await, 30);
}

/// A node has a machine for each method.
#[tokio::test]
async fn what_is_open_at_a_mint_is_counted_over_both_methods() {
    let [mut chain, mut p2pk] = [
        Pair::new(true, 0, 500, 5).await,
        Pair::new(false, 0, 500, 5).await,
    ];
    let mut policy = chain.payee.policy;
    policy.exposure = sat(20);
    let one = LockedMachine::chain(policy, Some(receiver()));
    p2pk.payee
        .set_machine(LockedMachine::p2pk(policy, Some(receiver())).beside(&one));
    chain.payee.set_machine(one);
    chain.open(0, 10).await;
    p2pk.open(0, 10).await;
    chain.tick(1).await;
    assert_eq!(chain.payee.spendable().await, 0, "5 are open");
    p2pk.tick(1).await;
    assert_eq!(p2pk.payee.spendable().await, 5, "half of it: redeemed");
    p2pk.tick(2).await;
    assert_eq!(p2pk.payee.spendable().await, 10);
}

#[tokio::test]
async fn beyond_the_limit_nothing_is_credited_while_the_mint_is_away() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let mut policy = pair.payee.policy;
    policy.exposure = sat(20);
    pair.payee.set_policy(policy);
    pair.open(0, 20).await;
    for _ in 0..20 {
        pair.mint.fail("swap", Fault::Away);
        pair.mint.fail("restore", Fault::Away);
    }
    // It is redeemed from the second on, in vain.
    pair.ticks(1..=4).await;
    let payload = pair.paid(5, 5).await;
    let request = pair.receive_request(5, 5, payload);
    let later = Some(Outcome::Failed(BackendError::Transient));
    assert_eq!(pair.payee.ask(purse(0), request.clone()).await, later);
    pair.mint.heal();
    pair.payee.after_s(60);
    assert_eq!(pair.payee.wake(purse(0)).await, None);
    assert_eq!(pair.payee.spendable().await, 20);
    let credited = pair.payee.ask(purse(0), request).await;
    assert_eq!(credited, Some(Outcome::Credited));
    assert_eq!(pair.settle().await, 25);
}

/// What a user is told whose session ended before its purse had opened, and after.
#[tokio::test]
async fn payer_knows_from_its_records_until_when_a_purse_is_locked() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        let opened = pair.payee.now.unix.0;
        let of = |pair: &Pair| LockedMachine::lock_of(&pair.payer.records(purse(0)));
        let lock = of(&pair).unwrap();
        let until = lock.until.0 - opened;
        assert!((14_390..=14_410).contains(&until), "{mode:?}: {until}");
        assert!(lock.is_made, "{mode:?}");
        let payee = pair.payee.records(purse(0));
        assert_eq!(LockedMachine::lock_of(&payee), None, "{mode:?}");
        pair.settle().await;
        pair.show_note().await;
        pair.release().await;
        assert_eq!(of(&pair), None, "{mode:?}: all is home");
    }
}

/// What a user is told who does not serve.
#[tokio::test]
async fn payee_knows_from_its_records_until_when_it_must_redeem() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        let opened = pair.payee.now.unix.0;
        let by = |pair: &Pair| LockedMachine::redeem_by(&pair.payee.records(purse(0)));
        assert_eq!(by(&pair), None, "{mode:?}: nothing is paid");
        pair.ticks(1..=3).await;
        let until = by(&pair).unwrap().0 - opened;
        assert!((14_390..=14_410).contains(&until), "{mode:?}: {until}");
        let payer = pair.payer.records(purse(0));
        assert_eq!(LockedMachine::redeem_by(&payer), None, "{mode:?}");
        pair.settle().await;
        assert_eq!(by(&pair), None, "{mode:?}: all is home");
    }
}
