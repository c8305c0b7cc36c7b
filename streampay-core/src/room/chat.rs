//! What they say, and what they give. Spec: rooms 3, 4.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Room, RoomEvent};
use crate::session::{Line, RoomNews};
use crate::units::{Mono, Msat, SessionId};

/// A tip comes in ticks: it is told as one when none came for so long, in milliseconds.
const GIVEN_MS: u64 = 1_000;

/// A line that was said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    number: u64,
    sender: Option<String>,
    text: Line,
}

impl Said {
    fn news(&self) -> RoomNews {
        RoomNews::Chat {
            sender: self.sender.clone(),
            text: self.text.clone(),
        }
    }
}

/// A tip that may not be all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giving {
    amount: Msat,
    at: Mono,
}

impl Giving {
    pub(super) const fn at(&self) -> Mono {
        self.at
    }
}

impl Room {
    pub(super) fn on_chat(&mut self, session: SessionId, text: Line) {
        let Some(viewer) = self.viewers.get(&session) else {
            return;
        };
        let (identity, Some(name)) = (viewer.identity, viewer.name.clone()) else {
            return;
        };
        if self.standing(identity).muted || !self.may_speak(identity) {
            return;
        }
        let event = RoomEvent::Said {
            identity,
            name: name.clone(),
            text: text.clone(),
        };
        self.say(Some(session), Some(name), text);
        self.event(event);
    }

    /// Says a line to all but who said it.
    pub(super) fn say(&mut self, from: Option<SessionId>, sender: Option<String>, text: Line) {
        self.lines = self.lines.saturating_add(1);
        let said = Said {
            number: self.lines,
            sender,
            text,
        };
        for session in self.joined() {
            self.hear(session, said.number);
            if Some(session) != from {
                self.tell(session, said.news());
            }
        }
        self.history.push_back(said);
        while self.history.len() > self.config.history_max() {
            self.history.pop_front();
        }
    }

    fn hear(&mut self, session: SessionId, number: u64) {
        if let Some(viewer) = self.viewers.get_mut(&session) {
            viewer.told = viewer.told.max(number);
        }
    }

    /// What was said lately, as far as this session was not told.
    pub(super) fn tell_history(&mut self, session: SessionId) {
        let told = self.viewers.get(&session).map(|viewer| viewer.told);
        let told = told.unwrap_or_default();
        for at in 0..self.history.len() {
            let said = self.history.get(at).filter(|said| said.number > told);
            let Some(news) = said.map(Said::news) else {
                continue;
            };
            self.tell(session, news);
        }
        self.hear(session, self.lines);
    }

    pub(super) fn on_tip(&mut self, session: SessionId, amount: Msat) {
        if !self.viewers.contains_key(&session) {
            return;
        }
        let at = self.now.mono.after_ms(GIVEN_MS);
        let giving = self.giving.entry(session).or_insert(Giving {
            amount: Msat::ZERO,
            at,
        });
        giving.amount = giving.amount.saturating_plus(amount);
        giving.at = at;
    }

    /// Tells tips that are all: those of `leaving`, and those to which nothing was added lately.
    pub(super) fn tell_tips(&mut self, leaving: Option<SessionId>) {
        let now = self.now.mono;
        let is_all = |session: SessionId, giving: &Giving| match leaving {
            Some(leaving) => session == leaving,
            None => now >= giving.at,
        };
        let giving = self.giving.iter();
        let over = giving.filter(|(session, giving)| is_all(**session, giving));
        let over: Vec<_> = over.map(|(session, giving)| (*session, *giving)).collect();
        for (session, giving) in over {
            self.giving.remove(&session);
            self.tell_tip(session, giving.amount);
        }
    }

    fn tell_tip(&mut self, session: SessionId, amount: Msat) {
        let Some(viewer) = self.viewers.get(&session) else {
            return;
        };
        let (identity, name) = (viewer.identity, viewer.name.clone());
        if let Some(sender) = name.clone() {
            self.tell_all(&RoomNews::Tip { sender, amount });
        }
        self.event(RoomEvent::Tip {
            identity,
            name,
            amount,
        });
    }
}
