//! Streams paid over bitcoin channels: real WebRTC, the applications' own streamer and viewer, a
//! simulated chain that judges by Bitcoin Core's script code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Network, ScriptBuf, WPubkeyHash};
use streampay_btc::chain::ChainSource;
use streampay_btc::keys::Seed;
use streampay_btc::machine::{ChannelReport, ChannelState};
use streampay_btc::sim::SimChain;
use streampay_cashu::AcceptedMint;
use streampay_core::session::CloseCode;
use streampay_core::units::Msat;
use streampay_examples::channel::fees::FeeWalletSetup;
use streampay_examples::channel::{Channels, Setup};
use streampay_examples::home::Home;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::pay::Pay;
use streampay_examples::price::Price;
use streampay_examples::report::Report;
use streampay_examples::streamer::serve::{Offer, Serving, serve};
use streampay_examples::viewer::watch::{Target, Watch, Watched, Wish, watch};
use streampay_examples::wallet::MintLimits;
use streampay_media::peer::PeerConfig;
use streampay_media::whep::TrustedProxy;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cashu_node::{mint, sat};
use crate::line::Line;

pub(crate) const QUIET: Report = Report { json: false };
pub(crate) const STREAMER: u8 = 2;
pub(crate) const VIEWER: u8 = 1;
/// One payment, in satoshi: two a second.
pub(crate) const TICK: u64 = 500;

pub(crate) struct Stage {
    pub(crate) chain: SimChain,
    folder: tempfile::TempDir,
    pub(crate) mint: Option<EmbeddedMint>,
    pub(crate) max_viewers: Option<usize>,
    /// How long who does not pay has a seat, if not as long as usual.
    pub(crate) unpaid: Option<Duration>,
    /// The most that the streamer takes unconfirmed.
    pub(crate) zero_conf_max: Option<Msat>,
    /// The most that the streamer's fee wallet pays for a close, where it has one.
    pub(crate) fee_wallet_max: Option<Msat>,
    /// True once no streamer reaches the chain any more.
    cut_off: Arc<AtomicBool>,
}

pub(crate) fn script(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]))
}

