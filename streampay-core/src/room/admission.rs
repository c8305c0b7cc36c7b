//! Who may join. Spec: rooms 1.

use alloc::string::String;

use super::record::Standing;
use super::{Admission, PAID, Room, RoomEvent, name};
use crate::session::{Hash, Name, RoomNews};
use crate::store::ChangeSet;
use crate::units::{Msat, SessionId, XOnlyKey};
use crate::wire::RoomCode;

impl Room {
    pub(super) fn on_join(
        &mut self,
        session: SessionId,
        asked: &Name,
        invitation: Option<Hash>,
        unpaid: Msat,
    ) {
        let Some(viewer) = self.viewers.get(&session) else {
            return;
        };
        let identity = viewer.identity;
        if let Some(name) = viewer.name.clone() {
            // Again: the answer may have been lost. Not while answers pile up.
            if self.out.len() < self.config.backlog_max() {
                self.tell(session, RoomNews::Joined { name });
            }
            return;
        }
        if !self.may_speak(identity) {
            return;
        }
        match self.admit(identity, asked, invitation, unpaid) {
            Ok(name) => self.let_in(session, identity, name),
            Err(code) => {
                self.event(RoomEvent::Refused { identity, code });
                self.tell(session, RoomNews::Refused { code });
            }
        }
    }

    /// The name under which it may join. The first thing that keeps it out is said, the fee last:
    /// nobody shall pay and then be refused.
    fn admit(
        &mut self,
        identity: XOnlyKey,
        asked: &Name,
        invitation: Option<Hash>,
        unpaid: Msat,
    ) -> Result<String, RoomCode> {
        let standing = self.standing(identity);
        if standing.banned {
            return Err(RoomCode::Banned);
        }
        let listed = self.config.admission == Admission::Open || standing.allowed;
        let invitation =
            invitation.filter(|hash| !listed && !standing.invited && self.is_good(*hash));
        if !listed && invitation.is_none() {
            return Err(RoomCode::NotInvited);
        }
        if self.names().count() >= self.config.members_max {
            return Err(RoomCode::Full);
        }
        let taken = |name: &str| self.is_taken(name, identity);
        let name = name::shown(asked.as_str(), identity, taken).ok_or(RoomCode::BadName)?;
        if let Some(invitation) = invitation {
            self.use_up(identity, invitation)?;
        }
        if unpaid > PAID {
            return Err(RoomCode::Unpaid);
        }
        Ok(name)
    }

    fn let_in(&mut self, session: SessionId, identity: XOnlyKey, name: String) {
        if let Some(viewer) = self.viewers.get_mut(&session) {
            viewer.name = Some(name.clone());
        }
        let news = RoomNews::Joined { name: name.clone() };
        self.tell(session, news);
        self.tell(session, self.presence());
        self.tell_history(session);
        self.event(RoomEvent::Joined { identity, name });
    }

    /// True where another identity has this name.
    fn is_taken(&self, name: &str, identity: XOnlyKey) -> bool {
        let others = self.names().filter(|(_, other)| *other != identity);
        others.into_iter().any(|(other, _)| other == name)
    }

    fn is_good(&self, invitation: Hash) -> bool {
        let found = self.invitations.get(&invitation.0);
        found.is_some_and(|found| found.left > 0 && self.now.unix.0 < found.expires)
    }

    /// One use less, and one identity more on the list: durable together, before anybody hears of
    /// it. Whom it let in once is known by its identity from here on.
    fn use_up(&mut self, identity: XOnlyKey, invitation: Hash) -> Result<(), RoomCode> {
        let mut changes = ChangeSet::new();
        let standing = Standing {
            allowed: true,
            invited: true,
            ..self.standing(identity)
        };
        let room = self.has_room_for_guests() || self.standings.contains_key(&identity);
        if !room || !self.put_standing(identity, standing, &mut changes) {
            return Err(RoomCode::Full);
        }
        if let Some(found) = self.invitations.get_mut(&invitation.0) {
            found.left = found.left.saturating_sub(1);
        }
        self.write_invitation(invitation.0, &mut changes);
        self.persist(changes);
        Ok(())
    }
}
