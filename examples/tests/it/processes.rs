//! The programs as processes: two viewers at once, each process killed in turn, every sat found.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const STREAMER: &str = env!("CARGO_BIN_EXE_streamer");
pub(crate) const VIEWER: &str = env!("CARGO_BIN_EXE_viewer");
pub(crate) const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf");
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process with its JSON events, or its lines; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    typed: ChildStdin,
}

impl Process {
    pub(crate) fn start(program: &str, data: &Path, args: &[&str], from_stderr: bool) -> Self {
        let mut command = Command::new(program);
        command.arg("--data").arg(data).args(args);
        Self::spawn(command, from_stderr)
    }

    /// Any command, its stdout or its stderr read line by line.
    pub(crate) fn spawn(mut command: Command, from_stderr: bool) -> Self {
        command.stdin(Stdio::piped());
        let (out, err) = if from_stderr {
            (Stdio::null(), Stdio::piped())
        } else {
            (Stdio::piped(), Stdio::null())
        };
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        let (to, lines) = channel();
        let read: Box<dyn std::io::Read + Send> = if from_stderr {
            Box::new(child.stderr.take().unwrap())
        } else {
            Box::new(child.stdout.take().unwrap())
        };
        std::thread::spawn(move || {
            for line in BufReader::new(read).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        let typed = child.stdin.take().unwrap();
        Self {
            child,
            lines,
            typed,
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.typed, "{line}").unwrap();
    }

    pub(crate) fn line(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) fn event(&self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let is_wanted = |line: &str| wanted(&serde_json::from_str(line).unwrap());
        serde_json::from_str(&self.line(is_wanted)).unwrap()
    }

    pub(crate) fn named(&self, name: &str) -> Value {
        self.event(|event| event["event"] == name)
    }

    /// The first event of each name, in whatever order they come.
    pub(crate) fn each<const N: usize>(&self, names: [&str; N]) -> [Value; N] {
        let mut found = [const { Value::Null }; N];
        while found.iter().any(Value::is_null) {
            let event = self.event(|event| names.iter().any(|name| event["event"] == *name));
            let of = names.iter().position(|name| event["event"] == *name);
            let place = &mut found[of.unwrap()];
            if place.is_null() {
                *place = event;
            }
        }
        found
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self, name);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(program: &str, data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.arg("--data").arg(data).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An event of the last recovery.
pub(crate) fn recovered(output: &Output, name: &str) -> Value {
    let lines = stdout(output);
    let mut events = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    events
        .find(|event: &Value| event["event"] == name)
        .unwrap_or_default()
}

pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    mint: Process,
    pub(crate) mint_url: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args = ["mint", "--listen", "127.0.0.1:0"];
        let mint = Process::start(STREAMER, &folder.path().join("mint"), &args, true);
        let line = mint.line(|line| line.contains("http://"));
        let at = line.find("http://").unwrap();
        let url = line[at..].split([';', ' ']).next().unwrap();
        Self {
            mint_url: url.to_owned(),
            folder,
            mint,
        }
    }

    pub(crate) fn serve(&self, listen: &str) -> (Process, String) {
        self.serve_with(listen, &[])
    }

    pub(crate) fn serve_with(&self, listen: &str, more: &[&str]) -> (Process, String) {
        let streamer = self.begin_to_serve(listen, more);
        let link = streamer.named("serving")["link"]
            .as_str()
            .unwrap()
            .to_owned();
        (streamer, link)
    }

    /// The same, where what is said before it serves is of interest.
    pub(crate) fn begin_to_serve(&self, listen: &str, more: &[&str]) -> Process {
        let args = [
            "serve",
            "--json",
            "--media",
            CLIP,
            "--price",
            "1sat/1s",
            "--mint",
            &self.mint_url,
            "--listen",
            listen,
        ];
        let args = [&args, more].concat();
        Process::start(STREAMER, &self.folder.path().join("streamer"), &args, false)
    }

    pub(crate) fn viewer(&self, name: &str, link: &str, budget: &str) -> Process {
        self.viewer_with(name, link, budget, &[])
    }

    pub(crate) fn viewer_with(
        &self,
        name: &str,
        link: &str,
        budget: &str,
        more: &[&str],
    ) -> Process {
        let data = self.folder.path().join(name);
        let deposit = ["deposit", "100sat", "--mint", &self.mint_url];
        assert!(run(VIEWER, &data, &deposit).status.success());
        let record = self.folder.path().join(format!("{name}.webm"));
        let record = record.to_str().unwrap();
        let args = [
            "watch", link, "--budget", budget, "--yes", "--json", "--record", record,
        ];
        Process::start(VIEWER, &data, &[&args, more].concat(), false)
    }

    pub(crate) fn recover(&self, program: &str, name: &str) -> Output {
        run(
            program,
            &self.folder.path().join(name),
            &["recover", "--json"],
        )
    }
}

pub(crate) fn msat(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap()
}

pub(crate) fn ticks(process: &Process, count: u64) -> Value {
    process.event(|event| {
        event["event"] == "tick_paid" && event["total_msat"].as_u64() >= Some(count * 1000)
    })
}

#[test]
fn a_killed_viewer_costs_the_streamer_a_tick_at_most_and_finds_every_sat() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let (mut killed, mut other) = (
        stage.viewer("killed", &link, "60sat"),
        stage.viewer("other", &link, "12sat"),
    );
    // Whether the mint keeps what is locked is tried first, for its fees.
    let trying = msat(&killed.named("locks_tried"), "cost_msat");
    assert!((1_000..=3_000).contains(&trying), "{trying}");
    let session = ticks(&killed, 3)["session"].clone();
    killed.kill();
    // The other never notices: it goes on until its budget is used up.
    let summary = other.named("summary");
    assert_eq!(other.exit_code(), Some(3), "{summary}");
    assert!(msat(&summary, "paid_msat") <= 12_000);
    assert!(msat(&summary, "acknowledged_msat") >= 4_000, "{summary}");
    // What was sent to the killed one is no more than it had paid for.
    let mut received = 0;
    let gone = streamer.event(|event| {
        let its = event["session"] == session;
        if its && event["event"] == "tick_received" {
            received = msat(event, "total_msat");
        }
        its && event["event"] == "viewer_gone"
    });
    assert!(
        msat(&gone, "media_ms") <= received,
        "a msat buys a ms: {gone}"
    );
    assert!(msat(&gone, "video_packets") > 0);
    streamer.kill();

    // Without the streamer the rest stays locked, and that is said.
    let account = stage.recover(VIEWER, "killed");
    assert_eq!(account.status.code(), Some(5), "{account:?}");
    let said = recovered(&account, "recovered");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let left = said["locked_until_unix_s"].as_u64().unwrap() - now;
    assert!((3 * 3600..=4 * 3600 + 600).contains(&left), "{left} s");
    assert_eq!(said["settled"], Value::Bool(false));
    let words = String::from_utf8(account.stderr).unwrap();
    assert!(words.contains("locked for another"), "{words}");

    // Once it is back, it signs over what it was not paid.
    let listen = link["http://".len()..].split('/').next().unwrap();
    let (streamer, _) = stage.serve(listen);
    let account = stage.recover(VIEWER, "killed");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    drop(streamer);
    let (session, wallet) = (
        recovered(&account, "recovered"),
        recovered(&account, "wallet"),
    );
    let [paid, acknowledged, fees, refunded] = [
        "paid_msat",
        "acknowledged_msat",
        "fees_msat",
        "refunded_msat",
    ]
    .map(|field| msat(&session, field));
    assert_eq!(paid, acknowledged + fees + refunded);
    assert_eq!(msat(&wallet, "pending_msat"), 0);
    let home = 100_000 - trying - acknowledged - fees;
    assert_eq!(msat(&wallet, "spendable_msat"), home);
    // Opening and taking back some sixty proofs at 100 ppk.
    assert!(fees <= 8_000, "{fees}");

    // The streamer has redeemed what it acknowledged to both; nothing is left open.
    let account = stage.recover(STREAMER, "streamer");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    let earned = msat(&recovered(&account, "wallet"), "spendable_msat");
    // A tick more, if its ack was lost; less the fee of redeeming proofs of 1 sat at 100 ppk.
    let of_other = msat(&summary, "acknowledged_msat");
    let redeemed = |credited: u64| credited - credited.div_ceil(10_000) * 1_000;
    let least = redeemed(acknowledged) + redeemed(of_other);
    // Where it had money when it was started again, it tried both locks, for 2 sat of fees each.
    assert!(
        (least - 4_000..=least + 1_000).contains(&earned),
        "{earned} of {least}: {account:?}"
    );
    let audit = run(STREAMER, &stage.folder.path().join("streamer"), &["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
}

#[test]
fn a_streamer_that_is_killed_and_restarted_goes_on_with_its_viewer() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    let session = viewer.named("bound")["session"].clone();
    ticks(&viewer, 2);
    streamer.kill();
    viewer.named("link_down");
    let listen = link["http://".len()..].split('/').next().unwrap();
    let (_streamer, again) = stage.serve(listen);
    assert_eq!(again, link);
    let bound = viewer.named("bound");
    assert_eq!(
        (&bound["session"], &bound["resumed"]),
        (&session, &Value::Bool(true))
    );
    let total = msat(&ticks(&viewer, 3), "total_msat");
    assert!(total >= 3_000);
    // As a service manager ends it: it settles.
    signal(&viewer, "-TERM");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    let parts = ["acknowledged_msat", "fees_msat", "refunded_msat"];
    let sum: u64 = parts.iter().map(|part| msat(&summary, part)).sum();
    assert_eq!(msat(&summary, "paid_msat"), sum);
    assert!(
        stage
            .folder
            .path()
            .join("viewer.webm")
            .metadata()
            .unwrap()
            .len()
            > 10_000
    );
}

pub(crate) fn signal(process: &Process, signal: &str) {
    let pid = process.child.id().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_mint_that_is_away_for_20_s_pauses_the_session_and_nothing_is_lost() {
    let stage = Stage::new();
    let swap = ["--pay", "swap"];
    let (streamer, link) = stage.serve_with("127.0.0.1:0", &swap);
    // A token of 1 sat brings a fee of 1 sat along.
    let dear = ["--max-fee-share", "100"];
    let mut viewer = stage.viewer_with("viewer", &link, "60sat", &dear);
    ticks(&viewer, 2);
    signal(&stage.mint, "-STOP");
    let away = Instant::now();
    let paused = viewer.named("paused");
    assert_eq!(paused["why"], "the mint or the chain does not answer");
    // What is tested is that long an absence.
    std::thread::sleep(Duration::from_secs(20).saturating_sub(away.elapsed()));
    signal(&stage.mint, "-CONT");
    viewer.named("resumed");
    let total = msat(&viewer.named("tick_paid"), "total_msat");
    assert!(total >= 3_000, "{total}");
    signal(&viewer, "-TERM");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    let gone = streamer.named("viewer_gone");
    let acknowledged = msat(&summary, "acknowledged_msat");
    assert!(msat(&gone, "media_ms") <= acknowledged, "{gone} {summary}");
    let parts = ["acknowledged_msat", "fees_msat", "refunded_msat"];
    let sum: u64 = parts.iter().map(|part| msat(&summary, part)).sum();
    assert_eq!(msat(&summary, "paid_msat"), sum);
}

#[test]
fn a_mint_that_is_away_does_not_stop_a_stream_that_is_paid_by_hash_chain() {
    let stage = Stage::new();
    let (_streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    ticks(&viewer, 2);
    signal(&stage.mint, "-STOP");
    let mut paused = false;
    viewer.event(|event| {
        paused |= event["event"] == "paused";
        event["event"] == "tick_paid" && event["total_msat"].as_u64() >= Some(8_000)
    });
    assert!(!paused);
    signal(&stage.mint, "-CONT");
    signal(&viewer, "-TERM");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    assert_eq!(summary["locked_until_unix_s"], Value::Null);
}

#[test]
fn exit_codes_say_what_happened() {
    let mut stage = Stage::new();
    let (_streamer, link) = stage.serve("127.0.0.1:0");
    let data = stage.folder.path().join("poor");
    let watch = |link: &str, rest: &[&str]| {
        let args = [&["watch", link, "--budget", "50sat"], rest].concat();
        run(VIEWER, &data, &args).status.code()
    };
    let nowhere = format!(
        "http://127.0.0.1:9/whep{}",
        &link[link.find('#').unwrap()..]
    );
    let other_key = format!("{}{}", &link[..link.len() - 64], "ab".repeat(32));
    for (expect, link, rest) in [
        (2, link.as_str(), [].as_slice()),
        (2, "nonsense", &["--yes"]),
        (4, &nowhere, &["--yes"]),
        (1, &other_key, &["--yes"]),
        (6, &link, &["--max-price", "1sat/2s"]),
        (6, &link, &["--yes", "--pay", "swap"]),
        (1, &link, &["--yes"]),
    ] {
        assert_eq!(watch(link, rest), Some(expect), "{link} {rest:?}");
    }
    let small = ["watch", &link, "--budget", "1sat", "--yes"];
    assert_eq!(run(VIEWER, &data, &small).status.code(), Some(2));
    let unknown = ["--max-exposure", "https://mint.example=9sat"];
    let fixed = [
        "serve",
        "--media",
        CLIP,
        "--price",
        "1sat/1s",
        "--mint",
        &stage.mint_url,
    ];
    let served = run(
        STREAMER,
        &data.with_extension("idle"),
        &[&fixed[..], &unknown].concat(),
    );
    assert_eq!(served.status.code(), Some(2), "{served:?}");
    stage.mint.kill();
    let deposit = ["deposit", "10sat", "--mint", &stage.mint_url];
    assert_eq!(run(VIEWER, &data, &deposit).status.code(), Some(4));
    assert_eq!(
        run(VIEWER, &data, &["receive", "cashuX"]).status.code(),
        Some(2)
    );
    assert_eq!(run(VIEWER, &data, &["recover"]).status.code(), Some(0));
}

#[test]
fn viewers_join_the_room_chat_give_and_are_sent_out() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve_with("127.0.0.1:0", &["--join-fee", "1sat"]);
    let join = |name| ["--name", name, "--max-join-fee", "1sat"];
    let mut ann = stage.viewer_with("ann", &link, "60sat", &join("ann"));
    let ann_name = ann.named("joined")["name"].as_str().unwrap().to_owned();
    assert!(ann_name.starts_with("ann#"), "{ann_name}");
    let mut bob = stage.viewer_with("bob", &link, "60sat", &join("bob"));
    let bob_name = bob.named("joined")["name"].as_str().unwrap().to_owned();
    // Who allows no fee watches all the same, and is in no room.
    let mut eve = stage.viewer_with("eve", &link, "60sat", &["--name", "eve"]);
    let told = eve.event(|event| {
        let not_in = ["join_refused", "tip_refused"];
        not_in.iter().any(|name| event["event"] == *name)
    });
    ticks(&eve, 2);
    signal(&eve, "-TERM");
    assert_eq!(eve.exit_code(), Some(0), "{told}");

    ann.types("hello");
    for listener in [&bob, &streamer] {
        let chat = listener.named("chat");
        let said = (chat["name"].as_str(), chat["text"].as_str());
        assert_eq!(said, (Some(ann_name.as_str()), Some("hello")));
    }
    streamer.types("welcome");
    let chat = bob.named("chat");
    assert_eq!(
        (&chat["name"], &chat["text"]),
        (&Value::Null, &"welcome".into())
    );
    ann.types("/tip 2sat");
    let tip = bob.named("tip");
    assert_eq!(
        (&tip["name"], msat(&tip, "amount_msat")),
        (&ann_name.as_str().into(), 2_000)
    );

    streamer.types(&format!("/kick {bob_name}"));
    bob.named("closed");
    bob.named("summary");
    assert_eq!(bob.exit_code(), Some(1));
    signal(&ann, "-TERM");
    let summary = ann.named("summary");
    assert_eq!(ann.exit_code(), Some(0), "{summary}");
    let parts = ["acknowledged_msat", "fees_msat", "refunded_msat"];
    let sum: u64 = parts.iter().map(|part| msat(&summary, part)).sum();
    assert_eq!(msat(&summary, "paid_msat"), sum);
}

#[test]
fn money_goes_through_both_programs_and_out_by_lightning() {
    let stage = Stage::new();
    let folder = |name: &str| stage.folder.path().join(name);
    let (viewer, streamer) = (folder("viewer"), folder("streamer"));
    let deposit = ["deposit", "200sat", "--mint", &stage.mint_url, "--json"];
    let deposited = run(VIEWER, &viewer, &deposit);
    let event = |output: &Output, name| recovered(output, name);
    assert_eq!(
        msat(&event(&deposited, "deposited"), "amount_msat"),
        200_000
    );
    assert!(event(&deposited, "invoice")["request"].is_string());

    let asked = run(
        STREAMER,
        &streamer,
        &["request", "30sat", "--mint", &stage.mint_url],
    );
    let asked = stdout(&asked);
    let unasked = run(VIEWER, &viewer, &["pay", asked.trim()]);
    assert_eq!(unasked.status.code(), Some(2), "nobody can be asked");
    let paid = run(VIEWER, &viewer, &["pay", asked.trim(), "--yes"]);
    let token = folder("token");
    std::fs::write(&token, &paid.stdout).unwrap();
    let mut receive = Command::new(STREAMER);
    receive.arg("--data").arg(&streamer).args(["receive", "-"]);
    receive.stdin(std::fs::File::open(&token).unwrap());
    assert_eq!(stdout(&receive.output().unwrap()), "30 sat received\n");

    let invoice = cdk_fake_wallet::create_fake_invoice(100_000, String::new()).to_string();
    let dear = run(
        VIEWER,
        &viewer,
        &["withdraw", &invoice, "--max-fee", "1sat", "--yes"],
    );
    assert_eq!(dear.status.code(), Some(6), "{dear:?}");
    let out = run(VIEWER, &viewer, &["withdraw", &invoice, "--yes", "--json"]);
    assert_eq!(msat(&event(&out, "withdrawn"), "amount_msat"), 100_000);
    let again = run(VIEWER, &viewer, &["withdraw", &invoice, "--yes"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let check = run(VIEWER, &viewer, &["mint-check", &stage.mint_url, "--json"]);
    assert_eq!(event(&check, "mint")["usable"], true);
}
