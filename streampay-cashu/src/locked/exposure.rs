//! What is credited and not redeemed yet, and what time it is, mint by mint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use streampay_core::backend::Answer;

use super::clock::MintClock;
use super::payee::PayeePurse;

/// Sums over all of this node's purses, of both methods where their machines share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposure(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    open: BTreeMap<String, u64>,
    /// What any purse learnt of its mint's time goes for all.
    clocks: BTreeMap<String, MintClock>,
}

impl Sums {
    fn add(&mut self, purse: &PayeePurse) {
        let sum = self.open.entry(purse.mint().to_owned()).or_default();
        *sum = sum.saturating_add(purse.open());
    }

    fn remove(&mut self, purse: &PayeePurse) {
        if let Some(sum) = self.open.get_mut(purse.mint()) {
            *sum = sum.saturating_sub(purse.open());
        }
    }
}

impl Exposure {
    fn with<T>(&self, work: impl FnOnce(&mut Sums) -> T) -> T {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut sums)
    }

    pub(super) fn add(&self, purse: &PayeePurse) {
        self.with(|sums| sums.add(purse));
    }

    pub(super) fn remove(&self, purse: &PayeePurse) {
        self.with(|sums| sums.remove(purse));
    }

    /// Lets a purse do something, tells it what others have open at its mint, and counts what it
    /// has then. No two purses do so at once.
    pub(super) fn watch(
        &self,
        purse: &mut PayeePurse,
        work: impl FnOnce(&mut PayeePurse) -> Answer,
    ) -> Answer {
        self.with(|sums| {
            sums.remove(purse);
            let others = sums.open.get(purse.mint()).copied();
            purse.set_others(others.unwrap_or_default());
            purse.hear(sums.clocks.get(purse.mint()).copied());
            let answer = work(purse);
            if let Some(clock) = purse.clock() {
                sums.clocks.insert(purse.mint().to_owned(), clock);
            }
            sums.add(purse);
            answer
        })
    }
}
