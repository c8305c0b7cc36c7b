//! A session between two folders on disk, each side on a thread of its own.

use std::thread;
use std::time::{Duration, Instant};

use streampay_cashu::AcceptedMint;
use streampay_core::driver::{
    ChannelIdentity, Connected, Link, LinkEnd, Ports, SessionTask, UserPorts, entropy,
};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    CloseCode, Command, Event, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy,
};
use streampay_core::units::{Msat, Unix, XOnlyKey};
use streampay_core::wire::{Message, Terms, decode};
use streampay_examples::home::Home;
use streampay_examples::pay::{self, Pay};
use tokio::sync::watch;

/// What is to be paid.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) pay: Pay,
    pub(crate) mint: String,
    pub(crate) tick: u64,
    pub(crate) ticks: u64,
}

/// What it came to.
pub(crate) struct Run {
    pub(crate) pay: Pay,
    pub(crate) paid_sat: u64,
    pub(crate) fees_sat: u64,
    pub(crate) purses: usize,
    pub(crate) calls: usize,
    pub(crate) payee_cpu_us: f64,
    pub(crate) median_us: f64,
    pub(crate) p90_us: f64,
}

/// The media that a tick buys, in milliseconds: what ticks cost goes by their number. A payer
/// believes no meter that is faster than its own clock, so that an hour cannot be played in a moment.
const TICK_MS: u64 = 40;
/// A session that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(order: Order) -> Run {
    let ((a, payer_tap), (payee_tap, b)) = (LinkEnd::pair(), LinkEnd::pair());
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let (sent, payee_usage) = watch::channel(Reading::default());
    let (received, payer_usage) = watch::channel(Reading::default());
    let (told, key) = std::sync::mpsc::channel();
    let of_payee = order.clone();
    let link = Link { identity, end: b };
    let payee =
        thread::spawn(move || block_on(payee(of_payee, link, payee_usage, (sent, received), told)));
    let key = key.recv().unwrap();
    let link = Link { identity, end: a };
    let (of_payer, ticks) = (order.clone(), order.ticks);
    let tapped = thread::spawn(move || block_on(tap(payer_tap, payee_tap)));
    let payer = thread::spawn(move || block_on(payer(of_payer, key, link, payer_usage)));
    let paid = payer.join().unwrap();
    let cpu = payee.join().unwrap();
    let mut waits = tapped.join().unwrap();
    waits.sort_unstable();
    let at = |part: usize| waits[waits.len() * part / 10].as_secs_f64() * 1e6;
    assert!(
        paid.settled && paid.sat >= order.tick * ticks,
        "{} sat",
        paid.sat
    );
    let count = f64::from(u32::try_from(waits.len()).unwrap());
    Run {
        pay: order.pay,
        paid_sat: paid.sat,
        fees_sat: 0,
        purses: paid.purses,
        calls: 0,
        payee_cpu_us: cpu.as_secs_f64() * 1e6 / count,
        median_us: at(5),
        p90_us: at(9),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

fn tariff(order: &Order) -> Tariff {
    Tariff {
        time: Rate::new(sat(order.tick), TICK_MS).ok(),
        bytes: None,
    }
}

async fn payee(
    order: Order,
    link: Link,
    usage: watch::Receiver<Reading>,
    meters: (watch::Sender<Reading>, watch::Sender<Reading>),
    told: std::sync::mpsc::Sender<XOnlyKey>,
) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path()).await.unwrap();
    let mints = [AcceptedMint::sat(&order.mint).unwrap()];
    let terms = Terms {
        title: "an hour".into(),
        tariff: tariff(&order),
        tick: sat(order.tick),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: pay::methods(&home, &[order.pay], &mints).unwrap(),
        join_fee: Msat::ZERO,
        resumable_s: 86_400,
        expires: Unix(u64::MAX),
        payee: home.identity.public(),
    };
    let config = PayeeConfig {
        identity: home.identity.clone(),
        preview_left: Msat::ZERO,
        terms: terms.into(),
        unpaid_ms: 60_000,
    };
    told.send(home.identity.public()).unwrap();
    let session = PayeeSession::new(config, &entropy().unwrap()).unwrap();
    let (ports, user) = Ports::pair();
    let mut task = SessionTask::new(home.node.clone(), session, ports);
    let UserPorts {
        commands: _commands,
        mut events,
        gate,
    } = user;
    let media = thread::spawn(move || block_on(media(gate, meters)));
    // From the first tick to the last: opening and redeeming are not a tick's.
    let cpu = tokio::spawn(async move {
        let (mut first, mut last) = (None, Duration::ZERO);
        while let Some(event) = events.recv().await {
            if matches!(event, Event::TickReceived { .. }) {
                last = cpu();
                first.get_or_insert(last);
            }
        }
        last - first.unwrap_or_default()
    });
    task.run(Some(Connected { link, usage })).await;
    assert!(task.session().is_settled(), "the payee has not settled");
    drop(task);
    drop(media);
    cpu.await.unwrap()
}

