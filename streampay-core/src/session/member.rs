//! What a payer and the payee's room say to each other, as data. Spec: rooms.

use alloc::string::String;

use bytes::Bytes;

use super::{Hash, TaggedHash};
use crate::units::Msat;
use crate::wire::{CHAT_MAX, INVITATION_MAX, NAME_MAX, RoomCode, is_line};

/// A text for others, 1 to 500 bytes, one line. Never printed: what people say to each other is
/// not for logs. Spec: rooms 3.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

/// How somebody is called, 1 to 32 bytes, one line. Spec: rooms 1.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text is empty, too long, or holds what may not be shown to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one short line of text")]
pub struct BadLine;

macro_rules! line {
    ($name:ident, $max:ident) => {
        impl $name {
            /// The text, if it is one line that others may be shown.
            ///
            /// # Errors
            /// [`BadLine`] where it is not. Spec: messages 3.
            pub fn new(text: impl Into<String>) -> Result<Self, BadLine> {
                let text = text.into();
                let fits = text.len() <= $max && is_line(&text);
                fits.then_some(Self(text)).ok_or(BadLine)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadLine;

            fn try_from(text: String) -> Result<Self, BadLine> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(line: $name) -> Self {
                line.0
            }
        }
    };
}

line!(Line, CHAT_MAX);
line!(Name, NAME_MAX);

impl core::fmt::Debug for Line {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Line({} bytes)", self.0.len())
    }
}

/// What lets a payer into a room where not everybody may, at most 64 bytes. A secret; never
/// printed. It should be at least 16 random bytes. Spec: rooms 1.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Invitation(Bytes);

impl Invitation {
    /// The invitation with these bytes.
    ///
    /// # Errors
    /// [`BadLine`] where there are more than 64.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, BadLine> {
        let bytes = bytes.into();
        let fits = bytes.len() <= INVITATION_MAX;
        fits.then_some(Self(bytes)).ok_or(BadLine)
    }

    /// What a room keeps of it. Spec: rooms 1.
    #[must_use]
    pub fn hash(&self) -> Hash {
        TaggedHash::new("streampay/invitation/v1")
            .blob(&self.0)
            .finish()
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl core::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Invitation(<redacted>)")
    }
}

/// What a payer wants of the payee's room. Spec: rooms.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RoomAsk {
    /// To be seen by name, and heard.
    Join {
        /// How it wants to be called.
        name: Name,
        /// The hash of the invitation that it showed.
        invitation: Option<Hash>,
        /// What is missing of the fee.
        unpaid: Msat,
    },
    /// Not to be any more.
    Leave,
    /// To say something to all.
    Chat(Line),
    /// It gave so much, in millisatoshi, beyond the fee for joining; credited and durable.
    Tip(Msat),
}

/// What a room tells a payer. Spec: rooms.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RoomNews {
    /// It is in, and the others see this name.
    Joined {
        /// The name.
        name: String,
    },
    /// It may not join.
    Refused {
        /// Why.
        code: RoomCode,
    },
    /// How many watch.
    Presence {
        /// Counts the changes; the highest holds.
        epoch: u64,
        /// How many sessions are bound.
        viewers: u32,
    },
    /// Somebody says something.
    Chat {
        /// Who; none where it is the payee.
        sender: Option<String>,
        /// What.
        text: Line,
    },
    /// Somebody gave a tip.
    Tip {
        /// Who.
        sender: String,
        /// How much, in millisatoshi.
        amount: Msat,
    },
}

impl RoomNews {
    /// True for what may be dropped where there is no room for it: chat, tips told, counts that
    /// will be told again.
    #[must_use]
    pub const fn may_be_dropped(&self) -> bool {
        !matches!(self, Self::Joined { .. } | Self::Refused { .. })
    }
}
