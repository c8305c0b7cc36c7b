//! One fault of one program's disk, in one session.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use streampay_examples::pay::Pay;
use tokio::runtime::Handle;

use crate::books;
use crate::laps::timed;
use crate::process::{Process, Trace};
use crate::stage::Stage;

/// What the viewer may spend: some five ticks, and fees.
const BUDGET_ECASH: u64 = 1_300;
const BUDGET_BTC: u64 = 115_000;
const FUNDS: u64 = 4_000;
/// No session takes so long.
const LIMIT: Duration = Duration::from_secs(25);
/// How long both go on after a program was told that its disk fails.
const AFTER: Duration = Duration::from_millis(700);
/// How long where it was not told.
const ON: Duration = Duration::from_secs(6);
/// As strace says that it failed a call.
const INJECTED: &str = "INJECTED";
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

/// Of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// `streampay.redb`.
    Sessions,
    /// `wallet.redb`, which cdk writes.
    Wallet,
}

impl File {
    pub(crate) const ALL: [Self; 2] = [Self::Sessions, Self::Wallet];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Wallet => "wallet",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Sessions => "streampay.redb",
            Self::Wallet => "wallet.redb",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) way: Pay,
    pub(crate) side: Side,
    pub(crate) file: File,
    pub(crate) fault: Fault,
    pub(crate) call: Call,
    /// The call of this number, counted from 1, of any one thread.
    pub(crate) at: u64,
}

