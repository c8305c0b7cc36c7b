//! After whatever happened: restart, recover, and look for every millisatoshi.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use streampay_examples::pay::Pay;

use crate::judge::{Books, Row, Wallet};
use crate::process::{STREAMER, VIEWER, events, run};
use crate::stage::Stage;

/// Tries of a `recover`: what the mint or the chain must confirm first may take a moment.
const TRIES: u32 = 2;
const BETWEEN: Duration = Duration::from_millis(1_500);
/// The folder in which all that is compared is kept, where somebody wants it.
pub(crate) static KEPT: OnceLock<PathBuf> = OnceLock::new();

/// Settles both and checks all. Nobody runs. How many ticks were acknowledged.
pub(crate) fn check(stage: &mut Stage) -> Result<u64, String> {
    let streamer = stage.serve(None);
    let streamer =
        streamer.map_err(|of| format!("the streamer does not come back: {:?}", of.alone))?;
    recover(stage, VIEWER, &["recover", "--json"])?;
    streamer.end(Duration::from_secs(20));
    let settle = match stage.way {
        Pay::Btc => "settle",
        _ => "recover",
    };
    if recover(stage, STREAMER, &[settle, "--json"])? == Home::Not {
        return Err("the streamer is not settled".into());
    }
    // What the streamer has never heard of comes back after its time.
    let home = match stage.way {
        Pay::Btc => {
            stage.wait_for_refunds();
            recover(stage, VIEWER, &["recover", "--wait", "--json"])?
        }
        _ => recover(stage, VIEWER, &["recover", "--json"])?,
    };
    if home == Home::Not {
        only_locked(stage)?;
    }
    let viewer = audit(stage, VIEWER, "viewer")?;
    let streamer = audit(stage, STREAMER, "streamer")?;
    let books = read(stage, viewer, streamer)?;
    if let Some(folder) = KEPT.get() {
        keep(folder, &books);
    }
    let tick = stage.tick();
    books.check(tick)?;
    nobody_panicked(stage)?;
    Ok(books.ticks(tick))
}

/// For a look, and for the tests of the judge.
fn keep(folder: &Path, books: &Books) {
    let number = std::fs::read_dir(folder).unwrap().count();
    let text = serde_json::to_string_pretty(books).unwrap();
    std::fs::write(folder.join(format!("{number}.json")), text).unwrap();
}

/// A task may panic and its program go on.
fn nobody_panicked(stage: &Stage) -> Result<(), String> {
    for name in ["viewer", "streamer"] {
        let log = stage.data(name).with_extension("log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
            return Err(format!("{name}: {line}"));
        }
    }
    Ok(())
}

/// Whether all is where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Yes,
    Not,
}

fn recover(stage: &Stage, program: &str, args: &[&str]) -> Result<Home, String> {
    let name = if program == VIEWER {
        "viewer"
    } else {
        "streamer"
    };
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(BETWEEN);
        }
        let output = run(program, &stage.data(name), args);
        match output.status.code() {
            Some(0) => return Ok(Home::Yes),
            Some(5) => {}
            _ => return Err(format!("{name} {}: {output:?}", args[0])),
        }
    }
    Ok(Home::Not)
}

/// Locked ecash of a session that never came so far that the streamer kept it: nobody can sign it over,
/// and it comes home after its locktime.
fn only_locked(stage: &Stage) -> Result<(), String> {
    for row in history(stage, VIEWER, "viewer") {
        let locks = matches!(stage.way, Pay::Chain | Pay::P2pk);
        let acknowledged = row["acknowledged_msat"].as_u64();
        if row["state"] != "settled" && !(locks && acknowledged == Some(0)) {
            return Err(format!("not home: {row}"));
        }
    }
    Ok(())
}

fn history(stage: &Stage, program: &str, name: &str) -> Vec<Value> {
    let output = run(program, &stage.data(name), &["history", "--json"]);
    events(&output)
}

/// Whether it balances, and what it says of the wallet.
fn audit(stage: &Stage, program: &str, name: &str) -> Result<Wallet, String> {
    let output = run(program, &stage.data(name), &["audit", "--json"]);
    let told = events(&output);
    let result = told.last().cloned().unwrap_or_default();
    match output.status.success() && result["balances"] == true {
        true => Ok(wallet(&told)),
        false => Err(format!("{name} audit: {output:?}")),
    }
}

/// All that both, the mint and the chain say.
fn read(stage: &Stage, viewer: Wallet, streamer: Wallet) -> Result<Books, String> {
    let rows = |program, name| {
        let rows = history(stage, program, name).into_iter();
        let rows = rows.map(|row| serde_json::from_value(row).map_err(|error| error.to_string()));
        rows.collect::<Result<Vec<Row>, String>>()
    };
    Ok(Books {
        told: stage.told.clone(),
        viewer: rows(VIEWER, "viewer")?,
        streamer: rows(STREAMER, "streamer")?,
        money: stage.money_in_the_end(viewer, streamer),
    })
}

fn wallet(told: &[Value]) -> Wallet {
    let mut wallet = Wallet::default();
    for event in told {
        let of = |field: &str| event[field].as_i64().unwrap_or_default();
        match event["event"].as_str() {
            Some("mint") => {
                wallet.held_msat += of("spendable_msat") + of("pending_msat");
                wallet.earned_msat += of("earned_msat");
                wallet.given_msat += of("given_msat");
                wallet.fees_msat += of("fees_msat");
            }
            Some("audit") => wallet.in_purses_msat += of("in_purses_msat"),
            _ => {}
        }
    }
    wallet
}
