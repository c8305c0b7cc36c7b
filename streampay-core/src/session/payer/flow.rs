//! Live: what flows, and what stops it. Meters, lead, pauses, drift, stalls.

use super::{PayerSession, Phase};
use crate::meter::{PauseReason, Reading};
use crate::session::pace::Backoff;
use crate::session::record::{Fate, PurseState};
use crate::session::{CloseCode, Event};
use crate::units::{Mono, Msat};
use crate::wire::{Message, Pause, Resume, Terms};

/// The least lead, in milliseconds. Source: DESIGN 1.
const LEAD_MIN_MS: u64 = 100;
/// The most lead, as a part of a tick: 20 %. Source: DESIGN 1.
const LEAD_MAX_PART: u64 = 5;
/// How far the own reading may be ahead of the own clock, in milliseconds: a replayed cache.
/// Source: DESIGN 8.
const CACHE_MS: u64 = 2_000;
/// How often the reading is made durable, in milliseconds of media. Source: DESIGN 4.
const CHECKPOINT_MS: u64 = 1_000;
/// How often a side that does not flow says so again, in milliseconds.
const HEARTBEAT_MS: u64 = 2_000;
/// When nothing is left to pay with and nothing came for so long, in milliseconds, the credit
/// is used up but for less than one packet.
const USED_UP_MS: u64 = 500;
/// Bytes by which the two byte meters may always differ: packets on their way.
const TOLERANCE_BYTES: u64 = 64 * 1024;

/// Both sides are bound.
pub(super) struct Live {
    own_pause: Option<PauseReason>,
    peer_pause: Option<PauseReason>,
    own_epoch: u64,
    peer_epoch: u64,
    /// When to say again how things stand; set while nothing flows.
    heartbeat: Option<Mono>,
    /// No purse opens any more.
    pub(super) dry: bool,
    reading: Reading,
    /// What the payee says it delivered.
    hint: Reading,
    /// When the reading last grew.
    progress: Mono,
    stalled: bool,
    /// When to look for stalls next.
    watch: Mono,
    since: Mono,
    base: Reading,
    decided_at: Mono,
    /// Milliseconds from deciding to pay to the ack, the last measured.
    ack_ms: Option<u64>,
    ack_retry: Option<Backoff>,
    purse_retry: Option<Backoff>,
    backend_retry: Option<Backoff>,
    refusals: u8,
}

impl Live {
    pub(super) fn new(now: Mono, reading: Reading) -> Self {
        Self {
            own_pause: None,
            peer_pause: None,
            own_epoch: 0,
            peer_epoch: 0,
            heartbeat: None,
            dry: false,
            reading,
            hint: Reading::default(),
            progress: now,
            stalled: false,
            watch: now.after_ms(USED_UP_MS),
            since: now,
            base: reading,
            decided_at: now,
            ack_ms: None,
            ack_retry: None,
            purse_retry: None,
            backend_retry: None,
            refusals: 0,
        }
    }

    pub(super) fn timeout(&self) -> Option<Mono> {
        let retries = [self.ack_retry, self.purse_retry, self.backend_retry];
        let retries = retries.into_iter().flatten().map(|retry| retry.at());
        // Stalls and the end of the credit are noticed at half a second's grain.
        let watch = self.flows().then_some(self.watch);
        retries.chain(self.heartbeat).chain(watch).min()
    }

    pub(super) const fn flows(&self) -> bool {
        self.own_pause.is_none() && self.peer_pause.is_none()
    }

    /// How much may be left when the next tick is paid, in millisatoshi.
    pub(super) fn lead(&self, terms: Option<&Terms>) -> Msat {
        let Some(terms) = terms else {
            return Msat::ZERO;
        };
        let most = Msat::new(terms.tick.msat() / LEAD_MAX_PART).unwrap_or_default();
        let ms = self
            .ack_ms
            .unwrap_or_default()
            .saturating_mul(2)
            .max(LEAD_MIN_MS);
        match (terms.tariff.time, terms.tariff.bytes) {
            (Some(_), None) => terms
                .tariff
                .price(Reading {
                    media_ms: ms,
                    bytes: 0,
                })
                .min(most),
            _ => most,
        }
    }

    pub(super) const fn decided(&mut self, now: Mono) {
        self.decided_at = now;
    }

    /// A payment leaves for the first time.
    pub(super) fn sent(&mut self, now: Mono) {
        self.ack_retry = Some(Backoff::start(now));
    }

    /// A payment left again, on a new connection.
    pub(super) fn await_ack(&mut self, now: Mono) {
        self.ack_retry.get_or_insert_with(|| Backoff::start(now));
    }

    pub(super) fn offered(&mut self, now: Mono) {
        self.purse_retry.get_or_insert_with(|| Backoff::start(now));
    }

    pub(super) fn acknowledged(&mut self, now: Mono) {
        if self
            .ack_retry
            .take()
            .is_some_and(|retry| !retry.is_overdue())
        {
            self.ack_ms = Some(now.since_ms(self.decided_at));
        }
        self.refusals = 0;
    }

