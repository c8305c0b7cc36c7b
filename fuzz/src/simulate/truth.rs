//! What is true of a session, whatever its sides say.

use std::collections::{BTreeMap, BTreeSet};

use streampay_core::meter::{NextTariff, Reading, Schedule, Tariff};
use streampay_core::units::{Msat, PurseId};
use streampay_core::wire::Hello;

use super::life::{TICK, largest_step, msat};
use super::pause::Asking;

/// Bytes by which the two byte meters may always differ.
const TOLERANCE_BYTES: u64 = 64 * 1024;
/// The same of milliseconds.
const TOLERANCE_MS: u64 = 200;
/// By what two meters may differ, in all.
pub(super) const DIFFER: Reading = Reading {
    media_ms: TOLERANCE_MS,
    bytes: TOLERANCE_BYTES,
};

/// By how much a price that begins at a whole millisecond may be off, in millisatoshi.
const ROUNDED_MSAT: u64 = 4;

/// What is true of a session, whatever its machines say.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) total: u64,
    pub(super) budget: u64,
    /// The most that the user's commands let the payer give as tips.
    pub(super) tips: u64,
    /// What the payee credited as tips.
    pub(super) tipped: u64,
    pub(super) preview_window: u64,
    pub(super) tariff: Tariff,
    /// What passed the gate, and what of it came to the payer.
    pub(super) delivered: Reading,
    pub(super) received: Reading,
    /// The highest reading of the payee's own meter.
    pub(super) payee_meter: Reading,
    pub(super) hello: Option<Hello>,
    pub(super) changes: Vec<NextTariff>,
    pub(super) phases: Vec<Schedule>,
    /// How what passed the gate is priced where there are two meters, and how many of the changes
    /// have begun for it.
    pub(super) passed: Option<Schedule>,
    pub(super) passed_begun: usize,
    /// Ticks and nacks as they were said first.
    pub(super) said: BTreeMap<(PurseId, u64), u64>,
    pub(super) nacked: BTreeSet<(PurseId, u64)>,
    pub(super) credited: u64,
    pub(super) acked: u64,
    /// The price from which the payer agreed to other terms.
    pub(super) agreed_from: Option<Msat>,
    /// What both agreed to last, where the payer has not begun with it.
    pub(super) both: Option<NextTariff>,
    pub(super) steps: u32,
    /// What the payer asks for.
    pub(super) asking: Asking,
}

impl Truth {
    /// What is used at `reading`, by the signed terms and what both agreed to since.
    pub(super) fn price(&self, reading: Reading) -> Msat {
        let phases = self.phases.iter().enumerate().rev();
        let mut begun = phases.filter(|(at, phase)| match self.has_two_meters() {
            true => self.is_beyond(*at, reading),
            false => reading.media_ms >= phase.base.media_ms,
        });
        let Some((at, phase)) = begun.next() else {
            return Schedule::new(self.tariff).used(reading);
        };
        let next = self.changes.get(at).copied();
        Schedule { next, ..*phase }.used(reading)
    }

    /// How far a payer may count what comes while nothing flows, where so much was used and bought: to
    /// the end of what is open, and by as much as two meters may differ, at the dearer of the prices; and
    /// by one step at most.
    /// Spec: pricing 2.3.
    pub(super) fn most_while_still(&self, used: Msat, bought: Msat, by: &Schedule) -> Msat {
        let tariffs = [Some(by.tariff), by.next.map(|next| next.tariff)];
        let differ = tariffs.into_iter().flatten().map(|of| of.price(DIFFER));
        let open = bought.saturating_plus(msat(self.preview_window));
        let open = open.max(used);
        let open = open.saturating_plus(differ.max().unwrap_or_default());
        open.min(bought.max(used).saturating_plus(msat(largest_step())))
    }

    /// True where the tariffs before this phase price `reading` beyond where it begins.
    fn is_beyond(&self, phase: usize, reading: Reading) -> bool {
        let Some(at) = phase.checked_sub(1) else {
            return true;
        };
        let (before, change) = (self.phases.get(at), self.changes.get(at));
        let before = before.map(|before| Schedule {
            next: None,
            ..*before
        });
        before
            .zip(change)
            .is_some_and(|(before, change)| before.used(reading) > change.from)
    }

    /// Notes which of the changes have begun by `reading`.
    pub(super) fn advance(&mut self, reading: Reading) {
        if self.phases.is_empty() {
            self.phases.push(Schedule::new(self.tariff));
        }
        let at = self.phases.len().saturating_sub(1);
        let (Some(next), Some(phase)) = (self.changes.get(at), self.phases.last()) else {
            return;
        };
        let next = Some(*next);
        let mut phase = Schedule { next, ..*phase };
        if phase.advance(reading) {
            phase.known = phase.base;
            self.phases.push(phase);
        }
    }

