//! The wallet folder and the embedded mint on disk.

use std::path::Path;

use crate::purses;
use streampay_cashu::{AcceptedMint, MintFault, MintPolicy, SwapMachine, Wallets, check_mint_url};
use streampay_core::backend::Outcome;
use streampay_core::units::Msat;
use streampay_examples::error::AppError;
use streampay_examples::home::Home;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::pay::{self, Pay};
use streampay_examples::report::Report;
use streampay_examples::trust::{before_serving, fit};
use streampay_examples::wallet::{LockKind, WalletError, WalletFolder};

use crate::cashu_node::{Pair, mint, sat};

#[tokio::test]
async fn a_wallet_belongs_to_one_process_and_its_seed_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let second = WalletFolder::open(folder.path());
    assert!(matches!(second, Err(WalletError::InUse(_))));
    drop(wallet);
    WalletFolder::open(folder.path()).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_worth_money_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (home, mint) = (folder.path().join("home"), folder.path().join("mint"));
    Home::open(&home).await.unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let running = EmbeddedMint::start(any, Storage::Folder(mint.clone()), 100).await;
    running.unwrap().stop().await;
    for folder in [home, mint] {
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let files: Vec<_> = folder.read_dir().unwrap().collect();
        assert!(files.len() >= 3);
        for file in files {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_token_goes_from_wallet_to_wallet_or_comes_back() {
    let mint = mint(100).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = folders
        .each_ref()
        .map(|folder| WalletFolder::open(folder.path()).unwrap());
    assert_eq!(a.deposit(&mint.url(), sat(100)).await.unwrap(), sat(100));
    let token = a.send(sat(10), None).await.unwrap();
    assert_eq!(b.receive(&token).await.unwrap(), sat(10));
    let again = b.receive(&token).await;
    assert!(matches!(again, Err(WalletError::Spent)), "{again:?}");
    assert_eq!(b.balance().await.unwrap()[0].pending, Msat::ZERO);

    a.send(sat(20), Some(&mint.url())).await.unwrap();
    let pending = a.balance().await.unwrap()[0].pending;
    assert!(pending >= sat(20));
    // Recovering leaves what was sent to whoever has it.
    let account = a.recover().await.unwrap();
    assert_eq!(
        (account[0].sent, account[0].waiting),
        (account[0].balance.pending, 0)
    );
    assert!(account[0].sent >= sat(20));
    assert!(a.take_back().await.unwrap() >= sat(19));
    let (a, b) = (a.balance().await.unwrap(), b.balance().await.unwrap());
    assert_eq!(a[0].pending, Msat::ZERO);
    let sum = a[0].spendable.plus(b[0].spendable).unwrap();
    assert_eq!(sum, mint.ledger().await.unwrap().outstanding());
}

/// The answer to NUT-07 names a proof that nobody has: it says nothing of those that were asked for.
#[tokio::test]
async fn recovery_goes_on_where_a_mint_speaks_of_proofs_that_were_not_asked_for() {
    let (lying, honest) = (mint(100).await, mint(0).await);
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    for mint in [&lying, &honest] {
        wallet.deposit(&mint.url(), sat(20)).await.unwrap();
    }
    let states = r#"{"states":[{"Y":"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798","state":"SPENT"}]}"#;
    let faults = lying.faults_for_testing();
    faults.set("/v1/checkstate", Fault::Answer(states), u64::MAX);
    let account = wallet.recover().await.unwrap();
    assert!(faults.seen("/v1/checkstate") > 0);
    assert_eq!(account.len(), 2);
    for at in account {
        assert_eq!((at.balance.spendable, at.trouble), (sat(20), None));
    }
}

/// Also where a swap made all of it, which cdk does not name.
#[tokio::test]
async fn sent_token_is_known_and_comes_back_whatever_it_is_made_of() {
    let mint = mint(100).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    wallet.deposit(&mint.url(), sat(200)).await.unwrap();
    for amount in [1, 7, 13, 64, 5, 20] {
        wallet.send(sat(amount), None).await.unwrap();
        for _ in 0..2 {
            let account = wallet.recover().await.unwrap();
            let pending = account[0].balance.pending;
            assert!(pending >= sat(amount), "{amount}");
            assert_eq!(
                (account[0].sent, account[0].waiting),
                (pending, 0),
                "{amount}"
            );
        }
        assert!(wallet.take_back().await.unwrap() >= sat(amount).minus(sat(1)).unwrap());
        let pending = wallet.balance().await.unwrap()[0].pending;
        assert_eq!(pending, Msat::ZERO, "{amount}");
    }
    let left = wallet.balance().await.unwrap()[0].spendable;
    assert_eq!(left, mint.ledger().await.unwrap().outstanding());
}

#[tokio::test]
async fn too_much_and_wrong_urls_are_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let error = wallet.deposit("http://mint.example", sat(1)).await;
    assert!(matches!(error, Err(WalletError::MintUrl(_))));
    let error = wallet.send(sat(1), None).await;
    assert!(matches!(error, Err(WalletError::InsufficientFunds(..))));
    let error = wallet.receive("nonsense").await;
    assert!(matches!(error, Err(WalletError::Token)));
}

#[tokio::test]
async fn a_mint_in_a_folder_comes_back_with_its_keys_and_coins() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = Storage::Folder(home.path().join("mint"));
    let any = "127.0.0.1:0".parse().unwrap();
    let first = EmbeddedMint::start(any, storage.clone(), 100)
        .await
        .unwrap();
    let address = first.url().trim_start_matches("http://").parse().unwrap();
    let wallet = WalletFolder::open(data.path()).unwrap();
    wallet.deposit(&first.url(), sat(50)).await.unwrap();
    let before = first.ledger().await.unwrap();
    first.stop().await;

    let second = EmbeddedMint::start(address, storage, 100).await.unwrap();
    assert_eq!(second.ledger().await.unwrap(), before);
    let token = wallet.send(sat(7), None).await.unwrap();
    // Not its own sender's pending token any more: it is spendable again.
    assert_eq!(wallet.receive(&token).await.unwrap(), sat(7));
    let ledger = second.ledger().await.unwrap();
    let with_fees = ledger.outstanding().plus(ledger.fees).unwrap();
    assert_eq!(with_fees, sat(50));
}

