//! Other terms from an amount on that is not yet paid: judged, agreed to or declined.

use super::PayerSession;
use crate::planted::{self, Planted};
use crate::session::offer::{ANSWER_MS, OfferState, may_follow};
use crate::session::pace::Backoff;
use crate::session::{CloseCode, Event, Hash, Misbehaviour};
use crate::units::Msat;
use crate::wire::{Agree, Decline, Message, OfferTerms, Terms};

/// How much longer than the payee the payer waits for an answer before it closes, in
/// milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// New offers that are looked at on one connection: each is a write to disk. What comes beyond is
/// as if it was never made.
const OFFERS_MAX: u8 = 64;

impl PayerSession {
    pub(super) fn on_offer(&mut self, offer: OfferTerms) {
        if self.live().is_none() {
            return;
        }
        let Some(record) = &self.record else { return };
        let common = &record.common;
        let hash = offer.hash(self.session);
        if common.offer_hash() == Some(hash) {
            return self.answer_offer();
        }
        // One that is late: each offer of a payee begins beyond the last one. And one of a payee
        // that forgot our consent, from a backup: without an answer it closes there.
        // And one whose first tick is paid: the payee moves it on when it has that tick.
        let bound = common.offer_state() == Some(OfferState::Confirmed);
        // And other terms while the user is asked: a yes is to what was shown.
        let shown = common
            .offer
            .as_ref()
            .filter(|shown| shown.state == OfferState::Open);
        let other = shown.is_some_and(|shown| *shown.terms.0 != offer.terms);
        if offer.from <= common.offered || bound || other || self.has_lapsed(offer.from) {
            return;
        }
        let Some(live) = self.live_mut() else { return };
        live.offers = live.offers.saturating_add(1);
        if live.offers > OFFERS_MAX {
            return;
        }
        if !self.config.payee.verifies(hash, &offer.signature) {
            return self.misbehaved(Misbehaviour::BadSignature);
        }
        self.take_offer(offer);
    }

