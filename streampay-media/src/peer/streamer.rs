use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rtc::{
    media_stream::MediaStreamTrack,
    rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters},
};
use streampay_core::{
    driver::Link,
    meter::{Grant, Reading},
    session::Role,
};
use tokio::{sync::watch, task::JoinHandle};
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::RTCSessionDescription,
    rtp_transceiver::RtpSender,
};

use super::{
    CHANNEL_LABEL, CHANNEL_PROTOCOL, Closer, PeerConfig, PeerError, codecs, link,
    owner::{Events, Expected, Peer},
    sdp,
};
use crate::{
    gate::{Gate, MeteredTrack, Shown, Tracks, deliver},
    packet::{Codec, Kind, PacketCount},
    source::Source,
};

/// The streamer's side of connecting.
#[derive(Clone, Copy, Debug)]
pub struct StreamerPeer;

impl StreamerPeer {
    /// Answers a viewer's offer for `source`. Nothing of the stream flows before
    /// [`ViewerConnection::start`].
    ///
    /// # Errors
    /// [`PeerError::Sdp`] where the offer is refused before anything is built,
    /// [`PeerError::NoCommonCodec`], [`PeerError::Stack`] where the offer makes no sense,
    /// [`PeerError::Gathering`].
    pub async fn answer(
        offer: &str,
        source: Arc<Source>,
        config: &PeerConfig,
    ) -> Result<(String, ViewerConnection), PeerError> {
        let offer = sdp::admit(offer, config.local)?;
        // The session's channel.
        Self::answer_admitted(offer, source, config, 1).await
    }

    /// The same for a player that has no data channel.
    pub(crate) async fn answer_player(
        offer: &str,
        source: Arc<Source>,
        config: &PeerConfig,
    ) -> Result<(String, ViewerConnection), PeerError> {
        #[cfg(feature = "e2ee")]
        if source.is_sealed() {
            return Err(PeerError::Sealed);
        }
        let offer = sdp::admit_media(offer, config.local)?;
        Self::answer_admitted(offer, source, config, 0).await
    }

    async fn answer_admitted(
        offer: String,
        source: Arc<Source>,
        config: &PeerConfig,
        channels: usize,
    ) -> Result<(String, ViewerConnection), PeerError> {
        let wanted: Vec<Codec> = source
            .description()
            .codecs()
            .filter(|codec| sdp::codecs_offered(&offer, codec.kind()).contains(codec))
            .collect();
        if source.description().codecs().next().is_none() {
            return Err(PeerError::NotLive);
        }
        let none = || PeerError::NoCommonCodec(source.description().codecs().collect());
        if wanted.is_empty() {
            return Err(none());
        }
        let offer = RTCSessionDescription::offer(offer)?;
        // Nothing to see or hear.
        let expected = Expected {
            channels,
            tracks: 0,
        };
        let engine = codecs::engine(wanted.clone())?;
        let (peer, events) = Peer::build(config, engine, expected).await?;
        let mut outgoing = Vec::new();
        for codec in wanted {
            outgoing.push(Outgoing::add(&peer, codec).await?);
        }
        peer.connection.set_remote_description(offer).await?;
        let answer = peer.connection.create_answer(None).await?;
        peer.connection.set_local_description(answer).await?;
        let answer = peer.gathered_sdp().await?;
        let mut tracks = Tracks::default();
        for track in outgoing {
            match track.codec.kind() {
                Kind::Video => tracks.video = track.metered().await,
                Kind::Audio => tracks.audio = track.metered().await,
            }
        }
        if tracks.video.is_none() && tracks.audio.is_none() {
            peer.close().await;
            return Err(none());
        }
        let connection = ViewerConnection {
            peer,
            events,
            config: config.clone(),
            source,
            tracks: Some(tracks),
            delivery: None,
            reading: None,
            sent: watch::Sender::default(),
        };
        Ok((answer, connection))
    }
}

/// A track before the codec is negotiated.
struct Outgoing {
    codec: Codec,
    ssrc: u32,
    local: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

impl Outgoing {
    async fn add(peer: &Peer, codec: Codec) -> Result<Self, PeerError> {
        // Distinct within the process is all that an SSRC has to be here.
        static NEXT_SSRC: AtomicU32 = AtomicU32::new(0x5350_0001);
        let ssrc = NEXT_SSRC.fetch_add(1, Ordering::Relaxed);
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: codecs::first_variant(codec),
            ..Default::default()
        };
        let track = MediaStreamTrack::new(
            "streampay".to_owned(),
            codec.kind().to_string(),
            codec.kind().to_string(),
            codecs::stack_kind(codec.kind()),
            vec![encoding],
        );
        let local = Arc::new(TrackLocalStaticRTP::new(track));
        let as_track: Arc<dyn TrackLocal> = local.clone();
        let sender = peer.connection.add_track(as_track).await?;
        Ok(Self {
            codec,
            ssrc,
            local,
            sender,
        })
    }

    /// With the payload type that was negotiated; none where the viewer does not take it.
    async fn metered(self) -> Option<MeteredTrack> {
        let parameters = self.sender.get_parameters().await.ok()?;
        let negotiated = parameters
            .rtp_parameters
            .codecs
            .iter()
            .find(|codec| Codec::from_mime(&codec.rtp_codec.mime_type) == Some(self.codec))?;
        Some(MeteredTrack::new(
            self.local,
            self.ssrc,
            negotiated.payload_type,
        ))
    }
}

