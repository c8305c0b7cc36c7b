use alloc::vec::Vec;
use bytes::Bytes;

use super::{
    Agree, Agreed, Chat, Decline, Join, Joined, OfferTerms, Presence, RoomRefused, Terms, Tip,
};
use crate::backend::{Consumed, RefusalCode};
use crate::meter::{PauseReason, Reading};
use crate::session::{CloseCode, Hash, Receipt, Signature, TaggedHash};
use crate::units::{Msat, PurseId, Seq, SessionId, XOnlyKey};

/// A message of the protocol. Spec: messages 3.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Payer: opens or resumes a session.
    Hello(Hello),
    /// Payee: answers a hello with signed terms and its side of the binding.
    Welcome(Welcome),
    /// Payer: its side of the binding, and its consent to the terms.
    Bind(Bind),
    /// Payee: both sides are bound; where its ledger stands.
    Ready(Ready),
    /// Payer: one part of what opens a purse.
    Purse(Purse),
    /// Payee: takes ticks from the purse.
    PurseOk(PurseOk),
    /// Payee: takes none from it.
    PurseRefused(PurseRefused),
    /// Payer: a payment.
    Tick(Tick),
    /// Payee: the highest payment accepted, durable.
    Ack(Ack),
    /// Payee: a payment not accepted. A hint.
    Nack(Nack),
    /// Either: nothing flows for now.
    Pause(Pause),
    /// Either: as far as this side goes, it flows again.
    Resume(Resume),
    /// Either: wants to end the session.
    Close(Close),
    /// Payee: the session has ended; what is due.
    Closed(Closed),
    /// Payee: what it has delivered. A hint; may be ignored.
    Reading(Reading),
    /// Payee: offers other terms from an amount on that is not yet paid.
    OfferTerms(OfferTerms),
    /// Payer: consents to them; repeated until [`Message::Agreed`].
    Agree(Agree),
    /// Payer: does not; the session ends where they would begin.
    Decline(Decline),
    /// Payee: the consent is durable.
    Agreed(Agreed),
    /// Payer: wants a receipt; an [`Message::Ack`] answers.
    ReceiptRequest,
    /// Payer: wants to be seen and heard in the room.
    Join(Join),
    /// Payee: it is.
    Joined(Joined),
    /// Payee: it may not.
    RoomRefused(RoomRefused),
    /// Payee: how many watch.
    Presence(Presence),
    /// Either: says something to all.
    Chat(Chat),
    /// Payee: somebody gave a tip.
    Tip(Tip),
    /// Payer: is not to be seen and heard any more.
    Leave,
}

/// See [`Message::Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which session.
    pub session: SessionId,
    /// Versions that the payer speaks, best first, 1 to 8.
    pub versions: Vec<u16>,
    /// Feature bits: an even bit must be understood. Spec: registry, features.
    pub features: u64,
    /// Fresh for this connection.
    pub nonce: [u8; 32],
    /// The payer's identity.
    pub identity: XOnlyKey,
    /// The payer's key of this session.
    pub session_key: XOnlyKey,
    /// The session's first binding: there to resume, missing to open. Spec: session 8.
    pub root: Option<[u8; 32]>,
    /// The payer's newest receipt.
    pub evidence: Option<Evidence>,
}

/// See [`Message::Welcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Which session.
    pub session: SessionId,
    /// The version chosen.
    pub version: u16,
    /// Feature bits that hold.
    pub features: u64,
    /// Fresh for this connection.
    pub nonce: [u8; 32],
    /// The payee's key of this session.
    pub session_key: XOnlyKey,
    /// What is offered; the payee's identity is in it.
    pub terms: Terms,
    /// The identity's signature over [`Terms::hash`].
    pub terms_signature: Signature,
    /// The identity's signature over the binding, as payee.
    pub binding: Signature,
}

/// See [`Message::Bind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The payer identity's signature over the binding, as payer.
    pub binding: Signature,
}

/// See [`Message::Ready`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The payee's newest receipt; none before the first payment.
    pub evidence: Option<Evidence>,
}

/// A receipt and its signature: what brings a side forward that lost state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// What was accepted.
    pub receipt: Receipt,
    /// By the payee's key of the session.
    pub signature: Signature,
}

/// See [`Message::Purse`].
#[derive(Clone, PartialEq, Eq)]
pub struct Purse {
    /// Which purse.
    pub purse: PurseId,
    /// This part, from 0.
    pub part: u16,
    /// How many parts there are, 1 to 64.
    pub of: u16,
    /// Which of the terms' methods, from 0.
    pub method: u8,
    /// The part's bytes.
    pub bytes: Bytes,
}

/// See [`Message::PurseOk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurseOk {
    /// Which purse.
    pub purse: PurseId,
}

/// See [`Message::PurseRefused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurseRefused {
    /// Which purse.
    pub purse: PurseId,
    /// Why.
    pub code: RefusalCode,
}

/// See [`Message::Tick`].
#[derive(Clone, PartialEq, Eq)]
pub struct Tick {
    /// Which purse.
    pub purse: PurseId,
    /// Which tick of it.
    pub seq: Seq,
    /// All ticks of the purse up to and with this one.
    pub cumulative: Msat,
    /// There where this tick buys no media: all tips of the session up to and with this one.
    pub tips: Option<Msat>,
    /// The payment, opaque here.
    pub payload: Bytes,
}

