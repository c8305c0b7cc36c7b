//! Messages between the two sides: deterministic CBOR with integer keys (RFC 8949 4.2.1), one
//! message per data-channel message, at most [`MESSAGE_MAX`] bytes.
//!
//! Bytes from a peer go through [`scan`] first, which refuses everything that is not the one
//! encoding of its value; only then are they read. Even types and keys must be understood, odd
//! ones may be ignored. Spec: messages.

mod decode;
mod encode;
mod error;
mod map;
mod message;
mod offer;
mod room;
mod scan;
mod terms;

pub use decode::{decode, peek_session};
pub use encode::encode;
pub use error::{Field, WireError};
pub use message::{
    Ack, Bind, Close, Closed, Evidence, Hello, Message, Nack, Pause, Purse, PurseOk, PurseRefused,
    Ready, Resume, Tick, Welcome,
};
pub use offer::{Agree, Agreed, Decline, OfferTerms};
pub use room::{Chat, Join, Joined, Presence, RoomCode, RoomRefused, Tip, is_line};
pub use scan::scan;
pub use terms::{Method, Terms};

/// The longest message, in bytes. Spec: messages 1.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// How deep maps and arrays may nest. Spec: messages 2.
pub const DEPTH_MAX: u8 = 4;
/// The longest payment in one tick, in bytes: a message less its frame.
pub const PAYLOAD_MAX: usize = 15 * 1024;
/// The most parts of one purse opening.
pub const PARTS_MAX: u16 = 64;
/// The longest purse opening, all parts together, in bytes.
pub const OPENING_MAX: usize = 256 * 1024;
/// The most versions that a hello may offer.
pub const VERSIONS_MAX: usize = 8;
/// The most methods in terms.
pub const METHODS_MAX: usize = 8;
/// The longest parameters of one method, in bytes.
pub const PARAMS_MAX: usize = 1024;
/// The longest title of a stream, in bytes of UTF-8.
pub const TITLE_MAX: usize = 128;
/// The longest name of a method, in ASCII characters.
pub const METHOD_NAME_MAX: usize = 16;
/// The longest grant on an ack, in bytes.
pub const GRANT_MAX: usize = 64;
/// The longest name in a room, in bytes of UTF-8.
pub const NAME_MAX: usize = 32;
/// The longest invitation to a room, in bytes.
pub const INVITATION_MAX: usize = 64;
/// The longest text of a chat, in bytes of UTF-8.
pub const CHAT_MAX: usize = 500;
/// The protocol version that this library speaks.
pub const VERSION: u16 = 1;

#[cfg(test)]
mod tests;
