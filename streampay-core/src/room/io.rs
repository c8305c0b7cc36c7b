//! What goes into a room and what comes out.

use alloc::string::String;

use crate::session::{CloseCode, Hash, Line, RoomAsk, RoomNews};
use crate::store::{ChangeSet, Key, room_prefix};
use crate::units::{Msat, SessionId, Unix, XOnlyKey};
use crate::wire::RoomCode;

/// A room's name in the store: 32 bytes of the payee's choice, as its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RoomId(pub [u8; 32]);

/// Who may join. Who is banned may not in either; joining may cost besides, as the terms say.
/// Spec: rooms 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Admission {
    /// Everybody.
    #[default]
    Open,
    /// Identities on the list, and who shows an invitation: that puts it on the list.
    Listed,
}

/// What a room is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// Its name in the store.
    pub id: RoomId,
    /// Who may join.
    pub admission: Admission,
    /// How many may be joined at a time.
    pub members_max: usize,
    /// How many of the last lines are kept and told to who joins, at most 100.
    pub history: usize,
}

/// The most lines that are kept. With 500 bytes each that is 50 KB, and a payer takes 128 at once.
const HISTORY_MAX: usize = 100;
/// The least that lists may hold, whatever the room's size: identities banned, muted or allowed.
const LISTS_MIN: usize = 10_000;
/// The least that may wait to be taken away.
const BACKLOG_MIN: usize = 1_024;

impl RoomConfig {
    /// An open room for 1 000 that keeps 20 lines.
    #[must_use]
    pub const fn new(id: RoomId) -> Self {
        Self {
            id,
            admission: Admission::Open,
            members_max: 1_000,
            history: 20,
        }
    }

    /// The start of the keys of all its records.
    #[must_use]
    pub fn prefix(&self) -> Key {
        room_prefix(self.id)
    }

    /// How many identities a list may hold: all members four times over, for who comes and goes.
    pub(super) fn lists_max(&self) -> usize {
        self.members_max.saturating_mul(4).max(LISTS_MIN)
    }

    /// How many outputs may wait before what may be dropped is: some lines for every member.
    pub(super) fn backlog_max(&self) -> usize {
        self.members_max.saturating_mul(4).max(BACKLOG_MIN)
    }

    pub(super) fn history_max(&self) -> usize {
        self.history.min(HISTORY_MAX)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RoomInput {
    /// A session is bound on a new connection:
    /// [`PayeeSession::viewer`](crate::session::PayeeSession::viewer) is there.
    Bound {
        /// Which session.
        session: SessionId,
        /// The payer's identity, proven by the binding.
        identity: XOnlyKey,
    },
    /// It is bound no longer: its connection is gone, it closes, or its task is gone.
    Gone {
        /// Which session.
        session: SessionId,
    },
    /// [`Event::Room`](crate::session::Event::Room) of a session.
    Asked {
        /// Which session.
        session: SessionId,
        /// What its payer wants.
        ask: RoomAsk,
    },
    /// What the host wants.
    Host(HostCommand),
    /// The moment that `poll_timeout` named is here.
    Timeout,
    /// The store failed: nothing may leave any more.
    PersistFailed,
}

/// What the host, the payee's user, can ask for. Spec: rooms 5.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum HostCommand {
    /// Say something to all.
    Say(Line),
    /// End all sessions of an identity. It may come back.
    Kick(XOnlyKey),
    /// End all sessions of an identity, for good.
    Ban(XOnlyKey),
    /// It may come back after all.
    Unban(XOnlyKey),
    /// What it says reaches nobody. It is not told.
    Mute(XOnlyKey),
    /// It is heard again.
    Unmute(XOnlyKey),
    /// It may join where only who is listed may.
    Allow(XOnlyKey),
    /// It may not any more, by no invitation either if it used one. Who is in stays.
    Disallow(XOnlyKey),
    /// Whoever shows the invitation with this hash may join, each identity once.
    Invite {
        /// [`Invitation::hash`](crate::session::Invitation::hash).
        invitation: Hash,
        /// How many identities may use it; at least 1.
        uses: u32,
        /// It is good for nothing from here on, in seconds since 1970. Who used it stays listed.
        expires: Unix,
    },
    /// An invitation is good for nothing any more. Who used it stays listed.
    Revoke(Hash),
}

/// What to do, in strict order. Nothing after a [`RoomOutput::Persist`] may be done before the
/// store has made it durable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RoomOutput {
    /// Make this durable first.
    Persist(ChangeSet),
    /// Give this to the session as [`Command::Room`](crate::session::Command::Room), if it is
    /// still there.
    Tell {
        /// Which session.
        session: SessionId,
        /// What to tell it.
        news: RoomNews,
    },
    /// End the session: [`Command::Close`](crate::session::Command::Close).
    Close {
        /// Which session.
        session: SessionId,
        /// Why.
        code: CloseCode,
    },
    /// Tell the host.
    Event(RoomEvent),
}

/// What the host should know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RoomEvent {
    /// The number of sessions that watch has changed.
    Viewers {
        /// How many there are now.
        viewers: u32,
    },
    /// Somebody joined.
    Joined {
        /// Who, proven.
        identity: XOnlyKey,
        /// The name that the others see.
        name: String,
    },
    /// Somebody who had joined is gone or left.
    Left {
        /// Who.
        identity: XOnlyKey,
        /// The name that the others saw.
        name: String,
    },
    /// Somebody wanted to join and may not.
    Refused {
        /// Who.
        identity: XOnlyKey,
        /// Why.
        code: RoomCode,
    },
    /// Somebody said something.
    Said {
        /// Who.
        identity: XOnlyKey,
        /// The name that the others see.
        name: String,
        /// What.
        text: Line,
    },
    /// Somebody gave a tip. It is credited and durable.
    Tip {
        /// Who.
        identity: XOnlyKey,
        /// The name that the others see; none where it did not join.
        name: Option<String>,
        /// How much, in millisatoshi.
        amount: Msat,
    },
    /// A list is full: what was asked for is not kept. Who was to be banned is sent out all the
    /// same.
    ListFull,
    /// The store failed: the room says and keeps nothing any more, until it is restored. The last
    /// event.
    StoreFailed,
}