#[tokio::test]
async fn recover_accounts_for_every_sat_of_a_killed_viewer() {
    let mut pair = Pair::opened(100, 100, 2, 10).await;
    pair.whole_tick(1).await;
    let sent = pair.paid(2).await;
    pair.credit(2, &sent).await;
    pair.paid(3).await;
    // Killed here: nothing is released. The wallet says what is where.
    let account = pair.payer.wallet().recover().await.unwrap();
    assert_eq!(account[0].in_purses, sat(24), "8 of 10 tokens, 3 sat each");
    assert_eq!(account[0].spent_in_purses, sat(6));
    let pending = account[0].balance.pending;
    assert_eq!(pending, sat(30));

    let runner = pair.payer.runner();
    let mut machine = SwapMachine::default();
    for _ in 0..2 {
        let outcomes = purses::recover_purses(&mut machine, &runner, &mut pair.payer.store)
            .await
            .unwrap();
        // 7 unsent tokens of 3, and one that was swapped back for 2.
        let refunded = sat(23);
        assert_eq!(outcomes, [(pair.key, Outcome::Released { refunded })]);
    }
    drop(runner);
    let account = pair.payer.wallet().recover().await.unwrap();
    assert_eq!(account[0].balance.pending, Msat::ZERO);
    assert_eq!(
        (account[0].in_purses, account[0].spent_in_purses),
        (sat(0), sat(0))
    );
    pair.payer.restart().await;
    pair.settles_conserved(100, 2).await;
}

/// A streamer's wallet has only ever received: it has never begun an operation of its own.
#[tokio::test]
async fn a_wallet_without_operations_recovers_nothing_and_fails_at_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    assert!(wallet.recover().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mint_that_does_not_tell_its_time_is_timed_by_its_answers() {
    let mint = mint(0).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let url = check_mint_url(&mint.url()).unwrap();
    let date = wallet.mint_time(&url).await.unwrap();
    let ours = cdk::util::unix_time();
    assert!(date.abs_diff(ours) <= 2, "{date} {ours}");
    mint.stop().await;
    assert_eq!(wallet.mint_time(&url).await, None, "not what it once said");
}

/// What a cache on the way has kept says an old time, and how old it is.
#[tokio::test]
async fn a_mint_behind_a_cache_is_timed_as_it_is_now() {
    const AGO: u64 = 2 * 3_600;
    let mint = mint(0).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let (at, url) = (mint.url(), check_mint_url(&mint.url()).unwrap());
    let faults = mint.faults_for_testing();
    let faults_of = || wallet.faults_of(&at, MintPolicy::CHAIN);
    faults.set("/v1/info", Fault::Ago(AGO), 1);
    assert!(matches!(
        faults_of().await.unwrap()[..],
        [MintFault::Skew { .. }]
    ));
    faults.set("/v1/info", Fault::Old(AGO), u64::MAX);
    assert_eq!(faults_of().await.unwrap(), []);
    // By the date of its answers alone.
    let date = wallet.mint_time(&url).await.unwrap();
    let ours = cdk::util::unix_time();
    assert!(date.abs_diff(ours) <= 2, "{date} {ours}");
    mint.stop().await;
}

#[tokio::test]
async fn mints_elsewhere_are_asked_within_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let budget = |url: &str| wallet.budget(&check_mint_url(url).unwrap());
    assert_eq!(budget("http://127.0.0.1:3338"), None);
    let most = budget("https://mint.example").unwrap();
    assert_eq!((most.per_minute, most.burst), (20, 20));
}

