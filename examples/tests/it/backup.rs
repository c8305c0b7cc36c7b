//! Folders that are lost and made again from a backup: what comes back, and what is lost at most.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::ledger::assert_balances;
use crate::processes::{Process, STREAMER, Stage, VIEWER, msat, recovered, run, stdout, ticks};

/// Of how many ticks of a satoshi the mint's fee is one, at 100 ppk, where a purse may have been signed over:
/// a quarter at most. New purses count as such for two hours.
const HELD_BATCH: u64 = 4;

/// For its owner alone: another file is refused.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, own).unwrap();
    }
}

/// A backup of one folder of a stage.
struct Saved<'a> {
    stage: &'a Stage,
    program: &'a str,
    name: &'a str,
}

impl Saved<'_> {
    fn vault(&self, command: &str) -> Output {
        let at = |name: &str| self.stage.folder.path().join(name);
        let phrase = at("phrase");
        write_secret(&phrase, "correct horse battery staple\n");
        let (file, phrase) = (at("saved.age"), format!("file:{}", phrase.display()));
        let args = [
            command,
            file.to_str().unwrap(),
            "--passphrase",
            &phrase,
            "--json",
        ];
        run(self.program, &at(self.name), &args)
    }

    /// What is in the folder, as its backup says.
    fn save(&self) -> Value {
        let saved = self.vault("backup");
        assert_eq!(saved.status.code(), Some(0), "{saved:?}");
        recovered(&saved, "backup")
    }

    /// What is redeemed and in its wallet, of which nobody asks for more meanwhile.
    fn redeemed(&self) -> u64 {
        let mints = self.save()["mints"].clone();
        let mints = mints.as_array().unwrap();
        mints.iter().map(|at| msat(at, "spendable_msat")).sum()
    }

    /// The folder is lost, and made again: what is told of what may be missing.
    fn lose_and_restore(&self) -> Value {
        fs::remove_dir_all(self.stage.folder.path().join(self.name)).unwrap();
        let restored = self.vault("restore");
        assert_eq!(restored.status.code(), Some(0), "{restored:?}");
        recovered(&restored, "bound")
    }
}

fn again(stage: &Stage, link: &str) -> Process {
    let listen = link["http://".len()..].split('/').next().unwrap();
    let (streamer, same) = stage.serve(listen);
    assert_eq!(same, link);
    streamer
}

fn end(viewer: &mut Process) -> Value {
    viewer.signal("-TERM");
    let summary = viewer.named("summary");
    assert_eq!(viewer.exit_code(), Some(0), "{summary}");
    summary
}

/// What came home from its sessions once fees are paid for `acknowledged`.
fn assert_earned(stage: &Stage, acknowledged: u64) {
    let account = stage.recover(STREAMER, "streamer");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    let at = stage.folder.path().join("streamer");
    let history = stdout(&run(STREAMER, &at, &["history", "--json"]));
    let sessions = history
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sessions = sessions.filter(|event| event["event"] == "history");
    let earned: u64 = sessions
        .map(|session| msat(&session, "returned_msat"))
        .sum();
    let fees = acknowledged.div_ceil(HELD_BATCH * 1_000) * 1_000;
    assert!(
        (acknowledged - fees..=acknowledged).contains(&earned),
        "{earned} of {acknowledged}"
    );
    assert_balances(STREAMER, &at, 0);
}

/// Its streamer is away, so that what the viewer has locked stays locked.
#[test]
fn a_backup_is_due_where_something_is_locked_that_none_knows() {
    let stage = Stage::new();
    let (mut gone, link) = stage.serve("127.0.0.1:0");
    let mut killed = stage.viewer("viewer", &link, "30sat");
    ticks(&killed, 2);
    killed.kill();
    gone.kill();
    let (_other, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "12sat");
    let due = viewer.named("backup_due");
    assert!(msat(&due, "amount_msat") >= 20_000, "{due}");
    assert!(due["since_unix_s"].is_u64(), "{due}");
    ticks(&viewer, 1);
    end(&mut viewer);
    let saved = Saved {
        stage: &stage,
        program: VIEWER,
        name: "viewer",
    };
    saved.save();
    for restores in [false, true] {
        if restores {
            saved.lose_and_restore();
        }
        let mut viewer = stage.viewer("viewer", &link, "12sat");
        viewer.event(|event| {
            assert_ne!(event["event"], "backup_due", "{restores}");
            event["event"] == "tick_paid"
        });
        end(&mut viewer);
    }
}

