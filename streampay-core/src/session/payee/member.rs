//! What the payer says to the room, and the room to the payer. Nothing of it touches money: what
//! comes too often, too early or twice is dropped. Spec: rooms.

use super::PayeeSession;
use crate::session::Event;
use crate::session::member::{Invitation, Line, Name, RoomAsk, RoomNews};
use crate::units::{Msat, XOnlyKey};
use crate::wire::{Chat, Join, Joined, Message, Presence, RoomCode, RoomRefused, Tip};

/// What was said on this connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Talk {
    heard: u64,
    said: u64,
}

impl PayeeSession {
    /// The same session with a room: what the payer wants of it comes out as
    /// [`Event::Room`], and [`Command::Room`](crate::session::Command::Room) answers. Without
    /// one, every payer that wants to join hears that there is none. Spec: rooms 1.
    #[must_use]
    pub fn with_room(mut self) -> Self {
        self.has_room = true;
        self
    }

    /// The payer's identity while it watches: bound, connected and not closing. Spec: rooms 2.
    #[must_use]
    pub fn viewer(&self) -> Option<XOnlyKey> {
        let record = self.record.as_ref().filter(|_| self.live().is_some())?;
        Some(record.common.fixed.peer)
    }

    /// What is still to be paid before the payer may join.
    fn unpaid_fee(&self) -> Msat {
        (self.config.terms.join_fee).saturating_minus(self.tips())
    }

    pub(super) fn on_join(&mut self, join: Join) {
        if self.live().is_none() {
            return;
        }
        if !self.has_room {
            let code = RoomCode::NoRoom;
            return self.send(&Message::RoomRefused(RoomRefused { code }));
        }
        let Ok(name) = Name::new(join.name) else {
            return;
        };
        let invitation = join
            .invitation
            .and_then(|bytes| Invitation::new(bytes).ok());
        let ask = RoomAsk::Join {
            name,
            invitation: invitation.map(|invitation| invitation.hash()),
            unpaid: self.unpaid_fee(),
        };
        self.event(Event::Room(ask));
    }

    pub(super) fn on_leave(&mut self) {
        if self.live().is_none() {
            return;
        }
        self.ask_room(RoomAsk::Leave);
    }

    pub(super) fn on_chat(&mut self, chat: Chat) {
        let Some(live) = self.live_mut() else { return };
        if chat.sender.is_some() || chat.id <= live.talk.heard {
            return;
        }
        live.talk.heard = chat.id;
        if let Ok(text) = Line::new(chat.text) {
            self.ask_room(RoomAsk::Chat(text));
        }
    }

    /// Tells the room what was given beyond the fee for joining.
    pub(super) fn tell_room_of_tip(&mut self, amount: Msat) {
        let beyond = self.tips().saturating_minus(self.config.terms.join_fee);
        let given = amount.min(beyond);
        if !given.is_zero() {
            self.ask_room(RoomAsk::Tip(given));
        }
    }

    fn ask_room(&mut self, ask: RoomAsk) {
        if self.has_room {
            self.event(Event::Room(ask));
        }
    }

    /// Passes on what the room tells this payer.
    pub(super) fn tell(&mut self, news: RoomNews) {
        let Some(live) = self.live_mut() else { return };
        let counted = matches!(news, RoomNews::Chat { .. } | RoomNews::Tip { .. });
        live.talk.said = live.talk.said.saturating_add(u64::from(counted));
        let id = live.talk.said;
        let message = match news {
            RoomNews::Joined { name } => Message::Joined(Joined { name }),
            RoomNews::Refused { code } => Message::RoomRefused(RoomRefused { code }),
            RoomNews::Presence { epoch, viewers } => Message::Presence(Presence { epoch, viewers }),
            RoomNews::Chat { sender, text } => Message::Chat(Chat {
                id,
                sender,
                text: text.into(),
            }),
            RoomNews::Tip { sender, amount } => Message::Tip(Tip { id, sender, amount }),
        };
        self.send(&message);
    }
}
