//! A streamer of this crate: with all gates open, with a session each, or sealed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use streampay_core::{
    backend::{Effect, EffectResult},
    driver::{Connected, EffectRunner, Node, Ports, SessionTask, StoreWriter, entropy},
    meter::{Grant, Rate, Reading, Schedule, Tariff},
    session::{Entropy, PayeeConfig, PayeeSession, SecretKey},
    sim::{FakeBackend, FakeMint},
    store::MemoryStore,
    units::{Msat, Unix},
    wire::{Method, Terms},
};
use streampay_media::{
    packet::{Codec, Kind},
    peer::PeerConfig,
    source::{Description, Source, SourceWriter, Video},
    whep::{Arrival, Server, ServerConfig},
};
use tokio::sync::watch;

use crate::{FRAME_MS, Sender, frame};

/// A tick of play money for each second.
pub(crate) fn tariff() -> Tariff {
    Tariff {
        time: Rate::new(tick(), 1000).ok(),
        bytes: None,
    }
}

/// What one payment of [`FakeBackend::STEPS`] is.
pub(crate) fn tick() -> Msat {
    Msat::new(300).unwrap()
}

/// The streamer's, which viewers know from its link.
pub(crate) fn identity() -> SecretKey {
    SecretKey::derive(&Entropy([5; 32]), "identity").unwrap()
}

pub(crate) async fn serve(sender: Sender) -> String {
    let description = Description {
        video: Some(Video {
            codec: Codec::Vp8,
            size: None,
            frames_per_1000_s: None,
        }),
        ..Description::NOTHING
    };
    let (writer, source) = source(sender, description);
    tokio::spawn(feed(writer));
    let config = ServerConfig {
        unbound_per_address: 1000,
        unbound_in_all: 1000,
        offers_per_minute: u32::MAX,
        peer: PeerConfig::loopback(),
        ..ServerConfig::default()
    };
    let (server, mut arrivals) = Server::new(source, config);
    let url = crate::serve(server.router()).await;
    let node = node(|effect, mint| match effect.body.first() {
        // A payment comes home: what was issued is known to the viewers' mint alone.
        Some(2) => Ok(Bytes::from_static(&[1])),
        _ => mint.run(effect),
    })
    .await;
    tokio::spawn(async move {
        while let Some(viewer) = arrivals.recv().await {
            let node = node.clone();
            tokio::spawn(async move {
                match sender {
                    Sender::Session => with_session(viewer, node).await,
                    #[cfg(feature = "e2ee")]
                    Sender::Sealed => sealed(viewer).await,
                    _ => with_open_gate(viewer).await,
                }
            });
        }
    });
    url
}

#[cfg(feature = "e2ee")]
fn source(sender: Sender, description: Description) -> (SourceWriter, Arc<Source>) {
    if sender == Sender::Sealed {
        return Source::sealed(Some(description)).unwrap();
    }
    Source::live(description)
}

#[cfg(not(feature = "e2ee"))]
fn source(_: Sender, description: Description) -> (SourceWriter, Arc<Source>) {
    Source::live(description)
}

async fn feed(mut writer: SourceWriter) {
    let mut pace = tokio::time::interval(Duration::from_millis(FRAME_MS));
    for number in 0_u64.. {
        pace.tick().await;
        let key = number.is_multiple_of(25);
        writer.write(Kind::Video, number * 3600, 3600, key, &frame(key));
    }
}

fn wide_open(bytes: bool) -> Grant {
    let of_bytes = || Rate::new(Msat::new(1).unwrap(), 1000).ok();
    Grant::Open {
        limit: Msat::new(1_000_000_000_000).unwrap(),
        schedule: Schedule {
            tariff: Tariff {
                time: Rate::new(Msat::new(1).unwrap(), 1).ok(),
                bytes: if bytes { of_bytes() } else { None },
            },
            ..Schedule::default()
        },
    }
}

async fn with_open_gate(mut viewer: Arrival) {
    viewer.place.paid();
    let (_grants, receiver) = watch::channel(wide_open(true));
    let started = viewer.connection.start(receiver, Reading::default());
    let _reading = started.unwrap();
    viewer.connection.closer().closed().await;
    // Until here: a session that is over takes its connection with it.
    drop(viewer.link);
}

#[cfg(feature = "e2ee")]
async fn sealed(mut viewer: Arrival) {
    use streampay_core::session::Command;

    viewer.place.paid();
    let (_grants, receiver) = watch::channel(wide_open(false));
    let (session, mut commands) = tokio::sync::mpsc::channel(64);
    let started = viewer
        .connection
        .start_sealed(receiver, Reading::default(), session);
    let _reading = started.unwrap();
    let closer = viewer.connection.closer();
    loop {
        tokio::select! {
            () = closer.closed() => return,
            command = commands.recv() => {
                if let Some(Command::Grant(grant)) = command {
                    let _ = viewer.link.end.outgoing.send(grant.0).await;
                }
            }
        }
    }
}

async fn with_session(mut viewer: Arrival, node: Arc<Node>) {
    viewer.place.paid();
    let config = PayeeConfig {
        identity: identity(),
        terms: terms().into(),
        preview_left: Msat::ZERO,
        unpaid_ms: 60_000,
    };
    let (ports, mut user) = Ports::pair();
    let started = viewer.connection.start(user.gate, Reading::default());
    let usage = started.unwrap();
    let session = PayeeSession::new(config, &entropy().unwrap()).unwrap();
    let mut task = SessionTask::new(node, session, ports);
    tokio::spawn(async move { while user.events.recv().await.is_some() {} });
    let link = viewer.link;
    task.run(Some(Connected { link, usage })).await;
}

fn terms() -> Terms {
    Terms {
        title: "fan-out".into(),
        tariff: tariff(),
        tick: tick(),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::STEPS.into(),
            params: vec![],
        }],
        resumable_s: 3_600,
        expires: Unix(u64::MAX),
        payee: identity().public(),
        join_fee: Msat::ZERO,
    }
}

type Called = Result<Bytes, streampay_core::backend::BackendError>;

/// Play money, and a store in memory.
pub(crate) async fn node(
    run: impl Fn(&Effect, &mut FakeMint) -> Called + Send + Sync + 'static,
) -> Arc<Node> {
    let writer = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let mint = Mutex::new(FakeMint::new(Msat::from_sat(10_000_000).unwrap()));
    let runner = Arc::new(PlayMoney { mint, run });
    let builder = Node::builder(writer).method(Box::new(FakeBackend::steps()), runner);
    builder.build().await.unwrap()
}

struct PlayMoney<F> {
    mint: Mutex<FakeMint>,
    run: F,
}

#[async_trait]
impl<F> EffectRunner for PlayMoney<F>
where
    F: Fn(&Effect, &mut FakeMint) -> Called + Send + Sync + 'static,
{
    async fn run(&self, effect: Effect) -> EffectResult {
        let mut mint = self.mint.lock().unwrap_or_else(PoisonError::into_inner);
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: (self.run)(&effect, &mut mint),
        }
    }
}
