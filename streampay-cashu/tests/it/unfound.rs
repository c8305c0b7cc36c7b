//! A payee that begins anew at a mint that cannot say what it has signed (NUT-09), or says what is not so.

use streampay_cashu::CallBudget;
use streampay_core::backend::{BackendError, Outcome, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::units::RequestId;

use crate::mint::{Fault, Purseless};
use crate::node::{Mode, Pair, purse, sat};

const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));
/// From the opening to the margin, in seconds.
const USABLE_S: u64 = 4 * 3_600 - 1_800;

/// Five steps of 5 are credited, two of them after a restart.
async fn restarted(mode: Mode) -> Pair {
    let mut pair = Pair::opened(mode, 0, 500, 5, 20).await;
    pair.ticks(1..=3).await;
    pair.payee.restart(&[purse(0)]).await;
    for _ in 0..500 {
        pair.mint.fail("restore", Fault::Away);
    }
    pair.ticks(4..=5).await;
    pair
}

#[tokio::test]
async fn payee_redeems_in_the_margin_though_the_mint_cannot_say_what_it_signed() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for fault in [Fault::Fine, Fault::Away, Fault::TooMany] {
            let mut pair = restarted(mode).await;
            let backup = pair.payee.records(purse(0));
            pair.payee.after_s(USABLE_S + 2);
            pair.mint.fail("swap", fault);
            for _ in 0..2 {
                assert_eq!(pair.payee.wake(purse(0)).await, None);
                pair.payee.after_s(60);
            }
            assert_eq!(pair.payee.spendable().await, 25, "{mode:?} {fault:?}");
            // It is not settled before the mint has said what else there is.
            let settle = pair.settle_request(5);
            let settled = pair.payee.ask(purse(0), settle).await;
            assert_eq!(settled, TRANSIENT, "{mode:?} {fault:?}");
            pair.mint.heal();
            assert_eq!(pair.settle().await, 25, "{mode:?} {fault:?}");
            // What was redeemed blindly is found by one that does not know of it.
            pair.payee.purses = Purseless::new(&pair.mint, 2, 0).await;
            pair.payee.put_back(purse(0), &backup);
            pair.payee.restart(&[purse(0)]).await;
            assert_eq!(pair.settle().await, 25, "{mode:?} {fault:?}");
            assert_eq!(pair.payee.spendable().await, 25, "{mode:?} {fault:?}");
        }
    }
}

/// Nothing was paid since the restart, and its margin has come.
#[tokio::test]
async fn payee_that_begins_anew_in_the_margin_redeems_at_once() {
    let mut pair = Pair::opened(true, 0, 500, 5, 20).await;
    pair.ticks(1..=3).await;
    pair.payee.restart(&[purse(0)]).await;
    pair.mint.fail("restore", Fault::Away);
    pair.mint.set_skew(i64::try_from(USABLE_S + 10).unwrap());
    assert_eq!(pair.payee.wake(purse(0)).await, None);
    assert_eq!(pair.payee.spendable().await, 15);
}

#[tokio::test]
async fn no_more_is_credited_than_one_batch_until_the_mint_says_what_it_signed() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = restarted(mode).await;
        let mut policy = pair.payee.policy;
        policy.redeem_ticks = 8;
        pair.payee.set_policy(policy);
        pair.payee.restart(&[purse(0)]).await;
        pair.ticks(6..=8).await;
        let payload = pair.paid(9, 9).await;
        let request = pair.receive_request(9, 9, payload);
        let got = pair.payee.ask(purse(0), request.clone()).await;
        assert_eq!(got, TRANSIENT, "{mode:?}");
        // However often that is asked for.
        let asked = pair.mint.calls_of("restore");
        let got = pair.payee.ask(purse(0), request.clone()).await;
        assert_eq!(got, TRANSIENT, "{mode:?}");
        assert_eq!(pair.mint.calls_of("restore"), asked, "{mode:?}");
        pair.mint.heal();
        pair.payee.after_s(31);
        pair.payee.ask(purse(0), request.clone()).await;
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, Some(Outcome::Credited), "{mode:?}");
        assert_eq!(pair.payee.spendable().await, 40, "{mode:?}");
        pair.credited = 9;
        assert_eq!(pair.settle().await, 45, "{mode:?}");
    }
}

