//! Sealed media from the source through a gate to a viewer's meter.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use streampay_core::{
    meter::{Grant, PauseReason, Rate, Reading, Schedule, Tariff},
    session::{Command, Event, MediaGrant, SEALED_MEDIA},
    units::{Msat, SessionId, Unix, XOnlyKey},
    wire::Terms,
};
use tokio::sync::{mpsc, watch};

use super::{
    tests::{BOTH, picture, sound},
    *,
};
use crate::{
    gate::{Gate, Verdict},
    meter::ReceiveMeter,
    packet::{Codec, Kind, MediaPacket},
    peer::ReceivedPacket,
    source::Source,
};

pub(super) fn packets(source: &Source, from: u64) -> Vec<Arc<MediaPacket>> {
    source.ring().pulled(from, usize::MAX).expect("no lag")
}

/// Two seconds of picture at 25 frames a second and of sound.
fn two_seconds() -> (Arc<Source>, Vec<Arc<MediaPacket>>) {
    let (mut writer, source) = Source::sealed(Some(BOTH)).unwrap();
    for at_ms in (0..2_000_u64).step_by(20) {
        if at_ms % 40 == 0 {
            let frame = picture(at_ms == 0, 3000);
            writer.write(Kind::Video, at_ms * 90, 3600, at_ms == 0, &frame);
        }
        writer.write(Kind::Audio, at_ms * 48, 960, true, &sound(60));
    }
    let packets = packets(&source, 0);
    (source, packets)
}

fn open(limit: u64, bytes: Option<Rate>) -> Grant {
    Grant::Open {
        limit: Msat::new(limit).unwrap(),
        schedule: Schedule {
            tariff: Tariff {
                time: Some(Rate::new(Msat::new(1).unwrap(), 1).unwrap()),
                bytes,
            },
            ..Schedule::default()
        },
    }
}

struct Sealed {
    grants: watch::Sender<Grant>,
    gate: Gate,
    keys: mpsc::Receiver<Command>,
}

fn gate(source: &Source) -> Sealed {
    let (grants, receiver) = watch::channel(Grant::default());
    let (session, keys) = mpsc::channel(64);
    let release = Release::new(source.secret().unwrap().clone(), session);
    let gate = Gate::sealed(receiver, Reading::default(), release);
    Sealed { grants, gate, keys }
}

impl Sealed {
    /// What became of a packet, and the epochs whose keys left.
    async fn offer(&mut self, packet: &MediaPacket) -> (Verdict, Vec<EpochGrant>) {
        let verdict = self.gate.offer(packet);
        assert!(self.gate.hand_over().await);
        let mut left = Vec::new();
        while let Ok(command) = self.keys.try_recv() {
            let Command::Grant(MediaGrant(bytes)) = command else {
                panic!("{command:?}")
            };
            left.push(EpochGrant::from_bytes(&bytes).unwrap());
        }
        (verdict, left)
    }
}

#[tokio::test]
async fn a_key_leaves_with_the_first_packet_of_an_epoch_that_is_paid_to_its_end() {
    let (source, packets) = two_seconds();
    let mut sealed = gate(&source);
    // Credit for four epochs and 49 ms.
    sealed.grants.send_replace(open(249, None));
    let mut left = Vec::new();
    let mut at = packets.iter();
    let held = loop {
        let packet = at.next().unwrap();
        let (verdict, keys) = sealed.offer(packet).await;
        left.extend(keys.iter().map(|grant| grant.epoch));
        if verdict == Verdict::Hold {
            break packet;
        }
        assert_eq!(verdict, Verdict::Pass);
        assert!(left.contains(&epoch_of_us(packet.covers_us().0)));
        // An epoch whose key has left counts whole.
        let whole = u64::try_from(left.len()).unwrap() * EPOCH_MS;
        assert!(sealed.gate.reading().media_ms >= whole);
        assert!(sealed.gate.reading().media_ms <= 249);
    };
    assert_eq!(left, [0, 1, 2, 3]);
    assert_eq!(epoch_of_us(held.covers_us().0), 4);
    sealed.grants.send_replace(open(250, None));
    let (verdict, keys) = sealed.offer(held).await;
    assert_eq!((verdict, keys[0].epoch), (Verdict::Pass, 4));
}

#[tokio::test]
async fn a_gate_that_is_shut_or_asks_for_bytes_releases_nothing() {
    let (source, packets) = two_seconds();
    let byte = Rate::new(Msat::new(1).unwrap(), 1_000_000).ok();
    for grant in [
        Grant::Closed,
        Grant::Paused(PauseReason::ByPayer),
        open(0, None),
        open(49, None),
        open(1_000_000, byte),
    ] {
        let mut sealed = gate(&source);
        sealed.grants.send_replace(grant);
        let (verdict, keys) = sealed.offer(&packets[0]).await;
        assert_eq!((verdict, keys.len()), (Verdict::Hold, 0), "{grant:?}");
    }
    let mut sealed = gate(&source);
    sealed.grants.send_replace(open(1_000, None));
    drop(sealed.keys);
    assert_eq!(sealed.gate.offer(&packets[0]), Verdict::Pass);
    assert!(!sealed.gate.hand_over().await);
}

