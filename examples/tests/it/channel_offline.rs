//! Channels whose owner is away, or ends before they are paid for; and fundings that no block holds.

use std::sync::Arc;

use streampay_btc::bitcoin::{Amount, Network};
use streampay_btc::machine::ChannelState;
use streampay_core::units::Msat;
use streampay_examples::channel::tower::{self, Tower, TowerFile};
use streampay_examples::pay::Pay;
use streampay_examples::viewer::recover::recover;
use streampay_examples::viewer::watch::Wish;

use crate::cashu_node::sat;
use crate::channel::{
    QUIET, STREAMER, Stage, TICK, VIEWER, all_settled, channels, paid, script, until,
};

/// Blocks before the expiry in which a channel is closed, as in the streamer's defaults.
const MARGIN: u32 = 36;

#[tokio::test(flavor = "multi_thread")]
async fn a_watchtower_closes_for_a_streamer_that_never_comes_back() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (_wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let wanted = stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 4 * TICK).then_some(())).await;
    let copy = stage.path(VIEWER).join("copy.json");
    until("the file is kept", async || {
        tower::export(&stage.path(STREAMER), &copy, QUIET).ok()
    })
    .await;
    // The streamer is gone for good; its keys too.
    stage.chain.set_away(true);
    serving.stop().await;
    watching.abort();
    let _ = watching.await;
    drop((payee, payer, streamer));
    let kept = TowerFile::load(&copy).unwrap();
    assert_eq!((kept.network, kept.entries.len()), (Network::Regtest, 1));
    assert!(kept.entries[0].closes.len() > 1, "several feerates");
    let chain = Arc::new(stage.chain.clone());
    let mut tower = Tower::new(&[copy], chain, Network::Regtest, QUIET);
    assert!(tower.look().await.is_err(), "the chain is away");
    stage.chain.set_away(false);
    let left = wanted.expiry - stage.chain.tip();
    stage.chain.mine(left - MARGIN - 1);
    tower.look().await.unwrap();
    assert!(stage.chain.waiting().is_empty(), "not before its time");
    stage.chain.mine(1);
    tower.look().await.unwrap();
    assert_eq!(stage.chain.waiting().len(), 1);
    stage.chain.mine(6);
    tower.look().await.unwrap();
    let earned = stage.chain.balance(&script(STREAMER)).to_sat();
    assert!(earned > 2 * TICK, "{earned}");
}

#[test]
fn what_is_no_watchtowers_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(TowerFile::load(&path).is_err(), "not there");
    let empty = TowerFile {
        network: Network::Signet,
        entries: Vec::new(),
    };
    assert_eq!(TowerFile::parse(&empty.to_text()), Some(empty.clone()));
    let other = empty.to_text().replace("\"version\":1", "\"version\":2");
    for bad in ["", "{}", "[]", other.as_str()] {
        std::fs::write(&path, bad).unwrap();
        assert!(TowerFile::load(&path).is_err(), "{bad}");
    }
    assert!(tower::export(folder.path(), &path, QUIET).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_leaves_before_it_pays_is_asked_no_more_and_loses_nothing() {
    let stage = Stage::new();
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let payer = channels(&viewer);
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let folder = stage.path(VIEWER).join("channels");
    let wanted = until("an address is shown", async || {
        let shown = std::fs::read_dir(&folder).ok()?.count() > 0;
        payer.report().into_iter().next().filter(|_| shown)
    })
    .await;
    wishes.send(Wish::Leave).await.unwrap();
    let (viewer, watched) = watching.await.unwrap();
    assert!(watched.unpaid && watched.settled);
    assert_eq!(watched.account.paid, Msat::ZERO);
    // Whoever had copied the address pays to it now.
    let address = wanted.address.unwrap();
    let value = wanted.value;
    stage.chain.pay(&address.script_pubkey(), value).unwrap();
    drop((payer, viewer));
    let viewer = stage.home(VIEWER).await;
    until("it is found", async || {
        let report = channels(&viewer).report();
        (report.first()?.state == ChannelState::Closing).then_some(())
    })
    .await;
    stage.chain.mine(wanted.expiry - stage.chain.tip());
    stage
        .mine_until("it comes home", async || all_settled(&viewer).await)
        .await;
    let home = stage.chain.balance(&script(VIEWER)).to_sat();
    assert!(home + 500 > value.to_sat(), "{home}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unconfirmed_channels_are_taken_up_to_the_cap_and_not_above() {
    for (cap, taken) in [(60_000, true), (1_000, false)] {
        let mut stage = Stage::new();
        let viewer = stage.home(VIEWER).await;
        stage.zero_conf_max = Some(sat(cap));
        let streamer = stage.home(STREAMER).await;
        let (payee, payer) = (channels(&streamer), channels(&viewer));
        let serving = stage.serve(&streamer, &[Pay::Btc]).await;
        let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
        stage.pay_what_is_shown(&payer).await;
        if taken {
            until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
            assert_eq!(stage.chain.waiting().len(), 1, "no block yet");
        } else {
            until("it is seen", async || {
                let report = payer.report();
                (report.first()?.state == ChannelState::Confirming).then_some(())
            })
            .await;
            assert_eq!(paid(&payee), 0);
            stage.chain.mine(1);
            until("ticks", async || (paid(&payee) > 0).then_some(())).await;
        }
        stage.leave(&wishes, watching, &streamer).await;
    }
}

/// A user pays twice; or once more when the channel is long settled, and only `recover` looks for that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_to_the_address_besides_comes_back() {
    for late in [false, true] {
        let stage = Stage::new();
        let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
        let (payee, payer) = (channels(&streamer), channels(&viewer));
        let serving = stage.serve(&streamer, &[Pay::Btc]).await;
        let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
        let wanted = stage.pay_what_is_shown(&payer).await;
        let address = wanted.address.clone().unwrap().script_pubkey();
        let again = || {
            stage.chain.pay(&address, wanted.value).unwrap();
            stage.chain.mine(1);
        };
        stage.chain.mine(1);
        until("ticks", async || (paid(&payee) > 2 * TICK).then_some(())).await;
        if !late {
            again();
            until("it is seen", async || {
                (payer.report().first()?.besides.len() == 1).then_some(())
            })
            .await;
        }
        let viewer = stage.leave(&wishes, watching, &streamer).await;
        assert_eq!(recover(&viewer, QUIET).await.unwrap(), late);
        drop((payer, viewer));
        if late {
            again();
        }
        let viewer = stage.home(VIEWER).await;
        let open = async || {
            let book = channels(&viewer).book(&viewer).await.unwrap();
            assert!(book[0].settled.is_some());
            book[0].besides_open()
        };
        let known = if late { Amount::ZERO } else { wanted.value };
        assert_eq!(open().await, known, "what nobody watches is not seen");
        // A source that still reads blocks, or has none of them any more.
        stage.chain.set_searched(false);
        assert!(
            !recover(&viewer, QUIET).await.unwrap(),
            "it was not looked for"
        );
        assert_eq!(open().await, known);
        stage.chain.set_searched(true);
        assert!(!recover(&viewer, QUIET).await.unwrap());
        assert_eq!(open().await, wanted.value);
        let before = stage.chain.balance(&script(VIEWER));
        stage.chain.mine(wanted.expiry - stage.chain.tip());
        stage
            .mine_until("it comes home", async || {
                recover(&viewer, QUIET).await.unwrap()
            })
            .await;
        let came = (stage.chain.balance(&script(VIEWER)) - before).to_sat();
        assert!(came + 500 > wanted.value.to_sat(), "{came}");
    }
}