/// It restores the outputs of that batch, which are not to be found beside it: they would be counted twice.
#[tokio::test]
async fn nothing_is_looked_for_while_a_batch_is_under_way() {
    let mut pair = Pair::new(Mode::Chain, 0, 500, 5).await;
    let mut policy = pair.payee.policy;
    policy.redeem_ticks = 3;
    pair.payee.set_policy(policy);
    pair.open(0, 20).await;
    pair.ticks(1..=2).await;
    pair.mint.fail("swap", Fault::Away);
    pair.tick(3).await;
    // It begins anew with its batch, and that takes its time.
    let (now, records) = (pair.payee.now, pair.payee.records(purse(0)));
    pair.payee.set_policy(policy);
    let restored = pair.payee.machine.restore(now, purse(0), records);
    assert_eq!(restored.effects.len(), 1, "the batch");
    let payload = pair.paid(4, 4).await;
    let request = pair.receive_request(4, 4, payload);
    let machine = &mut pair.payee.machine;
    let answer = machine.request(now, purse(0), RequestId(1), request);
    assert_eq!(answer.outcome, TRANSIENT);
    assert!(answer.effects.is_empty());
}

/// The payer's refund: what is left of its purse comes home though the mint cannot say what it has signed.
#[tokio::test]
async fn payer_comes_home_after_the_locktime_though_the_mint_cannot_say_what_it_signed() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for fault in [Fault::Fine, Fault::Away, Fault::TooMany] {
            let of = format!("{mode:?} {fault:?}");
            let mut pair = Pair::new(mode, 0, 500, 5).await;
            // The mint says that it is three hours ago; it enforces the real time.
            pair.mint.set_skew(-3 * 3_600);
            pair.params = pair.params.clone().with_lock(2 * 3_600, 600).unwrap();
            pair.open(0, 20).await;
            pair.ticks(1..=3).await;
            pair.payer.restart(&[purse(0)]).await;
            let backup = pair.payer.records(purse(0));
            for _ in 0..500 {
                pair.mint.fail("restore", Fault::Away);
            }
            let release = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(release, TRANSIENT, "{of}");
            pair.mint.set_skew(0);
            pair.payer.after_s(3 * 3_600);
            pair.mint.fail("swap", fault);
            for _ in 0..3 {
                pair.payer.wake(purse(0)).await;
                pair.payer.after_s(60);
            }
            assert_eq!(pair.payer.spendable().await, 485, "{of}");
            // It is not called home before the mint has said what else there is.
            let release = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(release, TRANSIENT, "{of}");
            pair.mint.heal();
            assert_eq!(pair.release().await, 85, "{of}");
            assert_eq!(pair.payer.spendable().await, 485, "{of}");
            // One that does not know of it finds it.
            pair.payer.purses = Purseless::new(&pair.mint, 1, 0).await;
            pair.payer.put_back(purse(0), &backup);
            pair.payer.restart(&[purse(0)]).await;
            assert_eq!(pair.release().await, 85, "{of}");
            assert_eq!(pair.payer.spendable().await, 85, "{of}");
        }
    }
}

