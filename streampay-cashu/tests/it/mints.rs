//! Whether a mint is fit, and what it costs.

use std::sync::Arc;

use cdk::mint_url::MintUrl;
use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use streampay_cashu::{
    AcceptedMint, LockedMachine, LockedParams, LockedPolicy, MintFault, MintPolicy, Runner,
    SwapMachine, SwapParams, Wallets, best_mint, check_mint, purse_quote,
};
use streampay_core::backend::{
    BackendError, BackendMachine, Consumed, Outcome, RefusalCode, Request,
};
use streampay_core::driver::EffectRunner;
use streampay_core::units::{Now, RequestId};

use crate::mint::{Fault, Purseless, TestMint, URL};
use crate::node::{Mode, OneWallet, Pair, offer, purse, receiver, sat};

#[tokio::test]
async fn sound_mint_passes_and_faults_are_named() {
    let mint = TestMint::new(100).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    let wallets = OneWallet::new(purses.wallet.clone());
    let check = async |policy| check_mint(&wallets, &purses.wallet, policy).await;
    let policy = MintPolicy::default();
    assert_eq!(check(policy).await, Ok(vec![]));
    let mut strict = policy;
    strict.max_fee_ppk = 99;
    let dear = MintFault::Fee { ppk: 100, most: 99 };
    assert_eq!(check(strict).await, Ok(vec![dear]));
    mint.set_skew(7_200);
    let faults = check(policy).await.unwrap();
    assert!(
        matches!(
            faults[..],
            [MintFault::Skew {
                seconds: 7_199..=7_201,
                most: 3_600
            }]
        ),
        "{faults:?}"
    );
    mint.set_skew(0);
    mint.without_htlcs();
    assert_eq!(check(policy).await, Ok(vec![MintFault::Lacks(14)]));
    let p2pk = MintPolicy::with_nuts(MintPolicy::P2PK);
    assert_eq!(check(p2pk).await, Ok(vec![]));
    // Its owner asks for more than the way to pay does, and for some of the same.
    let wallets = OneWallet::new(purses.wallet.clone()).needing(&[7, 14]);
    let faults = check_mint(&wallets, &purses.wallet, p2pk).await;
    assert_eq!(faults, Ok(vec![MintFault::Lacks(14)]));
    let faults = check_mint(&wallets, &purses.wallet, policy).await;
    assert_eq!(faults, Ok(vec![MintFault::Lacks(14)]));
}

#[tokio::test]
async fn mint_that_lacks_what_its_owner_asks_of_it_is_not_used() {
    for mode in [Mode::P2pk, Mode::Swap] {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        pair.mint.without_htlcs();
        // The way to pay does without.
        pair.open(0, 10).await;
        pair.payer.needed_nuts = &[14];
        let request = pair.open_request(10);
        let got = pair.payer.ask(purse(1), request).await;
        let unfit = BackendError::Fatal(RefusalCode::NoCommonMethod);
        assert_eq!(got, Some(Outcome::Failed(unfit)), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 450, "{mode:?}");
        // It has that.
        pair.payer.needed_nuts = &[7, 12];
        let opening = pair.offered(1, 10).await;
        pair.payee.needed_nuts = &[14];
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(1), request).await;
        let refused = BackendError::Rejected(RefusalCode::WrongMint, Consumed::No);
        assert_eq!(got, Some(Outcome::Failed(refused)), "{mode:?}");
    }
}

/// What may be had nowhere else is not known of a mint that does not answer.
#[tokio::test]
async fn mint_that_does_not_say_what_it_has_is_asked_again() {
    let mut pair = Pair::new(Mode::Swap, 0, 500, 5).await;
    pair.payer.needed_nuts = &[7];
    pair.mint.fail("info", Fault::Away);
    let request = pair.open_request(10);
    let got = pair.payer.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Failed(BackendError::Transient)));
    pair.open(0, 10).await;
}

