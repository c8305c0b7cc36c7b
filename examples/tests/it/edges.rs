//! Money in and out: Lightning, payment requests, tokens; and what a mint can do.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use cdk::nuts::MeltQuoteState;
use cdk_common::database::WalletDatabase as _;
use cdk_fake_wallet::{FakeInvoiceDescription, create_fake_invoice};
use cdk_redb::WalletRedbDatabase;
use streampay_core::units::Msat;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::wallet::{
    Begun, Finished, Handover, MintLimits, Refused, Request, To, WalletError, WalletFolder,
};

use crate::cashu_node::{mint, sat};

const QUOTE: &str = "/v1/mint/quote";

fn wallet(folder: &Path) -> WalletFolder {
    let limits = MintLimits {
        request: Duration::from_millis(700),
        payment: Duration::from_secs(2),
        pause: Duration::from_millis(20),
        ..MintLimits::default()
    };
    WalletFolder::open_with(folder, limits).unwrap()
}

fn invoice(sat: u64) -> To {
    invoice_that(sat, &FakeInvoiceDescription::default())
}

fn invoice_that(sat: u64, fate: &FakeInvoiceDescription) -> To {
    let fate = serde_json::to_string(fate).unwrap();
    To::Invoice(Box::new(create_fake_invoice(sat * 1000, fate)))
}

async fn held(wallet: &WalletFolder) -> (Msat, Msat) {
    let mut sums = (Msat::ZERO, Msat::ZERO);
    for at in wallet.balance().await.unwrap() {
        sums.0 = sums.0.plus(at.spendable).unwrap();
        sums.1 = sums.1.plus(at.pending).unwrap();
    }
    sums
}

struct Edge {
    mint: EmbeddedMint,
    folder: tempfile::TempDir,
    wallet: Option<WalletFolder>,
}

impl Edge {
    async fn new(funds: u64) -> Self {
        let mint = mint(100).await;
        let folder = tempfile::tempdir().unwrap();
        let wallet = wallet(folder.path());
        if funds > 0 {
            wallet.deposit(&mint.url(), sat(funds)).await.unwrap();
        }
        Self {
            mint,
            folder,
            wallet: Some(wallet),
        }
    }

    fn wallet(&self) -> &WalletFolder {
        self.wallet.as_ref().unwrap()
    }

    /// The process dies and starts again.
    fn restart(&mut self) {
        self.wallet = None;
        self.wallet = Some(wallet(self.folder.path()));
    }

    /// All that the wallet holds is all that the mint owes, and nothing is under way.
    async fn all_is_home(&self, expected: Msat) {
        assert_eq!(held(self.wallet()).await, (expected, Msat::ZERO));
        assert_eq!(self.mint.ledger().await.unwrap().outstanding(), expected);
    }
}

#[tokio::test]
async fn a_deposit_goes_on_after_a_restart_with_the_same_invoice() {
    let mut edge = Edge::new(0).await;
    let (url, faults) = (edge.mint.url(), edge.mint.faults_for_testing().clone());
    faults.set(QUOTE, Fault::Unpaid, u64::MAX);
    let first = edge.wallet().begin_deposit(&url, sat(30)).await.unwrap();
    let Begun::Waits(first) = first else {
        panic!("{first:?}");
    };
    assert!(!first.resumed && first.request.starts_with("lnbc"));
    let wait = Duration::from_millis(100);
    let late = edge.wallet().finish_deposit(&url, &first, wait).await;
    assert!(matches!(late, Err(WalletError::DepositPending(_))));
    edge.restart();
    let again = edge.wallet().begin_deposit(&url, sat(30)).await.unwrap();
    let Begun::Waits(again) = again else {
        panic!("{again:?}");
    };
    assert!(again.resumed && again.request == first.request);
    // Another amount is another deposit.
    let other = edge.wallet().begin_deposit(&url, sat(7)).await.unwrap();
    assert!(matches!(&other, Begun::Waits(other) if !other.resumed));
    let account = edge.wallet().recover().await.unwrap();
    assert_eq!(
        (account[0].awaited, account[0].deposited),
        (sat(37), sat(0))
    );
    faults.clear();
    edge.restart();
    let done = edge.wallet().begin_deposit(&url, sat(30)).await.unwrap();
    assert_eq!(done, Begun::Arrived(sat(30)));
    assert_eq!(edge.wallet().recover().await.unwrap()[0].deposited, sat(7));
    edge.all_is_home(sat(37)).await;
}

