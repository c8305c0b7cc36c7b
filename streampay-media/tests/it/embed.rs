//! An application that connects by itself, with its own tracks and its own data channel, and puts
//! the gate between.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use rtc::{data_channel::RTCDataChannelInit, rtp_transceiver::rtp_sender::RtpCodecKind};
use streampay_core::{
    meter::{Grant, Reading},
    session::Role,
};
use streampay_media::{
    embed::{self, GatedTracks},
    packet::{Codec, Kind},
    peer::PeerError,
    source::{Description, FileOptions, Source, Video},
};
use tokio::sync::{mpsc, watch};
use webrtc::{
    data_channel::DataChannel,
    media_stream::{
        track_local::TrackLocal,
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, Registry, SettingEngineBuilder, register_default_interceptors,
    },
};

use crate::{
    misbehaviour::camera,
    rig::{asset, open, settled, until},
};

/// What the application does with what its connection reports.
struct App {
    gathered: watch::Sender<bool>,
    channels: mpsc::Sender<Arc<dyn DataChannel>>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for App {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.channels.try_send(channel).unwrap();
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.try_send(track).unwrap();
    }
}

struct Own {
    connection: Arc<dyn PeerConnection>,
    gathered: watch::Receiver<bool>,
    channels: mpsc::Receiver<Arc<dyn DataChannel>>,
    tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
}

impl Own {
    async fn new() -> Self {
        let (gathered_to, gathered) = watch::channel(false);
        let (channels_to, channels) = mpsc::channel(4);
        let (tracks_to, tracks) = mpsc::channel(4);
        let app = App {
            gathered: gathered_to,
            channels: channels_to,
            tracks: tracks_to,
        };
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(embed::with_feedback(registry))
            .with_setting_engine(settings)
            .with_handler(Arc::new(app))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        Self {
            connection: Arc::new(connection),
            gathered,
            channels,
            tracks,
        }
    }

    /// Waits for the candidates, and gives the description with them.
    async fn described(&mut self) -> webrtc::peer_connection::RTCSessionDescription {
        self.gathered.wait_for(|done| *done).await.unwrap();
        self.connection.local_description().await.unwrap()
    }
}

/// A source of this alone.
fn only(codec: Codec) -> Description {
    let picture = Video {
        codec,
        size: None,
        frames_per_1000_s: None,
    };
    match codec.kind() {
        Kind::Video => Description {
            video: Some(picture),
            ..Description::NOTHING
        },
        Kind::Audio => Description {
            audio: Some(codec),
            ..Description::NOTHING
        },
    }
}

#[tokio::test]
async fn an_applications_own_tracks_carry_what_is_paid_and_its_channel_a_session() {
    const SSRC: u32 = 77;
    let (mut streamer, mut viewer) = (Own::new().await, Own::new().await);
    let init = RTCDataChannelInit {
        ordered: true,
        ..Default::default()
    };
    let channel = viewer.connection.create_data_channel("pay", Some(init));
    let channel = channel.await.unwrap();
    let kind = RtpCodecKind::Video;
    let transceiver = viewer.connection.add_transceiver_from_kind(kind, None);
    transceiver.await.unwrap();
    let offer = viewer.connection.create_offer(None).await.unwrap();
    viewer
        .connection
        .set_local_description(offer)
        .await
        .unwrap();
    let track = camera(SSRC);
    let as_track: Arc<dyn TrackLocal> = track;
    let sender = streamer.connection.add_track(as_track).await.unwrap();
    let offer = viewer.described().await;
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

    let opened = async { streamer.channels.recv().await.unwrap() };
    let (viewers, streamers) = tokio::join!(
        embed::link(&*viewer.connection, channel, Role::Payer),
        async { embed::link(&*streamer.connection, opened.await, Role::Payee).await },
    );
    let (mut viewers, mut streamers) = (viewers.unwrap(), streamers.unwrap());
    assert_eq!(viewers.identity, streamers.identity);
    assert_ne!(viewers.identity.payer, viewers.identity.payee);
    viewers.end.outgoing.send("hello".into()).await.unwrap();
    assert_eq!(streamers.end.incoming.recv().await.unwrap(), "hello");

    let speed = NonZeroU32::new(4).unwrap();
    let source = Source::open(&asset("clip.ivf"), FileOptions { speed }).await;
    for codec in [Codec::H264, Codec::Opus] {
        let (_writer, other) = Source::live(only(codec));
        let refused = GatedTracks::new(other).with(&*sender).await.unwrap_err();
        assert!(matches!(refused, PeerError::WrongTrack(_)), "{refused}");
    }
    let (_writer, nothing) = Source::awaited();
    let refused = GatedTracks::new(nothing).with(&*sender).await.unwrap_err();
    assert!(matches!(refused, PeerError::NotLive), "{refused}");
    let (grants, gate) = watch::channel(Grant::default());
    let gated = GatedTracks::new(source.unwrap()).with(&*sender).await;
    let delivery = gated.unwrap().start(gate, Reading::default());
    let (mut reading, mut sent) = (delivery.reading(), delivery.sent());
    let unpaid = settled(&mut sent, Duration::from_millis(400)).await;
    assert_eq!((unpaid.video, unpaid.audio), (0, 0));
    grants.send_replace(open(1_000));
    until(&mut reading, |reading| reading.media_ms > 900).await;
    let paid = settled(&mut sent, Duration::from_millis(400)).await;
    assert!(reading.borrow().media_ms <= 1_000 && paid.video > 0);
    let remote = viewer.tracks.recv().await.unwrap();
    let mut received = 0;
    while received < paid.video {
        if let Some(TrackRemoteEvent::OnRtpPacket(_)) = remote.poll().await {
            received += 1;
        }
    }
    // The session lets go of its link, and the connection stays the application's.
    drop(streamers);
    assert_eq!(viewers.end.incoming.recv().await, None);
    grants.send_replace(open(2_000));
    until(&mut reading, |reading| reading.media_ms > 1_900).await;
    drop(delivery);
    viewer.connection.close().await.unwrap();
    streamer.connection.close().await.unwrap();
}
