//! What was earned, paid out by shares: to the last satoshi, once, however it is cut short.

use std::path::Path;

use cdk::nuts::MeltQuoteState;
use serde_json::Value;
use streampay_core::store::{RedbStore, StoreError};
use streampay_examples::backup::{backup, restore};
use streampay_examples::error::AppError;
use streampay_examples::home::Home;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::secret::SecretPlace;
use streampay_examples::split::{
    Heard, PartState, Payout, Share, answer, doubt_all, finish, give_up, pay,
};
use streampay_examples::wallet::{WalletError, WalletFolder};

use crate::backup::write_secret;
use crate::cashu_node::{mint, sat};
use crate::edges::lightning_address;

const ADDRESSES: [&str; 2] = ["name@one.example.com=2", "name@two.example.com=1"];

struct Earner {
    mint: EmbeddedMint,
    wallet: WalletFolder,
    folder: tempfile::TempDir,
}

impl Earner {
    async fn new() -> Self {
        let (mint, folder) = (mint(0).await, tempfile::tempdir().unwrap());
        let wallet = WalletFolder::open(folder.path()).unwrap();
        wallet.deposit(&mint.url(), sat(100)).await.unwrap();
        Self {
            mint,
            wallet,
            folder,
        }
    }

    async fn route(&self, amounts: [u64; 2]) {
        route(&self.wallet, amounts).await;
    }

    fn plan(&self, amount: u64) -> Payout {
        let shares = ADDRESSES.map(|share| share.parse::<Share>().unwrap());
        Payout::plan(&self.wallet, sat(amount), self.mint.url(), &shares).unwrap()
    }

    async fn spendable(&self) -> u64 {
        self.wallet.balance().await.unwrap()[0]
            .spendable
            .sat_floor()
    }
}

/// Both receivers take these amounts, and no other.
async fn route(wallet: &WalletFolder, amounts: [u64; 2]) {
    for (host, amount) in ["one", "two"].iter().zip(amounts) {
        let origin = format!("https://{host}.example.com");
        let at = lightning_address(host, 1, amount).await;
        wallet.route_for_testing(&origin, &at);
    }
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("payouts").join("000001.json")
}

fn are_paid(payout: &Payout) -> [bool; 2] {
    [0, 1].map(|at| matches!(payout.parts[at].state, PartState::Paid { .. }))
}

#[tokio::test]
async fn payout_comes_to_its_amount_and_is_paid_once_however_it_is_cut_short() {
    let earner = Earner::new().await;
    // The second one wants another amount at first.
    earner.route([33, 5]).await;
    let mut payout = earner.plan(50);
    let amounts: Vec<u64> = payout.parts.iter().map(|part| part.amount_sat).collect();
    assert_eq!(amounts, [33, 17]);
    let failed = pay(&earner.wallet, &mut payout, None).await.unwrap_err();
    let is_it = matches!(failed, AppError::Wallet(WalletError::Address(_)));
    assert!(is_it, "{failed}");
    assert_eq!(are_paid(&payout), [true, false]);
    let left = earner.spendable().await;
    assert!(left <= 67, "{left}");

    // A crash after the first was paid and before it was noted.
    let text = std::fs::read_to_string(file(earner.folder.path())).unwrap();
    let mut doctored: Value = serde_json::from_str(&text).unwrap();
    let wallet = earner.wallet.wallet_at(&earner.mint.url()).await.unwrap();
    let quotes = wallet.localstore.get_melt_quotes().await.unwrap();
    let quote = quotes
        .iter()
        .find(|quote| quote.amount.to_u64() == 33)
        .unwrap();
    let part = &mut doctored["parts"][0];
    part["state"] = "paying".into();
    part["quote"] = quote.id.clone().into();
    std::fs::write(file(earner.folder.path()), doctored.to_string()).unwrap();

    earner.route([33, 17]).await;
    let done = finish(&earner.wallet, None).await.unwrap().unwrap();
    assert!(done.is_done(), "{done:?}");
    assert_eq!(done.parts[0].state, payout.parts[0].state, "as it was");
    assert_eq!(
        Payout::all(&earner.wallet).unwrap(),
        std::slice::from_ref(&done)
    );
    let fees = |at: usize| match done.parts[at].state {
        PartState::Paid { fees_msat, .. } => fees_msat / 1_000,
        _ => 0,
    };
    assert_eq!(earner.spendable().await, 100 - 50 - fees(0) - fees(1));
    assert!(finish(&earner.wallet, None).await.unwrap().is_none());

    // Another one; its number is the next.
    earner.route([4, 2]).await;
    let mut next = earner.plan(6);
    assert_eq!(next.number, 2);
    pay(&earner.wallet, &mut next, None).await.unwrap();
    assert_eq!(are_paid(&next), [true, true]);
}

