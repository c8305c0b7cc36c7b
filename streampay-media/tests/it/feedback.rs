//! A viewer's requests for a key frame, from its RTCP to whoever feeds the source.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rtc::{
    rtcp::{
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack},
    },
    rtp_transceiver::rtp_sender::RtpCodecKind,
};
use streampay_core::meter::{Grant, PauseReason, Reading};
use streampay_media::{
    packet::{Codec, Kind},
    source::{Description, KeyFrameRequests, Source, SourceWriter, Video},
    whep::Arrival,
};
use tokio::sync::{mpsc, watch};
use webrtc::{
    media_stream::track_remote::TrackRemote,
    peer_connection::{PeerConnection, PeerConnectionEventHandler, RTCIceGatheringState},
};

use crate::{
    misbehaviour::{build_with, open as connect, ours},
    rig::{Rig, open, until},
};

struct Viewer {
    gathered: watch::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Viewer {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.try_send(track).unwrap();
    }
}

/// One picture of 40 ms.
fn picture(writer: &mut SourceWriter, number: u64) {
    let key = number == 0;
    let frame = Bytes::from(vec![u8::from(!key); 100]);
    writer.write(Kind::Video, number * 3600, 3600, key, &frame);
}

/// Asks for a key frame, and for a packet again, in one report.
async fn ask(track: &dyn TrackRemote) {
    let media_ssrc = track.ssrcs().await[0];
    let picture_loss = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc,
    };
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc,
        nacks: vec![NackPair {
            packet_id: 1,
            lost_packets: 0,
        }],
    };
    track
        .write_rtcp(vec![Box::new(picture_loss), Box::new(nack)])
        .await
        .unwrap();
}

async fn wanted(requests: &mut KeyFrameRequests) -> bool {
    let within = Duration::from_millis(400);
    tokio::time::timeout(within, requests.next()).await.is_ok()
}

#[tokio::test]
async fn a_viewers_request_for_a_key_frame_counts_while_it_has_credit_and_is_not_answered_later() {
    let description = Description {
        video: Some(Video {
            codec: Codec::Vp8,
            size: None,
            frames_per_1000_s: None,
        }),
        ..Description::NOTHING
    };
    let (mut writer, source) = Source::live(description);
    let mut requests = writer.key_frame_requests();
    let mut rig = Rig::of(source, |_| {}).await;
    let (gathered, done) = watch::channel(false);
    let (tracks_to, mut tracks) = mpsc::channel(1);
    let viewer = Viewer {
        gathered,
        tracks: tracks_to,
    };
    let peer: Arc<dyn PeerConnection> = build_with(viewer).await;
    peer.add_transceiver_from_kind(RtpCodecKind::Video, None)
        .await
        .unwrap();
    let (peer, _channel) = connect(&rig, (peer, done), "streampay", ours()).await;
    let Arrival {
        connection: mut streamer,
        link: _link,
        place,
        ..
    } = rig.arrivals.recv().await.unwrap();
    place.paid();
    let (grants, receiver) = watch::channel(open(1_000_000));
    let mut reading = streamer.start(receiver, Reading::default()).unwrap();
    picture(&mut writer, 0);
    until(&mut reading, |reading| reading.media_ms == 40).await;
    let track = tracks.recv().await.unwrap();

    // Paused: once with nothing to send, then with a picture that is held, then once more.
    grants.send_replace(Grant::Paused(PauseReason::ByPayer));
    for asked in 1..=3 {
        if asked == 2 {
            picture(&mut writer, 1);
        }
        ask(&*track).await;
        assert!(!wanted(&mut requests).await, "{asked} unpaid");
        // It did come: the same report asks for a packet.
        assert_eq!(streamer.asked_again(), asked);
    }
    // At its limit.
    grants.send_replace(open(40));
    ask(&*track).await;
    assert!(!wanted(&mut requests).await, "no credit");
    assert_eq!(streamer.asked_again(), 4);
    // What was asked unpaid is not answered when it pays.
    grants.send_replace(open(1_000_000));
    until(&mut reading, |reading| reading.media_ms == 80).await;
    assert!(!wanted(&mut requests).await, "asked before it paid");
    ask(&*track).await;
    assert!(wanted(&mut requests).await, "asked and paid");
    peer.close().await.unwrap();
}
