//! Players without a data channel, made with the stack itself, and a paywall that takes each of
//! its tokens once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rtc::rtp_transceiver::{
    RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RtpCodecKind,
};
use streampay_core::{
    meter::{Rate, Reading, Tariff},
    units::Msat,
};
use streampay_media::whep::{Kept, PaymentError, Paywall, ServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
};
use webrtc::{
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use crate::rig::{Rig, asset, settled, until};

/// A token buys this many milliseconds, at 1 msat each.
const SPAN_MS: u64 = 800;
/// This one buys more.
const LONG: &str = "token long";
const LONG_MS: u64 = 3_200;
const QUIET: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Tokens {
    demand: &'static str,
    /// How its tokens begin.
    prefix: &'static str,
    spent: Mutex<BTreeSet<String>>,
    kept: Mutex<BTreeMap<[u8; 32], Kept>>,
    pub(crate) asked: AtomicUsize,
    /// A payment is taken when there is a permit.
    pub(crate) mint: Semaphore,
}

impl Tokens {
    pub(crate) fn demanding(demand: &'static str, prefix: &'static str) -> Self {
        Self {
            demand,
            prefix,
            spent: Mutex::default(),
            kept: Mutex::default(),
            asked: AtomicUsize::default(),
            mint: Semaphore::new(1000),
        }
    }
}

#[async_trait::async_trait]
impl Paywall for Tokens {
    fn header(&self) -> &'static str {
        "x-cashu"
    }

    async fn demand(&self) -> Option<String> {
        (!self.demand.is_empty()).then(|| self.demand.to_owned())
    }

    fn tariff(&self) -> Tariff {
        Tariff {
            time: Rate::new(Msat::new(1).unwrap(), 1).ok(),
            bytes: None,
        }
    }

    async fn take(&self, payment: &str, span: [u8; 32]) -> Result<Msat, PaymentError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.mint.acquire().await.unwrap().forget();
        if payment == "away" {
            return Err(PaymentError::Unavailable);
        }
        let fresh = self.spent.lock().unwrap().insert(payment.to_owned());
        if !payment.starts_with(self.prefix) || !fresh {
            return Err(PaymentError::Refused("not a token, or spent".to_owned()));
        }
        let ms = if payment == LONG { LONG_MS } else { SPAN_MS };
        let amount = Msat::new(ms).unwrap();
        let mut kept = self.kept.lock().unwrap();
        let kept = kept.entry(span).or_default();
        kept.paid = kept.paid.plus(amount).unwrap();
        Ok(amount)
    }

    async fn kept(&self, span: [u8; 32]) -> Option<Kept> {
        self.kept.lock().unwrap().get(&span).copied()
    }

    async fn used(&self, span: [u8; 32], used: Reading) {
        if let Some(kept) = self.kept.lock().unwrap().get_mut(&span) {
            kept.used = used;
        }
    }

    async fn ended(&self, span: [u8; 32], paid: Msat) {
        let mut kept = self.kept.lock().unwrap();
        if kept.get(&span).is_some_and(|kept| kept.paid <= paid) {
            kept.remove(&span);
        }
    }
}

async fn rig() -> (Rig, Arc<Tokens>) {
    let tokens = Arc::new(Tokens::demanding("creqAtest", "token"));
    (rig_of(&tokens).await, tokens)
}

async fn rig_of(tokens: &Arc<Tokens>) -> Rig {
    rig_with(tokens, |_| {}).await
}

pub(crate) async fn rig_with(tokens: &Arc<Tokens>, change: impl FnOnce(&mut ServerConfig)) -> Rig {
    let clip = asset("clip.ivf");
    let rig = Rig::with(&clip, 1, |config| {
        config.paywall = Some(tokens.clone());
        config.unfunded_deadline = Duration::from_millis(700);
        config.peer.link_deadline = Duration::from_secs(3);
        config.unbound_per_address = 2;
        change(config);
    });
    rig.await
}