#[tokio::test]
async fn payment_of_an_unknown_quote_is_never_tried_again() {
    let earner = Earner::new().await;
    earner.route([2, 1]).await;
    let payout = earner.plan(3);
    let mut doctored = serde_json::to_value(&payout).unwrap();
    doctored["parts"][0]["state"] = "paying".into();
    doctored["parts"][0]["quote"] = "lost".into();
    std::fs::write(file(earner.folder.path()), doctored.to_string()).unwrap();
    let unclear = finish(&earner.wallet, None).await.unwrap_err();
    let is_it = matches!(unclear, AppError::Wallet(WalletError::Unsettled));
    assert!(is_it, "{unclear}");
    let all = Payout::all(&earner.wallet).unwrap();
    assert_eq!(are_paid(&all[0]), [false, true]);
}

/// An address that is none would keep every later payout waiting.
#[tokio::test]
async fn payout_that_cannot_be_paid_is_given_up_but_for_what_may_be_paid() {
    let earner = Earner::new().await;
    earner.route([2, 9]).await;
    let mut payout = earner.plan(3);
    pay(&earner.wallet, &mut payout, None).await.unwrap_err();
    finish(&earner.wallet, None).await.unwrap_err();
    let given_up = give_up(&earner.wallet).unwrap().unwrap();
    assert_eq!(given_up.parts[1].state, PartState::Dropped);
    assert_eq!(given_up.parts[0].state, payout.parts[0].state);
    let left = earner.spendable().await;
    assert!(finish(&earner.wallet, None).await.unwrap().is_none());
    assert!(give_up(&earner.wallet).unwrap().is_none());
    assert_eq!(earner.spendable().await, left);

    // One that is in doubt is not.
    earner.route([4, 2]).await;
    earner.plan(6);
    doubt_all(earner.folder.path()).unwrap();
    let kept = give_up(&earner.wallet).unwrap().unwrap();
    assert!(kept.parts.iter().all(|part| !part.state.is_done()));
    finish(&earner.wallet, None).await.unwrap_err();
}

/// A folder is saved while a payout is half done, the payout goes on and is done, and the folder is lost.
#[tokio::test]
async fn payout_that_was_done_after_the_backup_is_not_paid_again_by_the_restored_folder() {
    let (mint, base) = (mint(0).await, tempfile::tempdir().unwrap());
    let at = |name: &str| base.path().join(name);
    let (data, saved) = (at("data"), at("saved.age"));
    let phrase = phrase(&at("phrase"));
    let home = Home::open(&data).await.unwrap();
    home.wallet.deposit(&mint.url(), sat(100)).await.unwrap();
    route(&home.wallet, [33, 5]).await;
    let shares = ADDRESSES.map(|share| share.parse::<Share>().unwrap());
    let mut payout = Payout::plan(&home.wallet, sat(50), mint.url(), &shares).unwrap();
    pay(&home.wallet, &mut payout, None).await.unwrap_err();
    assert_eq!(are_paid(&payout), [true, false]);
    close(home, &data).await;
    backup(&data, &saved, &phrase).await.unwrap();

    let home = Home::open(&data).await.unwrap();
    route(&home.wallet, [33, 17]).await;
    assert!(finish(&home.wallet, None).await.unwrap().unwrap().is_done());
    close(home, &data).await;
    std::fs::remove_dir_all(&data).unwrap();
    restore(&data, &saved, &phrase, Vec::new()).await.unwrap();

    let home = Home::open(&data).await.unwrap();
    route(&home.wallet, [33, 17]).await;
    let paid_out = || async { mint.ledger().await.unwrap().outstanding() };
    let before = paid_out().await;
    let doubt = finish(&home.wallet, None).await.unwrap_err();
    assert!(doubt.to_string().contains("restored"), "{doubt}");
    assert_eq!(paid_out().await, before, "nothing was paid");
    // Nor by a backup of the restored folder.
    close(home, &data).await;
    backup(&data, &saved, &phrase).await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    restore(&data, &saved, &phrase, Vec::new()).await.unwrap();
    let home = Home::open(&data).await.unwrap();
    finish(&home.wallet, None).await.unwrap_err();
    assert_eq!(paid_out().await, before, "nothing was paid");

    // Its receiver says that it has it.
    let other = "two@example.com".to_owned();
    answer(&home.wallet, &[other], Heard::Paid).unwrap_err();
    let receiver = payout.parts[1].to.clone();
    answer(&home.wallet, &[receiver], Heard::Paid).unwrap();
    assert!(finish(&home.wallet, None).await.unwrap().is_none());
    let all = Payout::all(&home.wallet).unwrap();
    assert_eq!(all[0].parts[1].state, PartState::Vouched);
    assert_eq!(paid_out().await, before, "nothing was paid");
}

