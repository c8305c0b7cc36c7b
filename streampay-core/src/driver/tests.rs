use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::backend::{Effect, EffectResult};
use crate::meter::{Grant, Rate, Reading, Tariff};
use crate::session::*;
use crate::sim::{FakeBackend, FakeMint};
use crate::store::MemoryStore;
use crate::units::{Msat, Unix};
use crate::wire::{Method, Terms};

struct Runner(Arc<Mutex<FakeMint>>);

#[async_trait]
impl EffectRunner for Runner {
    async fn run(&self, effect: Effect) -> EffectResult {
        let result = self.0.lock().unwrap().run(&effect);
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result,
        }
    }
}

pub(super) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(super) async fn node(mint: &Arc<Mutex<FakeMint>>, store: MemoryStore) -> Arc<Node> {
    let writer = StoreWriter::start(Box::new(store)).unwrap();
    let runner = Arc::new(Runner(Arc::clone(mint)));
    Node::builder(writer)
        .method(Box::new(FakeBackend::default()), runner)
        .build()
        .await
        .unwrap()
}

pub(super) fn configs() -> (PayerConfig, PayeeConfig) {
    let key = |byte| SecretKey::derive(&Entropy([byte; 32]), "test").unwrap();
    let payee = key(1);
    let tariff = Tariff {
        time: Rate::new(sat(2), 200).ok(),
        bytes: None,
    };
    let terms = Terms {
        title: "test".into(),
        tariff,
        tick: sat(2),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::METHOD.into(),
            params: vec![],
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
    let payer = PayerConfig {
        identity: key(2),
        payee: payee.public(),
        policy,
    };
    (
        payer,
        PayeeConfig {
            identity: payee,
            preview_left: Msat::MAX,
            terms,
            unpaid_ms: 30_000,
        },
    )
}

/// Media as fast as the gate lets it, both meters alike.
pub(super) async fn media(
    gate: watch::Receiver<Grant>,
    payee: watch::Sender<Reading>,
    payer: watch::Sender<Reading>,
) {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        let now = *payee.borrow();
        let next = Reading {
            media_ms: now.media_ms + 20,
            ..now
        };
        if gate.borrow().admits(next) {
            payee.send_replace(next);
            payer.send_replace(next);
        }
    }
}

#[tokio::test]
async fn a_session_over_the_driver_pays_settles_and_returns_the_rest() {
    let (a, b) = LinkEnd::pair();
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let link = |end| Link { identity, end };
    session_over(link(a), link(b)).await;
}

/// In real time, for the store's thread knows no other: five ticks of 200 ms.
pub(super) async fn session_over(payer_link: Link, payee_link: Link) {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(100))));
    let (payer_config, payee_config) = configs();
    let payer = PayerSession::new(payer_config, &entropy().unwrap()).unwrap();
    let payee = PayeeSession::new(payee_config, &entropy().unwrap()).unwrap();
    let (payer_ports, mut payer_user) = Ports::pair();
    let (payee_ports, payee_user) = Ports::pair();
    let (payee_meter, payee_usage) = watch::channel(Reading::default());
    let (payer_meter, payer_usage) = watch::channel(Reading::default());
    tokio::spawn(media(payee_user.gate.clone(), payee_meter, payer_meter));
    let mut payee = SessionTask::new(node(&mint, MemoryStore::new()).await, payee, payee_ports);
    let mut payer = SessionTask::new(node(&mint, MemoryStore::new()).await, payer, payer_ports);
    let payee = tokio::spawn(async move {
        payee
            .run(Some(Connected {
                link: payee_link,
                usage: payee_usage,
            }))
            .await
    });
    let stopped = payer
        .run(Some(Connected {
            link: payer_link,
            usage: payer_usage,
        }))
        .await;
    assert_eq!(stopped, Stopped::Ended);
    assert!(payer.session().is_settled());
    drop(payer);
    assert_eq!(payee.await.unwrap(), Stopped::Ended);
    let mint = mint.lock().unwrap();
    assert_eq!((mint.payer, mint.payee), (sat(90), sat(10)));
    let mut budget_spent = false;
    while let Ok(event) = payer_user.events.try_recv() {
        budget_spent |= matches!(
            event,
            Event::Closed {
                code: CloseCode::BudgetSpent,
                ..
            }
        );
    }
    assert!(budget_spent);
}

#[tokio::test]
async fn writer_commits_what_many_sessions_append_and_reads_it_back() {
    let store = MemoryStore::new();
    let writer = StoreWriter::start(Box::new(store.clone())).unwrap();
    let appends = (0_u8..100).map(|n| {
        let writer = writer.clone();
        tokio::spawn(async move {
            let mut changes = crate::store::ChangeSet::new();
            changes.put(vec![b's', n], vec![n]);
            writer.append(changes).await
        })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap().unwrap();
    }
    assert_eq!(writer.scan(vec![b's']).await.unwrap().len(), 100);
}
