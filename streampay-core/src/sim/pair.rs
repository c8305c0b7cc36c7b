//! Two sides, and what a run does to them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Rng;
use super::config::{Fault, PairConfig, policy, tariff_of, terms};
use super::judge::Violation;
use super::link::{Direction, SimLink, Weather};
use super::mint::FakeMint;
use super::side::{Config, Session, Side};
use crate::backend::Effect;
use crate::meter::{NextTariff, Reading};
use crate::session::{
    CloseCode, Command, Entropy, Event, Input, PayeeConfig, PayeeSession, PayerConfig,
    PayerSession, SecretKey,
};
use crate::store::MemoryStore;
use crate::units::{Mono, Msat, Now, Unix};
use crate::wire::Terms;

/// What changes, drops or adds messages on their way.
pub(super) type Tamper = Box<dyn FnMut(Direction, &Bytes) -> Vec<Bytes> + Send>;

/// A whole run.
pub struct Pair {
    /// The mint, with everybody's money.
    pub mint: FakeMint,
    pub(super) config: PairConfig,
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) payer: Side,
    pub(super) payee: Side,
    /// The payee's key of the first session: for receipts that lie.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests forge with it"))]
    pub(super) payee_key: SecretKey,
    /// True where the payee is a fresh machine though its session is settled.
    pub(super) payee_stands_in: bool,
    pub(super) link: SimLink,
    pub(super) tamper: Option<Tamper>,
    pub(super) link_up: bool,
    pub(super) link_back: Option<Mono>,
    payer_away_ms: u64,
    payee_away_ms: u64,
    pub(super) payer_back: Option<Mono>,
    pub(super) payee_back: Option<Mono>,
    pub(super) mint_back: Mono,
    /// When the mint of the method `fake` answers again.
    pub(super) first_back: Mono,
    pub(super) refuse_openings: u8,
    pub(super) lose_answers: u8,
    pub(super) resume_at: Option<Mono>,
    pub(super) consent_at: Option<Mono>,
    /// When the connection of a process that died goes down.
    pub(super) hang_up_at: Option<Mono>,
    /// Calls on their way to the mint: when they end, whose, which life of that side.
    pub(super) calls: BTreeMap<(Mono, u64), (Direction, u32, String, Effect)>,
    pub(super) call_count: u64,
    pub(super) media: BTreeMap<Mono, Reading>,
    pub(super) media_at: Mono,
    /// The bytes of the next packet.
    pub(super) next_bytes: u64,
    /// What passed the gate, and what of it came to the payer.
    pub(super) delivered: Reading,
    pub(super) received: Reading,
    /// Milliseconds that the payee's meter reads more than it should, each second.
    pub(super) overcount_ms: u64,
    /// What was agreed on besides the first tariff.
    pub(super) changes: Vec<NextTariff>,
    pub(super) total: Msat,
    pub(super) credited: Msat,
    pub(super) acked: Msat,
}