/// Packets as they come to a viewer.
fn received(packets: &[Arc<MediaPacket>]) -> Vec<ReceivedPacket> {
    let (mut video, mut audio) = (100, 65_530);
    let packet = |packet: &Arc<MediaPacket>| {
        let (codec, seq) = match packet.kind {
            Kind::Video => (Codec::Vp8, &mut video),
            Kind::Audio => (Codec::Opus, &mut audio),
        };
        *seq = u16::wrapping_add(*seq, 1);
        ReceivedPacket {
            codec,
            seq: *seq,
            stamp: u32::try_from(packet.ticks).unwrap(),
            marker: packet.marker,
            payload: packet.payload.clone(),
        }
    };
    packets.iter().map(packet).collect()
}

fn bound(features: u64) -> Event {
    Event::Bound {
        session: SessionId([1; 32]),
        terms: Terms {
            title: String::new(),
            tariff: Tariff::default(),
            tick: Msat::new(1).unwrap(),
            preview: Msat::ZERO,
            window: Msat::ZERO,
            tolerance_permille: 0,
            tolerance_ms: 0,
            live_ms: 0,
            methods: Vec::new(),
            join_fee: Msat::ZERO,
            resumable_s: 0,
            expires: Unix(0),
            payee: XOnlyKey([0; 32]),
        },
        resumed: false,
        features,
    }
}

fn grant_event(source: &Source, epoch: u64) -> Event {
    Event::Grant(source.secret().unwrap().grant(epoch).to_media_grant())
}

#[test]
fn frames_wait_for_their_keys_and_count_when_they_open() {
    let (source, packets) = two_seconds();
    let keys = Keyring::new();
    let mut intake = Intake::new(keys.clone());
    let mut meter = ReceiveMeter::new(Reading::default());
    let came = received(&packets);
    let mut went = Vec::new();
    // The first packets overtake what was agreed.
    for packet in &came[..5] {
        went.extend(intake.push(packet.clone(), &mut meter));
    }
    keys.note(&bound(SEALED_MEDIA)).unwrap();
    went.extend(intake.woken(&mut meter));
    for packet in &came[5..] {
        went.extend(intake.push(packet.clone(), &mut meter));
    }
    assert_eq!((went.len(), meter.reading()), (0, Reading::default()));
    for epoch in 0..20 {
        keys.note(&grant_event(&source, epoch)).unwrap();
        went.extend(intake.woken(&mut meter));
    }
    // A second of it, and the frames as they were.
    let counted = meter.reading().media_ms;
    assert!((1_000..=1_040).contains(&counted), "{counted}");
    let pictures = went.iter().filter(|packet| packet.codec == Codec::Vp8);
    let pictures: Vec<_> = pictures.map(|packet| packet.payload.slice(1..)).collect();
    assert_eq!(pictures.len(), 25);
    assert_eq!(pictures[0], picture(true, 3000));
    assert!(pictures[1..].iter().all(|it| *it == picture(false, 3000)));
    let sounds: Vec<_> = went.iter().filter(|it| it.codec == Codec::Opus).collect();
    assert_eq!(sounds.len(), 50);
    assert!(sounds.iter().all(|it| it.payload == sound(60)));
    let steps = sounds.windows(2).all(|it| it[1].seq == it[0].seq + 1);
    assert!(steps);
    assert_eq!(intake.unopened(), 0);
}

#[test]
fn a_new_connection_opens_what_the_last_one_opened() {
    let (source, packets) = two_seconds();
    let keys = Keyring::new();
    for _ in 0..2 {
        keys.begin();
        let mut intake = Intake::new(keys.clone());
        let mut meter = ReceiveMeter::new(Reading::default());
        let came = received(&packets);
        assert!(intake.push(came[0].clone(), &mut meter).is_empty());
        keys.note(&bound(SEALED_MEDIA)).unwrap();
        assert_eq!(keys.newest(), None);
        keys.note(&grant_event(&source, 0)).unwrap();
        assert!(intake.woken(&mut meter).is_empty());
        let went = came[1..].iter().cloned();
        let went: Vec<_> = went
            .flat_map(|packet| intake.push(packet, &mut meter))
            .collect();
        // 50 ms: two pictures and three sounds begin in it.
        assert_eq!((went.len(), intake.unopened()), (5, 0));
    }
}

