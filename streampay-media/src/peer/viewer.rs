use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rtc::{
    data_channel::RTCDataChannelInit,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};
use streampay_core::{driver::Link, meter::Reading, session::Role};
use tokio::sync::{mpsc, watch};
use webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::RTCSessionDescription,
};

use super::{
    CHANNEL_LABEL, CHANNEL_PROTOCOL, Closer, PeerConfig, PeerError, codecs, link, network,
    owner::{Events, Expected, Peer},
    sdp,
};
#[cfg(feature = "e2ee")]
use crate::seal::{Intake, Keyring};
use crate::{
    meter::ReceiveMeter,
    packet::{Codec, Kind, PacketCount},
    whep,
};

/// One RTP packet, as it came: perhaps out of order, never twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// How it is coded.
    pub codec: Codec,
    /// The RTP sequence number.
    pub seq: u16,
    /// The RTP time stamp.
    pub stamp: u32,
    /// True for the last packet of a frame.
    pub marker: bool,
    /// The RTP payload.
    pub payload: Bytes,
}

/// What the receiver counted, beside the reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receiving {
    /// RTP packets, repeated ones not counted.
    pub packets: PacketCount,
    /// Sequence numbers that were missing when they were due.
    pub gaps: PacketCount,
    /// Packets that were counted but found [`ViewerStream::packets`] full.
    pub dropped: u64,
    /// Sealed frames that came whole and did not open. They are not counted.
    pub unopened: u64,
}

/// The viewer's side of connecting.
#[derive(Clone, Copy, Debug)]
pub struct ViewerPeer;

/// A connection to a streamer.
#[derive(Debug)]
pub struct ViewerStream {
    /// For the session.
    pub link: Link,
    /// The media. Bounded: what is not taken in time is dropped, and counted all the same. Sealed
    /// media comes opened, a packet a frame.
    pub packets: mpsc::Receiver<ReceivedPacket>,
    /// What was received, on top of the session's reading before.
    pub reading: watch::Receiver<Reading>,
    /// Packets.
    pub receiving: watch::Receiver<Receiving>,
    /// What the streamer will send.
    pub codecs: Vec<Codec>,
    /// Dropped, it closes the connection.
    pub connection: Connection,
}

/// The viewer's hold on its connection. Dropped, it is closed, as by [`Closer::close`].
#[derive(Debug)]
pub struct Connection {
    peer: Arc<Peer>,
    whep: whep::Client,
    session_url: String,
}

impl ViewerPeer {
    /// Packets that wait for the embedder: over a second of 8 Mbit/s.
    const PACKETS_MAX: usize = 1024;

    /// Connects to the WHEP endpoint at `url` and waits for the data channel. `initial` is the
    /// session's reading, zero for a new session.
    ///
    /// # Errors
    /// [`PeerError::Whep`] where the streamer cannot be reached or refuses,
    /// [`PeerError::LinkOverdue`] where no connection comes about, [`PeerError::Stack`].
    pub async fn connect(
        whep: &whep::Client,
        url: &str,
        config: &PeerConfig,
        initial: Reading,
    ) -> Result<ViewerStream, PeerError> {
        let state = State::new(initial);
        Self::connect_with(whep, url, config, state).await
    }

    /// [`connect`](Self::connect) to a stream that may be sealed. Nothing is counted before `keys`
    /// is told that the session is bound, and of sealed media only what it opens. `keys` forgets
    /// what it knew: a connection at a time.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    #[cfg(feature = "e2ee")]
    pub async fn connect_sealable(
        whep: &whep::Client,
        url: &str,
        config: &PeerConfig,
        initial: Reading,
        keys: &Keyring,
    ) -> Result<ViewerStream, PeerError> {
        keys.begin();
        let mut state = State::new(initial);
        state.intake = Some(Intake::new(keys.clone()));
        state.keys = Some(keys.clone());
        Self::connect_with(whep, url, config, state).await
    }

    async fn connect_with(
        whep: &whep::Client,
        url: &str,
        config: &PeerConfig,
        state: State,
    ) -> Result<ViewerStream, PeerError> {
        // The channel is ours to open.
        let expected = Expected {
            channels: 0,
            tracks: 2,
        };
        let engine = codecs::engine(Codec::ALL)?;
        let config = &PeerConfig {
            bind: network::with_ipv6(&config.bind),
            ..config.clone()
        };
        let (peer, events) = Peer::build(config, engine, expected).await?;
        for kind in [Kind::Video, Kind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..Default::default()
            };
            let kind = codecs::stack_kind(kind);
            peer.connection
                .add_transceiver_from_kind(kind, Some(init))
                .await?;
        }
        let init = RTCDataChannelInit {
            ordered: true,
            protocol: CHANNEL_PROTOCOL.to_owned(),
            ..Default::default()
        };
        let channel = peer
            .connection
            .create_data_channel(CHANNEL_LABEL, Some(init))
            .await?;
        let offer = peer.connection.create_offer(None).await?;
        peer.connection.set_local_description(offer).await?;
        let offer = peer.gathered_sdp().await?;
        let accepted = whep.post(url, &offer).await?;
        let connection = Connection {
            peer: peer.clone(),
            whep: *whep,
            session_url: accepted.session_url,
        };
        let answer = sdp::admit(&accepted.answer, config.local || whep::is_local(url))?;
        let codecs = sdp::codecs_sent(&answer);
        let answer = RTCSessionDescription::answer(answer)?;
        let media = Media::start(peer.clone(), events, state);
        peer.connection.set_remote_description(answer).await?;
        let link = Self::link(&peer, channel, config).await?;
        let (packets, reading, receiving) = media;
        Ok(ViewerStream {
            link,
            packets,
            reading,
            receiving,
            codecs,
            connection,
        })
    }

    async fn link(
        peer: &Arc<Peer>,
        channel: Arc<dyn DataChannel>,
        config: &PeerConfig,
    ) -> Result<Link, PeerError> {
        let opened = link::open(peer.clone(), channel, Role::Payer);
        tokio::select! {
            opened = tokio::time::timeout(config.link_deadline, opened) => {
                opened.unwrap_or(Err(PeerError::LinkOverdue(config.link_deadline)))
            }
            () = peer.wait_closed() => Err(PeerError::Closed),
        }
    }
}

