//! One room and several sessions: pairs side by side, each with its own link, mint and faults, and
//! the room that their payees share, with a store of its own and crashes of the whole house.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::config::{Fault, PairConfig};
use super::judge::Violation;
use super::link::Direction;
use super::pair::Pair;
use crate::room::{HostCommand, Room, RoomConfig, RoomInput, RoomOutput};
use crate::session::{Command, Event, Line, RoomNews};
use crate::store::{MemoryStore, Store};
use crate::units::{Now, SessionId, XOnlyKey};

/// How often sessions and room hear of each other, in virtual milliseconds.
const STEP_MS: u64 = 20;
/// How long the house is away after a crash, in milliseconds.
const AWAY_MS: u64 = 700;

/// A whole run of one room.
pub struct House {
    /// The sessions.
    pub pairs: Vec<Pair>,
    pub(super) room: Room,
    store: MemoryStore,
    config: RoomConfig,
    now: Now,
    guests: Vec<Guest>,
    /// What each payer's user wants when it comes back: it joins again.
    joins: Vec<Option<Command>>,
    /// The house dies when so many more outputs of the room were taken.
    pub(super) crash_in: Option<u16>,
    /// How often it died.
    pub crashes: u32,
}

/// What the house knows of a pair.
#[derive(Clone, Debug, Default)]
struct Guest {
    /// The session that the room was told of.
    there: Option<SessionId>,
    /// Events of either side that were looked at.
    payee_read: usize,
    payer_read: usize,
    payer_lives: u32,
    /// Lines said.
    said: u32,
    /// The last number heard of each sender.
    heard: BTreeMap<String, u32>,
}

impl House {
    /// A room, and so many pairs that have not met.
    #[must_use]
    pub fn new(config: RoomConfig, pairs: impl IntoIterator<Item = PairConfig>) -> Self {
        let pairs: Vec<Pair> = pairs.into_iter().map(Pair::new).collect();
        let mut house = Self {
            guests: pairs.iter().map(|_| Guest::default()).collect(),
            joins: pairs.iter().map(|_| None).collect(),
            now: Now::default(),
            pairs,
            room: Room::new(config.clone()),
            store: MemoryStore::new(),
            config,
            crash_in: None,
            crashes: 0,
        };
        for pair in &mut house.pairs {
            house.now = pair.now;
            pair.payee.has_room = true;
            pair.payee.open_room();
        }
        house
    }

    /// Tells the room what the host wants.
    pub fn host(&mut self, command: HostCommand) {
        self.input(RoomInput::Host(command));
    }

    /// The payer's user wants this, also after the payer's process died.
    pub fn join(&mut self, pair: usize, command: Command) {
        self.command(pair, command.clone());
        if let Some(join) = self.joins.get_mut(pair) {
            *join = Some(command);
        }
    }

    /// The payer's user says the next line.
    pub fn say(&mut self, pair: usize) {
        let Some(guest) = self.guests.get_mut(pair) else {
            return;
        };
        guest.said = guest.said.saturating_add(1);
        if let Ok(text) = Line::new(guest.said.to_string()) {
            self.command(pair, Command::Chat(text));
        }
    }

    /// The payer's user wants something.
    pub fn command(&mut self, pair: usize, command: Command) {
        if let Some(pair) = self.pairs.get_mut(pair) {
            pair.command(Direction::ToPayer, command);
        }
    }

    /// The identity of a pair's payer, once it is bound.
    #[must_use]
    pub fn identity(&self, pair: usize) -> Option<XOnlyKey> {
        self.pairs.get(pair)?.payee()?.viewer()
    }

