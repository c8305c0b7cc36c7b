//! Two sides, the link and the mint between them, and the judge.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::Rng;
use super::fake::{FakeBackend, FakeMint};
use super::link::{Direction, SimLink, Weather};
use super::side::{Config, Session, Side, Wants};
use crate::backend::{BackendError, Effect, EffectResult};
use crate::meter::{PauseReason, Rate, Reading, Tariff};
use crate::session::{
    ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent, PayeeConfig,
    PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use crate::store::MemoryStore;
use crate::units::{Mono, Msat, Now, Unix};
use crate::wire::{Method, Terms};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The link does this to the next messages.
    Weather(Weather),
    /// The connection is gone for so many milliseconds.
    LinkDown(u64),
    /// The payer's process dies so many outputs from here, and is back after a while.
    CrashPayer {
        /// Outputs still taken.
        outputs: u16,
        /// Milliseconds until it is back.
        away_ms: u64,
    },
    /// The payee's process dies so many outputs from here, and is back after a while.
    CrashPayee {
        /// Outputs still taken.
        outputs: u16,
        /// Milliseconds until it is back.
        away_ms: u64,
    },
    /// The mint does not answer for so many milliseconds.
    MintAway(u64),
    /// The mint acts on so many calls and its answer is lost.
    LoseAnswers(u8),
    /// The payer pauses for so many milliseconds.
    PausePayer(u64),
}

/// What two sides agreed on before the run.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// For all randomness of the run.
    pub seed: u64,
    /// One tick, in millisatoshi; a second costs as much.
    pub tick: Msat,
    /// The payer's budget.
    pub budget: Msat,
    /// What the payer's wallet holds.
    pub wallet: Msat,
    /// The credit window.
    pub window: Msat,
    /// The preview.
    pub preview: Msat,
}

impl Default for PairConfig {
    fn default() -> Self {
        let sat = |sat| Msat::from_sat(sat).unwrap_or_default();
        Self {
            seed: 1,
            tick: sat(2),
            budget: sat(200),
            wallet: sat(1_000),
            window: Msat::ZERO,
            preview: Msat::ZERO,
        }
    }
}

/// A promise that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The payer had more at stake than a tick and the lead.
    #[error("payer: {paid} paid, {used} used at {at_ms} ms")]
    PayerBound {
        /// Paid.
        paid: Msat,
        /// Used.
        used: Msat,
        /// When.
        at_ms: u64,
    },
    /// The payee had delivered more than credit, preview and window.
    #[error("payee: {used} used, {reach} allowed at {at_ms} ms")]
    PayeeBound {
        /// Used.
        used: Msat,
        /// Allowed.
        reach: Msat,
        /// When.
        at_ms: u64,
    },
    /// Money appeared or vanished.
    #[error("money: {before} before, {after} after")]
    Conservation {
        /// At the start.
        before: Msat,
        /// Now.
        after: Msat,
    },
    /// The payee credited what it did not get, or got what it did not credit.
    #[error("payee: {credited} credited, {got} in the wallet")]
    Credit {
        /// Credited.
        credited: Msat,
        /// In the wallet.
        got: Msat,
    },
    /// More was spent than the budget.
    #[error("budget: {spent} of {budget} spent")]
    Budget {
        /// Spent.
        spent: Msat,
        /// The budget.
        budget: Msat,
    },
    /// An amount that must not decrease did.
    #[error("an amount decreased")]
    Decreased,
    /// The run did not settle.
    #[error("not settled")]
    NotSettled,
}

/// A whole run.
pub struct Pair {
    /// The mint, with everybody's money.
    pub mint: FakeMint,
    config: PairConfig,
    now: Now,
    rng: Rng,
    pub(super) payer: Side,
    pub(super) payee: Side,
    link: SimLink,
    link_up: bool,
    link_back: Option<Mono>,
    payer_back: Option<Mono>,
    payee_back: Option<Mono>,
    mint_back: Mono,
    lose_answers: u8,
    resume_at: Option<Mono>,
    /// Calls on their way to the mint: when they end, whose, which life of that side.
    calls: BTreeMap<(Mono, u64), (Direction, u32, Effect)>,
    call_count: u64,
    media: BTreeMap<Mono, Reading>,
    media_at: Mono,
    delivered: Reading,
    total: Msat,
    credited: Msat,
    acked: Msat,
}