/// See [`Message::Ack`].
#[derive(Clone, PartialEq, Eq)]
pub struct Ack {
    /// What is accepted, signed.
    pub evidence: Evidence,
    /// Something for the media, at most 64 bytes.
    pub grant: Option<Bytes>,
}

/// See [`Message::Nack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Which purse.
    pub purse: PurseId,
    /// Which tick.
    pub seq: Seq,
    /// Why.
    pub code: RefusalCode,
    /// What became of the money, as the payee says.
    pub consumed: Consumed,
}

/// See [`Message::Pause`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Counts this side's pauses and resumes on this connection; the highest holds.
    pub epoch: u64,
    /// Why.
    pub reason: PauseReason,
}

/// See [`Message::Resume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Counts this side's pauses and resumes on this connection; the highest holds.
    pub epoch: u64,
}

/// See [`Message::Close`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub code: CloseCode,
}

/// See [`Message::Closed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub code: CloseCode,
    /// What is due: the newest receipt; none where nothing was paid.
    pub evidence: Option<Evidence>,
    /// On a connection that is not bound: that the payee says so, here and now. Spec: session 7.
    pub proof: Option<Signature>,
}

impl Closed {
    /// What the payee's session key signs as the proof: this word, in this session, to a hello with this nonce.
    #[must_use]
    pub fn hash(&self, session: SessionId, nonce: &[u8; 32]) -> Hash {
        let receipt = self.evidence.map(|of| of.receipt.hash(session));
        TaggedHash::new("streampay/closed/v1")
            .bytes32(&session.0)
            .bytes32(nonce)
            .u64(u64::from(self.code.code()))
            .bytes32(&receipt.map(|hash| hash.0).unwrap_or_default())
            .finish()
    }
}

pub(super) const HELLO: u64 = 0;
pub(super) const READING: u64 = 1;
pub(super) const WELCOME: u64 = 2;
pub(super) const BIND: u64 = 4;
pub(super) const READY: u64 = 6;
pub(super) const PURSE: u64 = 8;
pub(super) const PURSE_OK: u64 = 10;
pub(super) const PURSE_REFUSED: u64 = 12;
pub(super) const TICK: u64 = 14;
pub(super) const ACK: u64 = 16;
pub(super) const NACK: u64 = 18;
pub(super) const PAUSE: u64 = 20;
pub(super) const RESUME: u64 = 22;
pub(super) const CLOSE: u64 = 24;
pub(super) const CLOSED: u64 = 26;
pub(super) const OFFER_TERMS: u64 = 28;
pub(super) const AGREE: u64 = 30;
pub(super) const DECLINE: u64 = 32;
pub(super) const AGREED: u64 = 34;
pub(super) const RECEIPT_REQUEST: u64 = 36;
pub(super) const JOIN: u64 = 40;
pub(super) const JOINED: u64 = 42;
pub(super) const ROOM_REFUSED: u64 = 44;
pub(super) const PRESENCE: u64 = 46;
pub(super) const CHAT: u64 = 48;
pub(super) const TIP: u64 = 50;
pub(super) const LEAVE: u64 = 52;
/// Terms by themselves are no message; errors name them so.
pub(super) const TERMS: u64 = 1000;

impl Message {
    /// The message's number on the wire. Spec: registry, types.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Welcome(_) => WELCOME,
            Self::Bind(_) => BIND,
            Self::Ready(_) => READY,
            Self::Purse(_) => PURSE,
            Self::PurseOk(_) => PURSE_OK,
            Self::PurseRefused(_) => PURSE_REFUSED,
            Self::Tick(_) => TICK,
            Self::Ack(_) => ACK,
            Self::Nack(_) => NACK,
            Self::Pause(_) => PAUSE,
            Self::Resume(_) => RESUME,
            Self::Close(_) => CLOSE,
            Self::Closed(_) => CLOSED,
            Self::Reading(_) => READING,
            Self::OfferTerms(_) => OFFER_TERMS,
            Self::Agree(_) => AGREE,
            Self::Decline(_) => DECLINE,
            Self::Agreed(_) => AGREED,
            Self::ReceiptRequest => RECEIPT_REQUEST,
            Self::Join(_) => JOIN,
            Self::Joined(_) => JOINED,
            Self::RoomRefused(_) => ROOM_REFUSED,
            Self::Presence(_) => PRESENCE,
            Self::Chat(_) => CHAT,
            Self::Tip(_) => TIP,
            Self::Leave => LEAVE,
        }
    }
}

/// The type only: payloads are money.
impl core::fmt::Debug for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Message({})", self.number())
    }
}

impl core::fmt::Debug for Purse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Purse({}, {} of {})", self.purse.0, self.part, self.of)
    }
}

impl core::fmt::Debug for Tick {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Tick({}, {}, {})",
            self.purse.0, self.seq.0, self.cumulative
        )
    }
}

impl core::fmt::Debug for Ack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ack({:?})", self.evidence.receipt)
    }
}
