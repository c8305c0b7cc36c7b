//! What one viewer costs the sender: this crate's gate and meter, with and without sessions and
//! sealing, against the stack alone and against Janus.
//!
//! ```text
//! cargo bench -p streampay-media --features e2ee --bench fanout -- 1 8 32 128
//! cargo bench -p streampay-media --features e2ee --bench fanout -- \
//!     --senders bare,gate --rounds 5 --seconds 20 --plot docs/fanout.svg 8 128
//! cargo bench -p streampay-media --bench fanout -- --senders bare,short,apart,gate 8 32
//! cargo bench -p streampay-media --bench fanout -- --pauses 100
//! ```
//!
//! Each sender serves each number of viewers 1 Mbit/s for some seconds, in turns, `--rounds` times;
//! what is shown is the median. A sender is a process of its own, and so are the viewers, so that
//! each figure is that of the sender alone. Janus (Debian's package `janus`) is left out where it is
//! not installed. Figures are in RUNS.md.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a bench should say where it failed, and prints"
)]

mod bare;
mod janus;
mod ours;
mod pauses;
mod plot;
mod usage;
mod view;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;

use crate::janus::Janus;

/// 25 a second of these are 1 Mbit/s.
const FRAME: usize = 5000;
const FRAME_MS: u64 = 40;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Bare,
    /// The stack alone, each viewer's frames at a time of their own within the 40 ms of a frame.
    Apart,
    /// The stack alone, with no more interceptors than a connection of this crate that sends.
    Short,
    Gate,
    Session,
    Sealed,
    Janus,
}

impl Sender {
    const ALL: [Self; 7] = [
        Self::Bare,
        Self::Apart,
        Self::Short,
        Self::Gate,
        Self::Session,
        Self::Sealed,
        Self::Janus,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Apart => "apart",
            Self::Short => "short",
            Self::Gate => "gate",
            Self::Session => "session",
            Self::Sealed => "sealed",
            Self::Janus => "janus",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Bare => "stack alone",
            Self::Apart => "stack alone, each apart",
            Self::Short => "stack alone, short chain",
            Self::Gate => "gate and meter",
            Self::Session => "gate, meter, session",
            Self::Sealed => "gate, meter, sealed",
            Self::Janus => "Janus",
        }
    }

    fn of(word: &str) -> Self {
        let named = Self::ALL.into_iter().find(|it| it.word() == word);
        named.unwrap_or_else(|| panic!("no sender {word}"))
    }

    fn is_here(self) -> bool {
        match self {
            Self::Sealed => cfg!(feature = "e2ee"),
            Self::Janus => janus::installed(),
            Self::Bare | Self::Apart | Self::Short | Self::Gate | Self::Session => true,
        }
    }

    /// Those that are only measured where they are asked for show where time goes.
    const fn is_asked_for(self) -> bool {
        matches!(self, Self::Apart | Self::Short)
    }
}

struct Options {
    senders: Vec<Sender>,
    rounds: usize,
    seconds: u64,
    plot: Option<String>,
    counts: Vec<usize>,
}

impl Options {
    fn read(arguments: &[String]) -> Self {
        let mut options = Self {
            senders: Sender::ALL
                .into_iter()
                .filter(|it| !it.is_asked_for())
                .collect(),
            rounds: 3,
            seconds: 10,
            plot: None,
            counts: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap();
            match argument.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--senders" => options.senders = value().split(',').map(Sender::of).collect(),
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--seconds" => options.seconds = value().parse().unwrap(),
                "--plot" => options.plot = Some(value().clone()),
                count => options.counts.push(count.parse().unwrap()),
            }
        }
        if options.counts.is_empty() {
            options.counts = vec![1, 8];
        }
        options.senders.retain(|sender| sender.is_here());
        options
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--send", sender] => return runtime.block_on(send(Sender::of(sender))),
        ["--view", sender, url, viewers] => {
            let viewers = viewers.parse().unwrap();
            return runtime.block_on(view::all(Sender::of(sender), url, viewers));
        }
        ["--pauses", pauses, ..] => {
            return runtime.block_on(pauses::measure(pauses.parse().unwrap()));
        }
        _ => {}
    }
    let options = Options::read(&arguments);
    let points = runtime.block_on(measure_all(&options));
    print(&points);
    if let Some(path) = &options.plot {
        std::fs::write(path, plot::svg(&points)).unwrap();
    }
}

/// A frame that has the header of VP8; nobody decodes it.
pub(crate) fn frame(key: bool) -> Bytes {
    let mut frame = vec![0xa5; FRAME];
    frame[0] = u8::from(!key);
    Bytes::from(frame)
}