    /// Runs all for `ms` milliseconds while faults strike, each at its time and pair.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn run(&mut self, ms: u64, faults: &[(u64, usize, Fault)]) -> Result<(), Violation> {
        for step in 0..ms / STEP_MS {
            let from = step.saturating_mul(STEP_MS);
            let until = from.saturating_add(STEP_MS);
            for (n, pair) in self.pairs.iter_mut().enumerate() {
                let now = faults
                    .iter()
                    .filter(|(at, of, _)| *of == n && (from..until).contains(at));
                let now: Vec<_> = now
                    .map(|(at, _, fault)| (at.saturating_sub(from), *fault))
                    .collect();
                pair.run(STEP_MS, &now)?;
            }
            self.now.mono = self.now.mono.after_ms(STEP_MS);
            self.meet();
            self.judge()?;
        }
        Ok(())
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.crash_in = None;
        self.pairs.iter_mut().for_each(Pair::end_faults);
    }

    /// Settles every session, each by itself.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.heal();
        self.pairs.iter_mut().try_for_each(Pair::settle)
    }

    /// The room hears of the sessions, and they of it.
    fn meet(&mut self) {
        if self
            .room
            .poll_timeout()
            .is_some_and(|at| at <= self.now.mono)
        {
            self.input(RoomInput::Timeout);
        }
        for n in 0..self.pairs.len() {
            self.come_and_go(n);
            self.join_again(n);
        }
        // What the room told a session may have been the last that its process did.
        for _ in 0..self.pairs.len() {
            (0..self.pairs.len()).for_each(|n| self.come_and_go(n));
        }
    }

    fn come_and_go(&mut self, n: usize) {
        let (Some(pair), Some(guest)) = (self.pairs.get(n), self.guests.get_mut(n)) else {
            return;
        };
        let events = pair.events(Direction::ToPayee);
        let new = events.get(guest.payee_read..).unwrap_or_default().to_vec();
        guest.payee_read = events.len();
        for event in new {
            match event {
                Event::LinkDown | Event::Closed { .. } => self.depart(n),
                Event::Bound { .. } => self.arrive(n),
                Event::Room(ask) => {
                    if let Some(session) = self.guests.get(n).and_then(|guest| guest.there) {
                        self.input(RoomInput::Asked { session, ask });
                    }
                }
                _ => {}
            }
        }
        // A process that died said nothing.
        if self.identity(n).is_none() {
            self.depart(n);
        }
    }

    fn arrive(&mut self, n: usize) {
        let payee = self.pairs.get(n).and_then(Pair::payee);
        let session = payee.and_then(|payee| Some((payee.session()?, payee.viewer()?)));
        let Some(((session, identity), guest)) = session.zip(self.guests.get_mut(n)) else {
            return;
        };
        guest.there = Some(session);
        self.input(RoomInput::Bound { session, identity });
    }

    fn depart(&mut self, n: usize) {
        let there = self.guests.get_mut(n).and_then(|guest| guest.there.take());
        if let Some(session) = there {
            self.input(RoomInput::Gone { session });
        }
    }

    /// A user whose process died joins again.
    fn join_again(&mut self, n: usize) {
        let (Some(pair), Some(guest)) = (self.pairs.get(n), self.guests.get_mut(n)) else {
            return;
        };
        let back = pair.payer.session.is_some() && pair.payer.lives != guest.payer_lives;
        guest.payer_lives = if back {
            pair.payer.lives
        } else {
            guest.payer_lives
        };
        let join = self.joins.get(n).cloned().flatten();
        if let Some(join) = join.filter(|_| back) {
            self.command(n, join);
        }
    }

    fn input(&mut self, input: RoomInput) {
        let handled = self.room.handle(self.now, input);
        debug_assert!(handled.is_ok(), "{handled:?}");
        while let Some(output) = self.room.poll_output() {
            match self.crash_in {
                Some(0) => return self.crash(),
                Some(left) => self.crash_in = Some(left.saturating_sub(1)),
                None => {}
            }
            match output {
                RoomOutput::Persist(changes) => drop(self.store.append(&[changes])),
                RoomOutput::Tell { session, news } => self.tell(session, Command::Room(news)),
                RoomOutput::Close { session, code } => self.tell(session, Command::Close(code)),
                RoomOutput::Event(_) => {}
            }
        }
    }

    fn tell(&mut self, session: SessionId, command: Command) {
        let at = self
            .guests
            .iter()
            .position(|guest| guest.there == Some(session));
        if let Some(pair) = at.and_then(|at| self.pairs.get_mut(at)) {
            pair.command(Direction::ToPayee, command);
        }
    }

    /// The process dies with room and sessions; both come back from their stores.
    pub(super) fn crash(&mut self) {
        self.crash_in = None;
        self.crashes = self.crashes.saturating_add(1);
        self.pairs
            .iter_mut()
            .for_each(|pair| pair.kill_payee(AWAY_MS));
        self.guests.iter_mut().for_each(|guest| guest.there = None);
        let records = self.store.scan(&self.config.prefix()).unwrap_or_default();
        let restored = Room::restore(self.config.clone(), &records);
        self.room = restored.unwrap_or_else(|_| Room::new(self.config.clone()));
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let bound = (0..self.pairs.len()).filter(|n| self.identity(*n).is_some());
        let bound = u32::try_from(bound.count()).unwrap_or(u32::MAX);
        let counted = self.room.viewers();
        if counted != bound {
            return Err(Violation::Count { counted, bound });
        }
        self.judge_chat()
    }

    /// Each line of each sender comes at most once, in the order in which it was said.
    fn judge_chat(&mut self) -> Result<(), Violation> {
        for (pair, guest) in self.pairs.iter().zip(&mut self.guests) {
            let events = pair.events(Direction::ToPayer);
            let new = events.get(guest.payer_read..).unwrap_or_default();
            guest.payer_read = events.len();
            for (sender, number) in new.iter().filter_map(line) {
                let last = guest.heard.insert(sender, number).unwrap_or_default();
                if number <= last {
                    return Err(Violation::Chat);
                }
            }
        }
        Ok(())
    }
}

/// Who said which line.
fn line(event: &Event) -> Option<(String, u32)> {
    match event {
        Event::News(RoomNews::Chat { sender, text }) => {
            let sender = sender.clone().unwrap_or_default();
            Some((sender, text.as_str().parse().ok()?))
        }
        _ => None,
    }
}

impl core::fmt::Debug for House {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("House")
            .field("pairs", &self.pairs)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
