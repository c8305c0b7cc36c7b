//! What counts while nothing flows: media that was on its way, as far as the payee could let it through
//! for what it has, and nothing else. Spec: pricing 2.3.

use super::{PayerSession, Stood, TOLERANCE_BYTES, plus};
use crate::meter::Reading;
use crate::planted::{self, Planted};
use crate::session::payer::flow::Live;
use crate::units::{Mono, Msat};
use crate::wire::Terms;

/// How late media may come and still be counted, in milliseconds, where a payment buys no more: what a link
/// holds back while it is bad. Chosen as a tick of the usual terms. Spec: pricing 2.3.
const LATE_MS: u64 = 10_000;

/// Since when the meters stand still, on a connection.
#[derive(Clone, Copy)]
pub(in crate::session::payer) struct Still {
    /// How far the clock reached then, in milliseconds of media: it stands still as well.
    clock_ms: u64,
    pub(in crate::session::payer) since: Mono,
}

impl Live {
    /// How far the reading may be, by the own clock, in milliseconds of media: no further ahead of what it
    /// was when media last came than media is ever late. Time in which nothing came is not sold, neither
    /// later nor by what was claimed before.
    pub(in crate::session::payer) fn clock_ms(&mut self, now: Mono, late_ms: u64) -> u64 {
        let most = self.came_ms.saturating_add(late_ms);
        let clock = self.ran_to(now).min(most);
        (self.base.media_ms, self.since, self.cache_ms) = (clock, now, 0);
        clock
    }

    fn ran_to(&self, now: Mono) -> u64 {
        let ran = now.since_ms(self.since).saturating_add(self.cache_ms);
        self.base.media_ms.saturating_add(ran)
    }
}

impl PayerSession {
    /// Notes that it stopped to flow, or that it flows again: the time between is no time of media.
    pub(in crate::session::payer) fn note_still(&mut self) {
        let (now, flows, metered) = (self.now.mono, self.flow.flows(), self.metered);
        let stops = !flows && self.live().is_some_and(|live| live.still.is_none());
        let late_ms = match stops {
            true => self.clock_late_ms(metered.bytes),
            false => LATE_MS,
        };
        let (late, stood) = (self.uncounted(), self.stood());
        if self.live().is_some() {
            self.stood_at = (!flows).then_some(stood);
            self.paused_before &= !flows;
        }
        let Some(live) = self.live_mut() else { return };
        match live.still {
            None if !flows => {
                let clock_ms = live.clock_ms(now, late_ms);
                live.still = Some(Still {
                    clock_ms,
                    since: now,
                });
                self.late = late;
            }
            Some(still) if flows => {
                live.still = None;
                live.base.media_ms = still.clock_ms.max(metered.media_ms);
                (live.since, live.cache_ms) = (now, 0);
            }
            _ => {}
        }
    }

    /// How late media may come from so much counted media on and still be counted, in milliseconds: a payee
    /// may let through what a payment buys while a link holds all of it back, and then waits for the next one.
    fn late_ms(&self, from: Reading) -> u64 {
        let bought = self.prices().bought_ms(self.with_booked(from), self.step());
        bought.max(LATE_MS)
    }

    /// The same from where media last came, with so many bytes: those that count with it may begin another price of
    /// time. No less than `LATE_MS`, and where the clock has not run further than that it does not matter.
    pub(super) fn clock_late_ms(&self, bytes: u64) -> u64 {
        let Some(live) = self.live() else {
            return LATE_MS;
        };
        let media_ms = live.came_ms;
        if live.ran_to(self.now.mono) <= media_ms.saturating_add(LATE_MS) {
            return LATE_MS;
        }
        self.late_ms(Reading { media_ms, bytes })
    }

    /// The meter's reading without what came while nothing flowed and did not count. A meter that reads
    /// less than before is a new one, which went on from what counts.
    pub(super) fn billed(&mut self, reading: Reading) -> Reading {
        if reading.media_ms < self.heard.media_ms || reading.bytes < self.heard.bytes {
            self.unbilled = Reading::default();
        }
        self.heard = reading;
        reading.since(self.unbilled)
    }

    /// What came on a connection that nobody bound may be anybody's: it never counts, though it be told once that is
    /// gone.
    pub(in crate::session::payer) fn forget_what_came(&mut self) {
        let Some(waited) = self.unbound else { return };
        let kept = plus(self.metered, waited);
        self.unbilled = self.unbilled.max(self.heard.since(kept));
    }

    /// What the meter read by now counts for nothing.
    pub(in crate::session::payer) fn meter_anew(&mut self) {
        (self.metered, self.late) = (Reading::default(), Reading::default());
        self.unbilled = self.heard;
        (self.stood_at, self.paused_before) = (None, false);
    }

    /// What came, may count, and does not yet.
    pub(in crate::session::payer) fn uncounted(&self) -> Reading {
        self.heard.since(self.unbilled).since(self.metered)
    }

