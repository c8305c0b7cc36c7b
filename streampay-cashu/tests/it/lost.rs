//! A mint that says once that it has signed nothing: what it has signed is not given up for that.

use cdk::nuts::CurrencyUnit;
use cdk::wallet::types::KeysetLoadPolicy;
use streampay_cashu::{LostFunding, purse_name};
use streampay_core::backend::{Answer, BackendError, Effect, Outcome, RefusalCode, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::store::Store;
use streampay_core::units::{RequestId, Unix};

use crate::mint::Fault;
use crate::node::{Mode, Node, Pair, purse, sat};

const UNKNOWN: Option<Outcome> = Some(Outcome::Failed(BackendError::Unknown));
const LOCK_S: u64 = 2 * 3_600;

/// What is durable of an answer.
fn write(node: &mut Node, answer: &mut Answer) {
    let delta = std::mem::take(&mut answer.delta);
    node.store.append(&[delta.within_purse(purse(0))]).unwrap();
}

/// A purse of ten ticks of 5 that is planned, and the effect that funds it.
async fn planned(mode: Mode) -> (Pair, Effect) {
    let mut pair = Pair::new(mode, 0, 500, 5).await;
    // The mint says that it is three hours ago; it enforces the real time.
    pair.mint.set_skew(-3 * 3_600);
    pair.params = pair.params.clone().with_lock(LOCK_S, 600).unwrap();
    let (now, runner) = (pair.payer.now, pair.payer.runner());
    let request = pair.open_request(10);
    let machine = &mut pair.payer.machine;
    let mut planning = machine.request(now, purse(0), RequestId(1), request);
    let planned = runner.run(planning.effects.remove(0)).await;
    let mut funding = machine.effect_done(now, planned);
    write(&mut pair.payer, &mut planning);
    write(&mut pair.payer, &mut funding);
    (pair, funding.effects.remove(0))
}

/// The same, whose funding the mint has made and the wallet knows of; the process died before its records
/// did.
async fn funded_and_died(mode: Mode) -> Pair {
    let (pair, fund) = planned(mode).await;
    pair.payer.runner().run(fund).await.result.unwrap();
    assert_eq!(pair.payer.spendable().await, 450);
    pair
}

async fn opens_and_comes_home(mut pair: Pair, of: &str) {
    let request = pair.open_request(10);
    let opened = pair.payer.ask(purse(0), request).await;
    assert!(
        matches!(opened, Some(Outcome::Opened(_))),
        "{of}: {opened:?}"
    );
    pair.mint.set_skew(0);
    pair.payer.after_s(3 * 3_600);
    assert_eq!(pair.release().await, 50, "{of}");
    assert_eq!(pair.payer.spendable().await, 500, "{of}");
}

#[tokio::test]
async fn empty_answer_after_a_crash_is_no_reason_to_forget_a_funding() {
    for mode in [Mode::Chain, Mode::P2pk] {
        // Also where the plan is stale by then.
        for late_s in [0, LOCK_S / 2 + 60] {
            let mut pair = funded_and_died(mode).await;
            let late = i64::try_from(late_s).unwrap();
            pair.mint.set_skew(late - 3 * 3_600);
            pair.payer.after_s(late_s);
            pair.mint.fail("restore", Fault::Empty);
            let of = format!("{mode:?} {late_s}");
            let opened = pair.payer.restart(&[purse(0)]).await;
            assert!(matches!(opened, Some(Outcome::Opened(_))), "{of}");
            opens_and_comes_home(pair, &of).await;
        }
    }
}

#[tokio::test]
async fn funding_that_is_denied_after_a_crash_is_asked_for_until_it_is_late() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = funded_and_died(mode).await;
        let of = format!("{mode:?}");
        for _ in 0..4 {
            pair.mint.fail("restore", Fault::Empty);
        }
        for _ in 0..2 {
            assert_eq!(pair.payer.restart(&[purse(0)]).await, UNKNOWN, "{of}");
        }
        // Then its session need not wait for it, and it is looked for as any that was lost.
        pair.payer.after_s(LOCK_S / 2 + 60);
        let late = i64::try_from(LOCK_S / 2 + 60).unwrap();
        pair.mint.set_skew(late - 3 * 3_600);
        for _ in 0..2 {
            pair.mint.fail("restore", Fault::Empty);
        }
        let spent = BackendError::Fatal(RefusalCode::AlreadySpent);
        let failed = pair.payer.restart(&[purse(0)]).await;
        assert_eq!(failed, Some(Outcome::Failed(spent)), "{of}");
        let refunded = sat(0);
        let home = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(home, Some(Outcome::Released { refunded }), "{of}");
        pair.mint.set_skew(0);
        let got = find(&pair.payer).await;
        assert_eq!(got, Ok(Some(LostFunding::Home(sat(50)))), "{of}");
        assert_eq!(pair.payer.spendable().await, 500, "{of}");
    }
}

