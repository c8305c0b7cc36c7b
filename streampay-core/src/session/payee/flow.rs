//! Live: how far the gate may let media through, and what stops it.

use super::{PayeeSession, Phase};
use crate::meter::{Grant, PauseReason, Reading};
use crate::session::pace::Backoff;
use crate::session::{CloseCode, Event};
use crate::units::{Mono, Msat, PurseId};
use crate::wire::{Message, Pause, Resume, Terms};

/// What a lease adds to the reading, in milliseconds. Source: DESIGN 4.
const LEASE_MS: u64 = 1_000;
/// What a lease adds to the reading, in bytes: a second at 2 Mbit/s.
const LEASE_BYTES: u64 = 256 * 1024;
/// How often a side that does not flow says so again, and its reading near the end of the
/// credit, in milliseconds.
const HEARTBEAT_MS: u64 = 2_000;
/// How long a backend may check a payment before it counts as away, in milliseconds.
const SLOW_MS: u64 = 3_000;

/// Both sides are bound.
pub(super) struct Live {
    own_pause: Option<PauseReason>,
    peer_pause: Option<PauseReason>,
    own_epoch: u64,
    peer_epoch: u64,
    /// When to say again how things stand; set while nothing flows.
    heartbeat: Option<Mono>,
    pub(super) reading: Reading,
    since: Mono,
    /// When the backend got the payment that it is checking.
    pub(super) receiving_since: Option<Mono>,
    pub(super) backend_retry: Option<Backoff>,
    /// The purse whose parts are being collected.
    pub(super) parts: Option<super::purses::Parts>,
}

impl Live {
    pub(super) fn new(now: Mono, reading: Reading) -> Self {
        Self {
            own_pause: None,
            peer_pause: None,
            own_epoch: 0,
            peer_epoch: 0,
            heartbeat: None,
            reading,
            since: now,
            receiving_since: None,
            backend_retry: None,
            parts: None,
        }
    }

    pub(super) fn timeout(&self, unpaid: bool, unpaid_ms: u64) -> Option<Mono> {
        let retry = self.backend_retry.map(|retry| retry.at());
        let unpaid = unpaid.then(|| self.since.after_ms(unpaid_ms));
        let slow = self.receiving_since.filter(|_| self.own_pause.is_none());
        let slow = slow.map(|since| since.after_ms(SLOW_MS));
        [retry, unpaid, slow, self.heartbeat]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) const fn flows(&self) -> bool {
        self.own_pause.is_none() && self.peer_pause.is_none()
    }

    fn pause(&self) -> Option<PauseReason> {
        self.own_pause.or(self.peer_pause)
    }
}