#[tokio::test]
async fn keysets_are_those_of_today_also_where_the_wallet_cannot_load_them() {
    let mint = TestMint::new(0).await;
    let purses = Purseless::new(&mint, 1, 100).await;
    let wallets = OneWallet::new(purses.wallet.clone());
    let check = async || check_mint(&wallets, &purses.wallet, MintPolicy::default()).await;
    assert_eq!(check().await, Ok(vec![]));
    let rotate = async |ppk| {
        let amounts = (0..20).map(|bit| 1 << bit).collect();
        let unit = CurrencyUnit::Sat;
        let rotated = mint.mint.rotate_keyset(unit, amounts, ppk, true, None);
        rotated.await.unwrap();
    };
    rotate(2_000).await;
    let dear = MintFault::Fee {
        ppk: 2_000,
        most: 1_000,
    };
    assert_eq!(check().await, Ok(vec![dear]));
    // A new one, of which no keys can be had: the old one is no answer.
    rotate(0).await;
    mint.fail("keys", Fault::Away);
    mint.fail("keys", Fault::Away);
    assert_eq!(check().await, Err(BackendError::Transient));
    assert_eq!(check().await, Ok(vec![]));
}

#[tokio::test]
async fn nothing_is_locked_at_a_mint_that_is_not_trusted_to_keep_it() {
    for chain in [true, false] {
        let mut pair = Pair::new(chain, 0, 500, 5).await;
        pair.payer.trusts_locks = false;
        let request = pair.open_request(10);
        let got = pair.payer.ask(purse(0), request).await;
        let unfit = BackendError::Fatal(RefusalCode::NoCommonMethod);
        assert_eq!(got, Some(Outcome::Failed(unfit)), "{chain}");
        assert_eq!(pair.payer.spendable().await, 500);
        // Nor does a payee take what somebody else locks there.
        pair.payer.trusts_locks = true;
        pair.payee.trusts_locks = false;
        let opening = pair.offered(0, 10).await;
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request).await;
        let refused = BackendError::Rejected(RefusalCode::WrongMint, Consumed::No);
        assert_eq!(got, Some(Outcome::Failed(refused)), "{chain}");
    }
}

#[tokio::test]
async fn mint_dearer_than_its_owner_allows_is_not_used() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 100, 500, 10).await;
        pair.payer.max_fee_ppk = 99;
        let request = pair.open_request(10);
        let got = pair.payer.ask(purse(0), request).await;
        let dear = BackendError::Fatal(RefusalCode::FeeTooHigh);
        assert_eq!(got, Some(Outcome::Failed(dear)), "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 500);
    }
}

#[tokio::test]
async fn fees_are_as_quoted() {
    for ppk in [0, 100, 1_000] {
        // Two proofs of ten: at 1 000 ppk a fifth of it.
        let mut pair = Pair::opened(true, ppk, 5_000, 10, 100).await;
        let wallet = pair.payer.purses.wallet.clone();
        let mint = AcceptedMint::sat(URL).unwrap();
        let quote = purse_quote(&wallet, &mint, true, (sat(10), 100), sat(1_000)).await;
        let quote = quote.unwrap();
        let settled = pair.settle().await;
        assert_eq!(settled, 0);
        pair.show_note().await;
        let refunded = pair.release().await;
        assert_eq!(1_000 - refunded, quote.refund(100).sat_floor(), "{ppk}");
    }
}

#[tokio::test]
async fn purse_of_which_the_mint_would_eat_too_much_is_not_opened() {
    // One satoshi at 1 000 ppk is nothing once it is redeemed.
    let mut pair = Pair::new(true, 1_000, 500, 1).await;
    let request = pair.open_request(10);
    let got = pair.payer.ask(purse(0), request.clone()).await;
    let dear = Some(Outcome::Failed(BackendError::Fatal(
        RefusalCode::FeeTooHigh,
    )));
    assert_eq!(got, dear);
    assert_eq!(pair.payer.spendable().await, 500);
    // Nor does a payee take it from a payer who does not mind.
    let mut careless = pair.payer.policy;
    careless.max_fee_permille = 1_000;
    pair.payer.set_policy(careless);
    let opening = pair.offered(0, 10).await;
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    let refused = BackendError::Rejected(RefusalCode::FeeTooHigh, Consumed::No);
    assert_eq!(got, Some(Outcome::Failed(refused)));
    assert!(pair.payee.notes.contains_key(&purse(0)), "it is given back");
}

