use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::backend::{Answer, BackendMachine, Effect, EffectResult, Request, RestoredPurse};
use crate::meter::{Grant, Rate, Reading, Tariff};
use crate::session::*;
use crate::sim::{FakeBackend, FakeMint};
use crate::store::MemoryStore;
use crate::units::{Msat, Now, PurseKey, RequestId, Unix};
use crate::wire::{Method, Terms};

pub(super) struct Runner(pub(super) Arc<Mutex<FakeMint>>);

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
    node_with(mint, store, FakeBackend::default()).await
}

async fn node_with(
    mint: &Arc<Mutex<FakeMint>>,
    store: MemoryStore,
    machine: impl BackendMachine + 'static,
) -> Arc<Node> {
    let writer = StoreWriter::start(Box::new(store)).unwrap();
    let runner = Arc::new(Runner(Arc::clone(mint)));
    Node::builder(writer)
        .method(Box::new(machine), runner)
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
            terms: terms.into(),
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

fn links() -> (Link, Link) {
    let (a, b) = LinkEnd::pair();
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let link = |end| Link { identity, end };
    (link(a), link(b))
}

#[tokio::test]
async fn a_session_over_the_driver_pays_settles_and_returns_the_rest() {
    let (payer, payee) = links();
    session_over(payer, payee).await;
}

/// A method whose payee gives something back when it settles, without which the payer's money does
/// not come home; and whose purses want to be told the time once.
#[derive(Clone, Default)]
struct Noting {
    inner: Arc<Mutex<FakeBackend>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    notes: Vec<bytes::Bytes>,
    releasing: Option<RequestId>,
    woken: u32,
}

impl Noting {
    fn note() -> bytes::Bytes {
        (0..40_000_u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect()
    }
}

impl BackendMachine for Noting {
    fn method(&self) -> &'static str {
        FakeBackend::METHOD
    }

    fn request(&mut self, now: Now, purse: PurseKey, id: RequestId, request: Request) -> Answer {
        let mut seen = self.seen.lock().unwrap();
        let mut inner = self.inner.lock().unwrap();
        match request {
            Request::Release if seen.notes.is_empty() => {
                seen.releasing = Some(id);
                Answer::default()
            }
            Request::Note { bytes } => {
                seen.notes.push(bytes);
                match seen.releasing {
                    Some(id) => inner.request(now, purse, id, Request::Release),
                    None => Answer::default(),
                }
            }
            settle @ Request::Settle { .. } => Answer {
                note: Some(Self::note()),
                ..inner.request(now, purse, id, settle)
            },
            other => inner.request(now, purse, id, other),
        }
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        self.inner.lock().unwrap().effect_done(now, result)
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, now: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        self.inner.lock().unwrap().restore(now, purse, records)
    }

    fn wake_at(&self, _: PurseKey) -> Option<Unix> {
        (self.seen.lock().unwrap().woken == 0).then_some(Unix(1))
    }

    fn wake(&mut self, _: Now, _: PurseKey) -> Answer {
        self.seen.lock().unwrap().woken += 1;
        Answer::default()
    }

    fn forget(&mut self, _: PurseKey) {}
}

#[tokio::test]
async fn what_a_payees_backend_leaves_reaches_the_payers_after_the_close() {
    let (payer, payee) = links();
    let (at_payer, at_payee) = (Noting::default(), Noting::default());
    let (seen_by_payer, seen_by_payee) = (at_payer.seen.clone(), at_payee.seen.clone());
    session_of((payer, at_payer), (payee, at_payee)).await;
    assert_eq!(seen_by_payer.lock().unwrap().notes, [Noting::note()]);
    assert!(seen_by_payee.lock().unwrap().notes.is_empty());
    assert_eq!(seen_by_payer.lock().unwrap().woken, 1);
    assert_eq!(seen_by_payee.lock().unwrap().woken, 1);
}

pub(super) async fn session_over(payer_link: Link, payee_link: Link) {
    let machine = FakeBackend::default;
    session_of((payer_link, machine()), (payee_link, machine())).await;
}

/// In real time, for the store's thread knows no other: five ticks of 200 ms.
async fn session_of(
    (payer_link, payer_machine): (Link, impl BackendMachine + 'static),
    (payee_link, payee_machine): (Link, impl BackendMachine + 'static),
) {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(100))));
    let (payer_config, payee_config) = configs();
    let payer = PayerSession::new(payer_config, &entropy().unwrap()).unwrap();
    let payee = PayeeSession::new(payee_config, &entropy().unwrap()).unwrap();
    let (payer_ports, mut payer_user) = Ports::pair();
    let (payee_ports, payee_user) = Ports::pair();
    let (payee_meter, payee_usage) = watch::channel(Reading::default());
    let (payer_meter, payer_usage) = watch::channel(Reading::default());
    tokio::spawn(media(payee_user.gate.clone(), payee_meter, payer_meter));
    let payee_node = node_with(&mint, MemoryStore::new(), payee_machine).await;
    let payer_node = node_with(&mint, MemoryStore::new(), payer_machine).await;
    let mut payee = SessionTask::new(payee_node, payee, payee_ports);
    let mut payer = SessionTask::new(payer_node, payer, payer_ports);
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

#[tokio::test]
async fn misused_command_is_told_to_whoever_gave_it() {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(1))));
    let (_, config) = configs();
    let payee = PayeeSession::new(config, &entropy().unwrap()).unwrap();
    let (ports, mut user) = Ports::pair();
    let mut task = SessionTask::new(node(&mint, MemoryStore::new()).await, payee, ports);
    let long = || Command::Grant(MediaGrant(vec![0; 65].into()));
    let misuse = ApiMisuse::GrantTooLong;
    assert_eq!(task.tell(long()).await, Err(TellError::Misuse(misuse)));
    assert!(user.events.try_recv().is_err(), "told by the call");
    user.commands.send(long()).await.unwrap();
    let event = tokio::select! {
        _ = task.idle(core::future::pending::<()>()) => panic!("nothing has ended"),
        event = user.events.recv() => event,
    };
    assert_eq!(event, Some(Event::CommandRefused(misuse)));
}
