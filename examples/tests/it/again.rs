//! What the next command does for sessions of before.

use std::time::{Duration, Instant};

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;
use streampay_core::units::Msat;
use streampay_examples::wallet::{Begun, WalletFolder};

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

/// What settling a session needs may be in what the wallet began: a deposit stands for that here, paid while
/// nothing ran.
#[test]
fn recover_finishes_what_the_wallet_began_before_it_closes_sessions() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    ticks(&viewer, 2);
    viewer.kill();
    streamer.kill();
    for (program, name) in [(STREAMER, "streamer"), (VIEWER, "viewer")] {
        begin_in_the_wallet(&stage, name);
        let told = stdout(&stage.recover(program, name));
        let events = told.lines().map(|line| serde_json::from_str(line).unwrap());
        let events: Vec<serde_json::Value> = events.collect();
        let first = |is: &dyn Fn(&serde_json::Value) -> bool| events.iter().position(is).unwrap();
        let finished = first(&|of| of["event"] == "finished");
        assert_eq!(msat(&events[finished], "deposited_msat"), 30_000, "{told}");
        let closing = first(&|of| of["session"].is_string());
        assert!(finished < closing, "{told}");
    }
}

/// Pays 30 sat into a wallet that does not know of it yet.
fn begin_in_the_wallet(stage: &Stage, name: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let wallet = WalletFolder::open(&stage.folder.path().join(name)).unwrap();
        let amount = Msat::from_sat(30).unwrap();
        let begun = wallet.begin_deposit(&stage.mint_url, amount).await.unwrap();
        assert!(matches!(begun, Begun::Waits(_)), "{begun:?}");
    });
}

/// What was begun is finished before anything is told of a session, for which it may be missing.
fn finishes_first(process: &Process) {
    let finished = process.event(|event| {
        assert!(!event["session"].is_string(), "before the wallet: {event}");
        event["event"] == "finished"
    });
    assert_eq!(msat(&finished, "deposited_msat"), 30_000, "{finished}");
    // There is a session that it comes before.
    process.event(|event| event["session"].is_string());
}

#[test]
fn serving_and_watching_finish_what_the_wallet_began_before_any_session() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    ticks(&viewer, 2);
    viewer.kill();
    streamer.kill();
    begin_in_the_wallet(&stage, "streamer");
    let listen = link["http://".len()..].split('/').next().unwrap();
    let streamer = stage.begin_to_serve(listen, &[]);
    finishes_first(&streamer);
    streamer.named("serving");
    begin_in_the_wallet(&stage, "viewer");
    let record = stage.folder.path().join("again.webm");
    let record = record.to_str().unwrap();
    let args = [
        "watch", &link, "--budget", "30sat", "--yes", "--json", "--record", record,
    ];
    let viewer = Process::start(VIEWER, &stage.folder.path().join("viewer"), &args, false);
    finishes_first(&viewer);
}

/// A streamer and a viewer of a channel that was paid from, both killed.
struct Left {
    chain: SimChain,
    folder: tempfile::TempDir,
    /// What the viewer paid into it, in satoshi.
    value: u64,
    expiry: u32,
    _runtime: tokio::runtime::Runtime,
}

fn script(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]))
}

