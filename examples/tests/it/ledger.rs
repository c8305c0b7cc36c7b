//! The books after real sessions, crashes and recoveries: they balance, and say where they do not.

use std::path::Path;
use std::process::Output;

use cdk::nuts::State;
use serde_json::Value;
use streampay_core::store::{ChangeSet, RedbStore, Store as _};
use streampay_examples::ledger::receipts::{Forged, verify};
use streampay_examples::wallet::WalletFolder;

use crate::backup::write_secret;
use crate::processes::{STREAMER, Stage, VIEWER, msat, recovered, run, ticks};

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn audit(program: &str, data: &Path) -> (Option<i32>, Vec<Value>) {
    let output = run(program, data, &["audit", "--json"]);
    (output.status.code(), events(&output))
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    let wanted = |event: &&Value| event["event"] == name;
    events.iter().filter(wanted).collect()
}

pub(crate) fn assert_balances(program: &str, data: &Path, unsettled: u64) {
    let (code, events) = audit(program, data);
    assert_eq!(code, Some(0), "{program} {events:#?}");
    let result = events.last().unwrap();
    assert_eq!(result["balances"], true, "{events:#?}");
    assert_eq!(result["unsettled"], unsettled, "{events:#?}");
    for mint in named(&events, "mint") {
        assert_eq!(mint["difference_msat"], 0, "{mint}");
    }
}

#[test]
fn books_balance_after_a_session_a_crash_and_a_recovery() {
    let stage = Stage::new();
    let (viewer_at, streamer_at) = (
        stage.folder.path().join("viewer"),
        stage.folder.path().join("streamer"),
    );
    let (mut streamer, link) = stage.serve("127.0.0.1:0");

    // A session until its budget is used up.
    let mut viewer = stage.viewer("viewer", &link, "12sat");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(3), "{summary}");
    assert_balances(VIEWER, &viewer_at, 0);

    // One in which both are killed; what is in the purse is told, and nothing is missing.
    let mut viewer = stage.viewer("viewer", &link, "40sat");
    ticks(&viewer, 3);
    viewer.kill();
    streamer.kill();
    assert_balances(VIEWER, &viewer_at, 1);
    let (code, _) = audit(STREAMER, &streamer_at);
    assert_eq!(code, Some(0));

    // Both recover, the streamer first being there for the viewer.
    let listen = link["http://".len()..].split('/').next().unwrap();
    let (mut streamer, _) = stage.serve(listen);
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    streamer.kill();
    assert_balances(VIEWER, &viewer_at, 0);
    let recovery = stage.recover(STREAMER, "streamer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    assert_balances(STREAMER, &streamer_at, 0);

    // Money at the edges: sent, taken back.
    let sent = run(VIEWER, &viewer_at, &["send", "7sat"]);
    assert!(sent.status.success());
    assert_balances(VIEWER, &viewer_at, 0);
    let back = run(VIEWER, &viewer_at, &["recover", "--take-back", "--json"]);
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    assert_balances(VIEWER, &viewer_at, 0);
    let wallet = recovered(&back, "wallet");

    // The two histories tell the same of each session.
    let histories = [(VIEWER, &viewer_at), (STREAMER, &streamer_at)].map(|(program, at)| {
        let output = run(program, at, &["history", "--json"]);
        assert!(output.status.success());
        events(&output)
    });
    let [seen, earned] = &histories;
    assert_eq!((seen.len(), earned.len()), (2, 2));
    let mut gone = 0;
    for (ours, theirs) in seen.iter().zip(earned) {
        for field in ["session", "title", "acknowledged_msat", "receipt_msat"] {
            assert_eq!(ours[field], theirs[field], "{field}");
        }
        assert_eq!(
            (&ours["side"], &theirs["side"]),
            (&"viewer".into(), &"streamer".into())
        );
        assert_eq!(
            (&ours["state"], &theirs["state"]),
            (&"settled".into(), &"settled".into())
        );
        assert!(ours["began_unix_s"].as_u64() <= ours["ended_unix_s"].as_u64());
        let (paid, back) = (msat(ours, "paid_msat"), msat(ours, "returned_msat"));
        assert_eq!(
            paid,
            msat(ours, "acknowledged_msat") + msat(ours, "fees_msat") + back
        );
        gone += paid - back;
    }
    assert_eq!(msat(&seen[0], "paid_msat"), msat(&summary, "paid_msat"));
    // Two deposits of 100 sat; all else than the sessions is the fee of the token.
    let spendable = msat(&wallet, "spendable_msat");
    let token_fee = 200_000 - gone - spendable;
    assert!((1_000..=3_000).contains(&token_fee), "{token_fee}");

    let table = run(VIEWER, &viewer_at, &["history", "--csv"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 3);
    assert!(table.starts_with("session,side,"));

    receipts_hold_anywhere(&stage, &viewer_at, seen);
    doctored_books_are_found(&stage, &viewer_at);
}

/// A file of receipts is good by itself, and no longer once anything in it is changed.
fn receipts_hold_anywhere(stage: &Stage, viewer_at: &Path, seen: &[Value]) {
    let exported = run(VIEWER, viewer_at, &["receipts", "export"]);
    assert!(exported.status.success());
    let text = String::from_utf8(exported.stdout).unwrap();
    let receipts: Vec<&str> = text.lines().collect();
    assert_eq!(receipts.len(), 2);
    for (line, session) in receipts.iter().zip(seen) {
        let total = verify(line).unwrap().evidence().receipt.total;
        assert_eq!(total.msat(), msat(session, "acknowledged_msat"));
    }
    let file = stage.folder.path().join("receipts.jsonl");
    let nowhere = stage.folder.path().join("nowhere");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let args = ["receipts", "verify", file.to_str().unwrap(), "--json"];
        let output = run(STREAMER, &nowhere, &args);
        assert!(!nowhere.exists(), "no folder is needed, or made");
        (output.status.code(), events(&output))
    };
    let (code, good) = check(&text);
    assert_eq!(code, Some(0));
    assert!(good.iter().all(|event| event["good"] == true));

    let mut said: Value = serde_json::from_str(receipts[0]).unwrap();
    let more = said["total_msat"].as_u64().unwrap() + 1_000;
    said["total_msat"] = more.into();
    let (code, found) = check(&format!("{said}\n{}", receipts[1]));
    assert_eq!(code, Some(8));
    assert_eq!(
        (&found[0]["good"], &found[1]["good"]),
        (&false.into(), &true.into())
    );
    assert_eq!(found[0]["why"], Forged::Changed.to_string());

    // Any bit of the proof.
    let proof = said["proof"].as_str().unwrap().to_owned();
    for at in (0..proof.len()).step_by(97) {
        let other = if &proof[at..=at] == "0" { "1" } else { "0" };
        let mut line: Value = serde_json::from_str(receipts[0]).unwrap();
        line["proof"] = [&proof[..at], other, &proof[at + 1..]].concat().into();
        assert!(verify(&line.to_string()).is_err(), "digit {at}");
    }
}

