//! Faults, one after another for each slot, until all is healed.

use streampay_core::session::{CloseCode, Command};

use super::kinds::Kind;
use super::life::{largest_step, msat};
use super::messages::{AGREE, AGREED, Aimed, MESSAGES, Mishap, OFFER_TERMS};
use super::world::{Crash, Ev, PAYEE, PAYER, World};

/// The time between two faults of a slot, on average, in milliseconds.
const EVERY_MS: u64 = 24_000;

const PAYER_CRASHES: [Kind; 7] = [
    Kind::PayerPersistLost,
    Kind::PayerPersistTorn,
    Kind::PayerPersistDone,
    Kind::PayerSend,
    Kind::PayerBackend,
    Kind::PayerEffect,
    Kind::PayerEvent,
];
const PAYEE_CRASHES: [Kind; 8] = [
    Kind::PayeePersistLost,
    Kind::PayeePersistTorn,
    Kind::PayeePersistDone,
    Kind::PayeeSend,
    Kind::PayeeBackend,
    Kind::PayeeEffect,
    Kind::PayeeGate,
    Kind::PayeeEvent,
];

impl World {
    /// One fault, and when the next comes.
    pub(super) fn strike(&mut self, slot: usize) {
        if !self.rough {
            return;
        }
        let next = self.between(EVERY_MS / 10, EVERY_MS * 19 / 10);
        self.after(next, Ev::Strike { slot });
        match self.below(24) {
            0..=5 => self.strike_messages(slot),
            6 | 7 => self.strike_link(slot),
            8..=12 => self.strike_mint(slot),
            13..=16 => self.strike_process(slot),
            17 => self.strike_clock(slot),
            18..=22 => self.strike_user(slot),
            _ => self.meet_stranger(slot),
        }
    }

    /// Something befalls the next messages of one kind, however seldom they are.
    fn aim_at_messages(&mut self, slot: usize) {
        let at = usize::try_from(self.rng.next()).unwrap_or_default() % MESSAGES.len();
        let mishap = match self.below(3) {
            0 if self.switches.repeats => Mishap::Repeated,
            1 if self.switches.repeats => Mishap::Late,
            _ => Mishap::Lost,
        };
        let count = self.between(1, 2);
        let aimed = &mut self.slots[slot].link.aimed;
        aimed.aim(MESSAGES[at].0, mishap, count);
    }

    fn strike_messages(&mut self, slot: usize) {
        if self.one_in(2) {
            return self.aim_at_messages(slot);
        }
        let (many, few) = (self.between(1, 4), self.between(1, 2));
        let repeats = self.switches.repeats;
        let kind = self.below(8);
        let link = &mut self.slots[slot].link;
        match kind {
            0 | 1 => link.lose = many,
            2 | 3 if repeats => link.repeat = many,
            4 | 5 if repeats => link.overtake = many,
            6 if repeats => link.delay = few,
            7 if repeats => (link.repeat, link.overtake) = (many, few),
            _ => link.lose = few,
        }
    }

    fn strike_link(&mut self, slot: usize) {
        let ms = match self.below(4) {
            0 => self.between(2_000, 60_000),
            _ => self.between(100, 9_000),
        };
        if self.slots[slot].over {
            return;
        }
        if self.one_in(2) {
            self.count(slot, Kind::Broken);
            self.disconnect(slot, ms);
        } else {
            self.count(slot, Kind::Partition);
            self.slots[slot].link.dark_until = self.now + ms;
        }
    }

    fn strike_mint(&mut self, slot: usize) {
        if self.one_in(3) {
            self.slots[slot].faults.refuse_opening = true;
        }
        let (kind, count) = match self.below(11) {
            0 => {
                let ms = self.between(500, 25_000);
                self.slots[slot].faults.away_until = self.now + ms;
                return;
            }
            1 => (Kind::AnswerLost, self.between(1, 3)),
            2 => (Kind::CallLost, self.between(1, 3)),
            3 | 4 => (Kind::MintRefused, 1),
            5 => (Kind::AnswerLate, 1),
            6 | 7 if self.switches.repeats => (Kind::AnswerTwice, self.between(1, 6)),
            8 => (Kind::AnswerWrong, self.between(1, 2)),
            9 if self.one_in(2) => (Kind::AnswerNever, 1),
            10 => return self.steal(slot),
            _ => (Kind::AnswerLost, 1),
        };
        self.slots[slot].faults.next = Some((kind, count));
    }

    fn steal(&mut self, slot: usize) {
        if self.slots[slot].account.steal() {
            self.count(slot, Kind::Stolen);
        }
    }

    fn strike_process(&mut self, slot: usize) {
        if !self.switches.crashes {
            return self.strike_link(slot);
        }
        let side = if self.one_in(2) { PAYER } else { PAYEE };
        let node = self.slots[slot].ends[side].node;
        let (short, long) = (self.between(100, 3_000), self.between(3_000, 20_000));
        let away_ms = if self.one_in(4) { long } else { short };
        if self.one_in(12) {
            let writes = u32::try_from(self.below(12)).unwrap_or_default();
            return self.nodes[node].store.fail_in(writes);
        }
        let kinds: &[Kind] = if side == PAYER {
            &PAYER_CRASHES
        } else {
            &PAYEE_CRASHES
        };
        let kind = usize::try_from(self.rng.next()).unwrap_or_default() % kinds.len();
        let kind = kinds[kind];
        self.nodes[node].crash = Some(Crash { kind, away_ms });
    }

