//! Invoices that were over long ago, at a mint that is gone: what was paid in time is not given up by itself.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use cdk_common::database::WalletDatabase as _;
use cdk_redb::WalletRedbDatabase;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::wallet::{Begun, WalletFolder};

use crate::cashu_node::{mint, sat};
use crate::processes::{STREAMER, VIEWER, msat, recovered, run};

fn exit_code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Three invoices of 60 sat in all, at a mint that says that nobody has paid them.
async fn ask_for_money(folder: &Path, url: &str, expiry: u64) {
    let wallet = WalletFolder::open(folder).unwrap();
    for amount in [10, 20, 30] {
        let begun = wallet.begin_deposit(url, sat(amount)).await.unwrap();
        assert!(matches!(begun, Begun::Waits(_)), "{begun:?}");
    }
    drop(wallet);
    let store = WalletRedbDatabase::new(&folder.join("wallet.redb")).unwrap();
    for mut quote in store.get_mint_quotes().await.unwrap() {
        quote.expiry = expiry;
        store.add_mint_quote(quote).await.unwrap();
    }
}

async fn recover(program: &'static str, folder: &Path, more: &[&str]) -> Output {
    let args: Vec<String> = [&["recover", "--json"], more]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let folder = folder.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(program, &folder, &args)
    });
    ran.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_that_are_over_at_a_mint_that_is_gone_are_forgotten_by_the_users_word_alone() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    let folder = folder.path();
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    ask_for_money(folder, &url, 1).await;
    faults.clear();
    faults.set("/", Fault::Refuse, u64::MAX);
    let silent = recover(VIEWER, folder, &[]).await;
    assert_eq!(exit_code(&silent), Some(5), "{silent:?}");
    let said = recovered(&silent, "wallet");
    assert_eq!(
        (msat(&said, "unheard_msat"), msat(&said, "waiting")),
        (60_000, 3)
    );
    let told = words(&silent);
    assert!(told.contains(&format!("recover --unpaid {url}")), "{told}");
    // Of another mint than the one that was named nothing is forgotten.
    let other = ["--unpaid", "https://mint.example.com"];
    assert_eq!(exit_code(&recover(VIEWER, folder, &other).await), Some(5));
    let forgotten = recover(VIEWER, folder, &["--unpaid", &url]).await;
    assert_eq!(exit_code(&forgotten), Some(0), "{forgotten:?}");
    assert_eq!(msat(&recovered(&forgotten, "wallet"), "unheard_msat"), 0);
    let asked = faults.met();
    for program in [VIEWER, STREAMER] {
        let again = recover(program, folder, &[]).await;
        assert_eq!(exit_code(&again), Some(0), "{again:?}");
    }
    assert_eq!(faults.met(), asked, "nothing is left to ask for");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_invoice_that_was_paid_arrives_whatever_the_user_says() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    ask_for_money(folder.path(), &url, 1).await;
    faults.clear();
    let came = recover(VIEWER, folder.path(), &["--unpaid", &url]).await;
    assert_eq!(exit_code(&came), Some(0), "{came:?}");
    let wallet = Arc::new(WalletFolder::open(folder.path()).unwrap());
    assert_eq!(wallet.balance().await.unwrap()[0].spendable, sat(60));
}

/// Neither a firewall's answer nor a mint that signs nothing for a while says that nobody has paid.
#[tokio::test]
async fn an_old_invoice_that_was_paid_is_kept_whatever_error_comes_in_place_of_its_ecash() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    ask_for_money(folder.path(), &url, 1).await;
    let wallet = WalletFolder::open(folder.path()).unwrap();
    for (path, unheard) in [("/v1/mint/quote", 3), ("/v1/mint/bolt11", 0)] {
        faults.clear();
        faults.set(path, Fault::Forbid, u64::MAX);
        let left = wallet.recover().await.unwrap().remove(0);
        assert_eq!((left.waiting, left.unheard.len()), (3, unheard), "{path}");
    }
    faults.clear();
    let came = wallet.recover().await.unwrap().remove(0);
    assert_eq!((came.waiting, came.deposited), (0, sat(60)));
}

/// A mint may name no end: nobody knows that such an invoice is over.
#[tokio::test(flavor = "multi_thread")]
async fn invoice_without_an_end_is_not_over_and_not_forgotten() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    let folder = folder.path();
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    ask_for_money(folder, &url, 0).await;
    faults.clear();
    faults.set("/", Fault::Refuse, u64::MAX);
    for more in [&[][..], &["--unpaid", &url]] {
        let said = recover(VIEWER, folder, more).await;
        assert_eq!(exit_code(&said), Some(5), "{said:?}");
        let said = recovered(&said, "wallet");
        let figures = (msat(&said, "unheard_msat"), msat(&said, "waiting"));
        assert_eq!(figures, (0, 3), "{more:?}");
    }
}
