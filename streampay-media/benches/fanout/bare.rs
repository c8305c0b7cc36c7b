//! The same fan-out by the stack alone: one task a viewer, no gate, no meter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use bytes::Bytes;
use rtc::{
    interceptor::{NackResponderBuilder, SenderReportBuilder, Slot},
    media_stream::MediaStreamTrack,
    rtp::{Packet, header::Header},
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use tokio::sync::{broadcast, watch};
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
        SettingEngineBuilder, register_default_interceptors,
    },
};

use crate::Sender;

/// A payload with its time stamp and whether it is the last of its frame.
type Piece = (Bytes, u32, bool);

#[derive(Clone)]
struct Bare {
    sender: Sender,
    pieces: broadcast::Sender<Piece>,
    viewers: Arc<AtomicU64>,
}

impl Bare {
    /// How long after it came the next viewer gets a frame.
    fn delay(&self) -> Duration {
        if self.sender != Sender::Apart {
            return Duration::ZERO;
        }
        // By the golden ratio: as far apart as can be, however many there are.
        let number = self.viewers.fetch_add(1, Ordering::Relaxed);
        let part = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Duration::from_micros((part * crate::FRAME_MS * 1000) >> 32)
    }
}

pub(crate) async fn serve(sender: Sender) -> String {
    let (pieces, _) = broadcast::channel(1024);
    tokio::spawn(feed(pieces.clone()));
    let bare = Bare {
        sender,
        pieces,
        viewers: Arc::default(),
    };
    let router = Router::new().route("/whep", post(answer)).with_state(bare);
    crate::serve(router).await
}

async fn feed(pieces: broadcast::Sender<Piece>) {
    let mut pace = tokio::time::interval(Duration::from_millis(crate::FRAME_MS));
    for number in 0_u32.. {
        pace.tick().await;
        let frame = crate::frame(number.is_multiple_of(25));
        for (payload, last) in crate::pieces(&frame) {
            let _ = pieces.send((payload, number.wrapping_mul(3600), last));
        }
    }
}

/// As this crate's connections have them: what is compared is the gate, not how often a connection
/// is asked whether it is alive.
const ICE_TIMEOUTS: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(1),
];

struct Handler {
    gathered: watch::Sender<bool>,
    connected: watch::Sender<bool>,
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
}

async fn answer(State(bare): State<Bare>, offer: String) -> impl IntoResponse {
    let (gathered, mut done) = watch::channel(false);
    let (connected_to, mut connected) = watch::channel(false);
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
    let registry = if bare.sender == Sender::Short {
        let responder = NackResponderBuilder::new().build();
        let short = Registry::new()
            .with(Slot::NackResponder, responder)
            .with(Slot::SenderReport, SenderReportBuilder::new().build());
        streampay_media::embed::with_feedback(short)
    } else {
        registry
    };
    let [disconnected, failed, keep_alive] = ICE_TIMEOUTS.map(Some);
    let settings = SettingEngineBuilder::new()
        .with_ice_timeouts(disconnected, failed, keep_alive)
        .with_include_loopback_candidate(true)
        .build();
    let handler = Handler {
        gathered,
        connected: connected_to,
    };
    let peer = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(7),
            ..Default::default()
        },
        codec: RTCRtpCodec {
            mime_type: "video/VP8".to_owned(),
            clock_rate: 90_000,
            ..Default::default()
        },
        ..Default::default()
    };
    let name = || "bare".to_owned();
    let kind = RtpCodecKind::Video;
    let track = MediaStreamTrack::new(name(), name(), name(), kind, vec![encoding]);
    let track = Arc::new(TrackLocalStaticRTP::new(track));
    let as_track: Arc<dyn TrackLocal> = track.clone();
    let sender = peer.add_track(as_track).await.unwrap();
    let offer = RTCSessionDescription::offer(offer).unwrap();
    peer.set_remote_description(offer).await.unwrap();
    let answer = peer.create_answer(None).await.unwrap();
    peer.set_local_description(answer).await.unwrap();
    done.wait_for(|done| *done).await.unwrap();
    let sdp = peer.local_description().await.unwrap().sdp;
    let parameters = sender.get_parameters().await.unwrap().rtp_parameters;
    let codecs = parameters.codecs.iter();
    let payload_type = codecs.map(|codec| codec.payload_type).next().unwrap();
    let mut pieces = bare.pieces.subscribe();
    let delay = bare.delay();
    tokio::spawn(async move {
        connected.wait_for(|connected| *connected).await.unwrap();
        let mut sequence_number = 0_u16;
        let mut begins = true;
        while *connected.borrow() {
            let Ok((payload, timestamp, marker)) = pieces.recv().await else {
                continue;
            };
            if begins && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            begins = marker;
            let header = Header {
                version: 2,
                marker,
                payload_type,
                sequence_number,
                timestamp,
                ssrc: 7,
                ..Default::default()
            };
            sequence_number = sequence_number.wrapping_add(1);
            let _ = track.write_rtp(Packet { header, payload }).await;
        }
        peer.close().await.unwrap();
    });
    let headers = [
        (header::CONTENT_TYPE, "application/sdp"),
        (header::LOCATION, "/whep/bare"),
    ];
    (StatusCode::CREATED, headers, sdp)
}
