use std::net::Ipv4Addr;

use streampay_core::meter::Reading;
use streampay_media::{
    peer::{PeerConfig, PeerError, ViewerPeer},
    whep::{Client, ClientError, Seats, TrustedProxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::rig::Rig;

const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";

/// What a browser sends, near enough.
pub(crate) const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
        a=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n\
        a=sctp-port:5000\r\na=max-message-size:262144\r\n";

/// Sends bytes, gets status and head and body.
async fn raw(rig: &Rig, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap();
    (status, answer.to_lowercase())
}

pub(crate) async fn ask(
    rig: &Rig,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}",
        rig.address
    );
    raw(rig, request.as_bytes()).await
}

#[tokio::test]
async fn requests_that_are_no_offer_get_their_status() {
    let rig = Rig::new(1).await;
    let player = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    let no_codec = format!("v=0\r\n{DATA}");
    let another =
        format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H265/90000\r\n{DATA}");
    let garbage = format!("v=0\r\nm=video\r\nm=video 9 x\r\n{DATA}\u{1}=\r\n");
    let many = format!(
        "v=0\r\n{DATA}{}",
        "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n".repeat(40)
    );
    let sdp = "application/sdp";
    for (method, path, kind, body, status) in [
        ("POST", "/whep", "application/json", "{}", 415),
        ("POST", "/whep", "", "", 415),
        ("POST", "/whep", sdp, &*"v=0\r\n".repeat(20_000), 413),
        ("POST", "/whep", sdp, "", 400),
        ("POST", "/whep", sdp, "garbage", 400),
        ("POST", "/whep", sdp, &garbage, 400),
        ("POST", "/whep", sdp, &many, 400),
        ("POST", "/whep", sdp, player, 402),
        ("POST", "/whep", sdp, &no_codec, 406),
        ("POST", "/whep", sdp, &another, 406),
        ("GET", "/whep", "", "", 405),
        ("PUT", "/whep", "", "", 405),
        ("GET", "/whep/00", "", "", 405),
        ("DELETE", "/whep/00", "", "", 404),
        ("DELETE", "/whep", "", "", 405),
        ("OPTIONS", "/whep", "", "", 204),
        ("GET", "/", "", "", 404),
    ] {
        let (got, answer) = ask(&rig, method, path, kind, body).await;
        assert_eq!(got, status, "{method} {path} {kind}: {answer}");
        assert!(
            path == "/" || answer.contains("access-control-allow-origin: *"),
            "{answer}"
        );
    }
    let (status, answer) = raw(
        &rig,
        b"POST /whep HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\
        Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd",
    )
    .await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn deleting_the_session_ends_it_once() {
    let mut rig = Rig::new(1).await;
    let mut pair = rig.connect().await;
    pair.viewer.connection.close().await.unwrap();
    assert_eq!(pair.link.end.incoming.recv().await, None);
}

#[tokio::test]
async fn strangers_beyond_the_cap_are_turned_away_until_one_has_paid() {
    let clip = crate::rig::asset("clip.ivf");
    let mut rig = Rig::with(&clip, 1, |config| config.unbound_per_address = 1).await;
    let pair = rig.connect().await;
    // Binding costs a stranger nothing, so it makes no room.
    for bound in [false, true] {
        if bound {
            pair.place.bound();
        }
        let config = PeerConfig::loopback();
        let second = ViewerPeer::connect(&Client, &rig.url, &config, Reading::default()).await;
        assert!(
            matches!(
                second,
                Err(PeerError::Whep(ClientError::Busy { status: 429 }))
            ),
            "{second:?}"
        );
    }
    pair.place.paid();
    let _ = rig.connect().await;
}

/// What it is to reach in the offer is left out, so that nothing is sent anywhere.
#[tokio::test]
async fn an_answer_names_the_announced_address_beside_the_hosts_own() {
    const ANNOUNCED: &str = "203.0.113.9";
    let clip = crate::rig::asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| {
        config.peer = PeerConfig {
            announce: vec![ANNOUNCED.parse().unwrap()],
            ..PeerConfig::default()
        };
    })
    .await;
    let offer = OFFER.replace(
        "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n",
        "",
    );
    assert_ne!(offer, OFFER);
    let accepted = Client.post(&rig.url, &offer).await.unwrap();
    Client.delete(&accepted.session_url).await.unwrap();
    let candidates = accepted
        .answer
        .lines()
        .filter(|line| line.starts_with("a=candidate:"));
    // Foundation, component, protocol, priority, address, port.
    let hosts = candidates.map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>());
    let (announced, own): (Vec<_>, Vec<_>) = hosts.partition(|host| host[0] == ANNOUNCED);
    let is_loopback = |host: &Vec<&str>| host[0].parse::<Ipv4Addr>().unwrap().is_loopback();
    let (loopback, own): (Vec<_>, Vec<_>) = own.into_iter().partition(is_loopback);
    assert!(!loopback.is_empty(), "{}", accepted.answer);
    if own.is_empty() {
        let must = std::env::var_os("STREAMPAY_MUST_ANNOUNCE").is_some();
        assert!(!must, "{}", accepted.answer);
        eprintln!("left out: this machine has loopback alone");
    }
    let ports = |hosts: &[Vec<&str>]| {
        hosts
            .iter()
            .map(|host| host[1].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&announced), ports(&own), "{}", accepted.answer);
}

