//! `streamer split` as a process: what it tells of a payout, and how it ends.

use std::path::{Path, PathBuf};

use serde_json::Value;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::split::{PartState, Payout, Share, doubt_all, finish, pay};
use streampay_examples::wallet::WalletFolder;
use tokio::runtime::Runtime;

use crate::cashu_node::{mint, sat};
use crate::edges::lightning_address;
use crate::ledger::assert_balances;
use crate::processes::{STREAMER, run, stdout};

/// There are no such hosts (RFC 2606), so that no process can pay them; wallets here are told of some.
const HOSTS: [&str; 2] = ["one", "two"];
const WEIGHTS: [u64; 2] = [2, 1];

fn receiver(at: usize) -> String {
    format!("name@{}.example.com", HOSTS[at])
}

fn said(at: usize) -> String {
    format!("{}={}", receiver(at), WEIGHTS[at])
}

/// 100 sat in a folder that no process has open.
struct Earner {
    mint: EmbeddedMint,
    folder: tempfile::TempDir,
    runtime: Runtime,
}

impl Earner {
    fn new() -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let mint = runtime.block_on(mint(0));
        let earner = Self {
            mint,
            folder,
            runtime,
        };
        let url = earner.mint.url();
        earner.with(async |wallet| wallet.deposit(&url, sat(100)).await.map(drop).unwrap());
        earner
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("streamer")
    }

    /// What its owner's process does that is not under test.
    fn with<T>(&self, act: impl AsyncFnOnce(&WalletFolder) -> T) -> T {
        self.runtime.block_on(async {
            let wallet = WalletFolder::open(&self.data()).unwrap();
            act(&wallet).await
        })
    }

    fn plan(&self, amount: u64) -> Payout {
        let shares = [0, 1].map(|at| said(at).parse::<Share>().unwrap());
        let url = self.mint.url();
        self.with(async |wallet| Payout::plan(wallet, sat(amount), url, &shares).unwrap())
    }

    fn spendable(&self) -> u64 {
        let balance = self.with(async |wallet| wallet.balance().await.unwrap());
        balance[0].spendable.sat_floor()
    }

    /// `split` with these arguments: its exit code, its events, and its words.
    fn split(&self, args: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let output = run(STREAMER, &self.data(), &[&["split"], args].concat());
        let lines = stdout(&output);
        let events = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let events: Vec<Value> = events.collect();
        assert!(events.iter().all(|of| of["event"] == "payout"), "{lines}");
        let words = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), events, words)
    }

    /// What `split --list --json` says, and that it says the same to people.
    fn list(&self) -> Vec<Value> {
        let (code, listed, _) = self.split(&["--list", "--json"]);
        assert_eq!(code, Some(0));
        let (code, none, words) = self.split(&["--list"]);
        assert_eq!((code, none.len()), (Some(0), 0));
        assert_eq!(words.matches(" sat to name@").count(), listed.len());
        listed
    }

    fn states(&self) -> Vec<String> {
        states(&self.list())
    }

    fn file(&self) -> PathBuf {
        self.data().join("payouts").join("000001.json")
    }
}

/// A wallet's requests for this receiver go to one that asks for `amount`.
async fn route(wallet: &WalletFolder, at: usize, amount: u64) {
    let host = HOSTS[at];
    let real = lightning_address(host, 1, amount).await;
    wallet.route_for_testing(&format!("https://{host}.example.com"), &real);
}

fn states(events: &[Value]) -> Vec<String> {
    let each = events.iter().map(|of| of["state"].as_str().unwrap());
    each.map(str::to_owned).collect()
}

fn fees_msat(payout: &Payout, at: usize) -> u64 {
    match payout.parts[at].state {
        PartState::Paid { fees_msat, .. } => fees_msat,
        ref other => panic!("{other:?}"),
    }
}

/// As if the process had died before it noted how the payments went.
fn forget(file: &Path, quotes: [&str; 2]) {
    let mut doctored: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for (part, quote) in quotes.iter().enumerate() {
        let part = &mut doctored["parts"][part];
        part["state"] = "paying".into();
        part["quote"] = (*quote).into();
    }
    std::fs::write(file, doctored.to_string()).unwrap();
}