#[test]
fn both_meters_agree_on_sealed_media() {
    let (source, packets) = two_seconds();
    let keys = Keyring::new();
    keys.note(&bound(SEALED_MEDIA)).unwrap();
    let mut intake = Intake::new(keys.clone());
    let mut meter = ReceiveMeter::new(Reading::default());
    let (grants, receiver) = watch::channel(open(1_000_000, None));
    let (session, _kept) = mpsc::channel(64);
    let release = Release::new(source.secret().unwrap().clone(), session);
    let mut gate = Gate::sealed(receiver, Reading::default(), release);
    for (sent, came) in packets.iter().zip(received(&packets)) {
        assert_eq!(gate.offer(sent), Verdict::Pass);
        let epoch = epoch_of_us(sent.covers_us().0);
        keys.note(&grant_event(&source, epoch)).unwrap();
        intake.push(came, &mut meter);
        let apart = gate.reading().media_ms.abs_diff(meter.reading().media_ms);
        assert!(apart <= EPOCH_MS + 40, "{apart}");
    }
    drop(grants);
    assert_eq!(gate.reading(), meter.reading());
}

#[test]
fn a_frame_that_does_not_open_does_not_count_and_is_no_loss() {
    let (source, packets) = two_seconds();
    let keys = Keyring::new();
    keys.note(&bound(SEALED_MEDIA)).unwrap();
    (0..40).for_each(|epoch| keys.note(&grant_event(&source, epoch)).unwrap());
    let mut intake = Intake::new(keys);
    let mut meter = ReceiveMeter::new(Reading::default());
    // Sound alone; of it one frame in ten is genuine.
    let came = received(&packets);
    let sound = came.into_iter().filter(|it| it.codec == Codec::Opus);
    for (at, mut packet) in sound.enumerate() {
        if at % 10 != 0 {
            let mut forged = packet.payload.to_vec();
            *forged.last_mut().unwrap() ^= 1;
            packet.payload = forged.into();
        }
        intake.push(packet, &mut meter);
    }
    assert_eq!(intake.unopened(), 90);
    assert_eq!(meter.reading().media_ms, 10 * 20);
    assert_eq!(meter.packets().audio, 10);
}

#[test]
fn media_that_is_not_sealed_passes_as_it_is() {
    let keys = Keyring::new();
    let mut intake = Intake::new(keys.clone());
    let mut meter = ReceiveMeter::new(Reading::default());
    let packet = ReceivedPacket {
        codec: Codec::H264,
        seq: 1,
        stamp: 0,
        marker: true,
        payload: Bytes::from_static(&[0x65, 1]),
    };
    assert!(intake.push(packet.clone(), &mut meter).is_empty());
    keys.note(&bound(0)).unwrap();
    // Something else may ride on acks where nothing is sealed.
    let other = Event::Grant(MediaGrant(Bytes::from_static(b"other")));
    keys.note(&other).unwrap();
    assert_eq!(intake.woken(&mut meter), [packet]);
    keys.note(&bound(SEALED_MEDIA)).unwrap();
    assert_eq!(keys.note(&other), Err(BadGrant));
}

proptest! {
    #[test]
    fn any_packets_leave_the_intake_bounded(
        came in proptest::collection::vec(
            (any::<bool>(), any::<u16>(), 0_u32..4, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..400,
        ),
        agreed in 0_usize..400,
    ) {
        let keys = Keyring::new();
        let mut intake = Intake::new(keys.clone());
        let mut meter = ReceiveMeter::new(Reading::default());
        for (at, (video, seq, stamp, marker, payload)) in came.into_iter().enumerate() {
            if at == agreed {
                keys.note(&bound(SEALED_MEDIA)).unwrap();
            }
            let codec = if video { Codec::Vp8 } else { Codec::Opus };
            let payload = payload.into();
            let packet = ReceivedPacket { codec, seq, stamp, marker, payload };
            prop_assert!(intake.push(packet, &mut meter).is_empty());
        }
        prop_assert_eq!(meter.reading(), Reading::default());
    }

    /// Whatever is paid, paused and skipped: the keys that left are worth no more than was paid.
    #[test]
    fn keys_are_never_worth_more_than_the_credit(
        steps in proptest::collection::vec((0_u64..120, any::<bool>(), 0_usize..40), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (source, packets) = two_seconds();
            let mut sealed = gate(&source);
            let (mut paid, mut at) = (0, 0);
            let mut left = std::collections::BTreeSet::new();
            for (more, pauses, skip) in steps {
                paid += more;
                sealed.grants.send_replace(open(paid, None));
                while let Some(packet) = packets.get(at) {
                    let (verdict, keys) = sealed.offer(packet).await;
                    left.extend(keys.into_iter().map(|grant| grant.epoch));
                    if verdict == Verdict::Hold {
                        break;
                    }
                    at += 1;
                    if pauses && at % 7 == 0 {
                        break;
                    }
                }
                let worth = u64::try_from(left.len()).unwrap() * EPOCH_MS;
                assert!(worth <= paid, "{worth} {paid}");
                assert!(worth <= sealed.gate.reading().media_ms);
                if pauses {
                    // Paused, and gone on with somewhere else.
                    sealed.grants.send_replace(Grant::Paused(PauseReason::ByPayer));
                    at += skip;
                }
            }
        });
    }
}
