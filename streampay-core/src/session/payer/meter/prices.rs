//! What the payer's meter may come to be worth. What was agreed to holds once the payee confirms it; until then
//! the payee may offer something else in its place, and what holds now goes on. Spec: pricing 4.2.

use crate::meter::{Reading, Schedule};
use crate::session::offer::OfferState;
use crate::session::payer::PayerSession;
use crate::units::Msat;

/// The prices that may come to hold: one schedule, or two until what was agreed to is confirmed.
pub(in crate::session::payer) struct Prices {
    agreed: Schedule,
    alone: Option<Schedule>,
}

/// What was used when it stopped to flow, by each of the prices. A new connection is no new beginning: what
/// may come late would come again with each.
#[derive(Clone, Copy)]
pub(in crate::session::payer) struct Stood {
    agreed: Msat,
    alone: Msat,
}

impl PayerSession {
    pub(in crate::session::payer) fn prices(&self) -> Prices {
        let agreed = self.schedule();
        let record = self.record.as_ref();
        let state = record.and_then(|record| record.common.offer_state());
        let open = state == Some(OfferState::Agreed);
        let alone = open.then(|| agreed.alone());
        Prices { agreed, alone }
    }

    /// What was agreed to is confirmed: that is what everything is worth.
    pub(in crate::session::payer) const fn stood_as_agreed(&mut self) {
        if let Some(stood) = &mut self.stood_at {
            stood.alone = stood.agreed;
        }
    }

    /// What was agreed to and not confirmed does not come to be.
    pub(in crate::session::payer) const fn stood_alone(&mut self) {
        if let Some(stood) = &mut self.stood_at {
            stood.agreed = stood.alone;
        }
    }
}

impl Prices {
    fn each(&self) -> impl Iterator<Item = &Schedule> {
        [Some(&self.agreed), self.alone.as_ref()]
            .into_iter()
            .flatten()
    }

    /// As if it was confirmed.
    pub(super) const fn as_agreed(&self) -> Self {
        Self {
            agreed: self.agreed,
            alone: None,
        }
    }

    /// What grew from one reading to another, by the price by which that is most.
    pub(super) fn grown(&self, from: Reading, to: Reading) -> Msat {
        let grown = self.each().map(|schedule| {
            let used = schedule.used(to);
            used.saturating_minus(schedule.used(from))
        });
        grown.max().unwrap_or_default()
    }

    /// By the dearest.
    pub(in crate::session::payer) fn used(&self, reading: Reading) -> Msat {
        let used = self.each().map(|schedule| schedule.used(reading));
        used.max().unwrap_or_default()
    }

    /// What is used at `own`, where the payee claims as much as `claimed`: no more than `most` is taken on its
    /// word.
    pub(super) fn used_of(&self, own: Reading, claimed: Reading, most: Msat) -> Msat {
        let used = self.each().map(|schedule| {
            let most = schedule.used(own).saturating_plus(most);
            schedule.used(claimed).min(most)
        });
        used.max().unwrap_or_default()
    }

    /// True where `to` costs at most `most` above `from`, or above `least` where that is more: by each.
    pub(super) fn are_within(&self, least: Msat, from: Reading, to: Reading, most: Msat) -> bool {
        self.each().all(|schedule| {
            let from = schedule.used(from).max(least);
            schedule.used(to) <= from.saturating_plus(most)
        })
    }

    /// How much media time `step` buys from `from` on, by each, in milliseconds. Spec: pricing 2.3.
    pub(super) fn bought_ms(&self, from: Reading, step: Msat) -> u64 {
        let bought = self.each().map(|schedule| schedule.bought_ms(from, step));
        bought.min().unwrap_or_default()
    }

    pub(super) fn stood(&self, at: Reading) -> Stood {
        let agreed = self.agreed.used(at);
        let alone = self.alone.map_or(agreed, |alone| alone.used(at));
        Stood { agreed, alone }
    }

    /// True where `at` costs no more than `most` lets what stood grow to, by each.
    pub(super) fn fit(&self, stood: Stood, at: Reading, most: impl Fn(Msat) -> Msat) -> bool {
        let alone = self.alone.map(|alone| (alone, stood.alone));
        let each = [Some((self.agreed, stood.agreed)), alone];
        (each.into_iter().flatten()).all(|(by, stood)| by.used(at) <= most(stood))
    }
}

#[cfg(test)]
mod tests;
