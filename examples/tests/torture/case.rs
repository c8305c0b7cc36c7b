//! One fault of one program's disk, in one session.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use streampay_examples::pay::Pay;
use tokio::runtime::Handle;

use crate::books;
use crate::process::{Process, Trace};
use crate::stage::Stage;

/// What the viewer may spend: some five ticks, and fees.
const BUDGET_ECASH: u64 = 8;
const BUDGET_BTC: u64 = 18_000;
const FUNDS: u64 = 60;
/// No session takes so long.
const LIMIT: Duration = Duration::from_secs(25);
/// How long both go on after a program was told that its disk fails.
const AFTER: Duration = Duration::from_millis(700);
const WAYS: [Pay; 4] = [Pay::Chain, Pay::P2pk, Pay::Swap, Pay::Btc];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Viewer,
    Streamer,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Viewer, Self::Streamer];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Streamer => "streamer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Eio,
    Full,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Kill, Self::Eio, Self::Full];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Eio => "EIO",
            Self::Full => "ENOSPC",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Sync,
    Write,
}

impl Call {
    const ALL: [Self; 2] = [Self::Sync, Self::Write];

    const fn name(self) -> &'static str {
        match self {
            Self::Sync => "fdatasync",
            Self::Write => "pwrite64",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) way: Pay,
    pub(crate) side: Side,
    pub(crate) fault: Fault,
    pub(crate) call: Call,
    /// The call of this number, counted from 1, of any one thread.
    pub(crate) at: u64,
}

/// Whether the session came so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    Yes,
    No,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.at)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [way, side, fault, call, at] = words[..] else {
            return Err(format!("no case: {text}"));
        };
        let no = || format!("no case: {text}");
        Ok(Self {
            way: WAYS
                .into_iter()
                .find(|of| of.name() == way)
                .ok_or_else(no)?,
            side: Side::ALL
                .into_iter()
                .find(|of| of.name() == side)
                .ok_or_else(no)?,
            fault: Fault::ALL
                .into_iter()
                .find(|of| of.name() == fault)
                .ok_or_else(no)?,
            call: Call::ALL
                .into_iter()
                .find(|of| of.name() == call)
                .ok_or_else(no)?,
            at: at.parse().map_err(|_| no())?,
        })
    }
}

impl Case {
    /// All of it but the number.
    pub(crate) fn kind(&self) -> String {
        let (way, side) = (self.way.name(), self.side.name());
        format!("{way} {side} {} {}", self.fault.name(), self.call.name())
    }

    fn inject(&self) -> String {
        let what = match self.fault {
            Fault::Kill => "signal=KILL".to_owned(),
            _ => format!("error={}", self.fault.name()),
        };
        // A disk that fails goes on failing.
        let on = if self.fault == Fault::Kill { "" } else { "+" };
        format!("{}:{what}:when={}{on}", self.call.name(), self.at)
    }

    pub(crate) fn run(&self) -> Result<Struck, String> {
        let mut stage = Stage::new(self.way);
        let log = stage.folder.path().join("trace");
        session(&mut stage, &log, |side| {
            (side == self.side).then(|| self.inject())
        })?;
        let traced = std::fs::read_to_string(&log).unwrap_or_default();
        let struck = match traced.contains("INJECTED") || traced.contains("killed by SIGKILL") {
            true => Struck::Yes,
            false => Struck::No,
        };
        match books::check(&mut stage) {
            Ok(()) => Ok(struck),
            Err(error) => Err(explain(stage, &error)),
        }
    }
}

