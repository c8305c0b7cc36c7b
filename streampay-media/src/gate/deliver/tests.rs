//! Random sequences of payments, pauses and deaths, counted where the packets arrive.

use std::{collections::BTreeSet, sync::Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use streampay_core::{
    meter::{Grant, PauseReason, Rate, Schedule, Tariff},
    units::Msat,
};

use super::*;
use crate::gate::track::Out;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The source brings so many pictures of so many packets, with sound between.
    Media {
        pictures: u8,
        packets: u8,
        key: bool,
    },
    /// So much more is paid, in msat: one a millisecond.
    Pay(u16),
    Pause,
    Resume,
    /// Virtual milliseconds.
    Wait(u16),
    /// The session ends, or is killed.
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u8..40, 1_u8..4, any::<bool>())
            .prop_map(|(pictures, packets, key)| Step::Media { pictures, packets, key }),
        4 => (0_u16..3000).prop_map(Step::Pay),
        2 => Just(Step::Pause),
        3 => Just(Step::Resume),
        3 => (0_u16..4000).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

/// What media costs: 1 msat a millisecond or nothing, and 1 msat for so many bytes or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
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
    fn of(self, ms: u64, bytes: u64) -> u64 {
        let of_bytes = self.bytes_per_msat.map_or(0, |per| bytes.div_ceil(per));
        of_bytes + if self.time { ms } else { 0 }
    }
}

/// Time, bytes, both.
fn price() -> impl Strategy<Value = Price> {
    prop_oneof![
        Just(Price::default()),
        (any::<bool>(), 1_u64..60).prop_map(|(time, per)| Price {
            time,
            bytes_per_msat: Some(per),
        }),
    ]
}

/// What the session has granted, as the receiver's judge knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Granted {
    pub(super) price: Price,
    pub(super) limit: u64,
    pub(super) open: bool,
    pub(super) dead: bool,
}

/// Counts at the receiver by its own rules: whole milliseconds in a set.
#[derive(Debug, Default)]
struct Judge {
    granted: Granted,
    covered: BTreeSet<u64>,
    bytes: u64,
    received: u64,
    unpaid: u64,
    /// The newest packet of the picture, by number in the source.
    picture: Option<u64>,
    undecodable: u64,
    next_seq: [Option<u16>; 2],
    gaps: u64,
}

impl Judge {
    fn receive(&mut self, packet: &rtc::rtp::Packet) {
        let mut payload = packet.payload.clone();
        self.bytes += u64::try_from(payload.len()).unwrap();
        let (video, key, number) = (payload.get_u8(), payload.get_u8(), payload.get_u64());
        let (from, to) = (payload.get_u64(), payload.get_u64());
        self.received += 1;
        self.covered.extend(from..to);
        let ms = u64::try_from(self.covered.len()).unwrap();
        let used = self.granted.price.of(ms, self.bytes);
        if self.granted.dead || !self.granted.open || used > self.granted.limit {
            self.unpaid += 1;
        }
        if video == 1 {
            if key == 0 && self.picture != number.checked_sub(1) {
                self.undecodable += 1;
            }
            self.picture = Some(number);
        }
        let next = &mut self.next_seq[usize::from(video)];
        let seq = packet.header.sequence_number;
        self.gaps += u64::from(next.is_some_and(|next| next != seq));
        *next = Some(seq.wrapping_add(1));
    }
}

/// A source that numbers its pictures' packets.
#[derive(Debug, Default)]
struct Media {
    ms: u64,
    number: u64,
}

impl Media {
    fn bring(&mut self, ring: &Ring, pictures: u8, packets: u8, key: bool) {
        for picture in 0..pictures {
            let (from, to) = (self.ms, self.ms + 40);
            for at in 0..packets {
                let key_start = at == 0 && ((key && picture == 0) || self.number == 0);
                let mut payload = BytesMut::new();
                payload.put_slice(&[1, u8::from(key_start)]);
                for number in [self.number, from, to] {
                    payload.put_u64(number);
                }
                self.number += 1;
                let marker = at + 1 == packets;
                ring.push([packet(Kind::Video, (from, to), marker, key_start, payload)]);
            }
            for half in [from, from + 20] {
                let mut payload = BytesMut::new();
                payload.put_slice(&[0, 1]);
                for number in [0, half, half + 20] {
                    payload.put_u64(number);
                }
                ring.push([packet(Kind::Audio, (half, half + 20), true, true, payload)]);
            }
            self.ms = to;
        }
    }
}