/// Media moves in steps of so many milliseconds.
const STEP_MS: u64 = 40;
/// How long the mint takes, in milliseconds.
const MINT_MS: u64 = 30;

impl Pair {
    /// Two sides that have not met, and a link between them.
    #[must_use]
    pub fn new(config: PairConfig) -> Self {
        let mut rng = Rng::new(config.seed);
        let identity = |rng: &mut Rng| {
            SecretKey::derive(&Entropy(rng.bytes()), "identity").expect("derived keys are valid")
        };
        let payee_key = identity(&mut rng);
        let terms = terms(&config, &payee_key);
        let payer_config = PayerConfig {
            identity: identity(&mut rng),
            payee: payee_key.public(),
            policy: policy(&config, &terms),
        };
        let payee_config = PayeeConfig {
            identity: payee_key,
            terms,
            unpaid_ms: 600_000,
        };
        let payer = PayerSession::new(payer_config.clone(), &Entropy(rng.bytes()))
            .expect("derived keys are valid");
        let payee = PayeeSession::new(payee_config.clone(), &Entropy(rng.bytes()))
            .expect("derived keys are valid");
        let id = payer.session();
        let mut payer = Side::new(
            Config::Payer(payer_config),
            Session::Payer(Box::new(payer)),
            MemoryStore::new(),
        );
        let mut payee = Side::new(
            Config::Payee(payee_config),
            Session::Payee(Box::new(payee)),
            MemoryStore::new(),
        );
        (payer.id, payee.id) = (Some(id), Some(id));
        let mint = FakeMint::new(config.wallet);
        let now = Now {
            mono: Mono(0),
            unix: Unix(1_800_000_000),
        };
        Self {
            total: mint.total(),
            mint,
            config,
            now,
            rng,
            payer,
            payee,
            link: SimLink::default(),
            link_up: false,
            link_back: Some(Mono(0)),
            payer_back: None,
            payee_back: None,
            mint_back: Mono(0),
            lose_answers: 0,
            resume_at: None,
            calls: BTreeMap::new(),
            call_count: 0,
            media: BTreeMap::new(),
            media_at: Mono(0),
            delivered: Reading::default(),
            credited: Msat::ZERO,
            acked: Msat::ZERO,
        }
    }

