use bytes::Bytes;
use tokio::sync::mpsc;

pub use crate::session::ChannelIdentity;

/// One connection that carries whole messages in order: the transport owns the other
/// [`LinkEnd`]. Dropping either end takes the link down.
#[derive(Debug)]
pub struct Link {
    /// What the connection is known by to both sides.
    pub identity: ChannelIdentity,
    /// The session's end.
    pub end: LinkEnd,
}

/// Messages both ways, each at most [`LinkEnd::MESSAGE_MAX`] bytes, in bounded queues.
#[derive(Debug)]
pub struct LinkEnd {
    /// Towards the peer of this end.
    pub outgoing: mpsc::Sender<Bytes>,
    /// From the peer of this end.
    pub incoming: mpsc::Receiver<Bytes>,
}

impl LinkEnd {
    /// The longest message, in bytes. A transport must drop the connection of a peer that sends
    /// a longer one, before it holds it in memory twice.
    pub const MESSAGE_MAX: usize = crate::wire::MESSAGE_MAX;
    /// Messages that may wait in each direction. Chosen for a session that has one tick under way
    /// and some notices around it: one that has more to say at once waits for its peer.
    pub const QUEUE: usize = 64;

    /// Two ends that are joined to each other.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (out_a, in_b) = mpsc::channel(Self::QUEUE);
        let (out_b, in_a) = mpsc::channel(Self::QUEUE);
        (
            Self {
                outgoing: out_a,
                incoming: in_a,
            },
            Self {
                outgoing: out_b,
                incoming: in_b,
            },
        )
    }
}
