//! A viewer whose connection stands still, and another one beside it.

use std::{sync::Arc, time::Duration};

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use streampay_core::{driver::LinkEnd, meter::Reading};
use streampay_media::{
    packet::PacketCount,
    whep::{Arrival, Client},
};
use tokio::sync::watch;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use crate::rig::{Rig, open, settled, until};

/// Never comes back from the first track: the stack's own task waits for it, so that nothing is
/// read from the socket any more.
struct Stuck {
    gathered: watch::Sender<bool>,
    stuck: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Stuck {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_track(&self, _track: Arc<dyn TrackRemote>) {
        self.stuck.send_replace(true);
        std::future::pending::<()>().await;
    }
}

/// A viewer that will stand still from its first track on, and what the streamer has of it.
struct Standing {
    peer: Arc<dyn PeerConnection>,
    _channel: Arc<dyn DataChannel>,
    arrival: Arrival,
    /// Whether it does by now.
    stuck: watch::Receiver<bool>,
}

impl Standing {
    async fn connect(rig: &mut Rig) -> Self {
        let (gathered, mut done) = watch::channel(false);
        let (stuck_to, stuck) = watch::channel(false);
        let handler = Stuck {
            gathered,
            stuck: stuck_to,
        };
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
        peer.add_transceiver_from_kind(RtpCodecKind::Video, None)
            .await
            .unwrap();
        let init = rtc::data_channel::RTCDataChannelInit {
            ordered: true,
            protocol: "streampay/1".to_owned(),
            ..Default::default()
        };
        let channel: Arc<dyn DataChannel> = peer
            .create_data_channel("streampay", Some(init))
            .await
            .unwrap();
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        done.wait_for(|done| *done).await.unwrap();
        let offer = peer.local_description().await.unwrap().sdp;
        let accepted = Client.post(&rig.url, &offer).await.unwrap();
        let answer = RTCSessionDescription::answer(accepted.answer).unwrap();
        peer.set_remote_description(answer).await.unwrap();
        while !matches!(channel.poll().await.unwrap(), DataChannelEvent::OnOpen) {}
        Self {
            peer: Arc::new(peer),
            _channel: channel,
            arrival: rig.arrivals.recv().await.unwrap(),
            stuck,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_stands_still_delays_no_other() {
    let mut rig = Rig::new(4).await;
    let Standing {
        peer,
        arrival,
        mut stuck,
        ..
    } = Standing::connect(&mut rig).await;
    let Arrival {
        connection: mut slow,
        link: _link,
        place,
        ..
    } = arrival;
    place.paid();
    let (_slow_grants, receiver) = watch::channel(open(1_000_000));
    let mut slow_reading = slow.start(receiver, Reading::default()).unwrap();
    stuck.wait_for(|stuck| *stuck).await.unwrap();

    let mut pair = rig.connect().await;
    pair.place.paid();
    let (grants, receiver) = watch::channel(open(1_000_000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    let begun = rig.source.position_ms();
    until(&mut reading, |reading| reading.media_ms > 8_000).await;
    // It had the stream as it came, in a quarter of its time: behind by a quarter of a second at most.
    let passed = rig.source.position_ms() - begun;
    assert!(passed <= 8_000 + 1_000, "{passed}");
    grants.send_replace(streampay_core::meter::Grant::Closed);
    let received = settled(&mut pair.viewer.receiving, Duration::from_millis(300)).await;
    // All that was sent, and none of it twice.
    assert_eq!(received.gaps, PacketCount::default());
    assert_eq!(received.packets, *pair.streamer.sent().borrow());
    assert_eq!(pair.streamer.asked_again(), 0);
    // What goes to the one that stands still is lost in its socket, not kept for it.
    until(&mut slow_reading, |reading| reading.media_ms > 500).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), peer.close()).await;
}

/// It acknowledges nothing any more, though its connection lives.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_last_to_a_viewer_that_stands_still_holds_up_no_end() {
    let mut rig = Rig::new(1).await;
    let Standing {
        peer,
        arrival,
        mut stuck,
        ..
    } = Standing::connect(&mut rig).await;
    let Arrival {
        mut connection,
        link,
        place,
        ..
    } = arrival;
    place.paid();
    let (_grants, receiver) = watch::channel(open(1_000_000));
    let _reading = connection.start(receiver, Reading::default()).unwrap();
    stuck.wait_for(|stuck| *stuck).await.unwrap();
    let LinkEnd {
        outgoing,
        incoming: _still_heard,
    } = link.end;
    outgoing.send(vec![7; 1_024].into()).await.unwrap();
    drop(outgoing);
    // It has two seconds to arrive; ICE would give up long after these.
    let closed = connection.closer();
    let closed = tokio::time::timeout(Duration::from_secs(4), closed.closed()).await;
    assert!(closed.is_ok(), "it waits for what never arrives");
    let _ = tokio::time::timeout(Duration::from_secs(1), peer.close()).await;
}