#[test]
fn streamer_made_again_from_an_old_backup_is_paid_all_by_an_honest_viewer() {
    let stage = Stage::new();
    let saved = Saved {
        stage: &stage,
        program: STREAMER,
        name: "streamer",
    };
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    ticks(&viewer, 3);
    let busy = saved.vault("backup");
    assert_eq!(busy.status.code(), Some(1), "in use: {busy:?}");
    streamer.kill();
    saved.save();
    let mut streamer = again(&stage, &link);
    ticks(&viewer, 8);
    streamer.kill();
    let bound = saved.lose_and_restore();
    assert_eq!(bound["earning_sessions"], 1, "{bound}");
    assert!(msat(&bound, "paid_since_msat") >= 5_000, "{bound}");
    // Closing now would give up what the viewer can show.
    let early = stage.recover(STREAMER, "streamer");
    assert_eq!(early.status.code(), Some(5), "{early:?}");
    let words = String::from_utf8(early.stderr).unwrap();
    assert!(words.contains("shows what it paid since"), "{words}");

    let mut streamer = again(&stage, &link);
    ticks(&viewer, 14);
    // The self that was lost may have signed the purse over: what comes in is redeemed within a few ticks,
    // not after 64 or at the end.
    streamer.kill();
    let redeemed = saved.redeemed();
    assert!(redeemed >= 6_000, "{redeemed}");
    let mut streamer = again(&stage, &link);
    ticks(&viewer, 16);
    let summary = end(&mut viewer);
    streamer.named("viewer_gone");
    streamer.kill();
    let acknowledged = msat(&summary, "acknowledged_msat");
    assert!(acknowledged >= 16_000, "{summary}");
    assert_eq!(summary["locked_until_unix_s"], Value::Null);
    assert_earned(&stage, acknowledged);
    assert_balances(VIEWER, &stage.folder.path().join("viewer"), 0);
}

#[test]
fn streamer_that_forgot_a_session_loses_it_and_takes_no_old_payment_for_a_new_one() {
    let stage = Stage::new();
    let saved = Saved {
        stage: &stage,
        program: STREAMER,
        name: "streamer",
    };
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    streamer.kill();
    saved.save();
    let mut streamer = again(&stage, &link);
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    ticks(&viewer, 3);
    viewer.kill();
    streamer.kill();
    let bound = saved.lose_and_restore();
    assert_eq!(bound["paid_since_msat"], 0, "{bound}");
    let mut streamer = again(&stage, &link);
    // Its viewer is turned away, and has to wait for what is locked; nothing was earned.
    let account = stage.recover(VIEWER, "viewer");
    assert_eq!(account.status.code(), Some(5), "{account:?}");
    let locked = &recovered(&account, "recovered")["locked_until_unix_s"];
    assert!(locked.is_u64(), "{account:?}");
    assert_balances(VIEWER, &stage.folder.path().join("viewer"), 1);
    // Somebody else is served and pays as ever.
    let other = stage.viewer("other", &link, "12sat");
    let summary = other.named("summary");
    streamer.named("viewer_gone");
    streamer.kill();
    assert_earned(&stage, msat(&summary, "acknowledged_msat"));
}

