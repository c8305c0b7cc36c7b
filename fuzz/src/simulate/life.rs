//! How sessions begin and end.

use std::collections::BTreeMap;

use streampay_core::backend::BackendMachine;
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    CloseCode, Command, Entropy, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy,
    SecretKey,
};
use streampay_core::store::{Key, session_prefix};
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId, Unix};
use streampay_core::wire::{Method as Listed, Terms};

use super::kinds::Kind;
use super::link::Link;
use super::machine::{Machine, Method};
use super::media::Media;
use super::mint::Account;
use super::mint_faults::MintFaults;
use super::truth::Truth;
use super::world::{End, Ev, Node, PAYEE, PAYER, STREAMER, Session, Slot, World};

/// One tick, in millisatoshi.
pub(super) const TICK: u64 = 2_000;
/// The dearest tariff that the payer's policy allows, in percent of the first one.
const PERCENT_MAX: u64 = 300;

pub(super) fn msat(value: u64) -> Msat {
    Msat::new(value).unwrap_or(Msat::MAX)
}

/// A payment of the method whose steps are largest.
pub(super) fn largest_step() -> u64 {
    let steps = Method::ALL.map(|method| TICK.next_multiple_of(method.quantum()));
    steps.into_iter().max().unwrap_or(TICK)
}

impl World {
    pub(super) fn tariff(&self, percent: u64) -> Tariff {
        let rate = |msat_: u64, per| Rate::new(msat(msat_ * percent), per).ok();
        let bytes = self.setting.bytes_msat;
        Tariff {
            time: rate(TICK, self.setting.tick_ms * 100),
            bytes: rate(bytes, 10_000_000).filter(|_| bytes > 0),
        }
    }

    pub(super) fn terms(&self, percent: u64) -> Terms {
        Terms {
            title: "simulated".into(),
            tariff: self.tariff(percent),
            tick: msat(TICK),
            preview: msat(self.setting.preview),
            window: msat(self.setting.window),
            join_fee: Msat::ZERO,
            tolerance_permille: 20,
            tolerance_ms: 200,
            live_ms: 2_000,
            methods: Method::ALL
                .map(|method| Listed {
                    name: method.name().into(),
                    params: Vec::new(),
                })
                .into(),
            resumable_s: 600,
            expires: Unix(u64::MAX),
            payee: self.streamer.public(),
        }
    }

    /// A node of this role, with a store of its own.
    pub(super) fn add_node(&mut self, role: usize) {
        let mut node = Node {
            role,
            up: true,
            life: 0,
            store: super::store::SimStore::new(self.setting.redb),
            machines: Vec::new(),
            crash: None,
            again: false,
            mono: self.below(1_000_000_000),
            skew: 0,
            torn: false,
        };
        node.machines = self.machines();
        self.nodes.push(node);
    }

    pub(super) fn machines(&mut self) -> Vec<Machine> {
        let life_s = self.setting.life_s;
        let machine = |method| Machine::new(method, life_s, self.rng.next());
        Method::ALL.map(machine).into()
    }

    /// A slot between the streamer and this viewer's node; its first session begins.
    pub(super) fn add_slot(&mut self, viewer: usize) {
        let end = |node| End {
            session: None,
            node,
            timer: None,
            grant: Grant::Closed,
            reading: Reading::default(),
            methods: BTreeMap::new(),
            dropped: false,
            restarted: false,
            reload: false,
            failed: false,
        };
        let identity = self.fresh_key();
        let policy = Policy::nothing();
        let payee = self.streamer.public();
        let slot = Slot {
            ends: [end(viewer), end(STREAMER)],
            id: SessionId([0; 32]),
            generation: 0,
            over: true,
            leaving: false,
            payer: PayerConfig {
                identity,
                payee,
                policy,
            },
            payee: PayeeConfig {
                identity: self.streamer.clone(),
                terms: self.terms(100).into(),
                preview_left: Msat::MAX,
                unpaid_ms: 300_000,
            },
            link: Link::default(),
            media: Media::default(),
            account: Account::default(),
            faults: MintFaults::default(),
            truth: Truth::default(),
            ticks: 0,
            struck: 0,
            healed: 0,
            agrees: true,
            sends_on: false,
        };
        self.slots.push(slot);
        let slot = self.slots.len() - 1;
        self.after(0, Ev::Begin { slot });
    }

    fn fresh_key(&mut self) -> SecretKey {
        loop {
            let entropy = Entropy(self.rng.bytes());
            if let Ok(key) = SecretKey::derive(&entropy, "identity") {
                return key;
            }
        }
    }