/// Its RTP payloads, and whether each is the last.
pub(crate) fn pieces(frame: &Bytes) -> Vec<(Bytes, bool)> {
    let count = frame.len().div_ceil(1179);
    let pieces = frame.chunks(frame.len().div_ceil(count)).enumerate();
    pieces
        .map(|(at, piece)| {
            let payload = [&[if at == 0 { 0x10 } else { 0 }], piece].concat();
            (payload.into(), at + 1 == count)
        })
        .collect()
}

pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("http://{address}/whep")
}

async fn send(sender: Sender) {
    let url = match sender {
        Sender::Bare | Sender::Apart | Sender::Short => bare::serve(sender).await,
        Sender::Janus => panic!("Janus is a program of its own"),
        ours => ours::serve(ours).await,
    };
    println!("{url}");
    // Until the other side has gone.
    wait_for_line().await;
}

/// What was measured: the median over the rounds, and the range.
pub(crate) struct Point {
    pub(crate) sender: Sender,
    pub(crate) viewers: usize,
    /// Percent of a core.
    pub(crate) cpu: [f64; 3],
    pub(crate) resident_mb: u64,
    packets: u64,
    missing: u64,
}

async fn measure_all(options: &Options) -> Vec<Point> {
    let mut points = Vec::new();
    for viewers in &options.counts {
        let mut rounds: Vec<Vec<Measured>> = options.senders.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            for (sender, rounds) in options.senders.iter().zip(&mut rounds) {
                let measured = measure(*sender, *viewers, options.seconds).await;
                eprintln!("{viewers} {}: {measured:?}", sender.word());
                rounds.push(measured);
            }
        }
        for (sender, rounds) in options.senders.iter().zip(rounds) {
            let mut cpu: Vec<f64> = rounds.iter().map(|it| it.cpu).collect();
            cpu.sort_by(f64::total_cmp);
            points.push(Point {
                sender: *sender,
                viewers: *viewers,
                cpu: [cpu[0], cpu[cpu.len() / 2], cpu[cpu.len() - 1]],
                resident_mb: rounds.iter().map(|it| it.resident_mb).max().unwrap_or(0),
                packets: rounds.iter().map(|it| it.packets).sum(),
                missing: rounds.iter().map(|it| it.missing).sum(),
            });
        }
    }
    points
}

#[derive(Debug)]
struct Measured {
    cpu: f64,
    resident_mb: u64,
    packets: u64,
    missing: u64,
}

async fn measure(sender: Sender, viewers: usize, seconds: u64) -> Measured {
    let (mut own, mut janus) = (None, None);
    let (url, pid) = if sender == Sender::Janus {
        let started = janus.insert(Janus::start().await);
        (started.url.clone(), started.pid())
    } else {
        let started = own.insert(Own::start(&["--send", sender.word()]));
        (started.line(""), started.child.id())
    };
    let mut watching = Own::start(&["--view", sender.word(), &url, &viewers.to_string()]);
    watching.line("ready");
    tokio::time::sleep(Duration::from_secs(2)).await;
    watching.say();
    watching.line("begun");
    let (before, began) = (usage::processor_ns(pid), std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = usage::processor_ns(pid) - before;
    let lasted = began.elapsed();
    watching.say();
    let counted = watching.line("packets");
    let mut counted = counted.split_whitespace().map(|it| it.parse().unwrap());
    let resident_mb = usage::resident_mb(pid);
    watching.end();
    if let Some(own) = own {
        own.end();
    }
    Measured {
        cpu: used as f64 / lasted.as_nanos() as f64 * 100.0,
        resident_mb,
        packets: counted.next().unwrap(),
        missing: counted.next().unwrap(),
    }
}

fn print(points: &[Point]) {
    println!(
        "| viewers | sender | CPU, % of a core (least to most) | % per viewer·Mbit/s | against the \
         stack alone | MB | packets | missing |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for point in points {
        let [least, median, most] = point.cpu;
        let same = |it: &&Point| it.viewers == point.viewers && it.sender == Sender::Bare;
        let against = points.iter().find(same).map(|bare| median / bare.cpu[1]);
        println!(
            "| {} | {} | {median:.2} ({least:.2} to {most:.2}) | {:.3} | {} | {} | {} | {} |",
            point.viewers,
            point.sender.title(),
            median / point.viewers as f64,
            against.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            point.resident_mb,
            point.packets,
            point.missing,
        );
    }
}

/// A process of this program in another part.
struct Own {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Own {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// What stands behind that word on the next line.
    fn line(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let rest = line.trim().strip_prefix(word);
        rest.unwrap_or_else(|| panic!("{word}: {line:?}"))
            .trim()
            .to_owned()
    }

    fn say(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    fn end(mut self) {
        self.say();
        self.child.wait().unwrap();
    }
}

pub(crate) async fn wait_for_line() {
    let read = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(read).await.unwrap().unwrap();
}