#[tokio::test]
async fn mint_that_says_too_many_is_left_alone() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=3).await;
    let runner = pair.payee.runner();
    pair.mint.fail("swap", Fault::TooMany);
    let settle = |pair: &mut Pair| {
        let now = pair.payee.now;
        pair.payee.machine.request(
            now,
            purse(0),
            RequestId(1),
            Request::Settle { cumulative: sat(0) },
        )
    };
    let answer = settle(&mut pair);
    let redeem = answer.effects.last().cloned().unwrap();
    let first = runner.run(redeem.clone()).await;
    assert_eq!(first.result, Err(BackendError::Transient));
    let calls = pair.mint.calls();
    let second = runner.run(redeem).await;
    assert_eq!(second.result, Err(BackendError::Transient));
    assert_eq!(pair.mint.calls(), calls, "not even asked");
}

struct Both(Purseless, Purseless);

#[async_trait::async_trait]
impl Wallets for Both {
    async fn wallet(&self, mint: &MintUrl, _: &CurrencyUnit) -> Option<Arc<Wallet>> {
        let mut wallets = [&self.0.wallet, &self.1.wallet].into_iter();
        wallets.find(|wallet| wallet.mint_url == *mint).cloned()
    }
}

#[tokio::test]
async fn purse_opens_at_the_mint_that_does_what_is_needed() {
    const OTHER: &str = "https://other.example";
    let (rich, fit) = (TestMint::new(0).await, TestMint::new(0).await);
    rich.without_htlcs();
    let both = Both(
        Purseless::at(&rich, URL, 1, 1_000).await,
        Purseless::at(&fit, OTHER, 1, 100).await,
    );
    let mints = [URL, OTHER].map(|url| AcceptedMint::sat(url).unwrap());
    let params = LockedParams::new(mints.into(), receiver().public()).unwrap();
    let request = Request::Open {
        offer: offer(&params, 5),
        capacity: sat(50),
        budget: sat(60),
    };
    let runner = Runner::new(Arc::new(both));
    opens(&runner, request).await;
    assert_eq!((rich.calls_of("swap"), fit.calls_of("swap")), (0, 1));
}

/// Of the first mint its owner asks for more.
struct Demanding(Both);

#[async_trait::async_trait]
impl Wallets for Demanding {
    async fn wallet(&self, mint: &MintUrl, unit: &CurrencyUnit) -> Option<Arc<Wallet>> {
        self.0.wallet(mint, unit).await
    }

