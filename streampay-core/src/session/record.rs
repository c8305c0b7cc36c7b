//! What a session writes to the store. This codec is the store's own: not the wire's, and not
//! the serde form of inputs and outputs, which is for a journal and holds secrets as well.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use super::crypto::SecretKey;
use super::offer::StoredOffer;
use super::{CloseCode, Receipt};
use crate::meter::{Reading, Schedule};
use crate::store::{Key, StoreError, session_key};
use crate::units::{Msat, PurseId, RequestId, Seq, SessionId, XOnlyKey};
use crate::wire::{Evidence, Message, Ready, Terms, decode, encode};

/// Both sides' part of a session's record.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct Common {
    #[n(0)]
    pub(super) version: u16,
    #[n(1)]
    pub(super) session: SessionId,
    /// The other side's identity.
    #[n(2)]
    pub(super) peer: XOnlyKey,
    /// The other side's key of the session.
    #[n(3)]
    pub(super) peer_key: XOnlyKey,
    /// This side's key of the session.
    #[n(4)]
    pub(super) key: StoredKey,
    /// The terms that the session was bound with.
    #[n(5)]
    pub(super) terms: StoredTerms,
    /// The first binding.
    #[n(6)]
    pub(super) root: ByteArray<32>,
    /// Payer: what was delivered by the last checkpoint. Payee: what may have been delivered by
    /// now, for the gate never passes more before a higher one is durable.
    #[n(7)]
    pub(super) reading: Reading,
    #[n(8)]
    pub(super) evidence: Option<StoredEvidence>,
    #[n(9)]
    pub(super) next_request: u64,
    /// Set once the session is closing, before anybody hears of it.
    #[n(10)]
    pub(super) closing: Option<u16>,
    /// Set once all money is where it belongs.
    #[n(11)]
    pub(super) settled: bool,
    /// What holds, and what follows it where that is agreed.
    #[n(12)]
    pub(super) schedule: Schedule,
    /// The newest offer of other terms, until it begins.
    #[n(13)]
    pub(super) offer: Option<StoredOffer>,
    /// The highest amount from which terms were ever offered.
    #[n(14)]
    pub(super) offered: Msat,
    /// The hash of the newest offer that was agreed to.
    #[n(15)]
    pub(super) agreed: Option<ByteArray<32>>,
    /// True in a payer's record.
    #[n(16)]
    pub(super) payer: bool,
    /// While no connection is bound: when nobody may come back any more, in seconds since 1970.
    #[n(17)]
    pub(super) resume_by: Option<u64>,
}

impl Common {
    pub(super) fn close_code(&self) -> Option<CloseCode> {
        self.closing.map(CloseCode::from_code)
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.evidence
            .as_ref()
            .map(|stored| stored.0.receipt)
            .unwrap_or_default()
    }

    pub(super) fn evidence(&self) -> Option<Evidence> {
        self.evidence.as_ref().map(|stored| stored.0)
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request = self.next_request.saturating_add(1);
        id
    }
}

/// The payer's record.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct PayerRecord {
    #[n(0)]
    pub(super) common: Common,
    #[n(1)]
    pub(super) purses: Vec<PayerPurse>,
    /// Payments written off by consent: spent, and never acknowledged.
    #[n(2)]
    pub(super) written_off: Msat,
    /// Drift of the two meters that the payer consented to pay.
    #[n(3)]
    pub(super) booked: Reading,
    /// What the user allowed to spend besides the policy's budget.
    #[n(4)]
    pub(super) topped_up: Msat,
    /// What of the ticks made bought no media: tips, the one under way included.
    #[n(5)]
    pub(super) tips: Msat,
    /// What the user wants that to come to. More than `tips` while some is still to be given.
    #[n(6)]
    pub(super) tips_wanted: Msat,
}

/// How far a purse has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum PurseState {
    /// Being opened.
    #[n(0)]
    Opening,
    /// Payer: opened here, offered to the payee.
    #[n(1)]
    Offered,
    /// Takes ticks.
    #[n(2)]
    Open,
    /// Takes none, and its money is not home yet.
    #[n(3)]
    Closing,
    /// Takes none, and its money is home.
    #[n(4)]
    Done,
}

