//! What a mint denies, or cannot say, and what becomes of it in the end.

use cdk::nuts::{CurrencyUnit, State};
use cdk::wallet::types::{KeysetLoadPolicy, ProofInfo};
use streampay_cashu::{LostFunding, purse_figures, purse_name};
use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::driver::EffectRunner;
use streampay_core::store::Store;
use streampay_core::units::{RequestId, Seq};

use crate::mint::{Fault, TestMint};
use crate::node::{Mode, Node, Pair, purse, sat};

const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));
const UNKNOWN: Option<Outcome> = Some(Outcome::Failed(BackendError::Unknown));

fn spent() -> Option<Outcome> {
    let error = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    Some(Outcome::Failed(error))
}

const fn reclaim() -> Request {
    Request::Reclaim { seq: Seq(1) }
}

impl Node {
    /// It ended before its wallet had what the mint signed.
    async fn loses_what_came(&self) {
        let wallet = self.purses.wallet.localstore.clone();
        let own = Some(vec![State::Unspent]);
        let all = wallet.get_proofs(None, None, own, None).await.unwrap();
        let came = |info: &&ProofInfo| info.created_by_operation == Some(purse_name(purse(0)));
        let ys: Vec<_> = all.iter().filter(came).map(|info| info.y).collect();
        assert!(!ys.is_empty());
        wallet.update_proofs(Vec::new(), ys).await.unwrap();
    }
}

impl Pair {
    async fn reclaim(&mut self) -> Option<Outcome> {
        self.payer.ask(purse(0), reclaim()).await
    }
}

fn fail_often(mint: &TestMint, fault: Fault) {
    for _ in 0..32 {
        mint.fail("restore", fault);
    }
}

/// The mint has swapped it for the payee, loses that answer, and says then that somebody else did it.
async fn denied(pair: &mut Pair) -> Request {
    let payload = pair.paid(1, 1).await;
    pair.mint.fail("swap", Fault::LoseAnswer);
    fail_often(&pair.mint, Fault::Empty);
    let request = pair.receive_request(1, 1, payload);
    assert_eq!(pair.payee.ask(purse(0), request.clone()).await, UNKNOWN);
    assert_eq!(pair.payee.ask(purse(0), request.clone()).await, spent());
    pair.mint.heal();
    request
}

#[tokio::test]
async fn token_that_the_mint_denies_is_asked_for_before_its_purse_is_settled() {
    for restarts in [false, true] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
        denied(&mut pair).await;
        if restarts {
            pair.payee.restart(&[purse(0)]).await;
        }
        assert_eq!(pair.settle().await, 5, "{restarts}");
        assert_eq!(pair.payee.spendable().await, 5, "{restarts}");
        // It is not asked for again.
        let swaps = pair.mint.calls_of("swap");
        let restores = pair.mint.calls_of("restore");
        assert_eq!(pair.settle().await, 5, "{restarts}");
        assert_eq!(pair.mint.calls_of("swap"), swaps, "{restarts}");
        assert_eq!(pair.mint.calls_of("restore"), restores, "{restarts}");
    }
}

/// The payer sends it once more.
#[tokio::test]
async fn token_that_the_mint_denied_is_credited_once() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    let request = denied(&mut pair).await;
    let is_denied = |(key, _): &(Vec<u8>, Vec<u8>)| key.first() == Some(&b'd');
    assert!(pair.payee.records(purse(0)).iter().any(is_denied));
    let credited = pair.payee.ask(purse(0), request).await;
    assert_eq!(credited, Some(Outcome::Credited));
    // Nothing is kept of it: as many are kept as there are tokens, and no more.
    assert!(!pair.payee.records(purse(0)).iter().any(is_denied));
    assert_eq!(pair.settle().await, 5);
    assert_eq!(pair.payee.spendable().await, 5);
}

/// Settles as a session does that asks every few seconds: when the mint was asked, and what came of it.
async fn settled_in(pair: &mut Pair, most_s: u64) -> (Vec<u64>, Option<Outcome>) {
    let (mut asked, request) = (Vec::new(), pair.settle_request(0));
    for at in (0..=most_s).step_by(5) {
        let before = pair.mint.calls_of("restore");
        let end = pair.payee.ask(purse(0), request.clone()).await;
        if pair.mint.calls_of("restore") > before {
            asked.push(at);
        }
        if end != UNKNOWN {
            return (asked, end);
        }
        pair.payee.after_s(5);
    }
    (asked, UNKNOWN)
}

