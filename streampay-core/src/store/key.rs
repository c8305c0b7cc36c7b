use alloc::vec::Vec;

use crate::room::RoomId;
use crate::units::{PurseKey, SessionId};

/// A record's key: `s | session | f`, `s | session | m`, `s | session | p | purse | sub-key`,
/// `n | method | 0 | sub-key`, or `r | room | kind | name`.
pub type Key = Vec<u8>;

const SESSION: u8 = b's';
const ROOM: u8 = b'r';

const FIXED: u8 = b'f';
const META: u8 = b'm';
const PURSE: u8 = b'p';
const NODE: u8 = b'n';

/// The start of every key of `session`.
#[must_use]
pub fn session_prefix(session: SessionId) -> Key {
    let mut key = Key::with_capacity(40);
    key.push(SESSION);
    key.extend_from_slice(&session.0);
    key
}

/// The key of what of a session never changes: keys, terms, the first binding.
#[must_use]
pub fn fixed_key(session: SessionId) -> Key {
    let mut key = session_prefix(session);
    key.push(FIXED);
    key
}

/// The key of the session's own record: what its ticks change.
#[must_use]
pub fn session_key(session: SessionId) -> Key {
    let mut key = session_prefix(session);
    key.push(META);
    key
}

/// The start of every key of one purse.
#[must_use]
pub fn purse_prefix(key: PurseKey) -> Key {
    let mut bytes = session_prefix(key.session);
    bytes.push(PURSE);
    bytes.extend_from_slice(&key.purse.0.to_be_bytes());
    bytes
}

/// The start of every key that a method keeps for the whole node.
#[must_use]
pub(crate) fn node_prefix(method: &str) -> Key {
    let mut key = Key::with_capacity(method.len().saturating_add(2));
    key.push(NODE);
    key.extend_from_slice(method.as_bytes());
    key.push(0);
    key
}

/// The start of every key of a room.
#[must_use]
pub(crate) fn room_prefix(room: RoomId) -> Key {
    let mut key = Key::with_capacity(66);
    key.push(ROOM);
    key.extend_from_slice(&room.0);
    key
}

/// The session that a key belongs to; none for the node's own.
#[must_use]
pub fn session_of(key: &[u8]) -> Option<SessionId> {
    match key.split_first()? {
        (&SESSION, rest) => rest.get(..32)?.try_into().ok().map(SessionId),
        _ => None,
    }
}