#[tokio::test]
async fn locks_are_tried_once_for_each_of_a_mints_keysets() {
    let mint = mint(100).await;
    let (folder, url) = (tempfile::tempdir().unwrap(), mint.url());
    let wallet = WalletFolder::open(folder.path()).unwrap();
    wallet.deposit(&url, sat(60)).await.unwrap();
    assert_eq!(wallet.known_of(&url, LockKind::Htlc).await.unwrap(), None);
    let tried = wallet.try_locks(&url, LockKind::Htlc).await.unwrap();
    assert!(tried.hold);
    let left = wallet.balance().await.unwrap()[0].clone();
    assert_eq!(left.pending, Msat::ZERO);
    assert_eq!(left.spendable, mint.ledger().await.unwrap().outstanding());
    drop(wallet);
    let wallet = WalletFolder::open(folder.path()).unwrap();
    let known = wallet.known_of(&url, LockKind::Htlc).await.unwrap();
    assert_eq!(known, Some(tried));
    assert_eq!(wallet.known_of(&url, LockKind::P2pk).await.unwrap(), None);
    let amounts = (0..32).map(|bit| 1_u64 << bit).collect();
    let unit = cdk::nuts::CurrencyUnit::Sat;
    let rotated = mint
        .mint_for_testing()
        .rotate_keyset(unit, amounts, 100, true, None);
    rotated.await.unwrap();
    assert_eq!(wallet.known_of(&url, LockKind::Htlc).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_out_to_try_a_mint_comes_home_with_recover() {
    let mint = mint(0).await;
    let (folder, url) = (tempfile::tempdir().unwrap(), mint.url());
    let wallet = WalletFolder::open(folder.path()).unwrap();
    wallet.deposit(&url, sat(60)).await.unwrap();
    // It is locked; then the mint is gone, and the process too.
    let faults = mint.faults_for_testing();
    faults.set("/v1/swap", Fault::Say("never said", ""), 1);
    faults.set("/v1/swap", Fault::Refuse, u64::MAX);
    let tried = wallet.try_locks(&url, LockKind::P2pk).await;
    assert!(matches!(tried, Err(WalletError::Untried(_))), "{tried:?}");
    let out = wallet.balance().await.unwrap()[0].pending;
    assert!(out > Msat::ZERO);
    let seeds = || {
        let files = folder.path().read_dir().unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("canary-")).count()
    };
    assert_eq!(seeds(), 1);
    drop(wallet);
    let wallet = WalletFolder::open(folder.path()).unwrap();
    assert_eq!(wallet.recover().await.unwrap()[0].waiting, 1);
    faults.clear();
    let account = wallet.recover().await.unwrap();
    assert_eq!(account[0].balance.spendable, sat(60));
    assert_eq!(account[0].balance.pending, Msat::ZERO);
    assert_eq!((account[0].waiting, seeds()), (0, 0));
}

#[tokio::test]
async fn a_mint_that_breaks_locks_is_neither_offered_nor_used() {
    let mint = mint(0).await;
    let (folder, url) = (tempfile::tempdir().unwrap(), mint.url());
    let home = Home::open(folder.path()).await.unwrap();
    home.wallet.deposit(&url, sat(60)).await.unwrap();
    let quiet = Report { json: false };
    let listed = || vec![AcceptedMint::sat(&url).unwrap()];
    // The first swap locks; the second is the wrong one, and is answered as if it were right.
    let faults = mint.faults_for_testing();
    faults.set("/v1/swap", Fault::Say("never said", ""), 1);
    faults.set("/v1/swap", Fault::Answer("{\"signatures\":[]}"), 1);
    let left_out = before_serving(&home, listed(), Pay::ALL, quiet).await;
    assert!(
        matches!(
            &left_out,
            Err(AppError::UnfitMint {
                fault: MintFault::Locks,
                ..
            })
        ),
        "{left_out:?}"
    );
    assert!(!home.wallet.trusts_locks_at(&url));
    // It is remembered, and nothing of the trial is lost.
    let again = before_serving(&home, listed(), &[Pay::Chain], quiet).await;
    assert!(again.is_err());
    let balance = home.wallet.balance().await.unwrap()[0].clone();
    assert_eq!((balance.spendable, balance.pending), (sat(60), Msat::ZERO));
    // A mint that is not tried, for there is nothing to try it with, is offered.
    let poor = tempfile::tempdir().unwrap();
    let poor = Home::open(poor.path()).await.unwrap();
    let offered = before_serving(&poor, listed(), Pay::ALL, quiet).await;
    assert_eq!(fit(&offered.unwrap()), listed());
}

#[tokio::test]
async fn a_mint_above_the_fee_that_is_allowed_or_without_what_is_needed_is_left_out() {
    let mint = mint(100).await;
    let (folder, url) = (tempfile::tempdir().unwrap(), mint.url());
    let quiet = Report { json: false };
    let listed = || vec![AcceptedMint::sat(&url).unwrap()];
    // Its own limit is higher than that of all, and lower.
    let own = pay::limit_ppk(&format!("{url}=100")).unwrap();
    let limits = pay::limits(&[(None, 99), own], &[], &[]);
    let home = Home::open_with(folder.path(), limits).await.unwrap();
    let taken = before_serving(&home, listed(), Pay::ALL, quiet).await;
    assert_eq!(fit(&taken.unwrap()), listed());
    drop(home);
    let own = pay::limit_ppk(&format!("{url}=99")).unwrap();
    let limits = pay::limits(&[own, (None, 1_000)], &[], &[]);
    let home = Home::open_with(folder.path(), limits).await.unwrap();
    let dear = before_serving(&home, listed(), Pay::ALL, quiet).await;
    assert!(
        matches!(
            &dear,
            Err(AppError::UnfitMint {
                fault: MintFault::Fee { ppk: 100, most: 99 },
                ..
            })
        ),
        "{dear:?}"
    );
    drop(home);
    let home = Home::open(folder.path()).await.unwrap();
    let without = Fault::Say(
        "\"14\":{\"supported\":true}",
        "\"14\":{\"supported\":false}",
    );
    mint.faults_for_testing().set("/v1/info", without, u64::MAX);
    let chain = before_serving(&home, listed(), &[Pay::Chain], quiet).await;
    assert!(
        matches!(
            &chain,
            Err(AppError::UnfitMint {
                fault: MintFault::Lacks(14),
                ..
            })
        ),
        "{chain:?}"
    );
    // Other ways can be paid there.
    let any = before_serving(&home, listed(), Pay::ALL, quiet).await;
    assert_eq!(any.unwrap().len(), 1);
}

#[tokio::test]
async fn a_mint_that_lacks_what_its_user_asks_of_it_is_left_out() {
    let (mint, folder) = (mint(0).await, tempfile::tempdir().unwrap());
    let (url, quiet) = (mint.url(), Report { json: false });
    let listed = || vec![AcceptedMint::sat(&url).unwrap()];
    let without = Fault::Say(
        "\"14\":{\"supported\":true}",
        "\"14\":{\"supported\":false}",
    );
    mint.faults_for_testing().set("/v1/info", without, u64::MAX);
    // Swaps do without NUT-14. What is asked of this mint alone goes before what is asked of all.
    for (all, own, fits) in [
        (None, None, true),
        (Some("7,14"), None, false),
        (None, Some("14"), false),
        (Some("14"), Some("7,9"), true),
    ] {
        let own = own.map(|nuts| format!("{url}={nuts}"));
        let nuts = [all.map(str::to_owned), own].into_iter().flatten();
        let nuts: Vec<_> = nuts.map(|text| pay::limit_nuts(&text).unwrap()).collect();
        let limits = pay::limits(&[], &[], &nuts);
        let home = Home::open_with(folder.path(), limits).await.unwrap();
        let taken = before_serving(&home, listed(), &[Pay::Swap], quiet).await;
        match fits {
            true => assert_eq!(fit(&taken.unwrap()), listed(), "{nuts:?}"),
            false => assert!(
                matches!(
                    &taken,
                    Err(AppError::UnfitMint {
                        fault: MintFault::Lacks(14),
                        ..
                    })
                ),
                "{nuts:?}: {taken:?}"
            ),
        }
    }
}