/// Whether the session came so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    /// At this call of all threads, counted from 1 in the order in which they began.
    At(u64),
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
        // Cases of before the wallet's file had its own do not name one.
        let (file, words) = match words[..] {
            [way, side, fault, call, at] => ("sessions", [way, side, fault, call, at]),
            [way, side, file, fault, call, at] => (file, [way, side, fault, call, at]),
            _ => return Err(format!("no case: {text}")),
        };
        let [way, side, fault, call, at] = words;
        let no = || format!("no case: {text}");
        Ok(Self {
            file: File::ALL
                .into_iter()
                .find(|of| of.name() == file)
                .ok_or_else(no)?,
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
        let (way, side, file) = (self.way.name(), self.side.name(), self.file.name());
        let (fault, call) = (self.fault.name(), self.call.name());
        format!("{way} {side} {file} {fault} {call}")
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

    /// As long as one may take. Channels wait for each other, and for cheap blocks.
    pub(crate) const fn longest(&self) -> Duration {
        match self.way {
            Pay::Btc => Duration::from_secs(110),
            _ => Duration::from_secs(20),
        }
    }

    /// Whether the fault struck, and how many ticks were acknowledged.
    pub(crate) fn run(&self) -> Result<(Struck, u64), String> {
        let mut stage = Stage::new(self.way);
        let log = stage.folder.path().join("trace");
        let ended = session(
            &mut stage,
            |_| log.clone(),
            |side| (side == self.side).then(|| (vec![self.file], Some(self.inject()))),
        )?;
        let struck = match self.has_struck(&ended, &log) {
            true => Struck::At(self.struck_at(&log)),
            false => Struck::No,
        };
        match books::check(&mut stage) {
            Ok(ticks) => Ok((struck, ticks)),
            Err(error) => Err(explain(stage, &error)),
        }
    }

    /// Strace counts each thread's calls by themselves: the first that makes so many is struck.
    fn struck_at(&self, log: &Path) -> u64 {
        let traced = std::fs::read_to_string(log).unwrap_or_default();
        let (mut of, mut all) = (BTreeMap::<&str, u64>::new(), 0);
        for thread in threads(&traced, self.file, self.call) {
            all += 1;
            let made = of.entry(thread).or_default();
            *made += 1;
            if *made == self.at {
                break;
            }
        }
        all
    }

    /// Whether it was this fault: everybody is killed in the end, and strace writes that down all the same.
    fn has_struck(&self, ended: &Ended, log: &Path) -> bool {
        let process = match self.side {
            Side::Viewer => ended.viewer.as_ref(),
            Side::Streamer => Some(&ended.streamer),
        };
        match self.fault {
            Fault::Kill => process.is_some_and(Process::was_killed) && traced(log, "by SIGKILL"),
            Fault::Eio | Fault::Full => traced(log, INJECTED),
        }
    }
}

/// Both, after they were ended; no viewer where the streamer never came to serve.
struct Ended {
    viewer: Option<Process>,
    streamer: Process,
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

fn traced(log: &Path, what: &str) -> bool {
    let traced = std::fs::read_to_string(log).unwrap_or_default();
    traced.contains(what)
}

/// One session; afterwards nobody runs. `faults` says which files of each side are looked on, and what
/// happens to them.
fn session(
    stage: &mut Stage,
    log: impl Fn(Side) -> PathBuf,
    faults: impl Fn(Side) -> Option<(Vec<File>, Option<String>)>,
) -> Result<Ended, String> {
    stage.fund(FUNDS)?;
    let (viewers, streamers) = (stage.data("viewer"), stage.data("streamer"));
    let logs = Side::ALL.map(log);
    let [at_viewers, at_streamers] = &logs;
    let trace = |side: Side, (files, inject): (Vec<File>, Option<String>)| Trace {
        log: match side {
            Side::Viewer => at_viewers,
            Side::Streamer => at_streamers,
        },
        files: (files.iter())
            .map(|file| match side {
                Side::Viewer => viewers.join(file.path()),
                Side::Streamer => streamers.join(file.path()),
            })
            .collect(),
        inject,
    };
    // Both files are there, as in any second session: nothing else is looked at by strace.
    let first = stage.serve(None);
    let first = first.map_err(|of| format!("the streamer does not come up: {:?}", of.alone))?;
    first.end(LIMIT);
    let at_streamer = faults(Side::Streamer).map(|of| trace(Side::Streamer, of));
    let mut streamer = match stage.serve(at_streamer) {
        Ok(streamer) => streamer,
        Err(streamer) => {
            return Ok(Ended {
                viewer: None,
                streamer,
            });
        }
    };
    let at_viewer = faults(Side::Viewer).map(|of| trace(Side::Viewer, of));
    let budget = match stage.way {
        Pay::Btc => BUDGET_BTC,
        _ => BUDGET_ECASH,
    };
    let mut viewer = stage.watch(budget, at_viewer);
    timed("session", || {
        until_it_breaks(&mut viewer, &mut streamer, &logs);
    });
    viewer.kill();
    streamer.kill();
    viewer.acknowledged(&mut stage.told);
    Ok(Ended {
        viewer: Some(viewer),
        streamer,
    })
}

/// Until the viewer has ended, or either was killed or told that its disk fails; or for a while after that
/// of a wallet, of which the session may not hear, has failed.
fn until_it_breaks(viewer: &mut Process, streamer: &mut Process, logs: &[PathBuf]) {
    let failed = |process: &mut Process| {
        process.catch_up();
        let mut heard = process.heard.iter();
        heard.any(|event| event["why"] == "the store failed")
    };
    let step = Duration::from_millis(50);
    let mut left = LIMIT.as_millis() / step.as_millis();
    let on = ON.as_millis() / step.as_millis();
    while left > 0 {
        std::thread::sleep(step);
        left -= 1;
        if left > on && logs.iter().any(|log| traced(log, INJECTED)) {
            left = on;
        }
        if viewer.is_over() {
            return;
        }
        if streamer.is_over() || failed(viewer) || failed(streamer) {
            return std::thread::sleep(AFTER);
        }
    }
}

/// How often a call is made in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// By the thread that makes it most: so many of all can be struck, see [`Case::at`].
    pub(crate) most: u64,
    pub(crate) all: u64,
}

/// How many calls each program makes in a session without a fault, both in the same one.
/// Such a session must pass too, with a payment. Where bitcoin is paid, the wallet is not looked on.
pub(crate) fn counts(jobs: usize) -> Vec<(Pay, Side, File, Made, Made)> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let handle = Handle::current();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(WAYS.len()) {
            scope.spawn(|| {
                let _inside = handle.enter();
                while let Some(way) = WAYS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A busy machine may take longer than a program is waited for.
                    let mut tries = (0..3).map(|_| count(*way));
                    let enough = |(_, file, syncs, writes): &(Side, File, Made, Made)| {
                        (syncs.most > 0 && writes.most > 0)
                            || (*file == File::Wallet && *way == Pay::Btc)
                    };
                    let counted = tries.find(|all| !all.is_empty() && all.iter().all(enough));
                    let counted = counted.expect("a session of each kind");
                    let counted = counted.into_iter();
                    let counted = counted
                        .map(|(side, file, syncs, writes)| (*way, side, file, syncs, writes));
                    let counted: Vec<_> = counted.collect();
                    found.lock().unwrap().insert(way.name(), counted);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    let all = WAYS
        .iter()
        .filter_map(|way| found.remove(way.name()))
        .flatten();
    all.filter(|(way, _, file, ..)| !(*way == Pay::Btc && *file == File::Wallet))
        .collect()
}

/// Nothing where no payment was acknowledged.
fn count(way: Pay) -> Vec<(Side, File, Made, Made)> {
    let mut stage = Stage::new(way);
    let folder = stage.folder.path().to_owned();
    let log = |side: Side| folder.join(format!("trace of the {}", side.name()));
    session(&mut stage, log, |_| Some((File::ALL.to_vec(), None))).unwrap();
    let traced = Side::ALL.map(|side| std::fs::read_to_string(log(side)).unwrap());
    match books::check(&mut stage) {
        Ok(0) => return Vec::new(),
        Ok(_) => {}
        Err(error) => panic!("without a fault: {}", explain(stage, &error)),
    }
    let made = |traced: &str, file: File, call: Call| {
        let mut of: BTreeMap<&str, u64> = BTreeMap::new();
        for thread in threads(traced, file, call) {
            *of.entry(thread).or_default() += 1;
        }
        Made {
            most: of.values().copied().max().unwrap_or_default(),
            all: of.values().sum(),
        }
    };
    let sides = Side::ALL.into_iter().zip(&traced);
    let each = sides.flat_map(|(side, traced)| File::ALL.map(|file| (side, traced, file)));
    each.map(|(side, traced, file)| {
        let (syncs, writes) = (
            made(traced, file, Call::Sync),
            made(traced, file, Call::Write),
        );
        (side, file, syncs, writes)
    })
    .collect()
}

/// Who makes each call to a file, in their order.
fn threads(traced: &str, file: File, call: Call) -> impl Iterator<Item = &str> {
    let of_file = traced
        .lines()
        .filter(move |line| line.contains(file.path()));
    let lines = of_file.filter_map(|line| line.split_once(' '));
    let lines = lines.filter(move |(_, rest)| rest.trim_start().starts_with(call.name()));
    lines.map(|(thread, _)| thread)
}
