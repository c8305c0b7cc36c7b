//! Random payments, pauses and deaths over the whole stack. Every packet says which milliseconds of
//! the source it covers, and the judge counts them where they arrive: without tolerance, for the
//! source brings media only when it is told to, and each step waits until all that was sent is there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rtc::{ice::mdns::MulticastDnsMode, rtp_transceiver::rtp_sender::RtpCodecKind};
use streampay_core::{
    meter::{Grant, PauseReason, Rate, Reading, Schedule, Tariff},
    units::Msat,
};
use streampay_media::{
    embed::GatedTracks,
    packet::{Codec, Kind, PacketCount},
    source::{Description, Source, SourceWriter, Video},
};
use tokio::sync::{mpsc, watch};
use webrtc::{
    media_stream::{
        track_local::TrackLocal,
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCPeerConnectionState, Registry, SettingEngineBuilder,
        register_default_interceptors,
    },
    runtime::mock::{MockRuntime, MockUDPNetwork, VirtualClock},
};

use crate::{
    misbehaviour::camera,
    rig::{Pair, Rig},
};

/// The same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

/// A source that is fed by hand, and says in each packet what that covers.
struct Media {
    writer: SourceWriter,
    ms: u64,
}

impl Media {
    const FRAME_MS: u64 = 40;

    fn new() -> (Self, Arc<Source>) {
        let description = Description {
            video: Some(Video {
                codec: Codec::Vp8,
                size: None,
                frames_per_1000_s: None,
            }),
            ..Description::NOTHING
        };
        let (writer, source) = Source::live(description);
        (Self { writer, ms: 0 }, source)
    }

    fn bring(&mut self, random: &mut Random) {
        let key = self.ms == 0 || random.below(2) == 0;
        for picture in 0..1 + random.below(30) {
            let key = key && picture == 0;
            let (from, to) = (self.ms, self.ms + Self::FRAME_MS);
            self.ms = to;
            let mut record = BytesMut::new();
            // As VP8 says it: the lowest bit of a key frame is 0.
            record.put_u8(u8::from(!key));
            record.put_bytes(0, 15);
            record.put_u64(from);
            record.put_u64(to);
            // One packet or two, each of whole records.
            let frame = record.repeat(if random.below(2) == 0 { 32 } else { 64 });
            let span = u32::try_from(Self::FRAME_MS * 90).unwrap();
            let frame = Bytes::from(frame);
            self.writer.write(Kind::Video, from * 90, span, key, &frame);
        }
    }
}

/// What media costs: 1 msat a millisecond or nothing, and 1 msat for so many bytes or nothing.
#[derive(Clone, Copy, Debug)]
struct Price {
    time: bool,
    bytes_per_msat: Option<u64>,
}

impl Default for Price {
    fn default() -> Self {
        Self {
            time: true,
            bytes_per_msat: None,
        }
    }
}

impl Price {
    /// Of time, of bytes, of both.
    fn any(random: &mut Random) -> Self {
        let per = 1 + random.below(60);
        match random.below(3) {
            0 => Self::default(),
            1 => Self {
                time: false,
                bytes_per_msat: Some(per),
            },
            _ => Self {
                time: true,
                bytes_per_msat: Some(per),
            },
        }
    }

    fn of(self, ms: u64, bytes: u64) -> u64 {
        let of_bytes = self.bytes_per_msat.map_or(0, |per| bytes.div_ceil(per));
        of_bytes + if self.time { ms } else { 0 }
    }

    fn open(self, limit: u64) -> Grant {
        let rate = |per| Rate::new(Msat::new(1).unwrap(), per).unwrap();
        let tariff = Tariff {
            time: self.time.then(|| rate(1)),
            bytes: self.bytes_per_msat.map(rate),
        };
        Grant::Open {
            limit: Msat::new(limit).unwrap(),
            schedule: Schedule {
                tariff,
                ..Schedule::default()
            },
        }
    }
}

/// What was granted, and what came.
#[derive(Debug, Default)]
struct Judge {
    price: Price,
    limit: u64,
    open: bool,
    covered: BTreeSet<u64>,
    bytes: u64,
    received: u64,
    unpaid: u64,
}

impl Judge {
    fn receive(&mut self, mut payload: Bytes) {
        self.bytes += u64::try_from(payload.len()).unwrap();
        // VP8's payload descriptor is one byte; then what covers what.
        payload.advance(1 + 16);
        let (from, to) = (payload.get_u64(), payload.get_u64());
        self.covered.extend(from..to);
        self.received += 1;
        let ms = u64::try_from(self.covered.len()).unwrap();
        let used = self.price.of(ms, self.bytes);
        self.unpaid += u64::from(!self.open || used > self.limit);
    }
}

/// A viewer that is connected, whichever way.
struct Ground {
    sent: watch::Receiver<PacketCount>,
    packets: mpsc::UnboundedReceiver<Bytes>,
    /// The streamer's end of the connection: dropped, it is gone.
    connection: Box<dyn std::any::Any>,
}

