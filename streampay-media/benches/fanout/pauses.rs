//! How long after a viewer's word the last packet still comes, and the first one comes again: through
//! both sessions, the gate and real sockets.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use streampay_core::{
    driver::{Connected, Ports, SessionTask},
    meter::Reading,
    session::Command,
};
use streampay_media::{
    peer::{PeerConfig, ViewerPeer},
    whep::Client,
};

use crate::{Sender, ours, view};

/// Pauses of so many milliseconds: made up for, made longer, replayed (spec: ADR 15).
const PAUSES_MS: [u64; 3] = [100, 300, 600];

/// In milliseconds, one for each pause.
#[derive(Default)]
struct Times {
    last_packet: Vec<f64>,
    /// By the length of the pause.
    first_packet: [Vec<f64>; PAUSES_MS.len()],
}

pub(crate) async fn measure(pauses: usize) {
    let url = ours::serve(Sender::Session).await;
    let config = PeerConfig::loopback();
    let connecting = ViewerPeer::connect(&Client, &url, &config, Reading::default());
    let stream = connecting.await.unwrap();
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let (mut packets, noted) = (stream.packets, arrivals.clone());
    tokio::spawn(async move {
        while packets.recv().await.is_some() {
            noted.lock().unwrap().push(Instant::now());
        }
    });
    let (ports, mut user) = Ports::pair();
    tokio::spawn(async move { while user.events.recv().await.is_some() {} });
    let node = ours::node(|effect, mint| mint.run(effect)).await;
    let mut task = SessionTask::new(node, view::payer(), ports);
    let (link, usage) = (stream.link, stream.reading);
    let session = tokio::spawn(async move { task.run(Some(Connected { link, usage })).await });
    let taken = || std::mem::take(&mut *arrivals.lock().unwrap());
    while taken().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut times = Times::default();
    for (at, (length, pause_ms)) in (0..pauses).zip(PAUSES_MS.iter().enumerate().cycle()) {
        // So that pauses fall everywhere between two pictures.
        let run = Duration::from_millis(300 + u64::try_from(at).unwrap() * 7 % 40);
        tokio::time::sleep(run).await;
        taken();
        let paused = Instant::now();
        let pause = Command::Pause;
        user.commands.send(pause).await.unwrap();
        tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
        let last = taken().last().map_or(Duration::ZERO, |last| *last - paused);
        times.last_packet.push(last.as_secs_f64() * 1000.0);
        let resumed = Instant::now();
        user.commands.send(Command::Resume).await.unwrap();
        let first = loop {
            if let Some(first) = taken().first() {
                break *first - resumed;
            }
            assert!(!session.is_finished(), "the session has ended");
            assert!(resumed.elapsed() < Duration::from_secs(10), "nothing came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        times.first_packet[length].push(first.as_secs_f64() * 1000.0);
    }
    println!("| {pauses} pauses, ms | median | p90 | most |\n|---|---|---|---|");
    show("pause to the last packet", times.last_packet);
    for (pause_ms, first_packet) in PAUSES_MS.iter().zip(times.first_packet) {
        let name = format!("resumption after {pause_ms} ms to the first packet");
        show(&name, first_packet);
    }
}

fn show(name: &str, mut times: Vec<f64>) {
    if times.is_empty() {
        return;
    }
    times.sort_by(f64::total_cmp);
    let nth = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!(
        "| {name} | {:.1} | {:.1} | {:.1} |",
        nth(50),
        nth(90),
        nth(100)
    );
}
