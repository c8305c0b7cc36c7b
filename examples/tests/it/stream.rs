//! Whole sessions: real WebRTC, a real mint, the applications' own streamer and viewer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use streampay_cashu::AcceptedMint;
use streampay_core::session::CloseCode;
use streampay_core::units::{Msat, Unix};
use streampay_examples::error::AppError;
use streampay_examples::exit::Exit;
use streampay_examples::home::Home;
use streampay_examples::ledger::history::Sums;
use streampay_examples::ledger::{self, unsettled};
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::pay::{Pay, mints};
use streampay_examples::price::Price;
use streampay_examples::quote;
use streampay_examples::report::Report;
use streampay_examples::streamer::demo::mint_calls;
use streampay_examples::streamer::serve::{FreePreview, Offer, Serving, leave, recover, serve};
use streampay_examples::viewer;
use streampay_examples::viewer::watch::{Target, Watch, Watched, Wish, watch};
use streampay_media::peer::PeerConfig;
use streampay_media::whep::{Client, TrustedProxy};
use tokio::sync::mpsc;

use crate::cashu_node::{mint, sat};
use crate::channel::until;

const QUIET: Report = Report { json: false };

pub(crate) struct Stage {
    pub(crate) mint: EmbeddedMint,
    pub(crate) streamer: Home,
    pub(crate) viewer: Home,
    pub(crate) serving: Serving,
    pub(crate) folder: tempfile::TempDir,
}

/// A stream of 2 sat a second, and a viewer who holds `funds`.
pub(crate) async fn stage(funds: u64) -> Stage {
    stage_paying(funds, Pay::Swap).await
}

/// The same, paid in one way.
pub(crate) async fn stage_paying(funds: u64, pay: Pay) -> Stage {
    stage_with(funds, pay, |_| {}).await
}

/// The same with another offer.
pub(crate) async fn stage_with(
    funds: u64,
    pay: Pay,
    change: impl FnOnce(&mut Offer) + Send,
) -> Stage {
    stage_at(mint(100).await, funds, pay, change).await
}

async fn stage_at(
    mint: EmbeddedMint,
    funds: u64,
    pay: Pay,
    change: impl FnOnce(&mut Offer) + Send,
) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let streamer = Home::open(&folder.path().join("streamer")).await.unwrap();
    let viewer = Home::open(&folder.path().join("viewer")).await.unwrap();
    if funds > 0 {
        viewer
            .wallet
            .deposit(&mint.url(), sat(funds))
            .await
            .unwrap();
    }
    let mut offer = Offer {
        media: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf")).into(),
        seal: false,
        title: None,
        peer: PeerConfig::default(),
        price: "2sat/1s".parse().unwrap(),
        mints: vec![AcceptedMint::sat(&mint.url()).unwrap().into()],
        pay: vec![pay],
        listen: ([127, 0, 0, 1], 0).into(),
        join_fee: Msat::ZERO,
        max_viewers: None,
        preview: None,
        unpaid: None,
        record: None,
        typing: false,
        public_url: None,
        trusted_proxy: TrustedProxy::None,
        report: QUIET,
    };
    change(&mut offer);
    let serving = serve(&streamer, offer).await.unwrap();
    Stage {
        mint,
        streamer,
        viewer,
        serving,
        folder,
    }
}

impl Stage {
    pub(crate) fn order(&self, budget: u64, max_price: &str, record: &Path) -> Watch {
        let price: Price = max_price.parse().unwrap();
        Watch {
            link: self.serving.link.clone(),
            budget: sat(budget),
            max_tariff: price.tariff(),
            pay: Pay::ALL.to_vec(),
            max_tick: sat(100),
            record: Target::File(record.to_owned()),
            stop_after_ms: None,
            browser: None,
            interactive: false,
            join: None,
            peer: PeerConfig::loopback(),
            report: QUIET,
        }
    }

    pub(crate) async fn watch(&self, budget: u64, max_price: &str) -> Watched {
        let (_wishes, from_user) = mpsc::channel(1);
        let record = self.folder.path().join("recording.webm");
        watch(
            &self.viewer,
            &self.order(budget, max_price, &record),
            from_user,
        )
        .await
        .unwrap()
    }

    pub(crate) async fn balances(&self) -> (Msat, Msat) {
        (
            spendable(&self.viewer).await,
            spendable(&self.streamer).await,
        )
    }

    /// Everything that the mint ever issued is in one of the two wallets, or was its fee.
    pub(crate) async fn assert_conserved(&self) {
        let (viewer, streamer) = self.balances().await;
        let ledger = self.mint.ledger().await.unwrap();
        assert_eq!(viewer.plus(streamer).unwrap(), ledger.outstanding());
    }
}