/// So often a run may go round at one moment before it counts as stuck.
const ROUNDS_MAX: u32 = 10_000;
impl Pair {
    /// Two sides that have not met, and a link between them.
    ///
    /// # Panics
    /// With a probability of 2^-128: a key that is none.
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
            policy: policy(&config),
        };
        let payee_config = PayeeConfig {
            identity: payee_key,
            preview_left: config.preview_left,
            terms: terms.into(),
            unpaid_ms: 600_000,
        };
        let payer = PayerSession::new(payer_config.clone(), &Entropy(rng.bytes()))
            .expect("derived keys are valid");
        let entropy = Entropy(rng.bytes());
        let session_key =
            SecretKey::derive(&entropy, "session-key").expect("derived keys are valid");
        let payee =
            PayeeSession::new(payee_config.clone(), &entropy).expect("derived keys are valid");
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
            payee_key: session_key,
            payee_stands_in: false,
            link: SimLink::default(),
            tamper: None,
            link_up: false,
            link_back: Some(Mono(0)),
            payer_away_ms: 0,
            payee_away_ms: 0,
            payer_back: None,
            payee_back: None,
            mint_back: Mono(0),
            first_back: Mono(0),
            refuse_openings: 0,
            lose_answers: 0,
            resume_at: None,
            consent_at: None,
            hang_up_at: None,
            calls: BTreeMap::new(),
            call_count: 0,
            media: BTreeMap::new(),
            media_at: Mono(0),
            next_bytes: 0,
            delivered: Reading::default(),
            received: Reading::default(),
            overcount_ms: 0,
            changes: Vec::new(),
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
        let mut rounds = 0_u32;
        loop {
            while let Some((_, fault)) =
                faults.next_if(|(at, _)| start.after_ms(*at) <= self.now.mono)
            {
                self.strike(*fault);
            }
            let fault_at = faults.peek().map(|(at, _)| start.after_ms(*at));
            let next = self.next_at().into_iter().chain(fault_at).min();
            let next = next.unwrap_or(end).min(end).max(self.now.mono);
            rounds = if next > self.now.mono {
                0
            } else {
                rounds.saturating_add(1)
            };
            if rounds > ROUNDS_MAX {
                return Err(Violation::Stuck { at_ms: next.0 });
            }
            self.advance_to(next);
            self.judge()?;
            let over = self.payer.is_ended() && self.payee.is_ended();
            let recovers = self.payer.needs_recovery() || self.payee.needs_recovery();
            if self.now.mono >= end || (over && !recovers) {
                return Ok(());
            }
        }
    }

    /// Ends all faults, and runs until the payee has credited `ticks` ticks or `most_ms` have
    /// passed.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn heal(&mut self, ticks: u64, most_ms: u64) -> Result<(), Violation> {
        self.end_faults();
        let until = self.now.mono.after_ms(most_ms);
        let enough = ticks.saturating_mul(self.config.tick.msat());
        while self.credited.msat() < enough && self.now.mono < until {
            let before = self.now.mono;
            self.run(1_000, &[])?;
            if self.now.mono == before {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn end_faults(&mut self) {
        self.link.weather = Weather::default();
        self.mint_back = self.now.mono;
        self.first_back = self.now.mono;
        (self.lose_answers, self.refuse_openings) = (0, 0);
        (self.payer.crash_in, self.payee.crash_in) = (None, None);
    }

    /// Ends all faults, closes, and waits until both sides have settled.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.end_faults();
        self.command(Direction::ToPayer, Command::Close(CloseCode::Done));
        self.run(60_000, &[])?;
        // A payee whose payer went away for good closes by itself in the end.
        self.command(Direction::ToPayee, Command::Close(CloseCode::Done));
        self.run(60_000, &[])?;
        if !self.payer.is_settled() || !self.payee.is_settled() {
            return Err(Violation::NotSettled);
        }
        self.judge_tips()?;
        let (credited, got) = (self.credited, self.mint.payee);
        if credited != got {
            return Err(Violation::Credit { credited, got });
        }
        let home = [self.mint.payee, self.mint.thief].into_iter();
        let after = home.fold(self.mint.payer, Msat::saturating_plus);
        if after != self.total {
            let before = self.total;
            return Err(Violation::Conservation { before, after });
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
        self.input(to, Input::Received(Bytes::copy_from_slice(bytes)));
    }

    /// The payer's machine, while its process lives.
    pub(super) fn payer(&self) -> Option<&PayerSession> {
        match self.payer.session.as_ref()? {
            Session::Payer(payer) => Some(payer),
            Session::Payee(_) => None,
        }
    }

    /// Changes, drops or adds messages on their way from here on.
    pub fn tamper(&mut self, tamper: impl FnMut(Direction, &Bytes) -> Vec<Bytes> + Send + 'static) {
        self.tamper = Some(Box::new(tamper));
    }

    pub(super) fn payee(&self) -> Option<&PayeeSession> {
        match self.payee.session.as_ref()? {
            Session::Payee(payee) => Some(payee),
            Session::Payer(_) => None,
        }
    }

    /// How long the process of a side that just crashed stays away, in milliseconds.
    pub(super) const fn away_ms(&self, side: Direction) -> u64 {
        match side {
            Direction::ToPayer => self.payer_away_ms,
            Direction::ToPayee => self.payee_away_ms,
        }
    }

    /// The payee offers a tariff of so many percent of the first one, in two ticks.
    pub fn offer_tariff(&mut self, percent: u16) {
        let Config::Payee(config) = &self.payee.config else {
            return;
        };
        let mut terms = Box::new(Terms::clone(&config.terms));
        terms.tariff = tariff_of(&self.config, percent);
        let in_ticks = 2;
        self.command(Direction::ToPayee, Command::OfferTerms { terms, in_ticks });
    }

    fn top_up(&mut self, amount: Msat) {
        if self.payer.session.is_some() && !self.payer.is_ended() {
            self.config.budget = self.config.budget.saturating_plus(amount);
            self.command(Direction::ToPayer, Command::TopUp(amount));
        }
    }

    /// The payee has a room from here on, whose host says what it is told to.
    pub fn open_room(&mut self) {
        if !self.payee.has_room {
            self.payee.has_room = true;
            self.payee.open_room();
        }
    }

    /// The payer's user gives a tip.
    pub fn tip(&mut self, amount: Msat) {
        self.command(Direction::ToPayer, Command::Tip(amount));
    }

    /// The payee's process dies now and is back after a while.
    pub(super) fn kill_payee(&mut self, away_ms: u64) {
        if self.payee.session.is_some() {
            self.payee.crashes = self.payee.crashes.saturating_add(1);
            self.payee.die();
            self.payee_back = Some(self.now.mono.after_ms(away_ms));
            self.hang_up_at = Some(self.now.mono);
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        let now = self.now.mono;
        match fault {
            Fault::Weather(weather) => self.link.weather = weather,
            Fault::LinkDown(ms) => self.take_link_down(ms),
            Fault::CrashPayer { outputs, away_ms } => {
                self.payer.crash_in = Some(outputs);
                self.payer_away_ms = away_ms;
            }
            Fault::CrashPayee { outputs, away_ms } => {
                self.payee.crash_in = Some(outputs);
                self.payee_away_ms = away_ms;
            }
            Fault::MintAway(ms) => self.mint_back = now.after_ms(ms),
            Fault::FirstMethodAway(ms) => self.first_back = now.after_ms(ms),
            Fault::RefuseOpenings(count) => self.refuse_openings = count,
            Fault::TopUp(sat) => self.top_up(Msat::from_sat(sat.into()).unwrap_or_default()),
            Fault::Tip(sat) => self.tip(Msat::from_sat(sat.into()).unwrap_or_default()),
            Fault::LoseAnswers(count) => self.lose_answers = count,
            Fault::OfferTariff(percent) => self.offer_tariff(percent),
            Fault::PausePayer(ms) => {
                self.resume_at = Some(now.after_ms(ms));
                self.command(Direction::ToPayer, Command::Pause);
            }
        }
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