/// What a player has received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Got {
    packets: u64,
    /// From the first picture to the last, by time stamps, less the jumps over what was held back.
    picture_ms: u32,
    last_stamp: Option<u32>,
}

struct Handler {
    gathered: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    got: Arc<watch::Sender<Got>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let over = matches!(
            state,
            RTCPeerConnectionState::Failed
                | RTCPeerConnectionState::Closed
                | RTCPeerConnectionState::Disconnected
        );
        self.closed.send_replace(over);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let got = self.got.clone();
        tokio::spawn(async move {
            let picture = track.kind().await == RtpCodecKind::Video;
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    got.send_modify(|got| {
                        got.packets += 1;
                        if picture {
                            let stamp = packet.header.timestamp;
                            let last = got.last_stamp.replace(stamp).unwrap_or(stamp);
                            let step_ms = stamp.wrapping_sub(last) / 90;
                            if step_ms <= 500 {
                                got.picture_ms += step_ms;
                            }
                        }
                    });
                }
            }
        });
    }
}

/// A player that is not ours.
pub(crate) struct Player {
    peer: Arc<dyn PeerConnection>,
    pub(crate) offer: String,
    got: watch::Receiver<Got>,
    closed: watch::Receiver<bool>,
}

impl Player {
    pub(crate) async fn new() -> Self {
        let (gathered, mut done) = watch::channel(false);
        let (closed_to, closed) = watch::channel(false);
        let (got_to, got) = watch::channel(Got::default());
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .build();
        let handler = Handler {
            gathered,
            closed: closed_to,
            got: Arc::new(got_to),
        };
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..Default::default()
            };
            peer.add_transceiver_from_kind(kind, Some(init))
                .await
                .unwrap();
        }
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        done.wait_for(|done| *done).await.unwrap();
        let offer = peer.local_description().await.unwrap().sdp;
        let peer: Arc<dyn PeerConnection> = Arc::new(peer);
        Self {
            peer,
            offer,
            got,
            closed,
        }
    }

    /// Pays with the offer and plays. Gives the connection's path.
    pub(crate) async fn play(&self, rig: &Rig, payment: &str) -> String {
        let (status, head, answer) = post(rig, "/whep", Some(payment), &self.offer).await;
        assert_eq!(status, 201, "{head} {answer}");
        let answer = RTCSessionDescription::answer(answer).unwrap();
        self.peer.set_remote_description(answer).await.unwrap();
        let location = head.split("location: ").nth(1).unwrap();
        let location = location.lines().next().unwrap();
        let path = location.find("/whep/").unwrap();
        location[path..].to_owned()
    }

    async fn stops(&mut self) -> Got {
        settled(&mut self.got, QUIET).await
    }

    async fn is_closed(&mut self) {
        let closed = self.closed.wait_for(|closed| *closed);
        let waited = tokio::time::timeout(Duration::from_secs(20), closed).await;
        assert!(waited.unwrap().unwrap().to_owned());
        self.peer.close().await.unwrap();
    }
}

