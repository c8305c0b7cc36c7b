//! A viewer and a streamer with their sessions, over virtual time and a simulated chain.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use streampay_btc::machine::{ChannelConfig, ChannelMachine};
use streampay_btc::sim::{SimChain, SimNode, sim_config};
use streampay_core::backend::{Answer, BackendMachine as _, Effect, EffectResult, Outcome};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    ApiMisuse, BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent,
    Output, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::sim::{FakeBackend, FakeMint};
use streampay_core::store::Store as _;
use streampay_core::units::{Mono, Msat, Now, PurseId, PurseKey, SessionId, Unix};
use streampay_core::wire::{Message, Method, Terms, decode};

/// A tick, in satoshi.
pub(crate) const TICK: u64 = 500;
const STEP_MS: u64 = 100;
pub(crate) const PAYER: usize = 0;
pub(crate) const PAYEE: usize = 1;

pub(crate) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(crate) enum Session {
    Payer(Box<PayerSession>),
    Payee(Box<PayeeSession>),
}

impl Session {
    fn handle(&mut self, now: Now, input: Input) -> Result<(), ApiMisuse> {
        match self {
            Self::Payer(payer) => payer.handle(now, input),
            Self::Payee(payee) => payee.handle(now, input),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Payer(payer) => payer.poll_output(),
            Self::Payee(payee) => payee.poll_output(),
        }
    }

    fn timeout(&self) -> Option<Mono> {
        match self {
            Self::Payer(payer) => payer.poll_timeout(),
            Self::Payee(payee) => payee.poll_timeout(),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Payer(payer) => payer.is_ended(),
            Self::Payee(payee) => payee.is_ended(),
        }
    }
}

/// One side: session, channels on its own view of the chain, and a second method.
pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) node: SimNode,
    fake: FakeBackend,
    methods: BTreeMap<PurseId, String>,
    effects: VecDeque<(String, Effect)>,
    pub(crate) events: Vec<Event>,
    grant: Grant,
    sent: Vec<Bytes>,
}

pub(crate) struct Stage {
    pub(crate) chain: SimChain,
    pub(crate) sides: [Side; 2],
    pub(crate) mint: FakeMint,
    pub(crate) now: Now,
    pub(crate) id: SessionId,
    /// Frames of this side's backend are lost on the way.
    pub(crate) lose_purse_frames_of: Option<usize>,
    /// No media comes, though the payee lets it.
    pub(crate) stalled: bool,
    reading: Reading,
    configs: (PayerConfig, PayeeConfig),
}

impl Stage {
    /// Both sides, connected; the payer's methods in its order.
    pub(crate) fn new(methods: &[&str]) -> Self {
        Self::closing(methods, 0)
    }

    /// The same, the payee asking for a mutual close and waiting so many milliseconds for it.
    pub(crate) fn closing(methods: &[&str], mutual_ms: u64) -> Self {
        Self::with(methods, |config| config.payee.mutual_ms = mutual_ms)
    }

