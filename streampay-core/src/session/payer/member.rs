//! The payer in the payee's room: joins on each connection as long as the user wants to be in,
//! pays the fee by consent, says and hears. Only while bound, and nothing of it can end the
//! session: what comes too often, unasked or twice is dropped. Spec: rooms.

use alloc::string::String;

use super::PayerSession;
use crate::session::Event;
use crate::session::member::{Invitation, Line, Name, RoomNews};
use crate::session::pace::{Backoff, Pace};
use crate::units::{Mono, Msat};
use crate::wire::{Chat, Join, Message, Presence, RoomCode, Tip};

/// Lines that the payer takes: one in so many milliseconds on average. More would crowd out what
/// the user must know. Chosen arbitrarily: nobody reads 20 a second.
const HEAR_EVERY_MS: u64 = 50;
/// So many at once: all that was said lately, when it joins.
const HEAR_BURST: u64 = 128;

/// That the user wants to be in the room, and how.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    name: Name,
    invitation: Option<Invitation>,
    /// The most that the fee may be: the user's consent.
    max_fee: Msat,
}

/// What became of that on this connection.
#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    Outside,
    /// Asked, no answer yet.
    Asking(Backoff),
    /// The fee is being paid.
    Paying,
    Inside,
}

/// What was said on this connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    stage: Stage,
    said: u64,
    heard: u64,
    epoch: Option<u64>,
    pace: Pace,
    /// The same for how many watch, apart: lines crowd that out as little.
    counts: Pace,
}

impl Talk {
    pub(super) const fn timeout(&self) -> Option<Mono> {
        match &self.stage {
            Stage::Asking(retry) => Some(retry.at()),
            Stage::Outside | Stage::Paying | Stage::Inside => None,
        }
    }

    const fn is_inside(&self) -> bool {
        matches!(self.stage, Stage::Inside)
    }

    /// True for what is new and does not come too often.
    fn hears(&mut self, now: Mono, id: u64) -> bool {
        if !self.is_inside() || id <= self.heard {
            return false;
        }
        self.heard = id;
        self.pace.take(now, HEAR_EVERY_MS, HEAR_BURST)
    }
}

impl PayerSession {
    pub(super) fn join(&mut self, name: Name, invitation: Option<Invitation>, max_fee: Msat) {
        self.wanted = Some(Wanted {
            name,
            invitation,
            max_fee,
        });
        if let Some(live) = self.live_mut() {
            live.talk.stage = Stage::Outside;
        }
    }

    pub(super) fn leave(&mut self) {
        self.wanted = None;
        let Some(live) = self.live_mut() else { return };
        if !matches!(live.talk.stage, Stage::Outside) {
            live.talk.stage = Stage::Outside;
            self.send(&Message::Leave);
        }
    }

    /// Says something to all; nothing while it is not in.
    pub(super) fn chat(&mut self, text: Line) {
        let Some(live) = self.live_mut().filter(|live| live.talk.is_inside()) else {
            return;
        };
        live.talk.said = live.talk.said.saturating_add(1);
        let id = live.talk.said;
        self.send(&Message::Chat(Chat {
            id,
            sender: None,
            text: text.into(),
        }));
    }

    pub(super) fn advance_member(&mut self) {
        let (now, wanted) = (self.now.mono, self.wanted.is_some());
        let Some(live) = self.live_mut().filter(|_| wanted) else {
            return;
        };
        match &mut live.talk.stage {
            Stage::Inside => {}
            Stage::Outside => self.ask_to_join(),
            Stage::Asking(retry) => {
                if retry.due(now) {
                    self.say_join();
                }
            }
            Stage::Paying => self.advance_fee(),
        }
    }

