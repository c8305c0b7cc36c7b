//! Live: what stops the media, and what lets it flow again.

use alloc::boxed::Box;

use super::{PayeeSession, Phase};
use crate::meter::{PauseReason, Reading};
use crate::session::pace::Backoff;
use crate::session::record::{PayeePurse, PurseState};
use crate::session::{CloseCode, Event};
use crate::units::{Mono, PurseId};
use crate::wire::{Evidence, Message};

/// How often a side that does not flow says so again, and its reading near the end of the
/// credit, in milliseconds.
const HEARTBEAT_MS: u64 = 2_000;
/// How long a backend may check a payment before it counts as away, in milliseconds.
const SLOW_MS: u64 = 3_000;
/// How many times as long as others a payer may stay without paying while its purse is being
/// checked: a mint may be slow, and somebody may open purses for ever.
const OPENING_FACTOR: u64 = 3;

/// Both sides are bound.
pub(super) struct Live {
    /// When to say again how things stand; set while nothing flows.
    pub(super) heartbeat: Option<Mono>,
    /// When it last paid, or what it paid for last flowed; later by what nothing flowed since.
    since: Mono,
    /// Since when nothing flows.
    still: Option<Mono>,
    /// When the backend got the payment that it is checking.
    receiving_since: Option<Mono>,
    /// When to say an offer again.
    pub(super) offer_retry: Option<Backoff>,
    /// The reading at the last beat, where an offer that is not agreed to holds it up.
    pub(super) stood_at: Option<(Reading, Mono)>,
    /// What was said in the room.
    pub(super) talk: super::member::Talk,
    /// The purse whose parts are being collected.
    pub(super) parts: Option<crate::session::parts::Parts>,
    /// The receipt for nothing, once it was asked for: it is signed once.
    pub(super) nothing: Option<Box<Evidence>>,
}

impl Live {
    pub(super) fn new(now: Mono, receiving: bool) -> Self {
        Self {
            heartbeat: None,
            since: now,
            still: None,
            receiving_since: receiving.then_some(now),
            offer_retry: None,
            stood_at: None,
            talk: super::member::Talk::default(),
            parts: None,
            nothing: None,
        }
    }
}