/// One viewer's connection at the streamer. Dropped, it is closed, as by [`Closer::close`].
#[derive(Debug)]
pub struct ViewerConnection {
    peer: Arc<Peer>,
    events: Events,
    config: PeerConfig,
    source: Arc<Source>,
    tracks: Option<Tracks>,
    delivery: Option<JoinHandle<()>>,
    reading: Option<watch::Receiver<Reading>>,
    sent: watch::Sender<PacketCount>,
}

impl ViewerConnection {
    /// Waits for the viewer's data channel. To be called once.
    ///
    /// # Errors
    /// [`PeerError::LinkOverdue`] after [`PeerConfig::link_deadline`], [`PeerError::Closed`],
    /// [`PeerError::WrongChannel`]; the connection is closed then.
    pub async fn open_link(&mut self) -> Result<Link, PeerError> {
        let deadline = self.config.link_deadline;
        let opened = tokio::select! {
            opened = tokio::time::timeout(deadline, Self::first_channel(&self.peer, &mut self.events)) => {
                opened.unwrap_or(Err(PeerError::LinkOverdue(deadline)))
            }
            () = self.peer.wait_closed() => Err(PeerError::Closed),
        };
        if opened.is_err() {
            self.peer.close().await;
        }
        opened
    }

    async fn first_channel(peer: &Arc<Peer>, events: &mut Events) -> Result<Link, PeerError> {
        let channel = events.channels.recv().await.ok_or(PeerError::Closed)?;
        // The stack (0.21.1) tells a peer's order but not its reliability; one that asked for less
        // only loses messages of its own session.
        let reliable = channel.max_retransmits().await?.is_none()
            && channel.max_packet_life_time().await?.is_none();
        if channel.label().await? != CHANNEL_LABEL
            || channel.protocol().await? != CHANNEL_PROTOCOL
            || !channel.ordered().await?
            || !reliable
        {
            return Err(PeerError::WrongChannel);
        }
        link::open(peer.clone(), channel, Role::Payee).await
    }

    /// Puts the gate in: from here on `grants` decides packet by packet, and what is returned
    /// shows what was delivered, on top of `initial`. Dropping the sender of `grants` shuts the
    /// gate for good.
    ///
    /// # Errors
    /// [`PeerError::AlreadyStarted`] the second time, [`PeerError::Sealed`] where the source is
    /// sealed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        &mut self,
        grants: watch::Receiver<Grant>,
        initial: Reading,
    ) -> Result<watch::Receiver<Reading>, PeerError> {
        #[cfg(feature = "e2ee")]
        if self.source.is_sealed() {
            return Err(PeerError::Sealed);
        }
        self.start_with(Gate::new(grants, initial))
    }

    /// [`start`](Self::start) for a sealed source: each key goes to `session`, that of these
    /// `grants`, as [`Command::Grant`](streampay_core::session::Command::Grant) when the
    /// credit covers its epoch. The gate is shut for good when that is gone.
    ///
    /// # Errors
    /// [`PeerError::AlreadyStarted`] the second time, [`PeerError::NotSealed`] where the source is
    /// not sealed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(feature = "e2ee")]
    pub fn start_sealed(
        &mut self,
        grants: watch::Receiver<Grant>,
        initial: Reading,
        session: tokio::sync::mpsc::Sender<streampay_core::session::Command>,
    ) -> Result<watch::Receiver<Reading>, PeerError> {
        let secret = self.source.secret().ok_or(PeerError::NotSealed)?.clone();
        let release = crate::seal::Release::new(secret, session);
        self.start_with(Gate::sealed(grants, initial, release))
    }

    /// Whether the source is sealed.
    #[cfg(feature = "e2ee")]
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.source.is_sealed()
    }

    fn start_with(&mut self, gate: Gate) -> Result<watch::Receiver<Reading>, PeerError> {
        let initial = gate.reading();
        let tracks = self.tracks.take().ok_or(PeerError::AlreadyStarted)?;
        let (reading_to, reading) = watch::channel(initial);
        let shown = Shown {
            reading: reading_to,
            sent: self.sent.clone(),
        };
        let (source, peer) = (self.source.clone(), self.peer.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                // Holds the source, too: it plays while anybody watches.
                () = deliver(source.ring().clone(), gate, tracks, shown) => {}
                // What was said last leaves alone.
                () = peer.ending.left() => {}
            }
        });
        self.delivery = Some(task);
        self.reading = Some(reading.clone());
        Ok(reading)
    }

    /// Ends when media can flow.
    pub(crate) async fn connected(&self) {
        self.peer.wait_connected().await;
    }

    /// Ends delivery: no packet is sent after this.
    pub(crate) async fn stop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
            let _ = delivery.await;
        }
    }

    /// What was delivered in all, once it was [started](Self::start).
    pub(crate) fn delivered(&self) -> Option<Reading> {
        self.reading.as_ref().map(|reading| *reading.borrow())
    }

    /// RTP packets sent so far.
    #[must_use]
    pub fn sent(&self) -> watch::Receiver<PacketCount> {
        self.sent.subscribe()
    }

    /// RTP packets that the viewer asked for again (NACK), each time counted: lost on the way.
    #[must_use]
    pub fn asked_again(&self) -> u64 {
        self.peer.nacked()
    }

    /// To close it from elsewhere or to wait for its end.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer(self.peer.clone())
    }

    /// Closes it as [`Closer::close`] does, and waits until that is done.
    pub async fn close(self) {
        self.peer.close().await;
    }
}

impl Drop for ViewerConnection {
    fn drop(&mut self) {
        if let Some(delivery) = &self.delivery {
            delivery.abort();
        }
        self.peer.close_soon();
    }
}

impl core::fmt::Debug for Events {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
