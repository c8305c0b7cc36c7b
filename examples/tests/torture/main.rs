//! Both programs as real processes, killed and with failing disks, each way to pay; then restarted and
//! recovered, and every millisatoshi looked for.
//!
//! ```sh
//! cargo test -p streampay-examples --test torture -- --faults --kills 500
//! cargo test -p streampay-examples --test torture -- --faults --seconds 225 --kills 20
//! cargo test -p streampay-examples --test torture -- --case "chain viewer wallet EIO fdatasync 17"
//! cargo test -p streampay-examples --test torture -- --round 24000002
//! ```
//!
//! `--faults`: strace kills a program at, or fails with EIO or ENOSPC, each `fdatasync` of a file of its
//! in turn, and 200 `pwrite64`s a fault, chosen by `--seed`. `--kills N`: so many SIGKILLs at random moments, beside the
//! faults; with `--seconds` as many faults as fit into these, every combination first. `--jobs` are at it at once, for
//! each mostly waits, and a third as many kill. `--case` and `--round` run one of either again, as it is named where it
//! fails. `--books` keeps all that was compared in files of a folder that there is. Linux, with strace.
//!
//! Strace counts each thread's calls by themselves, so that of each number the thread is struck that is the first to
//! make so many: the first calls of one that comes later are never struck. How many of all calls can be is told
//! before, and in the end which were, in the order of the trace, and how long each part took.
//!
//! The files are `streampay.redb`, with every session, and where ecash is paid `wallet.redb`. That one is
//! written by cdk, whose store takes no medium of ours: it runs under these faults, and not on the simulated
//! disk, where writes are short or torn.
//!
//! A case passes where after restart and `recover` both books balance (`audit`), and both programs, the mint and
//! the chain tell one story (`judge`): both count the same ticks, all that the viewer was told among them, none
//! without media; what left the viewer is that and what came back, what arrived is that, and a quarter of a tick
//! is the most that fees explain; the wallets have what the mint signed, the addresses what the channels had.
//! A tick is that large for this. Nobody may panic, and no program that is to be killed may end by itself.
//! `--faults` fails, too, where a way to pay, a side, a file, a fault or a call was never struck, as in too few seconds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a check that fails should say where"
)]

mod books;
mod case;
#[path = "../../../streampay-btc/tests/it/esplora.rs"]
#[allow(dead_code, reason = "another test asks for more of it")]
mod esplora;
mod judge;
mod kills;
mod laps;
mod process;
mod stage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use case::{Case, Struck};
use process::Dice;
use tokio::runtime::Handle;

/// `pwrite64`s for each fault and file, each but once.
const WRITES: usize = 200;

struct Args {
    faults: bool,
    kills: u64,
    seconds: Option<u64>,
    jobs: usize,
    seed: u64,
    case: Option<Case>,
    round: Option<u64>,
}

fn parse() -> Args {
    let mut parsed = Args {
        faults: false,
        kills: 0,
        seconds: None,
        jobs: 12,
        seed: 1,
        case: None,
        round: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--faults" {
            parsed.faults = true;
            continue;
        }
        let value = args
            .next()
            .unwrap_or_else(|| panic!("{name} needs a value"));
        let number = || value.parse::<u64>().unwrap();
        match name.as_str() {
            "--kills" => parsed.kills = number(),
            "--seconds" => parsed.seconds = Some(number()),
            "--jobs" => parsed.jobs = usize::try_from(number()).unwrap().max(1),
            "--seed" => parsed.seed = number(),
            "--case" => parsed.case = Some(value.parse().unwrap()),
            "--round" => parsed.round = Some(number()),
            "--books" => books::KEPT.set(value.into()).unwrap(),
            _ => panic!(
                "what is {name}? --faults --kills N --seconds S --jobs J --seed N --case CASE --round N \
                 --books FOLDER"
            ),
        }
    }
    parsed
}

/// What came of all of it.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    /// Of all cases that there are, run or not, by all but their number.
    kinds: BTreeSet<String>,
    /// Cases whose fault struck, by all but their number: at which calls of all threads.
    struck: BTreeMap<String, Vec<u64>>,
    kills: BTreeMap<&'static str, u64>,
    /// Those whose session ended before.
    missed: u64,
    /// Payments that the streamers have acknowledged, of all that passed.
    ticks: u64,
}

fn main() -> ExitCode {
    let args = parse();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let counts = Mutex::new(Counts::default());
    if let Some(case) = args.case {
        one(case, &counts);
    }
    if let Some(seed) = args.round {
        kill_round(seed, kills::A_ROUND, &counts);
    }
    let start = Instant::now();
    let left = AtomicU64::new(args.kills);
    let round = AtomicU64::new(args.seed * 1_000_000);
    // Either mostly waits: for ticks, blocks, and a disk that is slow.
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.div_ceil(3) {
            scope.spawn(|| {
                let _inside = runtime.enter();
                kill_rounds(&left, &round, &counts);
            });
        }
        if args.faults {
            faults(&args, start, &counts);
            println!("faults: {:.0} s", start.elapsed().as_secs_f64());
        }
    });
    println!("in all: {:.0} s", start.elapsed().as_secs_f64());
    let mut counts = counts.into_inner().unwrap();
    if args.faults {
        let (struck, kinds) = (&counts.struck, &counts.kinds);
        println!("{} of {} kinds struck", struck.len(), kinds.len());
        let never = never_struck(kinds, struck);
        if !never.is_empty() {
            println!("FAILED: never struck, for want of seconds or for good: {never:?}");
            counts.failed += 1;
        }
    }
    tell(&counts)
}

