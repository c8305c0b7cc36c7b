//! A mint that says once that it has signed nothing: what it has signed is not given up for that.

use streampay_cashu::LostFunding;
use streampay_core::backend::{Answer, BackendError, Outcome, RefusalCode, Request};
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

/// A purse of ten ticks of 5 whose funding the mint has made and the wallet knows of; the process died
/// before its records did.
async fn funded_and_died(mode: Mode) -> Pair {
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
    runner.run(funding.effects.remove(0)).await.result.unwrap();
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
            assert_eq!(pair.payer.restart(&[purse(0)]).await, UNKNOWN, "{of}");
            opens_and_comes_home(pair, &of).await;
        }
    }
}

/// It has lost its answer too, says that the inputs are spent, and again and again that it signed nothing.
#[tokio::test]
async fn funding_that_the_mint_denies_is_found_and_comes_home() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        pair.mint.set_skew(-3 * 3_600);
        pair.params = pair.params.clone().with_lock(LOCK_S, 600).unwrap();
        pair.mint.fail("swap", Fault::LoseAnswer);
        for _ in 0..7 {
            pair.mint.fail("restore", Fault::Empty);
        }
        let request = pair.open_request(10);
        let failed = pair.payer.ask(purse(0), request.clone()).await;
        assert_eq!(failed, UNKNOWN, "{mode:?}");
        let spent = BackendError::Fatal(RefusalCode::AlreadySpent);
        let failed = pair.payer.ask(purse(0), request).await;
        assert_eq!(failed, Some(Outcome::Failed(spent)), "{mode:?}");
        // Its session goes on without it, and does not ask for it again, also after a restart.
        assert_eq!(pair.payer.restart(&[purse(0)]).await, None);
        let home = pair.payer.ask(purse(0), Request::Release).await;
        let refunded = sat(0);
        assert_eq!(home, Some(Outcome::Released { refunded }), "{mode:?}");

        let before = pair.payer.spendable().await;
        let runner = pair.payer.runner();
        let find = async |node: &Node| runner.find_lost(purse(0), &node.records(purse(0))).await;
        let got = find(&pair.payer).await.unwrap();
        assert_eq!(got, Some(LostFunding::Unknown), "{mode:?}");
        // It remembers.
        let got = find(&pair.payer).await.unwrap();
        let Some(LostFunding::Locked(Unix(until))) = got else {
            panic!("{mode:?}: {got:?}");
        };
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
            for _ in 0..5 + u64::from(after_a_restart) {
                pair.mint.fail("restore", Fault::Empty);
            }
            pair.ticks(1..=110).await;
            assert_eq!(pair.payee.spendable().await, 0, "{mode:?}");
            if after_a_restart {
                pair.payee.after_s(60);
                assert_eq!(pair.payee.wake(purse(0)).await, None);
                assert_eq!(pair.payee.spendable().await, 30, "{mode:?}");
                pair.payee.restart(&[purse(0)]).await;
            }
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