/// As many purses as there are, and a budget for one call: redeeming is not counted, nor what comes
/// before it, and the time of the mint is asked for once.
#[tokio::test]
async fn purses_that_begin_anew_in_the_margin_are_all_redeemed_whatever_the_budget() {
    for at_once in [false, true] {
        let mut pair = Pair::new(true, 0, 500, 5).await;
        let keys: Vec<_> = (0..5).map(purse).collect();
        for of in 0..5 {
            pair.open(of, 4).await;
            let request = pair.pay_request(1, 1);
            let Some(Outcome::Paid { payload }) = pair.payer.ask(purse(of), request).await else {
                panic!("not paid");
            };
            let request = pair.receive_request(1, 1, payload);
            let got = pair.payee.ask(purse(of), request).await;
            assert_eq!(got, Some(Outcome::Credited));
        }
        pair.payee.budget = Some(CallBudget {
            per_minute: 1,
            burst: 1,
        });
        pair.payee.restart(&keys).await;
        let before = pair.mint.calls_of("info");
        pair.mint.set_skew(i64::try_from(USABLE_S + 10).unwrap());
        let (now, runner) = (pair.payee.now, pair.payee.runner());
        let machine = &mut pair.payee.machine;
        let mut waiting = Vec::new();
        for key in keys {
            waiting.extend(machine.wake(now, key).effects);
            if at_once {
                continue;
            }
            while let Some(effect) = waiting.pop() {
                waiting.extend(machine.effect_done(now, runner.run(effect).await).effects);
            }
        }
        while !waiting.is_empty() {
            let mut running = tokio::task::JoinSet::new();
            for effect in waiting.drain(..) {
                let runner = runner.clone();
                running.spawn(async move { runner.run(effect).await });
            }
            for done in running.join_all().await {
                waiting.extend(machine.effect_done(now, done).effects);
            }
        }
        assert_eq!(pair.payee.spendable().await, 25, "{at_once}");
        let asked = pair.mint.calls_of("info") - before;
        // Of those who ask at once some may end before others begin: this mint answers at once.
        assert!(asked == 1 || at_once && asked <= 5, "{at_once}: {asked}");
    }
}

/// Its disk is lost, with the wallet, and the mint does not own up to what it signed at first: no number of a
/// batch that was made is taken for another.
#[tokio::test]
async fn restored_payee_settles_though_the_mint_first_denies_what_it_signed() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for (lie, times) in [
            (Fault::Empty, 1),
            (Fault::Empty, 2),
            (Fault::Empty, 5),
            (Fault::IllSigned, 1),
            (Fault::IllSigned, 5),
        ] {
            let mut pair = Pair::new(mode, 0, 500, 5).await;
            let mut policy = pair.payee.policy;
            policy.redeem_ticks = 2;
            pair.payee.set_policy(policy);
            pair.open(0, 20).await;
            pair.tick(1).await;
            let backup = pair.payee.records(purse(0));
            pair.ticks(2..=6).await;
            assert_eq!(pair.payee.spendable().await, 30);
            pair.payee.purses = Purseless::new(&pair.mint, 2, 0).await;
            pair.payee.put_back(purse(0), &backup);
            pair.payee.restart(&[purse(0)]).await;
            for _ in 0..times {
                pair.mint.fail("restore", lie);
            }
            let settle = pair.settle_request(1);
            let mut got = None;
            for _ in 0..8 {
                got = pair.payee.ask(purse(0), settle.clone()).await;
                if matches!(got, Some(Outcome::Settled { .. })) {
                    break;
                }
            }
            let settled = sat(30);
            let label = format!("{mode:?} {lie:?} {times}");
            assert_eq!(got, Some(Outcome::Settled { settled }), "{label}");
            assert_eq!(pair.payee.spendable().await, 30, "{label}");
        }
    }
}

/// The record of a purse of which 774 batches were made: none is under way, and no number is left.
const USED_UP: [u8; 10] = [1, 0x86, 0, 0x80, 0x19, 0x03, 0x06, 0xf6, 0xf6, 0];

/// It says so before it is settled, and lets nobody pay more than one batch on top.
#[tokio::test]
async fn payee_whose_numbers_are_used_up_says_so_and_credits_no_more() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let mut policy = pair.payee.policy;
        policy.redeem_ticks = 4;
        pair.payee.set_policy(policy);
        pair.open(0, 20).await;
        pair.ticks(1..=2).await;
        let mut records = pair.payee.records(purse(0));
        records.push((b"d".to_vec(), USED_UP.to_vec()));
        pair.payee.put_back(purse(0), &records);
        pair.payee.restart(&[purse(0)]).await;
        pair.tick(3).await;
        assert_eq!(pair.payee.troubles, [], "{mode:?}");
        pair.tick(4).await;
        assert_eq!(pair.payee.troubles, [BackendError::Unknown], "{mode:?}");
        let payload = pair.paid(5, 5).await;
        let request = pair.receive_request(5, 5, payload);
        for _ in 0..2 {
            let got = pair.payee.ask(purse(0), request.clone()).await;
            assert_eq!(got, TRANSIENT, "{mode:?}");
            pair.payee.after_s(31);
        }
        assert_eq!(pair.payee.troubles.len(), 1, "{mode:?}: told once");
    }
}

