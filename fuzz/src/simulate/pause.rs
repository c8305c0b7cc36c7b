//! What comes while nothing was asked for: how much of it a payer counts, from one of its pauses to the
//! end of it, over however many connections. By what it says and tells its user, the money that is out
//! of its hands, and the prices that were signed; by none of its own rules for a pause.

use streampay_core::meter::{NextTariff, Reading, Schedule};
use streampay_core::session::PayerSession;

use super::kinds::Kind;
use super::life::largest_step;
use super::media::plus;
use super::truth::DIFFER;
use super::world::World;

const NOTHING: Reading = Reading {
    media_ms: 0,
    bytes: 0,
};

/// What a payer asks for, by its own word.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pause: Option<Pause>,
    /// It is bound on a new connection, and has not said there that it stays paused.
    silent: bool,
    /// What came before that on a connection that was not bound: asked for where it does not say so.
    held: Reading,
    /// Its user went on while no connection was bound, of which nobody was told.
    user_went_on: bool,
}

/// A pause, since it began.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// What had been counted then was worth so much, by what the payer had agreed to.
    worth: u64,
    /// The same by the tariff that held, which may stay: and what was agreed to.
    alone: u64,
    agreed: Option<NextTariff>,
    /// What its user consented to, by then.
    booked: Reading,
    /// It was told of no other reason than that its user wants it.
    by_user_alone: bool,
    /// The most that was out of the payer's hands for media.
    out: u64,
    /// Connections on which something was sent on in it.
    sent_on: u32,
}

impl Asking {
    /// True while it asks for nothing.
    pub(super) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// It goes on, or is another process, which knows of no pause.
    pub(super) const fn goes_on(&mut self) {
        (self.pause, self.silent, self.held) = (None, false, NOTHING);
        self.user_went_on = false;
    }

    /// A connection is bound: a pause of the peer is over with the last one, and one of its own is said
    /// again at once.
    pub(super) const fn is_bound(&mut self) {
        self.silent = self.pause.is_some();
    }

    /// It says that it is paused.
    pub(super) const fn says_pause(&mut self) {
        (self.silent, self.user_went_on) = (false, false);
    }
}

impl Pause {
    /// By the prices of now: where what was agreed to was replaced, it never was a price. And consent has a
    /// price of its own.
    fn by_what_holds(self, counted: &Counted) -> Self {
        let by = &counted.schedule;
        let stays = |agreed| by.next == Some(agreed) || by.base_msat >= agreed.from;
        let pause = match self.agreed.is_none_or(stays) {
            true => self,
            false => Self {
                worth: self.alone,
                agreed: None,
                ..self
            },
        };
        if counted.booked == pause.booked {
            return pause;
        }
        Self {
            worth: counted.worth().max(pause.worth),
            alone: counted.alone().max(pause.alone),
            booked: counted.booked,
            ..pause
        }
    }
}

/// What the payer counts, what its user consented to included, and the prices that it signed. What it
/// agreed to is its price though the payee has not heard of it; with two meters each price begins on its
/// own way.
struct Counted {
    schedule: Schedule,
    own: Reading,
    booked: Reading,
}

impl Counted {
    fn worth(&self) -> u64 {
        self.schedule.used(self.own).msat()
    }

    fn alone(&self) -> u64 {
        self.schedule.alone().used(self.own).msat()
    }
}

impl World {
    /// The payer's user goes on: where no connection is bound no event tells. It ends no pause that has another reason.
    pub(super) fn user_goes_on(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        let bound = place.link.up && place.media.bound;
        let pause = place.truth.asking.pause.filter(|_| !bound);
        place.truth.asking.user_went_on = pause.is_some_and(|pause| pause.by_user_alone);
    }

    /// The payer asks for nothing from here on.
    pub(super) fn pause_began(&mut self, slot: usize, by_user: bool) {
        let truth = &mut self.slots[slot].truth;
        truth.asking.silent = false;
        if truth.asking.user_went_on {
            // The last pause was over: what has come since was asked for.
            truth.received = plus(truth.received, truth.asking.held);
            truth.asking.goes_on();
        }
        if let Some(pause) = &mut self.slots[slot].truth.asking.pause {
            pause.by_user_alone &= by_user;
            return;
        }
        let Some(counted) = self.counted(slot) else {
            return;
        };
        self.slots[slot].truth.asking.pause = Some(Pause {
            worth: counted.worth(),
            alone: counted.alone(),
            agreed: counted.schedule.next,
            booked: counted.booked,
            by_user_alone: by_user,
            out: 0,
            sent_on: 0,
        });
    }

    fn counted(&self, slot: usize) -> Option<Counted> {
        let payer = self.payer(slot)?;
        Some(Counted {
            schedule: payer.schedule(),
            own: plus(payer.reading(), payer.booked()),
            booked: payer.booked(),
        })
    }

    /// What is out of the payer's hands for media, by its own word or whatever it says, and what it has not
    /// written off: a lost payment bought nothing.
    fn out_for_media(&self, slot: usize) -> Option<u64> {
        let (payer, account) = (self.payer(slot)?, &self.slots[slot].account);
        let out = (account.payee + account.at_large + account.thief).max(payer.paid().msat());
        let bought_nothing = payer.tips().msat() + payer.written_off().msat();
        Some(out.saturating_sub(bought_nothing))
    }

    /// What is counted while nothing was asked for is what was paid for, and one step more: once a pause,
    /// however often its connection is lost.
    pub(super) fn judge_pause(&mut self, slot: usize) -> Option<(&'static str, String)> {
        self.take_its_word(slot);
        let pause = self.slots[slot].truth.asking.pause?;
        let counted = self.counted(slot)?;
        let pause = pause.by_what_holds(&counted);
        let out = self.out_for_media(slot)?.max(pause.out);
        let (worth, now) = (pause.worth, counted.worth());
        let most = worth.max(out) + largest_step();
        self.slots[slot].truth.asking.pause = Some(Pause { out, ..pause });
        (now > most).then(|| {
            let found = format!("{now} counted in a pause that began at {worth}, {out} out");
            ("Unasked", found)
        })
    }

    /// What came before a connection was bound, once it is known whether it was asked for.
    fn take_its_word(&mut self, slot: usize) {
        let reading = self.payer(slot).map(PayerSession::reading);
        let place = &mut self.slots[slot];
        let truth = &mut place.truth;
        if truth.asking.silent {
            truth.received = plus(truth.received, truth.asking.held);
            truth.asking.goes_on();
        } else if let Some(reading) = reading.filter(|_| place.media.bound) {
            let held = core::mem::replace(&mut truth.asking.held, NOTHING);
            // Of what was not it may keep what two meters may differ by.
            let kept = plus(reading, DIFFER).min(plus(truth.received, held));
            truth.received = truth.received.max(kept);
        }
    }

    /// Something comes that may not be asked for, on a connection that is not bound.
    pub(super) fn hold_unasked(&mut self, slot: usize, grown: Reading) {
        let asking = &mut self.slots[slot].truth.asking;
        asking.held = plus(asking.held, grown);
    }

    /// Something is sent on, on a connection that is one more of this pause.
    pub(super) fn count_sent_on(&mut self, slot: usize) {
        let Some(pause) = &mut self.slots[slot].truth.asking.pause else {
            return;
        };
        pause.sent_on += 1;
        let kind = match pause.sent_on {
            1 => Kind::SentOn,
            _ => Kind::SentOnAgain,
        };
        self.count(slot, kind);
    }
}
