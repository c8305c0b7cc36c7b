//! The payer's meter against the payee's word: what counts as used, drift, stalls.

mod prices;
mod still;

use super::PayerSession;
use super::flow::Live;
use crate::meter::{PauseReason, Rate, Reading, Tariff, last_on_way};
use crate::planted::{self, Planted};
use crate::session::lease::lease;
use crate::session::{CloseCode, Event};
use crate::units::Msat;
use crate::wire::Terms;

pub(super) use prices::{Prices, Stood};
pub(super) use still::Still;

/// How far the own reading may be ahead of the own clock, in milliseconds: a replayed cache. After
/// a reconnect no more than the connection was away, or each would be worth as much again.
/// Spec: pricing 2.3.
const CACHE_MS: u64 = 2_000;
/// How often the reading is made durable, in milliseconds of media. Spec: pricing 7.3.
const CHECKPOINT_MS: u64 = 1_000;
/// The same in money: so many parts of a tick, as a payee's lease. Spec: pricing 7.3.
const CHECKPOINT_PARTS: u64 = 4;
/// How often stalls and the end of the credit are looked for, in milliseconds. When nothing is
/// left to pay with and nothing came for so long, the credit is used up but for less than a
/// packet.
pub(super) const WATCH_MS: u64 = 500;
/// Bytes by which the two byte meters may always differ: packets on their way.
const TOLERANCE_BYTES: u64 = 64 * 1024;
/// Hints that say more than may be noted, and are looked at: one in so many milliseconds on average, and so
/// many at once. Each takes some thousand prices. Spec: pricing 5.1.
const FAR_EVERY_MS: u64 = 100;
const FAR_BURST: u64 = 16;

impl PayerSession {
    /// What is used: by the own meter, or by the payee's as far as drift is tolerated, and never
    /// more than one tick of drift. Spec: introduction 3.
    pub(super) fn used(&self) -> Msat {
        let Some(record) = &self.record else {
            return Msat::ZERO;
        };
        let (own, terms) = (self.own_reading(), record.common.terms());
        let prices = self.prices();
        let Some(live) = self.live() else {
            return prices.used(own);
        };
        if planted::is(Planted::DriftUnbounded) {
            return prices.used(own.max(live.hint));
        }
        let claimed = own.max(live.hint.min(tolerated(own, terms)));
        prices.used_of(own, claimed, self.step())
    }

    /// The own meter, with the drift that was consented to.
    pub(super) fn own_reading(&self) -> Reading {
        self.with_booked(self.metered)
    }

    fn with_booked(&self, metered: Reading) -> Reading {
        plus(metered, self.booked())
    }

    /// How much of a cache the connection that is now bound may replay.
    pub(super) fn cache_ms(&self) -> u64 {
        let away = self.lost.map(|lost| self.now.mono.since_ms(lost));
        away.map_or(CACHE_MS, |away| away.min(CACHE_MS))
    }

    pub(super) fn on_usage(&mut self, reading: Reading) {
        let before = self.metered;
        let came = reading != self.heard;
        self.count(reading);
        self.forget_what_came();
        let (now, grew) = (self.now.mono, self.grew(before));
        if let Some(live) = self.live_mut().filter(|_| came && grew) {
            live.progress = now;
            live.stalled = false;
        }
    }

    /// Counts of the meter's reading what may count by now.
    fn count(&mut self, reading: Reading) {
        let now = self.now.mono;
        let came = reading.media_ms != self.heard.media_ms;
        let reading = self.billed(reading);
        let late_ms = self.clock_late_ms(reading.bytes.max(self.metered.bytes));
        let Some(live) = self.live_mut() else {
            return self.set_aside();
        };
        let most = live.clock_ms(now, late_ms);
        let capped = Reading {
            media_ms: reading.media_ms.min(most),
            ..reading
        };
        let grown = self.metered.max(capped);
        let before = self.metered;
        if self.may_count(grown) {
            self.metered = grown;
        }
        let metered = self.metered;
        if let Some(live) = self.live_mut().filter(|_| came) {
            live.came_ms = metered.media_ms;
        }
        self.drop_uncounted(metered.since(before));
        if self.metered == before {
            return;
        }
        let grew = self.grew(before);
        if let Some(live) = self.live_mut().filter(|_| grew) {
            live.counted_at = now;
        }
        self.advance_schedule();
        self.checkpoint(grown);
    }