/// Each way to pay, side, file, fault and call that a kind has, and none that struck.
fn never_struck<'a>(
    kinds: &'a BTreeSet<String>,
    struck: &BTreeMap<String, Vec<u64>>,
) -> BTreeSet<&'a str> {
    let parts = struck.keys().flat_map(|kind| kind.split(' '));
    let met: BTreeSet<&str> = parts.collect();
    let parts = kinds.iter().flat_map(|kind| kind.split(' '));
    parts.filter(|part| !met.contains(part)).collect()
}

/// All of them, or as many as fit into the seconds that are given.
fn faults(args: &Args, start: Instant, counts: &Mutex<Counts>) {
    let until = args
        .seconds
        .map(|seconds| start + Duration::from_secs(seconds));
    let cases = all_cases(args);
    println!("{} cases", cases.len());
    counts.lock().unwrap().kinds = cases.iter().map(Case::kind).collect();
    let next = AtomicUsize::new(0);
    let handle = Handle::current();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                let _inside = handle.enter();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ends = Instant::now() + case.longest();
                    if until.is_none_or(|until| ends < until) {
                        one(*case, counts);
                    }
                }
            });
        }
    });
}

fn tell(counts: &Counts) -> ExitCode {
    for (what, calls) in &counts.struck {
        let at: BTreeSet<String> = calls.iter().map(|call| format!("{call:>5}")).collect();
        let at: Vec<&str> = at.iter().map(|call| call.trim()).collect();
        println!("{what:<40} {:>6}, at {}", calls.len(), at.join(" "));
    }
    for (what, count) in &counts.kills {
        println!("{:<40} {count:>6}", format!("SIGKILL {what}"));
    }
    if counts.missed > 0 {
        println!(
            "{} more had no fault: the session was over before",
            counts.missed
        );
    }
    laps::tell();
    println!(
        "{} passed, {} failed, {} ticks acknowledged",
        counts.passed, counts.failed, counts.ticks
    );
    ExitCode::from(u8::from(counts.failed > 0 || counts.passed == 0))
}

fn one(case: Case, counts: &Mutex<Counts>) {
    let ended = laps::timed("a fault in all", || case.run());
    let mut counts = counts.lock().unwrap();
    match ended {
        Ok((struck, ticks)) => {
            counts.ticks += ticks;
            let Struck::At(call) = struck else {
                counts.missed += 1;
                return;
            };
            counts.passed += 1;
            counts.struck.entry(case.kind()).or_default().push(call);
        }
        Err(error) => {
            counts.failed += 1;
            println!("FAILED {case}\n{error}");
        }
    }
}

/// Each session without a fault first, to know how often its programs write; every kind of case before
/// the second of any.
fn all_cases(args: &Args) -> Vec<Case> {
    let mut dice = Dice::new(args.seed);
    let mut kinds: Vec<Vec<Case>> = Vec::new();
    let counted = case::counts(args.jobs);
    for (way, side, file, syncs, writes) in &counted {
        let (way, side, file) = (*way, *side, *file);
        // Each combination of way and side has its share of a fault's writes of the file.
        let sharing = counted.iter().filter(|other| other.2 == file).count();
        println!(
            "{} {} {}: {} of {} fdatasync, {} of {} pwrite64 can be struck",
            way.name(),
            side.name(),
            file.name(),
            syncs.most,
            syncs.all,
            writes.most,
            writes.all
        );
        for fault in case::Fault::ALL {
            let case = |call, at| Case {
                way,
                side,
                file,
                fault,
                call,
                at,
            };
            kinds.push(
                (1..=syncs.most)
                    .map(|at| case(case::Call::Sync, at))
                    .collect(),
            );
            let mut chosen: Vec<u64> = (1..=writes.most).collect();
            dice.shuffle(&mut chosen);
            chosen.truncate(WRITES.div_ceil(sharing));
            let writes = chosen.into_iter();
            kinds.push(writes.map(|at| case(case::Call::Write, at)).collect());
        }
    }
    for kind in &mut kinds {
        dice.shuffle(kind);
    }
    let most = kinds.iter().map(Vec::len).max().unwrap_or_default();
    let rounds = (0..most).map(|at| {
        let mut round: Vec<Case> = kinds
            .iter()
            .filter_map(|kind| kind.get(at).copied())
            .collect();
        dice.shuffle(&mut round);
        // What takes longest is begun first, so that the end waits for none of it alone.
        round.sort_by_key(|case| Reverse(case.longest()));
        round
    });
    rounds.flatten().collect()
}

fn kill_rounds(left: &AtomicU64, round: &AtomicU64, counts: &Mutex<Counts>) {
    loop {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left > 0).then(|| left.saturating_sub(kills::A_ROUND))
        });
        let Ok(before) = taken else {
            return;
        };
        let seed = round.fetch_add(1, Ordering::Relaxed);
        kill_round(seed, before.min(kills::A_ROUND), counts);
    }
}

fn kill_round(seed: u64, kills: u64, counts: &Mutex<Counts>) {
    let ended = laps::timed("a round of kills in all", || kills::round(seed, kills));
    let mut counts = counts.lock().unwrap();
    match ended {
        Ok((killed, ticks)) => {
            counts.passed += 1;
            counts.ticks += ticks;
            for what in killed {
                *counts.kills.entry(what).or_default() += 1;
            }
        }
        Err(error) => {
            counts.failed += 1;
            println!("FAILED kills of seed {seed}\n{error}");
        }
    }
}
