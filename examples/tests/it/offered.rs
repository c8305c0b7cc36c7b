//! What is offered while mints change: a streamer that serves looks at them again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cdk::nuts::CurrencyUnit;
use streampay_btc::bitcoin::{FeeRate, Network};
use streampay_btc::policy::PayeePolicy;
use streampay_btc::sim::SimChain;
use streampay_cashu::AcceptedMint;
use streampay_core::units::Msat;
use streampay_examples::channel::{self, Setup};
use streampay_examples::error::AppError;
use streampay_examples::home::Home;
use streampay_examples::link::StreamLink;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::pay::{self, Pay};
use streampay_examples::quote;
use streampay_examples::report::Report;
use streampay_examples::streamer::serve::{Offer, Serving, serve};
use streampay_examples::trust::{Listed, before_serving};
use streampay_examples::wallet::{LockKind, MintLimits};
use streampay_media::peer::PeerConfig;
use streampay_media::whep::TrustedProxy;

use crate::cashu_node::{mint, sat};
use crate::channel::{QUIET, STREAMER, channels, script};

async fn home(folder: &tempfile::TempDir, looked_at_for: Duration) -> Home {
    let limits = MintLimits {
        looked_at_for,
        request: Duration::from_millis(1_500),
        ..MintLimits::default()
    };
    Home::open_with(folder.path(), limits).await.unwrap()
}

fn listed(mints: &[&EmbeddedMint]) -> Vec<AcceptedMint> {
    let listed = mints.iter().map(|mint| AcceptedMint::sat(&mint.url()));
    listed.collect::<Result<_, _>>().unwrap()
}

async fn serving(home: &Home, mints: &[&EmbeddedMint]) -> Serving {
    let mints = listed(mints).into_iter().map(Into::into);
    serving_of(home, mints.collect()).await
}

async fn serving_of(home: &Home, mints: Vec<Listed>) -> Serving {
    serving_for(home, mints, Pay::ALL).await
}

