//! Two sessions, payer's and payee's, in virtual time, with a real mint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use streampay_cashu::{
    AcceptedMint, LockedMachine, LockedPolicy, Runner, SwapMachine, SwapParams, SwapPolicy,
};
use streampay_core::backend::{BackendMachine, Consumed, Effect, RefusalCode};
use streampay_core::driver::{EffectRunner, SessionMachine};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent, Output,
    PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::store::{MemoryStore, Store, purse_prefix, session_prefix};
use streampay_core::units::{Mono, Msat, Now, PurseKey, SessionId, Unix};
use streampay_core::wire::{Message, Method, Nack, Terms, Tick, decode, encode};

use crate::mint::{Purseless, TestMint};
use crate::node::{OneWallet, params, receiver};

pub(crate) const STEP_MS: u64 = 100;

pub(crate) struct Side<S> {
    pub(crate) session: S,
    pub(crate) machines: BTreeMap<String, Box<dyn BackendMachine>>,
    pub(crate) runner: Runner,
    pub(crate) store: MemoryStore,
    pub(crate) grant: Grant,
    pub(crate) outgoing: VecDeque<Bytes>,
    pub(crate) effects: VecDeque<(String, Effect)>,
    pub(crate) events: Vec<Event>,
    pub(crate) longest_tick: usize,
    pub(crate) ticks: u64,
}

impl<S: SessionMachine> Side<S> {
    pub(crate) fn new(session: S, machines: Machines, purses: &Purseless) -> Self {
        let wallets = Arc::new(OneWallet::new(purses.wallet.clone()));
        Self {
            session,
            machines,
            runner: Runner::new(wallets),
            store: MemoryStore::new(),
            grant: Grant::Closed,
            outgoing: VecDeque::new(),
            effects: VecDeque::new(),
            events: Vec::new(),
            longest_tick: 0,
            ticks: 0,
        }
    }

    pub(crate) fn input(&mut self, now: Now, input: Input) {
        let _ = self.session.handle(now, input);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Persist(changes) => self.store.append(&[changes]).unwrap(),
                Output::Send(bytes) => self.send(bytes),
                Output::Backend {
                    method,
                    purse,
                    id,
                    request,
                } => {
                    let machine = self.machines.get_mut(&method).unwrap();
                    let answer = machine.request(now, purse, id, request);
                    let event = BackendEvent { purse, answer };
                    let _ = self.session.handle(now, Input::Backend(event));
                }
                Output::Effect { method, effect } => self.effects.push_back((method, effect)),
                Output::Gate(grant) => self.grant = grant,
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: Bytes) {
        if let Ok(Some(Message::Tick(_))) = decode(&bytes) {
            self.longest_tick = self.longest_tick.max(bytes.len());
            self.ticks += 1;
        }
        self.outgoing.push_back(bytes);
    }

    /// Makes the calls that were wanted, one after the other.
    pub(crate) async fn work(&mut self, now: Now) -> bool {
        let worked = !self.effects.is_empty();
        while let Some((method, effect)) = self.effects.pop_front() {
            let purse = effect.purse;
            let result = self.runner.run(effect).await;
            let machine = self.machines.get_mut(&method).unwrap();
            let answer = machine.effect_done(now, result);
            self.input(now, Input::Backend(BackendEvent { purse, answer }));
        }
        worked
    }

    pub(crate) fn wake(&mut self, now: Now) {
        let Some(session) = self.session.id() else {
            return;
        };
        for (id, method) in self.session.purses() {
            let purse = PurseKey { session, purse: id };
            let machine = self.machines.get_mut(&method).unwrap();
            if machine.wake_at(purse).is_some_and(|at| at <= now.unix) {
                let answer = machine.wake(now, purse);
                self.input(now, Input::Backend(BackendEvent { purse, answer }));
            }
        }
    }