/// The same, and it was not done: who is asked says so, and it is paid then.
#[tokio::test]
async fn payout_in_doubt_is_paid_once_its_receiver_has_said_that_it_was_not() {
    let earner = Earner::new().await;
    earner.route([2, 1]).await;
    let payout = earner.plan(3);
    doubt_all(earner.folder.path()).unwrap();
    finish(&earner.wallet, None).await.unwrap_err();
    assert_eq!(earner.spendable().await, 100);
    let [one, two] = [0, 1].map(|at: usize| payout.parts[at].to.clone());
    answer(&earner.wallet, &[one], Heard::NotPaid).unwrap();
    finish(&earner.wallet, None).await.unwrap_err();
    let paid = Payout::all(&earner.wallet).unwrap();
    assert_eq!(are_paid(&paid[0]), [true, false]);
    answer(&earner.wallet, &[two], Heard::NotPaid).unwrap();
    let done = finish(&earner.wallet, None).await.unwrap().unwrap();
    assert_eq!(are_paid(&done), [true, true]);
}

/// The backup knows of the payment, and not how it went: its mint does.
#[tokio::test]
async fn payment_in_doubt_is_looked_up_at_its_mint() {
    let earner = Earner::new().await;
    earner.route([33, 17]).await;
    let mut payout = earner.plan(50);
    pay(&earner.wallet, &mut payout, None).await.unwrap();
    let wallet = earner.wallet.wallet_at(&earner.mint.url()).await.unwrap();
    let quotes = wallet.localstore.get_melt_quotes().await.unwrap();
    let mut doctored = serde_json::to_value(&payout).unwrap();
    for (part, amount) in [(0, 33), (1, 17)] {
        let quote = quotes.iter().find(|of| of.amount.to_u64() == amount);
        let mut quote = quote.unwrap().clone();
        doctored["parts"][part]["state"] = "paying".into();
        doctored["parts"][part]["quote"] = quote.id.clone().into();
        // What the folder knew when it was saved.
        quote.state = MeltQuoteState::Unpaid;
        wallet.localstore.add_melt_quote(quote).await.unwrap();
    }
    std::fs::write(file(earner.folder.path()), doctored.to_string()).unwrap();
    doubt_all(earner.folder.path()).unwrap();
    let before = earner.spendable().await;
    let done = finish(&earner.wallet, None).await.unwrap().unwrap();
    assert_eq!(are_paid(&done), [true, true]);
    assert_eq!(earner.spendable().await, before);
}

/// Its store ends on a thread of its own, after it is dropped.
async fn close(home: Home, folder: &Path) {
    drop(home);
    while matches!(RedbStore::open(folder), Err(StoreError::Locked)) {
        tokio::task::yield_now().await;
    }
}

fn phrase(path: &Path) -> SecretPlace {
    write_secret(path, "correct horse battery staple");
    format!("file:{}", path.display()).parse().unwrap()
}