impl Ground {
    /// Waits until all that was sent has come, and nothing more is sent.
    async fn settle(&mut self, judge: &mut Judge) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            while let Ok(payload) = self.packets.try_recv() {
                judge.receive(payload);
            }
            // Longer than what is replayed rests between two batches.
            let all = self.sent.borrow().video == judge.received;
            quiet = if all { quiet + 1 } else { 0 };
            if quiet > 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("sent {:?}, {judge:?}", self.sent.borrow());
    }
}

/// Pays, pauses and resumes at random, then ends at random, and goes on streaming.
async fn play(
    random: &mut Random,
    mut media: Media,
    grants: watch::Sender<Grant>,
    mut ground: Ground,
) -> Judge {
    let mut judge = Judge {
        price: Price::any(random),
        ..Judge::default()
    };
    for _ in 0..3 + random.below(8) {
        match random.below(5) {
            0 => {
                judge.open = false;
                grants.send_replace(Grant::Paused(PauseReason::ByPayer));
            }
            1 => {
                judge.limit += random.below(1500);
                judge.open = true;
                grants.send_replace(judge.price.open(judge.limit));
            }
            2 => {
                judge.open = true;
                grants.send_replace(judge.price.open(judge.limit));
            }
            _ => media.bring(random),
        }
        ground.settle(&mut judge).await;
    }
    match random.below(3) {
        0 => drop(grants),
        1 => {
            grants.send_replace(Grant::Closed);
        }
        _ => ground.connection = Box::new(()),
    }
    ground.settle(&mut judge).await;
    judge.open = false;
    media.bring(random);
    ground.settle(&mut judge).await;
    judge
}

/// What many sequences come to.
#[derive(Debug, Default)]
struct Sums {
    sequences: u64,
    flowing: u64,
    received: u64,
    unpaid: u64,
}

/// Runs sequences, in threads that each have their own turn.
fn run(sequences: u64, threads: u64, one: impl AsyncFn(u64) -> Judge + Send + Sync) -> Sums {
    let run = |thread: u64| {
        // One thread: what the gate has passed shows before anybody looks.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut sums = Sums::default();
        for at in (thread..sequences).step_by(usize::try_from(threads).unwrap()) {
            let judge = runtime.block_on(one(at));
            sums.sequences += 1;
            sums.flowing += u64::from(judge.received > 0);
            sums.received += judge.received;
            sums.unpaid += judge.unpaid;
        }
        sums
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        threads.into_iter().fold(Sums::default(), |all, thread| {
            let sums = thread.join().unwrap();
            Sums {
                sequences: all.sequences + sums.sequences,
                flowing: all.flowing + sums.flowing,
                received: all.received + sums.received,
                unpaid: all.unpaid + sums.unpaid,
            }
        })
    })
}

/// One sequence between a streamer and a viewer of this crate, over real sockets.
async fn on_sockets(at: u64) -> Judge {
    let mut random = Random(at);
    let (media, source) = Media::new();
    let mut rig = Rig::of(source, |_| {}).await;
    let Pair {
        mut viewer,
        mut streamer,
        link,
        place,
    } = rig.connect().await;
    place.paid();
    let (grants, receiver) = watch::channel(Grant::default());
    let _reading = streamer.start(receiver, Reading::default()).unwrap();
    let (packets_to, packets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(packet) = viewer.packets.recv().await {
            let _ = packets_to.send(packet.payload);
        }
    });
    let ground = Ground {
        sent: streamer.sent(),
        packets,
        connection: Box::new((streamer, link)),
    };
    play(&mut random, media, grants, ground).await
}

#[test]
fn two_hundred_random_sequences_on_sockets_bring_nothing_unpaid() {
    let sums = run(200, 4, on_sockets);
    assert_eq!((sums.sequences, sums.unpaid), (200, 0));
    assert!(sums.flowing > 80 && sums.received > 2_000, "{sums:?}");
}

/// One half of a connection on the stack's mock runtime.
struct Half {
    connection: Arc<dyn PeerConnection>,
    clock: Arc<VirtualClock>,
    gathered: watch::Receiver<bool>,
    connected: watch::Receiver<bool>,
}

struct Handler {
    gathered: watch::Sender<bool>,
    connected: watch::Sender<bool>,
    packets: mpsc::UnboundedSender<Bytes>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.connected
            .send_replace(state == RTCPeerConnectionState::Connected);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let packets = self.packets.clone();
        // No task of tokio's: this thread is one of the mock runtime.
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .block_on(async {
                    while let Some(event) = track.poll().await {
                        if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                            let _ = packets.send(packet.payload);
                        }
                    }
                });
        });
    }
}

impl Half {
    async fn new(
        network: &Arc<MockUDPNetwork>,
        address: &str,
        packets: mpsc::UnboundedSender<Bytes>,
    ) -> Self {
        let (gathered_to, gathered) = watch::channel(false);
        let (connected_to, connected) = watch::channel(false);
        let handler = Handler {
            gathered: gathered_to,
            connected: connected_to,
            packets,
        };
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            // All of the network's sockets would have the port of mDNS.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let runtime = MockRuntime::with_network(network.clone());
        let clock = runtime.clock();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_runtime(Arc::new(runtime))
            .with_udp_addrs(vec![address.to_owned()])
            .build()
            .await
            .unwrap();
        Self {
            connection: Arc::new(connection),
            clock,
            gathered,
            connected,
        }
    }

