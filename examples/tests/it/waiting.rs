//! Viewers that wait for somebody to pay to their channel's address: real WebRTC, both applications, a
//! simulated chain and a mint.

use std::time::Duration;

use streampay_examples::error::AppError;
use streampay_examples::home::Home;
use streampay_examples::pay::Pay;
use streampay_examples::viewer::watch::{Target, Watch, Watched, watch};
use streampay_media::peer::{PeerConfig, PeerError};
use streampay_media::whep::ClientError;
use tokio::sync::mpsc;

use crate::cashu_node::{mint, sat};
use crate::channel::{QUIET, STREAMER, Stage, TICK, VIEWER, channels, paid, price, until};

/// Long enough for another one to be turned away meanwhile.
const SEATED: Duration = Duration::from_secs(2);

/// There is one seat. Who has it and does not pay has it for a while (`strangers` says how long, in virtual time),
/// and goes on waiting without it; once its channel pays it is served beside whoever came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_channel_leaves_its_seat_to_others_and_is_served_when_it_pays() {
    let mut stage = Stage::new();
    let mint = mint(0).await;
    let folder = tempfile::tempdir().unwrap();
    let (streamer, waiting) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let other = Home::open(folder.path()).await.unwrap();
    other
        .wallet
        .deposit(&mint.url(), sat(40_000))
        .await
        .unwrap();
    stage.mint = Some(mint);
    stage.max_viewers = Some(1);
    stage.unpaid = Some(SEATED);
    let (payee, payer) = (channels(&streamer), channels(&waiting));
    let serving = stage.serve(&streamer, &[Pay::Btc, Pay::Chain]).await;
    let (wishes, watching) = stage.watch(waiting, &serving, &[Pay::Btc]);
    until("an address is shown", async || {
        payer.report().into_iter().next()
    })
    .await;

    let order = Watch {
        link: serving.link.clone(),
        budget: sat(20_000),
        max_tariff: price().tariff(),
        pay: vec![Pay::Chain],
        max_tick: sat(TICK),
        record: Target::File(folder.path().join("other.webm")),
        stop_after_ms: Some(1_000),
        browser: None,
        interactive: false,
        join: None,
        peer: PeerConfig::loopback(),
        report: QUIET,
    };
    let comes = async || -> Result<Watched, AppError> {
        let (_wishes, from_user) = mpsc::channel(4);
        watch(&other, &order, from_user).await
    };
    let refused = comes().await;
    assert!(
        matches!(
            refused,
            Err(AppError::Connect(PeerError::Whep(ClientError::Busy {
                status: 503
            })))
        ),
        "{refused:?}"
    );
    let watched = until("the seat is free", async || comes().await.ok()).await;
    assert!(watched.ticks >= 1 && watched.packets > 0, "{watched:?}");

    assert!(!watching.is_finished(), "who waits is still there");
    assert_eq!(paid(&payee), 0);
    stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
    stage.leave(&wishes, watching, &streamer).await;
}
