//! Viewers that do not keep to the protocol, made with the stack itself.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rtc::{
    data_channel::RTCDataChannelInit,
    media_stream::MediaStreamTrack,
    rtp::{Packet, header::Header},
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use streampay_core::driver::LinkEnd;
use streampay_media::whep::{Arrival, Client};
use tokio::sync::watch;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use crate::rig::Rig;

struct Gathered(watch::Sender<bool>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Gathered {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.0.send_replace(state == RTCIceGatheringState::Complete);
    }
}

/// Connects and opens one channel.
pub(crate) async fn connect(
    rig: &Rig,
    label: &str,
    init: RTCDataChannelInit,
) -> (Arc<dyn PeerConnection>, Arc<dyn DataChannel>) {
    let peer = build().await;
    peer.0
        .add_transceiver_from_kind(RtpCodecKind::Video, None)
        .await
        .unwrap();
    open(rig, peer, label, init).await
}

pub(crate) type Built = (Arc<dyn PeerConnection>, watch::Receiver<bool>);

pub(crate) async fn build() -> Built {
    let (gathered, done) = watch::channel(false);
    (build_with(Gathered(gathered)).await, done)
}

pub(crate) async fn build_with(
    handler: impl PeerConnectionEventHandler + 'static,
) -> Arc<dyn PeerConnection> {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .build();
    let peer = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    Arc::new(peer)
}

pub(crate) async fn open(
    rig: &Rig,
    (peer, mut done): Built,
    label: &str,
    init: RTCDataChannelInit,
) -> (Arc<dyn PeerConnection>, Arc<dyn DataChannel>) {
    let channel = peer.create_data_channel(label, Some(init)).await.unwrap();
    let offer = peer.create_offer(None).await.unwrap();
    peer.set_local_description(offer).await.unwrap();
    done.wait_for(|done| *done).await.unwrap();
    let offer = peer.local_description().await.unwrap().sdp;
    let accepted = Client.post(&rig.url, &offer).await.unwrap();
    let answer = RTCSessionDescription::answer(accepted.answer).unwrap();
    peer.set_remote_description(answer).await.unwrap();
    while !matches!(channel.poll().await.unwrap(), DataChannelEvent::OnOpen) {}
    (peer, channel)
}

pub(crate) fn ours() -> RTCDataChannelInit {
    RTCDataChannelInit {
        ordered: true,
        protocol: "streampay/1".to_owned(),
        ..Default::default()
    }
}

/// Waits until the streamer has closed the channel.
pub(crate) async fn closed(channel: &dyn DataChannel) {
    let wait =
        async { while !matches!(channel.poll().await, None | Some(DataChannelEvent::OnClose)) {} };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap();
}

#[tokio::test]
async fn too_long_a_message_ends_the_connection() {
    let mut rig = Rig::new(1).await;
    let (peer, channel) = connect(&rig, "streampay", ours()).await;
    let Arrival {
        mut link,
        connection: _connection,
        ..
    } = rig.arrivals.recv().await.unwrap();
    channel
        .send(BytesMut::zeroed(LinkEnd::MESSAGE_MAX + 1))
        .await
        .unwrap();
    assert_eq!(link.end.incoming.recv().await, None);
    closed(&*channel).await;
    peer.close().await.unwrap();
}

/// As the notes of many purses are, at the end of a session.
#[tokio::test]
async fn much_that_is_said_at_once_is_held_up_until_it_is_read() {
    let mut rig = Rig::new(1).await;
    let (peer, channel) = connect(&rig, "streampay", ours()).await;
    let Arrival {
        mut link,
        connection: _connection,
        ..
    } = rig.arrivals.recv().await.unwrap();
    let said: Vec<_> = (0..800_u32).map(|number| number.to_be_bytes()).collect();
    for bytes in &said {
        channel.send(BytesMut::from(&bytes[..])).await.unwrap();
    }
    // No room is left, and more has come.
    let full = async {
        while link.end.incoming.len() < LinkEnd::QUEUE {
            tokio::task::yield_now().await;
        }
    };
    let full = tokio::time::timeout(Duration::from_secs(20), full).await;
    full.unwrap();
    for bytes in said {
        assert_eq!(link.end.incoming.recv().await.as_deref(), Some(&bytes[..]));
    }
    peer.close().await.unwrap();
}

