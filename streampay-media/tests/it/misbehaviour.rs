//! Viewers that do not keep to the protocol, made with the stack itself.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use rtc::{data_channel::RTCDataChannelInit, rtp_transceiver::rtp_sender::RtpCodecKind};
use streampay_core::driver::LinkEnd;
use streampay_media::whep::{Arrival, Client};
use tokio::sync::watch;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
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
async fn connect(
    rig: &Rig,
    label: &str,
    init: RTCDataChannelInit,
) -> (Arc<dyn PeerConnection>, Arc<dyn DataChannel>) {
    let (gathered, mut done) = watch::channel(false);
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .build();
    let peer = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_handler(Arc::new(Gathered(gathered)))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    let peer: Arc<dyn PeerConnection> = Arc::new(peer);
    peer.add_transceiver_from_kind(RtpCodecKind::Video, None)
        .await
        .unwrap();
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

fn ours() -> RTCDataChannelInit {
    RTCDataChannelInit {
        ordered: true,
        protocol: "streampay/1".to_owned(),
        ..Default::default()
    }
}

/// Waits until the streamer has closed the channel.
async fn closed(channel: &dyn DataChannel) {
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
