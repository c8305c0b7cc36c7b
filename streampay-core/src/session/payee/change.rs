//! Other terms from an amount on that is not yet paid: offered, agreed to, begun.

use super::PayeeSession;
use crate::meter::Reading;
use crate::planted::{self, Planted};
use crate::session::offer::{ANSWER_MS, OfferState, StoredOffer, may_follow};
use crate::session::pace::Backoff;
use crate::session::{ApiMisuse, CloseCode, Event, Hash, Signature};
use crate::units::Msat;
use crate::wire::{Agreed, Message, OfferTerms, Terms};

/// How often an offer moves on, over all connections: a payer that pays beyond it again and again
/// must not keep the old price so. Chosen arbitrarily: a payer hears of the first but for lost
/// messages.
const MOVES_MAX: u8 = 4;
/// The least notice, in ticks: one may be under way while the offer is.
const NOTICE_TICKS: u64 = 2;

impl PayeeSession {
    /// Whether these terms may be offered now.
    pub(super) fn check_offer(&self, terms: &Terms) -> Result<(), ApiMisuse> {
        if self.live().is_none() {
            return Err(ApiMisuse::NoLink);
        }
        // A payer that did not hear that the last one is confirmed pays nothing beyond where that one
        // begins: until it has, another would undo what it agreed to.
        let schedule = self.schedule();
        let heard = schedule.base_msat.is_zero()
            || self.bought() > schedule.base_msat
            || planted::is(Planted::OfferReplacesAgreed);
        if !heard || self.offer_state() == Some(OfferState::Confirmed) {
            return Err(ApiMisuse::OfferPending);
        }
        if may_follow(&self.config.terms, terms) {
            Ok(())
        } else {
            Err(ApiMisuse::TermsDiffer)
        }
    }

    /// Offers `terms` from so many ticks on. Durable before it is said.
    pub(super) fn offer_terms(&mut self, terms: Terms, in_ticks: u32) {
        let Some(from) = self.offer_from(in_ticks) else {
            return;
        };
        let Some(record) = &mut self.record else {
            return;
        };
        let mut offer = OfferTerms {
            terms,
            from,
            signature: Signature([0; 64]),
        };
        let hash = offer.hash(record.common.fixed.session);
        offer.signature = self.config.identity.sign(hash, &[0; 32]);
        record.common.put_offer(offer);
        if let Some(live) = self.live_mut() {
            live.offer_retry = None;
        }
        self.persist();
        self.grant();
        self.say_offer();
    }

    /// A payment for what is only offered: the payer did not hear of the offer in time, so it
    /// moves on to ticks that are not yet paid. One that never hears is sent away in the end.
    /// True where it moved.
    pub(super) fn renew_offer(&mut self) -> bool {
        let Some(offer) = self
            .record
            .as_ref()
            .and_then(|record| record.common.offer.as_ref())
        else {
            return false;
        };
        let paid = offer.state != OfferState::Confirmed && self.bought() > offer.from;
        let moves = paid && offer.moved < MOVES_MAX;
        let terms = offer.terms();
        if moves {
            self.offer_terms(terms, 0);
        }
        moves
    }

    /// A number of ticks from what is credited, beyond all that may be used already and beyond
    /// every earlier offer.
    fn offer_from(&self, in_ticks: u32) -> Option<Msat> {
        let common = &self.record.as_ref()?.common;
        let (credited, tick) = (self.bought(), self.step());
        let taken = common.offered.max(common.schedule.used(common.reading));
        let taken = taken.saturating_minus(credited).msat();
        let ticks = taken.checked_div(tick.msat())?.saturating_add(1);
        let ticks = ticks.max(NOTICE_TICKS).max(in_ticks.into());
        credited.plus(tick.times(ticks).ok()?).ok()
    }

    /// What a new connection must say again.
    pub(super) fn take_up_offer(&mut self) {
        let said = self.renew_offer();
        if !said && self.offer_state() != Some(OfferState::Declined) {
            self.say_offer();
        }
    }

    /// Says the offer, and again until it is answered.
    pub(super) fn say_offer(&mut self) {
        let now = self.now.mono;
        let Some(record) = &self.record else { return };
        let Some(offer) = &record.common.offer else {
            return;
        };
        let (message, open) = (offer.message(), offer.state == OfferState::Open);
        if let Some(live) = self.live_mut() {
            live.offer_retry =
                open.then(|| live.offer_retry.unwrap_or_else(|| Backoff::start(now)));
            self.send(&Message::OfferTerms(message));
        }
    }

    pub(super) fn repeat_offer(&mut self) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if live
            .offer_retry
            .as_mut()
            .is_some_and(|retry| retry.due(now))
        {
            self.say_offer();
        }
    }

    /// The payer consents: durable, and only then confirmed.
    pub(super) fn on_agree(&mut self, offer: Hash) {
        if self.live().is_none() {
            return;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let common = &mut record.common;
        let known = common.agreed.as_ref().is_some_and(|hash| **hash == offer.0);
        if !known {
            let from = common.ceiling();
            let (true, Some(from)) = (common.offer_hash() == Some(offer), from) else {
                return;
            };
            common.set_offer(OfferState::Confirmed);
            let terms = common.offer.as_ref().map(StoredOffer::terms);
            self.persist();
            if let Some(terms) = terms {
                self.event(Event::TermsAgreed { terms, from });
            }
        }
        self.send(&Message::Agreed(Agreed { offer }));
        if let Some(live) = self.live_mut() {
            live.offer_retry = None;
        }
        self.grant();
    }

    /// The payer does not consent: the session ends where the offer would begin.
    pub(super) fn on_decline(&mut self, offer: Hash) {
        if self.live().is_none() {
            return;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let common = &mut record.common;
        let open = common.offer_state() == Some(OfferState::Open);
        let Some(from) = common.ceiling().filter(|_| open) else {
            return;
        };
        if common.offer_hash() != Some(offer) {
            return;
        }
        common.set_offer(OfferState::Declined);
        self.persist();
        if let Some(live) = self.live_mut() {
            live.offer_retry = None;
        }
        self.event(Event::TermsDeclined { from });
    }

    /// Takes the own meter's reading into the schedule.
    pub(super) fn advance_schedule(&mut self, reading: Reading) {
        let Some(record) = &mut self.record else {
            return;
        };
        if let Some(terms) = record.common.advance(reading) {
            self.persist();
            self.event(Event::TermsBegan { terms });
            self.grant();
        }
    }

    /// All that the old terms allow is used, and the new ones are not agreed to: the session ends
    /// once nothing has moved for the time that an answer may take.
    pub(super) fn close_at_offer(&mut self) {
        let (metered, now) = (self.metered, self.now.mono);
        let stands = self.is_at_offer() && self.flow.flows();
        let declined = self.offer_state() == Some(OfferState::Declined);
        let Some(live) = self.live_mut() else { return };
        let stood = live.stood_at.filter(|(at, _)| stands && *at == metered);
        live.stood_at = stands.then(|| stood.unwrap_or((metered, now)));
        if stood.is_some_and(|(_, since)| declined || now.since_ms(since) >= ANSWER_MS) {
            self.close(CloseCode::TermsChanged, false);
        }
    }

    fn offer_state(&self) -> Option<OfferState> {
        self.record.as_ref()?.common.offer_state()
    }

    fn is_at_offer(&self) -> bool {
        let ceiling = self
            .record
            .as_ref()
            .and_then(|record| record.common.ceiling());
        let next = self.bought().saturating_plus(self.step());
        ceiling.is_some_and(|ceiling| next > ceiling) && self.is_near_end()
    }
}
