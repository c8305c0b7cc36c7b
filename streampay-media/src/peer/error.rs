use super::SdpError;
use crate::packet::Codec;

/// Why a connection could not be made or used. It is closed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer's session description is refused.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// The peer takes none of the stream's codecs.
    #[error("the viewer takes neither picture nor sound of this stream ({})", names(.0))]
    NoCommonCodec(Vec<Codec>),
    /// The stack refused a description or could not bind a socket.
    #[error("WebRTC: {0}")]
    Stack(#[from] webrtc::error::Error),
    /// No usable network address was found in time.
    #[error("no network address could be gathered in time; check the bind address")]
    Gathering,
    /// The data channel did not open in time.
    #[error("the peer did not connect within {0:?}; a firewall may block UDP between you")]
    LinkOverdue(std::time::Duration),
    /// The connection ended.
    #[error("the connection was closed")]
    Closed,
    /// The peer opened another channel than `streampay` with `streampay/1`.
    #[error("the peer speaks another protocol on its data channel")]
    WrongChannel,
    /// The stack does not say which certificate the peer presented.
    #[error("the peer's certificate is not known")]
    NoCertificate,
    /// [`ViewerConnection::start`](super::ViewerConnection::start) was called before.
    #[error("delivery was started before")]
    AlreadyStarted,
    /// A track of [`embed`](crate::embed) is not for one encoding of what the source has.
    #[error("the track is not for one encoding of the stream's codecs ({})", names(.0))]
    WrongTrack(Vec<Codec>),
    /// Nobody publishes yet, so that it is not known what the stream is.
    #[error("the stream has not begun; try again in a moment")]
    NotLive,
    /// None of the publisher's codecs can be taken.
    #[error("publish {}; in this order, the first that you have is taken", names(.0))]
    NoCodecTaken(Vec<Codec>),
    /// The stream is sealed: its keys need a session to ride on, which starts it with
    /// `ViewerConnection::start_sealed`, and a viewer that has one.
    #[error("the stream is sealed; watch it with a viewer that opens sealed media")]
    Sealed,
    /// The stream is not sealed.
    #[error("the stream is not sealed")]
    NotSealed,
    /// All ports of [`PeerConfig::ports`](super::PeerConfig::ports) are in use.
    #[error("no UDP port is free; try again in a moment")]
    NoPort,
    /// Signalling failed.
    #[error(transparent)]
    Whep(#[from] crate::whep::ClientError),
}

fn names(codecs: &[Codec]) -> String {
    codecs
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