#[tokio::test]
async fn ecash_whose_answer_is_lost_is_found_by_the_next_deposit_or_recovery() {
    for by_recovery in [false, true] {
        for fault in [Fault::LoseAnswer, Fault::Partial, Fault::WrongSignature] {
            let mut edge = Edge::new(0).await;
            let (url, faults) = (edge.mint.url(), edge.mint.faults_for_testing().clone());
            faults.set("/v1/mint/bolt11", fault, 1);
            faults.set("/v1/restore", Fault::Refuse, 1);
            let begun = edge.wallet().begin_deposit(&url, sat(30)).await.unwrap();
            let Begun::Waits(invoice) = begun else {
                panic!("{begun:?}");
            };
            let wait = Duration::from_millis(1);
            let lost = edge.wallet().finish_deposit(&url, &invoice, wait).await;
            assert!(lost.is_err(), "{fault:?}: {lost:?}");
            faults.clear();
            edge.restart();
            if by_recovery {
                edge.wallet().recover().await.unwrap();
            } else {
                let done = edge.wallet().begin_deposit(&url, sat(30)).await.unwrap();
                assert_eq!(done, Begun::Arrived(sat(30)), "{fault:?}");
            }
            edge.all_is_home(sat(30)).await;
        }
    }
}

#[tokio::test]
async fn a_withdrawal_pays_once_and_the_unused_fee_comes_back() {
    let edge = Edge::new(200).await;
    let to = invoice(100);
    let mut shown = None;
    let paid = edge.wallet().withdraw(&to, None, None, |quote| {
        shown = Some(quote.clone());
        true
    });
    let paid = paid.await.unwrap();
    let shown = shown.unwrap();
    assert_eq!((paid.amount, shown.amount), (sat(100), sat(100)));
    // The fake backend reserves 2 % and takes 1 sat.
    assert_eq!(shown.fee_reserve, sat(2));
    let most = shown.fee_reserve.plus(shown.mint_fee).unwrap();
    assert!(paid.fees < most, "{paid:?} {shown:?}");
    let left = sat(100).minus(paid.fees).unwrap();
    assert_eq!(held(edge.wallet()).await, (left, Msat::ZERO));
    let again = edge.wallet().withdraw(&to, None, None, |_| true).await;
    assert!(matches!(again, Err(WalletError::PaidBefore)), "{again:?}");
    edge.all_is_home(left).await;
}

#[tokio::test]
async fn a_withdrawal_that_is_not_agreed_to_or_fails_leaves_all_money_spendable() {
    let edge = Edge::new(200).await;
    let to = invoice(100);
    let no = edge.wallet().withdraw(&to, None, None, |_| false);
    assert!(matches!(no.await, Err(WalletError::Declined)));
    edge.all_is_home(sat(200)).await;
    let fate = FakeInvoiceDescription {
        pay_invoice_state: MeltQuoteState::Failed,
        check_payment_state: MeltQuoteState::Failed,
        pay_err: true,
        check_err: false,
    };
    let to = invoice_that(100, &fate);
    let failed = edge.wallet().withdraw(&to, None, None, |_| true).await;
    assert!(
        matches!(failed, Err(WalletError::NotPaid(..))),
        "{failed:?}"
    );
    // The mint's fee for making the exact amount may be gone; nothing else is.
    let fees = edge.mint.ledger().await.unwrap().fees;
    edge.all_is_home(sat(200).minus(fees).unwrap()).await;
    let to = invoice(300);
    let rich = edge.wallet().withdraw(&to, None, None, |_| true).await;
    assert!(matches!(rich, Err(WalletError::InsufficientFunds(..))));
}

