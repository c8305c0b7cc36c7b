//! Who is there, and how many.

use super::{Room, RoomEvent, RoomOutput, Viewer};
use crate::session::{CloseCode, RoomNews};
use crate::units::{SessionId, XOnlyKey};

/// How often the number of viewers is told at most, in milliseconds. Spec: rooms 2.
const COUNT_EVERY_MS: u64 = 1_000;

impl Room {
    pub(super) fn on_bound(&mut self, session: SessionId, identity: XOnlyKey) {
        // On a new connection it has to join again.
        let back = self.part(session);
        if self.standing(identity).banned && !self.failed {
            // Closing from here on, so it is not there: it neither counts nor joins.
            let code = CloseCode::Banned;
            self.out.push_back(RoomOutput::Close { session, code });
            if back {
                self.count();
            }
            return;
        }
        let told = self.told.remove(&session).unwrap_or_default();
        let viewer = Viewer {
            identity,
            name: None,
            told,
        };
        self.viewers.insert(session, viewer);
        if !back {
            self.count();
        }
    }

    pub(super) fn on_gone(&mut self, session: SessionId) {
        if self.part(session) {
            self.count();
        }
    }

    pub(super) fn on_leave(&mut self, session: SessionId) {
        self.tell_tips(Some(session));
        let Some(viewer) = self.viewers.get_mut(&session) else {
            return;
        };
        let identity = viewer.identity;
        if let Some(name) = viewer.name.take() {
            self.event(RoomEvent::Left { identity, name });
        }
    }

    /// Takes a session out. True where it was there.
    fn part(&mut self, session: SessionId) -> bool {
        self.on_leave(session);
        let Some(viewer) = self.viewers.remove(&session) else {
            return false;
        };
        self.remember(session, viewer.told);
        true
    }

    /// Keeps what a session was told, so that it is not told again when it comes back.
    fn remember(&mut self, session: SessionId, told: u64) {
        if self.told.len() >= self.config.lists_max() {
            // Who heard least would only hear again what nobody remembers.
            let first = self.told.iter().min_by_key(|(_, told)| **told);
            let first = first.map(|(session, _)| *session);
            first.map(|session| self.told.remove(&session));
        }
        self.told.insert(session, told);
    }

    fn count(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.count_changed = true;
        let viewers = self.viewers();
        self.event(RoomEvent::Viewers { viewers });
    }

    pub(super) fn presence(&self) -> RoomNews {
        RoomNews::Presence {
            epoch: self.epoch,
            viewers: self.viewers(),
        }
    }

    /// Tells all how many there are, where that changed and was not just told.
    pub(super) fn tell_count(&mut self) {
        let now = self.now.mono;
        if !self.count_changed || now < self.quiet_until {
            return;
        }
        self.count_changed = false;
        self.quiet_until = now.after_ms(COUNT_EVERY_MS);
        self.tell_all(&self.presence());
    }
}
