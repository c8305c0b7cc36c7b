//! WebRTC connections that carry a session's messages and its media.
//!
//! [`StreamerPeer`] answers a viewer's offer, [`ViewerPeer`] makes one; both yield a
//! [`Link`](streampay_core::driver::Link) over the data channel `streampay` and close their
//! connection when dropped. Which stack is below shows in this module alone: nothing public
//! names its types, except inside [`PeerError::Stack`], and [`embed`](crate::embed) for those who
//! have connections of that stack themselves.
//!
//! An answer waits for its candidates; those of the other side may come after its offer.
//!
//! The stack logs whole packets as errors when a queue of it overflows, which takes a stalled
//! process. Filter its target: `RUST_LOG=info,webrtc::peer_connection::driver=off`.

mod codecs;
#[cfg(test)]
mod damage;
mod ending;
mod error;
mod feedback;
mod link;
mod network;
mod owner;
mod publisher;
mod resend;
mod sdp;
mod streamer;
mod viewer;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

pub use error::PeerError;
pub(crate) use feedback::{asks_for_key_frame, with_feedback};
pub(crate) use link::link_over;
pub use network::{BadPortRange, IceServer, PortRange};
pub use owner::Closer;
pub(crate) use owner::sha256;
pub(crate) use publisher::PublisherPeer;
pub use sdp::{CANDIDATES_MAX, SDP_MAX, SdpError};
pub(crate) use sdp::{Candidate, Fragment, candidates_in, has_data_channel, ice_users};
pub use streamer::{StreamerPeer, ViewerConnection};
pub use viewer::{Connection, ReceivedPacket, Receiving, ViewerPeer, ViewerStream};

/// The label of the data channel. Spec: transports 2.
pub const CHANNEL_LABEL: &str = "streampay";
/// The protocol of the data channel. Spec: transports 2.
pub const CHANNEL_PROTOCOL: &str = "streampay/1";

/// How connections are made.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// UDP addresses to receive at; port 0 takes a free one for each connection. `0.0.0.0` means
    /// all interfaces but loopback, so that is named beside it; `[::]` the same of IPv6. A
    /// [`ViewerPeer`] takes for `[::]` what of IPv6 can be bound when it connects, its loopback
    /// too: at most five addresses, and none where this machine has no IPv6.
    pub bind: Vec<SocketAddr>,
    /// Which ports stand for port 0 in `bind`; none leaves that to the system.
    pub ports: Option<PortRange>,
    /// Where peers reach this machine beside its own addresses: the public one of a NAT that
    /// passes each port on unchanged.
    pub announce: Vec<IpAddr>,
    /// STUN servers, to learn an address behind a NAT, and TURN servers, to be reached through.
    /// With any, an answer waits for them, at most five seconds.
    pub ice_servers: Vec<IceServer>,
    /// Whether media goes through the TURN servers alone: peers learn no address of this machine.
    pub relay_only: bool,
    /// How long the data channel may take to open. It takes under a second; the rest is for slow
    /// networks.
    pub link_deadline: Duration,
    /// Whether the peer may be on this very machine: then its candidates may be loopback and
    /// link-local addresses. Without it they are left out, so that a stranger's description sends
    /// no packet to this machine's own services. A [`Server`](crate::whep::Server) and a
    /// [`ViewerPeer`] allow it by themselves where the HTTP connection is a local one.
    pub local: bool,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            bind: vec![([0, 0, 0, 0], 0).into(), ([127, 0, 0, 1], 0).into()],
            ports: None,
            announce: Vec::new(),
            ice_servers: Vec::new(),
            relay_only: false,
            link_deadline: Duration::from_secs(10),
            local: false,
        }
    }
}

impl PeerConfig {
    /// For a [`ViewerPeer`]: IPv4 and IPv6, whichever there is when it connects.
    #[must_use]
    pub fn for_viewer() -> Self {
        let mut config = Self::default();
        config.bind.push((Ipv6Addr::UNSPECIFIED, 0).into());
        config
    }

    /// This machine alone: for tests and demonstrations.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            bind: vec![([127, 0, 0, 1], 0).into()],
            local: true,
            ..Self::default()
        }
    }
}