    pub(super) const fn count_refusal(&mut self) -> u8 {
        self.ack_retry = None;
        self.refusals = self.refusals.saturating_add(1);
        self.refusals
    }
}

impl PayerSession {
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

    /// True while the session is not closing or over, connected or not.
    pub(super) const fn in_session(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Closing(_) | Phase::Releasing(_) | Phase::Ended
        )
    }

    /// What is used: the own reading, or the payee's as far as drift is tolerated.
    pub(super) fn used(&self) -> Msat {
        let Some(record) = &self.record else {
            return Msat::ZERO;
        };
        let own = self.own_reading();
        let reading = match self.live() {
            Some(live) => own.max(live.hint.min(tolerated(own, &record.common.terms.0))),
            None => own,
        };
        self.schedule().used(reading)
    }

    /// The own meter, with the drift that was consented to.
    fn own_reading(&self) -> Reading {
        let Some(record) = &self.record else {
            return Reading::default();
        };
        let own = self
            .live()
            .map_or(record.common.reading, |live| live.reading);
        Reading {
            media_ms: own.media_ms.saturating_add(record.booked.media_ms),
            bytes: own.bytes.saturating_add(record.booked.bytes),
        }
    }

    pub(super) fn on_usage(&mut self, reading: Reading) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        let clock = now.since_ms(live.since).saturating_add(CACHE_MS);
        let most = live.base.media_ms.saturating_add(clock);
        let capped = Reading {
            media_ms: reading.media_ms.min(most),
            ..reading
        };
        let grown = live.reading.max(capped);
        if grown == live.reading {
            return;
        }
        live.reading = grown;
        live.progress = now;
        live.stalled = false;
        let Some(record) = &mut self.record else {
            return;
        };
        if grown.since(record.common.reading).media_ms >= CHECKPOINT_MS {
            record.common.reading = grown;
            self.persist();
        }
    }

    /// The payee's reading: a hint, good for no more than the tolerance.
    pub(super) fn on_hint(&mut self, hint: Reading) {
        if let Some(live) = self.live_mut() {
            live.hint = live.hint.max(hint);
        }
    }

    pub(super) fn advance_live(&mut self) {
        self.watch_drift();
        self.repeat();
        self.heartbeat();
        self.watch_stall();
        self.provide_purse();
        self.maybe_pay();
    }

    fn watch_drift(&mut self) {
        let Some(live) = self.live() else { return };
        let Some(record) = &self.record else { return };
        let terms = &record.common.terms.0;
        let schedule = self.schedule();
        let allowed = schedule.used(tolerated(self.own_reading(), terms));
        let drift = schedule.used(live.hint).saturating_minus(allowed);
        if live.own_pause.is_none() && drift > super::pay::tick_amount(terms) {
            self.pause_for(PauseReason::Drift);
        }
    }

    /// Says again what was not answered in time.
    fn repeat(&mut self) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        let ack_due = live.ack_retry.as_mut().is_some_and(|retry| retry.due(now));
        let overdue = ack_due && live.ack_retry.is_some_and(|retry| retry.is_overdue());
        let purse_due = live
            .purse_retry
            .as_mut()
            .is_some_and(|retry| retry.due(now));
        let backend_due = live.backend_retry.is_some_and(|retry| now >= retry.at());
        if backend_due {
            live.backend_retry = None;
        }
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        if ack_due {
            purses
                .iter()
                .filter(|purse| purse.pending.is_some())
                .for_each(|purse| {
                    self.send_pending(purse.id);
                });
        }
        if overdue {
            self.pause_for(PauseReason::AckOverdue);
        }
        if purse_due {
            let offered = purses
                .iter()
                .filter(|purse| purse.state == PurseState::Offered);
            let count = offered.map(|purse| self.offer_purse(purse.id)).count();
            if count == 0
                && let Some(live) = self.live_mut()
            {
                live.purse_retry = None;
            }
        }
        if backend_due {
            self.ask_again();
        }
    }

    fn heartbeat(&mut self) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if live.flows() {
            live.heartbeat = None;
            return;
        }
        let due = live.heartbeat.is_none_or(|at| now >= at);
        let first = live.heartbeat.is_none();
        if due {
            live.heartbeat = Some(now.after_ms(HEARTBEAT_MS));
        }
        if due && !first {
            self.say_flow();
        }
    }

    fn watch_stall(&mut self) {
        let stall_close_ms = self.config.policy.stall_close_ms;
        let (ahead, now) = (self.ahead(), self.now.mono);
        let Some(live_ms) = self.terms().map(|terms| u64::from(terms.live_ms)) else {
            return;
        };
        let Some(live) = self.live_mut() else { return };
        if now >= live.watch {
            live.watch = now.after_ms(USED_UP_MS);
        }
        let quiet = now.since_ms(live.progress);
        if !live.flows() || ahead.is_zero() {
            return;
        }
        if quiet >= stall_close_ms {
            return self.close(CloseCode::MediaStalled, false);
        }
        if quiet >= live_ms && !live.stalled {
            live.stalled = true;
            self.event(Event::Stalled { ms: quiet });
            self.pause_if_they_differ();
        }
    }

    /// Nothing comes because the payee's meter is at the end of the credit and ours is not, by
    /// more than is tolerated: going on takes consent.
    fn pause_if_they_differ(&mut self) {
        let Some(live) = self.live() else { return };
        let (hint, lead) = (self.schedule().used(live.hint), live.lead(self.terms()));
        if hint > self.used() && hint.saturating_plus(lead) >= self.paid() {
            self.pause_for(PauseReason::Drift);
        }
    }

    /// Ends the session once nothing is left to pay with and what was paid is used.
    pub(super) fn close_when_used_up(&mut self) {
        let (ahead, now) = (self.ahead(), self.now.mono);
        let Some(live) = self.live() else { return };
        let quiet = now.since_ms(live.progress) >= USED_UP_MS;
        if live.dry && (ahead.is_zero() || quiet) {
            self.close(CloseCode::BudgetSpent, false);
        }
    }

    pub(super) fn pause_by_user(&mut self, reason: PauseReason) {
        let Some(live) = self.live_mut() else { return };
        live.own_pause = None;
        self.pause_for(reason);
    }

    /// Stops signing. Every reason has its own way out.
    pub(super) fn pause_for(&mut self, reason: PauseReason) {
        let Some(live) = self.live_mut() else { return };
        if live.own_pause.is_some() {
            return;
        }
        live.own_pause = Some(reason);
        live.own_epoch = live.own_epoch.saturating_add(1);
        self.say_flow();
        self.event(Event::Paused {
            by_peer: false,
            reason,
        });
    }

    /// Ends a pause that had this reason.
    pub(super) fn clear_pause(&mut self, reason: PauseReason) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if live.own_pause != Some(reason) {
            return;
        }
        live.own_pause = None;
        live.own_epoch = live.own_epoch.saturating_add(1);
        live.progress = now;
        let flows = live.flows();
        self.say_flow();
        if flows {
            self.event(Event::Resumed);
        }
    }

    /// What the user can end: the own pause, and drift by consent. Other pauses end with their
    /// cause.
    pub(super) fn resume_by_user(&mut self) {
        let own = self.own_reading();
        let Some(live) = self.live() else { return };
        let (pause, hint) = (live.own_pause, live.hint);
        if pause == Some(PauseReason::Drift)
            && let Some(record) = &mut self.record
        {
            let drift = hint.since(own);
            record.booked = Reading {
                media_ms: record.booked.media_ms.saturating_add(drift.media_ms),
                bytes: record.booked.bytes.saturating_add(drift.bytes),
            };
            self.persist();
        }
        match pause {
            Some(reason @ (PauseReason::ByPayer | PauseReason::Drift)) => self.clear_pause(reason),
            _ => {}
        }
    }

    pub(super) fn on_peer_flow(&mut self, epoch: u64, pause: Option<PauseReason>) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        if epoch <= live.peer_epoch {
            return;
        }
        live.peer_epoch = epoch;
        let changed = live.peer_pause != pause;
        live.peer_pause = pause;
        live.progress = now;
        let flows = live.flows();
        match pause {
            Some(reason) if changed => self.event(Event::Paused {
                by_peer: true,
                reason,
            }),
            None if changed && flows => self.event(Event::Resumed),
            _ => {}
        }
    }

    /// The backend is away: nothing is lost, the same again in a while.
    pub(super) fn try_later(&mut self) {
        let now = self.now.mono;
        if let Phase::Releasing(releasing) = &mut self.phase {
            releasing.retry_from(now);
            return;
        }
        let Some(live) = self.live_mut() else { return };
        live.backend_retry
            .get_or_insert_with(|| Backoff::start(now));
        let refused = self
            .record
            .iter()
            .flat_map(|record| &record.purses)
            .any(|purse| {
                purse
                    .pending
                    .as_ref()
                    .is_some_and(|pending| pending.fate == Fate::Refused)
            });
        if !refused {
            self.pause_for(PauseReason::BackendAway);
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
}

/// How far the payee's reading may be ahead of ours and is still paid. Spec: metering 5.
fn tolerated(own: Reading, terms: &Terms) -> Reading {
    let permille = u64::from(terms.tolerance_permille);
    let part = |quantity: u64| quantity / 1000 * permille + quantity % 1000 * permille / 1000;
    let ms = part(own.media_ms.min(u64::MAX / 1000)).max(u64::from(terms.tolerance_ms));
    let bytes = part(own.bytes.min(u64::MAX / 1000)).max(TOLERANCE_BYTES);
    Reading {
        media_ms: own.media_ms.saturating_add(ms),
        bytes: own.bytes.saturating_add(bytes),
    }
}