/// The payer's side of a purse.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct PayerPurse {
    #[n(0)]
    pub(super) id: PurseId,
    #[n(1)]
    pub(super) method: u8,
    #[n(2)]
    pub(super) state: PurseState,
    /// Asked for while opening, then what it holds.
    #[n(3)]
    pub(super) capacity: Msat,
    /// What it may cost in all while opening, then what it did cost.
    #[n(4)]
    pub(super) cost: Msat,
    /// All ticks made, the one under way included.
    #[n(5)]
    pub(super) paid: Msat,
    /// The highest cumulative acknowledged.
    #[n(6)]
    pub(super) acked: Msat,
    /// The last tick made.
    #[n(7)]
    pub(super) seq: Seq,
    /// The tick under way.
    #[n(8)]
    pub(super) pending: Option<PendingTick>,
    /// What the payee must be shown until it accepts.
    #[n(9)]
    pub(super) opening: ByteVec,
    /// The request that opens or releases it.
    #[n(10)]
    pub(super) request: RequestId,
    /// What came back.
    #[n(11)]
    pub(super) refunded: Msat,
    /// One payment: the tick, rounded up to the method's quantum.
    #[n(12)]
    pub(super) step: Msat,
    /// When it opened, in seconds since 1970.
    #[n(13)]
    pub(super) opened: u64,
    /// From when on it gives no tick any more, in seconds since 1970.
    #[n(14)]
    pub(super) until: Option<u64>,
}

/// A payment that is made and not acknowledged.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct PendingTick {
    #[n(0)]
    pub(super) amount: Msat,
    /// The request that makes it or takes it back.
    #[n(1)]
    pub(super) request: RequestId,
    /// The bytes, once they are made: always the same ones.
    #[n(2)]
    pub(super) payload: Option<ByteVec>,
    #[n(3)]
    pub(super) fate: Fate,
    /// True where it buys no media.
    #[n(4)]
    pub(super) tip: bool,
}

/// What is known of a payment under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Fate {
    /// It may yet be acknowledged.
    #[n(0)]
    UnderWay,
    /// The payee refused it; being taken back.
    #[n(1)]
    Refused,
    /// It is spent, and was not acknowledged.
    #[n(2)]
    Lost,
    /// The payee does not know the purse any more; being taken back, and no tick comes after it.
    #[n(3)]
    Disowned,
}

impl PendingTick {
    /// True while it is being taken back.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.fate, Fate::Refused | Fate::Disowned)
    }
}

/// The payee's record.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct PayeeRecord {
    #[n(0)]
    pub(super) common: Common,
    #[n(1)]
    pub(super) purses: Vec<PayeePurse>,
    /// What may be used before the first payment: the terms' preview, as far as budgets left it.
    #[n(2)]
    pub(super) preview: Msat,
    /// What of the credit is for no media: tips.
    #[n(3)]
    pub(super) tips: Msat,
}

/// The payee's side of a purse.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct PayeePurse {
    #[n(0)]
    pub(super) id: PurseId,
    #[n(1)]
    pub(super) method: u8,
    #[n(2)]
    pub(super) state: PurseState,
    /// What its ticks can come to.
    #[n(3)]
    pub(super) capacity: Msat,
    /// What was accepted.
    #[n(4)]
    pub(super) credited: Msat,
    /// The last tick that was accepted or refused.
    #[n(5)]
    pub(super) seq: Seq,
    /// The hash of that tick's payment.
    #[n(6)]
    pub(super) last: Option<ByteArray<32>>,
    /// What was answered to that tick, where it was refused.
    #[n(7)]
    pub(super) refusal: Option<ByteVec>,
    /// The tick that is being checked.
    #[n(8)]
    pub(super) receiving: Option<ReceivingTick>,
    /// The hash of what opened it.
    #[n(9)]
    pub(super) opening: ByteArray<32>,
    /// The request that accepts or settles it.
    #[n(10)]
    pub(super) request: RequestId,
    /// What arrived in the wallet.
    #[n(11)]
    pub(super) settled: Msat,
    /// One payment: the tick, rounded up to the method's quantum.
    #[n(12)]
    pub(super) step: Msat,
}