#[tokio::test]
async fn a_withdrawal_whose_answer_is_lost_is_neither_lost_nor_paid_twice() {
    for fault in [Fault::LoseAnswer, Fault::Partial, Fault::WrongSignature] {
        let mut edge = Edge::new(200).await;
        let faults = edge.mint.faults_for_testing().clone();
        faults.set("/v1/melt/bolt11", fault, 1);
        faults.set("/v1/melt/quote/bolt11", Fault::Refuse, 0);
        let to = invoice(100);
        let quoting = faults.clone();
        let paid = edge.wallet().withdraw(&to, None, None, move |_| {
            // From here on nobody can be asked what became of it.
            quoting.set("/v1/melt/quote", Fault::Fail, u64::MAX);
            quoting.set("/v1/restore", Fault::Fail, u64::MAX);
            true
        });
        let paid = paid.await;
        assert!(
            matches!(paid, Err(WalletError::Unsettled)),
            "{fault:?}: {paid:?}"
        );
        edge.restart();
        faults.clear();
        faults.set("/v1/melt/quote", Fault::Fail, u64::MAX);
        let again = edge.wallet().withdraw(&to, None, None, |_| true).await;
        assert!(matches!(again, Err(WalletError::Unsettled)), "{again:?}");
        faults.clear();
        let account = edge.wallet().recover().await.unwrap();
        assert_eq!(account[0].waiting, 0, "{account:?}");
        let again = edge.wallet().withdraw(&to, None, None, |_| true).await;
        assert!(matches!(again, Err(WalletError::PaidBefore)), "{again:?}");
        let left = edge.mint.ledger().await.unwrap().outstanding();
        edge.all_is_home(left).await;
        assert!(left >= sat(96), "{left}");
    }
}

