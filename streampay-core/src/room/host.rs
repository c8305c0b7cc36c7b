//! What the host may do. Spec: rooms 5.

use super::record::{Invited, Standing};
use super::{HostCommand, Room, RoomEvent, RoomOutput};
use crate::session::CloseCode;
use crate::store::ChangeSet;
use crate::units::XOnlyKey;

impl Room {
    pub(super) fn on_host(&mut self, command: HostCommand) {
        match command {
            HostCommand::Say(text) => self.say(None, None, text),
            HostCommand::Kick(who) => self.send_out(who, CloseCode::Removed),
            HostCommand::Ban(who) => {
                self.judge(who, |standing| standing.banned = true);
                self.send_out(who, CloseCode::Banned);
            }
            HostCommand::Unban(who) => self.judge(who, |standing| standing.banned = false),
            HostCommand::Mute(who) => self.judge(who, |standing| standing.muted = true),
            HostCommand::Unmute(who) => self.judge(who, |standing| standing.muted = false),
            HostCommand::Allow(who) => self.judge(who, |standing| standing.allowed = true),
            HostCommand::Disallow(who) => self.judge(who, |standing| standing.allowed = false),
            HostCommand::Invite {
                invitation,
                uses,
                expires,
            } => {
                let invited = Invited {
                    left: uses.max(1),
                    expires: expires.0,
                };
                self.invite(invitation.0, invited);
            }
            HostCommand::Revoke(invitation) => {
                let mut changes = ChangeSet::new();
                if self.invitations.remove(&invitation.0).is_some() {
                    self.write_invitation(invitation.0, &mut changes);
                    self.persist(changes);
                }
            }
        }
    }

    fn judge(&mut self, who: XOnlyKey, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing(who);
        change(&mut standing);
        let mut changes = ChangeSet::new();
        if self.put_standing(who, standing, &mut changes) {
            self.persist(changes);
        } else {
            self.event(RoomEvent::ListFull);
        }
    }

    fn send_out(&mut self, who: XOnlyKey, code: CloseCode) {
        for session in self.sessions_of(who) {
            self.out.push_back(RoomOutput::Close { session, code });
        }
    }

    /// Takes an invitation, and forgets those that have expired.
    fn invite(&mut self, invitation: [u8; 32], invited: Invited) {
        let mut changes = ChangeSet::new();
        self.drop_expired(&mut changes);
        let full = self.invitations.len() >= self.config.lists_max();
        if full && !self.invitations.contains_key(&invitation) {
            self.event(RoomEvent::ListFull);
        } else {
            self.invitations.insert(invitation, invited);
            self.write_invitation(invitation, &mut changes);
        }
        if !changes.is_empty() {
            self.persist(changes);
        }
    }
}
