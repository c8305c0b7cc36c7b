//! One payee's process with thousands of sessions at a tick a second, each ack after its durable
//! commit; then the process is killed, and what it acknowledged is looked for on its disk.
//!
//! ```sh
//! cargo bench -p streampay-core --features driver,redb,tcp --bench load
//! cargo bench -p streampay-core --features driver,redb,tcp --bench load -- --sessions 500 --seconds 20
//! cargo bench -p streampay-core --features driver,redb,tcp --bench load -- --seconds 30 --plot docs/load.svg
//! cargo bench -p streampay-core --features driver,redb,tcp --bench load -- --seconds 0
//! ```
//!
//! Cargo runs a bench in its crate's folder, where `--plot docs/load.svg` is looked for.
//!
//! `--seconds 0`: each session has one payment and then rests; all that is measured is how long it takes to take
//! them up again after a kill. A machine that is too busy for 10 000 ticks a second can do that too.
//!
//! Real: signatures, links over TCP on the loopback, the driver, redb on the disk that `--dir` is on.
//! Not real: the payers, which after their handshakes send a tick a second whatever comes back and keep
//! nothing; the payment method, one hash chain for all. No media: with `--media MS` a counter behind each
//! gate moves so often, and each session writes its lease four to eight times a second too. Payers and
//! payee share the machine's cores.
//!
//! Memory a session is what the whole process grew by (VmRSS), over the sessions. So there is in it what no
//! session keeps: the pages of the store that redb has in its cache, up to its default of 1 GiB, which grow with
//! every commit; tasks of tokio for the session, its link and both directions of it, and the blocks of their
//! queues; the frames of TCP; the method's chain; what the allocator does not give back. The aim of 20 KiB that the
//! project holds itself to is a session's own, backend data apart: `cargo bench -p streampay-fuzz --bench memory`
//! counts that, byte for byte, and fails above it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement that fails should say where, and measures what the machine does"
)]

mod chain;
mod payee;
mod payers;
mod plot;
mod proc;

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use payers::Told;

/// What is aimed at: the 99th percentile of the time from a tick to its ack, in milliseconds; the
/// payee's memory a session, in KiB; the time to take up all sessions after a crash, in milliseconds.
const AIM_P99_MS: f64 = 100.0;
const AIM_KIB: f64 = 20.0;
const AIM_RECOVERY_MS: f64 = 1_000.0;
/// Sessions of the steps of a plot.
const STEPS: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
/// Syncs of the disk by itself.
const SYNCS: u32 = 200;

struct Args {
    sessions: usize,
    seconds: u64,
    dir: PathBuf,
    plot: Option<PathBuf>,
    /// How often media moves a meter, in milliseconds; 0 for never.
    media_ms: u64,
}

/// What a run came to.
pub(crate) struct Run {
    pub(crate) sessions: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) kib: f64,
    /// Every tick was acknowledged, and nothing of that is missing on the disk.
    whole: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--payee") => return payee::serve(Path::new(&args[1]), args[2].parse().unwrap()),
        Some("--recover") => return payee::recover(Path::new(&args[1])),
        _ => {}
    }
    let args = parse(&args);
    // Made now, so that a folder that is not there is told before the minutes that follow.
    let plot = args.plot.as_ref().map(|file| File::create(file).unwrap());
    let rate = sync_rate(&args.dir);
    println!("the disk by itself: {rate:.0} syncs of 4 KiB a second");
    let steps: &[usize] = match args.plot {
        Some(_) => &STEPS,
        None => &[args.sessions],
    };
    let steps = steps.iter().filter(|step| **step <= args.sessions);
    let runs: Vec<Run> = steps.map(|sessions| run(*sessions, &args)).collect();
    if let Some(mut file) = plot {
        file.write_all(plot::svg(&runs, rate).as_bytes()).unwrap();
        println!("plotted");
    }
    assert!(runs.iter().all(|run| run.whole), "something was lost");
}

fn parse(args: &[String]) -> Args {
    let mut parsed = Args {
        sessions: 10_000,
        seconds: 600,
        dir: std::env::temp_dir(),
        plot: None,
        media_ms: 0,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| panic!("{name} needs a value"))
        };
        match name.as_str() {
            "--sessions" => parsed.sessions = value().parse().unwrap(),
            "--seconds" => parsed.seconds = value().parse().unwrap(),
            "--dir" => parsed.dir = value().into(),
            "--plot" => parsed.plot = Some(value().into()),
            "--media" => parsed.media_ms = value().parse().unwrap(),
            // What cargo says to every bench.
            "--bench" => {}
            _ => panic!(
                "what is {name}? --sessions N --seconds S --dir DIR --plot FILE.svg --media MS"
            ),
        }
    }
    parsed
}

