//! What a session writes to the store. This codec is the store's own: not the wire's, and not
//! the serde form of inputs and outputs, which is for a journal and holds secrets as well.
//!
//! Two records a session: what never changes once it is bound ([`Fixed`]), and what each tick
//! changes, which is all that a tick writes.

mod fixed;
mod stored;

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

pub(super) use self::fixed::{Apart, Fixed, find, stage, stage_removal};
use self::fixed::{Kept, Record};
pub(super) use self::stored::{StoredBytes, StoredEvidence, StoredKey, StoredTerms};

use super::offer::StoredOffer;
use super::{CloseCode, Receipt};
use crate::meter::{Reading, Schedule};
use crate::units::{Msat, PurseId, RequestId, Seq, Unix};
use crate::wire::{Evidence, Terms};

/// Both sides' part of a session's record.
#[derive(Clone, Encode, Decode)]
#[cbor(array, context_bound = "AsMut<Kept>")]
pub(super) struct Common {
    #[n(0)]
    pub(super) fixed: Apart,
    /// Payer: what was delivered by the last checkpoint. Payee: what may have been delivered by
    /// now, for the gate never passes more before a higher one is durable.
    #[n(1)]
    pub(super) reading: Reading,
    #[n(2)]
    pub(super) evidence: Option<StoredEvidence>,
    #[n(3)]
    pub(super) next_request: u64,
    /// Set once the session is closing, before anybody hears of it.
    #[n(4)]
    pub(super) closing: Option<u16>,
    /// Set once all money is where it belongs.
    #[n(5)]
    pub(super) settled: bool,
    /// What holds, and what follows it where that is agreed.
    #[n(6)]
    pub(super) schedule: Schedule,
    /// The newest offer of other terms, until it begins.
    #[n(7)]
    pub(super) offer: Option<StoredOffer>,
    /// The highest amount from which terms were ever offered.
    #[n(8)]
    pub(super) offered: Msat,
    /// The hash of the newest offer that was agreed to.
    #[n(9)]
    pub(super) agreed: Option<ByteArray<32>>,
    /// While no connection is bound: when nobody may come back any more, in seconds since 1970.
    #[n(10)]
    pub(super) resume_by: Option<u64>,
    /// When it was bound first, in seconds since 1970.
    #[n(11)]
    pub(super) began: Option<u64>,
    /// When it began to close, in seconds since 1970.
    #[n(12)]
    pub(super) ended: Option<u64>,
}

impl Common {
    /// The session is closing; durable with the caller's next change.
    pub(super) fn begin_closing(&mut self, code: CloseCode, now: Unix) {
        self.closing = Some(code.code());
        self.ended = Some(now.0);
    }

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

    pub(super) fn terms(&self) -> &Terms {
        &self.fixed.terms.0
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request = self.next_request.saturating_add(1);
        id
    }
}

/// The payer's record.
#[derive(Clone, Encode, Decode)]
#[cbor(array, context_bound = "AsMut<Kept>")]
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

impl PayerRecord {
    /// Completes a record from before ticks under way were kept whole: as they were said then.
    pub(super) fn complete(&mut self) {
        let given = self.common.receipt().tips;
        for purse in &mut self.purses {
            if let Some(pending) = &mut purse.pending {
                pending.complete(purse.acked, given);
            }
        }
    }
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
#[cbor(array)]
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
    /// It was told to come home before it had opened: what it cost is not known, and may be nothing.
    #[n(15)]
    pub(super) called_off: Option<bool>,
}

/// A payment that is made and not acknowledged.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
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
    /// What its tick says that the purse comes to with it, and all tips: another receipt may come before its own.
    /// 0 in a record from before they were kept.
    #[n(5)]
    #[cbor(default)]
    pub(super) cumulative: Msat,
    #[n(6)]
    pub(super) tips: Option<Msat>,
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
    /// It was refused and cannot be taken back: being shown again, by the next number.
    #[n(4)]
    Again,
}

impl PayerPurse {
    /// True where the backend has the purse and is to know what the payee acknowledged of it: one
    /// that comes home still counts with that.
    pub(super) const fn hears_acks(&self) -> bool {
        !matches!(self.state, PurseState::Opening | PurseState::Done)
    }
}

impl PendingTick {
    /// The same for one tick, where so much of its purse, and of tips, was acknowledged.
    pub(super) fn complete(&mut self, acked: Msat, given: Msat) {
        if self.cumulative.is_zero() {
            self.cumulative = acked.saturating_plus(self.amount);
            self.tips = self.tip.then(|| given.saturating_plus(self.amount));
        }
    }

    /// True once the backend has made it, by its present number.
    pub(super) const fn is_made(&self) -> bool {
        self.payload.is_some() && !matches!(self.fate, Fate::Again)
    }

    /// True while it is being taken back.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.fate, Fate::Refused | Fate::Disowned)
    }
}

/// The payee's record.
#[derive(Clone, Encode, Decode)]
#[cbor(array, context_bound = "AsMut<Kept>")]
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
    /// True once a backend has written anything of its purses.
    #[n(4)]
    #[cbor(default)]
    pub(super) kept: bool,
}

impl PayeeRecord {
    /// True where no purse was ever taken, no backend knows anything of one, and no receipt says that there was
    /// something.
    pub(super) fn is_empty(&self) -> bool {
        let refused =
            |purse: &PayeePurse| purse.state == PurseState::Done && purse.capacity.is_zero();
        !self.kept && self.common.evidence.is_none() && self.purses.iter().all(refused)
    }
}

/// The payee's side of a purse.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
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
    /// The tick that is being checked; one up to `seq` was let go of, and its answer is still due.
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
#[cbor(array)]
pub(super) struct ReceivingTick {
    #[n(0)]
    pub(super) seq: Seq,
    #[n(1)]
    pub(super) amount: Msat,
    #[n(2)]
    pub(super) cumulative: Msat,
    #[n(3)]
    pub(super) payload: StoredBytes,
    #[n(4)]
    pub(super) request: RequestId,
    /// True where it buys no media.
    #[n(5)]
    pub(super) tip: bool,
}

/// The method's name of a purse.
pub(super) fn method_name(terms: &Terms, method: u8) -> String {
    terms
        .methods
        .get(usize::from(method))
        .map(|method| method.name.clone())
        .unwrap_or_default()
}

impl Record for PayerRecord {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }
}

impl Record for PayeeRecord {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }
}
