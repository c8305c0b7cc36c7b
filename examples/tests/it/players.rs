//! Plain WHEP players that pay with a token, as far as HTTP goes, at a real mint.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cdk::nuts::{KeySetInfo, PaymentRequest, Token};
use streampay_cashu::AcceptedMint;
use streampay_core::store::{ChangeSet, RedbStore, Store as _};
use streampay_core::units::Msat;
use streampay_examples::home::Home;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::Fault;

use streampay_examples::pay::Pay;
use streampay_examples::report::Report;
use streampay_examples::streamer::serve::{Offer, Serving, serve};
use streampay_examples::wallet::{Begun, MintLimits, Request};
use streampay_media::peer::PeerConfig;
use streampay_media::whep::TrustedProxy;

use crate::cashu_node::{mint, sat};

/// What a player sends, near enough.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";

async fn spendable(home: &Home) -> Msat {
    let balances = home.wallet.balance().await.unwrap();
    balances.iter().fold(Msat::ZERO, |sum, balance| {
        sum.plus(balance.spendable).unwrap()
    })
}

async fn serving(streamer: &Home, mint: &EmbeddedMint) -> Serving {
    serving_for(streamer, &[mint]).await
}

async fn serving_for(streamer: &Home, mints: &[&EmbeddedMint]) -> Serving {
    let listed = mints.iter().map(|mint| AcceptedMint::sat(&mint.url()));
    let offer = Offer {
        media: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf")).into(),
        seal: false,
        title: None,
        peer: PeerConfig::loopback(),
        price: "4sat/1s".parse().unwrap(),
        mints: listed.map(|mint| mint.unwrap().into()).collect(),
        pay: vec![Pay::ALL[0]],
        listen: ([127, 0, 0, 1], 0).into(),
        join_fee: Msat::ZERO,
        max_viewers: None,
        preview: None,
        unpaid: None,
        record: None,
        typing: false,
        public_url: None,
        trusted_proxy: TrustedProxy::None,
        report: Report { json: false },
    };
    serve(streamer, offer).await.unwrap()
}