    /// A new process: machines and session come back from the store alone.
    pub(crate) fn restart(
        &mut self,
        now: Now,
        machines: Machines,
        restore: impl FnOnce(SessionId, &[(Vec<u8>, Vec<u8>)]) -> S,
    ) {
        let id = self.session.id().unwrap();
        let records = self.store.scan(&session_prefix(id)).unwrap();
        self.session = restore(id, &records);
        (self.machines, self.grant) = (machines, Grant::Closed);
        self.effects.clear();
        self.outgoing.clear();
        for (purse, method) in self.session.purses() {
            let key = PurseKey { session: id, purse };
            let prefix = purse_prefix(key);
            let own = records.iter().filter(|(key, _)| key.starts_with(&prefix));
            let own = own.map(|(key, value)| (key[prefix.len()..].to_vec(), value.clone()));
            let machine = self.machines.get_mut(&method).unwrap();
            let answer = machine.restore(now, key, own.collect());
            let event = BackendEvent { purse: key, answer };
            self.input(now, Input::Backend(event));
        }
    }
}

pub(crate) type Machines = BTreeMap<String, Box<dyn BackendMachine>>;

/// All three methods.
pub(crate) fn machines(policy: LockedPolicy, payee: bool) -> Machines {
    let key = || payee.then(receiver);
    let all: [Box<dyn BackendMachine>; 3] = [
        Box::new(LockedMachine::chain(policy, key())),
        Box::new(LockedMachine::p2pk(policy, key())),
        Box::new(SwapMachine::new(SwapPolicy::default())),
    ];
    all.into_iter()
        .map(|machine| (machine.method().to_owned(), machine))
        .collect()
}

pub(crate) const METHODS: [&str; 3] = [
    LockedMachine::CHAIN,
    LockedMachine::P2PK,
    SwapMachine::METHOD,
];

pub(crate) struct World {
    pub(crate) mint: Arc<TestMint>,
    pub(crate) payer: Side<PayerSession>,
    pub(crate) payee: Side<PayeeSession>,
    pub(crate) payer_purses: Purseless,
    pub(crate) payee_purses: Purseless,
    pub(crate) policy: Policy,
    pub(crate) now: Now,
    pub(crate) reading: Reading,
    /// The payee keeps every tick and says that it does not know its purse.
    pub(crate) denies: bool,
    /// What it kept, each payload once.
    pub(crate) kept: Vec<Tick>,
}

pub(crate) fn terms(payee: &SecretKey, tick: Msat) -> Terms {
    Terms {
        title: "a stream".into(),
        tariff: Tariff {
            time: Rate::new(tick, 1_000).ok(),
            bytes: None,
        },
        tick,
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: METHODS
            .map(|name| {
                let mint = AcceptedMint::sat(crate::mint::URL).unwrap();
                let params = match name {
                    SwapMachine::METHOD => SwapParams::new(vec![mint]).unwrap().encode(),
                    _ => params().encode(),
                };
                Method {
                    name: name.into(),
                    params: params.to_vec(),
                }
            })
            .into(),
        join_fee: Msat::ZERO,
        resumable_s: 3_600,
        expires: Unix(u64::MAX),
        payee: payee.public(),
    }
}

impl World {
    pub(crate) async fn new(
        ppk: u64,
        funds: u64,
        tick: Msat,
        budget: Msat,
        policy: LockedPolicy,
    ) -> Self {
        let mint = TestMint::new(ppk).await;
        Self::at(mint, funds, tick, budget, policy, METHODS.to_vec()).await
    }

    pub(crate) async fn at(
        mint: Arc<TestMint>,
        funds: u64,
        tick: Msat,
        budget: Msat,
        policy: LockedPolicy,
        methods: Vec<&'static str>,
    ) -> Self {
        Self::with_fee(mint, funds, (tick, Msat::ZERO), budget, policy, methods).await
    }

