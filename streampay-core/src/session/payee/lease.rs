//! How far the gate may let media through: never beyond what is durable.

use super::PayeeSession;
use crate::meter::{Grant, Reading};
use crate::planted::{self, Planted};
use crate::session::lease::lease;
use crate::session::record::PayeePurse;
use crate::units::Msat;

impl PayeeSession {
    /// Everything that may be used: preview, credit and window, and nothing of what is only
    /// offered.
    pub(super) fn reach(&self) -> Msat {
        let preview = self.record.as_ref().map(|record| record.preview);
        let counted = |purse: &PayeePurse| match &purse.receiving {
            Some(tick) if planted::is(Planted::GateBeforeCredit) => tick.cumulative,
            _ => purse.credited,
        };
        let reach = self
            .sum(counted)
            .saturating_minus(match planted::is(Planted::TipBuysMedia) {
                true => Msat::ZERO,
                false => self.tips(),
            })
            .saturating_plus(preview.unwrap_or_default())
            .saturating_plus(self.config.terms.window);
        let common = self.record.as_ref().map(|record| &record.common);
        let ceiling = common.and_then(|common| common.ceiling());
        ceiling.map_or(reach, |ceiling| reach.min(ceiling))
    }

    /// What was used of the free preview.
    #[must_use]
    pub fn preview_used(&self) -> Msat {
        let preview = self.record.as_ref().map(|record| record.preview);
        let used = self.schedule().used(self.metered);
        used.saturating_minus(self.bought())
            .min(preview.unwrap_or_default())
    }

    pub(super) fn on_usage(&mut self, reading: Reading) {
        let grown = self.metered.max(reading);
        if grown == self.metered {
            return;
        }
        self.metered = grown;
        self.note_life();
        self.advance_schedule(grown);
        self.extend_lease();
        if self.is_near_end() && self.live().is_some_and(|live| live.heartbeat.is_none()) {
            self.beat();
        }
    }

    /// Tells the gate how far it may go, after a lease that reaches that far is durable.
    pub(super) fn grant(&mut self) {
        if self.live().is_none() {
            return;
        }
        if let Some(reason) = self.flow.pause() {
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
        let flows = self.live().is_some() && self.flow.flows();
        let (reading, lease) = (self.metered, lease(&self.config.terms));
        let half = Reading {
            media_ms: reading.media_ms.saturating_add(lease.media_ms / 2),
            bytes: reading.bytes.saturating_add(lease.bytes / 2),
        };
        let longer = Reading {
            media_ms: reading.media_ms.saturating_add(lease.media_ms),
            bytes: reading.bytes.saturating_add(lease.bytes),
        };
        let Some(record) = &mut self.record else {
            return false;
        };
        let leased = record.common.reading;
        let low = leased.media_ms < half.media_ms || leased.bytes < half.bytes;
        if !flows || !low || schedule.worth(leased) >= reach {
            return false;
        }
        record.common.reading = leased.max(longer);
        if !planted::is(Planted::LeaseNotDurable) {
            self.persist();
        }
        self.open_gate();
        true
    }

    fn open_gate(&mut self) {
        let schedule = self.schedule();
        let Some(record) = &self.record else { return };
        // Rounded down: with two meters another reading may cost as much by rounding alone, and
        // after a restart, when the lease counts as used, what follows must not become free.
        let limit = self.reach().min(schedule.worth(record.common.reading));
        self.gate(Grant::Open { limit, schedule });
    }

    /// True where less than a fifth of a tick is left: the payer should have paid by now, if its
    /// meter reads what ours does.
    pub(super) fn is_near_end(&self) -> bool {
        self.left().msat() <= self.config.terms.tick.msat() / 5
    }

    /// True where no more is left than the least lead: the next payment is due, however fast the payer pays.
    pub(super) fn is_due(&self) -> bool {
        let tick = self.config.terms.tick;
        self.left() <= self.schedule().tariff.lead(tick, 0)
    }

    /// What may still be used.
    fn left(&self) -> Msat {
        let used = self.schedule().used(self.metered);
        self.reach().saturating_minus(used)
    }
}
