//! What every transport must do, for those who write one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{
    Connected, EffectRunner, Link, LinkEnd, Node, Ports, SessionTask, Stopped, StoreWriter, entropy,
};
use crate::backend::{Effect, EffectResult};
use crate::meter::{Grant, Rate, Reading, Tariff};
use crate::session::{
    Event, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use crate::sim::{FakeBackend, FakeMint, Rng};
use crate::store::MemoryStore;
use crate::units::{Msat, Unix};
use crate::wire::{Method, Terms};

/// How long a message, or the news that a link is gone, may take. Generous: nothing is measured.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a sender counts as stalled.
const STALLED: Duration = Duration::from_secs(2);
/// What may wait between two ends of which one does not read, in messages of the longest kind:
/// 64 MiB. Chosen far above what any operating system buffers.
const WAITING_MAX: u32 = 4_096;
/// Media between two readings, in milliseconds.
const STEP_MS: u64 = 20;

/// Runs the suite over a transport. `connect` makes a new connection each time: the payer's link
/// and the payee's. Within a tokio runtime; takes about ten seconds, most of them waiting.
///
/// It carries messages of every length and a whole session that loses its connection in the middle,
/// ends links in every way, sends what is too long, and leaves off reading.
///
/// That the [identity](Link::identity) is that of this connection alone, and that nobody in the
/// middle can have the same on both legs, cannot be tried from outside. Spec: transports 2.
///
/// # Panics
/// Where the transport does something else, with what it is.
pub async fn check_link<F>(mut connect: impl FnMut() -> F)
where
    F: Future<Output = (Link, Link)>,
{
    let (payer, payee) = connect().await;
    assert!(
        payer.identity == payee.identity,
        "both sides know the connection by the same"
    );
    assert!(
        payer.identity.payer != payer.identity.payee,
        "one side's identity is not the other's"
    );
    carries_every_length(payer.end, payee.end).await;
    for payer_leaves in [true, false] {
        let (payer, payee) = connect().await;
        let (leaves, stays) = if payer_leaves {
            (payer.end, payee.end)
        } else {
            (payee.end, payer.end)
        };
        last_words_arrive(leaves, stays).await;
        let (payer, payee) = connect().await;
        let (reads, sends) = if payer_leaves {
            (payer.end, payee.end)
        } else {
            (payee.end, payer.end)
        };
        too_long_is_not_delivered(reads, sends).await;
    }
    let (payer, payee) = connect().await;
    unread_is_bounded(&payer.end, &payee.end).await;
    session_survives_a_cut(&mut connect).await;
}

/// Patterned, with all values of a byte in the longer ones.
fn message(length: usize, seed: u64) -> Bytes {
    let mut rng = Rng::new(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length.saturating_add(32));
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

async fn heard(end: &mut LinkEnd, what: &str) -> Option<Bytes> {
    let found = timeout(PATIENCE, end.incoming.recv()).await;
    assert!(found.is_ok(), "{what}: nothing is heard");
    found.ok().flatten()
}

async fn said(end: &LinkEnd, message: Bytes, what: &str) {
    let sent = timeout(PATIENCE, end.outgoing.send(message)).await;
    assert!(matches!(sent, Ok(Ok(()))), "{what}: cannot be sent");
}

/// Whole and in order, both ways, and as many at once as an end may hold.
async fn carries_every_length(mut payer: LinkEnd, mut payee: LinkEnd) {
    let lengths = [
        1,
        2,
        3,
        4,
        5,
        63,
        64,
        65,
        125,
        126,
        127,
        128,
        255,
        256,
        1_199,
        1_200,
        1_201,
        4_096,
        8_192,
        LinkEnd::MESSAGE_MAX.saturating_sub(1),
        LinkEnd::MESSAGE_MAX,
    ];
    for (seed, length) in (1..).zip(lengths) {
        let what = format!("a message of {length} bytes");
        let (there, back) = (message(length, seed), message(length, !seed));
        said(&payer, there.clone(), &what).await;
        said(&payee, back.clone(), &what).await;
        assert!(heard(&mut payee, &what).await == Some(there), "{what}");
        assert!(heard(&mut payer, &what).await == Some(back), "{what}");
    }
    for round in 0..4_u64 {
        let burst = (0..16).map(|at| message(200, round.wrapping_mul(16).wrapping_add(at)));
        let burst: Vec<Bytes> = burst.collect();
        for bytes in &burst {
            said(&payer, bytes.clone(), "a burst").await;
            said(&payee, bytes.clone(), "a burst").await;
        }
        for bytes in &burst {
            let there = heard(&mut payee, "a burst").await;
            assert!(there.as_ref() == Some(bytes), "a burst, in order");
            let back = heard(&mut payer, "a burst").await;
            assert!(back.as_ref() == Some(bytes), "a burst, in order");
        }
    }
}

/// What was said before an end was dropped arrives; then the other side hears that it is over.
async fn last_words_arrive(leaves: LinkEnd, mut stays: LinkEnd) {
    let words = [message(900, 1), message(40, 2), message(3, 3)];
    for word in &words {
        said(&leaves, word.clone(), "last words").await;
    }
    drop(leaves);
    for word in words {
        let found = heard(&mut stays, "last words").await;
        assert!(found == Some(word), "what was said last is lost");
    }
    let end = heard(&mut stays, "the end of a link").await;
    assert!(end.is_none(), "something came after the end");
}

async fn too_long_is_not_delivered(mut reads: LinkEnd, sends: LinkEnd) {
    let long = message(LinkEnd::MESSAGE_MAX.saturating_add(1), 4);
    said(&sends, long, "a message that is too long").await;
    let found = heard(&mut reads, "a message that is too long").await;
    assert!(found.is_none(), "a message that is too long was delivered");
}

/// Who sends to somebody that does not read is held up, or loses the connection; nothing piles up.
async fn unread_is_bounded(sends: &LinkEnd, reads: &LinkEnd) {
    let long = message(LinkEnd::MESSAGE_MAX, 5);
    for _ in 0..WAITING_MAX {
        match timeout(STALLED, sends.outgoing.send(long.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    assert!(
        reads.incoming.is_closed(),
        "64 MiB wait for somebody who does not read"
    );
}

struct PlayMoney(Arc<Mutex<FakeMint>>);

#[async_trait]
impl EffectRunner for PlayMoney {
    async fn run(&self, effect: Effect) -> EffectResult {
        let mut mint = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: mint.run(&effect),
        }
    }
}

async fn node(mint: &Arc<Mutex<FakeMint>>) -> Arc<Node> {
    let writer = StoreWriter::start(Box::new(MemoryStore::new())).expect("a thread starts");
    let runner = Arc::new(PlayMoney(Arc::clone(mint)));
    let node = Node::builder(writer).method(Box::new(FakeBackend::default()), runner);
    node.build().await.expect("a store in memory is read")
}

/// Five ticks of 2 sat and 200 ms each.
fn configs() -> (PayerConfig, PayeeConfig) {
    let sat = |sat| Msat::from_sat(sat).unwrap_or_default();
    let key = |label| SecretKey::derive(&entropy().expect("randomness"), label).expect("a key");
    let (payer, payee) = (key("payer"), key("payee"));
    let tariff = Tariff {
        time: Rate::new(sat(2), 200).ok(),
        bytes: None,
    };
    let terms = Terms {
        title: "tried".into(),
        tariff,
        tick: sat(2),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::METHOD.into(),
            params: Vec::new(),
        }],
        join_fee: Msat::ZERO,
        resumable_s: 86_400,
        expires: Unix(u64::MAX),
        payee: payee.public(),
    };
    let policy = Policy {
        budget: sat(11),
        max_purse: sat(11),
        max_tariff: tariff,
        max_tick: sat(2),
        methods: vec![FakeBackend::METHOD.into()],
        stall_close_ms: 60_000,
    };
    let identity = payer;
    let payer = PayerConfig {
        identity,
        payee: payee.public(),
        policy,
    };
    let payee = PayeeConfig {
        identity: payee,
        preview_left: Msat::MAX,
        terms: terms.into(),
        unpaid_ms: 30_000,
    };
    (payer, payee)
}

/// Media as far as the gate lets it; both meters alike.
async fn media(
    gate: watch::Receiver<Grant>,
    payee: watch::Sender<Reading>,
    payer: watch::Sender<Reading>,
) {
    while !payee.is_closed() {
        sleep(Duration::from_millis(STEP_MS)).await;
        let mut next = *payee.borrow();
        next.media_ms = next.media_ms.saturating_add(STEP_MS);
        if gate.borrow().admits(next) {
            payee.send_replace(next);
            payer.send_replace(next);
        }
    }
}

async fn session_survives_a_cut<F>(connect: &mut impl FnMut() -> F)
where
    F: Future<Output = (Link, Link)>,
{
    let sat = |sat| Msat::from_sat(sat).unwrap_or_default();
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(100))));
    let (payer, payee) = configs();
    let fresh = || entropy().expect("randomness");
    let payer = PayerSession::new(payer, &fresh()).expect("the configuration is good");
    let payee = PayeeSession::new(payee, &fresh()).expect("the configuration is good");
    let ((payer_ports, mut user), (payee_ports, host)) = (Ports::pair(), Ports::pair());
    let mut payer = SessionTask::new(node(&mint).await, payer, payer_ports);
    let mut payee = SessionTask::new(node(&mint).await, payee, payee_ports);
    let ((sent, payee_usage), (received, payer_usage)) = (
        watch::channel(Reading::default()),
        watch::channel(Reading::default()),
    );
    let flows = tokio::spawn(media(host.gate.clone(), sent, received));
    // The payee serves one connection after the other.
    let (calls, mut called) = mpsc::channel::<Link>(1);
    let serving = tokio::spawn(async move {
        let mut stopped = Vec::new();
        while let Some(link) = called.recv().await {
            let usage = payee_usage.clone();
            stopped.push(payee.run(Some(Connected { link, usage })).await);
        }
        (stopped, payee.session().credited())
    });

    let (link, other) = connect().await;
    assert!(calls.send(other).await.is_ok(), "the payee serves");
    let usage = payer_usage.clone();
    tokio::select! {
        stopped = payer.run(Some(Connected { link, usage })) => stopped_early(stopped),
        () = ticks(&mut user.events, 2) => {}
    }
    // The payer has dropped its end. The payee must hear of it to take the next connection.
    let (link, other) = connect().await;
    assert!(calls.send(other).await.is_ok(), "the payee serves");
    drop(calls);
    let usage = payer_usage;
    let run = timeout(PATIENCE, payer.run(Some(Connected { link, usage }))).await;
    assert_eq!(run, Ok(Stopped::Ended), "the session goes on and ends");
    assert!(
        payer.session().is_settled(),
        "all the payer's money is home"
    );
    let acknowledged = payer.session().acknowledged();
    drop(payer);
    let served = timeout(PATIENCE, serving).await;
    flows.abort();
    let Ok(Ok((stopped, credited))) = served else {
        return assert!(
            served.is_ok(),
            "the payee does not hear that the link is gone"
        );
    };
    assert_eq!(stopped, [Stopped::LinkDown, Stopped::Ended], "of the payee");
    assert_eq!((acknowledged, credited), (sat(10), sat(10)), "five ticks");
    let mint = mint.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((mint.payer, mint.payee), (sat(90), sat(10)), "at the mint");
}

fn stopped_early(stopped: Stopped) {
    let what: String = format!("{stopped:?}");
    assert!(what.is_empty(), "the session stopped by itself: {what}");
}

/// Until so many payments were acknowledged.
async fn ticks(events: &mut mpsc::Receiver<Event>, wanted: u32) {
    let mut found = 0_u32;
    while found < wanted {
        match timeout(PATIENCE, events.recv()).await {
            Ok(Some(Event::TickPaid { .. })) => found = found.saturating_add(1),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => assert!(found >= wanted, "no payment is acknowledged"),
        }
    }
}