/// A wallet that was put back, or whose reservations were let go of.
#[tokio::test]
async fn purse_whose_inputs_were_let_go_of_before_the_mint_was_asked_is_planned_anew() {
    for mode in Mode::ALL {
        let (mut pair, fund) = planned(mode).await;
        drop(fund);
        let store = &pair.payer.purses.wallet.localstore;
        store.release_proofs(&purse_name(purse(0))).await.unwrap();
        let opened = pair.payer.restart(&[purse(0)]).await;
        assert!(matches!(opened, Some(Outcome::Opened(_))), "{mode:?}");
        opens_and_comes_home(pair, &format!("{mode:?}")).await;
    }
}

/// The wallet has lost what was to go in: it is not to be planned with, and may have been swapped.
#[tokio::test]
async fn split_whose_inputs_the_wallet_has_lost_is_not_planned_anew() {
    let (mut pair, fund) = planned(Mode::Swap).await;
    drop(fund);
    let store = &pair.payer.purses.wallet.localstore;
    let reserved = Some(vec![cdk::nuts::State::Reserved]);
    let inputs = store.get_proofs(None, None, reserved, None).await.unwrap();
    assert!(!inputs.is_empty());
    let ys = inputs.iter().map(|info| info.y).collect();
    store.update_proofs(Vec::new(), ys).await.unwrap();
    let left = pair.payer.spendable().await;
    assert!(left >= 50, "it could be paid anew");
    assert_eq!(pair.payer.restart(&[purse(0)]).await, UNKNOWN);
    assert_eq!(pair.payer.spendable().await, left);
    // It is asked for again, and opens once all is there.
    let store = &pair.payer.purses.wallet.localstore;
    store.update_proofs(inputs, Vec::new()).await.unwrap();
    opens_and_comes_home(pair, "swap").await;
}

/// A purse of ten ticks of 5 whose funding the mint has made: it has lost its answer too, says that the
/// inputs are spent, and again and again that it signed nothing.
async fn deny(pair: &mut Pair, of: &str) {
    deny_of(pair, 10, of).await;
}

/// Of as many ticks.
async fn deny_of(pair: &mut Pair, ticks: u64, of: &str) {
    // The mint says that it is three hours ago; it enforces the real time.
    pair.mint.set_skew(-3 * 3_600);
    pair.params = pair.params.clone().with_lock(LOCK_S, 600).unwrap();
    pair.mint.fail("swap", Fault::LoseAnswer);
    // Of locked ecash it is asked once more, before it is looked at what goes in.
    for _ in 0..5 + u64::from(pair.mode != Mode::Swap) {
        pair.mint.fail("restore", Fault::Empty);
    }
    let request = pair.open_request(ticks);
    let failed = pair.payer.ask(purse(0), request.clone()).await;
    assert_eq!(failed, UNKNOWN, "{of}");
    let spent = BackendError::Fatal(RefusalCode::AlreadySpent);
    let failed = pair.payer.ask(purse(0), request).await;
    assert_eq!(failed, Some(Outcome::Failed(spent)), "{of}");
    // Its session goes on without it, and does not ask for it again, also after a restart.
    assert_eq!(pair.payer.restart(&[purse(0)]).await, None, "{of}");
    let home = pair.payer.ask(purse(0), Request::Release).await;
    let refunded = sat(0);
    assert_eq!(home, Some(Outcome::Released { refunded }), "{of}");
}

/// Until it heals.
fn deny_all(pair: &Pair) {
    for _ in 0..32 {
        pair.mint.fail("restore", Fault::Empty);
    }
}

async fn find(node: &Node) -> Result<Option<LostFunding>, BackendError> {
    let records = node.records(purse(0));
    node.runner().find_lost(purse(0), &records).await
}

