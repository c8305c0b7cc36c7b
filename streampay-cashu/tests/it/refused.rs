//! Openings that a payee does not take: what they cost it, and how they come home.

use cdk::nuts::CurrencyUnit;
use streampay_cashu::{AcceptedMint, LockedParams};
use streampay_core::backend::{Answer, BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::units::RequestId;

use crate::mint::Fault;
use crate::node::{Mode, Pair, purse, receiver};

fn refused(code: RefusalCode) -> Option<Outcome> {
    let error = BackendError::Rejected(code, Consumed::No);
    Some(Outcome::Failed(error))
}

#[tokio::test]
async fn opening_that_is_refused_comes_home_at_once() {
    for code in [
        RefusalCode::WrongAmount,
        RefusalCode::WrongLock,
        RefusalCode::FeeTooHigh,
    ] {
        let mut pair = Pair::new(true, 100, 500, 5).await;
        let opening = pair.offered(0, 20).await;
        match code {
            RefusalCode::WrongAmount => pair.tick = 6,
            RefusalCode::WrongLock => {
                pair.payee = crate::node::Node::new(&pair.mint, false, 2, 0).await;
            }
            _ => pair.params = pair.params.clone().with_max_fee_ppk(99),
        }
        pair.payee.knows_the_keys().await;
        let before = pair.mint.calls();
        let request = pair.accept_request(opening);
        assert_eq!(pair.payee.ask(purse(0), request).await, refused(code));
        assert_eq!(pair.mint.calls(), before, "{code}: no question to the mint");
        assert_eq!(pair.show_note().await, None);
        // Not the hours of the locktime later.
        let refunded = pair.release().await;
        assert_eq!(
            refunded,
            100 - 4,
            "{code}: all of it, less the fee of 40 proofs"
        );
        assert_eq!(pair.payee.spendable().await, 0);
    }
}

#[tokio::test]
async fn opening_that_could_not_be_checked_is_checked_again_or_comes_home() {
    for closes in [true, false] {
        let mut pair = Pair::new(true, 0, 500, 5).await;
        let opening = pair.offered(0, 20).await;
        pair.mint.fail("state", Fault::Away);
        let request = pair.accept_request(opening);
        let away = Some(Outcome::Failed(BackendError::Transient));
        assert_eq!(pair.payee.ask(purse(0), request.clone()).await, away);
        if closes {
            assert_eq!(pair.settle().await, 0);
            assert_eq!(pair.show_note().await, None);
            assert_eq!(pair.release().await, 100);
        } else {
            let accepted = pair.payee.ask(purse(0), request).await;
            assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
            pair.ticks(1..=2).await;
            assert_eq!(pair.settle().await, 10);
        }
    }
}

/// Nobody is asked for the keys of a mint that the terms do not name: its proofs are not known to be
/// money.
#[tokio::test]
async fn opening_of_another_mint_is_refused_without_a_question_or_a_signature() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let opening = pair.offered(0, 20).await;
    let mint = AcceptedMint::sat("https://other.example").unwrap();
    pair.params = LockedParams::new(vec![mint], receiver().public()).unwrap();
    let before = pair.mint.calls();
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::WrongMint));
    assert_eq!(pair.mint.calls(), before);
    assert!(pair.payee.notes.is_empty());
}

/// A stranger's junk costs no call to the mint and no signature, and leaves nothing on disk.
#[tokio::test]
async fn forged_opening_is_refused_without_a_question_or_a_signature() {
    // Another tick, which is seen first; and none.
    for (other_tick, code) in [
        (Some(6), RefusalCode::WrongAmount),
        (None, RefusalCode::BadProof),
    ] {
        let mut pair = Pair::new(true, 0, 500, 5).await;
        let mut opening = pair.offered(0, 20).await.to_vec();
        // The last byte of the last proof's DLEQ.
        *opening.last_mut().unwrap() ^= 1;
        pair.tick = other_tick.unwrap_or(pair.tick);
        pair.payee.knows_the_keys().await;
        let before = pair.mint.calls();
        let request = pair.accept_request(opening.into());
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, refused(code));
        assert_eq!(pair.mint.calls(), before, "no question to the mint");
        assert!(pair.payee.notes.is_empty(), "nothing is signed over");
        assert!(pair.payee.records(purse(0)).is_empty());
    }
}

/// A payee that dies after it refused, and before what it signed is out, signs it again.
#[tokio::test]
async fn refused_opening_is_signed_over_after_a_restart() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let opening = pair.offered(0, 20).await;
    pair.tick = 6;
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::WrongAmount));
    let said = pair.payee.notes.remove(&purse(0)).unwrap();
    pair.payee.restart(&[purse(0)]).await;
    let again = pair.payee.notes.get(&purse(0)).cloned().unwrap();
    assert_eq!(again.len(), said.len());
    pair.show_note().await;
    assert_eq!(pair.release().await, 100);
    assert_eq!(pair.payer.spendable().await, 500);
    // What is settled of it is nothing, and once its locks give way it is forgotten.
    assert_eq!(pair.settle().await, 0);
    assert!(!pair.payee.records(purse(0)).is_empty());
    pair.payee.after_s(5 * 3_600);
    assert_eq!(pair.payee.wake(purse(0)).await, None);
    assert!(pair.payee.records(purse(0)).is_empty());
}

