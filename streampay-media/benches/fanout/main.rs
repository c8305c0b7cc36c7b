//! What one viewer costs the sender: this crate's gate and meter against the stack alone.
//!
//! ```text
//! cargo bench -p streampay-media --bench fanout -- 1 8 32 128 200
//! ```
//!
//! Each number of viewers is served 1 Mbit/s for ten seconds, once by each. The viewers are another
//! process, so that only the sender's processor time is counted. Figures are in RUNS.md.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a bench should say where it failed, and prints"
)]

mod bare;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use streampay_core::{
    meter::{Grant, Rate, Reading, Schedule, Tariff},
    units::Msat,
};
use streampay_media::{
    packet::{Codec, Kind},
    peer::{PeerConfig, ViewerPeer, ViewerStream},
    source::{Description, Source, SourceWriter, Video},
    whep::{Client, Server, ServerConfig},
};
use tokio::sync::watch;

const MEASURED: Duration = Duration::from_secs(10);
/// 25 a second of these are 1 Mbit/s.
const FRAME: usize = 5000;
const FRAME_MS: u64 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [mode, url, viewers] = &arguments[..]
        && mode == "--view"
    {
        return runtime.block_on(view(url, viewers.parse().unwrap()));
    }
    let counts = arguments.iter().filter_map(|it| it.parse().ok());
    let mut counts: Vec<usize> = counts.collect();
    if counts.is_empty() {
        counts = vec![1, 8];
    }
    println!(
        "| viewers | sender | CPU, % of a core | % per viewer·Mbit/s | MB | packets | missing |"
    );
    println!("|---|---|---|---|---|---|---|");
    for viewers in counts {
        for gated in [false, true] {
            runtime.block_on(measure(viewers, gated));
        }
    }
}

/// A frame that has the header of VP8; nobody decodes it.
pub(crate) fn frame(key: bool) -> Bytes {
    let mut frame = vec![0xa5; FRAME];
    if let Some(tag) = frame.first_mut() {
        *tag = u8::from(!key);
    }
    Bytes::from(frame)
}

async fn feed(mut writer: SourceWriter) {
    let mut pace = tokio::time::interval(Duration::from_millis(FRAME_MS));
    for number in 0_u64.. {
        pace.tick().await;
        let key = number.is_multiple_of(25);
        writer.write(Kind::Video, number * 3600, 3600, key, &frame(key));
    }
}

/// A streamer of this crate, with all gates open.
async fn ours() -> String {
    let description = Description {
        video: Some(Video {
            codec: Codec::Vp8,
            size: None,
            frames_per_1000_s: None,
        }),
        ..Description::NOTHING
    };
    let (writer, source): (_, Arc<Source>) = Source::live(description);
    tokio::spawn(feed(writer));
    let config = ServerConfig {
        unbound_per_address: 1000,
        unbound_in_all: 1000,
        offers_per_minute: u32::MAX,
        peer: PeerConfig::loopback(),
        ..ServerConfig::default()
    };
    let (server, mut arrivals) = Server::new(source, config);
    let url = serve(server.router()).await;
    tokio::spawn(async move {
        while let Some(mut viewer) = arrivals.recv().await {
            tokio::spawn(async move {
                viewer.place.paid();
                let (_grants, receiver) = watch::channel(wide_open());
                let started = viewer.connection.start(receiver, Reading::default());
                let _reading = started.unwrap();
                viewer.connection.closer().closed().await;
                // Until here: a session that is over takes its connection with it.
                drop(viewer.link);
            });
        }
    });
    url
}

fn wide_open() -> Grant {
    Grant::Open {
        limit: Msat::new(1_000_000_000_000).unwrap(),
        schedule: Schedule {
            tariff: Tariff {
                time: Rate::new(Msat::new(1).unwrap(), 1).ok(),
                bytes: Rate::new(Msat::new(1).unwrap(), 1000).ok(),
            },
            ..Schedule::default()
        },
    }
}

pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("http://{address}/whep")
}

async fn measure(viewers: usize, gated: bool) {
    let url = if gated {
        ours().await
    } else {
        bare::serve().await
    };
    let mut child = Viewers::start(&url, viewers);
    child.line("ready");
    tokio::time::sleep(Duration::from_secs(2)).await;
    child.say();
    child.line("begun");
    let before = processor_ticks();
    tokio::time::sleep(MEASURED).await;
    let used = processor_ticks() - before;
    child.say();
    let counted = child.line("packets");
    let hertz = 100.0;
    let share = used as f64 / hertz / MEASURED.as_secs_f64() * 100.0;
    println!(
        "| {viewers} | {} | {share:.1} | {:.3} | {} | {counted} |",
        if gated {
            "gate and meter"
        } else {
            "stack alone"
        },
        share / viewers as f64,
        resident_mb(),
    );
    child.end();
}

/// The process of all viewers.
struct Viewers {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Viewers {
    fn start(url: &str, viewers: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--view", url, &viewers.to_string()])
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

/// Connects all of them, then counts between two lines on stdin.
async fn view(url: &str, viewers: usize) {
    let config = PeerConfig {
        link_deadline: Duration::from_secs(60),
        ..PeerConfig::loopback()
    };
    let mut streams: Vec<ViewerStream> = Vec::new();
    while streams.len() < viewers {
        let connect = || ViewerPeer::connect(&Client, url, &config, Reading::default());
        // Four at a time.
        let four = tokio::join!(connect(), connect(), connect(), connect());
        for stream in [four.0, four.1, four.2, four.3] {
            if streams.len() < viewers {
                streams.push(stream.unwrap());
            }
        }
    }
    let count = |streams: &[ViewerStream]| {
        streams.iter().fold((0, 0), |sum, stream| {
            let receiving = *stream.receiving.borrow();
            (
                sum.0 + receiving.packets.video,
                sum.1 + receiving.gaps.video,
            )
        })
    };
    println!("ready");
    wait_for_line().await;
    let before = count(&streams);
    println!("begun");
    wait_for_line().await;
    let after = count(&streams);
    println!("packets {} | {}", after.0 - before.0, after.1 - before.1);
    wait_for_line().await;
}

async fn wait_for_line() {
    let read = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(read).await.unwrap().unwrap();
}

/// Hundredths of a second of processor time of this process, in user mode and in the kernel.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap_or("");
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
