//! Two whole sessions over the chain, in virtual time, with a real mint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streampay_cashu::{LockedMachine, LockedPolicy, Runner};
use streampay_core::backend::{BackendMachine, Effect};
use streampay_core::driver::{EffectRunner, SessionMachine};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent, Output,
    PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::store::{MemoryStore, Store};
use streampay_core::units::{Mono, Msat, Now, Unix};
use streampay_core::wire::{Message, Method, Terms, decode};

use crate::mint::{Purseless, TestMint};
use crate::node::{OneWallet, params, receiver, sat};

const STEP_MS: u64 = 100;

struct Side<S> {
    session: S,
    machine: LockedMachine,
    runner: Runner,
    store: MemoryStore,
    grant: Grant,
    outgoing: VecDeque<Bytes>,
    effects: VecDeque<Effect>,
    events: Vec<Event>,
    longest_tick: usize,
    ticks: u64,
}

impl<S: SessionMachine> Side<S> {
    fn new(session: S, machine: LockedMachine, purses: &Purseless) -> Self {
        let wallets = Arc::new(OneWallet(purses.wallet.clone()));
        Self {
            session,
            machine,
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

    fn input(&mut self, now: Now, input: Input) {
        let _ = self.session.handle(now, input);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Persist(changes) => self.store.append(&[changes]).unwrap(),
                Output::Send(bytes) => self.send(bytes),
                Output::Backend {
                    purse, id, request, ..
                } => {
                    let answer = self.machine.request(now, purse, id, request);
                    let event = BackendEvent { purse, answer };
                    let _ = self.session.handle(now, Input::Backend(event));
                }
                Output::Effect { effect, .. } => self.effects.push_back(effect),
                Output::Gate(grant) => self.grant = grant,
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if let Ok(Some(Message::Tick(_))) = decode(&bytes) {
            self.longest_tick = self.longest_tick.max(bytes.len());
            self.ticks += 1;
        }
        self.outgoing.push_back(bytes);
    }

    /// Makes the calls that were wanted, one after the other.
    async fn work(&mut self, now: Now) -> bool {
        let worked = !self.effects.is_empty();
        while let Some(effect) = self.effects.pop_front() {
            let purse = effect.purse;
            let result = self.runner.run(effect).await;
            let answer = self.machine.effect_done(now, result);
            self.input(now, Input::Backend(BackendEvent { purse, answer }));
        }
        worked
    }

    fn wake(&mut self, now: Now) {
        let Some(session) = self.session.id() else {
            return;
        };
        for (id, _) in self.session.purses() {
            let purse = streampay_core::units::PurseKey { session, purse: id };
            if self.machine.wake_at(purse).is_some_and(|at| at <= now.unix) {
                let answer = self.machine.wake(now, purse);
                self.input(now, Input::Backend(BackendEvent { purse, answer }));
            }
        }
    }
}

struct World {
    mint: Arc<TestMint>,
    payer: Side<PayerSession>,
    payee: Side<PayeeSession>,
    payer_purses: Purseless,
    payee_purses: Purseless,
    now: Now,
    reading: Reading,
    /// Calls to the mint by purpose: those that came with a tick and no batch or opening.
    opened: BTreeMap<&'static str, u64>,
}

fn terms(payee: &SecretKey, tick: Msat) -> Terms {
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
        methods: vec![Method {
            name: LockedMachine::CHAIN.into(),
            params: params().encode().to_vec(),
        }],
        join_fee: Msat::ZERO,
        resumable_s: 3_600,
        expires: Unix(u64::MAX),
        payee: payee.public(),
    }
}

impl World {
    async fn new(ppk: u64, funds: u64, tick: Msat, budget: Msat, policy: LockedPolicy) -> Self {
        let mint = TestMint::new(ppk).await;
        let payer_purses = Purseless::new(&mint, 1, funds).await;
        let payee_purses = Purseless::new(&mint, 2, 0).await;
        let identity = SecretKey::from_bytes([4; 32]).unwrap();
        let payee = PayeeSession::new(
            PayeeConfig {
                identity: identity.clone(),
                terms: terms(&identity, tick),
                preview_left: Msat::ZERO,
                unpaid_ms: 60_000,
            },
            &Entropy([21; 32]),
        )
        .unwrap();
        let payer = PayerSession::new(
            PayerConfig {
                identity: SecretKey::from_bytes([5; 32]).unwrap(),
                payee: identity.public(),
                policy: Policy {
                    budget,
                    max_purse: Msat::MAX,
                    max_tariff: terms(&identity, tick).tariff,
                    max_tick: tick,
                    methods: vec![LockedMachine::CHAIN.into()],
                    stall_close_ms: 600_000,
                },
            },
            &Entropy([22; 32]),
        )
        .unwrap();
        let now = Now {
            mono: Mono(1_000),
            unix: Unix(cdk::util::unix_time()),
        };
        let mut world = Self {
            payer: Side::new(payer, LockedMachine::chain(policy, None), &payer_purses),
            payee: Side::new(
                payee,
                LockedMachine::chain(policy, Some(receiver())),
                &payee_purses,
            ),
            mint,
            payer_purses,
            payee_purses,
            now,
            reading: Reading::default(),
            opened: BTreeMap::new(),
        };
        world.connect().await;
        world
    }

