//! Many of everything on real sockets: pauses that lose nothing, viewers that come and go.

use std::time::Duration;

use streampay_core::meter::{Grant, PauseReason, Reading};
use streampay_media::{
    packet::{Codec, PacketCount},
    peer::{PeerConfig, StreamerPeer, ViewerPeer},
    source::Source,
    whep::Client,
};
use tokio::sync::watch;

use crate::{
    embed::only,
    rig::{Rig, asset, at_most_tasks, open, settled, tasks, until},
    whep::OFFER,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pauses_make_no_gap_and_ask_for_nothing_again() {
    let mut rig = Rig::new(4).await;
    let mut pair = rig.connect().await;
    let (grants, receiver) = watch::channel(Grant::default());
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    for cycle in 0..100_u64 {
        let before = reading.borrow().media_ms;
        grants.send_replace(open(1_000_000_000));
        until(&mut reading, |reading| reading.media_ms > before + 40).await;
        grants.send_replace(Grant::Paused(PauseReason::ByPayer));
        let wait = match cycle % 25 {
            // Longer than the ring holds: 2 s of media, 0.5 s here.
            0 => 700,
            // One that the gate makes longer. Spec: ADR 15.
            12 => 300,
            _ => 20,
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        while pair.viewer.packets.try_recv().is_ok() {}
    }
    let received = settled(&mut pair.viewer.receiving, Duration::from_millis(300)).await;
    assert_eq!(received.gaps, PacketCount::default());
    assert_eq!(received.packets, *pair.streamer.sent().borrow());
    assert_eq!(pair.streamer.asked_again(), 0);
}

/// Resident memory in KiB and open descriptors.
#[cfg(target_os = "linux")]
fn resources() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let rss = line.unwrap().split_whitespace().nth(1).unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (rss.parse().unwrap(), descriptors)
}

/// The same once no more than `fds` descriptors are open, or after a while: closing takes a moment.
#[cfg(target_os = "linux")]
async fn at_rest(fds: usize) -> (u64, usize) {
    let until = tokio::time::Instant::now() + Duration::from_secs(15);
    let mut now = resources();
    let mut before = usize::MAX;
    while (now.1 > fds || now.1 != before) && tokio::time::Instant::now() < until {
        before = now.1;
        tokio::time::sleep(Duration::from_millis(500)).await;
        now = resources();
    }
    now
}

/// By itself, for others in the same process open descriptors too:
/// `cargo test -p streampay-media --test it -- --ignored joins`
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and counts what the whole process holds"]
async fn a_thousand_joins_and_leaves_keep_memory_and_descriptors_flat() {
    let clip = asset("clip.ivf");
    let mut rig = Rig::with(&clip, 1, |_| {}).await;
    let mut marks = Vec::new();
    for round in 0..=1000 {
        let mut pair = rig.connect().await;
        pair.place.paid();
        let (grants, receiver) = watch::channel(open(1_000_000));
        let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
        until(&mut reading, |reading| reading.media_ms > 0).await;
        match round % 3 {
            0 => drop(grants),
            1 => drop(pair.link),
            _ => pair.viewer.connection.close().await.unwrap(),
        }
        drop(pair.streamer);
        if round % 200 == 0 {
            marks.push(at_rest(marks.first().map_or(usize::MAX, |(_, fds)| *fds)).await);
        }
    }
    println!("KiB resident and descriptors, every 200 joins: {marks:?}");
    let ((warm_rss, warm_fds), (rss, fds)) = (marks[1], marks[5]);
    assert!(fds <= warm_fds + 4, "{marks:?}");
    assert!(rss <= warm_rss + warm_rss / 20, "{marks:?}");
}

/// A caller that hangs up has its offer dropped wherever the answer is just then; the stack starts its
/// task and opens its socket before it has a connection to give.
#[tokio::test]
async fn offers_that_are_dropped_half_way_leave_no_task() {
    let (_writer, source) = Source::live(only(Codec::Vp8));
    let config = PeerConfig::loopback();
    let before = tasks();
    let mut answered = 0;
    for polls in (1..=4).cycle().take(200) {
        let mut answer = Box::pin(StreamerPeer::answer(OFFER, source.clone(), &config));
        for _ in 0..polls {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    answer.unwrap();
                    answered += 1;
                    break;
                }
                () = std::future::ready(()) => tokio::task::yield_now().await,
            }
        }
    }
    assert!(answered < 200, "they are to be dropped before");
    at_most_tasks(before).await;
}

#[tokio::test]
async fn two_peers_with_ipv6_alone_connect() {
    if let Err(error) = std::net::UdpSocket::bind("[::1]:0") {
        let must = std::env::var_os("STREAMPAY_MUST_IPV6").is_some();
        assert!(!must, "no IPv6: {error}");
        eprintln!("left out: this machine has no IPv6");
        return;
    }
    let six = PeerConfig {
        bind: vec!["[::1]:0".parse().unwrap()],
        ..PeerConfig::loopback()
    };
    let clip = asset("clip.ivf");
    let mut rig = Rig::with(&clip, 1, |config| config.peer = six.clone()).await;
    let connect = ViewerPeer::connect(&Client, &rig.url, &six, Reading::default());
    let (viewer, arrival) = tokio::join!(connect, rig.arrivals.recv());
    let (mut viewer, mut arrival) = (viewer.unwrap(), arrival.unwrap());
    let (_grants, receiver) = watch::channel(open(500));
    arrival
        .connection
        .start(receiver, Reading::default())
        .unwrap();
    until(&mut viewer.reading, |reading| reading.media_ms > 300).await;
}

#[tokio::test]
async fn viewers_take_one_port_each_of_those_that_are_open() {
    let ports = (30_000..60_000).step_by(2).find_map(|first| {
        let free = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
        (free(first) && free(first + 1)).then(|| first..=first + 1)
    });
    let ports = ports.unwrap();
    let range = streampay_media::peer::PortRange::new(ports.clone()).unwrap();
    let clip = asset("clip.ivf");
    let mut rig = Rig::with(&clip, 1, |config| {
        config.peer.ports = Some(range);
    })
    .await;
    let (first, second) = (rig.connect().await, rig.connect().await);
    let config = PeerConfig::loopback();
    let third = ViewerPeer::connect(&Client, &rig.url, &config, Reading::default()).await;
    assert!(third.is_err(), "there are two ports");
    drop(first.streamer);
    let mut again = first.viewer;
    assert_eq!(again.link.end.incoming.recv().await, None);
    let _third = rig.connect().await;
    drop(second);
}