    /// Joining the payee's room costs something.
    pub(crate) async fn with_fee(
        mint: Arc<TestMint>,
        funds: u64,
        (tick, join_fee): (Msat, Msat),
        budget: Msat,
        policy: LockedPolicy,
        methods: Vec<&'static str>,
    ) -> Self {
        let payer_purses = Purseless::new(&mint, 1, funds).await;
        let payee_purses = Purseless::new(&mint, 2, 0).await;
        let identity = SecretKey::from_bytes([4; 32]).unwrap();
        let payee = PayeeSession::new(
            PayeeConfig {
                identity: identity.clone(),
                terms: Terms {
                    join_fee,
                    ..terms(&identity, tick)
                }
                .into(),
                preview_left: Msat::ZERO,
                unpaid_ms: 60_000,
            },
            &Entropy([21; 32]),
        )
        .unwrap()
        .with_room();
        let own = Policy {
            budget,
            max_purse: Msat::MAX,
            max_tariff: terms(&identity, tick).tariff,
            max_tick: tick,
            methods: methods.into_iter().map(String::from).collect(),
            stall_close_ms: 600_000,
        };
        let payer = PayerSession::new(
            PayerConfig {
                identity: SecretKey::from_bytes([5; 32]).unwrap(),
                payee: identity.public(),
                policy: own.clone(),
            },
            &Entropy([22; 32]),
        )
        .unwrap();
        let now = Now {
            mono: Mono(1_000),
            unix: Unix(cdk::util::unix_time()),
        };
        let mut world = Self {
            payer: Side::new(payer, machines(policy, false), &payer_purses),
            payee: Side::new(payee, machines(policy, true), &payee_purses),
            mint,
            payer_purses,
            payee_purses,
            policy: own,
            now,
            reading: Reading::default(),
            denies: false,
            kept: Vec::new(),
        };
        world.connect().await;
        world
    }

    pub(crate) async fn connect(&mut self) {
        self.connect_with(31).await;
    }

    pub(crate) async fn connect_with(&mut self, entropy: u8) {
        let identity = ChannelIdentity {
            payer: [1; 32],
            payee: [2; 32],
        };
        let up = |entropy| {
            Input::Link(LinkEvent::Up {
                identity,
                entropy: Entropy(entropy),
            })
        };
        self.payee.input(self.now, up([entropy; 32]));
        self.payer.input(self.now, up([entropy + 1; 32]));
        self.settle_down().await;
    }

    /// Until nothing moves without time.
    pub(crate) async fn settle_down(&mut self) {
        loop {
            let mut moved = self.payer.work(self.now).await;
            moved |= self.payee.work(self.now).await;
            while let Some(bytes) = self.payer.outgoing.pop_front() {
                self.hear(bytes);
                moved = true;
            }
            while let Some(bytes) = self.payee.outgoing.pop_front() {
                self.payer.input(self.now, Input::Received(bytes));
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn hear(&mut self, bytes: Bytes) {
        match decode(&bytes) {
            Ok(Some(Message::Tick(tick))) if self.denies => {
                let nack = Message::Nack(Nack {
                    purse: tick.purse,
                    seq: tick.seq,
                    code: RefusalCode::OutOfOrder,
                    consumed: Consumed::No,
                });
                self.payee.send(encode(&nack));
                if self.kept.iter().all(|kept| kept.payload != tick.payload) {
                    self.kept.push(tick);
                }
            }
            _ => self.payee.input(self.now, Input::Received(bytes)),
        }
    }

    pub(crate) async fn step(&mut self) {
        self.now.mono.0 += STEP_MS;
        if self.now.mono.0.is_multiple_of(1_000) {
            self.now.unix.0 += 1;
        }
        let after = Reading {
            media_ms: self.reading.media_ms + STEP_MS,
            bytes: self.reading.bytes,
        };
        if self.payee.grant.admits(after) {
            self.reading = after;
            self.payee.input(self.now, Input::Usage(after));
            self.payer.input(self.now, Input::Usage(after));
        }
        let due = |at: Option<Mono>, now: Now| at.is_some_and(|at| at <= now.mono);
        if due(self.payer.session.poll_timeout(), self.now) {
            self.payer.input(self.now, Input::Timeout);
        }
        if due(self.payee.session.poll_timeout(), self.now) {
            self.payee.input(self.now, Input::Timeout);
        }
        self.payer.wake(self.now);
        self.payee.wake(self.now);
        self.settle_down().await;
    }

    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            self.step().await;
        }
        panic!(
            "never {what}: {:?} {:?}",
            self.payer.events, self.payee.events
        );
    }

    pub(crate) async fn close(&mut self) {
        let close = Input::Command(Command::Close(CloseCode::Done));
        self.payer.input(self.now, close);
        self.settle_down().await;
        self.until("settled", |world| {
            world.payer.session.is_settled() && world.payee.session.is_settled()
        })
        .await;
    }
}