    async fn connect(&mut self) {
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
        self.payee.input(self.now, up([31; 32]));
        self.payer.input(self.now, up([32; 32]));
        self.settle_down().await;
    }

    /// Until nothing moves without time.
    async fn settle_down(&mut self) {
        loop {
            let mut moved = self.payer.work(self.now).await;
            moved |= self.payee.work(self.now).await;
            while let Some(bytes) = self.payer.outgoing.pop_front() {
                self.payee.input(self.now, Input::Received(bytes));
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

    async fn step(&mut self) {
        self.now.mono.0 += STEP_MS;
        if self.now.mono.0 % 1_000 == 0 {
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

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            self.step().await;
        }
        panic!("never {what}: {:?}", self.payer.events.last());
    }

    async fn close(&mut self) {
        let close = Input::Command(Command::Close(CloseCode::Done));
        self.payer.input(self.now, close);
        self.settle_down().await;
        self.until("settled", |world| {
            world.payer.session.is_settled() && world.payee.session.is_settled()
        })
        .await;
    }
}

#[tokio::test]
async fn thousand_ticks_call_no_mint() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 1_200, sat(1), sat(1_200), policy).await;
    world
        .until("a first tick", |world| world.payer.ticks > 0)
        .await;
    let mut silent = 0;
    let mut with_ticks = 0;
    let mut last = (world.payer.ticks, world.mint.calls());
    while world.payer.ticks < 1_000 {
        world.step().await;
        let now = (world.payer.ticks, world.mint.calls());
        let swaps_or_openings = now.1 != last.1;
        if now.0 > last.0 {
            with_ticks += 1;
            silent += u64::from(!swaps_or_openings);
        }
        last = now;
    }
    let calls = |kind| world.mint.calls_of(kind);
    // Four openings of 256 steps; a redemption at 64 ticks each; nothing else.
    let openings = world
        .payer
        .events
        .iter()
        .filter(|event| matches!(event, Event::PurseOpen { .. }))
        .count() as u64;
    assert_eq!(openings, 4, "{:?}", world.opened);
    assert_eq!(calls("swap") - openings, 1_000 / 64);
    assert_eq!(
        calls("info"),
        2 * openings,
        "each side learns the time once a purse"
    );
    assert_eq!(calls("restore"), 0);
    assert!(
        silent + 1_000 / 64 + openings >= with_ticks,
        "{silent} {with_ticks}"
    );
    assert!(
        world.payer.longest_tick <= 64,
        "{}",
        world.payer.longest_tick
    );
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 1_200);
    assert!((1_000..=1_002).contains(&payee), "{payee}");
}

#[tokio::test]
async fn unused_steps_come_home_at_close_without_waiting() {
    let mut world = World::new(100, 2_000, sat(10), sat(2_000), LockedPolicy::default()).await;
    world
        .until("seven ticks", |world| world.payer.ticks >= 7)
        .await;
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert!((69..=80).contains(&payee), "{payee}");
    // What is not with either is the mint's fees: splitting, redeeming, coming home.
    let fees = 2_000 - payer - payee;
    assert!(fees <= 45, "{fees}");
}
