//! A room: one payee, many sessions. Every message goes between the payee and one payer; what
//! one says to all, the payee passes on.

use alloc::string::String;

use bytes::Bytes;

use crate::units::Msat;

/// See [`Message::Join`](super::Message::Join).
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// What the others shall see, 1 to 32 bytes of UTF-8 without control characters.
    pub name: String,
    /// What lets it in where not everybody may, at most 64 bytes. A secret.
    pub invitation: Option<Bytes>,
}

/// See [`Message::Joined`](super::Message::Joined).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What the others see: the name that was asked for, or another where it was taken.
    pub name: String,
}

/// See [`Message::RoomRefused`](super::Message::RoomRefused).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRefused {
    /// Why.
    pub code: RoomCode,
}

/// See [`Message::Presence`](super::Message::Presence).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Counts the changes since the payee's process began; the highest holds.
    pub epoch: u64,
    /// How many watch.
    pub viewers: u32,
}

/// See [`Message::Chat`](super::Message::Chat).
#[derive(Clone, PartialEq, Eq)]
pub struct Chat {
    /// Counts what this side said on this connection, so that a repetition shows.
    pub id: u64,
    /// Who says it, in the payee's words; missing towards the payee, and where the payee itself
    /// speaks.
    pub sender: Option<String>,
    /// 1 to 500 bytes of UTF-8 without control characters.
    pub text: String,
}

/// See [`Message::Tip`](super::Message::Tip).
#[derive(Clone, PartialEq, Eq)]
pub struct Tip {
    /// Counts what the payee said on this connection, chat and tips together.
    pub id: u64,
    /// Who gave it, in the payee's words.
    pub sender: String,
    /// How much, in millisatoshi; not zero.
    pub amount: Msat,
}

/// True where `text` may be shown to others as one line: not empty, no control characters, no
/// line or paragraph separators, and nothing that turns around the direction of what is next to
/// it. Spec: messages 3.
#[must_use]
pub fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(super::map::unfit)
}

crate::codes::coded! {
    /// Why somebody may not join a room. Spec: registry, room codes.
    RoomCode;
    /// Nothing more exact is known.
    Other = 0, "no reason given";
    /// The payee has no room.
    NoRoom = 1, "the streamer has no room";
    /// Only who is invited may join.
    NotInvited = 2, "only who is invited may join";
    /// This identity may not come back.
    Banned = 3, "this viewer may not join";
    /// The room is full.
    Full = 4, "the room is full";
    /// The join fee was not paid.
    Unpaid = 5, "joining is to be paid first";
    /// The name cannot be shown to others.
    BadName = 6, "the name cannot be shown to others";
}

impl core::fmt::Debug for Join {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Join")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What people say to each other is not for logs.
impl core::fmt::Debug for Chat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chat({}, {} bytes)", self.id, self.text.len())
    }
}

impl core::fmt::Debug for Tip {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tip({}, {})", self.id, self.amount)
    }
}