    fn take_offer(&mut self, offer: OfferTerms) {
        let (terms, from) = (offer.terms.clone(), offer.from);
        let allowed = self.allows(&terms);
        let dearer = !terms.tariff.is_within(&self.schedule().tariff);
        self.stood_alone();
        if let Some(live) = self.live_mut() {
            live.agree_retry = None;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        record.common.put_offer(offer);
        if !allowed {
            self.decline_offer();
        } else if dearer {
            self.persist();
            self.event(Event::TermsOffered { terms, from });
        } else {
            self.agree_to_offer();
        }
    }

    /// Whether the payer's own policy lets it agree at all.
    fn allows(&self, terms: &Terms) -> bool {
        let first = self.terms().is_some_and(|first| may_follow(first, terms));
        let policy = &self.config.policy;
        first && terms.expires > self.now.unix && terms.tariff.is_within(&policy.max_tariff)
    }

    fn has_lapsed(&self, from: Msat) -> bool {
        (self.credit() > from || self.used() > from) && !planted::is(Planted::PriceFromPaid)
    }

    /// The user consents, where it is not too late and the own policy lets it.
    pub(super) fn agree_by_user(&mut self) {
        let record = self.record.as_ref();
        let Some(offer) = record.and_then(|record| record.common.offer.as_ref()) else {
            return;
        };
        if self.has_lapsed(offer.from) || !self.allows(&offer.terms.0) {
            return self.decline_offer();
        }
        self.agree_to_offer();
    }

    /// Consents: durable, and only then said, until it is confirmed.
    pub(super) fn agree_to_offer(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        let common = &mut record.common;
        let open = matches!(
            common.offer_state(),
            Some(OfferState::Open | OfferState::Declined)
        );
        if !open {
            return;
        }
        common.set_offer(OfferState::Agreed);
        self.persist();
        self.answer_offer();
    }

    /// Does not consent: the session ends where the offer would begin.
    pub(super) fn decline_offer(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        let common = &mut record.common;
        if common.offer_state() != Some(OfferState::Open) {
            return;
        }
        common.set_offer(OfferState::Declined);
        let from = common.ceiling().unwrap_or_default();
        self.persist();
        self.event(Event::TermsDeclined { from });
        self.answer_offer();
    }

    /// Says the answer there is; none while the user is asked.
    fn answer_offer(&mut self) {
        let now = self.now.mono;
        let Some(record) = &self.record else { return };
        let (state, hash) = (record.common.offer_state(), record.common.offer_hash());
        let (Some(state), Some(offer)) = (state, hash) else {
            return;
        };
        let Some(live) = self.live_mut() else { return };
        match state {
            OfferState::Open => {}
            OfferState::Declined => self.send(&Message::Decline(Decline { offer })),
            OfferState::Agreed => {
                live.agree_retry.get_or_insert_with(|| Backoff::start(now));
                self.send(&Message::Agree(Agree { offer }));
            }
            OfferState::Confirmed => self.send(&Message::Agree(Agree { offer })),
        }
    }

    pub(super) fn on_agreed(&mut self, offer: Hash) {
        if self.live().is_none() {
            return;
        }
        let Some(record) = &mut self.record else {
            return;
        };
        let common = &mut record.common;
        let waits = common.offer_state() == Some(OfferState::Agreed);
        if !waits || common.offer_hash() != Some(offer) {
            return;
        }
        common.set_offer(OfferState::Confirmed);
        let (terms, from) = match &common.offer {
            Some(offer) => (offer.terms(), offer.from),
            None => return,
        };
        if let Some(live) = self.live_mut() {
            live.agree_retry = None;
        }
        self.stood_as_agreed();
        self.persist();
        self.event(Event::TermsAgreed { terms, from });
        self.advance_schedule();
    }

    /// What a new connection, or a restart, must say or ask again.
    pub(super) fn take_up_offer(&mut self) {
        let offer = self
            .record
            .as_ref()
            .and_then(|record| record.common.offer.as_ref());
        let Some(offer) = offer else { return };
        let (terms, from) = (offer.terms(), offer.from);
        match offer.state {
            OfferState::Open => self.event(Event::TermsOffered { terms, from }),
            _ => self.answer_offer(),
        }
    }

    pub(super) fn repeat_agree(&mut self) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if live
            .agree_retry
            .as_mut()
            .is_some_and(|retry| retry.due(now))
        {
            self.answer_offer();
        }
    }

    /// Takes the own meter's reading into the schedule.
    pub(super) fn advance_schedule(&mut self) {
        let own = self.own_reading();
        let Some(record) = &mut self.record else {
            return;
        };
        if let Some(terms) = record.common.advance(own) {
            self.persist();
            self.event(Event::TermsBegan { terms });
        }
    }

    /// True where the next tick would pay for what is only offered.
    pub(super) fn is_beyond_offer(&self, tick: Msat) -> bool {
        let ceiling = self
            .record
            .as_ref()
            .and_then(|record| record.common.ceiling());
        ceiling.is_some_and(|ceiling| self.credit().saturating_plus(tick) > ceiling)
    }

    /// All that the old terms allow is used: ends the session, after the time that an answer or
    /// its confirmation may take.
    pub(super) fn close_at_offer(&mut self) {
        let Some(record) = &self.record else { return };
        let state = record.common.offer_state();
        let quiet = self.quiet_ms();
        let Some(live) = self.live() else { return };
        let over = match state {
            Some(OfferState::Declined) => self.is_used_up(),
            Some(OfferState::Agreed) => live.agree_retry.is_none_or(|retry| retry.is_overdue()),
            _ => quiet >= ANSWER_MS.saturating_add(PATIENCE_MS),
        };
        if over {
            self.close(CloseCode::TermsChanged, false);
        }
    }
}