    /// Runs for `ms` milliseconds while `faults` strike, each at its time from the start of this
    /// call.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn run(&mut self, ms: u64, faults: &[(u64, Fault)]) -> Result<(), Violation> {
        let (start, end) = (self.now.mono, self.now.mono.after_ms(ms));
        let mut faults = faults.iter().peekable();
        loop {
            while let Some((_, fault)) =
                faults.next_if(|(at, _)| start.after_ms(*at) <= self.now.mono)
            {
                self.strike(*fault);
            }
            let fault_at = faults.peek().map(|(at, _)| start.after_ms(*at));
            let next = self
                .next_at()
                .into_iter()
                .chain(fault_at)
                .min()
                .unwrap_or(end)
                .min(end);
            self.advance_to(next.max(self.now.mono));
            self.judge()?;
            if self.now.mono >= end || (self.payer.is_ended() && self.payee.is_ended()) {
                return Ok(());
            }
        }
    }

    /// Ends all faults, closes, and waits until both sides have settled.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.link.weather = Weather::default();
        self.mint_back = self.now.mono;
        self.lose_answers = 0;
        (self.payer.crash_in, self.payee.crash_in) = (None, None);
        // Long enough for every repetition, restart and reconnect to come through.
        self.run(60_000, &[])?;
        self.command(Direction::ToPayer, Command::Close(CloseCode::Done));
        self.run(30_000, &[])?;
        // A payee whose payer went away for good closes by itself in the end.
        self.command(Direction::ToPayee, Command::Close(CloseCode::Done));
        self.run(60_000, &[])?;
        if !self.payer.is_settled() || !self.payee.is_settled() {
            return Err(Violation::NotSettled);
        }
        let (credited, got) = (self.payee.money().0, self.mint.payee);
        if credited != got {
            return Err(Violation::Credit { credited, got });
        }
        if self.mint.payer.plus(self.mint.payee) != Ok(self.total) {
            let after = self.mint.payer.saturating_plus(self.mint.payee);
            return Err(Violation::Conservation {
                before: self.total,
                after,
            });
        }
        Ok(())
    }

    /// Tells the side that messages in this direction reach what its user wants.
    pub fn command(&mut self, to: Direction, command: Command) {
        self.input(to, Input::Command(command));
    }

    /// What the payee has credited.
    #[must_use]
    pub const fn credited(&self) -> Msat {
        self.credited
    }

    /// What was delivered, by the gate.
    #[must_use]
    pub const fn delivered(&self) -> Reading {
        self.delivered
    }

    /// All events of the side that messages in this direction reach.
    #[must_use]
    pub fn events(&self, of: Direction) -> &[Event] {
        match of {
            Direction::ToPayer => &self.payer.events,
            Direction::ToPayee => &self.payee.events,
        }
    }

    /// How often either process died.
    #[must_use]
    pub const fn crashes(&self) -> u32 {
        self.payer.crashes.saturating_add(self.payee.crashes)
    }

    /// Puts bytes in front of a side as if the peer had sent them.
    pub fn inject(&mut self, to: Direction, bytes: &[u8]) {
        self.input(to, Input::Received(bytes::Bytes::copy_from_slice(bytes)));
    }

    fn strike(&mut self, fault: Fault) {
        let now = self.now.mono;
        match fault {
            Fault::Weather(weather) => self.link.weather = weather,
            Fault::LinkDown(ms) => self.take_link_down(ms),
            Fault::CrashPayer { outputs, away_ms } => {
                self.payer.crash_in = Some(outputs);
                self.payer_back = Some(now.after_ms(away_ms));
            }
            Fault::CrashPayee { outputs, away_ms } => {
                self.payee.crash_in = Some(outputs);
                self.payee_back = Some(now.after_ms(away_ms));
            }
            Fault::MintAway(ms) => self.mint_back = now.after_ms(ms),
            Fault::LoseAnswers(count) => self.lose_answers = count,
            Fault::PausePayer(ms) => {
                self.resume_at = Some(now.after_ms(ms));
                self.command(Direction::ToPayer, Command::Pause(PauseReason::ByPayer));
            }
        }
    }

    fn next_at(&self) -> Option<Mono> {
        let alive = |side: &Side, at: Option<Mono>| at.filter(|_| side.session.is_none());
        let backs = [
            self.link_back.filter(|_| !self.link_up),
            alive(&self.payer, self.payer_back),
            alive(&self.payee, self.payee_back),
            self.resume_at,
        ];
        let flows = self.link_up && self.payee.grant.admits(after_step(self.payee.reading));
        let media = flows.then(|| self.media_at.after_ms(STEP_MS));
        backs
            .into_iter()
            .flatten()
            .chain(media)
            .chain(self.media.keys().next().copied())
            .chain(self.link.next_at())
            .chain(self.calls.keys().next().map(|(at, _)| *at))
            .chain(self.payer.timeout())
            .chain(self.payee.timeout())
            .min()
    }

    fn advance_to(&mut self, at: Mono) {
        self.now.mono = at;
        self.now.unix = Unix(1_800_000_000_u64.saturating_add(at.0 / 1000));
        self.come_back();
        while let Some((to, bytes)) = self.link.arrive(at) {
            self.input(to, Input::Received(bytes));
        }
        self.end_calls();
        self.move_media();
        for to in [Direction::ToPayer, Direction::ToPayee] {
            if self.side(to).timeout().is_some_and(|timeout| timeout <= at) {
                self.input(to, Input::Timeout);
            }
        }
    }

    fn come_back(&mut self) {
        let now = self.now.mono;
        let due = |back: Option<Mono>| back.is_some_and(|back| back <= now);
        if due(self.payer_back) && self.payer.session.is_none() {
            self.restart(Direction::ToPayer);
        }
        if due(self.payee_back) && self.payee.session.is_none() {
            self.restart(Direction::ToPayee);
        }
        let both = self.payer.session.is_some() && self.payee.session.is_some();
        let ended = self.payer.is_ended() || self.payee.is_ended();
        if due(self.link_back) && !self.link_up && both && !ended {
            self.take_link_up();
        }
        if due(self.resume_at) {
            self.resume_at = None;
            self.command(Direction::ToPayer, Command::Resume);
        }
        // A side that gave up on the connection drops it; another is made.
        if self.link_up && self.wants_new_link() {
            self.take_link_down(500);
        }
    }

    /// True where a side was left without a handshake: its connection is of no use any more.
    fn wants_new_link(&self) -> bool {
        let gave_up = |side: &Side| {
            let bound = side
                .events
                .iter()
                .rposition(|event| matches!(event, Event::Bound { .. }));
            let down = side
                .events
                .iter()
                .rposition(|event| matches!(event, Event::LinkDown));
            down.is_some() && down > bound && side.timeout().is_none()
        };
        gave_up(&self.payer) || gave_up(&self.payee) || self.payee.is_ended()
    }

    fn restart(&mut self, to: Direction) {
        let now = self.now;
        let entropy = Entropy(self.rng.bytes());
        let side = match to {
            Direction::ToPayer => &mut self.payer,
            Direction::ToPayee => &mut self.payee,
        };
        let wants = side.restart(now, |config| match config {
            Config::Payer(config) => PayerSession::new(config.clone(), &entropy)
                .ok()
                .map(|payer| Session::Payer(Box::new(payer))),
            Config::Payee(config) => PayeeSession::new(config.clone(), &entropy)
                .ok()
                .map(|payee| Session::Payee(Box::new(payee))),
        });
        if let Some(Session::Payer(payer)) = &self.payer.session {
            // A payer that died before it was bound begins another session.
            let id = payer.session();
            (self.payer.id, self.payee.id) = (Some(id), Some(id));
        }
        self.serve(to, wants);
    }

    fn take_link_up(&mut self) {
        self.link_up = true;
        self.media_at = self.now.mono;
        let identity = ChannelIdentity {
            payer: self.rng.bytes(),
            payee: self.rng.bytes(),
        };
        for to in [Direction::ToPayee, Direction::ToPayer] {
            let entropy = Entropy(self.rng.bytes());
            self.input(to, Input::Link(LinkEvent::Up { identity, entropy }));
        }
    }

    fn take_link_down(&mut self, ms: u64) {
        if self.link_up {
            self.link_up = false;
            self.link.drop_all();
            self.media.clear();
            self.input(Direction::ToPayer, Input::Link(LinkEvent::Down));
            self.input(Direction::ToPayee, Input::Link(LinkEvent::Down));
            if self.payee.is_ended() && !self.payee.is_settled() {
                self.payee.session = None;
                self.payee_back = Some(self.now.mono);
            } else if self.payee.is_ended() && self.credited.is_zero() {
                // A machine that met nobody is made anew for the next connection.
                self.payee.session = None;
                self.payee_back = Some(self.now.mono);
            }
        }
        self.link_back = Some(self.now.mono.after_ms(ms));
    }

    fn side(&self, to: Direction) -> &Side {
        match to {
            Direction::ToPayer => &self.payer,
            Direction::ToPayee => &self.payee,
        }
    }

    fn input(&mut self, to: Direction, input: Input) {
        let now = self.now;
        let wants = match to {
            Direction::ToPayer => self.payer.input(now, input),
            Direction::ToPayee => self.payee.input(now, input),
        };
        self.serve(to, wants);
    }

    fn serve(&mut self, from: Direction, wants: Wants) {
        let now = self.now.mono;
        let to = match from {
            Direction::ToPayer => Direction::ToPayee,
            Direction::ToPayee => Direction::ToPayer,
        };
        if self.link_up {
            for bytes in &wants.sends {
                self.link.send(now, &mut self.rng, to, bytes);
            }
        }
        for effect in wants.effects {
            self.call_count = self.call_count.saturating_add(1);
            let life = self.side(from).crashes;
            let at = now.max(self.mint_back).after_ms(MINT_MS);
            // A mint that is away does not answer, and the caller gives up after 5 s.
            let at = at.min(now.after_ms(5_000));
            self.calls
                .insert((at, self.call_count), (from, life, effect));
        }
        if wants.crashed {
            let away = match from {
                Direction::ToPayer => &mut self.payer_back,
                Direction::ToPayee => &mut self.payee_back,
            };
            *away = Some(away.map_or(now, |at| at.max(now)));
            self.take_link_down(200);
        }
    }

    fn end_calls(&mut self) {
        let now = self.now.mono;
        while let Some(entry) = self
            .calls
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (of, life, effect) = entry.remove();
            let away = now < self.mint_back;
            let result = if away {
                Err(BackendError::Transient)
            } else {
                self.mint.run(&effect)
            };
            let lost = !away && self.lose_answers > 0;
            if lost {
                self.lose_answers = self.lose_answers.saturating_sub(1);
            }
            let result = if lost {
                Err(BackendError::Unknown)
            } else {
                result
            };
            let result = EffectResult {
                purse: effect.purse,
                id: effect.id,
                result,
            };
            let now = self.now;
            let side = match of {
                Direction::ToPayer => &mut self.payer,
                Direction::ToPayee => &mut self.payee,
            };
            // A process that died since does not hear of it.
            if side.session.is_some() && side.crashes == life {
                let wants = side.effect_done(now, result);
                self.serve(of, wants);
            }
        }
    }

    fn move_media(&mut self) {
        let now = self.now.mono;
        while let Some(entry) = self.media.first_entry().filter(|entry| *entry.key() <= now) {
            let grown = entry.remove();
            let sum = self.payer.reading.media_ms.saturating_add(grown.media_ms);
            self.payer.reading.media_ms = sum;
            let reading = self.payer.reading;
            self.input(Direction::ToPayer, Input::Usage(reading));
        }
        if now.since_ms(self.media_at) < STEP_MS {
            return;
        }
        self.media_at = now;
        let next = after_step(self.payee.reading);
        if self.link_up && self.payee.grant.admits(next) {
            self.payee.reading = next;
            self.delivered.media_ms = self.delivered.media_ms.saturating_add(STEP_MS);
            self.media.insert(
                now.after_ms(15),
                Reading {
                    media_ms: STEP_MS,
                    bytes: 0,
                },
            );
            self.input(Direction::ToPayee, Input::Usage(next));
        }
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let at_ms = self.now.mono.0;
        let price = |reading| tariff(&self.config).price(reading);
        let (tick, total) = (self.config.tick, self.mint.total());
        if total != self.total {
            return Err(Violation::Conservation {
                before: self.total,
                after: total,
            });
        }
        let spent = self
            .total
            .saturating_minus(self.mint.payer)
            .saturating_minus(self.mint.payee);
        let spent = spent.saturating_plus(self.mint.payee);
        if spent > self.config.budget {
            return Err(Violation::Budget {
                spent,
                budget: self.config.budget,
            });
        }
        if self.payee.session.is_some() {
            let credited = self.payee.money().0;
            if credited < self.credited {
                return Err(Violation::Decreased);
            }
            self.credited = credited;
            let reach = credited
                .saturating_plus(self.config.preview)
                .saturating_plus(self.config.window);
            let used = price(self.delivered);
            if used > reach {
                return Err(Violation::PayeeBound { used, reach, at_ms });
            }
        }
        if self.payer.session.is_some() {
            let (paid, acked) = self.payer.money();
            if acked < self.acked || acked > self.mint.payee {
                return Err(Violation::Decreased);
            }
            self.acked = acked;
            // One tick, the lead of at most a fifth, and the tolerance between the meters.
            let slack = tick.msat() / 5 + tick.msat() / 5;
            let most = tick.saturating_plus(Msat::new(slack).unwrap_or_default());
            let used = price(self.delivered);
            if paid.saturating_minus(used) > most {
                return Err(Violation::PayerBound { paid, used, at_ms });
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pair")
            .field("now", &self.now)
            .field("credited", &self.credited)
            .finish_non_exhaustive()
    }
}

fn after_step(reading: Reading) -> Reading {
    Reading {
        media_ms: reading.media_ms.saturating_add(STEP_MS),
        ..reading
    }
}

fn tariff(config: &PairConfig) -> Tariff {
    Tariff {
        time: Rate::new(config.tick, 1_000).ok(),
        bytes: None,
    }
}

fn terms(config: &PairConfig, payee: &SecretKey) -> Terms {
    Terms {
        title: "simulated".into(),
        tariff: tariff(config),
        tick: config.tick,
        preview: config.preview,
        window: config.window,
        tolerance_permille: 20,
        tolerance_ms: 200,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::METHOD.into(),
            params: Vec::new(),
        }],
        resumable_s: 86_400,
        expires: Unix(u64::MAX),
        payee: payee.public(),
    }
}

fn policy(config: &PairConfig, terms: &Terms) -> Policy {
    Policy {
        budget: config.budget,
        max_tariff: terms.tariff,
        max_tick: config.tick,
        methods: vec![FakeBackend::METHOD.into()],
        stall_close_ms: 600_000,
    }
}
