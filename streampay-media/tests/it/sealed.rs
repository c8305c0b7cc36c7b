//! Sealed media: who pays plays it, who carries it does not.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use streampay_core::{
    meter::Reading,
    session::{Command, Event, SEALED_MEDIA},
    units::{Msat, SessionId, Unix, XOnlyKey},
    wire::Terms,
};
use streampay_media::{
    packet::Codec,
    peer::{PeerConfig, PeerError, ReceivedPacket, ViewerPeer},
    seal::{EPOCH_MS, EpochGrant, Keyring, OpenError, Opener},
    source::{FileOptions, Source},
    whep::Client,
};
use tokio::sync::{mpsc, watch};

use crate::{
    rig::{Pair, Rig, asset, open, settled, until},
    whep::ask,
};

const QUIET: Duration = Duration::from_millis(400);

async fn rig() -> Rig {
    let speed = NonZeroU32::new(2).unwrap();
    let options = FileOptions { speed };
    let source = Source::open_sealed(&asset("clip.ivf"), options).await;
    Rig::of(source.unwrap(), |_| {}).await
}

/// What a session says when it is bound.
fn bound() -> Event {
    Event::Bound {
        session: SessionId([0; 32]),
        terms: Terms {
            title: String::new(),
            tariff: Default::default(),
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
        features: SEALED_MEDIA,
    }
}

/// A viewer with a keyring, and its end at the streamer.
async fn sealable(rig: &mut Rig, keys: &Keyring) -> Pair {
    let config = PeerConfig::loopback();
    let connect =
        ViewerPeer::connect_sealable(&Client, &rig.url, &config, Reading::default(), keys);
    let (viewer, arrival) = tokio::join!(connect, rig.arrivals.recv());
    let arrival = arrival.unwrap();
    Pair {
        viewer: viewer.unwrap(),
        streamer: arrival.connection,
        link: arrival.link,
        place: arrival.place,
    }
}

/// Every picture of the clip.
fn clip() -> BTreeSet<Bytes> {
    let file = Bytes::from(std::fs::read(asset("clip.ivf")).unwrap());
    let mut rest = file.slice(32..);
    let mut frames = BTreeSet::new();
    while !rest.is_empty() {
        let length: [u8; 4] = rest[..4].try_into().unwrap();
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap();
        frames.insert(rest.slice(12..12 + length));
        rest = rest.slice(12 + length..);
    }
    frames
}

/// Passes keys on as acks do, and keeps them. Ends with the gate.
fn carry(mut session: mpsc::Receiver<Command>, to: Keyring) -> Arc<watch::Sender<Vec<EpochGrant>>> {
    let left = Arc::new(watch::Sender::new(Vec::new()));
    let kept = left.clone();
    tokio::spawn(async move {
        while let Some(Command::Grant(grant)) = session.recv().await {
            let read = EpochGrant::from_bytes(&grant.0).unwrap();
            kept.send_modify(|left| left.push(read));
            to.note(&Event::Grant(grant)).unwrap();
        }
    });
    left
}

/// Pictures and sounds put together from packets that came in order.
fn frames(packets: &[ReceivedPacket]) -> Vec<(Codec, Bytes)> {
    let mut frames = Vec::new();
    let mut picture = Vec::new();
    for packet in packets {
        match packet.codec {
            Codec::Opus => frames.push((Codec::Opus, packet.payload.clone())),
            codec => {
                picture.extend_from_slice(&packet.payload[1..]);
                if packet.marker {
                    frames.push((codec, std::mem::take(&mut picture).into()));
                }
            }
        }
    }
    frames
}

fn drain(packets: &mut mpsc::Receiver<ReceivedPacket>, into: &mut Vec<ReceivedPacket>) {
    while let Ok(packet) = packets.try_recv() {
        into.push(packet);
    }
}

#[tokio::test]
async fn a_viewer_that_pays_plays_what_was_sealed() {
    let mut rig = rig().await;
    let keys = Keyring::new();
    let mut pair = sealable(&mut rig, &keys).await;
    keys.note(&bound()).unwrap();
    let (grants, receiver) = watch::channel(open(1_000));
    assert!(matches!(
        pair.streamer.start(receiver.clone(), Reading::default()),
        Err(PeerError::Sealed)
    ));
    let (session, commands) = mpsc::channel(16);
    let left = carry(commands, keys);
    let started = pair
        .streamer
        .start_sealed(receiver, Reading::default(), session);
    let mut reading = started.unwrap();
    let clip = clip();
    let mut packets = Vec::new();
    for limit in [1_000, 2_000] {
        grants.send_replace(open(limit));
        until(&mut reading, |reading| {
            reading.media_ms > limit - 2 * EPOCH_MS
        })
        .await;
        let received = settled(&mut pair.viewer.receiving, QUIET).await;
        let (sent, got) = (*reading.borrow(), *pair.viewer.reading.borrow());
        assert!(sent.media_ms <= limit, "{sent:?}");
        assert!(
            sent.media_ms.abs_diff(got.media_ms) <= 2 * EPOCH_MS,
            "{sent:?} {got:?}"
        );
        assert_eq!(sent.bytes, got.bytes);
        assert_eq!((received.unopened, received.dropped), (0, 0));
        drain(&mut pair.viewer.packets, &mut packets);
    }
    // The keys that left are worth what was counted, and no more.
    let worth = u64::try_from(left.borrow().len()).unwrap() * EPOCH_MS;
    assert!(worth <= 2_000 && worth <= reading.borrow().media_ms);
    let frames = frames(&packets);
    let pictures = frames.iter().filter(|(codec, _)| *codec == Codec::Vp8);
    let pictures: Vec<_> = pictures.map(|(_, frame)| frame).collect();
    assert!(pictures.len() > 30 && frames.len() > pictures.len() + 50);
    assert!(pictures.iter().all(|frame| clip.contains(*frame)));
}

#[tokio::test]
async fn a_carrier_plays_nothing_and_a_payer_nothing_that_it_did_not_pay() {
    let mut rig = rig().await;
    // The carrier is sent everything. No key goes its way.
    let mut carrier = rig.connect().await;
    let (_wide, receiver) = watch::channel(open(1_000_000));
    let (session, mut kept_back) = mpsc::channel(16);
    let started = carrier
        .streamer
        .start_sealed(receiver, Reading::default(), session);
    let mut carried = started.unwrap();
    tokio::spawn(async move { while kept_back.recv().await.is_some() {} });
    // The payer pays for a second and stops.
    let keys = Keyring::new();
    let mut payer = sealable(&mut rig, &keys).await;
    keys.note(&bound()).unwrap();
    let (_paid, receiver) = watch::channel(open(1_000));
    let (session, commands) = mpsc::channel(16);
    let left = carry(commands, keys.clone());
    let started = payer
        .streamer
        .start_sealed(receiver, Reading::default(), session);
    let mut reading = started.unwrap();
    until(&mut reading, |reading| reading.media_ms > 900).await;
    let mut packets = Vec::new();
    let from = carried.borrow().media_ms;
    while carried.borrow_and_update().media_ms < from + 2_000 {
        carried.changed().await.unwrap();
        drain(&mut carrier.viewer.packets, &mut packets);
    }
    settled(&mut payer.viewer.receiving, QUIET).await;
    drain(&mut carrier.viewer.packets, &mut packets);
    assert_eq!(carrier.viewer.receiving.borrow().dropped, 0);
    let left = left.borrow().clone();
    assert!(u64::try_from(left.len()).unwrap() * EPOCH_MS <= 1_000);
    assert_eq!(keys.newest(), left.last().map(|grant| grant.epoch));

    // The carrier by itself: every frame is there, and none is one of the clip.
    let (clip, frames) = (clip(), frames(&packets));
    let pictures = frames.iter().filter(|(codec, _)| *codec == Codec::Vp8);
    assert!(pictures.clone().count() > 40);
    assert!(!pictures.into_iter().any(|(_, frame)| clip.contains(frame)));
    let mut alone = Opener::new();
    for (codec, frame) in &frames {
        let refused = alone.open(*codec, frame);
        assert!(matches!(refused, Err(OpenError::NoKey(_))), "{refused:?}");
    }

    // Both together: what was paid, and nothing of any other epoch.
    let mut together = Opener::new();
    for grant in &left {
        together.grant(grant).unwrap();
    }
    let mut opened = 0;
    let mut shut = BTreeSet::new();
    for (codec, frame) in &frames {
        match together.open(*codec, frame) {
            Ok(plain) => {
                assert!(*codec == Codec::Opus || clip.contains(&plain));
                opened += 1;
            }
            Err(OpenError::NoKey(epoch) | OpenError::TooLate(epoch)) => {
                assert!(!left.iter().any(|grant| grant.epoch == epoch));
                shut.insert(epoch);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(opened > 0);
    let next = left.last().unwrap().epoch + 1;
    assert!(shut.contains(&next), "{next} {shut:?}");
}

#[tokio::test]
async fn what_cannot_open_sealed_media_is_turned_away() {
    let rig = rig().await;
    // A player without a data channel.
    let offer = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
                 m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    let (status, text) = ask(&rig, "POST", "/whep", "application/sdp", offer).await;
    assert_eq!(status, 406, "{text}");
}