#[tokio::test]
async fn offers_are_counted_over_time_whatever_becomes_of_them() {
    let clip = crate::rig::asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| config.offers_per_minute = 3).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (status, head) = ask(&rig, "POST", "/whep", "application/sdp", "garbage").await;
        answers.push((status, head.contains("retry-after: ")));
    }
    assert_eq!(
        answers,
        [(400, false), (400, false), (400, false), (429, true)]
    );
}

#[tokio::test]
async fn offers_are_turned_away_while_all_seats_are_taken_by_viewers_that_are_here() {
    let clip = crate::rig::asset("clip.ivf");
    let seats = Seats::new(1);
    let given = seats.clone();
    let mut rig = Rig::with(&clip, 1, |config| config.seats = given).await;
    let mut seat = seats.take().unwrap();
    let config = PeerConfig::loopback();
    let second = ViewerPeer::connect(&Client, &rig.url, &config, Reading::default()).await;
    assert!(
        matches!(
            second,
            Err(PeerError::Whep(ClientError::Busy { status: 503 }))
        ),
        "{second:?}"
    );
    // Who has the seat may come back, and the server cannot tell who asks.
    seat.set_away(true);
    let _ = rig.connect().await;
}

#[tokio::test]
async fn an_offer_that_is_still_being_sent_holds_no_place() {
    let clip = crate::rig::asset("clip.ivf");
    let mut rig = Rig::with(&clip, 1, |config| config.unbound_in_all = 1).await;
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    let head = "POST /whep HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n\
        Content-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    // The server says so when it begins to read the body.
    let mut begun = [0; 12];
    slow.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100");
    let _ = rig.connect().await;
}

#[tokio::test]
async fn a_bound_viewer_stays_beyond_the_deadline() {
    let clip = crate::rig::asset("clip.ivf");
    let deadline = std::time::Duration::from_millis(300);
    let mut rig = Rig::with(&clip, 1, |config| config.bind_deadline = deadline).await;
    let pair = rig.connect().await;
    pair.place.bound();
    let closed = pair.viewer.connection.closer();
    let waited = tokio::time::timeout(deadline * 2, closed.closed()).await;
    assert!(waited.is_err(), "the connection was closed");
}

#[tokio::test]
async fn a_stranger_that_is_never_bound_is_disconnected() {
    let clip = crate::rig::asset("clip.ivf");
    let deadline = std::time::Duration::from_millis(300);
    let mut rig = Rig::with(&clip, 1, |config| config.bind_deadline = deadline).await;
    let mut pair = rig.connect().await;
    assert_eq!(pair.viewer.link.end.incoming.recv().await, None);
}

