//! A streamer that is lost in the middle of a channel, and made again from an old backup.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, FeeRate, Network, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;

use crate::backup::write_secret;
use crate::esplora;
use crate::processes::{
    CLIP, Process, STREAMER, VIEWER, msat, recovered, run, signal, stdout, ticks,
};

/// An address of nobody, one for each number.
pub(crate) fn address(number: u8) -> String {
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]));
    let address = Address::from_script(&script, Network::Regtest);
    address.unwrap().to_string()
}

pub(crate) struct Channel {
    folder: tempfile::TempDir,
    pub(crate) chain: SimChain,
    url: String,
    /// Serves the chain.
    _runtime: tokio::runtime::Runtime,
}

impl Channel {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let chain = SimChain::new();
        // Nobody hurries: its blocks take what is estimated for a close that may wait for many.
        chain.set_rate(FeeRate::from_sat_per_vb_u32(1));
        let url = runtime.block_on(esplora::serve(chain.clone(), Network::Regtest));
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: url.trim_end_matches('/').to_owned(),
            chain,
            _runtime: runtime,
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, listen: &str) -> (Process, String) {
        self.serve_with(listen, &[])
    }

    pub(crate) fn serve_with(&self, listen: &str, rest: &[&str]) -> (Process, String) {
        let args = ["serve", "--json", "--media", CLIP, "--price", "500sat/1s"];
        let payout = address(2);
        let more = ["--listen", listen, "--btc", &self.url, "--payout", &payout];
        let args = [&args[..], &more, rest].concat();
        let streamer = Process::start(STREAMER, &self.at("streamer"), &args, false);
        let link = streamer.named("serving")["link"].clone();
        (streamer, link.as_str().unwrap().to_owned())
    }

    /// A viewer whose channel is funded.
    pub(crate) fn watch(&self, link: &str) -> Process {
        let (record, refund) = (self.at("seen.webm"), address(1));
        let args = [
            "watch",
            link,
            "--budget",
            "40000sat",
            "--yes",
            "--json",
            "--pay",
            "btc",
            "--btc",
            &self.url,
            "--refund-to",
            &refund,
            "--record",
            record.to_str().unwrap(),
        ];
        let viewer = Process::start(VIEWER, &self.at("viewer"), &args, false);
        let wanted = viewer.named("channel_wanted");
        let shown: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
        let value = Amount::from_sat(wanted["value_sat"].as_u64().unwrap());
        let script = shown.assume_checked().script_pubkey();
        self.chain.pay(&script, value).unwrap();
        self.chain.mine(1);
        viewer
    }

    /// Whoever broadcasts the close, and when: it is in a block in the end, and deep enough.
    pub(crate) fn bring_home(&self, program: &str, name: &str) {
        for _ in 0..4 {
            let home = run(program, &self.at(name), &["recover", "--json"]);
            match home.status.code() {
                Some(0) => return,
                Some(5) => {
                    println!("{home:?}");
                    self.chain.mine(7);
                }
                _ => panic!("{home:?}"),
            }
        }
        panic!("{name} is not home");
    }

    fn vault(&self, command: &str, event: &str) -> Value {
        let (file, phrase) = (self.at("saved.age"), self.at("phrase"));
        write_secret(&phrase, "correct horse battery staple\n");
        let phrase = format!("file:{}", phrase.display());
        let file = file.to_str().unwrap();
        let args = [command, file, "--passphrase", &phrase, "--json"];
        let ran = run(STREAMER, &self.at("streamer"), &args);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        recovered(&ran, event)
    }
}

fn only_session(program: &str, data: &Path) -> Value {
    let told = stdout(&run(program, data, &["history", "--json"]));
    let mut lines = told.lines();
    let line = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None);
    line
}

/// The signatures that the viewer gave since are the viewer's to show: it does when it comes back.
#[test]
fn streamer_made_again_from_an_old_backup_is_paid_all_of_a_channel_by_an_honest_viewer() {
    let channel = Channel::new();
    let (mut streamer, link) = channel.serve("127.0.0.1:0");
    let listen = link["http://".len()..].split('/').next().unwrap();
    let mut viewer = channel.watch(&link);
    ticks(&viewer, 1_500);
    streamer.kill();
    channel.vault("backup", "backup");
    let (mut streamer, _) = channel.serve(listen);
    ticks(&viewer, 4_000);
    streamer.kill();
    fs::remove_dir_all(channel.at("streamer")).unwrap();
    let bound = channel.vault("restore", "bound");
    assert_eq!(bound["earning_sessions"], 1, "{bound}");
    assert!(msat(&bound, "paid_since_msat") >= 2_500_000, "{bound}");
    let (mut streamer, same) = channel.serve(listen);
    assert_eq!(same, link);
    ticks(&viewer, 6_000);
    signal(&viewer, "-TERM");
    let summary = viewer.named("summary");
    viewer.exit_code();
    streamer.named("viewer_gone");
    signal(&streamer, "-TERM");
    streamer.exit_code();
    // The close is on its way: with that many blocks on it nobody has to wait for more.
    channel.chain.mine(7);
    for (program, name) in [(STREAMER, "streamer"), (VIEWER, "viewer")] {
        channel.bring_home(program, name);
        let audit = run(program, &channel.at(name), &["audit", "--json"]);
        assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    }
    let earned = only_session(STREAMER, &channel.at("streamer"));
    let paid = only_session(VIEWER, &channel.at("viewer"));
    let acknowledged = msat(&summary, "acknowledged_msat");
    assert!(acknowledged >= 6_000_000, "{summary}");
    for told in [&earned, &paid] {
        assert_eq!(told["state"], "settled", "{told}");
        assert_eq!(msat(told, "acknowledged_msat"), acknowledged, "{told}");
    }
    assert!(msat(&earned, "returned_msat") >= acknowledged, "{earned}");
}
