use super::{CloseCode, MediaGrant, RoomAsk, RoomNews};
use crate::backend::{BackendError, RefusalCode};
use crate::meter::{PauseReason, Reading};
use crate::units::{Msat, PurseId, Seq, SessionId};
use crate::wire::{Evidence, Terms, WireError};

/// What the user should know. Each says why, and what is left.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// Both sides are bound to this connection and these terms.
    Bound {
        /// Which session.
        session: SessionId,
        /// What was agreed.
        terms: Terms,
        /// True where an earlier session goes on.
        resumed: bool,
        /// The feature bits that hold, such as [`SEALED_MEDIA`](super::SEALED_MEDIA).
        features: u64,
    },
    /// A purse takes ticks.
    PurseOpen {
        /// Which purse.
        purse: PurseId,
        /// What its ticks can come to.
        capacity: Msat,
    },
    /// A purse was refused.
    PurseRefused {
        /// Which purse.
        purse: PurseId,
        /// Why.
        code: RefusalCode,
    },
    /// Payer: a tick was acknowledged.
    TickPaid {
        /// Which tick of its purse.
        seq: Seq,
        /// All ticks acknowledged so far.
        total: Msat,
        /// What the payee says it has delivered.
        reading: Reading,
    },
    /// Payer: something for the media came with an ack.
    Grant(MediaGrant),
    /// Payer: the receipt that was asked for, verified and durable. A receipt for nothing where
    /// nothing is paid.
    Receipt(Evidence),
    /// Payee: a tick was accepted and is durable.
    TickReceived {
        /// Which tick of its purse.
        seq: Seq,
        /// All ticks accepted so far.
        total: Msat,
    },
    /// Payer: a tip was acknowledged. Spec: rooms 4.
    TipPaid {
        /// All tips acknowledged so far, the fee for joining included.
        tips: Msat,
    },
    /// Payer: a tip is not given; nothing was paid. Spec: rooms 4.
    TipRefused {
        /// What was wanted.
        amount: Msat,
        /// The least that can be given: one tick.
        least: Msat,
        /// The most that budget and purses hold; nothing can be given while not connected.
        most: Msat,
    },
    /// Payee: a tip was accepted and is durable. Spec: rooms 4.
    TipReceived {
        /// This one.
        amount: Msat,
        /// All tips so far, the fee for joining included.
        tips: Msat,
    },
    /// Payer: what the payee's room says. Spec: rooms.
    News(RoomNews),
    /// Payee: what the payer wants of its room. Spec: rooms.
    Room(RoomAsk),
    /// A payment was refused.
    TickRefused {
        /// Which tick of its purse.
        seq: Seq,
        /// Why.
        code: RefusalCode,
    },
    /// Payer: a refused payment is back and will be paid anew.
    TickReclaimed {
        /// Which tick of its purse.
        seq: Seq,
    },
    /// Payer: a refused payment is spent: it counts as paid until it is written off or the
    /// session closes.
    TickLost {
        /// Which tick of its purse.
        seq: Seq,
        /// What is at stake.
        amount: Msat,
    },
    /// Nothing flows.
    Paused {
        /// True where the other side paused.
        by_peer: bool,
        /// Why.
        reason: PauseReason,
    },
    /// It flows again.
    Resumed,
    /// Payer: paid media has not come for a while; nothing more is paid until it does.
    Stalled {
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Payer: the payee offers dearer terms, within the policy: [`Command::Agree`] or
    /// [`Command::Decline`] answers. Without an answer the session ends at `from`.
    ///
    /// [`Command::Agree`]: super::Command::Agree
    /// [`Command::Decline`]: super::Command::Decline
    TermsOffered {
        /// What is offered.
        terms: Terms,
        /// The amount from which they would hold.
        from: Msat,
    },
    /// Both sides agreed to other terms.
    TermsAgreed {
        /// What is agreed.
        terms: Terms,
        /// The amount from which they hold.
        from: Msat,
    },
    /// Other terms were offered, and the payer does not agree: the session ends at `from`.
    TermsDeclined {
        /// The amount from which they would have held.
        from: Msat,
    },
    /// What was agreed holds from here on.
    TermsBegan {
        /// What holds.
        terms: Terms,
    },
    /// The backend could not do something; the session goes on as the error's kind says.
    BackendTrouble {
        /// What.
        error: BackendError,
    },
    /// Bytes from the peer were no message and were dropped.
    Dropped {
        /// What was wrong with them.
        error: WireError,
    },
    /// The peer broke the protocol.
    Misbehaved {
        /// How.
        how: Misbehaviour,
    },
    /// The connection is gone; the session can be resumed.
    LinkDown,
    /// The session has ended; money may still be on its way home.
    Closed {
        /// Why.
        code: CloseCode,
        /// True where the other side ended it.
        by_peer: bool,
    },
    /// All money of the session is where it belongs.
    Settled {
        /// Acknowledged (payer) or accepted (payee) over all purses.
        total: Msat,
        /// What came back (payer) or what arrived (payee), net of fees.
        returned: Msat,
    },
    /// Payee: what was credited cannot be made its own now; that is tried again by itself. Or, rejected as
    /// already spent, somebody else has spent some of it, and it is lost.
    Unredeemed {
        /// The purse that holds it.
        purse: PurseId,
        /// Why.
        error: BackendError,
    },
    /// Some money could not be brought home yet; `recover` tries again.
    Unsettled {
        /// The purse that holds it.
        purse: PurseId,
        /// Why.
        error: BackendError,
    },
    /// What the user wanted breaks the contract, and nothing has changed. From the driver, whose
    /// commands come over a channel: who calls a machine is told at once.
    CommandRefused(ApiMisuse),
}

/// How a peer broke the protocol.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, thiserror::Error,
)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A signature does not verify.
    #[error("a signature does not verify")]
    BadSignature,
    /// The identity is not the one in the link or in the session's record.
    #[error("the identity is another")]
    WrongIdentity,
    /// A message that cannot come now.
    #[error("message type {0} cannot come now")]
    Unexpected(u64),
    /// Another payment for a tick that was used.
    #[error("another payment for a tick that was used")]
    TickReused,
    /// A tick that does not follow the last one.
    #[error("a tick does not follow the last one")]
    TickGap,
    /// An acknowledgement of more than was paid.
    #[error("more is acknowledged than was paid")]
    OverAcknowledged,
    /// A purse's parts contradict each other, or are too many.
    #[error("the parts of a purse contradict each other")]
    PurseParts,
    /// Another session, version or terms than was agreed.
    #[error("something that was agreed has changed")]
    Changed,
}

/// The caller broke the contract. Nothing has changed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, thiserror::Error,
)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// A link came up while one is up.
    #[error("a link is already up")]
    LinkAlreadyUp,
    /// There is no link.
    #[error("no link is up")]
    NoLink,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The monotonic clock went backwards.
    #[error("the monotonic clock went backwards")]
    TimeWentBack,
    /// A grant longer than 64 bytes.
    #[error("a grant is longer than 64 bytes")]
    GrantTooLong,
    /// An offer that is agreed to has not begun, or nothing is paid at its price yet.
    #[error("an offer that is agreed to has not begun, or nothing is paid at its price yet")]
    OfferPending,
    /// Terms to follow differ in more than title, tariff and expiry.
    #[error("the terms differ in more than title, tariff and expiry")]
    TermsDiffer,
    /// An answer for a purse of another session.
    #[error("an answer for another session")]
    WrongSession,
}
