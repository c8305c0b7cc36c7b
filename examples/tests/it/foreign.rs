//! Sessions and commands against mints that are not this repository's: nutshell, another program
//! in another language. `.ci/nutshell run COMMAND` starts it and says where it is; without it these
//! tests say what they left out.
//!
//! Whatever is tested here is tested against the embedded mint too.

use std::io::Write;

use cdk_fake_wallet::create_fake_invoice;
use streampay_core::session::Event;
use streampay_core::units::Msat;
use streampay_examples::ledger::audit::audit;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::quote;
use streampay_examples::wallet::{Refused, To};
use tokio::task::JoinSet;

use crate::cashu_node::{mint, sat};
use crate::live::{Mode, Party, Plan, play, recover_both};
use crate::taken_up::{self, Dies};

/// Where they are, with commas between.
const VARIABLE: &str = "STREAMPAY_NUTSHELL";

/// The addresses of the mints that are there; what is left out is said.
pub(crate) fn foreign_mints(what: &str) -> Vec<String> {
    let mints = std::env::var(VARIABLE).unwrap_or_default();
    let mints = mints.split(',').map(str::trim);
    let mints: Vec<String> = mints
        .filter(|url| !url.is_empty())
        .map(Into::into)
        .collect();
    if mints.is_empty() {
        // Past the test harness, which keeps what a test prints that passes.
        let line = format!("left out: {what} against nutshell; .ci/nutshell run COMMAND runs it");
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
    mints
}

/// The embedded ones, without and with a fee; the foreign ones in their place where there are any, for
/// the embedded ones are in every test run. At once.
async fn against_all<F>(what: &str, run: impl Fn(String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut all = JoinSet::new();
    let foreign = foreign_mints(what);
    let mut ours = Vec::new();
    if foreign.is_empty() {
        ours = vec![mint(0).await, mint(100).await];
    }
    let urls = ours.iter().map(EmbeddedMint::url).chain(foreign);
    for url in urls {
        all.spawn(run(url));
    }
    all.join_all().await;
    for mint in ours {
        mint.stop().await;
    }
}

/// The same in every way to pay, one after the other: of more at once nutshell answers none in time.
async fn against_all_in_every_mode<F>(what: &str, run: fn(Mode, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    against_all(what, move |url| async move {
        for mode in Mode::ALL {
            run(*mode, url.clone()).await;
        }
    })
    .await;
}

/// A swap a tick at a mint in Python, on a busy machine, takes a while.
fn plan(mode: Mode, mint: &str) -> Plan {
    Plan {
        tick_ms: 1_000,
        leave_at: 8,
        ..Plan::new(mode, mint)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_paid_settled_and_conserved() {
    against_all_in_every_mode("sessions", |mode, url| async move {
        let payer = Party::with(&url, 60).await;
        let payee = Party::new().await;
        let plan = plan(mode, &url);
        let terms = plan.terms(payee.home());
        let costs = quote::costs(payer.home(), &terms, &[mode], sat(plan.budget)).await;
        let played = play(&payer, &payee, &plan, |_| {}).await;
        let troubles = played.troubles();
        assert!(!played.stuck, "{url} {troubles:?}");
        assert_eq!(played.settled, (true, true), "{url} {troubles:?}");
        let (left, payer_pending) = payer.held().await;
        let (earned, payee_pending) = payee.held().await;
        assert_eq!((payer_pending, payee_pending), (Msat::ZERO, Msat::ZERO));
        assert!(played.credited >= sat(plan.leave_at), "{url}: {earned}");
        // What is missing is fees, as quoted.
        let fees = sat(60).minus(left).unwrap().minus(earned).unwrap();
        let ticks = played.credited.sat_floor() / plan.tick;
        let quoted = costs[0].after(ticks);
        if mode == Mode::Swap {
            assert_eq!(earned, played.credited);
            // Coming home may take a swap of what was sent and not taken.
            let most = quoted.plus(costs[0].fee).unwrap();
            assert!((quoted..=most).contains(&fees), "{url}: {fees} of {quoted}");
        } else {
            assert_eq!(fees, quoted, "{url} {mode:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_go_on_after_a_restart() {
    against_all_in_every_mode("restarts", |mode, url| async move {
        let mut payer = Party::with(&url, 60).await;
        let mut payee = Party::new().await;
        let plan = plan(mode, &url);
        for _ in 0..2 {
            let played = play(&payer, &payee, &plan, |_| {}).await;
            assert_eq!(
                played.settled,
                (true, true),
                "{url} {:?}",
                played.troubles()
            );
            payer.restart().await;
            payee.restart().await;
            assert!(recover_both(&payer, &payee).await, "{url}");
        }
        let pending = (payer.held().await.1, payee.held().await.1);
        assert_eq!(pending, (Msat::ZERO, Msat::ZERO));
        // Twice eight, less the fee of redeeming what was locked.
        let redeeming = if mode == Mode::Swap { 0 } else { 2 };
        assert!(payee.held().await.0 >= sat(16 - redeeming));
    })
    .await;
}

/// Not between sessions but at the third tick of one, which goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_taken_up_where_either_process_left_it() {
    against_all_in_every_mode("restarts in a session", |mode, url| async move {
        for dies in [Dies::Payer, Dies::Payee] {
            let (mut payer, mut payee) = (Party::with(&url, 60).await, Party::new().await);
            let plan = plan(mode, &url);
            let played = taken_up::play(&mut payer, &mut payee, &plan, dies, |_| {}).await;
            let paid = played.acknowledged;
            assert!(
                paid >= sat(plan.leave_at),
                "{url} {mode:?} {dies:?}: {paid}"
            );
            assert_eq!(played.settled, (true, true), "{url} {mode:?} {dies:?}");
            assert!(
                recover_both(&payer, &payee).await,
                "{url} {mode:?} {dies:?}"
            );
            let ((left, mine), (earned, theirs)) = (payer.held().await, payee.held().await);
            assert_eq!((mine, theirs), (Msat::ZERO, Msat::ZERO));
            // What is missing is fees, which both have in their books.
            let missing = sat(60).minus(left).unwrap().minus(earned).unwrap();
            let mut fees = 0;
            for party in [&payer, &payee] {
                let audit = audit(party.home()).await.unwrap();
                assert!(
                    audit.balances(),
                    "{url} {mode:?} {dies:?}: {:?}",
                    audit.findings
                );
                fees += audit.mints.values().map(|cash| cash.fees).sum::<i128>();
            }
            assert_eq!(fees, i128::from(missing.msat()), "{url} {mode:?} {dies:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_goes_in_round_and_out() {
    against_all("deposit, send, receive, withdraw", |url| async move {
        let (a, b) = (Party::with(&url, 200).await, Party::new().await);
        let (a, b) = (&a.home().wallet, &b.home().wallet);
        let token = a.send(sat(21), None).await.unwrap();
        assert_eq!(b.receive(&token).await.unwrap(), sat(21));
        assert!(b.receive(&token).await.is_err());
        a.recover().await.unwrap();
        let before = a.balance().await.unwrap()[0].spendable;
        let invoice = create_fake_invoice(100_000, "out".into());
        let to = To::Invoice(Box::new(invoice));
        let paid = a.withdraw(&to, None, None, |_| true).await.unwrap();
        assert_eq!(paid.amount, sat(100), "{url}");
        let after = a.balance().await.unwrap()[0].clone();
        let gone = paid.amount.plus(paid.fees).unwrap();
        assert_eq!(before.minus(gone).unwrap(), after.spendable, "{url}");
        assert_eq!(after.pending, Msat::ZERO);
        assert!(paid.fees <= sat(6), "{url}: {}", paid.fees);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mint_check_finds_every_mode_and_locks_that_hold() {
    against_all("mint-check", |url| async move {
        let party = Party::with(&url, 40).await;
        let report = party.home().wallet.report_on(&url, true).await.unwrap();
        assert!(report.is_usable(), "{report:?}");
        assert!(report.modes.iter().all(|mode| mode.runs), "{report:?}");
        let canary = report.canary.unwrap();
        assert_eq!((canary.p2pk, canary.htlc), (Refused::Yes, Refused::Yes));
        let held = party.held().await;
        let left = sat(40).minus(Msat::new(canary.cost_msat).unwrap()).unwrap();
        assert_eq!(held, (left, Msat::ZERO), "{url}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_at_once_share_a_wallet_and_no_money() {
    against_all_in_every_mode("sessions at once", |mode, url| async move {
        let payee = Party::new().await;
        let (one, two) = (Party::with(&url, 60).await, Party::with(&url, 60).await);
        let plan = plan(mode, &url);
        let (first, second) = tokio::join!(
            play(&one, &payee, &plan, |_| {}),
            play(&two, &payee, &plan, |_| {}),
        );
        let paid = first.credited.plus(second.credited).unwrap();
        let (earned, pending) = payee.held().await;
        assert_eq!(pending, Msat::ZERO, "{url}");
        // Locked ecash is redeemed once a session, out of what it pays.
        let redeeming = if mode == Mode::Swap { 0 } else { 2 };
        let least = paid.minus(sat(redeeming)).unwrap();
        assert!(
            (least..=paid).contains(&earned),
            "{url}: {earned} of {paid}"
        );
        for played in [&first, &second] {
            assert_eq!(played.settled, (true, true), "{:?}", played.troubles());
            assert!(played.said(|event| matches!(event, Event::Settled { .. })));
        }
    })
    .await;
}