    /// Another session in this slot.
    pub(super) fn begin(&mut self, slot: usize) {
        let nodes = [PAYER, PAYEE].map(|side| self.slots[slot].ends[side].node);
        if !self.goes_on {
            return;
        }
        if !nodes.iter().all(|node| self.nodes[*node].up) {
            return self.after(1_000, Ev::Begin { slot });
        }
        let ticks = match self.below(4) {
            0 => self.between(5, 40),
            _ => 5_000,
        };
        let budget = ticks * largest_step();
        let mut methods = Method::ALL.map(|method| method.name().into());
        methods.rotate_left(usize::try_from(self.below(3)).unwrap_or_default());
        let policy = Policy {
            budget: msat(budget),
            max_purse: msat(self.setting.purse_ticks * largest_step()),
            max_tariff: self.tariff(PERCENT_MAX),
            max_tick: msat(largest_step()),
            methods: methods.into(),
            stall_close_ms: 600_000,
        };
        let wallet = 20_000 * TICK;
        let mut truth = Truth {
            budget,
            total: wallet,
            tariff: self.tariff(100),
            ..Truth::default()
        };
        truth.preview_window = self.setting.preview + self.setting.window;
        let (agrees, sends_on) = (!self.one_in(5), self.one_in(6));
        let place = &mut self.slots[slot];
        place.sends_on = sends_on;
        place.payer.policy = policy;
        place.generation += 1;
        (place.over, place.agrees, place.leaving) = (false, agrees, false);
        (place.account, place.truth) = (Account::new(wallet), truth);
        (place.faults, place.link.trying) = (MintFaults::default(), false);
        self.fresh(slot, PAYER);
        self.fresh(slot, PAYEE);
        self.count(slot, Kind::Begun);
        let generation = self.slots[slot].generation;
        let ms = self.between(200_000, 1_200_000);
        let command = Box::new(Command::Close(CloseCode::Done));
        let side = PAYER;
        let close = Ev::User {
            slot,
            generation,
            side,
            command,
        };
        self.after(ms, close);
        self.reconnect(slot, 10);
    }

    /// A machine that knows nothing.
    pub(super) fn fresh(&mut self, slot: usize, side: usize) {
        let entropy = Entropy(self.rng.bytes());
        let place = &mut self.slots[slot];
        let session = if side == PAYER {
            let payer = PayerSession::new(place.payer.clone(), &entropy).ok();
            if let Some(payer) = &payer {
                place.id = payer.session();
            }
            payer.map(|payer| Session::Payer(Box::new(payer)))
        } else {
            // Who begins anew is told anew that its payer is gone. It forgot a session in which
            // nothing was paid: what that one gave for nothing is over with it.
            place.leaving = false;
            if place.truth.credited == 0 {
                place.truth.forget_delivered();
            }
            let payee = PayeeSession::new(place.payee.clone(), &entropy).ok();
            payee.map(|payee| Session::Payee(Box::new(payee)))
        };
        let end = &mut place.ends[side];
        (end.session, end.timer, end.dropped) = (session, None, false);
        (end.reading, end.restarted, end.reload) = (Reading::default(), false, false);
        (end.grant, end.methods, end.failed) = (Grant::Closed, BTreeMap::new(), false);
    }

    pub(super) fn prefix(&self, slot: usize) -> Key {
        session_prefix(self.slots[slot].id)
    }

    /// What an application does after anything happened: drops a connection that a side gave up,
    /// takes up again what ended with money on its way, lets another session follow.
    pub(super) fn look_after(&mut self, slot: usize) {
        if self.slots[slot].over {
            return;
        }
        let ended = [PAYER, PAYEE].map(|side| self.is_ended(slot, side));
        let dropped = self.slots[slot].ends.iter().any(|end| end.dropped);
        if self.slots[slot].link.up && (dropped || ended[PAYEE]) {
            let conn = self.slots[slot].link.conn;
            self.after(400, Ev::HangUp { slot, conn });
            self.slots[slot].ends[PAYER].dropped = false;
            self.slots[slot].ends[PAYEE].dropped = false;
        }
        for side in [PAYER, PAYEE] {
            let end = &self.slots[slot].ends[side];
            let settled = end.session.as_ref().is_some_and(Session::is_settled);
            if ended[side] && !settled && !end.reload && self.nodes[end.node].up {
                let generation = self.slots[slot].generation;
                self.slots[slot].ends[side].reload = true;
                let event = Ev::Reload {
                    slot,
                    side,
                    generation,
                };
                self.after(2_000, event);
            }
        }
        if ended[PAYER] && !ended[PAYEE] && !self.slots[slot].leaving {
            self.slots[slot].leaving = true;
            let generation = self.slots[slot].generation;
            let command = Box::new(Command::Close(CloseCode::Done));
            let close = Ev::User {
                slot,
                generation,
                side: PAYEE,
                command,
            };
            self.after(30_000, close);
        }
        // What a store did not take may never be true: the process is about to die.
        let settled =
            |end: &End| !end.failed && end.session.as_ref().is_some_and(Session::is_settled);
        let settled = self.slots[slot].ends.iter().all(settled);
        if ended == [true, true] && settled {
            self.finish(slot);
        }
    }

    /// Both sides are settled: the last judgement; another session follows.
    fn finish(&mut self, slot: usize) {
        self.judge_end(slot);
        self.count(slot, Kind::Settled);
        self.cut_media(slot);
        let prefix = self.prefix(slot);
        let session = self.slots[slot].id;
        for side in [PAYER, PAYEE] {
            let end = &mut self.slots[slot].ends[side];
            let node = end.node;
            let purses: Vec<PurseId> = end.methods.keys().copied().collect();
            (end.session, end.grant) = (None, Grant::Closed);
            for machine in &mut self.nodes[node].machines {
                for purse in &purses {
                    machine.forget(PurseKey {
                        session,
                        purse: *purse,
                    });
                }
            }
            self.nodes[node].store.forget(&prefix);
        }
        let place = &mut self.slots[slot];
        (place.over, place.link.up) = (true, false);
        let ms = self.between(500, 3_000);
        self.after(ms, Ev::Begin { slot });
    }
}
