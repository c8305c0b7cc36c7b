//! What a room writes to the store: whom it knows, and invitations. Not who is there.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::Room;
use crate::store::{ChangeSet, Key, StoreError};
use crate::units::XOnlyKey;

/// Keys of identities, after the room's prefix.
const STANDING: u8 = b's';
/// Keys of invitations.
const INVITATION: u8 = b'i';

/// What the room thinks of an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Standing {
    #[n(0)]
    pub(super) banned: bool,
    #[n(1)]
    pub(super) muted: bool,
    /// On the list, by the host's word or by an invitation.
    #[n(2)]
    pub(super) allowed: bool,
    /// It has used an invitation: it uses no other, also where the host took it off the list.
    #[n(3)]
    #[cbor(default)]
    pub(super) invited: bool,
}

/// An invitation that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Invited {
    /// How many may still use it.
    #[n(0)]
    pub(super) left: u32,
    /// In seconds since 1970.
    #[n(1)]
    pub(super) expires: u64,
}

fn to_bytes<T: Encode<()>>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail.
    let _ = minicbor::encode(record, &mut bytes);
    bytes
}

fn from_bytes<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, StoreError> {
    minicbor::decode(bytes).map_err(|_| StoreError::Corrupt)
}

impl Room {
    pub(super) fn read(&mut self, records: &[(Key, Vec<u8>)]) -> Result<(), StoreError> {
        let prefix = self.config.prefix();
        for (key, bytes) in records {
            let Some(key) = key.strip_prefix(prefix.as_slice()) else {
                continue;
            };
            let (kind, name) = key.split_first().ok_or(StoreError::Corrupt)?;
            let name: [u8; 32] = name.try_into().map_err(|_| StoreError::Corrupt)?;
            match *kind {
                STANDING => drop(self.standings.insert(XOnlyKey(name), from_bytes(bytes)?)),
                INVITATION => drop(self.invitations.insert(name, from_bytes(bytes)?)),
                // Of a later version.
                _ => {}
            }
        }
        Ok(())
    }

    /// Stages what the room thinks of an identity. False where the list is full: then nothing
    /// is kept.
    pub(super) fn put_standing(
        &mut self,
        identity: XOnlyKey,
        standing: Standing,
        changes: &mut ChangeSet,
    ) -> bool {
        let key = self.key(STANDING, &identity.0);
        if standing == Standing::default() {
            self.standings.remove(&identity);
            changes.remove(key);
            return true;
        }
        let full = self.standings.len() >= self.config.lists_max();
        if full && !self.standings.contains_key(&identity) {
            return false;
        }
        self.standings.insert(identity, standing);
        changes.put(key, to_bytes(&standing));
        true
    }

    /// True where the list takes one more by an invitation: its last tenth is for the host's own word, so that
    /// whoever comes by an invitation that went far can still be banned.
    pub(super) fn has_room_for_guests(&self) -> bool {
        let most = self.config.lists_max();
        self.standings.len() < most.saturating_sub(most / 10)
    }

    /// Stages an invitation as it is; one that nobody may use any more is removed.
    pub(super) fn write_invitation(&mut self, invitation: [u8; 32], changes: &mut ChangeSet) {
        let key = self.key(INVITATION, &invitation);
        let found = self.invitations.get(&invitation);
        match found.filter(|found| found.left > 0) {
            Some(found) => changes.put(key, to_bytes(found)),
            None => {
                self.invitations.remove(&invitation);
                changes.remove(key);
            }
        }
    }

    pub(super) fn drop_expired(&mut self, changes: &mut ChangeSet) {
        let now = self.now.unix.0;
        let invitations = self.invitations.iter();
        let over = invitations.filter(|(_, invited)| now >= invited.expires);
        let over: Vec<[u8; 32]> = over.map(|(name, _)| *name).collect();
        for name in over {
            self.invitations.remove(&name);
            self.write_invitation(name, changes);
        }
    }

    fn key(&self, kind: u8, name: &[u8; 32]) -> Key {
        let mut key = self.config.prefix();
        key.push(kind);
        key.extend_from_slice(name);
        key
    }
}
