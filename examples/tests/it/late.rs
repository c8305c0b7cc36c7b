//! A payment that the streamer has redeemed and the viewer has not heard of, and both programs killed.

use std::time::{Duration, Instant};

use serde_json::Value;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::Fault;

use crate::cashu_node::mint;
use crate::ledger::assert_balances;
use crate::processes::{CLIP, Process, STREAMER, VIEWER, msat, recovered, run, stdout, ticks};

struct Stage {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    mint: EmbeddedMint,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mint = runtime.block_on(mint(100));
        let folder = tempfile::tempdir().unwrap();
        Self {
            runtime,
            folder,
            mint,
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, listen: &str) -> (Process, String) {
        let (url, fixed) = (self.mint.url(), ["serve", "--json", "--media", CLIP]);
        let more = ["--price", "1sat/1s", "--pay", "swap", "--mint", &url];
        let args = [&fixed[..], &more, &["--listen", listen]].concat();
        let streamer = Process::start(STREAMER, &self.at("streamer"), &args, false);
        let link = streamer.named("serving")["link"].clone();
        (streamer, link.as_str().unwrap().to_owned())
    }

    fn watch(&self, link: &str) -> Process {
        let (url, record) = (self.mint.url(), self.at("seen.webm"));
        let deposit = ["deposit", "60sat", "--mint", &url];
        assert!(run(VIEWER, &self.at("viewer"), &deposit).status.success());
        let fixed = ["watch", link, "--budget", "30sat", "--yes", "--json"];
        // A token of 1 sat brings a fee of 1 sat along.
        let more = ["--pay", "swap", "--max-fee-share", "100", "--record"];
        let args = [&fixed[..], &more, &[record.to_str().unwrap()]].concat();
        Process::start(VIEWER, &self.at("viewer"), &args, false)
    }

    /// The mint redeems the next payment and tells nobody; then nobody hears anything of it.
    fn lose_the_next_redemption(&self) {
        let (faults, before) = (
            self.mint.faults_for_testing(),
            self.mint.faults_for_testing().met(),
        );
        faults.set("/v1/swap", Fault::LoseAnswer, 1);
        let until = Instant::now() + Duration::from_secs(30);
        while faults.met() == before {
            assert!(Instant::now() < until, "nobody redeems");
            std::thread::sleep(Duration::from_millis(5));
        }
        faults.set("/", Fault::Refuse, u64::MAX);
    }

    fn recover(&self) -> Value {
        let account = run(VIEWER, &self.at("viewer"), &["recover", "--json"]);
        assert_eq!(account.status.code(), Some(0), "{account:?}");
        let lines = stdout(&account);
        let told = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let told: Vec<Value> = told.collect();
        let asked = |event: &&Value| event["event"] == "receipt_asked";
        match told.iter().find(asked) {
            Some(asked) => asked.clone(),
            None => recovered(&account, "recovered"),
        }
    }

    fn history(&self, program: &str, name: &str) -> Value {
        let told = stdout(&run(program, &self.at(name), &["history", "--json"]));
        let mut lines = told.lines();
        let line = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(lines.next(), None);
        line
    }
}

/// The viewer's money is home at once; what it paid last is no fee once its streamer can be asked.
#[test]
fn viewer_that_settled_alone_learns_later_what_it_has_paid() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.watch(&link);
    ticks(&viewer, 3);
    stage.lose_the_next_redemption();
    viewer.kill();
    streamer.kill();
    stage.mint.faults_for_testing().clear();

    let alone = stage.recover();
    assert_eq!(alone["settled"], true, "{alone}");
    assert_eq!(alone["unacknowledged_msat"], 1_000, "{alone}");
    let heard = msat(&alone, "acknowledged_msat");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let asks_for = msat(&alone, "ask_until_unix_s") - now;
    assert!((86_000..=86_400).contains(&asks_for), "{asks_for} s");
    assert_balances(VIEWER, &stage.at("viewer"), 0);
    // It is still away: that is told, and nothing else changes.
    let asked = stage.recover();
    assert_eq!(asked["answered"], false, "{asked}");
    assert_eq!(asked["unacknowledged_msat"], 1_000, "{asked}");

    let listen = link["http://".len()..].split('/').next().unwrap();
    let (mut streamer, same) = stage.serve(listen);
    assert_eq!(same, link);
    let asked = stage.recover();
    assert_eq!(asked["answered"], true, "{asked}");
    assert_eq!(asked["acknowledged_msat"], 1_000, "{asked}");
    streamer.signal("-TERM");
    streamer.exit_code();
    let (seen, earned) = (
        stage.history(VIEWER, "viewer"),
        stage.history(STREAMER, "streamer"),
    );
    for told in [&seen, &earned] {
        assert_eq!(told["state"], "settled", "{told}");
        assert_eq!(msat(told, "acknowledged_msat"), heard + 1_000, "{told}");
    }
    let parts = ["acknowledged_msat", "fees_msat", "returned_msat"];
    let sum: u64 = parts.iter().map(|part| msat(&seen, part)).sum();
    assert_eq!(msat(&seen, "paid_msat"), sum, "{seen}");
    assert_balances(VIEWER, &stage.at("viewer"), 0);
    assert_balances(STREAMER, &stage.at("streamer"), 0);
    // Nobody is asked any more.
    assert_eq!(stage.recover(), Value::Null);
    drop(stage.runtime);
}