#[tokio::test]
async fn a_payment_under_way_is_waited_for_and_not_made_again() {
    let edge = Edge::new(200).await;
    let fate = FakeInvoiceDescription {
        pay_invoice_state: MeltQuoteState::Pending,
        check_payment_state: MeltQuoteState::Pending,
        ..FakeInvoiceDescription::default()
    };
    let to = invoice_that(100, &fate);
    let faults = edge.mint.faults_for_testing().clone();
    let polled = faults.clone();
    let paid = edge.wallet().withdraw(&to, None, None, |_| {
        polled.set("/v1/melt/quote", Fault::Fail, u64::MAX);
        true
    });
    let paid = tokio::time::timeout(Duration::from_secs(20), paid).await;
    assert!(matches!(paid, Ok(Err(WalletError::Unsettled))), "{paid:?}");
    faults.clear();
    let again = edge.wallet().withdraw(&to, None, None, |_| true).await;
    assert!(matches!(again, Err(WalletError::Unsettled)), "{again:?}");
    let account = edge.wallet().recover().await.unwrap();
    assert_eq!(account[0].waiting, 1);
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused_with_advice_before_money_moves() {
    let edge = Edge::new(50).await;
    let wallet = edge.wallet();
    let parse = |text: &str| text.parse::<To>();
    assert!(matches!(parse("hello"), Err(WalletError::Destination)));
    assert_eq!(parse("100sat").unwrap(), To::Token(sat(100)));
    let To::Invoice(own) = invoice(10) else {
        panic!("not an invoice");
    };
    let capitals = format!("LIGHTNING:{}", own.to_string().to_ascii_uppercase());
    assert_eq!(parse(&capitals).unwrap(), To::Invoice(own.clone()));
    let own = To::Invoice(own);
    let nowhere = To::Address("name@localhost".into());
    let somebody = To::Address("name@example.com".into());
    for (to, amount, expect) in [
        (&own, Some(sat(11)), "another"),
        (&somebody, None, "names no amount"),
        (&nowhere, Some(sat(5)), "cannot be paid"),
    ] {
        let refused = wallet.withdraw(to, amount, None, |_| true).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    edge.all_is_home(sat(50)).await;
}

/// A Lightning address's server: LNURL-pay as LUD-06 and LUD-16 have it.
/// Its host is `host`.example.com.
pub(crate) async fn lightning_address(host: &str, least: u64, invoice_sat: u64) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let offer = serde_json::json!({
        "tag": "payRequest", "metadata": "[[\"text/plain\",\"tips\"]]",
        "callback": format!("https://{host}.example.com/callback"),
        "minSendable": least * 1000, "maxSendable": 1_000_000,
    });
    let answer = move || async move {
        let invoice = create_fake_invoice(invoice_sat * 1000, String::new());
        serde_json::json!({"pr": invoice.to_string(), "routes": []}).to_string()
    };
    let app = Router::new()
        .route(
            "/.well-known/lnurlp/name",
            get(|| async move { offer.to_string() }),
        )
        .route("/callback", get(answer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

#[tokio::test]
async fn a_lightning_address_is_paid_what_was_said_within_its_limits() {
    let edge = Edge::new(100).await;
    let wallet = edge.wallet();
    let to: To = "name@pay.example.com".parse().unwrap();
    let route = |real: &str| wallet.route_for_testing("https://pay.example.com", real);
    route(&lightning_address("pay", 1, 20).await);
    let paid = wallet.withdraw(&to, Some(sat(20)), None, |_| true).await;
    assert_eq!(paid.unwrap().amount, sat(20));
    // An invoice for more than was asked for; an amount below its least.
    route(&lightning_address("pay", 1, 21).await);
    let more = wallet.withdraw(&to, Some(sat(20)), None, |_| true).await;
    assert!(matches!(more, Err(WalletError::Address(_))), "{more:?}");
    route(&lightning_address("pay", 30, 20).await);
    let less = wallet.withdraw(&to, Some(sat(20)), None, |_| true).await;
    assert!(matches!(less, Err(WalletError::Address(_))), "{less:?}");
    let left = edge.mint.ledger().await.unwrap().outstanding();
    edge.all_is_home(left).await;
}

#[tokio::test]
async fn a_request_is_paid_with_a_token_in_both_forms() {
    let edge = Edge::new(100).await;
    let folder = tempfile::tempdir().unwrap();
    let payee = wallet(folder.path());
    let asked = Request::new(sat(9), &[edge.mint.url()], Some("a tip".into())).unwrap();
    for text in [asked.to_string(), asked.bech32().unwrap()] {
        let request: Request = text.parse().unwrap();
        assert_eq!(request.amount(), Some(sat(9)));
        let paid = edge.wallet().pay_request(&request, None, None, |quote| {
            quote.amount == sat(9) && quote.memo.as_deref() == Some("a tip")
        });
        let (_, Handover::Token(token)) = paid.await.unwrap() else {
            panic!("no token for {text}");
        };
        assert_eq!(payee.receive(&token).await.unwrap(), sat(9));
    }
    let no = edge.wallet().pay_request(&asked, None, None, |_| false);
    assert!(matches!(no.await, Err(WalletError::Declined)));
    // What was sent is not known to be redeemed until somebody looks.
    edge.wallet().recover().await.unwrap();
    assert_eq!(held(edge.wallet()).await.1, Msat::ZERO);
    let elsewhere = Request::new(sat(9), &["https://mint.example.com".into()], None).unwrap();
    let no = edge.wallet().pay_request(&elsewhere, None, None, |_| true);
    assert!(matches!(no.await, Err(WalletError::RequestMints(_))));
    assert!("creqAnonsense".parse::<Request>().is_err());
}

type Posted = Arc<Mutex<Vec<String>>>;

async fn till(status: StatusCode) -> (String, Posted) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/pay", listener.local_addr().unwrap());
    let posted = Posted::default();
    let log = posted.clone();
    let take = move |body: String| async move {
        log.lock().unwrap().push(body);
        status
    };
    let app = Router::new().route("/pay", post(take));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (at, posted)
}

fn request_to(url: &str, mint: &str) -> Request {
    use cdk::nuts::nut18::TransportType;
    use cdk::nuts::{CurrencyUnit, PaymentRequest, Transport};
    let transport = Transport::builder()
        .transport_type(TransportType::HttpPost)
        .target(url)
        .build();
    let request = PaymentRequest::builder()
        .payment_id("till-7")
        .amount(9)
        .unit(CurrencyUnit::Sat)
        .add_mint(mint.parse().unwrap())
        .add_transport(transport.unwrap())
        .build();
    request.to_string().parse().unwrap()
}

#[tokio::test]
async fn a_posted_payment_arrives_or_is_left_as_a_token() {
    let edge = Edge::new(100).await;
    let (url, posted) = till(StatusCode::OK).await;
    let request = request_to(&url, &edge.mint.url());
    let paid = edge.wallet().pay_request(&request, None, None, |_| true);
    assert_eq!(paid.await.unwrap().1, Handover::Delivered);
    let body: serde_json::Value = serde_json::from_str(&posted.lock().unwrap()[0]).unwrap();
    assert_eq!(
        (&body["id"], &body["unit"]),
        (&"till-7".into(), &"sat".into())
    );
    assert!(
        body["proofs"]
            .as_array()
            .is_some_and(|proofs| !proofs.is_empty())
    );
    edge.wallet().take_back().await.unwrap();

    let (url, _) = till(StatusCode::INTERNAL_SERVER_ERROR).await;
    let request = request_to(&url, &edge.mint.url());
    let paid = edge.wallet().pay_request(&request, None, None, |_| true);
    let Handover::Undelivered(token) = paid.await.unwrap().1 else {
        panic!("delivered to nobody");
    };
    assert!(token.starts_with("cashu"));
    edge.wallet().take_back().await.unwrap();
    let left = edge.mint.ledger().await.unwrap().outstanding();
    edge.all_is_home(left).await;

    let open = request_to("http://pay.example.com/", &edge.mint.url());
    let refused = edge.wallet().pay_request(&open, None, None, |_| true).await;
    assert!(matches!(refused, Err(WalletError::RequestTarget)));
    edge.all_is_home(left).await;
}

/// At a start: a deposit that was paid while nothing ran, and a mint that does not answer.
#[tokio::test]
async fn what_was_begun_is_finished_at_a_start_and_a_silent_mint_holds_nobody_up() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    let wallet = Arc::new(wallet(folder.path()));
    let start = || wallet.finish_begun(Duration::from_secs(10));
    let asked = faults.seen("/v1/keysets");
    assert_eq!(start().await.unwrap(), Finished::default());
    assert_eq!(faults.seen("/v1/keysets"), asked, "nothing was begun there");
    faults.set(QUOTE, Fault::Unpaid, u64::MAX);
    let begun = wallet.begin_deposit(&url, sat(30)).await.unwrap();
    assert!(matches!(begun, Begun::Waits(_)), "{begun:?}");
    faults.clear();
    faults.set("/", Fault::Hang, u64::MAX);
    let silent = wallet.finish_begun(Duration::ZERO).await.unwrap();
    assert_eq!((silent.left, silent.deposited), (1, Msat::ZERO));
    faults.clear();
    let done = start().await.unwrap();
    assert_eq!((done.left, done.deposited), (0, sat(30)));
    assert_eq!(held(&wallet).await, (sat(30), Msat::ZERO));
    // A token that waits for its receiver is not cut short.
    wallet.send(sat(5), None).await.unwrap();
    assert_eq!(start().await.unwrap(), Finished::default());
}

/// Invoices that were over long ago, at a mint that says nothing.
#[tokio::test]
async fn deposits_that_are_long_over_hold_no_start_up_and_a_silent_mint_is_asked_once() {
    let (mint, folder) = (mint(100).await, tempfile::tempdir().unwrap());
    let (url, faults) = (mint.url(), mint.faults_for_testing().clone());
    faults.set(QUOTE, Fault::Unpaid, u64::MAX);
    let wallet = wallet(folder.path());
    for amount in [10, 20, 30] {
        let begun = wallet.begin_deposit(&url, sat(amount)).await.unwrap();
        assert!(matches!(begun, Begun::Waits(_)), "{begun:?}");
    }
    drop(wallet);
    let store = WalletRedbDatabase::new(&folder.path().join("wallet.redb")).unwrap();
    for mut quote in store.get_mint_quotes().await.unwrap() {
        quote.expiry = 1;
        store.add_mint_quote(quote).await.unwrap();
    }
    drop(store);
    faults.clear();
    faults.set("/", Fault::Hang, u64::MAX);
    let patient = Arc::new(WalletFolder::open(folder.path()).unwrap());
    let start = tokio::time::Instant::now();
    let silent = patient.finish_begun(Duration::from_secs(10)).await.unwrap();
    assert_eq!((silent.left, silent.deposited), (1, Msat::ZERO));
    assert!(start.elapsed() < Duration::from_secs(6));
    drop(patient);
    let wallet = Arc::new(self::wallet(folder.path()));
    let asked = faults.met();
    let recovered = wallet.recover().await.unwrap();
    assert_eq!(recovered[0].waiting, 3);
    assert_eq!(faults.met(), asked + 1);
    // Once it answers, what was paid after all arrives.
    faults.clear();
    let done = wallet.finish_begun(Duration::from_secs(10)).await.unwrap();
    assert_eq!((done.left, done.deposited), (0, sat(60)));
}

#[tokio::test]
async fn a_mint_is_looked_at_and_its_locks_are_tried() {
    let edge = Edge::new(50).await;
    let url = edge.mint.url();
    let report = edge.wallet().report_on(&url, true).await.unwrap();
    assert!(report.is_usable(), "{report:?}");
    assert!(report.modes.iter().all(|mode| mode.runs), "{report:?}");
    assert!(report.clock_ahead_s.unwrap().abs() <= 2);
    assert_eq!(report.keysets[0].input_fee_ppk, 100);
    assert_eq!(report.keysets[0].id_matches, Some(true));
    let canary = report.canary.unwrap();
    assert_eq!((canary.p2pk, canary.htlc), (Refused::Yes, Refused::Yes));
    let left = sat(50).minus(Msat::new(canary.cost_msat).unwrap()).unwrap();
    edge.all_is_home(left).await;
}

#[tokio::test]
async fn a_mint_that_lacks_locks_breaks_them_or_lies_about_its_keys_is_found_out() {
    let edge = Edge::new(50).await;
    let (url, faults) = (edge.mint.url(), edge.mint.faults_for_testing().clone());
    let without = Fault::Say(
        "\"14\":{\"supported\":true}",
        "\"14\":{\"supported\":false}",
    );
    faults.set("/v1/info", without, 1);
    let report = edge.wallet().report_on(&url, false).await.unwrap();
    let chain = report
        .modes
        .iter()
        .find(|mode| mode.name == "chain")
        .unwrap();
    assert_eq!(
        (chain.runs, chain.missing.as_slice()),
        (false, [14].as_slice())
    );
    assert!(report.is_usable(), "others can run");

    faults.set("/v1/keys", Fault::WrongSignature, 1);
    let lie = edge.wallet().report_on(&url, false).await;
    let found = match &lie {
        Ok(report) => !report.is_usable(),
        Err(_) => true,
    };
    assert!(found, "{lie:?}");

    // The first swap locks; the second is the wrong one, and is answered as if it were right.
    let swap = "/v1/swap";
    let first = Fault::Say("never said", "");
    faults.set(swap, first, 1);
    faults.set(swap, Fault::Answer("{\"signatures\":[]}"), 1);
    let report = edge.wallet().report_on(&url, true).await.unwrap();
    assert_eq!(report.canary.as_ref().unwrap().p2pk, Refused::No);
    assert!(!report.is_usable());
}

#[tokio::test]
async fn a_mint_with_too_many_requests_is_left_alone_and_then_asked_again() {
    let edge = Edge::new(0).await;
    let (url, faults) = (edge.mint.url(), edge.mint.faults_for_testing().clone());
    faults.set("/", Fault::TooMany(1), 1);
    let hasty = edge.wallet().check_mint(&url).await;
    assert!(hasty.is_err());
    let seen = faults.seen("/v1/info");
    // Within that second nobody asks at all.
    assert!(edge.wallet().check_mint(&url).await.is_err());
    assert_eq!(faults.seen("/v1/info"), seen);

    let folder = tempfile::tempdir().unwrap();
    let limits = MintLimits::default().patient();
    let patient = WalletFolder::open_with(folder.path(), limits).unwrap();
    faults.set("/", Fault::TooMany(1), 2);
    assert_eq!(patient.deposit(&url, sat(5)).await.unwrap(), sat(5));
    assert_eq!(faults.met(), 3);
}
