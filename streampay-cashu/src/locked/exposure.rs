//! What is credited and not redeemed yet, mint by mint.

use std::collections::BTreeMap;

use streampay_core::backend::Answer;

use super::payee::PayeePurse;

/// Sums over all of this node's purses.
#[derive(Debug)]
pub(super) struct Exposure(BTreeMap<String, u64>);

impl Exposure {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, purse: &PayeePurse) {
        let sum = self.0.entry(purse.mint().to_owned()).or_default();
        *sum = sum.saturating_add(purse.open());
    }

    pub(super) fn remove(&mut self, purse: &PayeePurse) {
        if let Some(sum) = self.0.get_mut(purse.mint()) {
            *sum = sum.saturating_sub(purse.open());
        }
    }

    /// Lets a purse do something, tells it what others have open at its mint, and counts what it
    /// has then.
    pub(super) fn watch(
        &mut self,
        purse: &mut PayeePurse,
        work: impl FnOnce(&mut PayeePurse) -> Answer,
    ) -> Answer {
        self.remove(purse);
        let others = self.0.get(purse.mint()).copied();
        purse.set_others(others.unwrap_or_default());
        let answer = work(purse);
        self.add(purse);
        answer
    }
}
