//! Live: what flows, and what stops it. Lead, pauses, repetitions, retries.

use alloc::vec::Vec;

use bytes::Bytes;

use super::meter::WATCH_MS;
use super::{PayerSession, Phase};
use crate::meter::{PauseReason, Reading, Tariff};
use crate::session::pace::{Backoff, Pace};
use crate::session::record::{Fate, PayerPurse, PurseState};
use crate::session::{CloseCode, Event};
use crate::units::{Mono, Msat, PurseId};

/// How often a side that does not flow says so again, in milliseconds.
const HEARTBEAT_MS: u64 = 2_000;

/// Both sides are bound.
pub(super) struct Live {
    /// When to say again how things stand; set while nothing flows.
    heartbeat: Option<Mono>,
    /// What the payee says it delivered.
    pub(super) hint: Reading,
    /// When the reading last grew by what came.
    pub(super) progress: Mono,
    /// When it last grew, by the clock alone too, with the time since then for which nothing flowed.
    pub(super) counted_at: Mono,
    pub(super) stalled: bool,
    /// When to look for stalls next.
    pub(super) watch: Mono,
    pub(super) since: Mono,
    pub(super) base: Reading,
    /// What counted when media last came, in milliseconds of media.
    pub(super) came_ms: u64,
    /// Set while nothing flows.
    pub(super) still: Option<super::meter::Still>,
    decided_at: Mono,
    /// Milliseconds from deciding to pay to the ack, the last measured.
    ack_ms: Option<u64>,
    ack_retry: Option<Backoff>,
    purse_retry: Option<Backoff>,
    /// When to say again that an offer is agreed to.
    pub(super) agree_retry: Option<Backoff>,
    /// What came for the media last.
    pub(super) grant: Option<Bytes>,
    /// How often something else came for it.
    pub(super) grants: Pace,
    pub(super) wants_receipt: bool,
    /// What was said in the payee's room.
    pub(super) talk: super::member::Talk,
    /// New offers of other terms that came on this connection.
    pub(super) offers: u8,
    /// How far the reading may be ahead of the clock, in milliseconds.
    pub(super) cache_ms: u64,
    /// Hints that said more than may be noted.
    pub(super) far: Pace,
}

impl Live {
    pub(super) fn new(now: Mono, reading: Reading, cache_ms: u64) -> Self {
        Self {
            heartbeat: None,
            hint: Reading::default(),
            progress: now,
            counted_at: now,
            stalled: false,
            watch: now.after_ms(WATCH_MS),
            since: now,
            base: reading,
            came_ms: reading.media_ms,
            still: None,
            decided_at: now,
            ack_ms: None,
            ack_retry: None,
            purse_retry: None,
            agree_retry: None,
            grant: None,
            grants: Pace::default(),
            wants_receipt: false,
            talk: super::member::Talk::default(),
            offers: 0,
            cache_ms,
            far: Pace::default(),
        }
    }

    pub(super) fn timeout(&self, flows: bool) -> Option<Mono> {
        let retries = [self.ack_retry, self.purse_retry, self.agree_retry];
        let retries = retries.into_iter().flatten().map(|retry| retry.at());
        let watch = flows.then_some(self.watch);
        let times = retries.chain(self.heartbeat).chain(watch);
        times.chain(self.talk.timeout()).min()
    }

    /// How much may be left when the next tick is paid, in millisatoshi.
    pub(super) fn lead(&self, tick: Msat, tariff: &Tariff) -> Msat {
        let ms = self.ack_ms.unwrap_or_default().saturating_mul(2);
        tariff.lead(tick, ms)
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

    /// The payment under way was answered, or is none any more.
    pub(super) const fn await_nothing(&mut self) {
        self.ack_retry = None;
    }

    pub(super) fn offered(&mut self, now: Mono) {
        self.purse_retry.get_or_insert_with(|| Backoff::start(now));
    }

    /// It flows again: the time for which nothing did is no time in which media stalls.
    fn stood_still(&mut self, now: Mono) {
        let still_ms = self.still.map_or(0, |still| now.since_ms(still.since));
        self.counted_at = self.counted_at.after_ms(still_ms).min(now);
    }

    pub(super) fn acknowledged(&mut self, now: Mono) {
        if self
            .ack_retry
            .take()
            .is_some_and(|retry| !retry.is_overdue())
        {
            self.ack_ms = Some(now.since_ms(self.decided_at));
        }
    }
}

impl PayerSession {
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

    /// True while the session is not closing or over, connected or not.
    pub(super) const fn in_session(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Closing(_) | Phase::Releasing(_) | Phase::Ended
        )
    }

    pub(super) fn advance_live(&mut self) {
        self.count_what_waits();
        self.watch_drift();
        self.repeat();
        self.watch_stillness();
        self.repeat_agree();
        self.heartbeat();
        self.watch_stall();
        self.provide_purse();
        self.advance_member();
        self.maybe_pay();
        self.note_still();
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
        if ack_due && !self.repeat_pending() {
            self.await_nothing();
        } else if overdue {
            self.pause_for(PauseReason::AckOverdue);
        }
        if purse_due && !self.repeat_offers() {
            self.offer_nothing();
        }
    }