impl Connection {
    /// Closes it, once what was said over its link has left, and tells the streamer.
    ///
    /// # Errors
    /// [`whep::ClientError`] where the streamer could not be told; it is closed all the same.
    pub async fn close(self) -> Result<(), whep::ClientError> {
        self.peer.close().await;
        self.whep.delete(&self.session_url).await
    }

    /// To close it from elsewhere or to wait for its end.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer(self.peer.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.close_soon();
    }
}

/// What the tasks that read tracks share.
struct Media {
    state: Mutex<State>,
    packets: mpsc::Sender<ReceivedPacket>,
    reading: watch::Sender<Reading>,
    receiving: watch::Sender<Receiving>,
}

/// What is known of what came.
struct State {
    meter: ReceiveMeter,
    dropped: u64,
    /// Where media may be sealed.
    #[cfg(feature = "e2ee")]
    intake: Option<Intake>,
    /// Until the task that watches them has them.
    #[cfg(feature = "e2ee")]
    keys: Option<Keyring>,
}

impl State {
    fn new(initial: Reading) -> Self {
        Self {
            meter: ReceiveMeter::new(initial),
            dropped: 0,
            #[cfg(feature = "e2ee")]
            intake: None,
            #[cfg(feature = "e2ee")]
            keys: None,
        }
    }

    const fn unopened(&self) -> u64 {
        #[cfg(feature = "e2ee")]
        if let Some(intake) = &self.intake {
            return intake.unopened();
        }
        0
    }
}

type Outlets = (
    mpsc::Receiver<ReceivedPacket>,
    watch::Receiver<Reading>,
    watch::Receiver<Receiving>,
);

impl Media {
    /// Reads every track that comes, whether or not anybody wants its packets: the stack logs
    /// what piles up.
    fn start(peer: Arc<Peer>, mut events: Events, state: State) -> Outlets {
        let initial = state.meter.reading();
        #[cfg(feature = "e2ee")]
        let keys = state.keys.clone();
        let (packets_to, packets) = mpsc::channel(ViewerPeer::PACKETS_MAX);
        let (reading_to, reading) = watch::channel(initial);
        let (receiving_to, receiving) = watch::channel(Receiving::default());
        let media = Arc::new(Self {
            state: Mutex::new(state),
            packets: packets_to,
            reading: reading_to,
            receiving: receiving_to,
        });
        #[cfg(feature = "e2ee")]
        if let Some(keys) = keys {
            tokio::spawn(media.clone().watch(peer.clone(), keys));
        }
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    track = events.tracks.recv() => match track {
                        Some(track) => tokio::spawn(media.clone().read(peer.clone(), track)),
                        None => return,
                    },
                    () = peer.wait_closed() => return,
                };
            }
        });
        (packets, reading, receiving)
    }

    async fn read(self: Arc<Self>, peer: Arc<Peer>, track: Arc<dyn TrackRemote>) {
        let mut codec = None;
        loop {
            let event = tokio::select! {
                event = track.poll() => event,
                () = peer.wait_closed() => return,
            };
            match event {
                Some(TrackRemoteEvent::OnRtpPacket(packet)) => {
                    if codec.is_none() {
                        let named = track.codec(packet.header.ssrc).await;
                        codec = named.and_then(|named| Codec::from_mime(&named.mime_type));
                    }
                    if let Some(codec) = codec {
                        self.take(ReceivedPacket {
                            codec,
                            seq: packet.header.sequence_number,
                            stamp: packet.header.timestamp,
                            marker: packet.header.marker,
                            payload: packet.payload,
                        });
                    }
                }
                Some(TrackRemoteEvent::OnEnded) | None => return,
                Some(_) => {}
            }
        }
    }

    /// Lets what waits for a key go on when one comes.
    #[cfg(feature = "e2ee")]
    async fn watch(self: Arc<Self>, peer: Arc<Peer>, keys: Keyring) {
        let mut changes = keys.changes();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = peer.wait_closed() => return,
            }
            changes.borrow_and_update();
            let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let state = &mut *guard;
            if let Some(intake) = &mut state.intake {
                let opened = intake.woken(&mut state.meter);
                self.pass_on(state, opened);
            }
        }
    }

    fn take(&self, packet: ReceivedPacket) {
        // Nothing below panics half way.
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        #[cfg(feature = "e2ee")]
        if let Some(intake) = &mut state.intake {
            let opened = intake.push(packet, &mut state.meter);
            return self.pass_on(state, opened);
        }
        let kind = packet.codec.kind();
        if state
            .meter
            .receive(kind, packet.seq, packet.stamp, &packet.payload)
        {
            self.pass_on(state, [packet]);
        }
    }

    /// What is counted goes to the embedder, and shows.
    fn pass_on(&self, state: &mut State, packets: impl IntoIterator<Item = ReceivedPacket>) {
        for packet in packets {
            if self.packets.try_send(packet).is_err() {
                state.dropped += 1;
            }
        }
        let receiving = Receiving {
            packets: state.meter.packets(),
            gaps: state.meter.gaps(),
            dropped: state.dropped,
            unopened: state.unopened(),
        };
        self.receiving.send_replace(receiving);
        self.reading.send_replace(state.meter.reading());
    }
}