#[tokio::test]
async fn a_flood_that_nobody_reads_ends_the_connection() {
    let mut rig = Rig::new(1).await;
    let (peer, channel) = connect(&rig, "streampay", ours()).await;
    let Arrival {
        mut link,
        connection: _connection,
        ..
    } = rig.arrivals.recv().await.unwrap();
    for _ in 0..=LinkEnd::QUEUE {
        channel.send(BytesMut::zeroed(10)).await.unwrap();
    }
    closed(&*channel).await;
    let mut kept = 0;
    while link.end.incoming.recv().await.is_some() {
        kept += 1;
    }
    assert_eq!(kept, LinkEnd::QUEUE);
    peer.close().await.unwrap();
}

#[tokio::test]
async fn a_channel_of_another_kind_is_no_viewer() {
    let unordered = RTCDataChannelInit {
        ordered: false,
        ..ours()
    };
    let other = RTCDataChannelInit {
        protocol: "streampay/2".to_owned(),
        ..ours()
    };
    for (label, init) in [
        ("chat", ours()),
        ("streampay", other),
        ("streampay", unordered),
    ] {
        let mut rig = Rig::new(1).await;
        let (peer, channel) = connect(&rig, label, init).await;
        closed(&*channel).await;
        assert!(rig.arrivals.try_recv().is_err(), "{label}");
        peer.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_channel_ends_the_connection() {
    for (label, bound) in [("chat", false), ("streampay", false), ("chat", true)] {
        let mut rig = Rig::new(1).await;
        let (peer, channel) = connect(&rig, "streampay", ours()).await;
        let Arrival {
            mut link,
            connection: _connection,
            place,
            ..
        } = rig.arrivals.recv().await.unwrap();
        if bound {
            place.bound();
        }
        let second = peer.create_data_channel(label, Some(ours())).await.unwrap();
        let closed_first = closed(&*channel);
        tokio::join!(closed_first, closed(&*second));
        assert_eq!(link.end.incoming.recv().await, None);
        peer.close().await.unwrap();
    }
}

#[tokio::test]
async fn channels_beside_the_one_are_closed_before_the_session_begins() {
    let mut rig = Rig::new(1).await;
    let (peer, channel) = connect(&rig, "streampay", ours()).await;
    // Nobody takes the arrival: the connection ends all the same, and keeps no message.
    let mut others = Vec::new();
    for at in 0..50 {
        let label = format!("other {at}");
        others.push(peer.create_data_channel(&label, None).await.unwrap());
    }
    closed(&*channel).await;
    let Arrival { mut link, .. } = rig.arrivals.recv().await.unwrap();
    assert_eq!(link.end.incoming.recv().await, None);
    peer.close().await.unwrap();
}

/// A picture track of our own, as a camera's.
pub(crate) fn camera(ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    camera_of(&[ssrc])
}

/// One that sends its picture in several encodings.
pub(crate) fn camera_of(ssrcs: &[u32]) -> Arc<TrackLocalStaticRTP> {
    let codec = RTCRtpCodec {
        mime_type: "video/VP8".to_owned(),
        clock_rate: 90_000,
        ..Default::default()
    };
    let encodings = ssrcs.iter().map(|ssrc| RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(*ssrc),
            rid: if ssrcs.len() > 1 {
                ssrc.to_string()
            } else {
                String::new()
            },
            ..Default::default()
        },
        codec: codec.clone(),
        ..Default::default()
    });
    let name = || "camera".to_owned();
    let kind = RtpCodecKind::Video;
    let track = MediaStreamTrack::new(name(), name(), name(), kind, encodings.collect());
    Arc::new(TrackLocalStaticRTP::new(track))
}

#[tokio::test]
async fn a_viewer_that_sends_media_is_disconnected() {
    let mut rig = Rig::new(1).await;
    let built = build().await;
    let track = camera(7);
    let as_track: Arc<dyn TrackLocal> = track.clone();
    let sender = built.0.add_track(as_track).await.unwrap();
    let (peer, channel) = open(&rig, built, "streampay", ours()).await;
    let parameters = sender.get_parameters().await.unwrap().rtp_parameters;
    let Arrival {
        mut link,
        connection: _connection,
        ..
    } = rig.arrivals.recv().await.unwrap();
    let flood = async {
        for seq in 0.. {
            let header = Header {
                version: 2,
                payload_type: parameters.codecs[0].payload_type,
                sequence_number: seq,
                ssrc: 7,
                ..Default::default()
            };
            let payload = Bytes::from_static(&[0x10, 0, 0, 0]);
            if track.write_rtp(Packet { header, payload }).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = closed(&*channel) => {}
        () = flood => {}
    }
    assert_eq!(link.end.incoming.recv().await, None);
    peer.close().await.unwrap();
}
