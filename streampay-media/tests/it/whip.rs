//! Publishing, by a publisher made with the stack itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rtc::rtp::{Packet, header::Header};
use streampay_core::meter::Reading;
use streampay_media::{
    packet::{Codec, Kind, PacketCount},
    peer::{PeerConfig, PeerError, ViewerPeer},
    source::{Description, Source, SourceWriter},
    whep::{self, Client, ClientError},
    whip::{self, StreamKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::{PeerConnection, RTCSessionDescription},
};

use crate::{
    misbehaviour::{build, camera},
    rig::{Rig, asset, open, settled, until},
};

const KEY: &str = "0123456789abcdef";

/// A streamer that waits for a publisher.
async fn awaiting() -> (Rig, whip::Server) {
    let (writer, source) = Source::awaited();
    awaiting_for(writer, source).await
}

async fn awaiting_for(writer: SourceWriter, source: Arc<Source>) -> (Rig, whip::Server) {
    let peer = PeerConfig {
        link_deadline: Duration::from_secs(5),
        ..PeerConfig::loopback()
    };
    let config = whip::ServerConfig {
        peer: peer.clone(),
        ..whip::ServerConfig::default()
    };
    let publishing = whip::Server::new(writer, StreamKey::new(KEY).unwrap(), config);
    let config = whep::ServerConfig {
        peer,
        ..whep::ServerConfig::default()
    };
    let (watching, arrivals) = whep::Server::new(source.clone(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = publishing.router().merge(watching.router());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let rig = Rig {
        url: format!("http://{address}/whep"),
        address,
        arrivals,
        source,
    };
    (rig, publishing)
}

/// Posts to `path` and gets status, head and body.
async fn post(rig: &Rig, path: &str, authorization: &str, body: &str) -> (u16, String, String) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        rig.address,
        body.len()
    );
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

/// Somebody with a camera: pictures of the clip, 4 times as fast.
struct Publisher {
    peer: Arc<dyn PeerConnection>,
    location: String,
    sending: tokio::task::JoinHandle<()>,
}

impl Publisher {
    async fn begin(rig: &Rig, ssrc: u32) -> Self {
        let (peer, mut done) = build().await;
        let track = camera(ssrc);
        let as_track: Arc<dyn TrackLocal> = track.clone();
        let sender = peer.add_track(as_track).await.unwrap();
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        done.wait_for(|done| *done).await.unwrap();
        let offer = peer.local_description().await.unwrap().sdp;
        let (status, head, answer) = post(rig, "/whip", &format!("Bearer {KEY}"), &offer).await;
        assert_eq!(status, 201, "{head}");
        let location = head.split("location: ").nth(1).unwrap();
        let location = location.lines().next().unwrap().to_owned();
        assert!(location.starts_with(&format!("http://{}/whip/", rig.address)));
        let answer = RTCSessionDescription::answer(answer).unwrap();
        peer.set_remote_description(answer).await.unwrap();
        let parameters = sender.get_parameters().await.unwrap().rtp_parameters;
        let is_vp8 = |codec: &&rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters| {
            codec.rtp_codec.mime_type == "video/VP8"
        };
        let payload_type = parameters.codecs.iter().find(is_vp8).unwrap().payload_type;
        let sending = tokio::spawn(send(track, ssrc, payload_type));
        Self {
            peer,
            location,
            sending,
        }
    }

    async fn vanish(self) {
        self.sending.abort();
        self.peer.close().await.unwrap();
    }
}

async fn send(track: Arc<TrackLocalStaticRTP>, ssrc: u32, payload_type: u8) {
    let clip = std::fs::read(asset("clip.ivf")).unwrap();
    let mut seq = 0_u16;
    let mut stamp = ssrc;
    loop {
        let mut rest = &clip[32..];
        while let Some((head, after)) = rest.split_at_checked(12) {
            let length = u32::from_le_bytes(head[..4].try_into().unwrap());
            let (frame, after) = after.split_at(usize::try_from(length).unwrap());
            rest = after;
            let count = frame.chunks(1100).count();
            for (at, piece) in frame.chunks(1100).enumerate() {
                let header = Header {
                    version: 2,
                    marker: at + 1 == count,
                    payload_type,
                    sequence_number: seq,
                    timestamp: stamp,
                    ssrc,
                    ..Default::default()
                };
                seq = seq.wrapping_add(1);
                let payload = [&[if at == 0 { 0x10 } else { 0 }], piece].concat();
                let payload = Bytes::from(payload);
                let _ = track.write_rtp(Packet { header, payload }).await;
            }
            stamp = stamp.wrapping_add(900);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_is_published_reaches_viewers_who_pay_and_nobody_else() {
    let (mut rig, publishing) = awaiting().await;
    assert_eq!(*rig.source.description(), Description::NOTHING);
    let config = PeerConfig::loopback();
    let early = ViewerPeer::connect(&Client, &rig.url, &config, Reading::default()).await;
    assert!(
        matches!(
            early,
            Err(PeerError::Whep(ClientError::Busy { status: 503 }))
        ),
        "{early:?}"
    );
    let publisher = Publisher::begin(&rig, 4_000_000_000).await;
    until(&mut publishing.live(), |live| *live).await;
    assert_eq!(rig.source.description().video.unwrap().codec, Codec::Vp8);
    let mut paying = rig.connect().await;
    let idle = rig.connect().await;
    let (_grants, receiver) = watch::channel(open(2000));
    let mut reading = paying.streamer.start(receiver, Reading::default()).unwrap();
    until(&mut reading, |reading| reading.media_ms > 1900).await;
    let received = settled(&mut paying.viewer.receiving, Duration::from_millis(400)).await;
    assert!(reading.borrow().media_ms <= 2000);
    assert_eq!(received.packets, *paying.streamer.sent().borrow());
    assert_eq!(received.gaps, PacketCount::default());
    let got = paying.viewer.reading.borrow().media_ms;
    assert!(got.abs_diff(reading.borrow().media_ms) <= 60, "{got}");
    let first = paying.viewer.packets.try_recv().unwrap();
    assert_eq!(first.codec.kind(), Kind::Video);
    assert!(first.payload[0] & 0x10 != 0 && first.payload[1] & 1 == 0);
    let none = PacketCount::default();
    assert_eq!(idle.viewer.receiving.borrow().packets, none);
    publisher.vanish().await;
    until(&mut publishing.live(), |live| !*live).await;
}

#[tokio::test]
async fn a_second_publisher_takes_the_place_of_the_first_and_viewers_stay() {
    let (mut rig, publishing) = awaiting().await;
    let first = Publisher::begin(&rig, 1).await;
    until(&mut publishing.live(), |live| *live).await;
    let mut pair = rig.connect().await;
    let (_grants, receiver) = watch::channel(open(1_000_000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    until(&mut reading, |reading| reading.media_ms > 500).await;
    // The first is not told to go, as with a network that broke.
    let second = Publisher::begin(&rig, 2_000_000_000).await;
    let before = reading.borrow().media_ms;
    until(&mut reading, |reading| reading.media_ms > before + 1500).await;
    let received = settled(&mut pair.viewer.receiving, Duration::ZERO).await;
    assert_eq!(received.gaps, PacketCount::default());
    assert!(pair.viewer.reading.borrow().media_ms > before + 1000);
    let mut last: Option<u32> = None;
    while let Ok(packet) = pair.viewer.packets.try_recv() {
        let step = last.map_or(0, |last| packet.stamp.wrapping_sub(last));
        assert!(step < 90_000 * 20, "time goes back or far ahead: {step}");
        last = Some(packet.stamp);
    }
    first.vanish().await;
    Client.delete(&second.location).await.unwrap();
    until(&mut publishing.live(), |live| !*live).await;
    second.vanish().await;
}

#[tokio::test]
async fn only_who_has_the_key_may_publish() {
    let (rig, publishing) = awaiting().await;
    let began = std::time::Instant::now();
    for (authorization, expect) in [
        ("", 401),
        ("Bearer", 401),
        (KEY, 401),
        ("Basic 0123456789abcdef", 401),
        ("Bearer 0123456789abcdeF", 401),
        ("Bearer 0123456789abcdef0", 401),
        ("Bearer 0123456789abcdef", 400),
        ("bearer  0123456789abcdef ", 400),
    ] {
        let (status, head, body) = post(&rig, "/whip", authorization, "no offer").await;
        assert_eq!(status, expect, "{authorization}: {head}");
        assert_eq!(head.contains("www-authenticate: bearer"), status == 401);
        assert!(!body.contains(KEY));
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "guesses wait");
    let guess = || post(&rig, "/whip", "Bearer 00000000000000000", "v=0");
    let answers = tokio::join!(guess(), guess(), guess(), guess(), guess(), guess());
    let statuses = [
        answers.0.0,
        answers.1.0,
        answers.2.0,
        answers.3.0,
        answers.4.0,
        answers.5.0,
    ];
    let refused = |status| statuses.iter().filter(|it| **it == status).count();
    assert_eq!((refused(401), refused(429)), (4, 2), "{statuses:?}");
    assert!(!*publishing.live().borrow());
}

/// An offer of one picture. It lacks what a connection needs.
fn section(codec: &str) -> String {
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtpmap:96 {codec}/90000\r\n"
    )
}

#[tokio::test]
async fn offers_that_hold_nothing_to_publish_get_their_status() {
    let (rig, _publishing) = awaiting().await;
    let data = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
    for (offer, expect) in [
        ("v=0\r\n".to_owned(), 406),
        (data.to_owned(), 406),
        (section("H265"), 406),
        (section("VP8"), 400),
        ("garbage".to_owned(), 400),
        ("v=0\r\n".repeat(20_000), 413),
    ] {
        let (status, head, body) = post(&rig, "/whip", &format!("Bearer {KEY}"), &offer).await;
        assert_eq!(status, expect, "{offer}: {head} {body}");
    }
    assert_eq!(*rig.source.description(), Description::NOTHING);
}

#[cfg(feature = "e2ee")]
#[tokio::test]
async fn a_publisher_whose_picture_cannot_be_sealed_is_told_what_can() {
    let (writer, source) = Source::sealed(None).unwrap();
    let (rig, _publishing) = awaiting_for(writer, source).await;
    let publish = async |codec| {
        let offer = section(codec);
        let (status, _, body) = post(&rig, "/whip", &format!("Bearer {KEY}"), &offer).await;
        (status, body)
    };
    for codec in ["H264", "VP9", "AV1"] {
        let (status, body) = publish(codec).await;
        assert_eq!(status, 406, "{codec}: {body}");
        assert!(body.starts_with("publish VP8, Opus;"), "{body}");
    }
    assert_eq!(publish("VP8").await.0, 400, "it lacks the rest");
    assert_eq!(*rig.source.description(), Description::NOTHING);
}

/// Sends a request to `path` and gets the status.
async fn patch(rig: &Rig, path: &str, kind: &str, tag: Option<&str>, body: &str) -> u16 {
    let tag = tag.map(|tag| format!("If-Match: {tag}\r\n"));
    let request = format!(
        "PATCH {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n{}\
         Content-Length: {}\r\n\r\n{body}",
        rig.address,
        tag.unwrap_or_default(),
        body.len()
    );
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn without_candidates(sdp: &str) -> String {
    let lines = sdp
        .lines()
        .filter(|line| !line.starts_with("a=candidate") && !line.starts_with("a=end-of-cand"));
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// The publisher is not told where the server is, so that they meet only where the server was told
/// by `PATCH` where the publisher is.
#[tokio::test]
async fn candidates_that_come_after_the_offer_are_taken() {
    const KIND: &str = "application/trickle-ice-sdpfrag";
    let (rig, publishing) = awaiting().await;
    let (peer, mut done) = build().await;
    let track = camera(5);
    let as_track: Arc<dyn TrackLocal> = track.clone();
    let sender = peer.add_track(as_track).await.unwrap();
    let offer = peer.create_offer(None).await.unwrap();
    peer.set_local_description(offer).await.unwrap();
    done.wait_for(|done| *done).await.unwrap();
    let whole = peer.local_description().await.unwrap().sdp;
    let offer = without_candidates(&whole);
    assert_ne!(offer, whole);
    let (status, head, answer) = post(&rig, "/whip", &format!("Bearer {KEY}"), &offer).await;
    assert_eq!(status, 201, "{head}");
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let location = value("location: ").unwrap();
    let path = location[location.find("/whip/").unwrap()..].to_owned();
    let etag = value("etag: ").unwrap().to_owned();
    assert!(etag.len() >= 18 && etag.starts_with('"'), "{etag}");
    assert_eq!(value("accept-patch: "), Some(KIND));
    let answer = RTCSessionDescription::answer(without_candidates(&answer)).unwrap();
    peer.set_remote_description(answer).await.unwrap();
    let line = |prefix: &str| whole.lines().find(|line| line.starts_with(prefix)).unwrap();
    let piece = |user: &str, candidates: usize| {
        let pwd = line("a=ice-pwd:");
        let candidate = format!("{}\r\n", line("a=candidate:")).repeat(candidates);
        format!("{user}\r\n{pwd}\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n{candidate}")
    };
    let user = line("a=ice-ufrag:");
    let tag = &*etag;
    let good = piece(user, 1);
    let unknown = format!("{path}0");
    for (path, kind, tag, body, expect) in [
        (&unknown, KIND, Some(tag), &good, 404),
        (&path, KIND, None, &good, 428),
        (&path, KIND, Some("\"another\""), &good, 412),
        (&path, "application/sdp", Some(tag), &good, 415),
        (&path, KIND, Some(tag), &"x".to_owned(), 400),
        (&path, KIND, Some(tag), &piece(user, 33), 400),
        (&path, KIND, Some("*"), &piece("a=ice-ufrag:other", 1), 422),
        (&path, KIND, Some(tag), &"a=x\r\n".repeat(20_000), 413),
        (&path, KIND, Some(tag), &good, 204),
        (
            &path,
            KIND,
            Some(tag),
            &"a=end-of-candidates\r\n".to_owned(),
            204,
        ),
    ] {
        assert_eq!(patch(&rig, path, kind, tag, body).await, expect, "{body}");
    }
    let parameters = sender.get_parameters().await.unwrap().rtp_parameters;
    let mut codecs = parameters.codecs.iter();
    let vp8 = codecs.find(|codec| codec.rtp_codec.mime_type == "video/VP8");
    let sending = tokio::spawn(send(track, 5, vp8.unwrap().payload_type));
    until(&mut publishing.live(), |live| *live).await;
    sending.abort();
    peer.close().await.unwrap();
}