/// Writes its end.
fn end(node: &mut Node, found: Option<LostFunding>) {
    let end = found.unwrap().end(&node.records(purse(0)));
    node.store.append(&[end.within_purse(purse(0))]).unwrap();
}

#[tokio::test]
async fn funding_that_the_mint_denies_is_found_and_comes_home() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        deny(&mut pair, &format!("{mode:?}")).await;
        let before = pair.payer.spendable().await;
        pair.mint.fail("restore", Fault::Empty);
        let got = find(&pair.payer).await.unwrap();
        assert!(matches!(got, Some(LostFunding::Unknown(_))), "{mode:?}");
        end(&mut pair.payer, got);
        // It remembers.
        let got = find(&pair.payer).await.unwrap();
        let Some(LostFunding::Locked(Unix(until))) = got else {
            panic!("{mode:?}: {got:?}");
        };
        end(&mut pair.payer, got);
        assert!(until > cdk::util::unix_time() - 3 * 3_600, "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 450, "{mode:?}: had {before}");
        pair.mint.set_skew(0);
        for (new, faults) in [(50, true), (0, false)] {
            if faults {
                pair.mint.fail("swap", Fault::Away);
                find(&pair.payer).await.unwrap_err();
            }
            let got = find(&pair.payer).await.unwrap();
            assert_eq!(got, Some(LostFunding::Home(sat(new))), "{mode:?}");
            assert_eq!(pair.payer.spendable().await, 500, "{mode:?}");
        }
        // What the wallet has sent since is not its own again.
        pair.payer.sends_all().await;
        let got = find(&pair.payer).await.unwrap();
        assert_eq!(got, Some(LostFunding::Home(sat(0))), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 0, "{mode:?}");
        // Once that is written, nobody asks again.
        end(&mut pair.payer, got);
        let calls = pair.mint.calls();
        assert_eq!(find(&pair.payer).await, Ok(None), "{mode:?}");
        assert_eq!(pair.mint.calls(), calls, "{mode:?}");
        assert_eq!(pair.payer.restart(&[purse(0)]).await, None, "{mode:?}");
    }
}

#[tokio::test]
async fn funding_that_the_mint_denies_for_a_day_after_its_locktime_is_given_up() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        deny(&mut pair, &format!("{mode:?}")).await;
        let lost = 500 - pair.payer.spendable().await;
        let day_after = -3 * 3_600 + i64::try_from(LOCK_S).unwrap() + 24 * 3_600;
        // Not before, and not by the first answer to whoever asks so late.
        for skews in [[-60, -30], [60, 90]] {
            let mut pair = Pair::new(mode, 0, 500, 5).await;
            deny(&mut pair, &format!("{mode:?}")).await;
            for skew in skews.into_iter().take(if skews[0] > 0 { 1 } else { 2 }) {
                pair.mint.set_skew(day_after + skew);
                let got = denied_twice(&mut pair).await;
                assert!(matches!(got, Some(LostFunding::Unknown(_))), "{skew}");
            }
        }
        let given_up = LostFunding::GivenUp {
            came: sat(0),
            lost: sat(lost),
        };
        pair.mint.set_skew(0);
        denied_twice(&mut pair).await;
        pair.mint.set_skew(day_after + 60);
        assert_eq!(denied_twice(&mut pair).await, Some(given_up), "{mode:?}");
        // It is asked for where somebody looks, and told of no more.
        assert_eq!(denied_twice(&mut pair).await, None, "{mode:?}");
        comes_after_all(&mut pair, sat(50)).await;
    }
}

/// Asks for it while the mint denies it, as often as it is asked.
async fn denied_twice(pair: &mut Pair) -> Option<LostFunding> {
    for _ in 0..2 {
        pair.mint.fail("restore", Fault::Empty);
    }
    let got = find(&pair.payer).await.unwrap();
    if got.is_some() {
        end(&mut pair.payer, got);
    }
    pair.mint.heal();
    got
}

/// What was given up and is found all the same; then nobody asks again.
async fn comes_after_all(pair: &mut Pair, home: streampay_core::units::Msat) {
    let got = find(&pair.payer).await.unwrap();
    assert_eq!(got, Some(LostFunding::Home(home)));
    end(&mut pair.payer, got);
    let calls = pair.mint.calls();
    assert_eq!(find(&pair.payer).await, Ok(None));
    assert_eq!(pair.mint.calls(), calls);
}

