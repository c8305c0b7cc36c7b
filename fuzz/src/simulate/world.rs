//! A world: one streamer, some viewers, each with sessions, a mint, links, and a clock that jumps
//! from event to event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use streampay_core::backend::{Effect, EffectResult};
use streampay_core::meter::{Grant, Reading};
use streampay_core::session::{
    Command, PayeeConfig, PayeeSession, PayerConfig, PayerSession, SecretKey,
};
use streampay_core::sim::Rng;
use streampay_core::units::{Mono, Now, PurseId, SessionId, Unix};

use super::deaths::Deaths;
use super::judge::Violation;
use super::kinds::{Counts, Kind};
use super::link::Link;
use super::machine::{Machine, Method};
use super::media::Media;
use super::mint::Account;
use super::mint_faults::{Fate, MintFaults};
use super::store::SimStore;
use super::truth::Truth;

/// The payer's end of a slot, and its node's role.
pub(super) const PAYER: usize = 0;
/// The payee's.
pub(super) const PAYEE: usize = 1;
/// The streamer's node.
pub(super) const STREAMER: usize = 0;

/// What may go wrong in a world.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// Processes die and stores fail.
    pub crashes: bool,
    /// Messages and answers come twice, or late enough to be overtaken.
    pub repeats: bool,
}

/// Either machine.
pub(super) enum Session {
    Payer(Box<PayerSession>),
    Payee(Box<PayeeSession>),
}

/// One end of a session.
pub(super) struct End {
    pub(super) session: Option<Session>,
    pub(super) node: usize,
    pub(super) timer: Option<u64>,
    pub(super) grant: Grant,
    /// What the meter reads.
    pub(super) reading: Reading,
    pub(super) methods: BTreeMap<PurseId, Method>,
    /// The session gave up on its connection.
    pub(super) dropped: bool,
    /// It was taken up from the store.
    pub(super) restarted: bool,
    /// It will be.
    pub(super) reload: bool,
    /// Its store failed: what is in memory may never be true.
    pub(super) failed: bool,
}

/// A process with its store.
pub(super) struct Node {
    pub(super) role: usize,
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) store: SimStore,
    pub(super) machines: Vec<Machine>,
    pub(super) crash: Option<Crash>,
    /// It dies again while it comes back.
    pub(super) again: bool,
    /// Monotonic clocks begin anywhere, in milliseconds before the world's.
    pub(super) mono: u64,
    /// Wall clocks are wrong, by seconds.
    pub(super) skew: i64,
    pub(super) torn: bool,
}

/// A process dies at the next output of this kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    pub(super) kind: Kind,
    pub(super) away_ms: u64,
}

/// A place where one session follows another.
pub(super) struct Slot {
    pub(super) ends: [End; 2],
    pub(super) id: SessionId,
    pub(super) generation: u32,
    pub(super) over: bool,
    /// The payee's user was told that the payer is gone for good.
    pub(super) leaving: bool,
    pub(super) payer: PayerConfig,
    pub(super) payee: PayeeConfig,
    pub(super) link: Link,
    pub(super) media: Media,
    pub(super) account: Account,
    pub(super) faults: MintFaults,
    pub(super) truth: Truth,
    /// Ticks and faults of this hour.
    pub(super) ticks: u64,
    pub(super) struck: u64,
    /// Ticks since all was healed.
    pub(super) healed: u64,
    /// What the user says to a dearer tariff.
    pub(super) agrees: bool,
    /// The payee sends on, past its gate, while the payer has paused.
    pub(super) sends_on: bool,
}

/// Something that happens at a time.
pub(super) enum Ev {
    Timer {
        slot: usize,
        side: usize,
    },
    Arrive {
        slot: usize,
        to: usize,
        conn: u32,
        bytes: Bytes,
    },
    Call {
        slot: usize,
        side: usize,
        life: u32,
        generation: u32,
        effect: Effect,
        fate: Fate,
    },
    Answer {
        slot: usize,
        side: usize,
        life: u32,
        generation: u32,
        result: EffectResult,
    },
    Media {
        slot: usize,
        epoch: u32,
    },
    Packets {
        slot: usize,
        conn: u32,
        grown: Reading,
    },
    SendOn {
        slot: usize,
        conn: u32,
    },
    Unasked {
        slot: usize,
        conn: u32,
        packets: u64,
    },
    Back {
        node: usize,
    },
    Connect {
        slot: usize,
    },
    HangUp {
        slot: usize,
        conn: u32,
    },
    Reload {
        slot: usize,
        side: usize,
        generation: u32,
    },
    User {
        slot: usize,
        generation: u32,
        side: usize,
        command: Box<Command>,
    },
    Begin {
        slot: usize,
    },
    Strike {
        slot: usize,
    },
    Die {
        node: usize,
        away_ms: u64,
    },
}