#[tokio::test]
async fn an_offer_that_never_connects_gives_its_place_back() {
    let clip = crate::rig::asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| {
        config.unbound_per_address = 1;
        config.peer.link_deadline = std::time::Duration::from_millis(200);
    })
    .await;
    let config = PeerConfig {
        link_deadline: std::time::Duration::ZERO,
        ..PeerConfig::loopback()
    };
    let mut turned_away = 0;
    for _ in 0..2 {
        let result = ViewerPeer::connect(&Client, &rig.url, &config, Reading::default()).await;
        assert!(
            matches!(result, Err(PeerError::LinkOverdue(_))),
            "{result:?}"
        );
        // The place comes back on the streamer's clock.
        while ask(&rig, "POST", "/whep", "application/sdp", "").await.0 == 429 {
            turned_away += 1;
            tokio::task::yield_now().await;
        }
    }
    assert!(turned_away > 0);
}

#[tokio::test]
async fn a_server_that_is_no_streamer_gives_a_typed_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/whep", listener.local_addr().unwrap());
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Type: text/html\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"\xff\xff\xff\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 999999999\r\n\r\n",
    ];
    let server = async {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer).await.unwrap();
        }
    };
    let client = async {
        let mut errors = Vec::new();
        for _ in answers {
            errors.push(format!("{:?}", Client.post(&url, "v=0").await.unwrap_err()));
        }
        errors
    };
    let ((), errors) = tokio::join!(server, client);
    for (error, expect) in
        errors
            .iter()
            .zip(["NoStream", "NotWhep", "", "Unreachable", "Unreachable"])
    {
        assert!(error.starts_with(expect), "{error}");
    }
}

#[tokio::test]
async fn a_mutilated_offer_gets_an_answer_or_a_refusal() {
    let clip = crate::rig::asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| {
        config.unbound_per_address = 1000;
        config.unbound_in_all = 1000;
        config.peer.link_deadline = std::time::Duration::from_millis(50);
    })
    .await;
    let (status, answer) = ask(&rig, "POST", "/whep", "application/sdp", OFFER).await;
    assert_eq!(status, 201, "{answer}");
    assert!(
        answer.contains(&format!("location: http://{}/whep/", rig.address)),
        "{answer}"
    );
    let mut state = 5_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut answered = 0;
    for round in 0..250 {
        let mut lines: Vec<String> = OFFER.split_inclusive("\r\n").map(str::to_owned).collect();
        for _ in 0..=random(3) {
            let at = random(lines.len());
            match round % 5 {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[random(lines.len())].clone()),
                2 => {
                    let other = random(lines.len());
                    lines.swap(at, other);
                }
                3 => {
                    let length = random(lines[at].len());
                    lines[at].truncate(length);
                    lines[at].push_str("\r\n");
                }
                _ => {
                    let digits = ["-1", "0", "65536", "99999999999999999999", "\u{e9}", ":"];
                    lines[at] = lines[at].replace(['0', '1', '9'], digits[random(digits.len())]);
                }
            }
        }
        let (status, answer) = ask(&rig, "POST", "/whep", "application/sdp", &lines.concat()).await;
        assert!(
            matches!(status, 201 | 400 | 402 | 406),
            "{status} {answer}\n{}",
            lines.concat()
        );
        answered += usize::from(status == 201);
    }
    assert!(answered > 20, "{answered}");
}

#[tokio::test]
async fn a_strangers_offer_sends_nothing_to_services_of_this_machine() {
    let clip = crate::rig::asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| {
        config.peer.local = false;
        config.trusted_proxy = TrustedProxy::XForwardedFor;
    })
    .await;
    let mut services = Vec::new();
    // The one from this machine comes last: once it is tried, the others had their time.
    for caller in ["192.0.2.1", "2001:db8::1", "127.0.0.1"] {
        let service = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        let offer = OFFER.replace("127.0.0.1 9 typ", &format!("127.0.0.1 {port} typ"));
        let request = format!(
            "POST /whep HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: {caller}\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        let (status, answer) = raw(&rig, request.as_bytes()).await;
        assert_eq!(status, 201, "{answer}");
        services.push(service);
    }
    let mut check = [0; 1500];
    let tried = services.pop().unwrap();
    let wait = tried.recv_from(&mut check);
    let (length, _) = tokio::time::timeout(std::time::Duration::from_secs(8), wait)
        .await
        .unwrap()
        .unwrap();
    assert!(length >= 20);
    for service in services {
        let nothing = service.try_recv_from(&mut check).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}
