//! Metering on an application's own tracks and connections: where [`whep`](crate::whep) and
//! [`peer`] are not wanted, because the application signals, negotiates and connects
//! by itself, with the `webrtc` crate of the same version.
//!
//! Three things take the place of the application's own: [`link`] is the session's way over a data
//! channel, [`GatedTracks`] writes to the tracks, and only what is paid, [`with_feedback`] lets a
//! paying viewer's requests for key frames through, and bounds what is sent again. The media comes from a
//! [`Source`], for instance a [live](Source::live) one that the application feeds.
//!
//! Two settings of the application's `PeerConnectionBuilder` are what this crate's own connections have, and
//! without which a session suffers:
//! - `with_data_channel_send_buffer_limit`: the stack keeps without bound what is sent to a peer that does not
//!   read; a session's messages wait at that limit instead. 1 MiB is 64 of the longest.
//! - `with_ice_timeouts` of its `SettingEngineBuilder`: how soon a peer that is gone shows. Those of the stack
//!   are longer; 2 s, 4 s and 1 s here.
//!
//! The stack goes on answering for a connection that is merely dropped, and keeps its sockets: `close().await` it
//! when the session ends, and where one is not begun.
//!
//! # On the streamer's side
//! ```no_run
//! use std::sync::Arc;
//! use streampay_core::{meter::{Grant, Reading}, session::Role};
//! use streampay_media::{embed::{self, GatedTracks}, peer::PeerError, source::Source};
//! use tokio::sync::watch;
//! use webrtc::{
//!     data_channel::DataChannel, peer_connection::PeerConnection, rtp_transceiver::RtpSender,
//! };
//!
//! /// After the answer is set: `sender` is what `add_track` gave, `channel` what the viewer opened.
//! async fn meter(
//!     connection: Arc<dyn PeerConnection>,
//!     channel: Arc<dyn DataChannel>,
//!     sender: Arc<dyn RtpSender>,
//!     source: Arc<Source>,
//! ) -> Result<(), PeerError> {
//!     let link = embed::link(&*connection, channel, Role::Payee).await?;
//!     let (grants, gate) = watch::channel(Grant::default());
//!     let delivery = GatedTracks::new(source)
//!         .with(&*sender)
//!         .await?
//!         .start(gate, Reading::default());
//!     // The session: runs over the link, publishes grants, is told the readings.
//!     let usage = delivery.reading();
//! #   let _ = (link, grants, usage);
//!     Ok(())
//! }
//! ```

use std::sync::Arc;

use streampay_core::{
    driver::Link,
    meter::{Grant, Reading},
    session::Role,
};
use tokio::{sync::watch, task::AbortHandle};
use webrtc::{
    data_channel::DataChannel,
    peer_connection::{PeerConnection, Registry},
    rtp_transceiver::RtpSender,
};

use crate::{
    gate::{Gate, MeteredTrack, Shown, Tracks, deliver},
    packet::{Codec, Kind, PacketCount},
    peer::{self, PeerError},
    source::Source,
};

/// Tracks of one viewer, before its session begins. From now on nothing else may write to them.
#[derive(Debug)]
pub struct GatedTracks {
    source: Arc<Source>,
    tracks: Tracks,
}

