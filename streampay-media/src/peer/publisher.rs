use std::sync::Arc;

use rtc::rtcp::{self, payload_feedbacks::picture_loss_indication::PictureLossIndication};
use tokio::sync::{mpsc, watch};
use webrtc::{
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::RTCSessionDescription,
};

use super::{
    Closer, PeerConfig, PeerError, ReceivedPacket, codecs,
    owner::{Events, Expected, Peer},
    sdp,
};
use crate::{
    packet::{Codec, Kind},
    source::{Description, Video},
};

/// The connection of somebody who publishes. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct PublisherPeer {
    peer: Arc<Peer>,
    /// What it sends, as it comes.
    pub(crate) packets: mpsc::Receiver<ReceivedPacket>,
    /// What it was agreed to send.
    pub(crate) description: Description,
    picture: watch::Receiver<Option<Picture>>,
}

/// The track that can be asked for key frames.
#[derive(Clone)]
struct Picture {
    track: Arc<dyn TrackRemote>,
    ssrc: u32,
}

impl PublisherPeer {
    /// Packets that wait to be taken: over a second of 8 Mbit/s.
    const PACKETS_MAX: usize = 1024;

    /// Answers a publisher's offer. Of each kind the first codec of its list is taken that is
    /// among `takes`; where `known` says what the stream is, that codec alone.
    ///
    /// # Errors
    /// [`PeerError::Sdp`], [`PeerError::NoCodecTaken`], [`PeerError::Stack`],
    /// [`PeerError::Gathering`].
    pub(crate) async fn answer(
        offer: &str,
        known: Option<&Description>,
        takes: &[Codec],
        config: &PeerConfig,
    ) -> Result<(String, Self), PeerError> {
        let offer = sdp::admit_media(offer, config.local)?;
        let taken = |codec: &Codec| {
            takes.contains(codec) && known.is_none_or(|known| known.codecs().any(|it| it == *codec))
        };
        let first = |kind| {
            let mut offered = sdp::codecs_offered(&offer, kind).into_iter();
            offered.find(taken)
        };
        let (video, audio) = (first(Kind::Video), first(Kind::Audio));
        let codecs: Vec<Codec> = video.into_iter().chain(audio).collect();
        if codecs.is_empty() {
            let wanted = known.map(|known| known.codecs().collect());
            return Err(PeerError::NoCodecTaken(
                wanted.unwrap_or_else(|| takes.to_vec()),
            ));
        }
        let description = Description {
            video: video.map(|codec| Video {
                codec,
                size: None,
                frames_per_1000_s: None,
            }),
            audio,
            duration_ms: None,
        };
        let expected = Expected {
            channels: 0,
            tracks: codecs.len(),
        };
        let engine = codecs::engine(codecs)?;
        let (peer, events) = Peer::build(config, engine, expected).await?;
        let offer = RTCSessionDescription::offer(offer)?;
        peer.connection.set_remote_description(offer).await?;
        let answer = peer.connection.create_answer(None).await?;
        peer.connection.set_local_description(answer).await?;
        let answer = peer.gathered_sdp().await?;
        let (packets, picture) = Self::receive(&peer, events);
        let publisher = Self {
            peer,
            packets,
            description,
            picture,
        };
        Ok((answer, publisher))
    }

    /// Reads every track that comes: the stack logs what piles up.
    fn receive(
        peer: &Arc<Peer>,
        mut events: Events,
    ) -> (
        mpsc::Receiver<ReceivedPacket>,
        watch::Receiver<Option<Picture>>,
    ) {
        let (packets_to, packets) = mpsc::channel(Self::PACKETS_MAX);
        let (picture_to, picture) = watch::channel(None);
        let peer = peer.clone();
        tokio::spawn(async move {
            let picture_to = Arc::new(picture_to);
            loop {
                let track = tokio::select! {
                    track = events.tracks.recv() => track,
                    () = peer.wait_closed() => None,
                };
                let Some(track) = track else { return };
                let (packets, picture) = (packets_to.clone(), picture_to.clone());
                tokio::spawn(read(peer.clone(), track, packets, picture));
            }
        });
        (packets, picture)
    }

    /// Asks for a key frame, if there is a picture.
    pub(crate) async fn ask_for_key_frame(&self) {
        let picture = self.picture.borrow().clone();
        if let Some(Picture { track, ssrc }) = picture {
            let ask: Box<dyn rtcp::Packet> = Box::new(PictureLossIndication {
                sender_ssrc: 0,
                media_ssrc: ssrc,
            });
            if let Err(error) = track.write_rtcp(vec![ask]).await {
                tracing::debug!(%error, "a key frame could not be asked for");
            }
        }
    }

    /// To close it from elsewhere or to wait for its end.
    pub(crate) fn closer(&self) -> Closer {
        Closer(self.peer.clone())
    }
}

/// The tasks that read hold the connection, too: without this they would keep it.
impl Drop for PublisherPeer {
    fn drop(&mut self) {
        self.peer.close_soon();
    }
}

async fn read(
    peer: Arc<Peer>,
    track: Arc<dyn TrackRemote>,
    packets: mpsc::Sender<ReceivedPacket>,
    picture: Arc<watch::Sender<Option<Picture>>>,
) {
    let mut codec = None;
    let mut lost = 0_u64;
    loop {
        let event = tokio::select! {
            event = track.poll() => event,
            () = peer.wait_closed() => return,
        };
        let packet = match event {
            Some(TrackRemoteEvent::OnRtpPacket(packet)) => packet,
            Some(TrackRemoteEvent::OnEnded) | None => return,
            Some(_) => continue,
        };
        let ssrc = packet.header.ssrc;
        if codec.is_none() {
            let named = track.codec(ssrc).await;
            codec = named.and_then(|named| Codec::from_mime(&named.mime_type));
            if codec.is_some_and(|codec| codec.kind() == Kind::Video) {
                let track = track.clone();
                picture.send_replace(Some(Picture { track, ssrc }));
            }
        }
        let Some(codec) = codec else { continue };
        let received = ReceivedPacket {
            codec,
            seq: packet.header.sequence_number,
            stamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload,
        };
        // A gap then: what reads them is behind by more than a second.
        if packets.try_send(received).is_err() {
            lost += 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "packets of the publisher were not taken in time");
            }
        }
    }
}

impl core::fmt::Debug for Picture {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Picture")
            .field("ssrc", &self.ssrc)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:\
        AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\n\
        a=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";

    #[tokio::test]
    async fn a_publisher_that_is_dropped_is_closed_at_once() {
        let config = PeerConfig::loopback();
        let answered = PublisherPeer::answer(OFFER, None, &Codec::ALL, &config).await;
        let (_answer, publisher) = answered.unwrap();
        let Closer(peer) = publisher.closer();
        assert!(!peer.ending.is_closed());
        drop(publisher);
        assert!(peer.ending.is_closed());
    }
}
