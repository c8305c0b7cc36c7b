//! What a session's records say of its money: the rows of a node's ledger.
//!
//! The sums of a purse are in the record that each payment writes, in the same change set: no
//! crash comes between a payment and its row. A tick adds no row, and the records of a session in
//! which a purse was opened are never removed.

use alloc::string::String;
use alloc::vec::Vec;

use super::binding::Role;
use super::close::CloseCode;
use super::proof::ReceiptProof;
use super::record::{
    Common, PayeePurse, PayeeRecord, PayerPurse, PayerRecord, PurseState, find, method_name,
};
use crate::meter::Reading;
use crate::store::{Key, StoreError};
use crate::units::{Msat, PurseId, SessionId, Unix, XOnlyKey};
use crate::wire::{Evidence, Terms};

/// One session, as it stands on disk.
#[derive(Clone, Debug)]
pub struct SessionLedger {
    /// Which session.
    pub session: SessionId,
    /// Which side this node is.
    pub role: Role,
    /// The other side's identity.
    pub peer: XOnlyKey,
    /// What the session was bound with.
    pub terms: Terms,
    /// When it was bound first, by this side's wall clock; none in records of older versions.
    pub began: Option<Unix>,
    /// When it began to close, by this side's wall clock.
    pub ended: Option<Unix>,
    /// Why it closes or closed; none while it can go on.
    pub code: Option<CloseCode>,
    /// True once all its money is where it belongs.
    pub settled: bool,
    /// What was delivered. Payee: what may have been.
    pub reading: Reading,
    /// What of the payments acknowledged was for no media.
    pub tips: Msat,
    /// Payer: payments that were spent, not acknowledged, and written off by consent.
    pub written_off: Msat,
    /// The newest receipt of the payee and its signature.
    pub receipt: Option<Evidence>,
    /// Payer: what proves it to others; none in records of older versions.
    pub proof: Option<ReceiptProof>,
    /// One row a purse, in the order in which they were opened.
    pub purses: Vec<PurseLedger>,
}

/// One purse's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurseLedger {
    /// Which purse.
    pub purse: PurseId,
    /// The name of its method.
    pub method: String,
    /// True once it was opened, on this side. Payer: not where it was called off before that; what it
    /// cost is then at most [`cost`](Self::cost) while it comes home, and what came back after that.
    pub opened: bool,
    /// True once its money is where it belongs.
    pub home: bool,
    /// What its ticks can come to.
    pub capacity: Msat,
    /// Payer: all that left the wallet for it, fees included; zero before it is opened.
    pub cost: Msat,
    /// Payer: all ticks made, the one under way included. Payee: as `acknowledged`.
    pub made: Msat,
    /// The highest cumulative that was acknowledged.
    pub acknowledged: Msat,
    /// One payment of it.
    pub step: Msat,
    /// What came back (payer) or arrived (payee), net of fees; zero until `home`.
    pub returned: Msat,
}

impl SessionLedger {
    /// Reads the rows of `session`, of either role, from its records.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where they cannot be read.
    pub fn read(session: SessionId, records: &[(Key, Vec<u8>)]) -> Result<Self, StoreError> {
        match find::<PayerRecord>(records, session, true) {
            Ok(record) => Ok(Self::of_payer(&record)),
            Err(StoreError::OtherRole) => {
                let record = find::<PayeeRecord>(records, session, false)?;
                Ok(Self::of_payee(&record))
            }
            Err(error) => Err(error),
        }
    }

    /// Acknowledged over all purses.
    #[must_use]
    pub fn acknowledged(&self) -> Msat {
        let purses = self.purses.iter().map(|purse| purse.acknowledged);
        purses.fold(Msat::ZERO, Msat::saturating_plus)
    }

    pub(super) fn of_payer(record: &PayerRecord) -> Self {
        let purses = record.purses.iter();
        let terms = record.common.terms();
        let mut ledger = Self::of(&record.common, Role::Payer);
        ledger.tips = record.tips;
        ledger.written_off = record.written_off;
        ledger.purses = purses.map(|purse| row_of_payer(terms, purse)).collect();
        ledger
    }

    fn of_payee(record: &PayeeRecord) -> Self {
        let purses = record.purses.iter();
        let terms = record.common.terms();
        let mut ledger = Self::of(&record.common, Role::Payee);
        ledger.tips = record.tips;
        ledger.purses = purses.map(|purse| row_of_payee(terms, purse)).collect();
        ledger
    }

    fn of(common: &Common, role: Role) -> Self {
        let fixed = &common.fixed;
        let receipt = common.evidence();
        let vouched = fixed.vouch.clone().zip(receipt);
        let proof = vouched.map(|(vouch, evidence)| {
            let terms = fixed.terms.clone();
            ReceiptProof::new(fixed.session, terms, fixed.peer_key, vouch, evidence)
        });
        Self {
            session: fixed.session,
            role,
            peer: fixed.peer,
            terms: common.terms().clone(),
            began: common.began.map(Unix),
            ended: common.ended.map(Unix),
            code: common.close_code(),
            settled: common.settled,
            reading: common.reading,
            tips: Msat::ZERO,
            written_off: Msat::ZERO,
            receipt,
            proof,
            purses: Vec::new(),
        }
    }
}

fn row_of_payer(terms: &Terms, purse: &PayerPurse) -> PurseLedger {
    // Before it is opened the record has what was asked for; one that failed to open cost nothing.
    let called_off = purse.called_off == Some(true);
    let known = purse.state != PurseState::Opening && !purse.cost.is_zero();
    let told = |amount: Msat| if known { amount } else { Msat::ZERO };
    PurseLedger {
        purse: purse.id,
        method: method_name(terms, purse.method),
        opened: known && !called_off,
        home: purse.state == PurseState::Done,
        capacity: told(purse.capacity),
        cost: told(purse.cost),
        made: purse.paid,
        acknowledged: purse.acked,
        step: purse.step,
        returned: purse.refunded,
    }
}

fn row_of_payee(terms: &Terms, purse: &PayeePurse) -> PurseLedger {
    PurseLedger {
        purse: purse.id,
        method: method_name(terms, purse.method),
        opened: purse.state != PurseState::Opening,
        home: purse.state == PurseState::Done,
        capacity: purse.capacity,
        cost: Msat::ZERO,
        made: purse.credited,
        acknowledged: purse.credited,
        step: purse.step,
        returned: purse.settled,
    }
}