struct Entry(u64, u64, Ev);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// All of it.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) switches: Switches,
    pub(super) nodes: Vec<Node>,
    pub(super) slots: Vec<Slot>,
    pub(super) counts: Counts,
    pub(super) violation: Option<Violation>,
    /// Faults still strike.
    pub(super) rough: bool,
    /// Sessions that end are followed by others.
    pub(super) goes_on: bool,
    pub(super) transcript: Option<Vec<String>>,
    pub(super) streamer: SecretKey,
    pub(super) setting: Setting,
    /// Deaths that were ordered.
    pub(super) deaths: Deaths,
    queue: BinaryHeap<Reverse<Entry>>,
    pushed: u64,
}

/// What differs from world to world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) tick_ms: u64,
    pub(super) bytes_msat: u64,
    pub(super) purse_ticks: u64,
    pub(super) life_s: u64,
    pub(super) preview: u64,
    pub(super) window: u64,
    /// The longest piece of media between two readings, in milliseconds.
    pub(super) sample_ms: u64,
    pub(super) packet_ms: u64,
    pub(super) redb: bool,
}

impl World {
    pub(super) fn new(rng: Rng, streamer: SecretKey, switches: Switches, setting: Setting) -> Self {
        Self {
            now: 0,
            rng,
            switches,
            nodes: Vec::new(),
            slots: Vec::new(),
            counts: Counts::default(),
            violation: None,
            rough: true,
            goes_on: true,
            transcript: None,
            streamer,
            setting,
            deaths: Deaths::default(),
            queue: BinaryHeap::new(),
            pushed: 0,
        }
    }

    /// A number below `most`.
    pub(super) const fn below(&mut self, most: u64) -> u64 {
        self.rng.next() % most
    }

    /// A number from `low` to `high`.
    pub(super) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.next() % (high - low + 1)
    }

    /// True once in so many times.
    pub(super) const fn one_in(&mut self, times: u64) -> bool {
        self.rng.next().is_multiple_of(times)
    }

    pub(super) fn at(&mut self, ms: u64, event: Ev) {
        self.pushed += 1;
        self.queue
            .push(Reverse(Entry(ms.max(self.now), self.pushed, event)));
    }

    pub(super) fn after(&mut self, ms: u64, event: Ev) {
        self.at(self.now + ms, event);
    }

    pub(super) fn log(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(lines) = &mut self.transcript {
            lines.push(format!("{:>9} {}", now, line()));
        }
    }

    pub(super) fn count(&mut self, slot: usize, kind: Kind) {
        self.counts.add(kind);
        self.slots[slot].struck += u64::from(kind.is_fault());
        self.log(|| format!("s{slot} -- {kind:?}"));
    }

    /// What a node's clocks say.
    pub(super) fn clock(&self, node: usize) -> Now {
        let node = &self.nodes[node];
        let unix = 1_800_000_000 + self.now / 1_000;
        Now {
            mono: Mono(self.now + node.mono),
            unix: Unix(unix.saturating_add_signed(node.skew)),
        }
    }

    /// Runs to `until`, to a violation, or until `done`.
    pub(super) fn run(&mut self, until: u64, done: impl Fn(&Self) -> bool) {
        let mut rounds = 0_u32;
        while self.violation.is_none() && !done(self) {
            let due = self.queue.peek().filter(|entry| entry.0.0 <= until);
            if due.is_none() {
                self.now = until;
                return;
            }
            let Some(Reverse(Entry(at, _, event))) = self.queue.pop() else {
                return;
            };
            rounds = if at > self.now { 0 } else { rounds + 1 };
            self.now = at;
            if rounds > 20_000 {
                self.violation = Some(Violation::Stuck);
            }
            self.happen(event);
            self.die_with_disks();
        }
    }

    fn happen(&mut self, event: Ev) {
        match event {
            Ev::Timer { slot, side } => self.on_timer(slot, side),
            Ev::Arrive {
                slot,
                to,
                conn,
                bytes,
            } => self.on_arrival(slot, to, conn, bytes),
            Ev::Call {
                slot,
                side,
                life,
                generation,
                effect,
                fate,
            } => self.on_call(slot, side, (life, generation), &effect, fate),
            Ev::Answer {
                slot,
                side,
                life,
                generation,
                result,
            } => self.on_answer(slot, side, (life, generation), result),
            Ev::Media { slot, epoch } => self.on_media(slot, epoch),
            Ev::Packets { slot, conn, grown } => self.on_packets(slot, conn, grown),
            Ev::SendOn { slot, conn } => self.send_on(slot, conn),
            Ev::Unasked {
                slot,
                conn,
                packets,
            } => self.on_unasked(slot, conn, packets),
            Ev::Back { node } => self.come_back(node),
            Ev::Connect { slot } => self.connect(slot),
            Ev::HangUp { slot, conn } => {
                if self.slots[slot].link.conn == conn {
                    self.disconnect(slot, 300);
                }
            }
            Ev::Reload {
                slot,
                side,
                generation,
            } => self.on_reload(slot, side, generation),
            Ev::User {
                slot,
                generation,
                side,
                command,
            } => {
                self.on_user(slot, generation, side, *command);
            }
            Ev::Begin { slot } => self.begin(slot),
            Ev::Strike { slot } => self.strike(slot),
            Ev::Die { node, away_ms } => {
                if self.nodes[node].up {
                    self.die(node, away_ms, None);
                }
            }
        }
    }
}