    /// What of what passed the gate was used. After a crash the payee's meter goes on from what was
    /// durable: with two meters, from more of the one than has passed, and from less of the other.
    /// A new price then begins on the way of what passed, not on the meter's.
    pub(super) fn used_of_delivered(&mut self) -> Msat {
        if !self.has_two_meters() {
            return self.price(self.delivered);
        }
        let passed = self.passed.unwrap_or_else(|| Schedule::new(self.tariff));
        let next = self.changes.get(self.passed_begun).copied();
        let mut schedule = Schedule { next, ..passed };
        let used = schedule.used(self.delivered);
        let begun = schedule.advance(self.delivered);
        self.passed_begun += usize::from(begun);
        let known = self.delivered;
        self.passed = Some(match begun {
            true => Schedule { known, ..schedule },
            false => Schedule { known, ..passed },
        });
        // Each begins at a whole millisecond and a whole byte, which is a little off.
        let off = u64::try_from(self.passed_begun).unwrap_or_default() * ROUNDED_MSAT;
        used.saturating_minus(msat(off))
    }

    /// The payee forgot all: what it gave for nothing is over.
    pub(super) fn forget_delivered(&mut self) {
        (self.delivered, self.passed, self.passed_begun) = (Reading::default(), None, 0);
    }

    pub(super) fn has_two_meters(&self) -> bool {
        self.tariff.time.is_some() && self.tariff.bytes.is_some()
    }

    /// Where two meters are priced, a new price begins on the way between two readings that the
    /// payee was told, of which it may have forgotten one with a crash; what it then counts from
    /// costs as much, and may be less by one of the meters. Where that is, is its word; that it is
    /// on the way, and is all that the agreed amount buys, is judged.
    pub(super) fn take_begin(
        &mut self,
        schedule: &Schedule,
        reading: Reading,
    ) -> Option<(&'static str, String)> {
        if self.phases.is_empty() {
            self.phases.push(Schedule::new(self.tariff));
        }
        let begins =
            |next: &NextTariff| next.from == schedule.base_msat && next.tariff == schedule.tariff;
        let begun = self.changes.iter().rposition(begins).map(|at| at + 1);
        let begun = begun.unwrap_or_default();
        if let Some(at) = begun.checked_sub(1)
            && self.phases.get(begun).map(|phase| phase.base) != Some(schedule.base)
        {
            let next = *self.changes.get(at)?;
            let before = Schedule {
                next: None,
                ..*self.phases.get(at)?
            };
            let beyond = Reading {
                media_ms: schedule.base.media_ms + 1,
                bytes: schedule.base.bytes + 1,
            };
            let all = before.used(schedule.base) <= next.from && before.used(beyond) > next.from;
            let on_the_way = before.known.min(schedule.base) == before.known
                && schedule
                    .base
                    .min(reading.max(before.known).max(schedule.known))
                    == schedule.base;
            if !all || !on_the_way {
                let found =
                    format!("{next:?} after {before:?} began at {schedule:?} by {reading:?}");
                return Some(("Price", found));
            }
            self.phases.truncate(begun);
            self.phases.push(*schedule);
        }
        if let Some(phase) = self.phases.get_mut(begun) {
            phase.known = schedule.known;
        }
        None
    }

    /// What the payer owes for `own`, where its prices are `schedule`. With two meters each price that was
    /// signed begins on its own way, not on the payee's.
    pub(super) fn owed(&self, own: Reading, schedule: &Schedule) -> Msat {
        if !self.has_two_meters() {
            return self.price(own);
        }
        let alone = schedule.alone();
        let both = schedule
            .next
            .is_none_or(|next| self.changes.contains(&next));
        match both {
            true => schedule.used(own),
            false => schedule.used(own).min(alone.used(own)),
        }
    }

    /// One payment, the lead of at most a fifth of a tick, and what the payee says beyond what
    /// came here: as far as that is tolerated, as the payee's meter can have said it, and never
    /// more than a payment.
    pub(super) fn stake(&self, own: Reading, schedule: &Schedule) -> u64 {
        let part = own.media_ms.saturating_mul(20) / 1_000;
        let part_bytes = own.bytes.saturating_mul(20) / 1_000;
        let tolerated = Reading {
            media_ms: own.media_ms + part.max(TOLERANCE_MS),
            bytes: own.bytes + part_bytes.max(TOLERANCE_BYTES),
        };
        let claimed = tolerated.min(self.payee_meter.max(own));
        let (claimed, own) = (self.owed(claimed, schedule), self.owed(own, schedule));
        let drift = claimed.saturating_minus(own).msat().min(largest_step());
        largest_step() + TICK / 5 + drift
    }
}
