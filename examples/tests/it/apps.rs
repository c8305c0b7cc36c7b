//! The programs as their users and supervisors meet them: settings, metrics, signals, full disks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::processes::{
    CLIP, Process, STREAMER, Stage, VIEWER, msat, recovered, run, signal, stdout, ticks,
};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A program with nothing of its user's around it but these variables.
fn bare(program: &str, home: &Path, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).args(args);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null());
    command
}

#[test]
fn settings_come_from_flags_variables_and_the_file_in_this_order() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config").join("streampay");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "max-fee-ppk = 7\n[streamer]\nprice = \"1sat/1s\"\ntitle = \"file\"\n";
    std::fs::write(folder.join("config.toml"), text).unwrap();
    let show = |variables: &[(&str, &str)], args: &[&str]| {
        let args = [&["config", "show", "--json"], args].concat();
        let output = bare(STREAMER, home.path(), variables, &args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let lines = stdout(&output);
        let events = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let events: Vec<_> = events.collect();
        move |name: &str| {
            let mut named = events.iter().filter(|event| event["name"] == name);
            let event = named.next().unwrap();
            // One that may be said several times is a list.
            let of_one = |field: &str| match event[field].as_array().map(Vec::as_slice) {
                Some([one]) => one.as_str(),
                _ => event[field].as_str(),
            };
            let text = |field: &str| of_one(field).unwrap_or("null").to_owned();
            (text("value"), text("from"))
        }
    };
    let said = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    let of = show(&[], &[]);
    assert_eq!(of("title"), said("file", "file"));
    assert_eq!(of("max-fee-ppk"), said("7", "file"));
    assert_eq!(of("listen"), said("127.0.0.1:8080", "default"));
    assert_eq!(of("record"), said("null", "nowhere"));
    let data = home.path().join(".local/share/streampay/streamer");
    assert_eq!(of("data"), said(data.to_str().unwrap(), "default"));
    let password = "http://ann:hunter2@127.0.0.1:1";
    let variables = [("STREAMPAY_TITLE", "variable"), ("STREAMPAY_BTC", password)];
    let of = show(&variables, &[]);
    assert_eq!(of("title"), said("variable", "environment"));
    assert_eq!(of("btc"), said("env:STREAMPAY_BTC", "environment"));
    let of = show(&variables, &["--", "--title", "flag"]);
    assert_eq!(of("title"), said("flag", "flag"));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_plain_secrets_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("settings.toml");
    let path = file.to_str().unwrap();
    let refused = |text: &str, variables: &[(&str, &str)], args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let output = bare(STREAMER, home.path(), variables, args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = stderr(&output) + &stdout(&output);
        assert!(!said.contains("hunter2"), "{said}");
        said
    };
    let serve = ["--config", path, "serve"];
    let said = refused("[streamer]\npirce = \"1sat/1s\"\n", &[], &serve);
    assert!(
        said.contains("line 2") && said.contains("did you mean `price`"),
        "{said}"
    );
    let said = refused(
        "[streamer]\n\nprice = \"much\"\nwhip = true\nmint = \"https://a.example\"",
        &[],
        &serve,
    );
    assert!(said.contains("settings.toml, line 3"), "{said}");
    let plain = "http://ann:hunter2@127.0.0.1:8332";
    let btc = [
        "serve", "--whip", "--price", "1sat/1s", "--payout", "x", "--btc", plain,
    ];
    let said = refused("", &[], &btc);
    assert!(said.contains("env:NAME"), "{said}");
    let said = refused(
        &format!("btc = \"{plain}\""),
        &[],
        &[&serve[..], &btc[1..6]].concat(),
    );
    assert!(
        said.contains("env:NAME") && said.contains("line 1"),
        "{said}"
    );
    for command in [
        &["demo", "--bitcoind", plain][..],
        &["watchtower", "run", "x", "--btc", plain],
    ] {
        let said = refused("", &[], command);
        assert!(said.contains("env:NAME"), "{said}");
    }
    let turn = [
        "--turn",
        "turn:127.0.0.1:1",
        "--turn-user",
        "ann",
        "--turn-password",
        "hunter2",
    ];
    let said = refused("", &[], &[&["doctor"], &turn[..]].concat());
    assert!(said.contains("env:NAME"), "{said}");
    let said = refused("", &[("STREAMPAY_WHIP", "perhaps")], &serve);
    assert!(said.contains("STREAMPAY_WHIP"), "{said}");
    let said = refused("", &[("STREAMPAY_PIRCE", "1sat/1s")], &["serve", "--whip"]);
    assert!(said.contains("did you mean STREAMPAY_PRICE"), "{said}");
}

/// A program whose stderr goes into a file.
pub(crate) fn told_into(program: &str, data: &Path, said: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>>\"$SAID\"", program]);
    command.arg("--data").arg(data).args(args).env("SAID", said);
    command
}