/// One empty answer, late, of one that has it all: the second says so.
#[tokio::test]
async fn one_empty_answer_gives_nothing_up() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        deny(&mut pair, &format!("{mode:?}")).await;
        pair.mint.set_skew(0);
        denied_twice(&mut pair).await;
        pair.mint.set_skew(30 * 24 * 3_600);
        pair.mint.fail("restore", Fault::Empty);
        let got = find(&pair.payer).await;
        let home = matches!(got, Ok(Some(LostFunding::Home(_))));
        assert!(home, "{mode:?}: {got:?}");
        assert_eq!(pair.payer.spendable().await, 500, "{mode:?}");
    }
}

/// Nobody has seen the tokens of a purse that was never opened. The day is one of the mint's, whatever our
/// own clock says.
#[tokio::test]
async fn split_that_the_mint_denies_is_found_or_given_up() {
    for given_up in [false, true] {
        let mut pair = Pair::new(Mode::Swap, 0, 500, 5).await;
        pair.payer.now.unix.0 -= 3 * 24 * 3_600;
        deny(&mut pair, "swap").await;
        let gone = sat(500 - pair.payer.spendable().await);
        pair.mint.set_skew(0);
        for skew in [0, 24 * 3_600 - 60] {
            pair.mint.set_skew(skew);
            let got = denied_twice(&mut pair).await;
            assert!(matches!(got, Some(LostFunding::Unknown(_))), "{skew}");
        }
        if given_up {
            pair.mint.set_skew(24 * 3_600 + 60);
            let got = denied_twice(&mut pair).await;
            let (came, lost) = (sat(0), gone);
            assert_eq!(got, Some(LostFunding::GivenUp { came, lost }));
            assert_eq!(denied_twice(&mut pair).await, None);
        } else {
            let got = find(&pair.payer).await;
            assert_eq!(got, Ok(Some(LostFunding::Home(gone))));
            assert_eq!(pair.payer.spendable().await, 500);
            pair.payer.sends_all().await;
        }
        let late = if given_up { gone } else { sat(0) };
        comes_after_all(&mut pair, late).await;
        let left = if given_up { 500 } else { 0 };
        assert_eq!(pair.payer.spendable().await, left);
        assert_eq!(pair.payer.restart(&[purse(0)]).await, None);
    }
}

/// The mint says that the refund of it was somebody else's doing: believed at the second time.
#[tokio::test]
async fn refund_that_the_mint_denies_is_asked_for_until_it_is_given_up() {
    for late in [false, true] {
        let mut pair = Pair::new(Mode::Chain, 0, 500, 5).await;
        deny(&mut pair, "chain").await;
        pair.mint.set_skew(if late { 24 * 3_600 } else { 0 });
        pair.mint.fail("swap", Fault::LoseAnswer);
        let denied = |pair: &Pair| {
            pair.mint.heal();
            pair.mint.fail("restore", Fault::Fine);
            deny_all(pair);
        };
        pair.mint.fail("restore", Fault::Fine);
        deny_all(&pair);
        find(&pair.payer).await.unwrap_err();
        let given_up = LostFunding::GivenUp {
            came: sat(0),
            lost: sat(50),
        };
        let part = LostFunding::Part(sat(0));
        for expect in [part, if late { given_up } else { part }] {
            denied(&pair);
            let got = find(&pair.payer).await.unwrap();
            assert_eq!(got, Some(expect), "{late}");
            end(&mut pair.payer, got);
        }
        denied(&pair);
        let got = find(&pair.payer).await;
        assert_eq!(got, Ok((!late).then_some(part)), "{late}");
        pair.mint.heal();
        comes_after_all(&mut pair, sat(50)).await;
    }
}

/// A keyset whose id says nothing of its fee.
async fn hide_the_fee(pair: &Pair) {
    let amounts = (0..20).map(|bit| 1 << bit).collect();
    let mint = &pair.mint.mint;
    let rotated = mint.rotate_keyset(CurrencyUnit::Sat, amounts, 100, false, None);
    rotated.await.unwrap();
    pair.mint.says_fee(Some(0));
    let wallet = &pair.payer.purses.wallet;
    wallet.keysets(KeysetLoadPolicy::Refresh).await.unwrap();
}