impl GatedTracks {
    /// No track yet.
    #[must_use]
    pub fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            tracks: Tracks::default(),
        }
    }

    /// With what sends one kind of media, as `add_track` gave it, after the answer is set: only then
    /// is it known how the viewer calls the codec. Another of the same kind takes its place.
    ///
    /// # Errors
    /// [`PeerError::WrongTrack`] where its track is not for one encoding of the source's codec: the stack
    /// would drop what is written to it and say nothing, and it would be counted.
    /// [`PeerError::NoCommonCodec`] where the viewer does not take that codec, [`PeerError::NotLive`]
    /// where it is not known yet what the source is, [`PeerError::Sealed`] where the source is sealed: no
    /// key would be granted here, and what nobody can open would be counted. [`PeerError::Stack`].
    pub async fn with(mut self, sender: &dyn RtpSender) -> Result<Self, PeerError> {
        #[cfg(feature = "e2ee")]
        if self.source.is_sealed() {
            return Err(PeerError::Sealed);
        }
        let track = sender.track().clone();
        let codecs: Vec<Codec> = self.source.description().codecs().collect();
        if codecs.is_empty() {
            return Err(PeerError::NotLive);
        }
        let wrong = || PeerError::WrongTrack(codecs.clone());
        let ssrcs = track.ssrcs().await;
        let &[ssrc] = ssrcs.as_slice() else {
            return Err(wrong());
        };
        let named = track.codec(ssrc).await;
        let codec = named
            .and_then(|named| Codec::from_mime(&named.mime_type))
            .filter(|codec| codecs.contains(codec))
            .ok_or_else(wrong)?;
        let parameters = sender.get_parameters().await?.rtp_parameters;
        let mut negotiated = parameters.codecs.iter();
        let payload_type = negotiated
            .find(|it| Codec::from_mime(&it.rtp_codec.mime_type) == Some(codec))
            .map(|it| it.payload_type)
            .ok_or_else(|| PeerError::NoCommonCodec(vec![codec]))?;
        let track = Some(MeteredTrack::new(track, ssrc, payload_type));
        match codec.kind() {
            Kind::Video => self.tracks.video = track,
            Kind::Audio => self.tracks.audio = track,
        }
        Ok(self)
    }

    /// Puts the gate in: `grants` decides packet by packet, on top of `initial`, the session's
    /// reading. Dropping the sender of `grants` shuts the gate for good.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use = "dropped, delivery ends"]
    pub fn start(self, grants: watch::Receiver<Grant>, initial: Reading) -> Delivery {
        let (reading_to, reading) = watch::channel(initial);
        let (sent_to, sent) = watch::channel(PacketCount::default());
        let shown = Shown {
            reading: reading_to,
            sent: sent_to,
        };
        let gate = Gate::new(grants, initial);
        let Self { source, tracks } = self;
        let task = tokio::spawn(async move {
            // Holds the source, too: it plays while anybody watches.
            deliver(source.ring().clone(), gate, tracks, shown).await;
        });
        Delivery {
            task: task.abort_handle(),
            reading,
            sent,
        }
    }
}

/// Delivery under way. Dropped, it ends: no packet is sent after that.
#[derive(Debug)]
pub struct Delivery {
    task: AbortHandle,
    reading: watch::Receiver<Reading>,
    sent: watch::Receiver<PacketCount>,
}

impl Delivery {
    /// What was delivered, on top of the reading that it began with.
    #[must_use]
    pub fn reading(&self) -> watch::Receiver<Reading> {
        self.reading.clone()
    }

    /// RTP packets sent so far.
    #[must_use]
    pub fn sent(&self) -> watch::Receiver<PacketCount> {
        self.sent.clone()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The data channel as a session's link: waits until it is open. It is closed when the session
/// lets go of its end, and where the other side sends more than a session can follow; the
/// connection stays. The application must not read from the channel or write to it.
///
/// What binds the session to the connection are the certificates of both sides: SHA-256 of the one
/// in the local description and of the one that the other side presented. `role` is that of this
/// side.
///
/// # Errors
/// [`PeerError::Closed`] where the channel closes before it opens, [`PeerError::NoCertificate`]
/// where a certificate is not known, or the local description names more than one;
/// [`PeerError::Stack`].
pub async fn link(
    connection: &dyn PeerConnection,
    channel: Arc<dyn DataChannel>,
    role: Role,
) -> Result<Link, PeerError> {
    peer::link_over(connection, channel, role).await
}

/// With what passes requests for key frames (PLI, FIR) on to the gate, and bounds those for packets
/// (NACK): without it nobody is asked for a key frame when a viewer lost a picture, and a viewer
/// can have the stack send far more than it paid for. For
/// [`PeerConnectionBuilder::with_interceptor_registry`](webrtc::peer_connection::PeerConnectionBuilder).
#[must_use]
pub fn with_feedback(registry: Registry) -> Registry {
    peer::with_feedback(registry, Arc::default())
}