    fn needed_nuts(&self, mint: &MintUrl) -> Vec<u8> {
        match mint.to_string() == URL {
            true => vec![14],
            false => Vec::new(),
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_one_mint_is_not_asked_of_another() {
    const OTHER: &str = "https://other.example";
    for swap in [false, true] {
        let (rich, other) = (TestMint::new(0).await, TestMint::new(0).await);
        rich.without_htlcs();
        other.without_htlcs();
        let both = Both(
            Purseless::at(&rich, URL, 1, 1_000).await,
            Purseless::at(&other, OTHER, 1, 100).await,
        );
        let mints: Vec<_> = [URL, OTHER]
            .map(|url| AcceptedMint::sat(url).unwrap())
            .into();
        let locked = LockedParams::new(mints.clone(), receiver().public()).unwrap();
        let mut offer = offer(&locked, 5);
        let policy = LockedPolicy::default();
        let mut machine: Box<dyn BackendMachine> = Box::new(LockedMachine::p2pk(policy, None));
        if swap {
            offer.params = SwapParams::new(mints).unwrap().encode();
            machine = Box::new(SwapMachine::default());
        }
        let request = Request::Open {
            offer,
            capacity: sat(50),
            budget: sat(60),
        };
        let runner = Runner::new(Arc::new(Demanding(both)));
        opens_in(machine, &runner, request).await;
        let swaps = (rich.calls_of("swap"), other.calls_of("swap"));
        assert_eq!(swaps, (0, 1), "{swap}");
    }
}

#[tokio::test]
async fn what_a_mint_costs_is_paid_on_top_and_not_credited() {
    for chain in [true, false] {
        let mut pair = Pair::new(chain, 0, 500, 10).await;
        let mint = AcceptedMint::sat(URL).unwrap();
        let dear = mint.with_price_permille(1_050).unwrap();
        let dear = dear.with_purse_max(220).unwrap();
        pair.params = LockedParams::new(vec![dear.clone()], receiver().public()).unwrap();
        // Of thirty ticks as many as the payee takes at once.
        let request = Request::Open {
            offer: offer(&pair.params, 10),
            capacity: sat(300),
            budget: sat(400),
        };
        let opened = match pair.payer.ask(purse(0), request).await {
            Some(Outcome::Opened(opened)) => opened,
            other => panic!("not opened: {other:?}"),
        };
        assert_eq!((opened.capacity, opened.cost), (sat(200), sat(220)));
        let request = pair.accept_request(opened.opening);
        let accepted = pair.payee.ask(purse(0), request).await;
        let (capacity, quantum) = (sat(200), sat(1));
        assert_eq!(accepted, Some(Outcome::Accepted { capacity, quantum }));
        pair.ticks(1..=13).await;
        assert_eq!(pair.settle().await, 13 * 11);
        pair.show_note().await;
        assert_eq!(pair.release().await, 7 * 11);
        assert_eq!(pair.payer.spendable().await, 500 - 13 * 11);
    }
}

#[tokio::test]
async fn purse_below_a_mints_price_or_above_its_limit_is_refused() {
    let mint = AcceptedMint::sat(URL).unwrap();
    let dearer = mint.clone().with_price_permille(1_050).unwrap();
    let smaller = mint.with_purse_max(199).unwrap();
    for listed in [dearer, smaller] {
        let mut pair = Pair::new(true, 0, 500, 10).await;
        let opening = pair.offered(0, 20).await;
        pair.params = LockedParams::new(vec![listed], receiver().public()).unwrap();
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request).await;
        let refused = BackendError::Rejected(RefusalCode::WrongAmount, Consumed::No);
        assert_eq!(got, Some(Outcome::Failed(refused)));
        pair.show_note().await;
        assert_eq!(pair.release().await, 200);
    }
}

#[tokio::test]
async fn price_above_the_payers_own_limit_opens_nothing() {
    let mut pair = Pair::new(true, 0, 500, 10).await;
    let mint = AcceptedMint::sat(URL).unwrap();
    let dear = mint.with_price_permille(1_101).unwrap();
    pair.params = LockedParams::new(vec![dear], receiver().public()).unwrap();
    let request = pair.open_request(10);
    let got = pair.payer.ask(purse(0), request).await;
    let none = BackendError::Fatal(RefusalCode::NoCommonMethod);
    assert_eq!(got, Some(Outcome::Failed(none)));
}

#[tokio::test]
async fn of_two_mints_with_enough_the_cheaper_is_paid_at() {
    const OTHER: &str = "https://other.example";
    let (dear, cheap) = (TestMint::new(0).await, TestMint::new(0).await);
    let both = Arc::new(Both(
        Purseless::at(&dear, URL, 1, 1_000).await,
        Purseless::at(&cheap, OTHER, 1, 300).await,
    ));
    let [first, second] = [URL, OTHER].map(|url| AcceptedMint::sat(url).unwrap());
    let mints = vec![first.with_price_permille(1_020).unwrap(), second];
    for (ticks, chosen) in [(20, OTHER), (40, URL)] {
        let best = best_mint(&*both, &mints, (sat(10), ticks), sat(900)).await;
        assert_eq!(
            best.unwrap().map(AcceptedMint::url),
            Some(chosen),
            "{ticks}"
        );
    }
    let params = LockedParams::new(mints, receiver().public()).unwrap();
    let request = Request::Open {
        offer: offer(&params, 10),
        capacity: sat(200),
        budget: sat(900),
    };
    let runner = Runner::new(both);
    opens(&runner, request).await;
    assert_eq!((dear.calls_of("swap"), cheap.calls_of("swap")), (0, 1));
}

/// A purse opens with what the runner does.
async fn opens(runner: &Runner, request: Request) {
    let machine = LockedMachine::chain(LockedPolicy::default(), None);
    opens_in(Box::new(machine), runner, request).await;
}

async fn opens_in(mut machine: Box<dyn BackendMachine>, runner: &Runner, request: Request) {
    let now = Now::default();
    let mut answer = machine.request(now, purse(0), RequestId(1), request);
    while let Some(effect) = answer.effects.pop() {
        answer = machine.effect_done(now, runner.run(effect).await);
    }
    assert!(
        matches!(answer.outcome, Some(Outcome::Opened(_))),
        "{answer:?}"
    );
}
