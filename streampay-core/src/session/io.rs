//! What goes into a session and what comes out.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;

use super::{ChannelIdentity, CloseCode, Entropy, Event, Invitation, Line, Name, RoomNews};
use crate::backend::{Answer, Effect, Request};
use crate::meter::{Grant, Reading};
use crate::store::ChangeSet;
use crate::units::{Msat, PurseKey, RequestId};
use crate::wire::{Terms, decode};

/// What happened. `Debug` prints no payload.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Input {
    /// One message from the peer.
    Received(Bytes),
    /// The moment that `poll_timeout` named is here.
    Timeout,
    /// What the user wants.
    Command(Command),
    /// What the own meter reads: since the session began, over all connections. Tell it as it grows. Of
    /// one that a payer's session is told, no more counts than ten seconds of media, or what a
    /// payment buys where that is longer, beyond what counted when it last grew: else a payee could sell silence.
    /// Spec: pricing 2.3.
    Usage(Reading),
    /// A backend's answer to a request, or to the end of an effect.
    Backend(BackendEvent),
    /// The connection came or went.
    Link(LinkEvent),
    /// The store failed: nothing may leave any more.
    PersistFailed,
}

/// What the user can ask for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Command {
    /// Let nothing flow until [`Command::Resume`]: told as `ByPayer` by a payer,
    /// `ByPayee` by a payee (Spec: session 6.1).
    Pause,
    /// Let it flow again, as far as this side goes.
    Resume,
    /// End the session and settle.
    Close(CloseCode),
    /// Payer: the payment that was refused and is gone counts as lost, and the session goes on.
    WriteOff,
    /// Payer: so much more than the policy's budget may leave the wallet for this session, and
    /// methods that failed are tried again.
    TopUp(Msat),
    /// Payer: give so much, in millisatoshi, besides what the media costs: consent to that amount,
    /// within the budget. It is paid in whole ticks and never more than this; what is less than a
    /// tick is kept for the next one. [`Event::TipRefused`] where that cannot be. Spec: rooms 4.
    Tip(Msat),
    /// Payer: be seen by name in the payee's room, and heard, on this connection and every later
    /// one, until [`Command::Leave`]. [`Event::News`] answers. Spec: rooms 1.
    Join {
        /// How to be called; the others see it with a mark of the identity.
        name: Name,
        /// What lets it in where not everybody may.
        invitation: Option<Invitation>,
        /// The most that joining may cost in this session, in millisatoshi: consent to the fee of
        /// the terms, in whole ticks. It is paid only where nothing else keeps the payer out, and
        /// never given back.
        max_fee: Msat,
    },
    /// Payer: be in the room no longer.
    Leave,
    /// Payer: say something to all; nothing while not in the room.
    Chat(Line),
    /// Payee: what its room tells this payer.
    Room(RoomNews),
    /// Payee: something for the payer's media, as a key of the next epoch, that rides on every
    /// ack from here on. Misuse above 64 bytes.
    Grant(MediaGrant),
    /// Payer: ask for the newest receipt; [`Event::Receipt`] follows.
    RequestReceipt,
    /// Payee: offer other terms from at least so many ticks on. The payer's consent makes them
    /// hold; without it the session ends there. Misuse where there is no bound connection, where
    /// an agreed offer has not begun or nothing is paid at its price yet, or where more differs
    /// than title, tariff and expiry.
    OfferTerms {
        /// What shall hold.
        terms: Box<Terms>,
        /// How many ticks from now; at least 2.
        in_ticks: u32,
    },
    /// Payer: consent to the terms of [`Event::TermsOffered`].
    Agree,
    /// Payer: do not; the session ends where they would begin.
    Decline,
}

/// What rides on an ack for the media, at most 64 bytes. A secret; never printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct MediaGrant(pub Bytes);

impl core::fmt::Debug for MediaGrant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MediaGrant({} bytes)", self.0.len())
    }
}

/// A connection came or went.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LinkEvent {
    /// A connection is up.
    Up {
        /// What both sides know it by.
        identity: ChannelIdentity,
        /// 32 random bytes for this connection alone.
        entropy: Entropy,
    },
    /// The connection is gone.
    Down,
}

/// A backend's answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackendEvent {
    /// Which purse.
    pub purse: PurseKey,
    /// The machine's answer.
    pub answer: Answer,
}

/// What to do, in strict order. Nothing after a [`Output::Persist`] may be done before the store
/// has made it durable. `Debug` prints no payload.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Output {
    /// Make this durable first.
    Persist(ChangeSet),
    /// Send this message.
    Send(Bytes),
    /// Ask the backend of this method.
    Backend {
        /// The method's name in the terms.
        method: String,
        /// Which purse.
        purse: PurseKey,
        /// Counted within the session; the same id is the same request.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Make this network call, and tell the machine how it ended.
    Effect {
        /// The method's name in the terms.
        method: String,
        /// The call.
        effect: Effect,
    },
    /// Tell the gate.
    Gate(Grant),
    /// Tell the user.
    Event(Event),
}

/// A message's number on the wire and its length: the bytes may be a payment.
struct Shown<'a>(&'a Bytes);

impl core::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match decode(self.0) {
            Ok(Some(message)) => write!(f, "type {}, ", message.number())?,
            Ok(None) => f.write_str("unknown type, ")?,
            Err(_) => f.write_str("no message, ")?,
        }
        write!(f, "{} bytes", self.0.len())
    }
}

impl core::fmt::Debug for Input {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Received(bytes) => f.debug_tuple("Received").field(&Shown(bytes)).finish(),
            Self::Timeout => f.write_str("Timeout"),
            Self::Command(command) => f.debug_tuple("Command").field(command).finish(),
            Self::Usage(reading) => f.debug_tuple("Usage").field(reading).finish(),
            Self::Backend(event) => f.debug_tuple("Backend").field(event).finish(),
            Self::Link(event) => f.debug_tuple("Link").field(event).finish(),
            Self::PersistFailed => f.write_str("PersistFailed"),
        }
    }
}

impl core::fmt::Debug for Output {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Persist(changes) => f.debug_tuple("Persist").field(changes).finish(),
            Self::Send(bytes) => f.debug_tuple("Send").field(&Shown(bytes)).finish(),
            Self::Backend {
                method,
                purse,
                id,
                request,
            } => f
                .debug_struct("Backend")
                .field("method", method)
                .field("purse", purse)
                .field("id", id)
                .field("request", request)
                .finish(),
            Self::Effect { method, effect } => f
                .debug_struct("Effect")
                .field("method", method)
                .field("effect", effect)
                .finish(),
            Self::Gate(grant) => f.debug_tuple("Gate").field(grant).finish(),
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
        }
    }
}