/// A mint that had every batch made anew: none is left, and what is not home is not called so.
#[tokio::test]
async fn purse_whose_numbers_are_used_up_is_not_called_home() {
    let used_up = (b"d".to_vec(), USED_UP.to_vec());
    let unknown = Some(Outcome::Failed(BackendError::Unknown));
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        // The mint says that it is three hours ago; it enforces the real time.
        pair.mint.set_skew(-3 * 3_600);
        pair.params = pair.params.clone().with_lock(2 * 3_600, 600).unwrap();
        pair.open(0, 20).await;
        pair.ticks(1..=3).await;
        for node in [&mut pair.payer, &mut pair.payee] {
            let mut records = node.records(purse(0));
            records.retain(|(key, _)| *key != used_up.0);
            records.push(used_up.clone());
            node.put_back(purse(0), &records);
            node.restart(&[purse(0)]).await;
        }
        let settle = pair.settle_request(3);
        let settled = pair.payee.ask(purse(0), settle).await;
        assert_eq!(settled, unknown, "{mode:?}");
        pair.mint.set_skew(0);
        pair.payer.after_s(3 * 3_600);
        let released = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(released, unknown, "{mode:?}");
    }
}

/// It redeemed them itself, before its disk was lost.
#[tokio::test]
async fn restored_payee_whose_search_is_denied_is_not_told_of_a_thief() {
    for restored in [false, true] {
        let mut pair = Pair::new(Mode::Chain, 0, 500, 5).await;
        let mut policy = pair.payee.policy;
        policy.redeem_ticks = 2;
        pair.payee.set_policy(policy);
        pair.open(0, 20).await;
        pair.tick(1).await;
        let backup = pair.payee.records(purse(0));
        pair.tick(2).await;
        assert_eq!(pair.payee.spendable().await, 10);
        pair.payee.purses = Purseless::new(&pair.mint, 2, 0).await;
        pair.payee.put_back(purse(0), &backup);
        policy.restored = restored.then_some(pair.payee.now.unix);
        pair.payee.set_policy(policy);
        pair.payee.restart(&[purse(0)]).await;
        for _ in 0..64 {
            pair.mint.fail("restore", Fault::Empty);
        }
        let settle = pair.settle_request(1);
        pair.payee.ask(purse(0), settle).await;
        assert_eq!(pair.payee.troubles.len(), usize::from(!restored));
    }
}

/// Errors that take turns are each told once, until a batch is home.
#[tokio::test]
async fn trouble_of_a_batch_is_told_once_of_each_kind() {
    let mut pair = Pair::new(Mode::Chain, 0, 500, 5).await;
    let mut policy = pair.payee.policy;
    policy.redeem_ticks = 3;
    pair.payee.set_policy(policy);
    pair.open(0, 20).await;
    pair.ticks(1..=2).await;
    for at in 0..6 {
        let fault = [Fault::Away, Fault::Refused][at % 2];
        pair.mint.fail("swap", fault);
        match at {
            0 => pair.tick(3).await,
            _ => drop(pair.payee.wake(purse(0)).await),
        }
        pair.payee.after_s(31);
    }
    assert_eq!(pair.payee.troubles.len(), 2, "{:?}", pair.payee.troubles);
    assert_eq!(pair.payee.spendable().await, 0);
    pair.payee.wake(purse(0)).await;
    assert_eq!(pair.payee.spendable().await, 15);
}