#[tokio::test]
async fn lost_funding_comes_home_at_the_fee_that_the_mint_takes_by_then() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        hide_the_fee(&pair).await;
        deny(&mut pair, &format!("{mode:?}")).await;
        pair.mint.set_skew(0);
        // One that says another fee than it takes is not asked for ever.
        pair.mint.says_fee(Some(7));
        let got = find(&pair.payer).await;
        assert_eq!(got, Err(BackendError::Transient), "{mode:?}");
        // Nor is it believed that nothing is worth its fee.
        pair.mint.says_fee(Some(7_000));
        let got = find(&pair.payer).await.unwrap();
        assert_eq!(got, Some(LostFunding::Part(sat(0))), "{mode:?}");
        end(&mut pair.payer, got);
        pair.mint.says_fee(None);
        let got = find(&pair.payer).await.unwrap();
        assert_eq!(got, Some(LostFunding::Home(sat(48))), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 498, "{mode:?}");
    }
}

/// Two batches: the first comes home at another fee, then the mint is away. Their numbers are not those of
/// the next run, also where the mint does not own up to the first: then its outputs are in the wallet.
#[tokio::test]
async fn lost_funding_that_is_cut_short_between_batches_comes_home_whole() {
    for (mode, denied) in [
        (Mode::Chain, false),
        (Mode::P2pk, false),
        (Mode::P2pk, true),
    ] {
        let mut pair = Pair::new(mode, 0, 1_000, 5).await;
        hide_the_fee(&pair).await;
        deny_of(&mut pair, 150, &format!("{mode:?}")).await;
        pair.mint.set_skew(0);
        pair.mint.says_fee(None);
        // Refused for its fee, made anew, and away.
        for fault in [Fault::Fine, Fault::Fine, Fault::Away] {
            pair.mint.fail("swap", fault);
        }
        find(&pair.payer).await.unwrap_err();
        assert_eq!(pair.payer.spendable().await, 730, "{mode:?}");
        if denied {
            pair.mint.fail("restore", Fault::Fine);
            deny_all(&pair);
            let got = find(&pair.payer).await;
            assert_eq!(got, Err(BackendError::Unknown), "{mode:?}");
            pair.mint.heal();
        }
        let got = find(&pair.payer).await.unwrap();
        assert_eq!(pair.payer.spendable().await, 970, "{mode:?}: {got:?}");
        assert_eq!(got, Some(LostFunding::Home(sat(240))), "{mode:?}");
    }
}

/// The payee's first batch of two: the same, and it has been paid.
#[tokio::test]
async fn batch_that_the_mint_denies_is_looked_for_again() {
    for mode in [Mode::Chain, Mode::P2pk] {
        for after_a_restart in [false, true] {
            let mut pair = Pair::new(mode, 0, 500, 3).await;
            let mut policy = pair.payee.policy;
            policy.redeem_ticks = 110;
            pair.payee.set_policy(policy);
            pair.open(0, 120).await;
            pair.mint.fail("swap", Fault::LoseAnswer);
            deny_all(&pair);
            pair.ticks(1..=110).await;
            assert_eq!(pair.payee.spendable().await, 0, "{mode:?}");
            if after_a_restart {
                pair.payee.after_s(60);
                assert_eq!(pair.payee.wake(purse(0)).await, None);
                assert_eq!(pair.payee.spendable().await, 30, "{mode:?}");
                pair.mint.heal();
                pair.payee.restart(&[purse(0)]).await;
            }
            pair.mint.heal();
            assert_eq!(pair.settle().await, 330, "{mode:?}");
            assert_eq!(pair.payee.spendable().await, 330, "{mode:?}");
        }
    }
}

/// As often as one run looks.
#[tokio::test]
async fn answer_that_is_lost_and_denied_once_is_nobody_elses_doing() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        pair.mint.fail("swap", Fault::LoseAnswer);
        for _ in 0..2 {
            pair.mint.fail("restore", Fault::Empty);
        }
        let request = pair.open_request(10);
        let opened = pair.payer.ask(purse(0), request.clone()).await;
        assert_eq!(opened, UNKNOWN, "{mode:?}");
        let opened = pair.payer.ask(purse(0), request).await;
        assert!(matches!(opened, Some(Outcome::Opened(_))), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 450, "{mode:?}");
    }
}