/// Somebody takes a coin out of the wallet, and a session out of the store.
fn doctored_books_are_found(stage: &Stage, viewer_at: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let worth = runtime.block_on(async {
        let folder = WalletFolder::open(viewer_at).unwrap();
        let wallet = folder.wallet_at(&stage.mint_url).await.unwrap();
        let unspent = Some(vec![State::Unspent]);
        let coins = wallet
            .localstore
            .get_proofs(None, None, unspent, None)
            .await;
        let coin = coins.unwrap().pop().unwrap();
        let gone = wallet
            .localstore
            .update_proofs(Vec::new(), vec![coin.y])
            .await;
        gone.unwrap();
        coin.proof.amount.to_u64() * 1_000
    });
    let (code, events) = audit(VIEWER, viewer_at);
    assert_eq!(code, Some(7), "{events:#?}");
    let findings = named(&events, "finding");
    assert_eq!(findings.len(), 1, "{events:#?}");
    assert!(findings[0]["at"].as_str().unwrap().contains("127.0.0.1"));
    assert_eq!(msat(findings[0], "msat"), worth);

    let mut store = RedbStore::open(viewer_at).unwrap();
    let records = store.scan(b"s").unwrap();
    let first = records[0].0[..33].to_vec();
    let mut change = ChangeSet::new();
    let of_first = records.iter().filter(|(key, _)| key.starts_with(&first));
    of_first.for_each(|(key, _)| change.remove(key.clone()));
    store.append(&[change]).unwrap();
    drop(store);
    let (code, events) = audit(VIEWER, viewer_at);
    assert_eq!(code, Some(7));
    let findings = named(&events, "finding");
    let unknown = |finding: &&&Value| finding["what"].as_str().unwrap().contains("no records");
    assert_eq!(findings.iter().filter(unknown).count(), 1, "{events:#?}");
}

/// A session as a disk that has gone bad gives it back: `from` a good one of the folder.
fn spoil(at: &Path) {
    let mut store = RedbStore::open(at).unwrap();
    let mut change = ChangeSet::new();
    for (mut key, _) in store.scan(b"s").unwrap() {
        key[1..33].fill(0xee);
        change.put(key, vec![0xff]);
    }
    store.append(&[change]).unwrap();
}