/// An answer of HTTP: its status and its body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn sample(text: &str, name: &str) -> u64 {
    let mut named = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    named
        .next()
        .unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

#[test]
fn metrics_say_what_was_received_and_sigterm_settles_and_ends() {
    let stage = Stage::new();
    let (mut streamer, address, link) = serve_with_metrics(&stage);
    let (status, health) = get(&address, "/healthz");
    assert_eq!(
        (status, health.as_str()),
        (200, r#"{"healthy":true,"store":"ok"}"#)
    );
    let (_, before) = get(&address, "/metrics");
    assert_eq!(sample(&before, "streampay_received_msat_total"), 0);
    assert_eq!(sample(&before, "streampay_store_up"), 1);
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    let session = viewer.named("bound")["session"]
        .as_str()
        .unwrap()
        .to_owned();
    let paid = msat(&ticks(&viewer, 3), "total_msat");
    let (_, text) = get(&address, "/metrics");
    assert!(
        sample(&text, "streampay_received_msat_total") >= paid,
        "{text}"
    );
    assert_eq!(sample(&text, "streampay_sessions{state=\"streaming\"}"), 1);
    assert_eq!(sample(&text, "streampay_sessions_begun_total"), 1);
    assert!(
        !text.contains(&session) && !text.contains(&session[..8]),
        "no session is named"
    );
    assert_eq!(get(&address, "/else").0, 404);
    assert_eq!(
        get(
            link.trim_start_matches("http://")
                .split('/')
                .next()
                .unwrap(),
            "/metrics"
        )
        .0,
        404
    );
    signal(&streamer, "-TERM");
    let settled = streamer.event(|event| event["event"] == "settled");
    assert!(msat(&settled, "total_msat") >= paid);
    assert_eq!(streamer.exit_code(), Some(0));
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    let parts = ["acknowledged_msat", "fees_msat", "refunded_msat"];
    let sum: u64 = parts.iter().map(|part| msat(&summary, part)).sum();
    assert_eq!(msat(&summary, "paid_msat"), sum);
}

fn serve_with_metrics(stage: &Stage) -> (Process, String, String) {
    serve_in(stage, &stage.folder.path().join("streamer"))
}

/// A streamer with its metrics, and where those are, and its link.
fn serve_in(stage: &Stage, data: &Path) -> (Process, String, String) {
    let args = [
        "serve",
        "--json",
        "--media",
        CLIP,
        "--price",
        "1sat/1s",
        "--metrics",
        "0",
    ];
    let more = ["--mint", &stage.mint_url, "--listen", "127.0.0.1:0"];
    let streamer = Process::start(STREAMER, data, &[&args[..], &more].concat(), false);
    let address = streamer.named("metrics")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    (streamer, address, link)
}

#[test]
fn a_second_process_on_one_folder_is_told_so_and_touches_nothing() {
    let stage = Stage::new();
    let (_streamer, _, link) = serve_with_metrics(&stage);
    let viewer = stage.viewer("viewer", &link, "60sat");
    ticks(&viewer, 1);
    for (program, name, args) in [
        (STREAMER, "streamer", &["balance"][..]),
        (STREAMER, "streamer", &["recover"]),
        (STREAMER, "streamer", &["history"]),
        (VIEWER, "viewer", &["balance"]),
        (VIEWER, "viewer", &["send", "1sat"]),
        (
            VIEWER,
            "viewer",
            &["watch", &link, "--budget", "9sat", "--yes"],
        ),
    ] {
        let folder = stage.folder.path().join(name);
        let second = run(program, &folder, args);
        assert_eq!(second.status.code(), Some(1), "{args:?}: {second:?}");
        let said = stderr(&second);
        let expect = format!("another process uses the folder {}", folder.display());
        assert!(said.contains(&expect) && said.contains("stop it"), "{said}");
    }
    // The looker-on says so, and goes on.
    let looked = run(VIEWER, &stage.folder.path().join("viewer"), &["doctor"]);
    assert!(
        stdout(&looked).contains("in use by another process"),
        "{looked:?}"
    );
    // Neither of them was disturbed.
    ticks(&viewer, 3);
}

#[test]
fn completions_and_pages_are_written_without_a_folder() {
    let home = tempfile::tempdir().unwrap();
    for program in [STREAMER, VIEWER] {
        for args in [
            &["completions", "bash"][..],
            &["completions", "zsh"],
            &["completions", "fish"],
            &["man"],
        ] {
            let output = bare(program, home.path(), &[], args).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(output.stdout.len() > 500);
        }
    }
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing is made"
    );
}

