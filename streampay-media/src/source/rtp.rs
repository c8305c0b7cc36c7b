//! RTP over UDP, described by an SDP file, as `ffmpeg -f rtp -sdp_file` and GStreamer send it.
//!
//! Nothing protects such packets: whoever reaches the port can send. So this takes what comes from
//! one sender alone, the first; another only after the first has been silent for [`SILENCE`]. It is
//! for senders on this machine or in a network that is protected by itself.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rtc::{rtp, shared::marshal::Unmarshal};
use tokio::{net::UdpSocket, time::Instant};

use super::{Description, Ingest, Source, SourceWriter, Video};
use crate::{
    packet::{Codec, Kind},
    peer::ReceivedPacket,
};

/// After so long without a packet another sender may begin.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// The longest SDP file, in bytes.
const SDP_MAX: usize = 16 * 1024;

/// Why RTP cannot be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// The text describes no RTP that is understood.
    #[error(
        "the SDP file names no stream that can be taken: VP8, VP9, H.264 or AV1 and Opus over RTP/AVP, each at its own port, with an address in its line c="
    )]
    Sdp,
    /// A port cannot be listened at.
    #[error("cannot receive RTP at {0}: {1}; is another program there?")]
    Bind(SocketAddr, std::io::Error),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] super::SourceError),
}

/// One kind, as the SDP file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    codec: Codec,
    at: SocketAddr,
    payload_type: u8,
    /// H.264: parameter sets that are not in the stream, Annex B.
    parameters: Bytes,
}

impl Source {
    /// Receives what the SDP describes, at the address that its lines `c=` name and the ports of
    /// its lines `m=`. Source: RFC 8866, RFC 3550, RFC 6184 8.2.
    ///
    /// # Errors
    /// [`RtpError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_rtp(sdp: &str) -> Result<Arc<Self>, RtpError> {
        let (streams, description) = Self::described(sdp)?;
        Self::receive(streams, Self::channel(Some(description))).await
    }

    pub(super) fn described(sdp: &str) -> Result<(Vec<Stream>, Description), RtpError> {
        let streams = streams(sdp).ok_or(RtpError::Sdp)?;
        let of = |kind| streams.iter().find(|stream| stream.codec.kind() == kind);
        let description = Description {
            video: of(Kind::Video).map(|stream| Video {
                codec: stream.codec,
                size: None,
                frames_per_1000_s: None,
            }),
            audio: of(Kind::Audio).map(|stream| stream.codec),
            duration_ms: None,
        };
        Ok((streams, description))
    }

    pub(super) async fn receive(
        streams: Vec<Stream>,
        (writer, mut source): (SourceWriter, Self),
    ) -> Result<Arc<Self>, RtpError> {
        let mut ingest = Ingest::new(writer);
        ingest.begin(*source.description());
        let mut receivers = Vec::new();
        for stream in streams {
            let socket = UdpSocket::bind(stream.at).await;
            let socket = socket.map_err(|error| RtpError::Bind(stream.at, error))?;
            if !stream.parameters.is_empty() {
                ingest.set_parameters(stream.parameters.clone());
            }
            receivers.push(Receiver::new(socket, stream));
        }
        let feeder = tokio::spawn(feed(receivers, ingest));
        source.feeder = Some(feeder.abort_handle());
        Ok(Arc::new(source))
    }
}

/// Receives from one socket or two.
async fn feed(mut receivers: Vec<Receiver>, mut ingest: Ingest) {
    let mut second = receivers.pop();
    let mut first = receivers.pop();
    loop {
        let packet = tokio::select! {
            packet = next(&mut first) => packet,
            packet = next(&mut second) => packet,
        };
        // A key frame cannot be asked for here: the next one comes when it comes.
        ingest.push(packet, Instant::now());
    }
}

async fn next(receiver: &mut Option<Receiver>) -> ReceivedPacket {
    match receiver {
        Some(receiver) => receiver.next().await,
        None => std::future::pending().await,
    }
}

/// One socket and whom it listens to.
struct Receiver {
    socket: UdpSocket,
    stream: Stream,
    sender: Option<(SocketAddr, u32, Instant)>,
    buffer: Vec<u8>,
}

impl Receiver {
    fn new(socket: UdpSocket, stream: Stream) -> Self {
        Self {
            socket,
            stream,
            sender: None,
            buffer: vec![0; DATAGRAM_MAX],
        }
    }