    fn strike_clock(&mut self, slot: usize) {
        let side = if self.one_in(2) { PAYER } else { PAYEE };
        let node = self.slots[slot].ends[side].node;
        let most = i64::from(86_400_i32);
        let by = i64::try_from(self.below(172_801)).unwrap_or_default() - most;
        self.nodes[node].skew = by;
        self.count(slot, Kind::Skew);
    }

    fn strike_user(&mut self, slot: usize) {
        let generation = self.slots[slot].generation;
        match self.below(9) {
            0..=2 => {
                self.count(slot, Kind::UserPause);
                let side = if self.one_in(3) { PAYEE } else { PAYER };
                self.command(slot, side, Command::Pause);
                let ms = match self.below(3) {
                    0 => self.between(100, 15_000),
                    _ => self.between(60_000, 240_000),
                };
                let command = Box::new(Command::Resume);
                self.after(
                    ms,
                    Ev::User {
                        slot,
                        generation,
                        side,
                        command,
                    },
                );
            }
            // What comes for nothing may begin a new price here before it does there: one or the other.
            3 | 4 if !self.slots[slot].sends_on => self.strike_offers(slot),
            5 if self.one_in(4) => {
                self.count(slot, Kind::UserReceipt);
                self.command(slot, PAYER, Command::RequestReceipt);
            }
            6 if self.one_in(2) => {
                self.count(slot, Kind::UserClose);
                let side = if self.one_in(2) { PAYER } else { PAYEE };
                self.command(slot, side, Command::Close(CloseCode::Done));
            }
            7 => {
                let tip = self.between(1, 4 * largest_step());
                if self.has_user(slot, PAYER) {
                    self.count(slot, Kind::UserTip);
                    self.slots[slot].truth.tips += tip;
                    self.command(slot, PAYER, Command::Tip(msat(tip)));
                }
            }
            _ => {
                let most = self.between(1, 50) * 2_000;
                if self.has_user(slot, PAYER) {
                    self.slots[slot].truth.budget += most;
                    self.command(slot, PAYER, Command::TopUp(msat(most)));
                }
            }
        }
    }

    /// Other terms, and others within seconds; their answers are lost, and processes die between.
    fn strike_offers(&mut self, slot: usize) {
        self.count(slot, Kind::Offer);
        // The offer is heard late, while the tick that it comes too late for is checked.
        let late = self.one_in(2);
        let lost = if late {
            self.between(2, 5)
        } else {
            self.below(5)
        };
        let aimed = &mut self.slots[slot].link.aimed;
        aimed.aim(OFFER_TERMS, Mishap::Lost, lost);
        // One offer by itself, or several in a row.
        let alone = self.one_in(2);
        if !alone {
            let (agree, agreed) = (self.below(3), self.below(6));
            let aimed = &mut self.slots[slot].link.aimed;
            aimed.aim(AGREE, Mishap::Lost, agree);
            aimed.aim(AGREED, Mishap::Lost, agreed);
        }
        if late {
            self.slots[slot].faults.next = Some((Kind::AnswerLate, 4));
        }
        let offer = self.offer();
        self.command(slot, PAYEE, offer);
        let mut ms = 0;
        let more = if alone { 0 } else { self.between(1, 3) };
        for _ in 0..more {
            ms += self.between(100, 8_000);
            self.count(slot, Kind::OfferAgain);
            let (generation, command) = (self.slots[slot].generation, Box::new(self.offer()));
            let again = Ev::User {
                slot,
                generation,
                side: PAYEE,
                command,
            };
            self.after(ms, again);
        }
        if !alone && self.one_in(4) {
            self.strike_process(slot);
        }
    }

    fn offer(&mut self) -> Command {
        let percent = self.between(50, 200);
        let terms = Box::new(self.terms(percent));
        let in_ticks = u32::try_from(self.between(2, 4)).unwrap_or(2);
        Command::OfferTerms { terms, in_ticks }
    }

    /// True where there is a session that its user can tell something.
    fn has_user(&self, slot: usize, side: usize) -> bool {
        self.slots[slot].ends[side].session.is_some() && !self.is_ended(slot, side)
    }

    /// No more faults; what is broken is whole again.
    pub(super) fn heal(&mut self) {
        self.rough = false;
        for node in &mut self.nodes {
            node.crash = None;
            node.store.heal();
        }
        for slot in &mut self.slots {
            let link = &mut slot.link;
            (link.lose, link.repeat, link.overtake, link.delay) = (0, 0, 0, 0);
            (link.dark_until, link.aimed) = (0, Aimed::default());
            slot.faults = super::mint_faults::MintFaults::default();
            slot.healed = 0;
        }
    }
}