pub(crate) async fn until<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(value) = ready().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within half a minute");
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            chain: SimChain::new(),
            folder: tempfile::tempdir().unwrap(),
            mint: None,
            max_viewers: None,
            unpaid: None,
            zero_conf_max: None,
            fee_wallet_max: None,
            cut_off: Arc::default(),
        }
    }

    pub(crate) fn path(&self, number: u8) -> PathBuf {
        let name = if number == STREAMER {
            "streamer"
        } else {
            "viewer"
        };
        self.folder.path().join(name)
    }

    /// A home that sees the chain, once whoever had it before has let go of it.
    pub(crate) async fn home(&self, number: u8) -> Home {
        until("the folder is free", async || {
            let source: Arc<dyn ChainSource> = match number {
                STREAMER => Arc::new(Line {
                    chain: self.chain.clone(),
                    cut_off: self.cut_off.clone(),
                }),
                _ => Arc::new(self.chain.clone()),
            };
            let mut setup = Setup::new(Network::Regtest, &script(number), source, QUIET);
            setup.every = Duration::from_millis(50);
            setup.config.payee.batch_wait = 0;
            if let Some(most) = self.zero_conf_max {
                setup.take_unconfirmed(most).unwrap();
            }
            if let Some(max) = self.fee_wallet_max.filter(|_| number == STREAMER) {
                setup.take_fee_wallet(FeeWalletSetup {
                    seed: Some(Seed([7; 32])),
                    max,
                    since: 0,
                });
            }
            let limits = MintLimits::default();
            Home::open_for(&self.path(number), limits, Some(setup))
                .await
                .ok()
        })
        .await
    }

    pub(crate) async fn serve(&self, home: &Home, pay: &[Pay]) -> Serving {
        let offer = Offer {
            media: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf")).into(),
            seal: false,
            title: None,
            peer: PeerConfig::loopback(),
            price: price(),
            mints: (self.mint.iter())
                .map(|mint| AcceptedMint::sat(&mint.url()).unwrap().into())
                .collect(),
            pay: pay.to_vec(),
            listen: ([127, 0, 0, 1], 0).into(),
            join_fee: Msat::ZERO,
            max_viewers: self.max_viewers,
            preview: None,
            unpaid: self.unpaid,
            record: None,
            typing: false,
            public_url: None,
            trusted_proxy: TrustedProxy::None,
            report: QUIET,
        };
        serve(home, offer).await.unwrap()
    }

    /// A viewer who watches until it is told to leave.
    pub(crate) fn watch(
        &self,
        home: Home,
        serving: &Serving,
        pay: &[Pay],
    ) -> (mpsc::Sender<Wish>, JoinHandle<(Home, Watched)>) {
        let order = Watch {
            link: serving.link.clone(),
            budget: sat(60_000),
            max_tariff: price().tariff(),
            pay: pay.to_vec(),
            max_tick: sat(TICK),
            record: Target::File(self.folder.path().join("recording.webm")),
            stop_after_ms: None,
            browser: None,
            interactive: false,
            join: None,
            peer: PeerConfig::loopback(),
            report: QUIET,
        };
        let (wishes, from_user) = mpsc::channel(4);
        let watching = tokio::spawn(async move {
            let watched = watch(&home, &order, from_user).await.unwrap();
            (home, watched)
        });
        (wishes, watching)
    }

    /// The viewer leaves, and blocks come until all is home on both sides.
    pub(crate) async fn leave(
        &self,
        wishes: &mpsc::Sender<Wish>,
        watching: JoinHandle<(Home, Watched)>,
        streamer: &Home,
    ) -> Home {
        wishes.send(Wish::Leave).await.unwrap();
        self.mine_until("the session ends", async || watching.is_finished())
            .await;
        let (viewer, watched) = watching.await.unwrap();
        assert_eq!(watched.code, Some(CloseCode::Done));
        self.mine_until("all is home", async || {
            all_settled(&viewer).await && all_settled(streamer).await
        })
        .await;
        viewer
    }

    /// Pays what the viewer was shown, as any wallet would.
    pub(crate) async fn pay_what_is_shown(&self, viewer: &Channels) -> ChannelReport {
        let folder = self.path(VIEWER).join("channels");
        let kits = || std::fs::read_dir(&folder).ok().map(|all| all.count());
        let wanted = until("an address is shown", async || {
            let kept = kits().is_some_and(|kits| kits > 0);
            viewer.report().into_iter().next().filter(|_| kept)
        })
        .await;
        assert_eq!(wanted.state, ChannelState::Unfunded);
        let kit = the_kit(&folder);
        assert!(
            kit.contains(&wanted.descriptor) && !kit.contains("refund at"),
            "{kit}"
        );
        let address = wanted.address.clone().unwrap();
        self.chain
            .pay(&address.script_pubkey(), wanted.value)
            .unwrap();
        wanted
    }

    /// Blocks, until all that is buried is buried.
    pub(crate) async fn mine_until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        until(what, async || {
            self.chain.mine(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            done().await.then_some(())
        })
        .await;
    }
}

pub(crate) fn price() -> Price {
    Price {
        tick: sat(TICK),
        per_ms: 1_000,
    }
}

fn the_kit(folder: &Path) -> String {
    let mut files = std::fs::read_dir(folder).unwrap();
    std::fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap()
}

pub(crate) fn channels(home: &Home) -> Arc<Channels> {
    home.channels.clone().unwrap()
}

/// What the streamer holds signatures for, over all channels.
pub(crate) fn paid(streamer: &Channels) -> u64 {
    let report = streamer.report();
    report.iter().map(|channel| channel.paid.to_sat()).sum()
}

