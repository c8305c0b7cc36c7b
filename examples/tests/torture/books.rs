//! After whatever happened: restart, recover, and look for every millisatoshi.

use std::time::Duration;

use serde_json::Value;
use streampay_examples::pay::Pay;

use crate::process::{STREAMER, VIEWER, events, run};
use crate::stage::Stage;

/// Tries of a `recover`: what the mint or the chain must confirm first may take a moment.
const TRIES: u32 = 2;
const BETWEEN: Duration = Duration::from_millis(1_500);
/// What may stay at the mint: proofs that are worth no more than the fee of redeeming them, a few a
/// session, in millisatoshi.
const DUST: u64 = 3_000;

/// Settles both and checks all. Nobody runs.
pub(crate) fn check(stage: &mut Stage) -> Result<(), String> {
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
    for (program, name) in [(VIEWER, "viewer"), (STREAMER, "streamer")] {
        audit(stage, program, name)?;
    }
    compare(stage)
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

fn audit(stage: &Stage, program: &str, name: &str) -> Result<(), String> {
    let output = run(program, &stage.data(name), &["audit", "--json"]);
    let told = events(&output);
    let result = told.last().cloned().unwrap_or_default();
    match output.status.success() && result["balances"] == true {
        true => Ok(()),
        false => Err(format!("{name} audit: {output:?}")),
    }
}

/// What both tell of the same sessions, and what the mint does.
fn compare(stage: &Stage) -> Result<(), String> {
    let (seen, earned) = (
        history(stage, VIEWER, "viewer"),
        history(stage, STREAMER, "streamer"),
    );
    let of = |rows: &[Value], session: &str, field: &str| {
        let row = rows.iter().find(|row| row["session"] == session);
        row.and_then(|row| row[field].as_u64()).unwrap_or_default()
    };
    for (session, acked) in &stage.acked {
        let has = of(&earned, session, "acknowledged_msat");
        if has < *acked {
            return Err(format!(
                "{session}: {acked} msat were acknowledged, the streamer has {has}"
            ));
        }
    }
    for row in &seen {
        let session = row["session"].as_str().unwrap_or_default();
        let field = |name: &str| row[name].as_u64().unwrap_or_default();
        let (paid, acknowledged) = (field("paid_msat"), field("acknowledged_msat"));
        if acknowledged != of(&earned, session, "acknowledged_msat") {
            return Err(format!("the two differ:\n{row}\n{earned:?}"));
        }
        if paid != acknowledged + field("fees_msat") + field("returned_msat") + field("out_msat") {
            return Err(format!("what left is not what came of it: {row}"));
        }
    }
    wallets(stage)
}

fn wallets(stage: &Stage) -> Result<(), String> {
    let Some(outstanding) = stage.outstanding() else {
        return Ok(());
    };
    let mut held = 0;
    for (program, name) in [(VIEWER, "viewer"), (STREAMER, "streamer")] {
        let output = run(program, &stage.data(name), &["audit", "--json"]);
        for event in events(&output) {
            let of = |field: &str| event[field].as_u64().unwrap_or_default();
            match event["event"].as_str() {
                Some("mint") => held += of("spendable_msat") + of("pending_msat"),
                // Of what the viewer has out, without the fees of locking it.
                Some("audit") if name == "viewer" => held += of("in_purses_msat"),
                _ => {}
            }
        }
    }
    let rest = DUST * u64::try_from(stage.acked.len().max(1)).unwrap();
    if held > outstanding || held + rest < outstanding {
        return Err(format!(
            "the wallets have {held} msat, of the mint's {outstanding}"
        ));
    }
    Ok(())
}