pub(super) fn packet(
    kind: Kind,
    ms: (u64, u64),
    marker: bool,
    key: bool,
    payload: BytesMut,
) -> MediaPacket {
    let span = (ms.1 - ms.0) * kind.ticks_per_ms();
    MediaPacket {
        index: 0,
        kind,
        ticks: ms.0 * kind.ticks_per_ms(),
        span: u32::try_from(span).unwrap(),
        marker,
        key_start: key,
        payload: Bytes::from(payload),
    }
}

pub(super) fn grant(granted: Granted) -> Grant {
    let rate = |per| Rate::new(Msat::new(1).unwrap(), per).unwrap();
    let price = granted.price;
    if granted.open {
        Grant::Open {
            limit: Msat::new(granted.limit).unwrap(),
            schedule: Schedule {
                tariff: Tariff {
                    time: price.time.then(|| rate(1)),
                    bytes: price.bytes_per_msat.map(rate),
                },
                ..Schedule::default()
            },
        }
    } else {
        Grant::Paused(PauseReason::ByPayer)
    }
}

/// Runs one sequence; gives what was received and whether some of it was paid.
async fn run(price: Price, steps: &[Step]) -> Judge {
    let ring = Arc::new(Ring::new());
    let judge = Arc::new(Mutex::new(Judge {
        granted: Granted {
            price,
            ..Granted::default()
        },
        ..Judge::default()
    }));
    let track = |ssrc| {
        let judge = judge.clone();
        let taken = move |packet: rtc::rtp::Packet| judge.lock().unwrap().receive(&packet);
        MeteredTrack::to(Out::Test(Arc::new(taken)), ssrc, 96)
    };
    let tracks = Tracks {
        video: Some(track(1)),
        audio: Some(track(2)),
    };
    let (grants, receiver) = watch::channel(Grant::default());
    let mut grants = Some(grants);
    let shown = Shown {
        reading: watch::Sender::default(),
        sent: watch::Sender::default(),
    };
    let reading = shown.reading.subscribe();
    let gate = Gate::new(receiver, Reading::default());
    let delivery = tokio::spawn(deliver(ring.clone(), gate, tracks, shown));
    let mut media = Media::default();
    for step in steps {
        let set = |change: &dyn Fn(&mut Granted)| {
            let mut judge = judge.lock().unwrap();
            change(&mut judge.granted);
            if let Some(grants) = &grants {
                grants.send_replace(grant(judge.granted));
            }
        };
        match *step {
            Step::Media {
                pictures,
                packets,
                key,
            } => media.bring(&ring, pictures, packets, key),
            Step::Pay(more) => set(&|granted| {
                granted.limit += u64::from(more);
                granted.open = true;
            }),
            Step::Pause => set(&|granted| granted.open = false),
            Step::Resume => set(&|granted| granted.open = true),
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms.into())).await,
            Step::Kill => {
                judge.lock().unwrap().granted.dead = true;
                grants = None;
            }
            Step::Close => {
                judge.lock().unwrap().granted.dead = true;
                if let Some(grants) = &grants {
                    grants.send_replace(Grant::Closed);
                }
                grants = None;
            }
        }
        // Whatever can run does.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = *reading.borrow();
    delivery.abort();
    let _ = delivery.await;
    let judge = Arc::into_inner(judge).unwrap().into_inner().unwrap();
    let received = Reading {
        media_ms: u64::try_from(judge.covered.len()).unwrap(),
        bytes: judge.bytes,
    };
    assert_eq!(used, received, "both count alike");
    judge
}