#[test]
fn viewer_made_again_from_an_old_backup_finds_what_is_left_and_pays_nothing_twice() {
    let stage = Stage::new();
    let at = stage.folder.path().join("viewer");
    let saved = Saved {
        stage: &stage,
        program: VIEWER,
        name: "viewer",
    };
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "40sat");
    ticks(&viewer, 3);
    viewer.kill();
    saved.save();
    // After the backup: the session goes on and ends, money comes in, a token goes out.
    let mut viewer = stage.viewer("viewer", &link, "40sat");
    ticks(&viewer, 6);
    end(&mut viewer);
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    let sent = run(VIEWER, &at, &["send", "7sat"]);
    assert!(sent.status.success());
    let token = String::from_utf8(sent.stdout).unwrap();
    let taken = run(
        STREAMER,
        &stage.folder.path().join("friend"),
        &["receive", token.trim()],
    );
    assert!(taken.status.success(), "{taken:?}");
    assert_balances(VIEWER, &at, 0);
    let there = wallet(&at);

    let bound = saved.lose_and_restore();
    assert!(msat(&bound, "wallet_msat") > 0, "{bound}");
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    assert!(
        recovered(&recovery, "found_again")["amount_msat"].is_u64(),
        "{recovery:?}"
    );
    let found = msat(&recovered(&recovery, "wallet"), "spendable_msat");
    assert_eq!(msat(&recovered(&recovery, "wallet"), "pending_msat"), 0);
    assert!(found <= there, "{found} of {there}");
    assert_balances(VIEWER, &at, 0);
    // What was found can be spent, and what is gone is not asked for again.
    let all = format!("{}sat", found / 1_000 - 15);
    let sent = run(VIEWER, &at, &["send", &all]);
    assert!(sent.status.success(), "{found} of {there}: {sent:?}");
    let token = String::from_utf8(sent.stdout).unwrap();
    let taken = run(
        STREAMER,
        &stage.folder.path().join("friend"),
        &["receive", token.trim()],
    );
    assert!(taken.status.success(), "{taken:?}");
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    assert_balances(VIEWER, &at, 0);
    // The streamer has what was paid, once.
    streamer.kill();
    let account = stage.recover(STREAMER, "streamer");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    assert_balances(STREAMER, &stage.folder.path().join("streamer"), 0);
    // All that the backup did not know of came back but for purse money that was spent on since.
    println!("{found} of {there} msat came back");
}

#[test]
fn words_alone_bring_back_who_one_is_and_the_wallet() {
    let stage = Stage::new();
    let at = stage.folder.path().join("viewer");
    let words = run(VIEWER, &at, &["words"]);
    assert_eq!(words.status.code(), Some(2), "no folder yet: {words:?}");
    let (streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "40sat");
    ticks(&viewer, 2);
    end(&mut viewer);
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    let there = wallet(&at);
    let words = run(VIEWER, &at, &["words"]);
    assert_eq!(words.status.code(), Some(0), "{words:?}");
    let identity = fs::read(at.join("identity")).unwrap();
    fs::remove_dir_all(&at).unwrap();

    let paper = stage.folder.path().join("paper");
    let text = String::from_utf8(words.stdout).unwrap();
    let from = format!("file:{}", paper.display());
    let args = [
        "restore",
        "--words",
        &from,
        "--mint",
        &stage.mint_url,
        "--json",
    ];
    write_secret(&paper, &text.replacen(' ', " zoo ", 1));
    let wrong = run(VIEWER, &at, &args);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    write_secret(&paper, &text.replace(' ', "\n"));
    let restored = run(VIEWER, &at, &args);
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    let told = recovered(&restored, "restored");
    assert_eq!(told["unreadable"], serde_json::json!([]), "{told}");
    let recovery = stage.recover(VIEWER, "viewer");
    assert_eq!(recovery.status.code(), Some(0), "{recovery:?}");
    assert_eq!(fs::read(at.join("identity")).unwrap(), identity);
    // All but what came home from the session, whose outputs are of its purse.
    let found = wallet(&at);
    assert!(found > 0 && found <= there, "{found} of {there}");
    assert_balances(VIEWER, &at, 0);
    drop(streamer);
}

fn wallet(at: &Path) -> u64 {
    let account = run(VIEWER, at, &["recover", "--json"]);
    msat(&recovered(&account, "wallet"), "spendable_msat")
}