async fn spendable(home: &Home) -> Msat {
    let balances = home.wallet.balance().await.unwrap();
    balances.iter().fold(Msat::ZERO, |sum, balance| {
        sum.plus(balance.spendable).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_money_receives_no_packet() {
    let stage = stage(0).await;
    let watched = stage.watch(50, "2sat/1s").await;
    assert_eq!(watched.packets, 0);
    assert_eq!(watched.code, Some(CloseCode::InsufficientFunds));
    assert_eq!(stage.balances().await, (Msat::ZERO, Msat::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_above_the_viewers_limit_is_refused_before_money_moves() {
    let stage = stage(50).await;
    let watched = stage.watch(50, "1sat/1s").await;
    assert_eq!(
        (watched.packets, watched.code),
        (0, Some(CloseCode::OverPolicy))
    );
    assert_eq!(stage.balances().await, (sat(50), Msat::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_with_all_fees_is_never_exceeded_and_buys_what_it_can() {
    let stage = stage(100).await;
    let watched = stage.watch(14, "2sat/1s").await;
    assert_eq!(watched.code, Some(CloseCode::BudgetSpent));
    assert!(
        watched.settled && watched.account.paid <= sat(14),
        "{watched:?}"
    );
    let (viewer, streamer) = stage.balances().await;
    assert_eq!(
        viewer,
        sat(100)
            .minus(watched.account.paid)
            .unwrap()
            .plus(watched.account.refunded)
            .unwrap()
    );
    // Tokens of 2 sat and 1 sat of fee each, and the fee of splitting.
    assert_eq!((streamer, watched.ticks), (sat(8), 4));
    let allowed = 4 * 1000;
    assert!((3_500..=allowed).contains(&watched.media_ms), "{watched:?}");
    assert!(watched.packets > 100 && watched.recording.is_some());
    stage.assert_conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn account_is_whole_where_nothing_is_left_in_the_wallet() {
    let stage = stage(7).await;
    let watched = stage.watch(50, "2sat/1s").await;
    assert_eq!(watched.code, Some(CloseCode::InsufficientFunds));
    assert_eq!(stage.balances().await, (Msat::ZERO, sat(4)));
    assert_eq!(watched.account.paid, sat(7), "two tokens and the split");
    assert_eq!((watched.account.acknowledged, watched.ticks), (sat(4), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_another_key_gets_no_money() {
    let stage = stage(50).await;
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(50, "2sat/1s", &record);
    order.link.key = stage.viewer.identity.public();
    let (_wishes, from_user) = mpsc::channel(1);
    let watched = watch(&stage.viewer, &order, from_user).await.unwrap();
    assert_eq!(
        (watched.packets, watched.code),
        (0, Some(CloseCode::Misbehaved))
    );
    assert_eq!(stage.balances().await, (sat(50), Msat::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_price_asked_beforehand_is_signed_by_the_owner_of_the_link() {
    let stage = stage(0).await;
    let terms = quote::ask(&stage.serving.link).await.unwrap();
    let price: Price = "2sat/1s".parse().unwrap();
    assert_eq!((terms.tariff, terms.tick), (price.tariff(), price.tick));
    assert_eq!(mints(&terms)[0].url(), stage.mint.url());

    let mut other = stage.serving.link.clone();
    other.key = stage.viewer.identity.public();
    let refused = quote::ask(&other).await.unwrap_err();
    assert!(matches!(refused, AppError::WrongSigner), "{refused}");

    let page = Client.get(&stage.serving.link.url, "text/html; charset=utf-8");
    let page = String::from_utf8(page.await.unwrap()).unwrap();
    assert!(page.contains("2 sat") && page.contains(&stage.mint.url()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_that_refuses_for_a_while_delays_the_stream_and_loses_nothing() {
    let stage = stage(100).await;
    stage
        .mint
        .faults_for_testing()
        .set("/v1/swap", Fault::Refuse, 2);
    let (_wishes, from_user) = mpsc::channel(1);
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(60, "2sat/1s", &record);
    order.stop_after_ms = Some(1_500);
    let watched = watch(&stage.viewer, &order, from_user).await.unwrap();
    assert_eq!(watched.code, Some(CloseCode::Done));
    assert!(
        watched.settled && watched.ticks > 0 && watched.packets > 0,
        "{watched:?}"
    );
    stage.assert_conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_whose_answers_are_lost_is_asked_again_and_paid_once() {
    let stage = stage(100).await;
    stage
        .mint
        .faults_for_testing()
        .set("/v1/swap", Fault::LoseAnswer, 2);
    let (_wishes, from_user) = mpsc::channel(1);
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(60, "2sat/1s", &record);
    order.stop_after_ms = Some(1_500);
    let watched = watch(&stage.viewer, &order, from_user).await.unwrap();
    assert!(watched.settled && watched.ticks > 0, "{watched:?}");
    let (_, streamer) = stage.balances().await;
    assert_eq!(streamer, sat(2).times(watched.ticks).unwrap());
    stage.assert_conserved().await;
}

/// Packets of the clip in a second, with room: 25 pictures of a few packets, 50 of sound.
const PACKETS_A_SECOND: u64 = 200;

/// Watches while the mint takes `swaps` swaps and then no more, for as long as `stays`.
/// A service manager sees by the exit code that something is left to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_ends_while_its_mint_is_away_says_that_its_money_is_out() {
    let stage = stage_paying(60, Pay::Chain).await;
    let faults = stage.mint.faults_for_testing().clone();
    let mut order = stage.order(40, "2sat/1s", &stage.folder.path().join("recording.webm"));
    order.stop_after_ms = None;
    let (_wishes, from_user) = mpsc::channel(1);
    let watching = tokio::spawn({
        let viewer = stage.viewer;
        async move {
            watch(&viewer, &order, from_user)
                .await
                .map(|of| (of, viewer))
        }
    });
    // Something is acknowledged and not redeemed.
    let earned = async || {
        let all = ledger::sessions(&stage.streamer).await.unwrap();
        all.iter().any(|session| !Sums::of(session).out.is_zero())
    };
    until("a payment has come", async || earned().await.then_some(())).await;
    faults.set("/v1/swap", Fault::Refuse, u64::MAX);
    let ended = leave(&stage.streamer, stage.serving, QUIET).await;
    let ended = ended.unwrap_err();
    assert_eq!(ended.exit(), Exit::Unsettled, "{ended}");
    assert!(earned().await);
    let left = unsettled::list(&stage.streamer).await.unwrap();
    let by = left[0].redeem_by.expect("it is told until when");
    let now = stage.streamer.node.clock().now().unix;
    // The lock of four hours, or what is left of it.
    let seconds = by.0 - now.0;
    assert!((12_600..=14_760).contains(&seconds), "{seconds}");
    assert_eq!(left[0].locked_until, None);
    faults.clear();
    watching.abort();
    assert!(recover(&stage.streamer, QUIET).await.unwrap());
    assert!(!earned().await);
    assert!(unsettled::tell(&stage.streamer, QUIET).await.unwrap());
}

/// A viewer that dies while its purse is being opened: neither its session nor its wallet knows of that yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purse_that_was_being_opened_when_its_viewer_died_is_told_and_until_when() {
    let stage = stage_paying(40, Pay::Chain).await;
    let faults = stage.mint.faults_for_testing().clone();
    faults.set("/v1/swap", Fault::LoseAnswer, u64::MAX);
    let order = stage.order(40, "2sat/1s", &stage.folder.path().join("recording.webm"));
    let (_wishes, from_user) = mpsc::channel(1);
    let told = async || unsettled::list(&stage.viewer).await.unwrap().pop();
    let told = tokio::select! {
        ended = watch(&stage.viewer, &order, from_user) => panic!("{ended:?}"),
        told = until("a purse is being opened", told) => told,
    };
    let is_in_four_hours = |until: Option<Unix>| {
        let now = stage.viewer.node.clock().now().unix;
        let seconds = until.expect("it is told until when").0 - now.0;
        assert!((14_000..=14_400).contains(&seconds), "{seconds}");
    };
    assert_eq!(told.out, Msat::ZERO, "nobody knows what it has cost");
    is_in_four_hours(told.locked_until);
    assert!(!unsettled::tell(&stage.viewer, QUIET).await.unwrap());
    // It was locked: now that is known, and the session has been called off.
    faults.clear();
    assert!(
        !viewer::recover::recover(&stage.viewer, QUIET)
            .await
            .unwrap()
    );
    let told = unsettled::list(&stage.viewer).await.unwrap().pop().unwrap();
    is_in_four_hours(told.locked_until);
}

/// At a mint without fees nothing of its viewer's is out then, though the streamer has not redeemed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purse_that_is_wholly_paid_when_its_viewer_dies_is_not_told_as_one_that_was_being_opened() {
    let stage = stage_at(mint(0).await, 10, Pay::Chain, |_| {}).await;
    let order = stage.order(10, "2sat/1s", &stage.folder.path().join("recording.webm"));
    let (_wishes, from_user) = mpsc::channel(1);
    let paid = async || {
        let session = ledger::sessions(&stage.viewer).await.unwrap().pop()?;
        let row = session.purses.first()?.clone();
        let is_paid = row.opened && row.acknowledged == row.cost;
        (is_paid && !session.settled).then_some(row)
    };
    let row = tokio::select! {
        ended = watch(&stage.viewer, &order, from_user) => panic!("{ended:?}"),
        row = until("all of the purse is paid", paid) => row,
    };
    assert_eq!((row.cost, row.home), (sat(10), false));
    let told = unsettled::list(&stage.viewer).await.unwrap();
    assert!(told.is_empty(), "{told:?}");
    assert!(unsettled::tell(&stage.viewer, QUIET).await.unwrap());
}

async fn watch_with_a_mint_that_stops(stage: &Stage, swaps: u64, stays: Duration) -> Watched {
    let faults = stage.mint.faults_for_testing().clone();
    let (wishes, from_user) = mpsc::channel(1);
    let user = async {
        while stage.mint.swaps() < swaps {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        faults.set("/v1/swap", Fault::Refuse, u64::MAX);
        // What is tested is that nothing comes for so long.
        tokio::time::sleep(stays).await;
        faults.clear();
        wishes.send(Wish::Leave).await.unwrap();
    };
    let record = stage.folder.path().join("recording.webm");
    let order = stage.order(60, "2sat/1s", &record);
    let (watched, ()) = tokio::join!(watch(&stage.viewer, &order, from_user), user);
    watched.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_connects_and_never_pays_receives_no_packet() {
    let stage = stage(100).await;
    let watched = watch_with_a_mint_that_stops(&stage, 0, Duration::from_secs(4)).await;
    assert_eq!((watched.packets, watched.media_ms), (0, 0), "{watched:?}");
    stage.assert_conserved().await;
}

/// Again and again, each time with another session: their household's budget is 50 ms, and a session's
/// own would be 1 s each time.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_and_again_without_paying_sees_no_more_than_its_households_budget() {
    let stage = stage_with(100, Pay::Swap, |offer| {
        offer.preview = Some(FreePreview {
            each: sat(2),
            household: Msat::new(100).unwrap(),
            in_all: sat(100),
        });
    });
    let stage = stage.await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let watched = watch_with_a_mint_that_stops(&stage, 0, Duration::from_secs(2)).await;
        assert!(watched.account.acknowledged.is_zero(), "{watched:?}");
        seen.push(watched.media_ms);
    }
    assert!((1..=50).contains(&seen.iter().sum::<u64>()), "{seen:?}");
    stage.assert_conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_stops_paying_receives_no_packet_beyond_its_credit() {
    let stage = stage(100).await;
    // One to split, and two ticks of a second each at least.
    let watched = watch_with_a_mint_that_stops(&stage, 3, Duration::from_secs(6)).await;
    let paid_ms = watched.account.acknowledged.sat_floor() / 2 * 1_000;
    assert!(watched.settled && watched.ticks >= 1, "{watched:?}");
    assert!(watched.media_ms <= paid_ms, "{watched:?}");
    let most = paid_ms / 1_000 * PACKETS_A_SECOND;
    assert!((1..=most).contains(&watched.packets), "{watched:?}");
    stage.assert_conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_costs_what_was_quoted_to_the_satoshi_and_its_ticks_ask_the_mint_nothing() {
    for pay in [Pay::Chain, Pay::P2pk] {
        let stage = stage_paying(100, pay).await;
        let terms = quote::ask(&stage.serving.link).await.unwrap();
        let costs = quote::costs(&stage.viewer, &terms, Pay::ALL, sat(60)).await;
        assert_eq!(costs.len(), 1);
        let sentence = quote::sentence(&terms, &costs);
        for part in [pay.name(), "locks it for at most 4 h", "unused, costs"] {
            assert!(sentence.contains(part), "{sentence}");
        }
        let (_wishes, from_user) = mpsc::channel(1);
        let record = stage.folder.path().join("recording.webm");
        let mut order = stage.order(60, "2sat/1s", &record);
        order.stop_after_ms = Some(2_500);
        let watched = watch(&stage.viewer, &order, from_user).await.unwrap();
        assert!(watched.settled && watched.ticks >= 2, "{watched:?}");
        assert_eq!(watched.code, Some(CloseCode::Done));
        assert_eq!(mint_calls(&stage.mint.tally().asked(), &watched), 0);
        let (viewer, streamer) = stage.balances().await;
        let fees = stage.mint.ledger().await.unwrap().fees;
        assert_eq!(fees, costs[0].after(watched.ticks), "{costs:?}");
        let account = watched.account;
        let left = sat(100).minus(account.paid).unwrap();
        assert_eq!(viewer, left.plus(account.refunded).unwrap());
        assert_eq!(viewer.plus(streamer).unwrap().plus(fees), Ok(sat(100)));
        assert_eq!(account.acknowledged, sat(2).times(watched.ticks).unwrap());
        stage.assert_conserved().await;
    }
}