const GIVEN_UP: BackendError = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);

/// An answer to our own swap was lost: its mint may be wrong for longer than once.
#[tokio::test]
async fn token_that_stays_denied_is_asked_for_less_and_less_often_and_then_given_up() {
    for restarts in [false, true] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
        denied(&mut pair).await;
        if restarts {
            pair.payee.restart(&[purse(0)]).await;
        }
        for _ in 0..4 {
            fail_often(&pair.mint, Fault::Empty);
        }
        let (asked, end) = settled_in(&mut pair, 1_000).await;
        assert_eq!(asked, [0, 30, 60, 120, 240, 480, 600], "{restarts}");
        let settled = sat(0);
        assert_eq!(end, Some(Outcome::Settled { settled }), "{restarts}");
        // Told when it begins, and what becomes of it.
        let told = [BackendError::Unknown, GIVEN_UP];
        assert_eq!(pair.payee.troubles, told, "{restarts}");
        pair.mint.heal();
        assert_eq!(pair.settle().await, 0);
    }
}

/// It does so while it waits, and the payee starts again.
#[tokio::test]
async fn token_that_was_denied_is_home_once_its_mint_owns_up() {
    for restarts in [false, true] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
        denied(&mut pair).await;
        fail_often(&pair.mint, Fault::Empty);
        let (asked, end) = settled_in(&mut pair, 100).await;
        assert_eq!((asked, end), (vec![0, 30, 60], UNKNOWN));
        pair.mint.heal();
        if restarts {
            pair.payee.restart(&[purse(0)]).await;
        }
        let (asked, end) = settled_in(&mut pair, 100).await;
        let settled = sat(5);
        assert_eq!(end, Some(Outcome::Settled { settled }), "{restarts}");
        assert_eq!(asked.len(), usize::from(!restarts));
        assert_eq!(pair.payee.spendable().await, 5, "{restarts}");
        assert_eq!(pair.payee.troubles, [BackendError::Unknown], "{restarts}");
    }
}

/// While one of them is left alone the other is asked for.
#[tokio::test]
async fn payment_that_is_denied_keeps_no_other_from_being_asked_for() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    denied(&mut pair).await;
    fail_often(&pair.mint, Fault::Empty);
    let (asked, _) = settled_in(&mut pair, 20).await;
    assert_eq!(asked, [0]);
    pair.mint.heal();
    let payload = pair.paid(2, 2).await;
    pair.mint.fail("swap", Fault::LoseAnswer);
    fail_often(&pair.mint, Fault::Empty);
    let request = pair.receive_request(2, 2, payload);
    assert_eq!(pair.payee.ask(purse(0), request.clone()).await, UNKNOWN);
    assert_eq!(pair.payee.ask(purse(0), request).await, spent());
    pair.mint.heal();
    let settle = pair.settle_request(0);
    assert_eq!(pair.payee.ask(purse(0), settle).await, UNKNOWN);
    assert_eq!(pair.payee.spendable().await, 5);
    pair.payee.after_s(31);
    assert_eq!(pair.settle().await, 10);
}

/// No answer was lost: it was never ours.
#[tokio::test]
async fn token_that_its_payer_has_spent_holds_no_purse_open() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    let payload = pair.paid(1, 1).await;
    assert_eq!(pair.reclaim().await, Some(Outcome::Reclaimed));
    let request = pair.receive_request(1, 1, payload);
    assert_eq!(pair.payee.ask(purse(0), request).await, spent());
    assert_eq!(pair.settle().await, 0);
    assert_eq!(pair.payee.troubles, []);
}

#[tokio::test]
async fn denied_token_at_a_mint_that_is_away_is_kept() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    denied(&mut pair).await;
    fail_often(&pair.mint, Fault::Away);
    for _ in 0..32 {
        pair.mint.fail("state", Fault::Away);
    }
    let settle = pair.settle_request(0);
    let settled = pair.payee.ask(purse(0), settle).await;
    assert!(matches!(settled, Some(Outcome::Failed(_))), "{settled:?}");
    pair.mint.heal();
    assert_eq!(pair.settle().await, 5);
}

/// A payer that takes its token back, of which the mint loses the answer and says then that somebody else
/// has it.
async fn denied_to_its_payer(pair: &mut Pair) {
    pair.paid(1, 1).await;
    pair.mint.fail("swap", Fault::LoseAnswer);
    fail_often(&pair.mint, Fault::Empty);
    assert_eq!(pair.reclaim().await, UNKNOWN);
    assert_eq!(pair.reclaim().await, UNKNOWN);
}

