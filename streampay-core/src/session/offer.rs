//! An offer of other terms, as both sides keep it, and what follows from it.
//!
//! | | payee | payer |
//! |---|---|---|
//! | `Open` | durable, then said until it is answered | durable; the user is asked |
//! | `Agreed` | | consent is durable, then said until it is confirmed |
//! | `Confirmed` | consent is durable, then confirmed | nothing is asked any more |
//! | `Declined` | as said by the payer | durable, then said |
//!
//! Before `Confirmed` neither side goes beyond the amount from which the offer holds: the payer
//! does not pay for it, the payee does not deliver it. So any message of it may be lost, come
//! twice or late, and either side may crash at any instant: both price by the same tariff
//! whatever the other knows, and no bound grows. Spec: pricing 4.

use alloc::sync::Arc;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::record::{Common, StoredTerms};
use super::{Hash, Signature};
use crate::meter::{NextTariff, Reading};
use crate::units::{Msat, SessionId};
use crate::wire::{OfferTerms, Terms};

/// How long an answer may take once all that the old terms allow is used, in milliseconds.
/// Chosen arbitrarily: time to read a question.
pub(super) const ANSWER_MS: u64 = 10_000;

/// How far an offer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum OfferState {
    /// Not answered.
    #[n(0)]
    Open,
    /// Payer: consented to; the payee may not know.
    #[n(1)]
    Agreed,
    /// Consented to, durably on both sides.
    #[n(2)]
    Confirmed,
    /// Not consented to.
    #[n(3)]
    Declined,
}

/// The newest offer, until it begins.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub(super) struct StoredOffer {
    #[n(0)]
    pub(super) terms: StoredTerms,
    #[n(1)]
    pub(super) from: Msat,
    #[n(2)]
    signature: ByteArray<64>,
    #[n(3)]
    pub(super) state: OfferState,
    /// How often the same terms were moved on to a later amount.
    #[n(4)]
    #[cbor(default)]
    pub(super) moved: u8,
}

impl StoredOffer {
    pub(super) fn new(offer: OfferTerms) -> Self {
        Self {
            terms: StoredTerms(Arc::new(offer.terms)),
            from: offer.from,
            signature: offer.signature.0.into(),
            state: OfferState::Open,
            moved: 0,
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms::clone(&self.terms.0)
    }

    pub(super) fn message(&self) -> OfferTerms {
        OfferTerms {
            terms: self.terms(),
            from: self.from,
            signature: Signature(*self.signature),
        }
    }

    fn hash(&self, session: SessionId) -> Hash {
        self.message().hash(session)
    }
}

impl Common {
    /// The amount beyond which nothing is paid or delivered while an offer is not agreed to.
    pub(super) fn ceiling(&self) -> Option<Msat> {
        let offer = self.offer.as_ref()?;
        (offer.state != OfferState::Confirmed).then_some(offer.from)
    }

    pub(super) fn offer_state(&self) -> Option<OfferState> {
        self.offer.as_ref().map(|offer| offer.state)
    }

    pub(super) fn offer_hash(&self) -> Option<Hash> {
        self.offer
            .as_ref()
            .map(|offer| offer.hash(self.fixed.session))
    }

    /// Keeps an offer in the place of the last one.
    pub(super) fn put_offer(&mut self, offer: OfferTerms) {
        self.offered = self.offered.max(offer.from);
        let mut offer = StoredOffer::new(offer);
        let before = self.offer.take();
        let before = before.filter(|before| before.terms.0 == offer.terms.0);
        offer.moved = before.map_or(0, |before| before.moved.saturating_add(1));
        self.offer = Some(offer);
        self.schedule.next = None;
    }

    /// The offer goes on to `state`. Where it is agreed to, its tariff follows the one that holds.
    pub(super) fn set_offer(&mut self, state: OfferState) {
        let hash = self.offer_hash();
        let Some(offer) = &mut self.offer else { return };
        offer.state = state;
        let agreed = matches!(state, OfferState::Agreed | OfferState::Confirmed);
        self.schedule.next = agreed.then_some(NextTariff {
            from: offer.from,
            tariff: offer.terms.0.tariff,
        });
        if state == OfferState::Confirmed {
            self.agreed = hash.map(|hash| hash.0.into());
        }
    }

    /// Takes a newer reading of the own meter. The terms that begin with it, where some do.
    pub(super) fn advance(&mut self, reading: Reading) -> Option<Terms> {
        let waits = self.ceiling();
        if let Some(from) = waits.filter(|from| self.schedule.used(reading) >= *from) {
            // Not beyond it before both sides know. What was had for it is never priced anew.
            self.schedule.stand_at(from, reading);
            return None;
        }
        if !self.schedule.advance(reading) {
            return None;
        }
        self.offer.take().map(|offer| offer.terms())
    }
}

/// True where `new` may follow `first` within a session: all but title, tariff and expiry is the
/// same. Another tick would not fit the purses that are open, another method nobody's policy.
pub(super) fn may_follow(first: &Terms, new: &Terms) -> bool {
    let same = Terms {
        title: first.title.clone(),
        tariff: first.tariff,
        expires: first.expires,
        ..new.clone()
    };
    same == *first
}
