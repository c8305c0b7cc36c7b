//! A viewer whose network goes away and comes back, over real UDP sockets; and somebody in the
//! middle of the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use streampay_core::driver::LinkEnd;
use streampay_core::meter::Reading;
use streampay_core::session::{CloseCode, Signature};
use streampay_core::units::Msat;
use streampay_core::wire::{Bind, Message, decode, encode};
use streampay_examples::home::Home;
use streampay_examples::pay::Pay;
use streampay_examples::viewer::watch::{Wish, watch};
use streampay_media::peer::{PeerConfig, ViewerPeer};
use streampay_media::source::{FileOptions, Source};
use streampay_media::whep::{Arrival, Client, Server, ServerConfig};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch as tokio_watch};
use tokio::time::Instant;

use crate::cashu_node::sat;
use crate::stream::{stage, stage_paying, stage_with};

/// All that is between the viewer and the streamer: signalling and media pass while it is up.
struct Network {
    streamer: String,
    up: tokio_watch::Sender<bool>,
    /// RTP packets that reached the viewer, over all connections.
    media: tokio_watch::Sender<u64>,
}

impl Network {
    /// The address at which the viewer reaches the streamer of `url` through it.
    async fn before(url: &str) -> (Arc<Self>, String) {
        let network = Arc::new(Self {
            streamer: url.to_owned(),
            up: tokio_watch::Sender::new(true),
            media: tokio_watch::Sender::new(0),
        });
        let app = Router::new()
            .route("/whep", post(Self::pass_offer))
            .route("/whep/{secret}", any(|| async { StatusCode::OK }))
            .with_state(network.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (network, format!("http://{at}/whep"))
    }

    /// Each side learns an address of the network's own instead of the other's.
    async fn pass_offer(State(network): State<Arc<Self>>, offer: String) -> Response {
        if !*network.up.borrow() {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (to_viewer, to_streamer) = (bind().await.unwrap(), bind().await.unwrap());
        let (offer, viewer) = behind(&offer, to_streamer.local_addr().unwrap());
        let accepted = Client.post(&network.streamer, &offer).await.unwrap();
        let (answer, streamer) = behind(&accepted.answer, to_viewer.local_addr().unwrap());
        let sockets = [Arc::new(to_viewer), Arc::new(to_streamer)];
        for (from, to, peer) in [(0, 1, streamer), (1, 0, viewer)] {
            let (from, to) = (sockets[from].clone(), sockets[to].clone());
            let network = network.clone();
            tokio::spawn(async move {
                let mut packet = [0; 2048];
                while let Ok((length, _)) = from.recv_from(&mut packet).await {
                    if *network.up.borrow() {
                        let _ = to.send_to(&packet[..length], peer).await;
                        if is_media(&packet[..length]) {
                            network.media.send_modify(|packets| *packets += 1);
                        }
                    }
                }
            });
        }
        let headers = [
            (header::CONTENT_TYPE, "application/sdp"),
            (header::LOCATION, "/whep/1"),
        ];
        (StatusCode::CREATED, headers, answer).into_response()
    }

    /// Until so many packets more have reached the viewer: of the clip, about 100 a second.
    async fn media(&self, more: u64) {
        let mut media = self.media.subscribe();
        let enough = *media.borrow() + more;
        let reached = media.wait_for(|packets| *packets >= enough);
        let reached = tokio::time::timeout(Duration::from_secs(100), reached).await;
        reached.expect("media flows").unwrap();
    }
}

/// RTP with media, rather than RTCP, STUN or DTLS. Source: RFC 7983 7, RFC 5761 4.
fn is_media(packet: &[u8]) -> bool {
    matches!(packet, [128..=191, kind, ..] if !(192..=223).contains(kind))
}

/// The description with `at` as its only candidate, and the loopback candidate that it had.
fn behind(sdp: &str, at: SocketAddr) -> (String, SocketAddr) {
    let (mut own, mut with) = (None, String::new());
    for line in sdp.split_inclusive('\n') {
        let fields: Vec<_> = line.trim_end().split(' ').collect();
        match fields.as_slice() {
            [candidate, _, _, _, ip, port, ..] if candidate.starts_with("a=candidate:") => {
                if *ip == "127.0.0.1" && own.is_none() {
                    own = Some(SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap()));
                    with.push_str(&line.replace(
                        &format!(" {ip} {port} "),
                        &format!(" {} {} ", at.ip(), at.port()),
                    ));
                }
            }
            _ => with.push_str(line),
        }
    }
    (with, own.unwrap())
}

/// The duration in the head of a Matroska file, in milliseconds. Source: RFC 9559 5.1.2.10.
fn recorded_ms(file: &[u8]) -> f64 {
    // Its identifier, and its length, always in eight bytes.
    let head = [0x44, 0x89, 1, 0, 0, 0, 0, 0, 0, 8];
    let at = file.windows(head.len()).position(|bytes| bytes == head);
    let at = at.unwrap() + head.len();
    f64::from_be_bytes(file[at..at + 8].try_into().unwrap())
}

/// Watches for some ticks, loses the network for so long, goes on for some more, and leaves.
async fn lose_the_network(pay: Pay, gone: Duration) {
    let stage = stage_paying(100, pay).await;
    let (network, url) = Network::before(&stage.serving.link.url).await;
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(60, "2sat/1s", &record);
    order.link.url = url;
    let (wishes, from_user) = mpsc::channel(1);
    let user = async {
        network.media(300).await;
        network.up.send_replace(false);
        // What is tested is that long an absence.
        tokio::time::sleep(gone).await;
        network.up.send_replace(true);
        // Some ticks of it, by a new connection where the absence was longer than finding out takes.
        network.media(400).await;
        wishes.send(Wish::Leave).await.unwrap();
    };
    let (watched, ()) = tokio::join!(watch(&stage.viewer, &order, from_user), user);
    let watched = watched.unwrap();
    assert_eq!(watched.code, Some(CloseCode::Done), "{watched:?}");
    assert!(watched.settled, "{watched:?}");
    // One purse for all of it.
    assert!(watched.openings.len() <= 1, "{watched:?}");
    let credited_ms = watched.account.acknowledged.sat_floor() * 500;
    assert!(watched.media_ms <= credited_ms, "{watched:?}");
    // More than before the loss, and nothing was paid for what could not come.
    assert!((5_000..=12_000).contains(&credited_ms), "{watched:?}");
    // What was under way when the network went is lost: at most a tick, and the meters' tolerance.
    assert!(watched.media_ms + 3_000 >= credited_ms, "{watched:?}");
    let recorded = recorded_ms(&std::fs::read(&record).unwrap());
    // It goes on: no less than what came, and more where the stream stood still in between.
    let played = Duration::from_millis(watched.media_ms).as_secs_f64() * 1_000.0;
    assert!(recorded + 1_500.0 > played, "{recorded} {watched:?}");
    let (_, streamer) = stage.balances().await;
    // Less the mint's fee for bringing home what is locked.
    let earned = watched.account.acknowledged;
    let fee = earned.minus(streamer).unwrap();
    let most = if pay == Pay::Swap { Msat::ZERO } else { sat(1) };
    assert!(fee <= most, "{fee} of {earned}");
    stage.assert_conserved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_gone_for_5_s_costs_no_second_payment() {
    lose_the_network(Pay::Chain, Duration::from_secs(5)).await;
}

/// Twice as long as it takes to find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_gone_for_longer_is_waited_for_within_the_same_session() {
    lose_the_network(Pay::Swap, Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over a minute"]
async fn a_network_that_is_gone_for_60_s_is_waited_for_within_the_same_session() {
    lose_the_network(Pay::Chain, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_lost_its_connection_keeps_its_seat() {
    let stage = stage_with(100, Pay::Chain, |offer| offer.max_viewers = Some(1)).await;
    let (network, url) = Network::before(&stage.serving.link.url).await;
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(60, "2sat/1s", &record);
    order.link.url = url;
    let (wishes, from_user) = mpsc::channel(1);
    let other = Home::open(&stage.folder.path().join("other"))
        .await
        .unwrap();
    let direct = stage.order(50, "2sat/1s", &stage.folder.path().join("other.webm"));
    let nobody = || mpsc::channel(1).1;
    let others = async {
        network.media(300).await;
        let full = watch(&other, &direct, nobody()).await;
        let full = full.err().map(|error| error.to_string());
        network.up.send_replace(false);
        // Until the streamer has seen that the connection is gone; then there is a door, and no seat.
        let until = Instant::now() + Duration::from_secs(40);
        let busy = loop {
            match watch(&other, &direct, nobody()).await {
                Ok(watched) => break watched,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        network.up.send_replace(true);
        network.media(400).await;
        wishes.send(Wish::Leave).await.unwrap();
        (full, busy.code)
    };
    let (watched, (full, busy)) = tokio::join!(watch(&stage.viewer, &order, from_user), others);
    assert!(full.is_some_and(|why| why.contains("the streamer is full")));
    assert_eq!(busy, Some(CloseCode::Busy));
    let watched = watched.unwrap();
    assert_eq!(watched.code, Some(CloseCode::Done), "{watched:?}");
    // It came back: more than it could have had before.
    assert!(watched.media_ms > 5_000, "{watched:?}");
    stage.assert_conserved().await;
}

/// Answers viewers as the streamer would, and has connections of its own to the streamer.
struct Mallory {
    url: String,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Mallory {
    async fn new() -> Self {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf");
        let source = Source::open(clip.as_ref(), FileOptions::default()).await;
        let config = ServerConfig {
            peer: PeerConfig::loopback(),
            ..ServerConfig::default()
        };
        let (server, arrivals) = Server::new(source.unwrap(), config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let service = server
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self {
            url: format!("http://{at}/whep"),
            arrivals,
        }
    }

    /// Takes one viewer and passes all messages on, both ways, until either side hangs up. How many
    /// messages passed, and RTP packets that came from the streamer.
    async fn pass_on(&mut self, streamer: &str) -> (u32, u32, u64) {
        let Arrival {
            link,
            connection: _viewer,
            place,
            ..
        } = self.arrivals.recv().await.unwrap();
        place.bound();
        let config = PeerConfig::loopback();
        let stream = ViewerPeer::connect(&Client, streamer, &config, Reading::default());
        let stream = stream.await.unwrap();
        assert_ne!(stream.link.identity, link.identity);
        let (mut viewer, mut streamer) = (link.end, stream.link.end);
        let (mut up, mut down) = (0, 0);
        loop {
            tokio::select! {
                said = viewer.incoming.recv() => match said {
                    Some(said) if streamer.outgoing.send(said.clone()).await.is_ok() => up += 1,
                    _ => break,
                },
                said = streamer.incoming.recv() => match said {
                    Some(said) if viewer.outgoing.send(said.clone()).await.is_ok() => down += 1,
                    _ => break,
                },
            }
        }
        let packets = stream.receiving.borrow().packets;
        (up, down, packets.video + packets.audio)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_passes_everything_on_gets_no_tick_and_no_packet() {
    let stage = stage(100).await;
    let mut mallory = Mallory::new().await;
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(50, "2sat/1s", &record);
    order.link.url = mallory.url.clone();
    let (_wishes, from_user) = mpsc::channel(1);
    let streamer = stage.serving.link.url.clone();
    let (watched, (up, down, packets)) = tokio::join!(
        watch(&stage.viewer, &order, from_user),
        mallory.pass_on(&streamer)
    );
    let watched = watched.unwrap();
    // The hello and the welcome passed, so it was the binding that failed.
    assert!(up >= 1 && down >= 1, "{up} {down}");
    assert_eq!(watched.code, Some(CloseCode::Misbehaved), "{watched:?}");
    assert_eq!((watched.ticks, watched.packets, packets), (0, 0, 0));
    assert_eq!(stage.balances().await, (sat(100), Msat::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streamer_does_not_bind_a_viewers_hello_to_somebody_elses_connection() {
    let stage = stage(100).await;
    let mut mallory = Mallory::new().await;
    let record = stage.folder.path().join("recording.webm");
    let mut order = stage.order(50, "2sat/1s", &record);
    order.link.url = mallory.url.clone();
    let (wishes, from_user) = mpsc::channel(1);
    let attack = async {
        let arrival = mallory.arrivals.recv().await.unwrap();
        let mut viewer: LinkEnd = arrival.link.end;
        let hello = viewer.incoming.recv().await.unwrap();
        let config = PeerConfig::loopback();
        let url = &stage.serving.link.url;
        let stream = ViewerPeer::connect(&Client, url, &config, Reading::default());
        let mut stream = stream.await.unwrap();
        stream.link.end.outgoing.send(hello).await.unwrap();
        let mut heard = Vec::new();
        let forged = Message::Bind(Bind {
            binding: Signature([7; 64]),
        });
        while let Some(said) = stream.link.end.incoming.recv().await {
            let said = decode(&said).unwrap().unwrap();
            if matches!(said, Message::Welcome(_)) {
                let bind = stream.link.end.outgoing.send(encode(&forged)).await;
                bind.unwrap();
            }
            heard.push(said);
        }
        let packets = stream.receiving.borrow().packets;
        drop((viewer, arrival.connection));
        wishes.send(Wish::Leave).await.unwrap();
        (heard, packets.video + packets.audio)
    };
    let (watched, (heard, packets)) = tokio::join!(watch(&stage.viewer, &order, from_user), attack);
    // It was welcomed and then refused, and the connection ended: the close may be lost with it.
    let welcomed = |said: &Message| matches!(said, Message::Welcome(_));
    let refused = |said: &Message| matches!(said, Message::Close(close) if close.code == CloseCode::Misbehaved);
    assert!(heard.iter().any(welcomed));
    assert!(heard.iter().all(|said| welcomed(said) || refused(said)));
    assert!(!heard.iter().any(|said| matches!(said, Message::Ready(_))));
    let watched = watched.unwrap();
    assert_eq!((watched.ticks, watched.packets, packets), (0, 0, 0));
    assert_eq!(stage.balances().await, (sat(100), Msat::ZERO));
}