/// Of a disk that has gone bad, or of a later version.
#[test]
fn session_that_cannot_be_read_is_told_and_keeps_no_other_from_coming_home() {
    let stage = Stage::new();
    let (_streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    let open = ticks(&viewer, 2)["session"].clone();
    viewer.kill();
    let at = stage.folder.path().join("viewer");
    spoil(&at);
    let recovery = stage.recover(VIEWER, "viewer");
    assert_ne!(recovery.status.code(), Some(0), "{recovery:?}");
    let all = events(&recovery);
    let told = named(&all, "unusable");
    assert_eq!(told.len(), 1, "{all:#?}");
    assert_eq!(told[0]["session"], "ee".repeat(32));
    assert_eq!(told[0]["side"], "viewer");
    assert_eq!(
        told[0]["next"], "restore",
        "and not the command that says so"
    );
    let home = named(&all, "recovered");
    let is_it = |of: &&&Value| of["session"] == open && of["settled"] == true;
    assert_eq!(home.iter().filter(is_it).count(), 1, "{all:#?}");
}

/// Also in a folder that was restored with it: everything else goes on, and no audit passes.
#[test]
fn one_session_that_cannot_be_read_stops_neither_program() {
    let stage = Stage::new();
    let at = |name: &str| stage.folder.path().join(name);
    let unreadable = "ee".repeat(32);
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    let settled = ticks(&viewer, 2)["session"].clone();
    viewer.signal("-TERM");
    viewer.exit_code();
    streamer.signal("-TERM");
    assert_eq!(streamer.exit_code(), Some(0));
    for (program, name) in [(VIEWER, "viewer"), (STREAMER, "streamer")] {
        spoil(&at(name));
        restore_from_a_backup(&stage, program, name, &unreadable);
    }

    let listen = link["http://".len()..].split('/').next().unwrap();
    // Sessions are taken up beside the start.
    let mut streamer = stage.begin_to_serve(listen, &[]);
    let [_, told] = streamer.each(["serving", "unusable"]);
    assert_eq!(told["session"], unreadable.as_str(), "{told}");
    let mut viewer = stage.viewer("viewer", &link, "30sat");
    let told = viewer.named("unusable");
    assert_eq!(told["session"], unreadable.as_str(), "{told}");
    assert_eq!(told["next"], "restore", "{told}");
    ticks(&viewer, 2);
    viewer.signal("-TERM");
    viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0));
    streamer.signal("-TERM");
    assert_eq!(
        streamer.exit_code(),
        Some(5),
        "what it had earned there is not known"
    );

    for (program, name) in [(VIEWER, "viewer"), (STREAMER, "streamer")] {
        let recovery = stage.recover(program, name);
        assert_eq!(recovery.status.code(), Some(5), "{recovery:?}");
        let all = events(&recovery);
        assert_eq!(named(&all, "unusable").len(), 1, "{all:#?}");
        let history = run(program, &at(name), &["history", "--json"]);
        assert_eq!(history.status.code(), Some(1), "{history:?}");
        let rows = events(&history);
        assert_eq!(named(&rows, "history").len(), 2, "{history:?}");
        assert_eq!(rows[0]["session"], settled, "{history:?}");
        let told = named(&rows, "unreadable");
        assert_eq!(told.len(), 1, "{history:?}");
        assert_eq!(told[0]["session"], unreadable.as_str(), "{history:?}");
        // A streamer has no receipts to show.
        let exported = if name == "viewer" { 1 } else { 2 };
        for (args, code) in [
            (["history", "--csv"], 1),
            (["receipts", "export"], exported),
        ] {
            let shown = run(program, &at(name), &args);
            assert_eq!(shown.status.code(), Some(code), "{shown:?}");
            let words = String::from_utf8_lossy(&shown.stderr).into_owned();
            assert!(words.contains(&unreadable), "{shown:?}");
        }
        let (code, told) = audit(program, &at(name));
        assert_eq!(code, Some(7), "{told:#?}");
        let findings = named(&told, "finding");
        assert_eq!(findings.len(), 1, "{told:#?}");
        let where_at = findings[0]["at"].as_str().unwrap();
        assert!(where_at.contains(&unreadable), "{where_at}");
        let result = told.last().unwrap();
        assert_eq!(
            (&result["sessions"], &result["unsettled"]),
            (&3.into(), &1.into())
        );
    }
}

/// The folder is lost, and made again with its session that cannot be read.
fn restore_from_a_backup(stage: &Stage, program: &str, name: &str, unreadable: &str) {
    let at = |name: &str| stage.folder.path().join(name);
    let (file, phrase) = (at(&format!("{name}.age")), at("phrase"));
    write_secret(&phrase, "correct horse battery staple\n");
    let phrase = format!("file:{}", phrase.display());
    for command in ["backup", "restore"] {
        let args = [
            command,
            file.to_str().unwrap(),
            "--passphrase",
            &phrase,
            "--json",
        ];
        let ran = run(program, &at(name), &args);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let event = if command == "backup" {
            "backup"
        } else {
            "restored"
        };
        let told = recovered(&ran, event);
        assert_eq!(
            told["unreadable"],
            serde_json::json!([unreadable]),
            "{told}"
        );
        if command == "backup" {
            std::fs::remove_dir_all(at(name)).unwrap();
        }
    }
}