pub(crate) async fn post(
    rig: &Rig,
    path: &str,
    payment: Option<&str>,
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    send(&mut stream, rig, path, payment, body).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn send(stream: &mut TcpStream, rig: &Rig, path: &str, payment: Option<&str>, body: &str) {
    let payment = payment.map(|payment| format!("X-Cashu: {payment}\r\n"));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        rig.address,
        payment.unwrap_or_default(),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Frames of the clip last 40 ms.
fn about(ms: u64, got: Got) {
    let picture = u64::from(got.picture_ms);
    assert!((ms - 200..=ms).contains(&picture), "{ms} {got:?}");
}

#[tokio::test]
async fn what_does_not_pay_is_told_what_to_pay_and_holds_no_place() {
    let (rig, tokens) = rig().await;
    let player = Player::new().await;
    // More often than there are places.
    for payment in [
        None,
        None,
        None,
        Some("nonsense"),
        Some("nonsense"),
        Some("nonsense"),
    ] {
        let (status, head, _) = post(&rig, "/whep", payment, &player.offer).await;
        let demanded = head.contains("x-cashu: creqAtest");
        assert_eq!(
            (status, demanded),
            if payment.is_none() {
                (402, true)
            } else {
                (400, false)
            },
            "{head}"
        );
    }
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 3);
    let long = "x".repeat(17 * 1024);
    let no_codec = "v=0\r\n";
    for (payment, offer, expect) in [
        ("away", &*player.offer, 503),
        (&long, &player.offer, 400),
        (" ", &player.offer, 400),
        ("token never taken", no_codec, 406),
        ("token never taken", "garbage", 400),
    ] {
        let (status, head, _) = post(&rig, "/whep", Some(payment), offer).await;
        assert_eq!(status, expect, "{head}");
    }
    // What cannot be played is not paid for.
    assert!(
        tokens
            .spent
            .lock()
            .unwrap()
            .iter()
            .all(|it| it == "nonsense")
    );
    assert_eq!(*player.got.borrow(), Got::default());
    let (status, _, _) = post(&rig, "/whep/0000", Some("token"), "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_payment_buys_a_span_then_nothing_flows_until_more_is_paid() {
    let (rig, tokens) = rig().await;
    let mut player = Player::new().await;
    let path = player.play(&rig, "token 1").await;
    let first = player.stops().await;
    about(SPAN_MS, first);
    let (status, head, _) = post(&rig, &path, None, "").await;
    assert_eq!((status, head.contains("x-cashu: creqAtest")), (402, true));
    for (payment, expect) in [("token 1", 400), ("nonsense", 400), ("token 2", 204)] {
        let (status, head, _) = post(&rig, &path, Some(payment), "").await;
        assert_eq!(status, expect, "{payment} {head}");
    }
    let second = until(&mut player.got, |got| {
        got.picture_ms > first.picture_ms + 400
    })
    .await;
    assert!(second.packets > first.packets);
    let second = player.stops().await;
    about(2 * SPAN_MS, second);
    // Used up and not paid for: closed, and gone.
    player.is_closed().await;
    let (status, _, _) = post(&rig, &path, Some("token 3"), "").await;
    assert_eq!(status, 404);
    let again = Player::new().await;
    let (status, _, _) = post(&rig, "/whep", Some("token 1"), &again.offer).await;
    assert_eq!(status, 400, "it is spent");
    assert!(!tokens.spent.lock().unwrap().contains("token 3"));
}

#[tokio::test]
async fn what_is_left_of_a_span_moves_to_the_players_next_connection() {
    let (rig, tokens) = rig().await;
    let mut first = Player::new().await;
    first.play(&rig, "token").await;
    until(&mut first.got, |got| got.picture_ms >= 200).await;
    let mut second = Player::new().await;
    second.play(&rig, "token").await;
    first.is_closed().await;
    let (first, second) = (*first.got.borrow(), second.stops().await);
    assert!(second.packets > 0, "{second:?}");
    let both = u64::from(first.picture_ms + second.picture_ms);
    assert!(both <= SPAN_MS, "{first:?} {second:?}");
    assert!(both >= SPAN_MS / 2, "{first:?} {second:?}");
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 1, "it was taken once");
}

/// A process with what the paywall of another one had kept when that died.
#[tokio::test]
async fn what_the_paywall_kept_of_a_span_is_played_after_a_restart() {
    let (before, tokens) = rig().await;
    let mut first = Player::new().await;
    first.play(&before, LONG).await;
    until(&mut first.got, |got| {
        u64::from(got.picture_ms) >= LONG_MS / 2
    })
    .await;
    let kept = tokens.kept.lock().unwrap().clone();
    let used = kept.values().next().unwrap().used.media_ms;
    assert!((500..=LONG_MS).contains(&used), "{kept:?}");
    let restarted = Arc::new(Tokens::demanding("creqAtest", "token"));
    *restarted.kept.lock().unwrap() = kept;
    restarted.spent.lock().unwrap().insert(LONG.to_owned());
    let after = rig_of(&restarted).await;
    let mut second = Player::new().await;
    second.play(&after, LONG).await;
    about(LONG_MS - used, second.stops().await);
    assert_eq!(restarted.asked.load(Ordering::Relaxed), 0);
    // Nothing is left of it, and it is not taken again.
    second.is_closed().await;
    let (status, head, _) = post(&after, "/whep", Some(LONG), &second.offer).await;
    assert_eq!(status, 400, "{head}");
}

#[tokio::test]
async fn a_payment_whose_sender_hung_up_is_not_lost() {
    let (rig, tokens) = rig().await;
    tokens.mint.forget_permits(1000);
    let mut player = Player::new().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    send(&mut stream, &rig, "/whep", Some("token"), &player.offer).await;
    while tokens.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    tokens.mint.add_permits(1);
    while !tokens.spent.lock().unwrap().contains("token") {
        tokio::task::yield_now().await;
    }
    player.play(&rig, "token").await;
    about(SPAN_MS, player.stops().await);
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_payment_sent_twice_at_once_buys_one_span() {
    let (rig, _tokens) = rig().await;
    let (mut one, mut two) = (Player::new().await, Player::new().await);
    let answers = tokio::join!(
        post(&rig, "/whep", Some("token"), &one.offer),
        post(&rig, "/whep", Some("token"), &two.offer)
    );
    let mut sold = 0;
    for (player, (status, head, answer)) in [(&one, answers.0), (&two, answers.1)] {
        assert!(matches!(status, 201 | 400 | 402), "{head}");
        if status == 201 {
            sold += 1;
            let answer = RTCSessionDescription::answer(answer).unwrap();
            player.peer.set_remote_description(answer).await.unwrap();
        }
    }
    assert!(sold >= 1, "nobody got what was paid");
    let got = [one.stops().await, two.stops().await];
    let both: u32 = got.iter().map(|got| got.picture_ms).sum();
    assert!(u64::from(both) <= SPAN_MS, "{got:?}");
}

/// Two who take a span over at once: one has it, with what the first left and no more.
#[tokio::test]
async fn a_span_that_two_take_over_at_once_is_one_span() {
    let (rig, _tokens) = rig().await;
    let mut first = Player::new().await;
    first.play(&rig, "token").await;
    until(&mut first.got, |got| {
        u64::from(got.picture_ms) >= SPAN_MS / 2
    })
    .await;
    let (mut one, mut two) = (Player::new().await, Player::new().await);
    let answers = tokio::join!(
        post(&rig, "/whep", Some("token"), &one.offer),
        post(&rig, "/whep", Some("token"), &two.offer)
    );
    let mut taken = 0;
    for (player, (status, head, answer)) in [(&one, answers.0), (&two, answers.1)] {
        assert!(matches!(status, 201 | 402), "{head}");
        if status == 201 {
            taken += 1;
            let answer = RTCSessionDescription::answer(answer).unwrap();
            player.peer.set_remote_description(answer).await.unwrap();
        }
    }
    assert!(taken >= 1, "nobody has it");
    first.is_closed().await;
    let mut last = Player::new().await;
    let (_, _) = (one.stops().await, two.stops().await);
    let (status, _, answer) = post(&rig, "/whep", Some("token"), &last.offer).await;
    if status == 201 {
        let answer = RTCSessionDescription::answer(answer).unwrap();
        last.peer.set_remote_description(answer).await.unwrap();
        last.stops().await;
    }
    let got = [&first, &one, &two, &last].map(|player| player.got.borrow().picture_ms);
    let all: u32 = got.iter().sum();
    assert!(u64::from(all) <= SPAN_MS, "{got:?}");
}
