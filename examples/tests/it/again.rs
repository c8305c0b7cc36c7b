//! What the next command does for sessions of before.

use std::time::{Duration, Instant};

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;

use crate::esplora;
use crate::ledger::assert_balances;
use crate::processes::{CLIP, Process, STREAMER, Stage, VIEWER, msat, run, stdout, ticks};

#[test]
fn a_viewer_that_was_killed_settles_what_it_left_when_it_watches_again() {
    let stage = Stage::new();
    let (_streamer, link) = stage.serve("127.0.0.1:0");
    let mut killed = stage.viewer("viewer", &link, "60sat");
    let left = ticks(&killed, 3)["session"].clone();
    killed.kill();
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    let settled = viewer.event(|event| {
        assert_ne!(event["event"], "tick_paid", "first what is out");
        event["event"] == "recovered"
    });
    assert_eq!(
        (&settled["session"], &settled["settled"]),
        (&left, &true.into())
    );
    assert!(msat(&settled, "acknowledged_msat") >= 3_000, "{settled}");
    assert!(msat(&settled, "refunded_msat") >= 40_000, "{settled}");
    ticks(&viewer, 2);
    viewer.signal("-TERM");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    let at = stage.folder.path().join("viewer");
    let history = stdout(&run(VIEWER, &at, &["history", "--json"]));
    assert_eq!(
        history.matches("\"state\":\"settled\"").count(),
        2,
        "{history}"
    );
    assert_balances(VIEWER, &at, 0);
}

#[test]
fn a_session_whose_streamer_is_away_keeps_no_viewer_from_watching_another() {
    let stage = Stage::new();
    let (mut gone, link) = stage.serve("127.0.0.1:0");
    let mut killed = stage.viewer("viewer", &link, "30sat");
    let left = ticks(&killed, 2)["session"].clone();
    killed.kill();
    gone.kill();
    let (_other, link) = stage.serve("127.0.0.1:0");
    let began = Instant::now();
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    let told = viewer.named("unsettled");
    assert_eq!(told["session"], left);
    assert!(told["locked_until_unix_s"].is_u64(), "{told}");
    assert!(began.elapsed() < Duration::from_secs(30));
    ticks(&viewer, 2);
    viewer.signal("-TERM");
    viewer.named("summary");
    viewer.exit_code();
}

/// Nobody mines a block until the close is there.
#[test]
fn settle_waits_for_no_other_channel_to_be_closed_with() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (chain, folder) = (SimChain::new(), tempfile::tempdir().unwrap());
    let url = runtime.block_on(esplora::serve(chain.clone(), Network::Regtest));
    let url = url.trim_end_matches('/').to_owned();
    let address = |number: u8| {
        let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]));
        Address::from_script(&script, Network::Regtest)
            .unwrap()
            .to_string()
    };
    let at = |name: &str| folder.path().join(name);
    let (payout, refund, record) = (address(2), address(1), at("record.webm"));
    let args = ["serve", "--json", "--media", CLIP, "--price", "500sat/1s"];
    let more = [
        "--listen",
        "127.0.0.1:0",
        "--btc",
        &url,
        "--payout",
        &payout,
    ];
    let args = [&args[..], &more].concat();
    let mut streamer = Process::start(STREAMER, &at("streamer"), &args, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let args = [
        "watch", &link, "--budget", "40000sat", "--yes", "--json", "--pay", "btc",
    ];
    let more = [
        "--btc",
        &url,
        "--refund-to",
        &refund,
        "--record",
        record.to_str().unwrap(),
    ];
    let args = [&args[..], &more].concat();
    let mut viewer = Process::start(VIEWER, &at("viewer"), &args, false);
    let wanted = viewer.named("channel_wanted");
    let shown: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
    let value = Amount::from_sat(wanted["value_sat"].as_u64().unwrap());
    chain
        .pay(&shown.assume_checked().script_pubkey(), value)
        .unwrap();
    chain.mine(1);
    ticks(&viewer, 1_000);
    viewer.kill();
    streamer.kill();
    let mut settle = Process::start(STREAMER, &at("streamer"), &["settle", "--json"], false);
    settle.event(|event| event["event"] == "channel" && event["what"] == "closing");
    while !settle.is_over() {
        chain.mine(1);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(settle.exit_code(), Some(0));
}