    /// True where more counts than before of a meter that costs something, by the tariff that holds or by the
    /// next; where none does, of any.
    fn grew(&self, before: Reading) -> bool {
        let schedule = self.schedule();
        let next = schedule.next.map(|next| next.tariff);
        let tariffs = [Some(schedule.tariff), next];
        let sells = |rate: fn(Tariff) -> Option<Rate>| {
            let mut rates = tariffs.into_iter().flatten().filter_map(rate);
            rates.any(|rate| !rate.msat().is_zero())
        };
        let (time, bytes) = (sells(|tariff| tariff.time), sells(|tariff| tariff.bytes));
        let grown = self.metered.since(before);
        let free = !time && !bytes;
        (grown.media_ms > 0 && (time || free)) || (grown.bytes > 0 && (bytes || free))
    }

    /// Makes the reading durable, where what came since it last was is a second of media, or is worth a
    /// part of a payment, by whichever meter.
    fn checkpoint(&mut self, reading: Reading) {
        let tick = self.terms().map(|terms| terms.tick).unwrap_or_default();
        let prices = self.prices();
        let Some(record) = &mut self.record else {
            return;
        };
        let last = record.common.reading;
        let booked = record.booked;
        let grown = prices.grown(plus(last, booked), plus(reading, booked));
        let grown = grown.msat();
        let long = reading.since(last).media_ms >= CHECKPOINT_MS;
        if long || grown.saturating_mul(CHECKPOINT_PARTS) >= tick.msat() {
            record.common.reading = reading;
            self.persist();
        }
    }

    /// The payee's reading: a hint, good for no more than the tolerance. Of one that says more than a payment and
    /// a lease beyond what was paid, or came here, no more than that is noted: consent to drift is consent to
    /// no more. A payee that delivered more for its window says so again.
    pub(super) fn on_hint(&mut self, hint: Reading) {
        // Together with what it said before: meter by meter each may be within, and both not.
        let hint = self.live().map_or(hint, |live| live.hint.max(hint));
        let (own, bought, most) = (self.own_reading(), self.bought(), self.drift_max());
        let prices = self.prices();
        let fits = |prices: &Prices, at| prices.are_within(bought, own, at, most);
        let confirmed = prices.as_agreed();
        // By what was agreed to it may be right: the confirmation is on its way, and it is said again.
        if !fits(&prices, hint) && fits(&confirmed, hint) {
            return;
        }
        if fits(&prices, hint) {
            return self.note_hint(hint);
        }
        let now = self.now.mono;
        let looks = |live: &mut Live| live.far.take(now, FAR_EVERY_MS, FAR_BURST);
        if self.live_mut().is_some_and(looks) {
            self.note_hint(last_on_way(own, own.max(hint), |at| fits(&prices, at)));
        }
        self.pause_for(PauseReason::Drift);
    }

    const fn note_hint(&mut self, hint: Reading) {
        if let Some(live) = self.live_mut() {
            live.hint = hint;
        }
    }

    /// What the payee's meter may be ahead by, and a consent may cost: a payment, and a lease, which a
    /// payee that restarted counts as used beyond its credit.
    fn drift_max(&self) -> Msat {
        let leased = self.terms().map(lease).unwrap_or_default();
        self.step().saturating_plus(self.price_of(leased))
    }

    /// The payee says its reading where it is paused or near the end of the credit: it may have
    /// missed how things stand here.
    pub(super) fn on_reading(&mut self, reading: Reading) {
        if self.live().is_none() {
            return;
        }
        self.on_hint(reading);
        self.say_flow();
    }

    /// Pauses where the two meters differ by more than a tick.
    pub(super) fn watch_drift(&mut self) {
        let Some(live) = self.live() else { return };
        let (own, hint, most) = (self.own_reading(), live.hint, self.step());
        if !self.prices().are_within(Msat::ZERO, own, hint, most) {
            self.pause_for(PauseReason::Drift);
        }
    }