/// A small disk of its own; none where this user may not mount one, which CI does not take for an answer.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=700"),
            "none",
        ]);
        let mounted = mount.arg(folder.path()).output();
        if mounted.as_ref().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        let must = std::env::var_os("STREAMPAY_MUST_MOUNT").is_some();
        assert!(!must, "no disk can be mounted: {mounted:?}");
        eprintln!("left out: this user may mount no disk");
        None
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_the_gate_shuts_and_the_money_stays() {
    let Some(disk) = Disk::new("24m") else {
        return;
    };
    let stage = Stage::new();
    let data = disk.0.path().join("streamer");
    let said = stage.folder.path().join("said");
    let args = ["serve", "--json", "--media", CLIP, "--price", "1sat/1s"];
    let more = ["--mint", &stage.mint_url, "--listen", "127.0.0.1:0"];
    let command = told_into(STREAMER, &data, &said, &[&args[..], &more].concat());
    let mut streamer = Process::spawn(command, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut viewer = stage.viewer("viewer", &link, "95sat");
    ticks(&viewer, 2);
    disk.fill();
    // A tick is often written where another was: it is the new sessions that need room.
    let mut crowd = Vec::new();
    while crowd.len() < 16 && !streamer.is_over() {
        crowd.push(stage.viewer(&format!("viewer-{}", crowd.len()), &link, "20sat"));
    }
    // It ends by itself, and says what to do.
    assert_eq!(streamer.exit_code(), Some(1));
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.contains("check the disk's space"), "{said}");
    signal(&viewer, "-TERM");
    let summary = viewer.named("summary");
    assert_eq!(
        viewer.exit_code(),
        Some(5),
        "what is locked waits: {summary}"
    );
    let (media, acknowledged) = (
        msat(&summary, "media_ms"),
        msat(&summary, "acknowledged_msat"),
    );
    assert!(media <= acknowledged + 2_000, "a msat buys a ms: {summary}");
    // On the full disk little goes on, and that is said.
    let full = run(STREAMER, &data, &["recover"]);
    if full.status.code() != Some(0) {
        let said = stderr(&full);
        assert!(said.contains("store failed"), "{said}");
    }
    disk.make_room();
    let account = run(STREAMER, &data, &["recover", "--json"]);
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    let earned = msat(&recovered(&account, "wallet"), "spendable_msat");
    // Less the fee of redeeming proofs of 1 sat at 100 ppk.
    let least = acknowledged - acknowledged.div_ceil(10_000) * 1_000;
    assert!(earned >= least, "{earned} of {least}");
    let audit = run(STREAMER, &data, &["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
}

/// The viewer's: it says what to do, pays no more, and has everything once there is room.
#[test]
fn on_a_full_disk_a_viewer_says_so_and_its_money_stays() {
    let Some(disk) = Disk::new("24m") else {
        return;
    };
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let data = disk.0.path().join("viewer");
    let deposit = ["deposit", "2000sat", "--mint", &stage.mint_url];
    assert!(run(VIEWER, &data, &deposit).status.success());
    let (said, record) = (
        stage.folder.path().join("said"),
        stage.folder.path().join("record.webm"),
    );
    let record = record.to_str().unwrap();
    let args = ["watch", &link, "--budget", "1900sat", "--yes", "--json"];
    let args = [&args[..], &["--record", record]].concat();
    let mut viewer = Process::spawn(told_into(VIEWER, &data, &said, &args), false);
    // A purse of so many payments needs room.
    viewer.named("bound");
    disk.fill();
    // It ends by itself, and says what to do; so does the next command.
    assert_eq!(viewer.exit_code(), Some(1));
    let told = std::fs::read_to_string(&said).unwrap();
    assert!(told.contains("check the disk's space"), "{told}");
    // Also what is locked, and until when.
    let left = viewer.event(|event| event["event"] == "unsettled" && event["why"].is_null());
    assert!(left["locked_until_unix_s"].is_u64(), "{left}");
    let line = told.lines().find(|line| line.contains("not home"));
    let line = line.unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains("locked") && line.contains(" UTC"), "{line}");
    assert!(line.contains("`viewer recover`"), "{line}");
    let again = run(VIEWER, &data, &args);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(stderr(&again).contains("space"), "{again:?}");
    disk.make_room();
    // What was locked without the streamer's knowing comes home after its time. Nothing else is missing.
    let account = run(VIEWER, &data, &["recover", "--json"]);
    let lines = stdout(&account);
    let told = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let told: Vec<Value> = told.collect();
    let sum = |name: &str, field: &str| -> u64 {
        let named = told.iter().filter(|of| of["event"] == name);
        named.map(|of| msat(of, field)).sum()
    };
    let out = sum("recovered", "paid_msat") - sum("recovered", "refunded_msat");
    let spendable = sum("wallet", "spendable_msat");
    // The mint was tried once, for 2 sat.
    assert_eq!(spendable + out, 1_998_000, "{account:?}");
    let code = if out == 0 { 0 } else { 5 };
    assert_eq!(account.status.code(), Some(code), "{account:?}");
    let audit = run(VIEWER, &data, &["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    streamer.signal("-TERM");
    assert_eq!(streamer.exit_code(), Some(0));
}
