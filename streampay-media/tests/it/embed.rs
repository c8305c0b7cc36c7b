//! An application that connects by itself, with its own tracks and its own data channel, and puts
//! the gate between.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use rtc::{
    data_channel::RTCDataChannelInit,
    rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
};
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
        track_local::static_rtp::TrackLocalStaticRTP,
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, Registry, SettingEngineBuilder, register_default_interceptors,
    },
    rtp_transceiver::RtpSender,
};

use crate::{
    misbehaviour::{camera, camera_of},
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
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        Self::with(engine).await
    }

    async fn with(mut engine: MediaEngine) -> Self {
        let (gathered_to, gathered) = watch::channel(false);
        let (channels_to, channels) = mpsc::channel(4);
        let (tracks_to, tracks) = mpsc::channel(4);
        let app = App {
            gathered: gathered_to,
            channels: channels_to,
            tracks: tracks_to,
        };
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

    /// Offers, and takes the answer.
    async fn connects_to(&mut self, other: &mut Self) {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        let offer = self.described().await;
        let answering = &other.connection;
        answering.set_remote_description(offer).await.unwrap();
        let answer = answering.create_answer(None).await.unwrap();
        answering.set_local_description(answer).await.unwrap();
        let answer = other.described().await;
        self.connection
            .set_remote_description(answer)
            .await
            .unwrap();
    }

    /// What sends that track.
    async fn sends(&self, track: Arc<TrackLocalStaticRTP>) -> Arc<dyn RtpSender> {
        self.connection.add_track(track).await.unwrap()
    }

    async fn wants_a_picture(&self) {
        let kind = RtpCodecKind::Video;
        let transceiver = self.connection.add_transceiver_from_kind(kind, None);
        transceiver.await.unwrap();
    }
}

/// A source of this alone.
pub(crate) fn only(codec: Codec) -> Description {
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
    viewer.wants_a_picture().await;
    let sender = streamer.sends(camera(SSRC)).await;
    viewer.connects_to(&mut streamer).await;

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

/// The stack would drop what is written to such a track and say nothing, and it would be paid for.
#[tokio::test]
async fn a_track_that_cannot_carry_the_stream_is_refused_before_anything_is_counted() {
    let (mut streamer, mut viewer) = (Own::new().await, Own::new().await);
    viewer.wants_a_picture().await;
    viewer.wants_a_picture().await;
    let one = streamer.sends(camera(77)).await;
    let several = streamer.sends(camera_of(&[78, 79])).await;
    viewer.connects_to(&mut streamer).await;
    let refused = async |sender: &Arc<dyn RtpSender>, codec| {
        let (_writer, source) = Source::live(only(codec));
        GatedTracks::new(source).with(&**sender).await.err()
    };
    for codec in [Codec::H264, Codec::Opus] {
        let refused = refused(&one, codec).await;
        assert!(
            matches!(&refused, Some(PeerError::WrongTrack(of)) if *of == [codec]),
            "{refused:?}"
        );
    }
    let refused_both = refused(&several, Codec::Vp8).await;
    assert!(
        matches!(refused_both, Some(PeerError::WrongTrack(_))),
        "{refused_both:?}"
    );
    assert!(refused(&one, Codec::Vp8).await.is_none());
    let (_writer, nothing) = Source::awaited();
    let refused = GatedTracks::new(nothing).with(&*one).await.err();
    assert!(matches!(refused, Some(PeerError::NotLive)), "{refused:?}");
    viewer.connection.close().await.unwrap();
    streamer.connection.close().await.unwrap();
}

/// No key would be granted: the viewer would pay for what it cannot open.
#[cfg(feature = "e2ee")]
#[tokio::test]
async fn a_sealed_source_is_refused_before_anything_is_counted() {
    let (mut streamer, mut viewer) = (Own::new().await, Own::new().await);
    viewer.wants_a_picture().await;
    let sender = streamer.sends(camera(77)).await;
    viewer.connects_to(&mut streamer).await;
    for description in [Some(only(Codec::Vp8)), None] {
        let (_writer, sealed) = Source::sealed(description).unwrap();
        let refused = GatedTracks::new(sealed).with(&*sender).await.err();
        assert!(matches!(refused, Some(PeerError::Sealed)), "{refused:?}");
    }
    viewer.connection.close().await.unwrap();
    streamer.connection.close().await.unwrap();
}

#[tokio::test]
async fn a_viewer_that_does_not_take_the_codec_is_refused() {
    let mut engine = MediaEngine::default();
    let rtp_codec = RTCRtpCodec {
        mime_type: "video/H264".to_owned(),
        clock_rate: 90_000,
        sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
            .to_owned(),
        ..Default::default()
    };
    let h264 = RTCRtpCodecParameters {
        rtp_codec,
        payload_type: 125,
    };
    engine.register_codec(h264, RtpCodecKind::Video).unwrap();
    let (mut streamer, mut viewer) = (Own::new().await, Own::with(engine).await);
    viewer.wants_a_picture().await;
    let sender = streamer.sends(camera(77)).await;
    viewer.connects_to(&mut streamer).await;
    let (_writer, source) = Source::live(only(Codec::Vp8));
    let refused = GatedTracks::new(source).with(&*sender).await.err();
    assert!(
        matches!(&refused, Some(PeerError::NoCommonCodec(of)) if *of == [Codec::Vp8]),
        "{refused:?}"
    );
    viewer.connection.close().await.unwrap();
    streamer.connection.close().await.unwrap();
}