impl Left {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (chain, folder) = (SimChain::new(), tempfile::tempdir().unwrap());
        let url = runtime.block_on(esplora::serve(chain.clone(), Network::Regtest));
        let url = url.trim_end_matches('/').to_owned();
        let address = |number: u8| {
            let address = Address::from_script(&script(number), Network::Regtest);
            address.unwrap().to_string()
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
        let number = |name: &str| wanted[name].as_u64().unwrap();
        let shown: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
        let (value, expiry) = (number("value_sat"), number("expiry"));
        assert!((900..5_000).contains(&number("reserve_sat")), "{wanted}");
        let shown = shown.assume_checked().script_pubkey();
        chain.pay(&shown, Amount::from_sat(value)).unwrap();
        chain.mine(1);
        ticks(&viewer, 1_000);
        viewer.kill();
        streamer.kill();
        Self {
            chain,
            folder,
            value,
            expiry: u32::try_from(expiry).unwrap(),
            _runtime: runtime,
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// What a program says of the channel.
    fn channel(&self, program: &str, name: &str) -> serde_json::Value {
        let told = stdout(&run(program, &self.at(name), &["channels", "--json"]));
        let lines = told.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut states: Vec<serde_json::Value> = lines.collect();
        states.retain(|event| event["event"] == "channel_state");
        assert_eq!(states.len(), 1, "{told}");
        states.remove(0)
    }
}

/// Nobody mines a block until the close is there.
#[test]
fn settle_waits_for_no_other_channel_to_be_closed_with() {
    let left = Left::new();
    let mut settle = Process::start(STREAMER, &left.at("streamer"), &["settle", "--json"], false);
    settle.event(|event| event["event"] == "channel" && event["what"] == "closing");
    while !settle.is_over() {
        left.chain.mine(1);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(settle.exit_code(), Some(0));
    let state = left.channel(STREAMER, "streamer");
    assert_eq!(
        (&state["side"], &state["state"]),
        (&"payee".into(), &"settled".into())
    );
    let earned = left.chain.balance(&script(2)).to_sat();
    assert_eq!(state["settled_sat"], earned, "{state}");
}

/// What is on its way needs blocks and nobody who waits: a session is given thirty seconds where it has something
/// to wait for.
#[test]
fn recover_of_a_streamer_ends_once_its_close_is_on_the_way() {
    let left = Left::new();
    let began = Instant::now();
    let recovered = run(STREAMER, &left.at("streamer"), &["recover", "--json"]);
    let took = began.elapsed();
    let told = stdout(&recovered);
    assert_eq!(recovered.status.code(), Some(5), "{told}");
    assert!(told.contains("\"what\":\"spent\""), "{told}");
    assert_eq!(left.chain.waiting().len(), 1, "{told}");
    assert!(took < Duration::from_secs(20), "{took:?} {told}");
}

/// The streamer never comes back, and the viewer's own process was killed too.
#[test]
fn recover_takes_a_channel_home_after_its_time_and_not_before() {
    let left = Left::new();
    let state = left.channel(VIEWER, "viewer");
    assert_eq!(
        (&state["side"], &state["state"]),
        (&"payer".into(), &"open".into())
    );
    assert_eq!(
        (&state["value_sat"], &state["expiry"]),
        (&left.value.into(), &left.expiry.into())
    );
    let text = |name: &str| state[name].as_str().unwrap().to_owned();
    assert!(
        text("descriptor").starts_with("tr(") && text("outpoint").ends_with(":0"),
        "{state}"
    );
    left.chain.mine(left.expiry - 1 - left.chain.tip());
    let early = run(VIEWER, &left.at("viewer"), &["recover", "--json"]);
    assert_eq!(early.status.code(), Some(5), "{}", stdout(&early));
    assert!(left.chain.waiting().is_empty(), "nothing at T - 1");
    left.chain.mine(1);
    let args = ["recover", "--wait", "--json"];
    let mut recover = Process::start(VIEWER, &left.at("viewer"), &args, false);
    recover.event(|event| event["event"] == "channel" && event["what"] == "refunding");
    while !recover.is_over() {
        left.chain.mine(1);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(recover.exit_code(), Some(0));
    let home = left.chain.balance(&script(1)).to_sat();
    assert!(home + 1_000 > left.value, "{home} of {}", left.value);
    assert_eq!(left.channel(VIEWER, "viewer")["settled_sat"], home);
    nobody_collected(&left, home);
}

/// What was acknowledged came back: both sides' books say so, and the streamer's that it is gone.
fn nobody_collected(left: &Left, home: u64) {
    let told = |program, name| {
        let history = run(program, &left.at(name), &["history", "--json"]);
        let rows = stdout(&history);
        assert_eq!(rows.lines().count(), 1, "{rows}");
        let row: serde_json::Value = serde_json::from_str(&rows).unwrap();
        assert_eq!(row["state"], "settled", "{row}");
        row
    };
    let seen = told(VIEWER, "viewer");
    let lost = msat(&seen, "acknowledged_msat");
    assert!(lost >= 1_000_000, "{seen}");
    assert_eq!(msat(&seen, "uncollected_msat"), lost, "{seen}");
    assert_eq!(msat(&seen, "returned_msat"), home * 1_000, "{seen}");
    let fee = (left.value - home) * 1_000;
    assert_eq!(msat(&seen, "fees_msat"), fee, "{seen}");
    assert_balances(VIEWER, &left.at("viewer"), 0);

    let recovered = run(STREAMER, &left.at("streamer"), &["recover", "--json"]);
    assert_eq!(recovered.status.code(), Some(0), "{}", stdout(&recovered));
    let earned = told(STREAMER, "streamer");
    assert_eq!(msat(&earned, "acknowledged_msat"), lost, "{earned}");
    assert_eq!(msat(&earned, "uncollected_msat"), lost, "{earned}");
    for none in ["returned_msat", "fees_msat", "reserve_msat", "out_msat"] {
        assert_eq!(earned[none], 0, "{none} {earned}");
    }
    let audit = run(STREAMER, &left.at("streamer"), &["audit", "--json"]);
    assert_eq!(audit.status.code(), Some(7), "{}", stdout(&audit));
    let found = stdout(&audit);
    let found = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let found: Vec<serde_json::Value> = found
        .filter(|of: &serde_json::Value| of["event"] == "finding")
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(msat(&found[0], "msat"), lost, "{found:?}");
    assert!(
        found[0]["what"]
            .as_str()
            .unwrap()
            .contains("never collected"),
        "{found:?}"
    );

    // Without what says on which chain the channel is nobody can say what became of it.
    std::fs::remove_file(left.at("viewer").join("bitcoin.json")).unwrap();
    let audit = run(VIEWER, &left.at("viewer"), &["audit", "--json"]);
    assert_eq!(audit.status.code(), Some(7), "{}", stdout(&audit));
    assert!(
        stdout(&audit).contains("\"balances\":false"),
        "{}",
        stdout(&audit)
    );
}