    /// The same, both sides' limits as `change` leaves them.
    pub(crate) fn with(methods: &[&str], change: impl Fn(&mut ChannelConfig)) -> Self {
        let chain = SimChain::new();
        let nodes = [1, 2].map(|number| {
            let mut config = sim_config(number);
            change(&mut config);
            SimNode::new(&chain, config, number)
        });
        let identity = |number| SecretKey::derive(&Entropy([number; 32]), "identity").unwrap();
        let tariff = Tariff {
            time: Some(Rate::new(sat(TICK), 10_000).unwrap()),
            bytes: None,
        };
        let params = nodes[PAYEE]
            .machine
            .params(Now::default())
            .unwrap()
            .encode()
            .to_vec();
        let terms = Terms {
            title: "a_channel_of_mine".into(),
            tariff,
            tick: sat(TICK),
            preview: Msat::ZERO,
            window: Msat::ZERO,
            tolerance_permille: 20,
            tolerance_ms: 1_000,
            live_ms: 2_000,
            methods: vec![
                Method {
                    name: ChannelMachine::METHOD.into(),
                    params,
                },
                Method {
                    name: FakeBackend::STEPS.into(),
                    params: Vec::new(),
                },
            ],
            resumable_s: 86_400,
            expires: Unix(u64::MAX),
            payee: identity(11).public(),
            join_fee: Msat::ZERO,
        };
        let payer = PayerConfig {
            identity: identity(10),
            payee: identity(11).public(),
            policy: Policy {
                budget: sat(400_000),
                max_purse: sat(100_000),
                max_tariff: tariff,
                max_tick: sat(2 * TICK),
                methods: methods.iter().map(|name| (*name).into()).collect(),
                stall_close_ms: 24 * 3_600_000,
            },
        };
        let payee = PayeeConfig {
            identity: identity(11),
            terms: terms.into(),
            preview_left: Msat::ZERO,
            unpaid_ms: 24 * 3_600_000,
        };
        let payer_session = PayerSession::new(payer.clone(), &Entropy([20; 32])).unwrap();
        let payee_session = PayeeSession::new(payee.clone(), &Entropy([21; 32])).unwrap();
        let id = payer_session.session();
        let [payer_node, payee_node] = nodes;
        let mut stage = Self {
            chain,
            sides: [
                Side::new(Session::Payer(Box::new(payer_session)), payer_node),
                Side::new(Session::Payee(Box::new(payee_session)), payee_node),
            ],
            mint: FakeMint::new(sat(200_000)),
            now: Now {
                mono: Mono(0),
                unix: Unix(1_800_000_000),
            },
            id,
            lose_purse_frames_of: None,
            stalled: false,
            reading: Reading::default(),
            configs: (payer, payee),
        };
        stage.connect(30);
        stage
    }

    pub(crate) fn connect(&mut self, entropy: u8) {
        let identity = ChannelIdentity {
            payer: [entropy; 32],
            payee: [entropy + 1; 32],
        };
        for side in [PAYEE, PAYER] {
            let seed = [entropy + u8::try_from(side).unwrap(); 32];
            let entropy = Entropy(seed);
            self.input(side, Input::Link(LinkEvent::Up { identity, entropy }));
        }
        self.deliver();
    }

    pub(crate) fn disconnect(&mut self) {
        for side in [PAYEE, PAYER] {
            self.sides[side].sent.clear();
            self.input(side, Input::Link(LinkEvent::Down));
            self.sides[side].sent.clear();
        }
    }