#[tokio::test]
async fn token_of_the_payers_own_that_stays_denied_is_asked_for_less_and_less_often() {
    for (releases, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
        denied_to_its_payer(&mut pair).await;
        for _ in 0..4 {
            fail_often(&pair.mint, Fault::Empty);
        }
        let (mut asked, mut end) = (Vec::new(), UNKNOWN);
        for at in (0..1_000).step_by(5) {
            let before = pair.mint.calls_of("restore");
            end = match releases {
                true => pair.payer.ask(purse(0), Request::Release).await,
                false => pair.reclaim().await,
            };
            if pair.mint.calls_of("restore") > before {
                asked.push(at);
            }
            if end != UNKNOWN {
                break;
            }
            if restarts && at == 130 {
                pair.payer.restart(&[purse(0)]).await;
            }
            pair.payer.after_s(5);
        }
        // A start asks once more, and goes on from then.
        let expect = match restarts {
            false => vec![30, 60, 120, 240, 480, 600],
            true => vec![30, 60, 120, 260, 520, 600],
        };
        let case = format!("{releases} {restarts}");
        assert_eq!(asked, expect, "{case}");
        let refunded = sat(45);
        match releases {
            true => assert_eq!(end, Some(Outcome::Released { refunded }), "{case}"),
            false => assert_eq!(end, Some(Outcome::Spent), "{case}"),
        }
    }
}

#[tokio::test]
async fn token_of_the_payers_own_that_was_denied_is_back_once_its_mint_owns_up() {
    for (releases, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
        denied_to_its_payer(&mut pair).await;
        pair.mint.heal();
        // It is left alone for a while.
        assert_eq!(pair.reclaim().await, UNKNOWN);
        pair.payer.after_s(31);
        if restarts {
            pair.payer.restart(&[purse(0)]).await;
        }
        let case = format!("{releases} {restarts}");
        if !releases {
            assert_eq!(pair.reclaim().await, Some(Outcome::Reclaimed), "{case}");
        }
        assert_eq!(pair.release().await, 50, "{case}");
        assert_eq!(pair.payer.spendable().await, 500, "{case}");
    }
}

/// Dead while it asked for it, of a token that the payee has: most are, and nothing waits.
#[tokio::test]
async fn token_that_the_payee_took_is_gone_at_once_after_a_start_too() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    let payload = pair.paid(1, 1).await;
    let request = pair.receive_request(1, 1, payload);
    let credited = pair.payee.ask(purse(0), request).await;
    assert_eq!(credited, Some(Outcome::Credited));
    let now = pair.payer.now;
    let machine = &mut pair.payer.machine;
    let asked = machine.request(now, purse(0), RequestId(1), reclaim());
    let store = &mut pair.payer.store;
    store.append(&[asked.delta.within_purse(purse(0))]).unwrap();
    assert_eq!(asked.effects.len(), 1);
    let told = pair.payer.restart(&[purse(0)]).await;
    assert_eq!(told, Some(Outcome::Spent));
    assert_eq!(pair.release().await, 45);
}

/// Its other tokens come home by then.
#[tokio::test]
async fn token_that_is_denied_keeps_no_other_from_being_asked_for() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    denied_to_its_payer(&mut pair).await;
    pair.paid(2, 1).await;
    fail_often(&pair.mint, Fault::Away);
    pair.mint.fail("swap", Fault::Fine);
    for _ in 0..4 {
        let released = pair.payer.ask(purse(0), Request::Release).await;
        assert!(matches!(released, Some(Outcome::Failed(_))), "{released:?}");
    }
    pair.mint.heal();
    assert_eq!(pair.payer.ask(purse(0), Request::Release).await, UNKNOWN);
    // Of ten the purse's eight are reserved yet, and one is denied.
    assert_eq!(pair.payer.spendable().await, 455);
    pair.payer.after_s(31);
    assert_eq!(pair.release().await, 50);
    assert_eq!(pair.payer.spendable().await, 500);
}

