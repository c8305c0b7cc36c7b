//! Runs worlds and says what came of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use streampay_fuzz::simulate::{
    Kind, Options, PLAN, Planted, Point, PointReport, Report, SEEDS, Switches, options, points,
    replay_point, run_points, run_world, run_worlds, search,
};

const USAGE: &str = "\
simulate [--hours H] [--seed N] [--crypto fake|real] [--threads N]
simulate --seed N [--crypto fake|real] [--transcript]
simulate --planted NAME|all [--threads N]
simulate --crash-points N [--threads N]
simulate --crash-points N --point I
simulate --crash-points N --planted NAME

--hours H       session-hours with at least 300 ticks and 60 faults (default 100)
--seed N        with --hours the first seed (default 1), for a long run in pieces; without, the
                one world that this seed makes; --transcript prints all that happens in it
--planted NAME  looks for a planted bug with the invariant that must find it; all: for all
--crash-points N  worlds in which a process dies at each output and at operations of its disk, and
                in which one dies twice: the first N points; --point I prints all that happens at one";

/// Each kind happens at least so often in a run of [`USUAL`] hours, and each of those that are rare in
/// one of [`LARGE`]. In a shorter one half as often in proportion: chance weighs more there.
const EACH_MIN: u64 = 100;
/// From these hours on, all but what is rare.
const USUAL: u64 = 500;
/// From these hours on, everything.
const LARGE: u64 = 2_000;
/// What happens less than 150 times in 500 hours: a payment that is stolen is so by a mint's rare lie, some of
/// these are written off, and a file is torn in few of the worlds that are on a disk, which are one in eighty.
const RARE: [Kind; 3] = [Kind::Stolen, Kind::WrittenOff, Kind::TornOpened];
/// Said less than once in an hour, so little befalls them.
const RARE_MESSAGES: [&str; 2] = ["decline", "receipt_request"];
/// Hours of a run that is not told how many.
const HOURS: u64 = 100;

struct Args {
    hours: Option<u64>,
    seed: Option<u64>,
    fake_crypto: bool,
    planted: Option<String>,
    points: Option<u64>,
    point: Option<u64>,
    transcript: bool,
    threads: usize,
}

