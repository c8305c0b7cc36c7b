//! The data channel as a [`Link`].

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use streampay_core::driver::{ChannelIdentity, Link, LinkEnd};
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::{PeerError, owner::Peer};

/// Which side this is: it says whose certificate is whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Viewer,
    Streamer,
}

/// How long the last messages may take to leave before the connection is closed.
const FLUSH_MAX: Duration = Duration::from_secs(2);
const FLUSH_STEP: Duration = Duration::from_millis(5);

/// Waits until the channel is open and moves its messages from then on.
pub(super) async fn open(
    peer: Arc<Peer>,
    channel: Arc<dyn DataChannel>,
    side: Side,
) -> Result<Link, PeerError> {
    while !matches!(next(&peer, &*channel).await, Some(DataChannelEvent::OnOpen)) {
        if peer.is_closed() {
            return Err(PeerError::Closed);
        }
    }
    let (own, theirs) = peer.identities().await?;
    let identity = match side {
        Side::Viewer => ChannelIdentity {
            payer: own,
            payee: theirs,
        },
        Side::Streamer => ChannelIdentity {
            payer: theirs,
            payee: own,
        },
    };
    let (session, transport) = LinkEnd::pair();
    tokio::spawn(receive(peer.clone(), channel.clone(), transport.outgoing));
    tokio::spawn(send(peer, channel, transport.incoming));
    Ok(Link {
        identity,
        end: session,
    })
}

/// The next event; none once the channel or the connection is closed.
async fn next(peer: &Peer, channel: &dyn DataChannel) -> Option<DataChannelEvent> {
    tokio::select! {
        event = channel.poll() => {
            if event.is_none() {
                peer.close().await;
            }
            event
        }
        () = peer.wait_closed() => None,
    }
}

/// Never waits for the session: messages pile up in the stack otherwise, and its recovery from
/// that takes seconds. A peer that sends more than the queue holds is dropped.
async fn receive(peer: Arc<Peer>, channel: Arc<dyn DataChannel>, session: mpsc::Sender<Bytes>) {
    loop {
        match next(&peer, &*channel).await {
            Some(DataChannelEvent::OnMessage(message)) => {
                if message.data.len() > LinkEnd::MESSAGE_MAX {
                    tracing::warn!(bytes = message.data.len(), "peer sent too long a message");
                    break;
                }
                if session.try_send(message.data.freeze()).is_err() {
                    if !session.is_closed() {
                        tracing::warn!("peer sends faster than its session can follow");
                    }
                    break;
                }
            }
            Some(DataChannelEvent::OnClose | DataChannelEvent::OnError) | None => break,
            Some(_) => {}
        }
    }
    if session.is_closed() {
        // Our session is done: what it said last is still to be sent, and `send` closes.
        return;
    }
    peer.close().await;
}

async fn send(peer: Arc<Peer>, channel: Arc<dyn DataChannel>, mut session: mpsc::Receiver<Bytes>) {
    loop {
        let message = tokio::select! {
            message = session.recv() => message,
            () = peer.wait_closed() => return,
        };
        let Some(message) = message else {
            break;
        };
        if message.len() > LinkEnd::MESSAGE_MAX {
            tracing::error!(bytes = message.len(), "own message is too long");
            break;
        }
        // Waits at the send limit: the session is slowed then, not the peer's reader.
        if channel.send(BytesMut::from(message)).await.is_err() {
            break;
        }
    }
    let flushed = async {
        while matches!(channel.outstanding_bytes().await, Ok(1..)) {
            tokio::time::sleep(FLUSH_STEP).await;
        }
        let _ = channel.close().await;
        tokio::time::sleep(FLUSH_STEP * 4).await;
    };
    let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    peer.close().await;
}