impl PayeeSession {
    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) => Some(live),
            _ => None,
        }
    }

    /// Everything that may be used: preview, credit and window.
    pub(super) fn reach(&self) -> Msat {
        let terms = &self.config.terms;
        self.credited()
            .saturating_plus(terms.preview)
            .saturating_plus(terms.window)
    }

    pub(super) fn on_usage(&mut self, reading: Reading) {
        let Some(live) = self.live_mut() else { return };
        let grown = live.reading.max(reading);
        if grown == live.reading {
            return;
        }
        live.reading = grown;
        self.extend_lease();
        if self.is_near_end() && self.live().is_some_and(|live| live.heartbeat.is_none()) {
            self.beat();
        }
    }

    /// Tells the gate how far it may go, after a lease that reaches that far is durable.
    pub(super) fn grant(&mut self) {
        let Some(live) = self.live() else { return };
        if let Some(reason) = live.pause() {
            return self.shut_gate(reason);
        }
        if !self.extend_lease() {
            self.open_gate();
        }
    }

    /// Makes a longer lease durable and tells the gate, where half of the last one is used and
    /// the credit reaches further. True where it did.
    fn extend_lease(&mut self) -> bool {
        let (schedule, reach) = (self.schedule(), self.reach());
        let Some(live) = self.live() else {
            return false;
        };
        let reading = live.reading;
        let half = Reading {
            media_ms: reading.media_ms.saturating_add(LEASE_MS / 2),
            bytes: reading.bytes.saturating_add(LEASE_BYTES / 2),
        };
        let longer = Reading {
            media_ms: reading.media_ms.saturating_add(LEASE_MS),
            bytes: reading.bytes.saturating_add(LEASE_BYTES),
        };
        let flows = live.flows();
        let Some(record) = &mut self.record else {
            return false;
        };
        let leased = record.common.reading;
        let low = leased.media_ms < half.media_ms || leased.bytes < half.bytes;
        if !flows || !low || schedule.used(leased) >= reach {
            return false;
        }
        record.common.reading = leased.max(longer);
        self.persist();
        self.open_gate();
        true
    }

    fn open_gate(&mut self) {
        let schedule = self.schedule();
        let Some(record) = &self.record else { return };
        let limit = self.reach().min(schedule.used(record.common.reading));
        self.gate(Grant::Open { limit, schedule });
    }

    pub(super) fn advance_live(&mut self) {
        let now = self.now.mono;
        let unpaid = self.credited().is_zero();
        let unpaid_ms = self.config.unpaid_ms;
        let Some(live) = self.live() else { return };
        if unpaid && now >= live.since.after_ms(unpaid_ms) {
            return self.close(CloseCode::TimedOut, false);
        }
        if live
            .receiving_since
            .is_some_and(|since| now >= since.after_ms(SLOW_MS))
        {
            self.pause_for(PauseReason::BackendAway);
        }
        self.retry_backend();
        if self
            .live()
            .is_some_and(|live| live.heartbeat.is_some_and(|at| now >= at))
        {
            self.beat();
        }
    }

    /// Near the end of the credit, or paused: says its reading and how things stand, for a
    /// message may have been lost.
    fn beat(&mut self) {
        let now = self.now.mono;
        let near_end = self.is_near_end();
        let Some(live) = self.live_mut() else { return };
        if live.flows() && !near_end {
            live.heartbeat = None;
            return;
        }
        live.heartbeat = Some(now.after_ms(HEARTBEAT_MS));
        let reading = live.reading;
        self.say_flow();
        self.send(&Message::Reading(reading));
    }

    /// True where less than a fifth of a tick is left: the payer should have paid by now, if its
    /// meter reads what ours does.
    fn is_near_end(&self) -> bool {
        let Some(live) = self.live() else {
            return false;
        };
        let left = self
            .reach()
            .saturating_minus(self.schedule().used(live.reading));
        left.msat() <= self.config.terms.tick.msat() / 5
    }

    pub(super) fn pause_by_user(&mut self, reason: PauseReason) {
        if let Some(live) = self.live_mut() {
            live.own_pause = None;
        }
        self.pause_for(reason);
    }

    pub(super) fn pause_for(&mut self, reason: PauseReason) {
        let Some(live) = self.live_mut() else { return };
        if live.own_pause.is_some() {
            return;
        }
        live.own_pause = Some(reason);
        live.own_epoch = live.own_epoch.saturating_add(1);
        self.shut_gate(reason);
        self.event(Event::Paused {
            by_peer: false,
            reason,
        });
        self.beat();
    }

    /// Ends a pause that had this reason.
    pub(super) fn clear_pause(&mut self, reason: PauseReason) {
        let Some(live) = self.live_mut() else { return };
        if live.own_pause != Some(reason) {
            return;
        }
        live.own_pause = None;
        live.own_epoch = live.own_epoch.saturating_add(1);
        let flows = live.flows();
        self.say_flow();
        if flows {
            self.event(Event::Resumed);
        }
        self.grant();
    }

    pub(super) fn resume_by_user(&mut self) {
        self.clear_pause(PauseReason::ByPayee);
    }

    pub(super) fn on_peer_flow(&mut self, epoch: u64, pause: Option<PauseReason>) {
        let Some(live) = self.live_mut() else { return };
        if epoch <= live.peer_epoch {
            return;
        }
        live.peer_epoch = epoch;
        let changed = live.peer_pause != pause;
        live.peer_pause = pause;
        let flows = live.flows();
        match pause {
            Some(reason) if changed => self.event(Event::Paused {
                by_peer: true,
                reason,
            }),
            None if changed && flows => self.event(Event::Resumed),
            _ => {}
        }
        if changed {
            self.grant();
            self.beat();
        }
    }

    fn say_flow(&mut self) {
        let Some(live) = self.live() else { return };
        let epoch = live.own_epoch;
        let message = match live.own_pause {
            Some(reason) => Message::Pause(Pause { epoch, reason }),
            None if epoch == 0 => return,
            None => Message::Resume(Resume { epoch }),
        };
        self.send(&message);
    }

    /// Asks again for what a backend that was away has not answered.
    pub(super) fn retry_backend(&mut self) {
        let now = self.now.mono;
        let retry = match &mut self.phase {
            Phase::Live(live) => &mut live.backend_retry,
            Phase::Settling(settling) => &mut settling.backend_retry,
            _ => return,
        };
        if retry.as_mut().is_some_and(|retry| retry.due(now)) {
            self.ask_again();
        }
    }

    pub(super) const fn backend_timeout(&self) -> Option<Mono> {
        None
    }

    pub(super) fn try_later(&mut self) {
        let now = self.now.mono;
        let retry = match &mut self.phase {
            Phase::Live(live) => &mut live.backend_retry,
            Phase::Settling(settling) => &mut settling.backend_retry,
            _ => return,
        };
        retry.get_or_insert_with(|| Backoff::start(now));
        self.pause_for(PauseReason::BackendAway);
    }

    /// The backend answered: it is back.
    pub(super) fn backend_is_back(&mut self) {
        if let Some(live) = self.live_mut() {
            live.backend_retry = None;
            live.receiving_since = None;
        }
        self.clear_pause(PauseReason::BackendAway);
    }

    pub(super) fn note_receiving(&mut self) {
        let now = self.now.mono;
        if let Some(live) = self.live_mut() {
            live.receiving_since.get_or_insert(now);
        }
    }

    pub(super) fn offered_tick(terms: &Terms) -> Msat {
        crate::session::payer::tick_amount(terms)
    }

    pub(super) fn is_receiving(&self) -> Option<PurseId> {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses
            .filter(|purse| purse.receiving.is_some())
            .map(|purse| purse.id)
            .next()
    }
}