async fn serving_for(home: &Home, mints: Vec<Listed>, pay: &[Pay]) -> Serving {
    let offer = Offer {
        media: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf")).into(),
        seal: false,
        title: None,
        peer: PeerConfig::loopback(),
        price: "4sat/1s".parse().unwrap(),
        mints,
        pay: pay.to_vec(),
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
    serve(home, offer).await.unwrap()
}

/// The mints that are offered, best first.
async fn offered(link: &StreamLink) -> Result<Vec<String>, AppError> {
    let terms = quote::ask(link).await?;
    let mints = pay::mints(&terms);
    Ok(mints.iter().map(|mint| mint.url().to_owned()).collect())
}

async fn other_keys(mint: &EmbeddedMint, ppk: u64) {
    let amounts = (0..32).map(|bit| 1_u64 << bit).collect();
    let inner = mint.mint_for_testing();
    let rotated = inner.rotate_keyset(CurrencyUnit::Sat, amounts, ppk, true, None);
    rotated.await.unwrap();
}

/// A mint that forgot NUT-07.
fn forgetful() -> Fault {
    Fault::Say("\"7\":{\"supported\":true}", "\"7\":{\"supported\":false}")
}

#[tokio::test(flavor = "multi_thread")]
async fn mints_that_change_while_serving_are_left_out_and_taken_back() {
    let (folder, one, two) = (tempfile::tempdir().unwrap(), mint(0).await, mint(0).await);
    let streamer = home(&folder, Duration::ZERO).await;
    let serving = serving(&streamer, &[&one, &two]).await;
    let link = &serving.link;
    assert_eq!(offered(link).await.unwrap(), [one.url(), two.url()]);

    // One forgets a NUT, and remembers it.
    let faults = one.faults_for_testing();
    faults.set("/v1/info", forgetful(), u64::MAX);
    assert_eq!(offered(link).await.unwrap(), [two.url()]);
    faults.clear();
    assert_eq!(offered(link).await.unwrap(), [one.url(), two.url()]);

    // The other one takes more than is allowed from now on.
    other_keys(&two, 2_000).await;
    assert_eq!(offered(link).await.unwrap(), [one.url()]);

    // One that does not answer is what it was before.
    faults.set("/", Fault::Refuse, u64::MAX);
    assert_eq!(offered(link).await.unwrap(), [one.url()]);

    // None is left: nothing is offered, and the page still shows.
    faults.clear();
    faults.set("/v1/info", forgetful(), u64::MAX);
    assert!(matches!(offered(link).await, Err(AppError::Signalling(_))));
    let page = bitreq::get(&link.url).send_async().await.unwrap();
    assert_eq!(page.status_code, 200);
    other_keys(&two, 100).await;
    assert_eq!(offered(link).await.unwrap(), [two.url()]);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_that_is_unfit_when_serving_begins_comes_in_when_it_is_fit() {
    let (folder, one, two) = (tempfile::tempdir().unwrap(), mint(0).await, mint(0).await);
    let streamer = home(&folder, Duration::ZERO).await;
    let faults = one.faults_for_testing();
    faults.set("/v1/info", forgetful(), u64::MAX);
    let (all, quiet) = (listed(&[&one, &two]), Report { json: false });
    let found = before_serving(&streamer, all, Pay::ALL, quiet)
        .await
        .unwrap();
    let serving = serving_of(&streamer, found).await;
    let link = &serving.link;
    assert_eq!(offered(link).await.unwrap(), [two.url()]);
    // One that does not answer is what it was before.
    faults.set("/", Fault::Refuse, u64::MAX);
    assert_eq!(offered(link).await.unwrap(), [two.url()]);
    // In its place: the best first.
    faults.clear();
    assert_eq!(offered(link).await.unwrap(), [one.url(), two.url()]);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mints_are_not_asked_for_everybody_who_comes() {
    let (folder, one) = (tempfile::tempdir().unwrap(), mint(0).await);
    let streamer = home(&folder, Duration::from_secs(3_600)).await;
    let serving = serving(&streamer, &[&one]).await;
    let asked = one.tally().asked().len();
    for _ in 0..20 {
        assert_eq!(offered(&serving.link).await.unwrap(), [one.url()]);
    }
    assert_eq!(one.tally().asked().len(), asked);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_are_tried_while_serving_and_not_each_time() {
    let (folder, one) = (tempfile::tempdir().unwrap(), mint(0).await);
    let streamer = home(&folder, Duration::ZERO).await;
    let (wallet, url) = (&streamer.wallet, one.url());
    wallet.deposit(&url, sat(40)).await.unwrap();
    let serving = serving(&streamer, &[&one]).await;
    offered(&serving.link).await.unwrap();
    for kind in [LockKind::Htlc, LockKind::P2pk] {
        assert!(wallet.known_of(&url, kind).await.unwrap().unwrap().hold);
    }
    // Others soon after: what was found stands for a while.
    other_keys(&one, 0).await;
    assert_eq!(offered(&serving.link).await.unwrap(), [url.as_str()]);
    assert_eq!(wallet.known_of(&url, LockKind::Htlc).await.unwrap(), None);
    assert_eq!(wallet.balance().await.unwrap()[0].spendable, sat(40));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_whose_id_is_not_that_of_its_keys_is_found_while_serving() {
    let (folder, one) = (tempfile::tempdir().unwrap(), mint(0).await);
    let streamer = home(&folder, Duration::ZERO).await;
    let serving = serving(&streamer, &[&one]).await;
    assert_eq!(offered(&serving.link).await.unwrap(), [one.url()]);
    other_keys(&one, 0).await;
    let faults = one.faults_for_testing();
    faults.set("/v1/keys", Fault::WrongSignature, u64::MAX);
    assert!(offered(&serving.link).await.is_err());
    faults.clear();
    assert_eq!(offered(&serving.link).await.unwrap(), [one.url()]);
    serving.stop().await;
}

/// What is offered goes with the day: a viewer refuses a reserve that is far above what a close costs.
#[tokio::test(flavor = "multi_thread")]
async fn settle_reserve_goes_with_the_fees_while_serving() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), SimChain::new());
    let cost = |sat_vb| {
        let rate = FeeRate::from_sat_per_vb_u32(sat_vb);
        chain.set_rate(rate);
        PayeePolicy::reserve_at(rate)
    };
    let dear = cost(40);
    let source = Arc::new(chain.clone());
    let setup = Setup::new(Network::Regtest, &script(STREAMER), source, QUIET);
    let limits = MintLimits {
        looked_at_for: Duration::ZERO,
        ..MintLimits::default()
    };
    let streamer = Home::open_for(folder.path(), limits, Some(setup)).await;
    let streamer = streamer.unwrap();
    let serving = serving_for(&streamer, Vec::new(), &[Pay::Btc]).await;
    let reserve = async || {
        let terms = quote::ask(&serving.link).await.unwrap();
        channel::quote::params(&terms).unwrap().reserve
    };
    assert_eq!(reserve().await, dear);
    for sat_vb in [3, 90] {
        let now = cost(sat_vb);
        channels(&streamer).look().await.unwrap();
        assert_eq!(reserve().await, now, "at {sat_vb} sat/vB");
    }
    serving.stop().await;
}