    async fn described(&mut self) -> webrtc::peer_connection::RTCSessionDescription {
        self.gathered.wait_for(|done| *done).await.unwrap();
        self.connection.local_description().await.unwrap()
    }
}

/// Lets virtual time pass, ten times as fast as real time.
async fn pass(clocks: [Arc<VirtualClock>; 2]) {
    let mut every = tokio::time::interval(Duration::from_millis(1));
    loop {
        every.tick().await;
        for clock in &clocks {
            clock.advance(Duration::from_millis(10));
        }
    }
}

/// One sequence over the stack on its mock runtime: a clock and a network in memory.
async fn on_the_mock_runtime(at: u64) -> Judge {
    const SSRC: u32 = 77;
    let mut random = Random(at);
    let (media, source) = Media::new();
    let network = Arc::new(MockUDPNetwork::new());
    let (packets_to, packets) = mpsc::unbounded_channel();
    let nobody = mpsc::unbounded_channel().0;
    // Two addresses, so that their ports cannot be the same.
    let mut streamer = Half::new(&network, "127.0.0.1:0", nobody).await;
    let mut viewer = Half::new(&network, "127.0.0.2:0", packets_to).await;
    let time = tokio::spawn(pass([streamer.clock.clone(), viewer.clock.clone()]));
    let kind = RtpCodecKind::Video;
    let transceiver = viewer.connection.add_transceiver_from_kind(kind, None);
    transceiver.await.unwrap();
    let offer = viewer.connection.create_offer(None).await.unwrap();
    viewer
        .connection
        .set_local_description(offer)
        .await
        .unwrap();
    let offer = viewer.described().await;
    let track = camera(SSRC);
    let as_track: Arc<dyn TrackLocal> = track;
    let sender = streamer.connection.add_track(as_track).await.unwrap();
    streamer
        .connection
        .set_remote_description(offer)
        .await
        .unwrap();
    let answer = streamer.connection.create_answer(None).await.unwrap();
    streamer
        .connection
        .set_local_description(answer)
        .await
        .unwrap();
    let answer = streamer.described().await;
    viewer
        .connection
        .set_remote_description(answer)
        .await
        .unwrap();
    for half in [&mut streamer, &mut viewer] {
        half.connected
            .wait_for(|connected| *connected)
            .await
            .unwrap();
    }
    let (grants, receiver) = watch::channel(Grant::default());
    let gated = GatedTracks::new(source).with(&*sender).await.unwrap();
    let delivery = gated.start(receiver, Reading::default());
    let ground = Ground {
        sent: delivery.sent(),
        packets,
        connection: Box::new(delivery),
    };
    let judge = play(&mut random, media, grants, ground).await;
    streamer.connection.close().await.unwrap();
    viewer.connection.close().await.unwrap();
    time.abort();
    judge
}

#[test]
fn random_sequences_on_the_mock_runtime_bring_nothing_unpaid() {
    let sums = run(100, 4, on_the_mock_runtime);
    assert_eq!((sums.sequences, sums.unpaid), (100, 0));
    assert!(sums.flowing > 40 && sums.received > 1_000, "{sums:?}");
}

/// `cargo test -p streampay-media --test it -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "takes minutes; RUNS.md has what it said"]
fn ten_thousand_random_sequences_on_the_mock_runtime_bring_nothing_unpaid() {
    let sums = run(10_000, 8, on_the_mock_runtime);
    println!("{sums:?}");
    assert_eq!((sums.sequences, sums.unpaid), (10_000, 0));
    assert!(sums.flowing > 4_000 && sums.received > 100_000, "{sums:?}");
}

#[test]
fn the_judge_counts_what_is_not_paid() {
    let mut judge = Judge {
        limit: 80,
        open: true,
        ..Judge::default()
    };
    let packet = |from: u64| {
        let mut payload = BytesMut::from(&[0x10; 17][..]);
        payload.put_u64(from);
        payload.put_u64(from + 40);
        payload.freeze()
    };
    for from in [0, 0, 40] {
        judge.receive(packet(from));
    }
    assert_eq!((judge.received, judge.unpaid), (3, 0));
    judge.receive(packet(80));
    assert_eq!(judge.unpaid, 1, "beyond the limit");
    judge.open = false;
    judge.receive(packet(0));
    assert_eq!(judge.unpaid, 2, "paused");
    // Packets of 33 bytes, 10 for 1 msat: 40 and 4, 40 and 7, 40 and 10.
    let mut judge = Judge {
        price: Price {
            time: true,
            bytes_per_msat: Some(10),
        },
        limit: 49,
        open: true,
        ..Judge::default()
    };
    for (unpaid, came) in [(0, 1), (0, 2), (1, 3)] {
        judge.receive(packet(0));
        assert_eq!((judge.unpaid, judge.received), (unpaid, came));
    }
}