/// A payment that came and is being checked.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct ReceivingTick {
    #[n(0)]
    pub(super) seq: Seq,
    #[n(1)]
    pub(super) amount: Msat,
    #[n(2)]
    pub(super) cumulative: Msat,
    #[n(3)]
    pub(super) payload: ByteVec,
    #[n(4)]
    pub(super) request: RequestId,
    /// True where it buys no media.
    #[n(5)]
    pub(super) tip: bool,
}

/// Room for most records, in bytes.
const RECORD: usize = 2_048;

/// The bytes of a record.
pub(super) fn to_bytes<T: Encode<()>>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD);
    // Writing to memory cannot fail.
    let _ = minicbor::encode(record, &mut bytes);
    bytes
}

/// A record from its bytes.
pub(super) fn from_bytes<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, StoreError> {
    minicbor::decode(bytes).map_err(|_| StoreError::Corrupt)
}

/// What a record of either role begins with.
#[derive(Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    common: Common,
}

/// The record of `session` among its prefix's, if it is of this role.
pub(super) fn find<'b, T: Decode<'b, ()>>(
    records: &'b [(Key, Vec<u8>)],
    session: SessionId,
    payer: bool,
) -> Result<T, StoreError> {
    let key = session_key(session);
    let found = records.iter().find(|(found, _)| *found == key);
    let (_, bytes) = found.ok_or(StoreError::Corrupt)?;
    let Head { common } = from_bytes(bytes)?;
    if common.session != session {
        return Err(StoreError::Corrupt);
    }
    if common.payer != payer {
        return Err(StoreError::OtherRole);
    }
    from_bytes(bytes)
}

/// A secret key as it is stored.
#[derive(Clone)]
pub(super) struct StoredKey(pub(super) SecretKey);

/// Terms as they are stored: in their wire form.
#[derive(Clone)]
pub(super) struct StoredTerms(pub(super) Terms, Bytes);

impl StoredTerms {
    /// Encodes them once: they are in every record of the session, and never change.
    pub(super) fn new(terms: Terms) -> Self {
        let bytes = terms.to_bytes().into();
        Self(terms, bytes)
    }
}

/// A receipt as it is stored: in its wire form.
#[derive(Clone)]
pub(super) struct StoredEvidence(pub(super) Evidence, Bytes);

impl StoredEvidence {
    /// Encodes it once: it is in every record until the next.
    pub(super) fn new(evidence: Evidence) -> Self {
        let some = Some(evidence);
        Self(evidence, encode(&Message::Ready(Ready { evidence: some })))
    }
}

macro_rules! stored_as_bytes {
    ($name:ident, $to:expr, $from:expr) => {
        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&$to(self)).map(|_| ())
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let unreadable = || minicbor::decode::Error::message(stringify!($name));
                $from(decoder.bytes()?).ok_or_else(unreadable)
            }
        }
    };
}

stored_as_bytes!(
    StoredKey,
    |key: &StoredKey| *key.0.dangerous_bytes(),
    |bytes: &[u8]| bytes
        .try_into()
        .ok()
        .and_then(|bytes| SecretKey::from_bytes(bytes).ok())
        .map(StoredKey)
);
stored_as_bytes!(
    StoredTerms,
    |stored: &StoredTerms| stored.1.clone(),
    |bytes: &[u8]| Terms::from_bytes(bytes).ok().map(StoredTerms::new)
);
stored_as_bytes!(
    StoredEvidence,
    |stored: &StoredEvidence| stored.1.clone(),
    |bytes: &[u8]| match decode(bytes) {
        Ok(Some(Message::Ready(ready))) => ready.evidence.map(StoredEvidence::new),
        _ => None,
    }
);

/// The method's name of a purse.
pub(super) fn method_name(terms: &Terms, method: u8) -> String {
    terms
        .methods
        .get(usize::from(method))
        .map(|method| method.name.clone())
        .unwrap_or_default()
}