#[test]
fn payout_that_cannot_be_paid_is_told_goes_on_and_is_given_up() {
    let earner = Earner::new();
    let [one, two] = [said(0), said(1)];
    let both = ["--to", &one, "--to", &two];
    for args in [&["--json"][..], &["--give-up", "--json"]] {
        let (code, events, words) = earner.split(args);
        assert_eq!((code, events.len()), (Some(0), 0), "{args:?} {words}");
        assert!(words.contains("no payout was cut short"), "{words}");
    }
    for wrong in [
        &["6sat"][..],
        &["6sat", "--to", "nobody=1", "--yes"],
        &["6sat", "--to", "name@one.example.com=0", "--yes"],
        &["--to", &one],
        &["--list", "--give-up"],
        // One of them would get nothing.
        &[&["1sat", "--yes"], &both[..]].concat(),
        // Nobody is there to be asked.
        &[&["6sat"], &both[..]].concat(),
        &["--was-paid", &receiver(0)],
        &["--not-paid", &receiver(0)],
    ] {
        let (code, events, words) = earner.split(wrong);
        assert_eq!((code, events.len()), (Some(2), 0), "{wrong:?} {words}");
    }
    assert!(earner.list().is_empty());

    let (code, events, _) = earner.split(&[&["50sat", "--yes", "--json"], &both[..]].concat());
    assert_eq!(code, Some(1), "{events:?}");
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["payout"], 1);
        assert!(event["began_unix_s"].is_u64(), "{event}");
        assert_eq!(event["mint"], earner.mint.url());
        assert_eq!(event["to"], receiver(at));
        assert_eq!(event["weight"], WEIGHTS[at]);
        assert_eq!(event["amount_msat"], [33_000, 17_000][at]);
        assert_eq!(event["state"], "planned");
        assert!(event["fees_msat"].is_null() && event["preimage"].is_null());
    }
    assert_eq!(events.len(), 2);
    assert_eq!(earner.list(), events);
    assert_eq!(earner.spendable(), 100);

    // The first one can be paid for a while.
    earner.with(async |wallet| {
        route(wallet, 0, 33).await;
        finish(wallet, None).await.unwrap_err();
    });
    let listed = earner.list();
    assert_eq!(states(&listed), ["paid", "planned"]);
    let fees = listed[0]["fees_msat"].as_u64().unwrap();
    // The mint of the tests proves nothing.
    assert_eq!(listed[0].get("preimage"), Some(&Value::Null), "{listed:?}");
    let left = 100 - 33 - fees / 1_000;
    // Neither it nor another one is paid before what was begun.
    for args in [&["--json"][..], &[&["6sat", "--yes"], &both[..]].concat()] {
        let (code, _, words) = earner.split(args);
        assert_eq!(code, Some(1), "{args:?} {words}");
        assert_eq!(earner.list(), listed);
        assert_eq!(earner.spendable(), left);
    }
    let (code, events, _) = earner.split(&["--give-up", "--json"]);
    assert_eq!(code, Some(0));
    assert_eq!(states(&events), ["paid", "dropped"]);
    assert_eq!(events[0], listed[0]);
    assert_eq!(earner.list(), events);
    let (code, events, _) = earner.split(&["--json"]);
    assert_eq!((code, events.len()), (Some(0), 0));
    assert_eq!(earner.spendable(), left);
    assert_balances(STREAMER, &earner.data(), 0);
}

#[test]
fn what_is_heard_of_receivers_in_doubt_is_said_to_the_program() {
    let earner = Earner::new();
    earner.plan(3);
    doubt_all(&earner.data()).unwrap();
    assert_eq!(earner.states(), ["doubtful", "doubtful"]);
    let [one, two] = [receiver(0), receiver(1)];
    let (code, _, words) = earner.split(&["--json"]);
    assert_eq!(code, Some(5), "{words}");
    assert!(words.contains(&format!("--was-paid {one}")), "{words}");
    let (code, _, words) = earner.split(&["--was-paid", "name@three.example.com"]);
    assert_eq!(code, Some(2), "{words}");
    assert_eq!(earner.states(), ["doubtful", "doubtful"]);
    let (code, _, words) = earner.split(&["--was-paid", &one.to_uppercase(), "--json"]);
    assert_eq!(code, Some(5), "the other one is in doubt: {words}");
    assert!(words.contains(&format!("--was-paid {two}")), "{words}");
    assert_eq!(earner.states(), ["vouched", "doubtful"]);
    let (code, _, words) = earner.split(&["--not-paid", &two, "--json"]);
    assert_eq!(code, Some(1), "it cannot be reached: {words}");
    assert_eq!(earner.states(), ["vouched", "planned"]);
    assert_eq!(earner.spendable(), 100);

    let done = earner.with(async |wallet| {
        route(wallet, 1, 1).await;
        finish(wallet, None).await.unwrap().unwrap()
    });
    let listed = earner.list();
    assert_eq!(states(&listed), ["vouched", "paid"]);
    assert!(listed[0]["fees_msat"].is_null(), "{listed:?}");
    assert_eq!(listed[1]["fees_msat"], fees_msat(&done, 1));
    let (code, events, _) = earner.split(&["--json"]);
    assert_eq!((code, events.len()), (Some(0), 0));
    assert_eq!(earner.spendable(), 100 - 1 - fees_msat(&done, 1) / 1_000);
}

#[test]
fn payments_that_were_not_noted_are_looked_up_at_the_mint_by_the_program() {
    let earner = Earner::new();
    let mut payout = earner.plan(50);
    let quotes = earner.with(async |wallet| {
        route(wallet, 0, 33).await;
        route(wallet, 1, 17).await;
        pay(wallet, &mut payout, None).await.unwrap();
        let of_mint = wallet.wallet_at(&earner.mint.url()).await.unwrap();
        let all = of_mint.localstore.get_melt_quotes().await.unwrap();
        [33, 17].map(|amount| {
            let quote = all.iter().find(|quote| quote.amount.to_u64() == amount);
            quote.unwrap().id.clone()
        })
    });
    let left = earner.spendable();
    // A quote that neither the wallet nor its mint knows: it may be paid, so it is not paid again.
    forget(&earner.file(), ["lost", &quotes[1]]);
    let (code, _, words) = earner.split(&["--json"]);
    assert_eq!(code, Some(5), "{words}");
    assert_eq!(earner.states(), ["paying", "paid"]);
    forget(&earner.file(), [&quotes[0], &quotes[1]]);
    let (code, events, words) = earner.split(&["--json"]);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(states(&events), ["paid", "paid"]);
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["fees_msat"], fees_msat(&payout, at), "{event}");
    }
    assert_eq!(earner.list(), events);
    assert_eq!(earner.spendable(), left);
    assert_balances(STREAMER, &earner.data(), 0);
}
