//! A whole session over TCP instead of WebRTC: two sides of one process, play money, and "media"
//! that is a counter. What to change for your own stream: the link, the meters, the backend.
//!
//! ```sh
//! cargo run -p streampay-core --example tcp --features driver,tcp,sim
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an application has sockets and tasks"
)]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use streampay_core::backend::{Effect, EffectResult};
use streampay_core::driver::{
    Connected, EffectRunner, Node, Ports, SessionTask, StoreWriter, TcpReach, entropy, tcp_link,
};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    Event, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, Role, SecretKey,
};
use streampay_core::sim::{FakeBackend, FakeMint};
use streampay_core::store::MemoryStore;
use streampay_core::units::{Msat, Unix};
use streampay_core::wire::{Method, Terms};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // What both sides agree to: 2 sat for 500 ms of media, 10 sat in all.
    let price = Rate::new(Msat::from_sat(2)?, 500)?;
    let tariff = Tariff {
        time: Some(price),
        bytes: None,
    };
    let streamer = SecretKey::derive(&entropy()?, "identity")?;
    let viewer = SecretKey::derive(&entropy()?, "identity")?;
    let payer = PayerConfig {
        identity: viewer,
        payee: streamer.public(),
        policy: policy(tariff)?,
    };
    let payee = PayeeConfig {
        terms: terms(tariff, &streamer)?.into(),
        identity: streamer,
        preview_left: Msat::ZERO,
        unpaid_ms: 30_000,
    };

    // The second link: any stream of bytes in both directions would do.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (connected, accepted) = tokio::join!(
        TcpStream::connect(listener.local_addr()?),
        listener.accept()
    );
    let (link, other) = tokio::join!(
        tcp_link(connected?, Role::Payer, TcpReach::Loopback),
        tcp_link(accepted?.0, Role::Payee, TcpReach::Loopback),
    );

    // The meters: what the gate lets through counts on both sides.
    let (sent, payee_usage) = watch::channel(Reading::default());
    let (received, payer_usage) = watch::channel(Reading::default());
    let mint = Arc::new(Mutex::new(FakeMint::new(Msat::from_sat(100)?)));

    let (ports, user) = Ports::pair();
    let session = PayeeSession::new(payee, &entropy()?)?;
    let mut payee = SessionTask::new(node(&mint).await?, session, ports);
    tokio::spawn(media(user.gate, sent, received));
    let paid = tokio::spawn(async move {
        let link = other?;
        let usage = payee_usage;
        payee.run(Some(Connected { link, usage })).await;
        Ok::<_, std::io::Error>(payee.session().credited())
    });

    let (ports, mut user) = Ports::pair();
    let session = PayerSession::new(payer, &entropy()?)?;
    let mut payer = SessionTask::new(node(&mint).await?, session, ports);
    let teller = tokio::spawn(async move {
        while let Some(event) = user.events.recv().await {
            if let Event::TickPaid { total, reading, .. } = event {
                println!("{total} paid, {} ms of media here", reading.media_ms);
            }
        }
    });
    let (link, usage) = (link?, payer_usage);
    let stopped = payer.run(Some(Connected { link, usage })).await;
    println!(
        "{stopped:?}: {} paid, settled: {}",
        payer.session().acknowledged(),
        payer.session().is_settled()
    );
    drop(payer);
    println!("{} credited by the streamer", paid.await??);
    teller.await?;
    Ok(())
}

fn policy(max_tariff: Tariff) -> Result<Policy, Box<dyn Error>> {
    let budget = Msat::from_sat(10)?;
    Ok(Policy {
        budget,
        max_purse: budget,
        max_tariff,
        max_tick: Msat::from_sat(2)?,
        methods: vec![FakeBackend::METHOD.into()],
        stall_close_ms: 10_000,
    })
}

fn terms(tariff: Tariff, streamer: &SecretKey) -> Result<Terms, Box<dyn Error>> {
    Ok(Terms {
        title: "a counter".into(),
        tariff,
        tick: Msat::from_sat(2)?,
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::METHOD.into(),
            params: vec![],
        }],
        resumable_s: 3_600,
        expires: Unix(u64::MAX),
        payee: streamer.public(),
        join_fee: Msat::ZERO,
    })
}

/// Play money in memory; really: `RedbStore` on disk, and a backend such as `streampay-cashu`.
async fn node(mint: &Arc<Mutex<FakeMint>>) -> Result<Arc<Node>, Box<dyn Error>> {
    let writer = StoreWriter::start(Box::new(MemoryStore::new()))?;
    let runner = Arc::new(PlayMoney(Arc::clone(mint)));
    let builder = Node::builder(writer).method(Box::new(FakeBackend::default()), runner);
    Ok(builder.build().await?)
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

/// 20 ms of "media" at a time, as long as the gate admits it.
async fn media(
    gate: watch::Receiver<Grant>,
    sent: watch::Sender<Reading>,
    received: watch::Sender<Reading>,
) {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        let mut next = *sent.borrow();
        next.media_ms = next.media_ms.saturating_add(20);
        if gate.borrow().admits(next) {
            sent.send_replace(next);
            received.send_replace(next);
        }
    }
}
