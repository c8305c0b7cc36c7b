//! What was earned, paid out by shares: to the last satoshi, once, however it is cut short.

use std::path::Path;

use serde_json::Value;
use streampay_examples::error::AppError;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::split::{PartState, Payout, Share, finish, pay};
use streampay_examples::wallet::{WalletError, WalletFolder};

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

    /// Both receivers take these amounts, and no other.
    async fn route(&self, amounts: [u64; 2]) {
        for (host, amount) in ["one", "two"].iter().zip(amounts) {
            let origin = format!("https://{host}.example.com");
            let at = lightning_address(host, 1, amount).await;
            self.wallet.route_for_testing(&origin, &at);
        }
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