    /// Lets so many milliseconds pass. Media flows while the gate lets it.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.now.mono = self.now.mono.after_ms(STEP_MS);
            self.now.unix = Unix(1_800_000_000 + self.now.mono.0 / 1000);
            let after = Reading {
                media_ms: self.reading.media_ms + STEP_MS,
                bytes: 0,
            };
            if !self.stalled && self.sides[PAYEE].grant.admits(after) {
                self.reading = after;
                for side in [PAYEE, PAYER] {
                    self.input(side, Input::Usage(after));
                }
            }
            for side in [PAYEE, PAYER] {
                let due = self.sides[side].session.timeout();
                if due.is_some_and(|due| due <= self.now.mono) {
                    self.input(side, Input::Timeout);
                }
            }
            self.deliver();
        }
    }

    /// Mines blocks, and both sides look.
    pub(crate) fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.mine(1);
            for side in &mut self.sides {
                side.node.now = self.now;
                side.node.look();
            }
        }
    }

    pub(crate) fn close(&mut self) {
        self.input(PAYER, Input::Command(Command::Close(CloseCode::Done)));
        self.deliver();
    }

    /// A process dies and comes back from its disk; the connection with it.
    pub(crate) fn restart(&mut self, side: usize, entropy: u8) {
        self.disconnect();
        let (now, id) = (self.now, self.id);
        let own = &mut self.sides[side];
        let prefix = streampay_core::store::session_prefix(id);
        let records = own.node.store.scan(&prefix).unwrap();
        let purses: Vec<PurseKey> = (own.methods.iter())
            .filter(|(_, method)| *method == ChannelMachine::METHOD)
            .map(|(purse, _)| PurseKey {
                session: id,
                purse: *purse,
            })
            .collect();
        own.node.now = now;
        own.node.restart(&purses);
        own.grant = Grant::Closed;
        own.session = if side == PAYER {
            let PayerConfig {
                identity, policy, ..
            } = self.configs.0.clone();
            let payer = PayerSession::restore(identity, policy, now, id, &records).unwrap();
            Session::Payer(Box::new(payer))
        } else {
            let PayeeConfig {
                identity,
                unpaid_ms,
                ..
            } = self.configs.1.clone();
            let payee = PayeeSession::restore(identity, unpaid_ms, now, id, &records).unwrap();
            Session::Payee(Box::new(payee))
        };
        let reading = match &own.session {
            Session::Payer(payer) => payer.reading(),
            Session::Payee(payee) => payee.reading(),
        };
        self.reading = self.reading.max(reading);
        self.drain(side);
        self.connect(entropy);
    }

    pub(crate) fn paid(&self) -> Msat {
        match &self.sides[PAYER].session {
            Session::Payer(payer) => payer.acknowledged(),
            Session::Payee(_) => Msat::ZERO,
        }
    }

    pub(crate) fn credited(&self) -> Msat {
        match &self.sides[PAYEE].session {
            Session::Payee(payee) => payee.credited(),
            Session::Payer(_) => Msat::ZERO,
        }
    }

    pub(crate) fn used_ms(&self) -> u64 {
        self.reading.media_ms
    }

    fn input(&mut self, side: usize, input: Input) {
        let handled = self.sides[side].session.handle(self.now, input);
        assert!(
            matches!(handled, Ok(()) | Err(ApiMisuse::Ended | ApiMisuse::NoLink)),
            "{handled:?}"
        );
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        loop {
            while let Some(output) = self.sides[side].session.poll_output() {
                self.act(side, output);
            }
            let Some((method, effect)) = self.sides[side].effects.pop_front() else {
                return;
            };
            let purse = effect.purse;
            let answer = self.call(side, &method, effect);
            self.answer(side, purse, answer);
        }
    }

    fn act(&mut self, side: usize, output: Output) {
        let now = self.now;
        let own = &mut self.sides[side];
        own.node.now = now;
        match output {
            Output::Persist(changes) => own.node.store.append(&[changes]).unwrap(),
            Output::Send(bytes) => own.sent.push(bytes),
            Output::Backend {
                method,
                purse,
                id,
                request,
            } => {
                own.methods.insert(purse.purse, method.clone());
                let answer = if method == ChannelMachine::METHOD {
                    own.node.machine.request(now, purse, id, request)
                } else {
                    own.fake.request(now, purse, id, request)
                };
                self.answer(side, purse, answer);
            }
            Output::Effect { method, effect } => own.effects.push_back((method, effect)),
            Output::Gate(grant) => own.grant = grant,
            Output::Event(event) => own.events.push(event),
        }
    }

    fn call(&mut self, side: usize, method: &str, effect: Effect) -> Answer {
        let own = &mut self.sides[side];
        own.node.now = self.now;
        if method == ChannelMachine::METHOD {
            let result = own.node.run(&effect);
            return own.node.machine.effect_done(self.now, result);
        }
        let result = EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: self.mint.run(&effect),
        };
        own.fake.effect_done(self.now, result)
    }

    fn answer(&mut self, side: usize, purse: PurseKey, answer: Answer) {
        let failed = matches!(answer.outcome, Some(Outcome::Failed(_)));
        let event = Input::Backend(BackendEvent { purse, answer });
        let handled = self.sides[side].session.handle(self.now, event);
        let ended = self.sides[side].session.is_ended();
        assert!(handled.is_ok() || ended || failed, "{handled:?}");
    }

    fn deliver(&mut self) {
        loop {
            let sent = [PAYER, PAYEE].map(|side| core::mem::take(&mut self.sides[side].sent));
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            for (from, bytes) in sent.into_iter().enumerate() {
                for bytes in bytes {
                    let purse = matches!(decode(&bytes), Ok(Some(Message::Purse(_))));
                    let lost = purse && self.lose_purse_frames_of == Some(from);
                    if !lost {
                        self.input(1 - from, Input::Received(bytes));
                    }
                }
            }
        }
    }
}

impl Side {
    fn new(session: Session, node: SimNode) -> Self {
        Self {
            session,
            node,
            fake: FakeBackend::steps(),
            methods: BTreeMap::new(),
            effects: VecDeque::new(),
            events: Vec::new(),
            grant: Grant::Closed,
            sent: Vec::new(),
        }
    }
}