impl PayeeSession {
    pub(super) const fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }

    pub(super) const fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }

    pub(super) fn live_timeout(&self, live: &Live) -> Option<Mono> {
        let offer = live.offer_retry.map(|retry| retry.at());
        let times = [self.unpaid_at(live), self.slow_at(live), live.heartbeat];
        times.into_iter().flatten().chain(offer).min()
    }

    /// When a payer that has not paid anything, or does not go on to, is sent away: its credit is
    /// used, nothing pauses, and no payment is being checked. One that need not have paid yet, and to whom
    /// nothing goes for our source is dead, has as long as one that is away: it may be.
    fn unpaid_at(&self, live: &Live) -> Option<Mono> {
        let idle = self.flow.flows() && live.receiving_since.is_none();
        let limit_ms = if self.credited().is_zero() || idle && self.is_due() {
            let times = if self.opens_a_purse() {
                OPENING_FACTOR
            } else {
                1
            };
            self.config.unpaid_ms.saturating_mul(times)
        } else if idle {
            let away_ms = u64::from(self.config.terms.resumable_s).saturating_mul(1_000);
            away_ms.max(self.config.unpaid_ms)
        } else {
            return None;
        };
        Some(live.since.after_ms(limit_ms))
    }

    /// Time in which nothing flows is not held against a payer that has paid.
    fn note_stillness(&mut self) {
        let (now, flows) = (self.now.mono, self.flow.flows());
        let credited = !self.credited().is_zero();
        let Some(live) = self.live_mut() else { return };
        match live.still {
            None if !flows => live.still = Some(now),
            Some(from) if flows => {
                live.still = None;
                if credited {
                    live.since = live.since.after_ms(now.since_ms(from.max(live.since)));
                }
            }
            _ => {}
        }
    }

    /// A purse is being checked: the payer has something, and waits for our backend.
    fn opens_a_purse(&self) -> bool {
        let opening = |purse: &PayeePurse| purse.state == PurseState::Opening;
        self.record
            .iter()
            .any(|record| record.purses.iter().any(opening))
    }

    /// The payer paid, or what it paid for flows: it is there.
    pub(super) fn note_life(&mut self) {
        let (now, credited) = (self.now.mono, !self.credited().is_zero());
        if let Some(live) = self.live_mut().filter(|_| credited) {
            live.since = now;
        }
    }

    /// When a backend that checks a payment counts as away.
    fn slow_at(&self, live: &Live) -> Option<Mono> {
        let known = self.flow.has(PauseReason::BackendAway);
        let since = live.receiving_since.filter(|_| !known)?;
        Some(since.after_ms(SLOW_MS))
    }

    pub(super) fn advance_live(&mut self) {
        let now = self.now.mono;
        if (self.flow).is_still_too_long(now, &self.config.terms) {
            return self.close(CloseCode::TimedOut, false);
        }
        self.note_stillness();
        let Some(live) = self.live() else { return };
        let due = |at: Option<Mono>| at.is_some_and(|at| now >= at);
        let (unpaid, slow) = (due(self.unpaid_at(live)), due(self.slow_at(live)));
        let beat = due(live.heartbeat);
        if unpaid {
            return self.close(CloseCode::TimedOut, false);
        }
        if slow {
            self.pause_for(PauseReason::BackendAway);
        }
        self.repeat_offer();
        if beat {
            self.close_at_offer();
            self.beat();
        }
    }

    /// Near the end of the credit, or paused: says its reading and how things stand, for a
    /// message may have been lost.
    pub(super) fn beat(&mut self) {
        let (now, reading) = (self.now.mono, self.metered);
        let idle = self.flow.flows() && !self.is_near_end();
        let Some(live) = self.live_mut() else { return };
        live.heartbeat = (!idle).then(|| now.after_ms(HEARTBEAT_MS));
        if idle {
            return;
        }
        self.say_flow();
        self.send(&Message::Reading(reading));
    }

    /// True while the session is not closing or over, connected or not.
    const fn in_session(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Settling(_) | Phase::Lingering(_) | Phase::Ended
        )
    }

    pub(super) fn pause_for(&mut self, reason: PauseReason) {
        if !self.in_session() || !self.flow.add(reason) {
            return;
        }
        if self.live().is_some() {
            self.shut_gate(reason);
        }
        self.event(Event::Paused {
            by_peer: false,
            reason,
        });
        self.beat();
    }

    /// Ends a pause that had this reason.
    pub(super) fn clear_pause(&mut self, reason: PauseReason) {
        if !self.flow.remove(reason) || self.live().is_none() {
            return;
        }
        self.say_flow();
        if self.flow.flows() {
            self.event(Event::Resumed);
        }
        self.grant();
    }

    pub(super) fn resume_by_user(&mut self) {
        self.clear_pause(PauseReason::ByPayee);
    }

    pub(super) fn on_peer_flow(&mut self, epoch: u64, pause: Option<PauseReason>) {
        let now = self.now.mono;
        if self.live().is_none() || !self.flow.hear(now, epoch, pause) {
            return;
        }
        match pause {
            Some(reason) => self.event(Event::Paused {
                by_peer: true,
                reason,
            }),
            None if self.flow.flows() => self.event(Event::Resumed),
            None => {}
        }
        self.grant();
        self.beat();
    }

    pub(super) fn say_flow(&mut self) {
        if self.live().is_some()
            && let Some(message) = self.flow.message()
        {
            self.send(&message);
        }
    }

    /// Asks again for what a backend that was away has not answered.
    pub(super) fn retry_backend(&mut self) {
        let now = self.now.mono;
        if !self
            .backend_retry
            .as_mut()
            .is_some_and(|retry| retry.due(now))
        {
            return;
        }
        if !self.awaits_backend() {
            return self.backend_is_back();
        }
        if matches!(self.phase, Phase::Settling(_)) {
            self.settle_again();
        } else {
            self.ask_again();
        }
    }

    pub(super) fn try_later(&mut self) {
        let now = self.now.mono;
        self.backend_retry
            .get_or_insert_with(|| Backoff::start(now));
        self.pause_for(PauseReason::BackendAway);
    }

    /// The backend answered: it is back, unless something else is still undone.
    pub(super) fn backend_is_back(&mut self) {
        if self.awaits_backend() {
            return;
        }
        self.backend_retry = None;
        if let Some(live) = self.live_mut() {
            live.receiving_since = None;
        }
        self.clear_pause(PauseReason::BackendAway);
    }

    /// True where the backend owes an answer that the payer does not ask for again.
    fn awaits_backend(&self) -> bool {
        let mut purses = self.record.iter().flat_map(|record| &record.purses);
        purses.any(|purse| purse.receiving.is_some() || purse.state == PurseState::Closing)
    }

    pub(super) fn note_receiving(&mut self) {
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.receiving_since.get_or_insert(now);
        }
    }

    pub(super) fn is_receiving(&self) -> Option<PurseId> {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses
            .filter(|purse| purse.receiving.is_some())
            .map(|purse| purse.id)
            .next()
    }
}