pub(crate) async fn all_settled(home: &Home) -> bool {
    let book = channels(home).book(home).await.unwrap();
    !book.is_empty() && book.iter().all(|channel| channel.settled.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_with_any_wallet_pays_watches_and_gets_the_rest_back() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let wanted = stage.pay_what_is_shown(&payer).await;
    assert_eq!(
        paid(&payee),
        0,
        "nothing is paid before the funding is in a block"
    );
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 3 * TICK).then_some(())).await;
    let kit = the_kit(&stage.path(VIEWER).join("channels"));
    assert_eq!(kit.matches("refund at").count(), 3, "{kit}");
    let viewer = stage.leave(&wishes, watching, &streamer).await;
    let (home, earned) = (
        stage.chain.balance(&script(VIEWER)).to_sat(),
        stage.chain.balance(&script(STREAMER)).to_sat(),
    );
    let fee = wanted.value.to_sat() - home - earned;
    assert!((150..=450).contains(&fee), "{fee}");
    let book = channels(&viewer).book(&viewer).await.unwrap();
    assert_eq!(book[0].settled.unwrap().to_sat(), home);
    let book = channels(&streamer).book(&streamer).await.unwrap();
    assert_eq!(book[0].settled.unwrap().to_sat(), earned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_leaves_waits_for_no_block() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let wanted = stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
    wishes.send(Wish::Leave).await.unwrap();
    until("it ends", async || watching.is_finished().then_some(())).await;
    let (viewer, watched) = watching.await.unwrap();
    assert_eq!(watched.code, Some(CloseCode::Done));
    assert!(!watched.settled, "no block came");
    let least = wanted.value.to_sat() - payee.report()[0].paid.to_sat();
    let coming = watched.on_the_way.unwrap();
    assert!(coming >= sat(least), "{coming} of {least}");
    stage
        .mine_until("it comes home", async || all_settled(&viewer).await)
        .await;
    assert_eq!(sat(stage.chain.balance(&script(VIEWER)).to_sat()), coming);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_comes_back_settles_the_channels_of_sessions_that_have_ended() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (_wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
    // The chain is away when the streamer ends: nothing can be closed.
    stage.chain.set_away(true);
    serving.stop().await;
    watching.abort();
    let _ = watching.await;
    drop((payee, payer, streamer));
    // Nobody serves, no session is taken up: the folder alone is open.
    let streamer = stage.home(STREAMER).await;
    assert!(stage.chain.waiting().is_empty(), "not closed yet");
    stage.chain.set_away(false);
    stage
        .mine_until("it settles", async || all_settled(&streamer).await)
        .await;
    let earned = stage.chain.balance(&script(STREAMER)).to_sat();
    assert!(earned > 2 * TICK, "{earned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_comes_back_takes_its_money_home_after_the_expiry() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (_wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let wanted = stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
    // The streamer is gone for good, and this process ends too. What is still at work of it within
    // this test reaches no chain: a close that is tried until it succeeds would be mined.
    stage.cut_off.store(true, Ordering::SeqCst);
    watching.abort();
    let _ = watching.await;
    stage.chain.set_away(true);
    let gone = Arc::downgrade(&payee);
    serving.stop().await;
    drop((payee, streamer, payer));
    until("nothing of the streamer runs", async || {
        gone.upgrade().is_none().then_some(())
    })
    .await;
    let viewer = stage.home(VIEWER).await;
    let left = wanted.expiry - stage.chain.tip();
    stage.chain.mine(left - 1);
    stage.chain.set_away(false);
    channels(&viewer).look().await.unwrap();
    assert!(
        stage.chain.waiting().is_empty(),
        "a block before the expiry"
    );
    stage
        .mine_until("it comes home", async || all_settled(&viewer).await)
        .await;
    let home = stage.chain.balance(&script(VIEWER)).to_sat();
    assert!(home + 500 > wanted.value.to_sat(), "{home}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ecash_pays_until_the_channel_has_confirmed_and_then_the_channel_does() {
    let mut stage = Stage::new();
    let mint = mint(100).await;
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    viewer
        .wallet
        .deposit(&mint.url(), sat(40_000))
        .await
        .unwrap();
    stage.mint = Some(mint);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let both = [Pay::Btc, Pay::Chain];
    let serving = stage.serve(&streamer, &both).await;
    let (wishes, watching) = stage.watch(viewer, &serving, &both);
    stage.pay_what_is_shown(&payer).await;
    let received = async || {
        let session = payer.report()[0].purse.session;
        let records = streamer.node.records_of(session).await.unwrap();
        let (own, now) = (streamer.identity.clone(), streamer.node.clock().now());
        let session =
            streampay_core::session::PayeeSession::restore(own, 0, now, session, &records);
        session.map_or(0, |session| session.credited().sat_floor())
    };
    until("ecash pays", async || {
        (received().await > 2 * TICK).then_some(())
    })
    .await;
    assert_eq!(paid(&payee), 0, "the channel is in no block yet");
    stage.chain.mine(1);
    until("the channel pays", async || {
        (paid(&payee) > 3 * TICK).then_some(())
    })
    .await;
    stage.leave(&wishes, watching, &streamer).await;
    let ecash = streamer.wallet.balance().await.unwrap();
    assert!(ecash[0].spendable >= sat(TICK), "{ecash:?}");
    assert!(stage.chain.balance(&script(STREAMER)).to_sat() > TICK);
}