/// How often a second this disk can be asked to keep 4 KiB.
fn sync_rate(dir: &Path) -> f64 {
    let path = dir.join(format!("streampay-load-{}.sync", std::process::id()));
    let opened = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path);
    let mut file = opened.unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.sync_all().unwrap();
    let start = Instant::now();
    for _ in 0..SYNCS {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    let rate = f64::from(SYNCS) / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    rate
}

/// A payee's process, and what it says.
struct Payee {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Payee {
    fn start(role: &str, folder: &Path, media_ms: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.arg(role).arg(folder).arg(media_ms.to_string());
        let mut child = child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// Asks for its own figures.
    fn figures(&mut self) -> payee::Figures {
        writeln!(self.child.stdin.as_mut().unwrap(), "figures").unwrap();
        payee::Figures::read(&self.line())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn run(sessions: usize, args: &Args) -> Run {
    let folder = args
        .dir
        .join(format!("streampay-load-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut payee = Payee::start("--payee", &folder, args.media_ms);
    let said = payee.line();
    let (port, key) = said.split_once(' ').unwrap();
    let empty = payee.figures();
    let measured = Duration::from_secs(args.seconds);
    let mut middle = empty;
    let told = payers::pay(port.parse().unwrap(), key, sessions, measured, || {
        let figures = payee.figures();
        std::mem::replace(&mut middle, figures)
    });
    let full = payee.figures();
    payee.kill();
    let (recovery_ms, lost) = look_for(&folder, &told);
    std::fs::remove_dir_all(&folder).unwrap();
    if measured.is_zero() {
        println!("{sessions} sessions at rest:");
        println!("  {lost} have less on disk than was acknowledged");
        taken_up(recovery_ms);
        return Run {
            sessions,
            p50_ms: 0.0,
            p99_ms: 0.0,
            kib: 0.0,
            whole: lost == 0,
        };
    }
    report(
        sessions,
        measured,
        &told,
        [empty, middle, full],
        recovery_ms,
        lost,
    )
}

/// Restarts the payee on what its disk holds: the time that takes, and the sessions of which less is
/// there than was acknowledged.
fn look_for(folder: &Path, told: &Told) -> (f64, usize) {
    let mut payee = Payee::start("--recover", folder, 0);
    let recovery_ms = payee.line().parse().unwrap();
    let mut lost = told.acked.clone();
    while let Some(Ok(line)) = payee.lines.next() {
        let (session, credited) = line.split_once(' ').unwrap();
        let credited: u64 = credited.parse().unwrap();
        if lost.get(session).is_some_and(|acked| *acked <= credited) {
            lost.remove(session);
        }
    }
    payee.child.wait().unwrap();
    (recovery_ms, lost.len())
}

fn taken_up(recovery_ms: f64) {
    println!("  after a kill all are taken up in {recovery_ms:.0} ms (aim {AIM_RECOVERY_MS} ms)");
}

fn report(
    sessions: usize,
    measured: Duration,
    told: &Told,
    [empty, middle, full]: [payee::Figures; 3],
    recovery_ms: f64,
    lost: usize,
) -> Run {
    let seconds = measured.as_secs_f64();
    let at = |part: f64| proc::percentile(&told.waits, part);
    let run = Run {
        sessions,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        kib: (full.rss_kib - empty.rss_kib) / proc::float(sessions),
        whole: told.unanswered == 0 && lost == 0,
    };
    let acks = proc::float(told.waits.len());
    println!("{sessions} sessions, {seconds} s:");
    println!(
        "  acks: {:.0} a second, after {:.1} ms (50 %), {:.1} ms (90 %), {:.1} ms (99 %), {:.1} ms (99.9 %), \
         {:.1} ms (the last); aim {AIM_P99_MS} ms (99 %)",
        acks / seconds,
        run.p50_ms,
        at(0.9),
        run.p99_ms,
        at(0.999),
        at(1.0),
    );
    let commits = full.commits - middle.commits;
    println!(
        "  store: {:.0} commits a second of {:.0} changes each; {:.1} ms a commit",
        commits / seconds,
        (full.sets - middle.sets) / commits,
        (full.commit_ms - middle.commit_ms) / commits,
    );
    println!(
        "  payee: {:.2} cores, {:.1} KiB of memory a session (aim {AIM_KIB}); payers: {:.2} cores",
        (full.cpu_s - middle.cpu_s) / seconds,
        run.kib,
        told.cpu_s / seconds,
    );
    println!(
        "  lost: {} ticks were never acknowledged, {lost} sessions have less on disk than was",
        told.unanswered
    );
    taken_up(recovery_ms);
    run
}