/// What the payer knows at the end.
struct Paid {
    sat: u64,
    purses: usize,
    settled: bool,
}

async fn payer(order: Order, payee: XOnlyKey, link: Link, usage: watch::Receiver<Reading>) -> Paid {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path()).await.unwrap();
    // As a viewer who brings what the hour takes, and room for fees.
    let wanted = order.tick * order.ticks;
    let budget = sat(wanted + wanted / 2);
    home.wallet
        .deposit(&order.mint, sat(wanted * 2))
        .await
        .unwrap();
    let config = PayerConfig {
        identity: home.identity.clone(),
        payee,
        policy: Policy {
            budget,
            max_purse: budget,
            max_tariff: tariff(&order),
            max_tick: sat(order.tick),
            methods: pay::names(&[order.pay]),
            stall_close_ms: 60_000,
        },
    };
    let session = PayerSession::new(config, &entropy().unwrap()).unwrap();
    let (ports, user) = Ports::pair();
    let mut task = SessionTask::new(home.node.clone(), session, ports);
    let UserPorts {
        commands,
        mut events,
        gate: _gate,
    } = user;
    let listening = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::TickPaid { total, .. } if total >= sat(wanted) => {
                    let _ = commands.send(Command::Close(CloseCode::Done)).await;
                }
                Event::Closed { code, .. } if code != CloseCode::Done => panic!("{code}"),
                _ => {}
            }
        }
    });
    let running = task.run(Some(Connected { link, usage }));
    tokio::time::timeout(LIMIT, running)
        .await
        .expect("the session is stuck");
    let session = task.session();
    let (sat, settled) = (session.acknowledged().sat_floor(), session.is_settled());
    let purses = session.purses().len();
    drop(task);
    listening.await.unwrap();
    Paid {
        sat,
        purses,
        settled,
    }
}

/// Media as the clock and the gate let it, both meters alike.
async fn media(
    gate: watch::Receiver<Grant>,
    (payee, payer): (watch::Sender<Reading>, watch::Sender<Reading>),
) {
    const STEP_MS: u64 = 4;
    let mut every = tokio::time::interval(Duration::from_millis(STEP_MS));
    while gate.has_changed().is_ok() {
        every.tick().await;
        let now = *payee.borrow();
        let next = Reading {
            media_ms: now.media_ms + STEP_MS,
            ..now
        };
        if gate.borrow().admits(next) {
            payee.send_replace(next);
            payer.send_replace(next);
        }
    }
}

/// Carries messages both ways, and tells how long after each tick its ack went by.
async fn tap(mut payer: LinkEnd, mut payee: LinkEnd) -> Vec<Duration> {
    let (mut waits, mut sent) = (Vec::new(), None);
    loop {
        tokio::select! {
            Some(bytes) = payer.incoming.recv() => {
                if matches!(decode(&bytes), Ok(Some(Message::Tick(_)))) {
                    sent.get_or_insert_with(Instant::now);
                }
                let _ = payee.outgoing.send(bytes).await;
            }
            Some(bytes) = payee.incoming.recv() => {
                if matches!(decode(&bytes), Ok(Some(Message::Ack(_)))) {
                    waits.extend(sent.take().map(|sent: Instant| sent.elapsed()));
                }
                let _ = payer.outgoing.send(bytes).await;
            }
            else => return waits,
        }
    }
}

/// The processor's time that this thread had. Source: proc(5), schedstat.
fn cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = told
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse().ok());
    Duration::from_nanos(spent.unwrap_or_default())
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}