    /// The next packet of its sender. Safe to drop half way.
    async fn next(&mut self) -> ReceivedPacket {
        loop {
            match self.socket.recv_from(&mut self.buffer).await {
                Ok((length, from)) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    let datagram = Bytes::copy_from_slice(datagram);
                    if let Some(packet) = self.take(datagram, from, Instant::now()) {
                        return packet;
                    }
                }
                Err(error) => {
                    // Of an earlier datagram, or the system is short of memory: that passes.
                    tracing::debug!(%error, "receiving RTP");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// A datagram as a packet, if it is one of the sender that is listened to.
    fn take(
        &mut self,
        mut datagram: Bytes,
        from: SocketAddr,
        now: Instant,
    ) -> Option<ReceivedPacket> {
        let packet = rtp::Packet::unmarshal(&mut datagram).ok()?;
        let header = &packet.header;
        if header.version != 2 || header.payload_type != self.stream.payload_type {
            return None;
        }
        if let Some((sender, ssrc, last)) = self.sender
            && (sender, ssrc) != (from, header.ssrc)
            && now.saturating_duration_since(last) < SILENCE
        {
            return None;
        }
        self.sender = Some((from, header.ssrc, now));
        Some(ReceivedPacket {
            codec: self.stream.codec,
            seq: header.sequence_number,
            stamp: header.timestamp,
            marker: header.marker,
            payload: packet.payload,
        })
    }
}

/// The first stream of each kind; none where there is none, or something makes no sense.
fn streams(sdp: &str) -> Option<Vec<Stream>> {
    if sdp.len() > SDP_MAX {
        return None;
    }
    let mut sections = sdp.split("\nm=");
    let session = address(sections.next()?);
    let mut found: Vec<Stream> = Vec::new();
    for section in sections {
        let stream = stream(section, session)?;
        let known = |it: &Stream| it.codec.kind() == stream.codec.kind() || it.at == stream.at;
        if found.iter().any(known) {
            return None;
        }
        found.push(stream);
    }
    (!found.is_empty()).then_some(found)
}

/// `video 5004 RTP/AVP 96` and the lines after it.
fn stream(section: &str, session: Option<IpAddr>) -> Option<Stream> {
    let mut fields = section.lines().next()?.split_whitespace();
    let kind = fields.next()?;
    let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
    if fields.next()? != "RTP/AVP" {
        return None;
    }
    let payload_type: u8 = fields.next()?.parse().ok()?;
    let attribute = |name: &str| {
        let prefix = format!("a={name}:{payload_type} ");
        section
            .lines()
            .find_map(|line| line.trim_end().strip_prefix(prefix.as_str()))
    };
    let name = attribute("rtpmap")?.split('/').next()?;
    let codec = Codec::from_mime(&format!("{kind}/{name}"))?;
    let ip = address(section).or(session)?;
    let sets = attribute("fmtp").and_then(|parameters| {
        let mut named = parameters.split(';').map(str::trim);
        named.find_map(|it| it.strip_prefix("sprop-parameter-sets="))
    });
    let mut parameters = Vec::new();
    for set in sets.into_iter().flat_map(|sets| sets.split(',')) {
        parameters.extend([0, 0, 0, 1]);
        parameters.extend(base64(set)?);
    }
    Some(Stream {
        codec,
        at: SocketAddr::new(ip, port),
        payload_type,
        parameters: parameters.into(),
    })
}

/// `c=IN IP4 127.0.0.1`. No multicast: it has a TTL behind a slash, and strangers.
fn address(lines: &str) -> Option<IpAddr> {
    let line = lines.lines().find_map(|line| line.strip_prefix("c=IN "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Source: RFC 4648 4. Padding may be left out.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        held = held << 6 & 0xffff | u32::from(digit(byte)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::shared::marshal::Marshal;

    const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=video 5004 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n\
        m=audio 5006 RTP/AVP 97\r\nb=AS:64\r\na=rtpmap:97 opus/48000/2\r\n";

    #[test]
    fn descriptions_are_read_as_encoders_write_them() {
        let found = streams(SDP).unwrap();
        let named: Vec<_> = found
            .iter()
            .map(|it| (it.codec, it.at.to_string(), it.payload_type))
            .collect();
        assert_eq!(
            named,
            [
                (Codec::Vp8, "127.0.0.1:5004".to_owned(), 96),
                (Codec::Opus, "127.0.0.1:5006".to_owned(), 97)
            ]
        );
        let h264 = "v=0\nm=video 5004 RTP/AVP 96\nc=IN IP6 ::1\na=rtpmap:96 H264/90000\n\
            a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHg==,aM4=; profile-level-id=42C01E\n";
        let found = streams(h264).unwrap();
        assert_eq!(found[0].at.to_string(), "[::1]:5004");
        assert_eq!(
            found[0].parameters[..],
            [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0, 0, 0, 1, 0x68, 0xce]
        );
    }

    #[test]
    fn descriptions_that_make_no_sense_are_refused() {
        for (from, to) in [
            ("m=video", "m=text"),
            ("5004 RTP/AVP", "0 RTP/AVP"),
            ("5004 RTP/AVP", "99999 RTP/AVP"),
            ("5004 RTP/AVP", "5004 RTP/SAVP"),
            ("5006", "5004"),
            ("VP8/90000", "theora/90000"),
            ("VP8/90000", "opus/48000/2"),
            ("rtpmap:96", "rtpmap:95"),
            ("m=audio 5006 RTP/AVP 97", "m=video 5006 RTP/AVP 97"),
            ("c=IN IP4 127.0.0.1", "c=IN IP4 224.1.1.1/1"),
            ("c=IN IP4 127.0.0.1\r\n", ""),
        ] {
            let changed = SDP.replace(from, to);
            assert_ne!(changed, SDP);
            assert_eq!(streams(&changed), None, "{from} {to}");
        }
        assert_eq!(streams(""), None);
        assert_eq!(streams(&SDP.repeat(100)), None);
    }

    #[cfg(feature = "e2ee")]
    #[tokio::test]
    async fn what_cannot_be_sealed_is_refused_before_a_port_is_taken() {
        use crate::source::SourceError;
        let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let sdp = SDP.replace("5004", &port);
        for (codec, named) in [
            (Codec::H264, "H264/90000"),
            (Codec::Vp9, "VP9/90000"),
            (Codec::Av1, "AV1/90000"),
        ] {
            let sdp = sdp.replace("VP8/90000", named);
            let refused = Source::open_rtp_sealed(&sdp).await;
            assert!(
                matches!(refused, Err(RtpError::Seal(SourceError::Unsealable(it))) if it == codec),
                "{refused:?}"
            );
        }
        let bound = Source::open_rtp_sealed(&sdp).await;
        assert!(matches!(bound, Err(RtpError::Bind(..))), "{bound:?}");
    }

    fn datagram(payload_type: u8, ssrc: u32, seq: u16, payload: &'static [u8]) -> Bytes {
        let header = rtp::Header {
            version: 2,
            marker: true,
            payload_type,
            sequence_number: seq,
            timestamp: u32::from(seq) * 3000,
            ssrc,
            ..Default::default()
        };
        let payload = Bytes::from_static(payload);
        rtp::Packet { header, payload }.marshal().unwrap().freeze()
    }

    #[tokio::test(start_paused = true)]
    async fn one_sender_is_listened_to_until_it_is_silent() {
        let stream = streams(SDP).unwrap().remove(0);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut receiver = Receiver::new(socket, stream);
        let (one, two) = (
            "127.0.0.1:1000".parse().unwrap(),
            "127.0.0.1:2000".parse().unwrap(),
        );
        let now = Instant::now();
        let key: &[u8] = &[0x10, 0, 0];
        let mut taken = |payload_type, ssrc, from, after| {
            let datagram = datagram(payload_type, ssrc, 1, key);
            let at = now + Duration::from_millis(after);
            receiver.take(datagram, from, at).is_some()
        };
        assert!(!taken(97, 7, one, 0), "another payload type");
        assert!(taken(96, 7, one, 0));
        assert!(!taken(96, 7, two, 10), "another sender");
        assert!(!taken(96, 8, one, 10), "another stream of it");
        assert!(taken(96, 7, one, 2900));
        assert!(!taken(96, 8, two, 5800));
        assert!(taken(96, 8, two, 5900));
        assert!(!taken(96, 7, one, 6000));
        for bytes in [&[][..], &[0x80], &[0xff; 40]] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(receiver.take(bytes, two, now), None);
        }
    }

    #[tokio::test]
    async fn what_is_sent_to_the_ports_is_the_stream() {
        // Two ports that are free.
        let sockets = [
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
        ];
        let ports = sockets.map(|socket| socket.local_addr().unwrap().port().to_string());
        let sdp = SDP.replace("5004", &ports[0]).replace("5006", &ports[1]);
        let source = Source::open_rtp(&sdp).await.unwrap();
        assert!(matches!(
            Source::open_rtp(&sdp).await,
            Err(RtpError::Bind(..))
        ));
        let codecs: Vec<Codec> = source.description().codecs().collect();
        assert_eq!(codecs, [Codec::Vp8, Codec::Opus]);
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let [video, audio] = ports.map(|port| format!("127.0.0.1:{port}"));
        let mut head = source.ring().head();
        sender
            .send_to(&datagram(96, 7, 1, &[0x10, 0, 0]), video)
            .await
            .unwrap();
        head.wait_for(|packets| *packets == 1).await.unwrap();
        sender
            .send_to(&datagram(97, 8, 1, &[0x78]), audio)
            .await
            .unwrap();
        head.wait_for(|packets| *packets == 2).await.unwrap();
        let Some(packets) = source.ring().pulled(0, 10) else {
            panic!("the ring holds both");
        };
        let kinds: Vec<Kind> = packets.iter().map(|packet| packet.kind).collect();
        assert_eq!(kinds, [Kind::Video, Kind::Audio]);
    }
}