    /// True where there is a payment to repeat.
    fn repeat_pending(&mut self) -> bool {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        let sent = purses.filter(|purse| {
            purse
                .pending
                .as_ref()
                .is_some_and(|pending| pending.fate == Fate::UnderWay && pending.is_made())
        });
        let Some(id) = sent.map(|purse| purse.id).next() else {
            return false;
        };
        self.send_pending(id);
        true
    }

    /// True where there is an offer to repeat.
    fn repeat_offers(&mut self) -> bool {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        let offered = purses.filter(|purse| purse.state == PurseState::Offered);
        let offered: Vec<PurseId> = offered.map(|purse| purse.id).collect();
        let late = (self.live())
            .is_some_and(|live| live.purse_retry.is_some_and(|retry| retry.is_overdue()));
        for id in &offered {
            self.offer_purse(*id);
            if late {
                // The payee does not answer: another method may do.
                self.fail_method(*id);
            }
        }
        !offered.is_empty()
    }

    const fn offer_nothing(&mut self) {
        if let Some(live) = self.live_mut() {
            live.purse_retry = None;
        }
    }

    pub(super) const fn await_nothing(&mut self) {
        if let Some(live) = self.live_mut() {
            live.await_nothing();
        }
    }

    /// Ends a session that stands still for too long.
    fn watch_stillness(&mut self) {
        let Some(record) = &self.record else { return };
        if (self.flow).is_still_too_long(self.now.mono, record.common.terms()) {
            self.close(CloseCode::TimedOut, false);
        }
    }

    fn heartbeat(&mut self) {
        let (now, flows) = (self.now.mono, self.flow.flows());
        let Some(live) = self.live_mut() else { return };
        if flows {
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

    /// Stops signing. Every reason has its own way out.
    pub(super) fn pause_for(&mut self, reason: PauseReason) {
        if !self.in_session() || !self.flow.add(reason) {
            return;
        }
        self.say_flow();
        self.event(Event::Paused {
            by_peer: false,
            reason,
        });
    }

    /// Ends a pause that had this reason.
    pub(super) fn clear_pause(&mut self, reason: PauseReason) {
        if !self.flow.remove(reason) {
            return;
        }
        self.say_flow();
        self.flows_again();
    }

    fn flows_again(&mut self) {
        let (now, flows) = (self.now.mono, self.flow.flows());
        let Some(live) = self.live_mut() else { return };
        live.progress = now;
        if flows {
            live.stood_still(now);
            self.event(Event::Resumed);
        }
    }

    /// What the user can end: the own pause, then drift by consent. Other pauses end with their
    /// cause.
    pub(super) fn resume_by_user(&mut self) {
        if self.flow.has(PauseReason::ByPayer) {
            return self.clear_pause(PauseReason::ByPayer);
        }
        if self.flow.has(PauseReason::Drift) {
            self.book_drift();
            self.clear_pause(PauseReason::Drift);
        }
    }

    pub(super) fn on_peer_flow(&mut self, epoch: u64, pause: Option<PauseReason>) {
        let now = self.now.mono;
        if !matches!(self.phase, Phase::Live(_)) || !self.flow.hear(now, epoch, pause) {
            return;
        }
        if let Some(reason) = pause {
            self.event(Event::Paused {
                by_peer: true,
                reason,
            });
        }
        self.flows_again();
    }

    /// The backend is away: nothing is lost, the same again in a while.
    pub(super) fn try_later(&mut self) {
        self.retry_later();
        self.pause_for(PauseReason::BackendAway);
    }

    /// The same, while another purse can pay.
    pub(super) fn retry_later(&mut self) {
        let now = self.now.mono;
        self.backend_retry
            .get_or_insert_with(|| Backoff::start(now));
    }

    /// Asks the backend again for what it could not do.
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
        if matches!(self.phase, Phase::Releasing(_)) {
            self.release_again();
        } else {
            self.ask_again();
        }
    }

    /// The backend answered, or another purse opened: it goes on, unless something else is still
    /// undone.
    pub(super) fn backend_is_back(&mut self) {
        if !self.awaits_backend() {
            self.backend_retry = None;
        }
        let purses = self.record.iter().flat_map(|record| &record.purses);
        let held_up = purses.clone().any(Self::awaits_payment) || self.waits_for_purse();
        if self.backend_retry.is_none() || !held_up {
            self.clear_pause(PauseReason::BackendAway);
        }
    }

    /// True where the fate of a payment is in the backend's hands.
    fn awaits_payment(purse: &PayerPurse) -> bool {
        let pending = purse.pending.as_ref();
        pending.is_some_and(|pending| !pending.is_made() || pending.is_refused())
    }

    /// True where the backend owes an answer.
    fn awaits_backend(&self) -> bool {
        let mut purses = self.record.iter().flat_map(|record| &record.purses);
        let releasing = matches!(self.phase, Phase::Releasing(_));
        purses.any(|purse| match purse.state {
            PurseState::Opening => true,
            PurseState::Closing => releasing,
            PurseState::Done => false,
            PurseState::Offered | PurseState::Open => Self::awaits_payment(purse),
        })
    }

    pub(super) fn say_flow(&mut self) {
        if matches!(self.phase, Phase::Live(_))
            && let Some(message) = self.flow.message()
        {
            self.send(&message);
        }
    }
}
