use rtc::{
    data_channel::RTCDataChannelInit,
    datachannel::message::message_channel_open::{
        CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen,
    },
    shared::marshal::Marshal,
};
use serde_json::{Value, json};
use streampay_core::driver::LinkEnd;

use super::settle;
use crate::{misbehaviour, rig::Rig};

/// The message that opens a channel (RFC 8832 5.1), and whether a payee takes it for a session's.
async fn channel(label: &str, protocol: &str, ordered: bool) -> Value {
    let init = RTCDataChannelInit {
        ordered,
        protocol: protocol.to_owned(),
        ..Default::default()
    };
    let mut rig = Rig::new(1).await;
    let (peer, channel) = misbehaviour::connect(&rig, label, init).await;
    let arrived = tokio::select! {
        arrival = rig.arrivals.recv() => arrival.is_some(),
        () = misbehaviour::closed(&*channel) => false,
    };
    peer.close().await.unwrap();
    let open = DataChannelOpen {
        channel_type: if ordered {
            ChannelType::Reliable
        } else {
            ChannelType::ReliableUnordered
        },
        priority: CHANNEL_PRIORITY_NORMAL,
        reliability_parameter: 0,
        label: label.into(),
        protocol: protocol.into(),
    };
    // The type of the message comes before it.
    let open = [&[3][..], &open.marshal().unwrap()[..]].concat();
    let hex: String = open.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"label": label, "protocol": protocol, "ordered": ordered, "open": hex, "taken": arrived})
}

/// Whether a message of so many bytes comes through, or ends the link.
async fn message(length: usize) -> Value {
    let mut rig = Rig::new(1).await;
    let init = RTCDataChannelInit {
        ordered: true,
        protocol: "streampay/1".to_owned(),
        ..Default::default()
    };
    let (peer, channel) = misbehaviour::connect(&rig, "streampay", init).await;
    let mut arrival = rig.arrivals.recv().await.unwrap();
    let bytes = bytes::BytesMut::zeroed(length);
    channel.send(bytes).await.unwrap();
    let came = arrival.link.end.incoming.recv().await;
    if let Some(came) = &came {
        assert_eq!(came.len(), length);
    }
    peer.close().await.unwrap();
    json!({"length": length.to_string(), "comes_through": came.is_some()})
}

#[tokio::test]
async fn channel_vectors_are_what_payees_take() {
    let channels = [
        channel("streampay", "streampay/1", true).await,
        channel("streampay", "streampay/1", false).await,
        channel("streampay", "streampay/2", true).await,
        channel("streampay", "", true).await,
        channel("Streampay", "streampay/1", true).await,
        channel("chat", "streampay/1", true).await,
    ];
    let messages = [
        message(1).await,
        message(LinkEnd::MESSAGE_MAX).await,
        message(LinkEnd::MESSAGE_MAX + 1).await,
    ];
    let value = json!({"format": "1", "channels": channels, "messages": messages});
    settle("channel.json", &value);
}