/// Before a tick of `cashu-p2pk` nothing shows that there is any money: its payer waits.
#[tokio::test]
async fn refused_opening_without_proofs_is_not_signed_over() {
    let mut pair = Pair::new(Mode::P2pk, 0, 500, 5).await;
    let opening = pair.offered(0, 20).await;
    pair.tick = 6;
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::WrongAmount));
    assert!(pair.payee.notes.is_empty());
    let later = Some(Outcome::Failed(BackendError::Transient));
    assert_eq!(pair.payer.ask(purse(0), Request::Release).await, later);
}

/// A payee that has lost its store, and a payer that shows it secrets that were used before.
#[tokio::test]
async fn secrets_that_were_used_before_open_nothing() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let opening = pair.offered(0, 20).await;
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request.clone()).await;
        let accepted = matches!(got, Some(Outcome::Accepted { .. }));
        assert!(accepted, "{mode:?}: {got:?}");
        pair.ticks(1..=3).await;
        assert_eq!(pair.settle().await, 15, "{mode:?}");
        pair.payee = crate::node::Node::new(&pair.mint, mode, 3, 0).await;
        let got = pair.payee.ask(purse(0), request).await;
        let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
        assert_eq!(got, Some(Outcome::Failed(spent)), "{mode:?}");
        let notes = &pair.payee.notes;
        assert!(notes.is_empty(), "{mode:?}: nor is it signed over again");
    }
}

#[tokio::test]
async fn keyset_that_ends_too_early_is_not_used() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let ends = cdk::util::unix_time() + 6 * 3_600;
    let amounts = (0..20).map(|bit| 1 << bit).collect();
    let unit = CurrencyUnit::Sat;
    let rotated = pair
        .mint
        .mint
        .rotate_keyset(unit, amounts, 0, true, Some(ends));
    rotated.await.unwrap();
    let wallet = pair.payer.purses.wallet.clone();
    wallet
        .keysets(cdk::wallet::types::KeysetLoadPolicy::Refresh)
        .await
        .unwrap();
    let request = pair.open_request(10);
    let got = pair.payer.ask(purse(0), request).await;
    let unfit = BackendError::Fatal(RefusalCode::NoCommonMethod);
    assert_eq!(got, Some(Outcome::Failed(unfit)));
    assert_eq!(
        pair.payer.spendable().await,
        500,
        "what was reserved is back"
    );
}

/// Ids of version 1 do not say when a keyset ends.
#[tokio::test]
async fn opening_in_keys_that_end_too_early_is_refused_and_comes_home() {
    // After the locktime, and before it: then the locktime would be too late for the payer.
    for hours in [6, 3] {
        let mut pair = Pair::new(true, 0, 500, 5).await;
        let amounts = (0..20).map(|bit| 1 << bit).collect();
        let unit = CurrencyUnit::Sat;
        let rotated = pair.mint.mint.rotate_keyset(unit, amounts, 0, false, None);
        rotated.await.unwrap();
        pair.payer.knows_the_keys().await;
        let opening = pair.offered(0, 10).await;
        // The payee asks later, and hears of an end.
        pair.mint.ends(cdk::util::unix_time() + hours * 3_600);
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, refused(RefusalCode::UnknownKeyset), "{hours}");
        assert_eq!(pair.show_note().await, None);
        assert_eq!(pair.release().await, 50, "{hours}");
        assert_eq!(pair.payer.spendable().await, 500);
    }
}

/// Each takes a look at the mint and a few hundred signature checks.
#[tokio::test]
async fn no_more_openings_are_checked_at_once_than_the_policy_has() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let most = u32::try_from(pair.payee.policy.checking_max).unwrap();
        assert_eq!(most, 16);
        let mut requests = Vec::new();
        for of in 0..=most {
            let opening = pair.offered(of, 1).await;
            requests.push(pair.accept_request(opening));
        }
        let (now, runner) = (pair.payee.now, pair.payee.runner());
        let machine = &mut pair.payee.machine;
        let mut asked = |of: u32| {
            let request = requests[usize::try_from(of).unwrap()].clone();
            machine.request(now, purse(of), RequestId(1), request)
        };
        let mut begun: Vec<_> = (0..most).map(&mut asked).collect();
        for answer in &begun {
            assert_eq!(answer.outcome, None, "{mode:?}");
            assert!(!answer.effects.is_empty(), "{mode:?}");
        }
        let late = asked(most);
        let transient = Some(Outcome::Failed(BackendError::Transient));
        assert_eq!(late.outcome, transient, "{mode:?}");
        assert!(late.effects.is_empty(), "nothing is looked at");
        // One of them ends: there is room for another, and for no third.
        let mut next = begun.remove(0);
        while next.outcome.is_none() {
            let done = runner.run(next.effects.remove(0)).await;
            next = machine.effect_done(now, done);
        }
        let accepted = |answer: &Answer| matches!(answer.outcome, Some(Outcome::Accepted { .. }));
        assert!(accepted(&next), "{mode:?}: {:?}", next.outcome);
        let mut asked =
            |of: u32, request: Request| machine.request(now, purse(of), RequestId(1), request);
        let last = requests.last().unwrap().clone();
        let mut answer = asked(most, last.clone());
        assert_eq!(answer.outcome, None, "{mode:?}");
        assert_eq!(asked(most + 1, last).outcome, transient, "{mode:?}");
        while answer.outcome.is_none() {
            let done = runner.run(answer.effects.remove(0)).await;
            answer = machine.effect_done(now, done);
        }
        assert!(accepted(&answer), "{mode:?}: {:?}", answer.outcome);
    }
}