#[test]
fn in_random_sequences_no_packet_arrives_that_is_not_paid() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // The same sequences each time.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[6; 32]);
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: 10_000,
            failure_persistence: None,
            ..Config::default()
        },
        rng,
    );
    let (received, flowing) = (Mutex::new(0_u64), Mutex::new(0_u64));
    let steps = (price(), proptest::collection::vec(step(), 4..40));
    let ran = runner.run(&steps, |(price, steps)| {
        let judge = runtime.block_on(run(price, &steps));
        prop_assert_eq!(judge.unpaid, 0);
        prop_assert_eq!(judge.gaps, 0);
        prop_assert_eq!(judge.undecodable, 0);
        *received.lock().unwrap() += judge.received;
        *flowing.lock().unwrap() += u64::from(judge.received > 0);
        Ok(())
    });
    ran.unwrap();
    // Most of them do let something through.
    assert!(*flowing.lock().unwrap() > 5_000, "{flowing:?}");
    assert!(*received.lock().unwrap() > 500_000, "{received:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paid_viewer_that_has_to_wait_asks_for_a_key_frame_and_an_unpaid_one_does_not() {
    let wanted = |steps: Vec<Step>| async move {
        let ring = Arc::new(Ring::new());
        let tracks = Tracks {
            video: Some(MeteredTrack::to(Out::Test(Arc::new(|_| ())), 1, 96)),
            audio: None,
        };
        let (grants, receiver) = watch::channel(Grant::default());
        let shown = Shown {
            reading: watch::Sender::default(),
            sent: watch::Sender::default(),
        };
        let gate = Gate::new(receiver, Reading::default());
        let delivery = tokio::spawn(deliver(ring.clone(), gate, tracks, shown));
        let mut media = Media {
            ms: 0,
            // No key frame by itself.
            number: 1,
        };
        let mut granted = Granted::default();
        for step in steps {
            match step {
                Step::Pay(more) => {
                    granted.open = true;
                    granted.limit += u64::from(more);
                    grants.send_replace(grant(granted));
                }
                _ => media.bring(&ring, 3, 1, false),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        delivery.abort();
        let asked = tokio::time::timeout(Duration::from_secs(1), ring.key_wanted());
        asked.await.is_ok()
    };
    assert!(!wanted(vec![Step::Pause]).await);
    assert!(!wanted(vec![Step::Pay(0), Step::Pause]).await, "no credit");
    assert!(wanted(vec![Step::Pay(1000), Step::Pause]).await);
}

/// A viewer of the picture alone, whose gate is wide open.
fn watching(ring: &Arc<Ring>, video: Out) -> (watch::Sender<Grant>, tokio::task::JoinHandle<()>) {
    let tracks = Tracks {
        video: Some(MeteredTrack::to(video, 1, 96)),
        audio: None,
    };
    let (grants, receiver) = watch::channel(grant(Granted {
        limit: 1_000_000,
        open: true,
        ..Granted::default()
    }));
    let shown = Shown {
        reading: watch::Sender::default(),
        sent: watch::Sender::default(),
    };
    let gate = Gate::new(receiver, Reading::default());
    let delivery = tokio::spawn(deliver(ring.clone(), gate, tracks, shown));
    (grants, delivery)
}

/// What a full queue in its connection's driver is to a viewer's delivery.
#[tokio::test(start_paused = true)]
async fn a_viewer_whose_connection_takes_nothing_delays_no_other_and_goes_on_with_a_key_frame() {
    let ring = Arc::new(Ring::new());
    let judge = || {
        let granted = Granted {
            limit: u64::MAX,
            open: true,
            ..Granted::default()
        };
        Arc::new(Mutex::new(Judge {
            granted,
            ..Judge::default()
        }))
    };
    let taken = |judge: &Arc<Mutex<Judge>>| {
        let judge = judge.clone();
        let taken = move |packet: rtc::rtp::Packet| judge.lock().unwrap().receive(&packet);
        Arc::new(taken)
    };
    let (stuck, other) = (judge(), judge());
    let permits = Arc::new(tokio::sync::Semaphore::new(3));
    let (_stuck_grants, stuck_delivery) =
        watching(&ring, Out::Slow(permits.clone(), taken(&stuck)));
    let (_grants, delivery) = watching(&ring, Out::Test(taken(&other)));
    let mut media = Media::default();
    for picture in 0..250 {
        media.bring(&ring, 1, 2, picture % 25 == 0);
        tokio::time::sleep(Duration::from_millis(40)).await;
        // Each as it comes, all the time.
        assert_eq!(other.lock().unwrap().received, 2 * (picture + 1));
    }
    assert_eq!(stuck.lock().unwrap().received, 3);
    permits.add_permits(10_000);
    for picture in 0..50 {
        media.bring(&ring, 1, 2, picture % 25 == 0);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    stuck_delivery.abort();
    delivery.abort();
    let stuck = stuck.lock().unwrap();
    assert_eq!((stuck.undecodable, stuck.gaps, stuck.unpaid), (0, 0, 0));
    // The packet that it was at, then from the last key frame of the ring on.
    assert!(
        (4 + 2 * 50..=4 + 2 * 75).contains(&stuck.received),
        "{stuck:?}"
    );
    assert_eq!(other.lock().unwrap().received, 600);
}