    pub(super) fn watch_stall(&mut self) {
        let stall_close_ms = self.config.policy.stall_close_ms;
        let (ahead, lead, now) = (self.ahead(), self.lead(), self.now.mono);
        let flows = self.flow.flows();
        let waits = self.is_beyond_offer(self.step());
        let Some(live_ms) = self.terms().map(|terms| u64::from(terms.live_ms)) else {
            return;
        };
        // The payee says when its source is live, the own policy how long that may take.
        let live_ms = live_ms.min(stall_close_ms).max(WATCH_MS);
        let Some(live) = self.live_mut() else { return };
        if now >= live.watch {
            live.watch = now.after_ms(WATCH_MS);
        }
        let (quiet, stands) = (now.since_ms(live.progress), now.since_ms(live.counted_at));
        if !flows || ahead.is_zero() {
            return;
        }
        // What came and waits for the clock is no reason to ask anybody, or to end. Pauses between are none not
        // to end.
        if stands >= stall_close_ms && !(waits && ahead <= lead) {
            return self.close(CloseCode::MediaStalled, false);
        }
        if waits || quiet < live_ms {
            return;
        }
        if !live.stalled {
            live.stalled = true;
            self.event(Event::Stalled { ms: quiet });
        }
        if stands >= live_ms {
            self.pause_if_they_differ();
        }
    }

    /// Nothing comes because the payee's meter is at the end of the credit and ours is not, by
    /// more than is tolerated: going on takes consent.
    fn pause_if_they_differ(&mut self) {
        let Some(live) = self.live() else { return };
        let (hint, lead) = (self.prices().used(live.hint), self.lead());
        if hint > self.used() && hint.saturating_plus(lead) >= self.credit() {
            self.pause_for(PauseReason::Drift);
        }
    }

    /// True where what is paid is used, but for less than a packet.
    pub(super) fn is_used_up(&self) -> bool {
        self.ahead().is_zero() || self.quiet_ms() >= WATCH_MS
    }

    /// How long nothing has counted, in milliseconds. Asked while it flows: time in which nothing did is left out,
    /// so that a payee which pauses again and again holds up no deadline.
    pub(super) fn quiet_ms(&self) -> u64 {
        let counted = self.live().map(|live| live.counted_at);
        self.now.mono.since_ms(counted.unwrap_or(self.now.mono))
    }

    /// How much may be left when the next tick is paid.
    pub(super) fn lead(&self) -> Msat {
        let terms = self.live().zip(self.terms());
        let tariff = self.schedule().tariff;
        terms.map_or(Msat::ZERO, |(live, terms)| live.lead(terms.tick, &tariff))
    }

    /// The payer consents to the drift: it counts as used from here on. One consent costs no more than
    /// a payment and a lease; where the meters differ by more, another is asked for. What waits for the clock
    /// is part of it.
    pub(super) fn book_drift(&mut self) {
        let own = self.own_reading();
        let Some(hint) = self.live().map(|live| live.hint) else {
            return;
        };
        let (prices, most) = (self.prices(), self.drift_max());
        let fits = |reading: Reading| prices.are_within(Msat::ZERO, own, reading, most);
        let drift = last_on_way(own, own.max(hint), fits).since(own);
        self.drop_booked(drift);
        let Some(record) = &mut self.record else {
            return;
        };
        record.booked = plus(record.booked, drift);
        // It is a reading like any other: what it paid for is never priced anew.
        self.advance_schedule();
        self.persist();
    }
}

/// Meter by meter.
const fn plus(one: Reading, other: Reading) -> Reading {
    Reading {
        media_ms: one.media_ms.saturating_add(other.media_ms),
        bytes: one.bytes.saturating_add(other.bytes),
    }
}

/// How far the payee's reading may be ahead of ours and is still paid. Spec: pricing 5.
fn tolerated(own: Reading, terms: &Terms) -> Reading {
    let permille = u128::from(terms.tolerance_permille);
    let part = |quantity: u64| {
        let part = u128::from(quantity).saturating_mul(permille) / 1000;
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let ms = part(own.media_ms).max(u64::from(terms.tolerance_ms));
    let bytes = part(own.bytes).max(TOLERANCE_BYTES);
    Reading {
        media_ms: own.media_ms.saturating_add(ms),
        bytes: own.bytes.saturating_add(bytes),
    }
}

#[cfg(test)]
mod tests;