/// What went wrong, with what the programs said; their folders are kept.
pub(crate) fn explain(mut stage: Stage, error: &str) -> String {
    let said = ["viewer", "streamer"].map(|name| {
        let log = stage.data(name).with_extension("log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(12)..];
        format!("--- {name}:\n{}", last.join("\n"))
    });
    stage.folder.disable_cleanup(true);
    let kept = stage.folder.path().display().to_string();
    format!("{error}\n{}\n--- kept: {kept}", said.join("\n"))
}

/// One session; afterwards nobody runs. `faults` says what happens to the disk of each: nothing where
/// that is empty, and it is looked on.
fn session(
    stage: &mut Stage,
    log: &Path,
    faults: impl Fn(Side) -> Option<String>,
) -> Result<(), String> {
    stage.fund(FUNDS)?;
    let (viewers, streamers) = (stage.store("viewer"), stage.store("streamer"));
    let trace = |side: Side, inject: String| Trace {
        log,
        file: match side {
            Side::Viewer => &viewers,
            Side::Streamer => &streamers,
        },
        inject: Some(inject).filter(|inject| !inject.is_empty()),
    };
    // Both files are there, as in any second session: nothing else is looked at by strace.
    if let Some(mut first) = stage.serve(None) {
        first.end(LIMIT);
    }
    let at_streamer = faults(Side::Streamer).map(|inject| trace(Side::Streamer, inject));
    let Some(mut streamer) = stage.serve(at_streamer) else {
        return Ok(());
    };
    let at_viewer = faults(Side::Viewer).map(|inject| trace(Side::Viewer, inject));
    let budget = match stage.way {
        Pay::Btc => BUDGET_BTC,
        _ => BUDGET_ECASH,
    };
    let mut viewer = stage.watch(budget, at_viewer);
    until_it_breaks(&mut viewer, &mut streamer);
    viewer.kill();
    streamer.kill();
    viewer.acknowledged(&mut stage.acked);
    Ok(())
}

/// Until the viewer has ended, or either was killed or told that its disk fails.
fn until_it_breaks(viewer: &mut Process, streamer: &mut Process) {
    let failed = |process: &mut Process| {
        process.catch_up();
        let mut heard = process.heard.iter();
        heard.any(|event| event["why"] == "the store failed")
    };
    let step = Duration::from_millis(50);
    for _ in 0..LIMIT.as_millis() / step.as_millis() {
        std::thread::sleep(step);
        if viewer.is_over() {
            return;
        }
        if streamer.is_over() || failed(viewer) || failed(streamer) {
            return std::thread::sleep(AFTER);
        }
    }
}

/// How many calls each program makes in a session without a fault, of the thread that makes most.
/// Such a session must pass too.
pub(crate) fn counts(jobs: usize) -> Vec<(Pay, Side, u64, u64)> {
    let all: Vec<(Pay, Side)> = WAYS
        .into_iter()
        .flat_map(|way| Side::ALL.map(|side| (way, side)))
        .collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let handle = Handle::current();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let _inside = handle.enter();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((way, side)) = all.get(number).copied() else {
                        return;
                    };
                    // A busy machine may take longer than a program is waited for.
                    let mut tries = (0..3).map(|_| count(way, side));
                    let counted = tries.find(|(syncs, writes)| *syncs > 0 && *writes > 0);
                    let (syncs, writes) = counted.expect("a session of each kind");
                    found
                        .lock()
                        .unwrap()
                        .insert(number, (way, side, syncs, writes));
                }
            });
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

fn count(way: Pay, side: Side) -> (u64, u64) {
    let mut stage = Stage::new(way);
    let log = stage.folder.path().join("trace");
    session(&mut stage, &log, |of| (of == side).then(String::new)).unwrap();
    let traced = std::fs::read_to_string(&log).unwrap();
    if let Err(error) = books::check(&mut stage) {
        panic!("without a fault: {}", explain(stage, &error));
    }
    let most = |call: Call| {
        let mut of: BTreeMap<&str, u64> = BTreeMap::new();
        let lines = traced.lines().filter_map(|line| line.split_once(' '));
        for (thread, _) in lines.filter(|(_, rest)| rest.trim_start().starts_with(call.name())) {
            *of.entry(thread).or_default() += 1;
        }
        of.into_values().max().unwrap_or_default()
    };
    (most(Call::Sync), most(Call::Write))
}