    fn ask_to_join(&mut self) {
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.talk.stage = Stage::Asking(Backoff::start(now));
            self.say_join();
        }
    }

    fn say_join(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let join = Join {
            name: wanted.name.as_str().into(),
            invitation: wanted.invitation.as_ref().map(Invitation::bytes),
        };
        self.send(&Message::Join(join));
    }

    fn is_asking(&self) -> bool {
        let stage = self.live().map(|live| &live.talk.stage);
        matches!(stage, Some(Stage::Asking(_)))
    }

    pub(super) fn on_joined(&mut self, name: String) {
        if !self.is_asking() {
            return;
        }
        if let Some(live) = self.live_mut() {
            live.talk.stage = Stage::Inside;
        }
        self.event(Event::News(RoomNews::Joined { name }));
    }

    pub(super) fn on_room_refused(&mut self, code: RoomCode) {
        if !self.is_asking() {
            return;
        }
        match code {
            RoomCode::Unpaid => self.pay_fee(),
            _ => self.stay_outside(code),
        }
    }

    fn stay_outside(&mut self, code: RoomCode) {
        self.wanted = None;
        if let Some(live) = self.live_mut() {
            live.talk.stage = Stage::Outside;
        }
        self.event(Event::News(RoomNews::Refused { code }));
    }

    /// The fee of the signed terms, as far as the user consented to it, in whole ticks. A payee
    /// that has it and wants it again gets nothing more.
    fn pay_fee(&mut self) {
        let fee = self.join_fee();
        let paid = self.acknowledged_tips() >= fee;
        let most = self.wanted.as_ref().map(|wanted| wanted.max_fee);
        let target = self.fee_in_ticks();
        let missing = target.saturating_minus(self.tips_wanted());
        let allowed = target <= most.unwrap_or_default() && missing <= self.affordable();
        if paid || !allowed {
            return self.stay_outside(RoomCode::Unpaid);
        }
        if let Some(live) = self.live_mut() {
            live.talk.stage = Stage::Paying;
        }
        self.want_tips(target);
    }

    fn join_fee(&self) -> Msat {
        self.terms().map(|terms| terms.join_fee).unwrap_or_default()
    }

    /// The tips at which the fee is paid: what is given already, and whole ticks on top. What was lost on the way
    /// is given, and is no part of the fee.
    fn fee_in_ticks(&self) -> Msat {
        let given = self.tips();
        let counts = given.saturating_minus(self.lost_tips());
        let missing = self.join_fee().saturating_minus(counts);
        let ticks = missing.round_up_to(self.tip_step()).unwrap_or(Msat::MAX);
        given.saturating_plus(ticks)
    }

    /// Joins once the fee is acknowledged. Where ticks have become coarser since, what is missing
    /// may be more than the user consented to.
    fn advance_fee(&mut self) {
        let next = self.tips().saturating_plus(self.tip_step());
        let quiet = self.tip_under_way().is_zero();
        if self.acknowledged_tips() >= self.join_fee() {
            self.ask_to_join();
        } else if quiet && next > self.tips_wanted() {
            self.pay_fee();
        }
    }

    pub(super) fn on_presence(&mut self, presence: Presence) {
        let (now, Presence { epoch, viewers }) = (self.now.mono, presence);
        let Some(live) = self.live_mut() else { return };
        let newer = live.talk.epoch.is_none_or(|last| epoch > last);
        if live.talk.is_inside() && newer && live.talk.counts.take(now, HEAR_EVERY_MS, HEAR_BURST) {
            live.talk.epoch = Some(epoch);
            self.event(Event::News(RoomNews::Presence { epoch, viewers }));
        }
    }

    pub(super) fn on_chat(&mut self, chat: Chat) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if let (true, Ok(text)) = (live.talk.hears(now, chat.id), Line::new(chat.text)) {
            let sender = chat.sender;
            self.event(Event::News(RoomNews::Chat { sender, text }));
        }
    }

    pub(super) fn on_tip(&mut self, tip: Tip) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if live.talk.hears(now, tip.id) {
            let Tip { sender, amount, .. } = tip;
            self.event(Event::News(RoomNews::Tip { sender, amount }));
        }
    }
}