/// Dead while it swapped it, nobody knows whether it did.
#[tokio::test]
async fn payment_whose_swap_was_under_way_at_a_start_is_not_called_anothers_by_one_word() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    let payload = pair.paid(1, 1).await;
    let request = pair.receive_request(1, 1, payload);
    let (now, runner) = (pair.payee.now, pair.payee.runner());
    let asked = (pair.payee.machine).request(now, purse(0), RequestId(1), request);
    let store = &mut pair.payee.store;
    store.append(&[asked.delta.within_purse(purse(0))]).unwrap();
    for effect in asked.effects {
        runner.run(effect).await;
    }
    pair.payee.loses_what_came().await;
    fail_often(&pair.mint, Fault::Empty);
    assert_eq!(pair.payee.restart(&[purse(0)]).await, spent());
    let request = pair.settle_request(0);
    assert_eq!(pair.payee.ask(purse(0), request).await, UNKNOWN);
    pair.mint.heal();
    pair.payee.after_s(31);
    assert_eq!(pair.settle().await, 5);
    assert_eq!(pair.payee.spendable().await, 5);
}

/// No answer was lost: it is the payee's.
#[tokio::test]
async fn token_that_the_payee_took_is_gone_at_once() {
    let mut pair = Pair::opened(Mode::Swap, 0, 500, 5, 10).await;
    let payload = pair.paid(1, 1).await;
    let request = pair.receive_request(1, 1, payload);
    let credited = pair.payee.ask(purse(0), request).await;
    assert_eq!(credited, Some(Outcome::Credited));
    assert_eq!(pair.reclaim().await, Some(Outcome::Spent));
    assert_eq!(pair.release().await, 45);
}

async fn find(node: &Node) -> Option<LostFunding> {
    let records = node.records(purse(0));
    let found = node.runner().find_lost(purse(0), &records).await;
    found.unwrap()
}

/// Nobody can say what has become of its split: what went in is not in the wallet any more, and the mint has
/// neither spent that nor signed anything.
#[tokio::test]
async fn split_of_which_nothing_is_known_keeps_no_purse_open_for_ever() {
    for restarts in [false, true] {
        let mut pair = Pair::new(Mode::Swap, 0, 500, 5).await;
        let (now, runner) = (pair.payer.now, pair.payer.runner());
        let request = pair.open_request(10);
        let machine = &mut pair.payer.machine;
        let mut planning = machine.request(now, purse(0), RequestId(1), request.clone());
        let planned = runner.run(planning.effects.remove(0)).await;
        let funding = machine.effect_done(now, planned);
        for delta in [planning.delta, funding.delta] {
            let store = &mut pair.payer.store;
            store.append(&[delta.within_purse(purse(0))]).unwrap();
        }
        let store = pair.payer.purses.wallet.localstore.clone();
        let reserved = Some(vec![State::Reserved]);
        let inputs = store.get_proofs(None, None, reserved, None).await.unwrap();
        let ys = inputs.iter().map(|info| info.y).collect();
        store.update_proofs(Vec::new(), ys).await.unwrap();
        pair.payer.restart(&[purse(0)]).await;
        for _ in 0..19 {
            let released = pair.payer.ask(purse(0), Request::Release).await;
            assert_eq!(released, UNKNOWN, "{restarts}");
            pair.payer.after_s(31);
            if restarts {
                pair.payer.restart(&[purse(0)]).await;
            }
        }
        pair.payer.after_s(31);
        let refunded = sat(0);
        let got = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(got, Some(Outcome::Released { refunded }), "{restarts}");
        // Its records keep what it takes to ask again.
        let found = find(&pair.payer).await;
        assert!(matches!(found, Some(LostFunding::Unknown(_))), "{found:?}");
    }
}

/// Refused for its fee, made anew, and that answer does not come, nor one to what became of it.
#[tokio::test]
async fn refund_that_was_made_anew_and_lost_its_answer_is_home_with_its_fee() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        rotate(&pair.mint, 100, false).await;
        pair.mint.says_fee(Some(0));
        let wallet = pair.payer.purses.wallet.clone();
        wallet.keysets(KeysetLoadPolicy::Refresh).await.unwrap();
        pair.mint.set_skew(-3 * 3_600);
        pair.params = pair.params.clone().with_lock(2 * 3_600, 600).unwrap();
        pair.mint.fail("swap", Fault::LoseAnswer);
        fail_often(&pair.mint, Fault::Empty);
        let request = pair.open_request(10);
        for _ in 0..2 {
            pair.payer.ask(purse(0), request.clone()).await;
        }
        pair.mint.heal();
        pair.mint.set_skew(0);
        pair.mint.says_fee(None);
        pair.mint.fail("swap", Fault::Fine);
        pair.mint.fail("swap", Fault::LoseAnswer);
        // The purse itself, two searches in two keysets, and each of the swaps.
        for _ in 0..8 {
            pair.mint.fail("restore", Fault::Fine);
        }
        fail_often(&pair.mint, Fault::Away);
        let records = pair.payer.records(purse(0));
        let cut = pair.payer.runner().find_lost(purse(0), &records).await;
        cut.unwrap_err();
        assert_eq!(pair.payer.spendable().await, 450, "{mode:?}");
        pair.mint.heal();
        let swaps = pair.mint.calls_of("swap");
        let got = find(&pair.payer).await;
        assert_eq!(pair.mint.calls_of("swap"), swaps, "{mode:?}: it was done");
        assert_eq!(got, Some(LostFunding::Home(sat(48))), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 498, "{mode:?}");
        let figures = purse_figures(&wallet, purse(0)).await.unwrap();
        let sums = (figures.left, figures.returned, figures.fees);
        assert_eq!(sums, (sat(50), sat(48), sat(2)), "{mode:?}");
        let got = find(&pair.payer).await;
        assert_eq!(got, Some(LostFunding::Home(sat(0))), "{mode:?}");
    }
}