/// Status, the header `X-Cashu` and `Location`.
async fn post(url: &str, token: Option<&str>) -> (i32, Option<String>, Option<String>) {
    let mut request = bitreq::post(url)
        .with_header("Content-Type", "application/sdp")
        .with_body(OFFER);
    if let Some(token) = token {
        request = request.with_header("X-Cashu", token);
    }
    let answer = request.send_async().await.unwrap();
    let header = |name: &str| answer.headers.get(name).cloned();
    (answer.status_code, header("x-cashu"), header("location"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_token_buys_a_span_and_no_other_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (mint(100).await, mint(0).await);
    let streamer = Home::open(&folder.path().join("streamer")).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    for mint in [&own, &other] {
        let deposited = viewer.wallet.deposit(&mint.url(), sat(40)).await;
        deposited.unwrap();
    }
    let serving = serving(&streamer, &own).await;
    let url = serving.link.url.clone();

    let (status, demand, _) = post(&url, None).await;
    assert_eq!(status, 402);
    let demand = Request::from_str(&demand.unwrap()).unwrap();
    assert_eq!(demand.amount(), Some(sat(4)));

    let send = |amount, mint: &EmbeddedMint| {
        let (wallet, url) = (viewer.wallet.clone(), mint.url());
        async move { wallet.send(sat(amount), Some(&url)).await.unwrap() }
    };
    for wrong in [
        send(2, &own).await,
        send(9, &own).await,
        // One more than the span and the fee, in more than one proof.
        send(5, &own).await,
        send(4, &other).await,
        "cashuBnonsense".to_owned(),
        "creqA".to_owned(),
    ] {
        assert_eq!(post(&url, Some(&wrong)).await.0, 400, "{wrong}");
    }
    assert_eq!(spendable(&streamer).await, Msat::ZERO);

    let token = send(4, &own).await;
    let (status, _, connection) = post(&url, Some(&token)).await;
    assert_eq!(status, 201);
    assert_eq!(spendable(&streamer).await, sat(4));
    // The same again is the same span.
    assert_eq!(post(&url, Some(&token)).await.0, 201);
    assert_eq!(spendable(&streamer).await, sat(4));
    drop(connection);
    let (_, _, connection) = post(&url, Some(&token)).await;
    let connection = connection.unwrap();
    let (status, demand, _) = post(&connection, None).await;
    assert_eq!((status, demand.is_some()), (402, true));
    assert_eq!(post(&connection, Some(&token)).await.0, 400);
    assert_eq!(post(&connection, Some(&send(4, &own).await)).await.0, 204);
    assert_eq!(spendable(&streamer).await, sat(8));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_answer_was_lost_still_buys_its_span_once() {
    let folder = tempfile::tempdir().unwrap();
    let own = mint(100).await;
    let limits = MintLimits {
        request: Duration::from_millis(1_500),
        ..MintLimits::default()
    };
    let path = folder.path().join("streamer");
    let streamer = Home::open_with(&path, limits).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    viewer.wallet.deposit(&own.url(), sat(40)).await.unwrap();
    let serving = serving(&streamer, &own).await;
    let url = serving.link.url.clone();
    let token = viewer.wallet.send(sat(4), Some(&own.url())).await.unwrap();
    let faults = own.faults_for_testing();
    faults.set("/v1/swap", Fault::LoseAnswer, 1);
    assert_eq!(post(&url, Some(&token)).await.0, 503);
    assert_eq!(post(&url, Some(&token)).await.0, 201);
    assert_eq!(spendable(&streamer).await, sat(4));
    serving.stop().await;
}

/// Neither while its mint fails, nor where that said at first that nobody has spent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_taken_before_buys_no_span_however_its_mint_fails() {
    let folder = tempfile::tempdir().unwrap();
    let own = mint(100).await;
    let streamer = Home::open(&folder.path().join("streamer")).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    viewer.wallet.deposit(&own.url(), sat(40)).await.unwrap();
    let serving = serving(&streamer, &own).await;
    let (url, faults) = (serving.link.url.clone(), own.faults_for_testing());
    let pay = || async { viewer.wallet.send(sat(4), Some(&own.url())).await.unwrap() };
    let (one, two) = (pay().await, pay().await);
    for token in [&one, &two] {
        assert_eq!(streamer.wallet.receive(token).await.unwrap(), sat(4));
    }
    // Its own book says so, whatever the mint does.
    faults.set("/v1/checkstate", Fault::Fail, u64::MAX);
    for _ in 0..3 {
        assert_eq!(post(&url, Some(&one)).await.0, 400);
    }
    faults.clear();
    faults.set("/v1/checkstate", Fault::Say("SPENT", "UNSPENT"), 1);
    faults.set("/v1/swap", Fault::Fail, 1);
    for _ in 0..3 {
        let (status, ..) = post(&url, Some(&two)).await;
        assert!([400, 503].contains(&status), "{status}");
    }
    assert_eq!(spendable(&streamer).await, sat(8));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_mint_did_not_sign_costs_it_no_question() {
    let folder = tempfile::tempdir().unwrap();
    let own = mint(100).await;
    let streamer = Home::open(&folder.path().join("streamer")).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    viewer.wallet.deposit(&own.url(), sat(40)).await.unwrap();
    // The streamer knows the mint's keys.
    streamer.wallet.deposit(&own.url(), sat(1)).await.unwrap();
    let serving = serving(&streamer, &own).await;
    let url = serving.link.url.clone();
    let token = viewer.wallet.send(sat(4), Some(&own.url())).await.unwrap();
    let token = Token::from_str(&token).unwrap();
    let wallet = viewer.wallet.wallet_at(&own.url()).await.unwrap();
    let sets = wallet.keysets(Default::default()).await.unwrap();
    let infos: Vec<KeySetInfo> = sets
        .iter()
        .map(|set| KeySetInfo {
            id: set.id,
            unit: set.unit.clone(),
            active: true,
            input_fee_ppk: set.input_fee_ppk,
            final_expiry: None,
        })
        .collect();
    let (mint, unit) = (token.mint_url().unwrap(), token.unit().unwrap());
    let good = token.proofs(&infos).unwrap();
    let (mut bare, mut forged) = (good.clone(), good.clone());
    bare[0].dleq = None;
    forged[0].c = good[0].dleq.as_ref().unwrap().r.public_key();
    let faults = own.faults_for_testing();
    let asked = || (faults.seen("/v1/checkstate"), faults.seen("/v1/swap"));
    let before = asked();
    for bad in [bare, forged] {
        let bad = Token::new(mint.clone(), bad, None, unit.clone()).to_string();
        assert_eq!(post(&url, Some(&bad)).await.0, 400);
    }
    assert_eq!(asked(), before);
    assert_eq!(spendable(&streamer).await, sat(1));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_demanded_follows_the_mints_while_serving() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (mint(0).await, mint(0).await);
    let limits = MintLimits {
        looked_at_for: Duration::ZERO,
        ..MintLimits::default()
    };
    let path = folder.path().join("streamer");
    let streamer = Home::open_with(&path, limits).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    viewer.wallet.deposit(&one.url(), sat(40)).await.unwrap();
    let serving = serving_for(&streamer, &[&one, &two]).await;
    let url = serving.link.url.clone();
    let demanded = || async {
        let (status, demand, _) = post(&url, None).await;
        let mints = demand.map(|demand| PaymentRequest::from_str(&demand).unwrap().mints);
        let mints = mints.unwrap_or_default().into_iter();
        (
            status,
            mints.map(|mint| mint.to_string()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(demanded().await, (402, vec![one.url(), two.url()]));

    // One forgets NUT-07: nobody is asked for its ecash, and who brings it keeps it.
    let forgetful = || Fault::Say("\"7\":{\"supported\":true}", "\"7\":{\"supported\":false}");
    let (of_one, of_two) = (one.faults_for_testing(), two.faults_for_testing());
    of_one.set("/v1/info", forgetful(), u64::MAX);
    assert_eq!(demanded().await, (402, vec![two.url()]));
    let token = viewer.wallet.send(sat(4), Some(&one.url())).await.unwrap();
    assert_eq!(post(&url, Some(&token)).await.0, 400);
    assert_eq!(spendable(&streamer).await, Msat::ZERO);

    // With none left, nothing is demanded.
    of_two.set("/v1/info", forgetful(), u64::MAX);
    assert_eq!(demanded().await, (503, vec![]));

    of_one.clear();
    assert_eq!(demanded().await, (402, vec![one.url()]));
    assert_eq!(post(&url, Some(&token)).await.0, 201);
    assert_eq!(spendable(&streamer).await, sat(4));
    serving.stop().await;
}

/// The streamer's folder has a deposit that was paid while nothing ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_starts_finishes_what_was_begun_in_its_wallet() {
    let folder = tempfile::tempdir().unwrap();
    let own = mint(100).await;
    let streamer = Home::open(&folder.path().join("streamer")).await.unwrap();
    let faults = own.faults_for_testing();
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    let begun = streamer.wallet.begin_deposit(&own.url(), sat(30)).await;
    assert!(matches!(begun.unwrap(), Begun::Waits(_)));
    faults.clear();
    assert_eq!(spendable(&streamer).await, Msat::ZERO);
    let serving = serving(&streamer, &own).await;
    assert_eq!(spendable(&streamer).await, sat(30));
    serving.stop().await;
}

/// What was begun was so an hour later than the clock says now.
async fn set_the_clock_back(folder: &Path) {
    let mut store = loop {
        match RedbStore::open(folder) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut space = ChangeSet::new();
    space.put(b"b".to_vec(), Vec::new());
    let space = space.within_node("paywall").changes()[0].key.clone();
    let mut marks = store.scan(&space).unwrap();
    assert_eq!(marks.len(), 1);
    let (key, mut mark) = marks.remove(0);
    let at = mark.last_chunk_mut::<8>().unwrap();
    *at = (u64::from_be_bytes(*at) + 3_600).to_be_bytes();
    let mut later = ChangeSet::new();
    later.put(key, mark);
    store.append(&[later]).unwrap();
}

/// A process that dies is followed by another one, which has the same store; the clock was set back
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_is_paid_outlives_the_streamer() {
    let folder = tempfile::tempdir().unwrap();
    let own = mint(100).await;
    let limits = MintLimits {
        request: Duration::from_millis(1_500),
        ..MintLimits::default()
    };
    let path = folder.path().join("streamer");
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    viewer.wallet.deposit(&own.url(), sat(40)).await.unwrap();
    let pay = || async { viewer.wallet.send(sat(4), Some(&own.url())).await.unwrap() };
    let (paid, lost) = (pay().await, pay().await);
    let streamer = Home::open_with(&path, limits).await.unwrap();
    let serving = serving(&streamer, &own).await;
    let (url, faults) = (serving.link.url.clone(), own.faults_for_testing());
    assert_eq!(post(&url, Some(&paid)).await.0, 201);
    // The mint takes this one, and the streamer dies before it knows.
    faults.set("/v1/swap", Fault::LoseAnswer, 1);
    assert_eq!(post(&url, Some(&lost)).await.0, 503);
    serving.stop().await;
    drop(streamer);
    set_the_clock_back(&path).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    let streamer = loop {
        match Home::open_with(&path, limits).await {
            Ok(home) => break home,
            Err(error) if tokio::time::Instant::now() > until => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let serving = self::serving(&streamer, &own).await;
    let url = serving.link.url.clone();
    for token in [&paid, &lost, &paid, &lost] {
        assert_eq!(post(&url, Some(token)).await.0, 201);
    }
    assert_eq!(spendable(&streamer).await, sat(8));
    serving.stop().await;
}