fn parse() -> Result<Args, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Args {
        hours: None,
        seed: None,
        fake_crypto: true,
        planted: None,
        points: None,
        point: None,
        transcript: false,
        threads: cores,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--transcript" {
            parsed.transcript = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = value
            .parse::<u64>()
            .map_err(|_| format!("{name}: no number: {value}"));
        match (name.as_str(), value.as_str()) {
            ("--hours", _) => parsed.hours = Some(number?),
            ("--seed", _) => parsed.seed = Some(number?),
            ("--threads", _) => parsed.threads = usize::try_from(number?).unwrap_or(1).max(1),
            ("--crypto", "fake" | "real") => parsed.fake_crypto = value == "fake",
            ("--crash-points", _) => parsed.points = Some(number?),
            ("--point", _) => parsed.point = Some(number?),
            ("--planted", _) => parsed.planted = Some(value),
            _ => return Err(format!("what is {name} {value}?")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (passed, failed) = match (&args.planted, args.seed, args.hours) {
        _ if args.points.is_some() => crash_points(&args, args.points.unwrap_or_default()),
        (Some(name), seed, _) => plant(&args, name, seed),
        (None, Some(seed), None) => replay(&args, seed),
        (None, seed, hours) => simulate(&args, seed.unwrap_or(1), hours.unwrap_or(HOURS)),
    };
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// One world.
fn replay(args: &Args, seed: u64) -> (u64, u64) {
    let options = Options {
        fake_crypto: args.fake_crypto,
        transcript: args.transcript,
        ..Options::default()
    };
    let report = run_world(seed, &options);
    report.transcript.iter().for_each(|line| println!("{line}"));
    print_violations(&report);
    let failed = u64::from(!report.violations.is_empty());
    (1 - failed, failed)
}

fn simulate(args: &Args, first: u64, hours: u64) -> (u64, u64) {
    let options = Options {
        fake_crypto: args.fake_crypto,
        ..Options::default()
    };
    let start = Instant::now();
    let report = run_worlds(first, u64::MAX / 2, args.threads, &options, |report| {
        report.hours >= hours || report.violations.len() >= 10
    });
    let seconds = start.elapsed().as_secs_f64();
    print_report(&report, seconds);
    print_violations(&report);
    let rare = seldom(&report, hours);
    let bad = u64::try_from(report.violations.len()).unwrap_or(u64::MAX);
    (report.worlds - bad, bad + rare)
}

/// The least of a kind in a run of so many hours, which is rare or not.
const fn least(hours: u64, is_rare: bool) -> u64 {
    let many = if is_rare { LARGE } else { USUAL };
    if hours >= many {
        EACH_MIN
    } else {
        hours * EACH_MIN / many / 2
    }
}

/// How many kinds, and kinds of what befalls messages, happened too seldom. Names them.
fn seldom(report: &Report, hours: u64) -> u64 {
    // Few worlds may all have their records in memory.
    let on_disk = report.hours_on_redb > 0;
    let mut found = Vec::new();
    for (kind, text, count) in report.counts.each() {
        let least = least(hours, RARE.contains(&kind));
        if count < least && (on_disk || !matches!(kind, Kind::TornOpened)) {
            found.push(format!("{text}: {count}, not {least}"));
        }
    }
    for (name, _, befell) in report.counts.messages.each() {
        let least = least(hours, RARE_MESSAGES.contains(&name));
        for (what, count) in ["lost", "repeated", "late"].iter().zip(befell) {
            if count < least {
                found.push(format!("{name} {what}: {count}, not {least}"));
            }
        }
    }
    found.iter().for_each(|line| println!("too seldom: {line}"));
    u64::try_from(found.len()).unwrap_or(u64::MAX)
}

fn print_report(report: &Report, seconds: f64) {
    for (kind, text, count) in report.counts.each() {
        let what = if kind.is_fault() { "fault" } else { "     " };
        println!("{what}  {text:<34} {count:>12}");
    }
    println!(
        "{:<18} {:>12} {:>10} {:>10} {:>10}",
        "message", "sent", "lost", "repeated", "late"
    );
    for (name, sent, [lost, repeated, late]) in report.counts.messages.each() {
        println!("{name:<18} {sent:>12} {lost:>10} {repeated:>10} {late:>10}");
    }
    let hours = u32::try_from(report.hours).unwrap_or(u32::MAX);
    println!(
        "{} worlds, {} session-hours ({} on redb), {} more had too few ticks or faults",
        report.worlds, report.hours, report.hours_on_redb, report.thin
    );
    println!("{} ticks, {} faults", report.ticks, report.faults);
    println!(
        "{seconds:.1} s, {:.1} session-hours a second",
        f64::from(hours) / seconds
    );
}

fn print_violations(report: &Report) {
    for (seed, violation) in &report.violations {
        println!("seed {seed}: {violation:?}");
    }
}

/// The first so many crash points, or one of them.
fn crash_points(args: &Args, count: u64) -> (u64, u64) {
    let start = Instant::now();
    let found = points(usize::try_from(count).unwrap_or(usize::MAX));
    let (points, worlds) = match found {
        Ok(found) => found,
        Err((seed, violation)) => {
            println!("seed {seed}, without a death: {violation:?}");
            return (0, 1);
        }
    };
    if let Some(number) = args.point {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(point) = points.get(number) else {
            println!("there are {} points", points.len());
            return (0, 1);
        };
        let (transcript, violation) = replay_point(point);
        transcript.iter().for_each(|line| println!("{line}"));
        println!("point {number}: {point:?}: {violation:?}");
        let failed = u64::from(violation.is_some());
        return (1 - failed, failed);
    }
    if let Some(name) = &args.planted {
        return plant_at_points(name, &points, args.threads);
    }
    let report = run_points(&points, None, args.threads);
    print_points(&report);
    let seconds = start.elapsed().as_secs_f64();
    let (twice, on_disk) = (report.twice, report.on_disk);
    println!(
        "crash points of {worlds} worlds, {on_disk} of them on simulated disks, {twice} with two deaths; {seconds:.1} s"
    );
    let rare = report.rare();
    if rare > 0 {
        println!("{rare} kinds of deaths happened too seldom");
    }
    let failed = u64::try_from(report.failed.len()).unwrap_or(u64::MAX);
    (report.passed, failed + rare)
}

/// How often each invariant finds a bug there; the bug's own one must.
fn plant_at_points(name: &str, points: &[Point], threads: usize) -> (u64, u64) {
    let Some((bug, invariant, _)) = PLAN.iter().find(|(bug, ..)| bug.name() == name) else {
        println!("no planted bug has the name {name}");
        return (0, 1);
    };
    let report = run_points(points, Some(*bug), threads);
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for violation in report
        .failed
        .iter()
        .filter_map(|(.., found)| found.as_ref())
    {
        *found.entry(violation.invariant()).or_default() += 1;
    }
    println!("{name} at {} points: {found:?}", points.len());
    let ok = u64::from(found.contains_key(invariant));
    (ok, 1 - ok)
}

fn print_points(report: &PointReport) {
    for (death, count) in &report.deaths {
        let who = if death.of_payer { "payer" } else { "payee" };
        println!("{who} died {:<20} {count:>8}", death.how.to_string());
    }
    for (number, point, violation) in report.failed.iter().take(20) {
        println!("point {number}: {point:?}: {violation:?}");
    }
}

/// Looks for planted bugs.
fn plant(args: &Args, name: &str, seed: Option<u64>) -> (u64, u64) {
    if let Some(seed) = seed {
        return replay_planted(args, name, seed);
    }
    let chosen = PLAN
        .iter()
        .filter(|(bug, ..)| name == "all" || bug.name() == name);
    let (mut passed, mut failed, mut most) = (0, 0, 0);
    for (bug, invariant, both) in chosen {
        let (ok, worlds) = find(*bug, invariant, *both, args.threads);
        (passed, failed) = (passed + u64::from(ok), failed + u64::from(!ok));
        most = most.max(worlds);
    }
    if passed + failed == 0 {
        println!("no planted bug has the name {name}");
        return (0, 1);
    }
    let clean = options(
        None,
        Switches {
            crashes: true,
            repeats: true,
        },
    );
    let report = run_worlds(1, most, args.threads, &clean, |_| false);
    print_violations(&report);
    let ok = report.violations.is_empty();
    println!(
        "{:<24} {:<14} {} seeds",
        "none planted",
        if ok { "nothing" } else { "FOUND" },
        report.worlds
    );
    (passed + u64::from(ok), failed + u64::from(!ok))
}

fn replay_planted(args: &Args, name: &str, seed: u64) -> (u64, u64) {
    let Some(bug) = Planted::ALL.iter().find(|bug| bug.name() == name) else {
        println!("no planted bug has the name {name}");
        return (0, 1);
    };
    let options = Options {
        transcript: args.transcript,
        ..options(
            Some(*bug),
            Switches {
                crashes: true,
                repeats: true,
            },
        )
    };
    let report = run_world(seed, &options);
    report.transcript.iter().for_each(|line| println!("{line}"));
    print_violations(&report);
    let found = u64::from(!report.violations.is_empty());
    (found, 1 - found)
}

/// True where the named invariant found the bug, and only where it must be found; and the seeds
/// that were looked at.
fn find(bug: Planted, invariant: &str, both: bool, threads: usize) -> (bool, u64) {
    let all = Switches {
        crashes: true,
        repeats: true,
    };
    let found = search(bug, invariant, all, SEEDS, threads);
    let mut ok = found.seed.is_some();
    let mut line = format!("{:<24} {invariant:<14} ", bug.name());
    match found.seed {
        Some(seed) => line += &format!("seed {seed}"),
        None => {
            line += &format!(
                "NOT FOUND in {} seeds; others: {:?}",
                found.worlds, found.others
            )
        }
    }
    if both && ok {
        let seeds = (found.worlds * 10).clamp(100, SEEDS);
        let calm = Switches {
            crashes: false,
            repeats: true,
        };
        let once = Switches {
            crashes: true,
            repeats: false,
        };
        for (name, switches) in [("crashes", calm), ("repeats", once)] {
            let found = search(bug, invariant, switches, seeds, threads);
            ok &= found.seed.is_none() && found.others.is_empty();
            match found.seed {
                None if !found.others.is_empty() => {
                    line += &format!("; WITHOUT {name} others: {:?}", found.others);
                }
                None => line += &format!("; without {name} not in {seeds}"),
                Some(seed) => line += &format!("; WITHOUT {name} seed {seed}"),
            }
        }
    }
    println!("{line}");
    (ok, found.worlds)
}
