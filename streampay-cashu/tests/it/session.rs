//! Two whole sessions over the chain, in virtual time, with a real mint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use streampay_cashu::{
    AcceptedMint, LockedMachine, LockedPolicy, Runner, SwapMachine, SwapParams, SwapPolicy,
};
use streampay_core::backend::{BackendMachine, Effect};
use streampay_core::driver::{EffectRunner, SessionMachine};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent, Output,
    PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::store::{MemoryStore, Store, purse_prefix, session_prefix};
use streampay_core::units::{Mono, Msat, Now, PurseKey, SessionId, Unix};
use streampay_core::wire::{Message, Method, Terms, decode};

use crate::mint::{Fault, Purseless, TestMint};
use crate::node::{OneWallet, params, receiver, sat};

const STEP_MS: u64 = 100;

struct Side<S> {
    session: S,
    machines: BTreeMap<String, Box<dyn BackendMachine>>,
    runner: Runner,
    store: MemoryStore,
    grant: Grant,
    outgoing: VecDeque<Bytes>,
    effects: VecDeque<(String, Effect)>,
    events: Vec<Event>,
    longest_tick: usize,
    ticks: u64,
}

impl<S: SessionMachine> Side<S> {
    fn new(session: S, machines: Machines, purses: &Purseless) -> Self {
        let wallets = Arc::new(OneWallet(purses.wallet.clone()));
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

    fn input(&mut self, now: Now, input: Input) {
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
        while let Some((method, effect)) = self.effects.pop_front() {
            let purse = effect.purse;
            let result = self.runner.run(effect).await;
            let machine = self.machines.get_mut(&method).unwrap();
            let answer = machine.effect_done(now, result);
            self.input(now, Input::Backend(BackendEvent { purse, answer }));
        }
        worked
    }

    fn wake(&mut self, now: Now) {
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
    fn restart(
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

type Machines = BTreeMap<String, Box<dyn BackendMachine>>;

/// All three methods.
fn machines(policy: LockedPolicy, payee: bool) -> Machines {
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

const METHODS: [&str; 3] = [
    LockedMachine::CHAIN,
    LockedMachine::P2PK,
    SwapMachine::METHOD,
];

struct World {
    mint: Arc<TestMint>,
    payer: Side<PayerSession>,
    payee: Side<PayeeSession>,
    payer_purses: Purseless,
    payee_purses: Purseless,
    policy: Policy,
    now: Now,
    reading: Reading,
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
    async fn new(ppk: u64, funds: u64, tick: Msat, budget: Msat, policy: LockedPolicy) -> Self {
        let mint = TestMint::new(ppk).await;
        Self::at(mint, funds, tick, budget, policy, METHODS.to_vec()).await
    }

    async fn at(
        mint: Arc<TestMint>,
        funds: u64,
        tick: Msat,
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
                terms: terms(&identity, tick).into(),
                preview_left: Msat::ZERO,
                unpaid_ms: 60_000,
            },
            &Entropy([21; 32]),
        )
        .unwrap();
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
        };
        world.connect().await;
        world
    }

    async fn connect(&mut self) {
        self.connect_with(31).await;
    }

    async fn connect_with(&mut self, entropy: u8) {
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

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
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
    // Steps of time in which a tick was paid: the mint is called in those alone that open a purse
    // or redeem a batch.
    let (mut with_ticks, mut called) = (0, 0);
    while world.payer.ticks < 1_000 {
        let before = (world.payer.ticks, world.mint.calls());
        world.step().await;
        if world.payer.ticks > before.0 {
            with_ticks += 1;
            called += u64::from(world.mint.calls() != before.1);
        }
    }
    let calls = |kind| world.mint.calls_of(kind);
    let opened = |event: &&Event| matches!(event, Event::PurseOpen { .. });
    let openings = world.payer.events.iter().filter(opened).count() as u64;
    // 256 steps each, and the next one at 80 % of the last.
    assert_eq!(openings, 5);
    let batches = 1_000 / 64;
    assert_eq!(calls("swap"), openings + batches);
    // Each side learns the time once a purse; each wallet looks at its mint once by itself.
    assert_eq!(calls("info"), 2 * openings + 2);
    assert_eq!(calls("restore"), 0);
    assert_eq!(with_ticks, 999);
    assert!(called < openings + batches, "{called}");
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
    assert!((68..=80).contains(&payee), "{payee}");
    // What is not with either is the mint's fees: splitting, redeeming, coming home.
    let fees = 2_000 - payer - payee;
    assert!(fees <= 45, "{fees}");
}

#[tokio::test]
async fn restarts_of_both_sides_lose_nothing() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(200), policy).await;
    for (round, ticks) in [(0_u8, 3), (1, 6), (2, 9), (3, 12)] {
        world
            .until("ticks", |world| world.payer.ticks >= ticks)
            .await;
        let now = world.now;
        if round % 2 == 0 {
            let identity = SecretKey::from_bytes([4; 32]).unwrap();
            let restore = |id, records: &[_]| {
                PayeeSession::restore(identity, 60_000, now, id, records).unwrap()
            };
            world.payee.restart(now, machines(policy, true), restore);
            world.payer.input(now, Input::Link(LinkEvent::Down));
        } else {
            let identity = SecretKey::from_bytes([5; 32]).unwrap();
            let own = world.policy.clone();
            let restore =
                |id, records: &[_]| PayerSession::restore(identity, own, now, id, records).unwrap();
            world.payer.restart(now, machines(policy, false), restore);
            world.payee.input(now, Input::Link(LinkEvent::Down));
        }
        world.connect_with(40 + 2 * round).await;
    }
    world
        .until("more ticks", |world| world.payer.ticks >= 15)
        .await;
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((28..=34).contains(&payee), "{payee}");
}

#[tokio::test]
async fn mint_without_htlcs_is_paid_by_another_method() {
    for first in [LockedMachine::P2PK, SwapMachine::METHOD] {
        let mint = TestMint::new(0).await;
        mint.without_htlcs();
        let methods = vec![LockedMachine::CHAIN, first];
        let policy = LockedPolicy::default();
        let mut world = World::at(mint, 500, sat(2), sat(100), policy, methods).await;
        world.until("ticks", |world| world.payer.ticks >= 5).await;
        let purses = world.payer.session.purses();
        let used: Vec<_> = purses.iter().map(|(_, method)| method.as_str()).collect();
        assert_eq!(used, [LockedMachine::CHAIN, first]);
        world.close().await;
        let (payer, payee) = (
            world.payer_purses.spendable().await,
            world.payee_purses.spendable().await,
        );
        assert_eq!(payer + payee, 500, "{first}");
        assert!((10..=12).contains(&payee), "{payee}");
    }
}

#[tokio::test]
async fn close_while_the_mint_is_away_gives_the_rest_back_and_redeems_later() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(100), policy).await;
    world.until("ticks", |world| world.payer.ticks >= 5).await;
    let before = world.mint.calls();
    // The payee's redemption and the payer's coming home fail at first.
    for _ in 0..4 {
        world.mint.fail("swap", Fault::Away);
        world.mint.fail("restore", Fault::Away);
    }
    world.close().await;
    assert!(world.mint.calls() >= before + 6);
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((10..=12).contains(&payee), "{payee}");
}

#[tokio::test]
async fn mint_that_is_away_during_the_stream_stops_nothing() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(400), policy).await;
    world.until("ticks", |world| world.payer.ticks >= 5).await;
    for kind in ["swap", "restore", "info", "state", "keys", "keysets"] {
        for _ in 0..50 {
            world.mint.fail(kind, Fault::Away);
        }
    }
    let start = world.now.mono.0;
    // Past the redemption of the first 64 ticks, which fails.
    world
        .until("more ticks", |world| world.payer.ticks >= 100)
        .await;
    let seconds = (world.now.mono.0 - start) / 1_000;
    assert!((94..=98).contains(&seconds), "no pause: {seconds}");
    world.mint.heal();
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((200..=202).contains(&payee), "{payee}");
}
