//! The data channel as a [`Link`].

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use streampay_core::{
    driver::{ChannelIdentity, Link, LinkEnd},
    session::Role,
};
use tokio::sync::mpsc;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    peer_connection::PeerConnection,
};

use super::{PeerError, ending::Ending, owner::Peer, sdp};

/// What is closed with the channel.
#[derive(Clone)]
enum Hold {
    /// A connection of ours, whole.
    Connection(Arc<Peer>),
    /// Of an application's own connection nothing else.
    Channel(Ending),
}

impl Hold {
    fn ending(&self) -> &Ending {
        match self {
            Self::Connection(peer) => &peer.ending,
            Self::Channel(ending) => ending,
        }
    }

    /// At once.
    async fn close(&self, channel: &dyn DataChannel) {
        match self {
            Self::Connection(peer) => peer.cut().await,
            Self::Channel(ending) => {
                if ending.cut() {
                    let _ = channel.close().await;
                }
            }
        }
    }
}

/// How often it is looked whether what was said last has arrived.
const FLUSH_STEP: Duration = Duration::from_millis(5);
/// How long what came may stay in the stack once a connection is closed. Chosen arbitrarily: it ends the
/// channel's events as soon as it has closed.
const REST: Duration = Duration::from_secs(2);
/// How long a session may take to make room for a message. Spec: transports 1.
const FOLLOW: Duration = Duration::from_secs(5);

/// Waits until the channel is open and moves its messages from then on. `role` says whose
/// certificate is whose.
pub(super) async fn open(
    peer: Arc<Peer>,
    channel: Arc<dyn DataChannel>,
    role: Role,
) -> Result<Link, PeerError> {
    let hold = Hold::Connection(peer.clone());
    opened(&hold, &*channel).await?;
    let identities = peer.identities().await?;
    Ok(start(hold, channel, identities, role))
}

/// The same on a connection that is not ours.
pub(crate) async fn link_over(
    connection: &dyn PeerConnection,
    channel: Arc<dyn DataChannel>,
    role: Role,
) -> Result<Link, PeerError> {
    let hold = Hold::Channel(Ending::new());
    opened(&hold, &*channel).await?;
    let none = || PeerError::NoCertificate;
    let local = connection.local_description().await.ok_or_else(none)?;
    let own = sdp::fingerprint(&local.sdp).ok_or_else(none)?;
    let sctp = connection.sctp().await.ok_or_else(none)?;
    let presented = sctp.transport().get_remote_certificates().await?;
    let theirs = super::sha256(presented.first().ok_or_else(none)?)?;
    Ok(start(hold, channel, (own, theirs), role))
}

/// To be waited for: the stack fails what is sent before, and keeps nothing of it.
async fn opened(hold: &Hold, channel: &dyn DataChannel) -> Result<(), PeerError> {
    while !matches!(next(hold, channel).await, Some(DataChannelEvent::OnOpen)) {
        if hold.ending().is_closed() {
            return Err(PeerError::Closed);
        }
    }
    Ok(())
}

fn start(
    hold: Hold,
    channel: Arc<dyn DataChannel>,
    (own, theirs): ([u8; 32], [u8; 32]),
    role: Role,
) -> Link {
    let (payer, payee) = match role {
        Role::Payer => (own, theirs),
        Role::Payee => (theirs, own),
    };
    let (session, transport) = LinkEnd::pair();
    hold.ending().linked();
    tokio::spawn(receive(hold.clone(), channel.clone(), transport.outgoing));
    tokio::spawn(send(hold, channel, transport.incoming));
    Link {
        identity: ChannelIdentity { payer, payee },
        end: session,
    }
}

/// The next event; none once the channel or the connection is closed, and what came before that is taken.
async fn next(hold: &Hold, channel: &dyn DataChannel) -> Option<DataChannelEvent> {
    let late = async {
        hold.ending().closed().await;
        tokio::time::sleep(REST).await;
    };
    tokio::select! {
        biased;
        event = channel.poll() => {
            if event.is_none() {
                hold.close(channel).await;
            }
            event
        }
        () = late => None,
    }
}

/// Passes on what comes. A session that is told more at once than the queue holds, as the notes of many purses, has
/// [`FOLLOW`] for each message: so long the stack holds the peer up, whose sending takes seconds to recover from that.
/// What a peer said that is gone meanwhile is heard as well, as far as the stack passes it on.
async fn receive(hold: Hold, channel: Arc<dyn DataChannel>, session: mpsc::Sender<Bytes>) {
    loop {
        let event = tokio::select! {
            event = next(&hold, &*channel) => event,
            () = session.closed() => None,
        };
        match event {
            Some(DataChannelEvent::OnMessage(message)) => {
                if message.data.len() > LinkEnd::MESSAGE_MAX {
                    tracing::warn!(bytes = message.data.len(), "peer sent too long a message");
                    break;
                }
                let passed = session.send_timeout(message.data.freeze(), FOLLOW);
                if passed.await.is_err() {
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
        hold.ending().leave();
        return;
    }
    hold.close(&*channel).await;
}

/// Says what the session says, and closes: once what was said last has arrived, or when it has to.
async fn send(hold: Hold, channel: Arc<dyn DataChannel>, session: mpsc::Receiver<Bytes>) {
    let said = async {
        say(hold.ending(), &*channel, session).await;
        // From here on there is an end, whether it arrives or not.
        hold.ending().leave();
        while matches!(channel.outstanding_bytes().await, Ok(1..)) {
            tokio::time::sleep(FLUSH_STEP).await;
        }
        let _ = channel.close().await;
        tokio::time::sleep(FLUSH_STEP * 4).await;
    };
    tokio::select! {
        () = said => {}
        () = hold.ending().due() => {}
    }
    hold.close(&*channel).await;
}

/// Ends when the session is done, or the connection is to be closed and all is said that waited.
async fn say(ending: &Ending, channel: &dyn DataChannel, mut session: mpsc::Receiver<Bytes>) {
    let mut left = core::pin::pin!(ending.left());
    let mut leaves = false;
    loop {
        let message = tokio::select! {
            message = session.recv() => message,
            () = &mut left, if !leaves => {
                leaves = true;
                session.close();
                continue;
            }
        };
        let Some(message) = message else {
            return;
        };
        if message.len() > LinkEnd::MESSAGE_MAX {
            tracing::error!(bytes = message.len(), "own message is too long");
            return;
        }
        // Waits at the send limit: the session is slowed then, not the peer's reader.
        if channel.send(BytesMut::from(message)).await.is_err() {
            return;
        }
    }
}