    /// Counts what waits for the clock, whether a reading comes or not. Nothing came with that: media stalls.
    pub(in crate::session::payer) fn count_what_waits(&mut self) {
        let now = self.now.mono;
        let due = self.live().is_some_and(|live| now >= live.watch);
        if due && self.flow.flows() && self.uncounted() != Reading::default() {
            self.count(self.heard);
        }
    }

    /// True where this may count now.
    pub(super) fn may_count(&self, grown: Reading) -> bool {
        if self.live().is_none_or(|live| live.still.is_none()) {
            return true;
        }
        self.counts_while_still(grown) || planted::is(Planted::MeterRunsWhilePaused)
    }

    /// What was used when it stopped to flow; where it stopped on no bound connection, what is used now.
    fn stood(&self) -> Stood {
        let now = || self.prices().stood(self.own_reading());
        self.stood_at.unwrap_or_else(now)
    }

    /// True where so much may count while nothing flows, whatever it may come to be worth.
    fn counts_while_still(&self, metered: Reading) -> bool {
        let (stood, at) = (self.stood(), self.with_booked(metered));
        let most = |stood| self.most_while_still(stood);
        self.prices().fit(stood, at, most)
    }

    /// What came while nothing flowed and did not count, for its price or for the clock, never does. What
    /// counts, `counted`, is first what came before.
    pub(super) fn drop_uncounted(&mut self, counted: Reading) {
        if self.live().is_none_or(|live| live.still.is_none()) {
            return self.drop_too_early();
        }
        self.late = self.late.since(counted).min(self.uncounted());
        self.unbilled = self.heard.since(self.metered).since(self.late);
    }

    /// What came while it flows, and is further ahead of what counts than media is ever late, never counts: it
    /// would pay for silence later.
    fn drop_too_early(&mut self) {
        let waits_ms = self.uncounted().media_ms;
        if waits_ms <= LATE_MS {
            return;
        }
        let early = waits_ms.saturating_sub(self.late_ms(self.metered));
        self.unbilled.media_ms = self.unbilled.media_ms.saturating_add(early);
    }

    /// What came and does not count yet is counted by consent, as far as that goes: it does not count once more.
    pub(super) fn drop_booked(&mut self, drift: Reading) {
        let booked = drift.min(self.uncounted());
        self.unbilled = plus(self.unbilled, booked);
        self.late = self.late.since(booked);
    }

    /// Media came on a connection that is not bound, while nothing flows: it does not count once that
    /// is bound and flows, but for what two meters may differ by; nor that, where with it more would be used
    /// than may count while nothing flows.
    pub(super) fn set_aside(&mut self) {
        if self.flow.flows() {
            return self.drop_too_early();
        }
        let (metered, differ) = (self.metered, self.differ());
        let with_differ = plus(metered, differ);
        let kept = match self.counts_while_still(with_differ) {
            true => with_differ,
            false => metered,
        };
        self.unbilled = self.unbilled.max(self.heard.since(kept));
    }

    /// What was bought and not written off, with the terms' preview and window, or what was used when it
    /// stopped to flow, and a little for two meters that differ. Preview, window and tolerance are the payee's own words: together
    /// they are worth no more than a payment.
    fn most_while_still(&self, stood_at: Msat) -> Msat {
        let Some(terms) = self.terms() else {
            return stood_at;
        };
        let credit = self.credit();
        let open = credit.saturating_plus(terms.preview);
        let open = open.saturating_plus(terms.window).max(stood_at);
        let open = open.saturating_plus(self.price_of(self.differ()));
        let paid = credit.max(stood_at);
        let once = match self.paused_before {
            true => Msat::ZERO,
            false => self.step(),
        };
        open.min(paid.saturating_plus(once))
    }

    /// By how much two meters may differ while nothing flows: what the terms tolerate, but nothing where
    /// that costs more than a payment.
    fn differ(&self) -> Reading {
        let differ = |terms: &Terms| Reading {
            media_ms: terms.tolerance_ms.into(),
            bytes: TOLERANCE_BYTES,
        };
        let differ = self.terms().map(differ).unwrap_or_default();
        if self.paused_before || self.price_of(differ) > self.step() {
            return Reading::default();
        }
        differ
    }

    /// By the tariff that holds, or the next where that is dearer and would have begun with it, a payment
    /// further than what is bought or used.
    pub(super) fn price_of(&self, reading: Reading) -> Msat {
        let schedule = self.schedule();
        let price = schedule.tariff.price(reading);
        let here = self.bought().max(self.prices().used(self.own_reading()));
        let reached = here.saturating_plus(self.step()).saturating_plus(price);
        let next = schedule.next.filter(|next| reached > next.from);
        let next = next.map(|next| next.tariff.price(reading));
        price.max(next.unwrap_or_default())
    }
}