/// Done at the fee that the purse was opened with; its answer does not come, and by then it is half of that.
#[tokio::test]
async fn refund_that_lost_its_answer_is_home_whatever_the_mint_takes_by_then() {
    for mode in [Mode::Chain, Mode::P2pk] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        rotate(&pair.mint, 100, false).await;
        let wallet = pair.payer.purses.wallet.clone();
        wallet.keysets(KeysetLoadPolicy::Refresh).await.unwrap();
        pair.mint.set_skew(-3 * 3_600);
        pair.params = pair.params.clone().with_lock(2 * 3_600, 600).unwrap();
        pair.mint.fail("swap", Fault::LoseAnswer);
        fail_often(&pair.mint, Fault::Empty);
        let request = pair.open_request(10);
        for _ in 0..2 {
            pair.payer.ask(purse(0), request.clone()).await;
        }
        pair.mint.heal();
        pair.mint.set_skew(0);
        let before = pair.payer.spendable().await;
        pair.mint.fail("swap", Fault::LoseAnswer);
        // The purse itself, two searches in two keysets, and the swap.
        for _ in 0..6 {
            pair.mint.fail("restore", Fault::Fine);
        }
        fail_often(&pair.mint, Fault::Away);
        let records = pair.payer.records(purse(0));
        let cut = pair.payer.runner().find_lost(purse(0), &records).await;
        cut.unwrap_err();
        pair.mint.heal();
        pair.mint.says_fee(Some(50));
        wallet.keysets(KeysetLoadPolicy::Refresh).await.unwrap();
        let got = find(&pair.payer).await;
        assert_eq!(got, Some(LostFunding::Home(sat(48))), "{mode:?}");
        let came = pair.payer.spendable().await - before;
        assert!((48..=50).contains(&came), "{mode:?}: {came}");
    }
}

async fn rotate(mint: &TestMint, ppk: u64, in_id: bool) {
    let amounts = (0..20).map(|bit| 1 << bit).collect();
    let rotated = mint
        .mint
        .rotate_keyset(CurrencyUnit::Sat, amounts, ppk, in_id, None);
    rotated.await.unwrap();
}

/// Whenever it has been asked for something it signs with other keys.
#[tokio::test]
async fn mint_whose_keys_change_each_time_is_asked_now_and_then() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let request = pair.open_request(10);
        for (after_s, asked) in [(0, 4), (0, 0), (31, 2)] {
            pair.payer.after_s(after_s);
            let (now, runner) = (pair.payer.now, pair.payer.runner());
            let machine = &mut pair.payer.machine;
            let answer = machine.request(now, purse(0), RequestId(1), request.clone());
            let (mut waiting, mut outcome) = (answer.effects, answer.outcome);
            let mut calls = 0;
            while let Some(effect) = waiting.pop() {
                let done = runner.run(effect).await;
                rotate(&pair.mint, 0, true).await;
                let answer = machine.effect_done(now, done);
                waiting.extend(answer.effects);
                outcome = answer.outcome.or(outcome);
                calls += 1;
                assert!(calls < 20, "{mode:?}: without end");
            }
            assert_eq!((outcome, calls), (TRANSIENT, asked), "{mode:?} {after_s}");
        }
        // With the keys that it learnt last, then with those of now.
        pair.payer.after_s(31);
        let opened = pair.payer.ask(purse(0), request).await;
        assert_eq!(opened, TRANSIENT, "{mode:?}");
        pair.payer.after_s(31);
        pair.open(0, 10).await;
    }
}
