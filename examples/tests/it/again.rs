//! What the next command does for sessions of before.

use std::time::Duration;

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;

use crate::esplora;
use crate::processes::{CLIP, Process, STREAMER, VIEWER, ticks};

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
