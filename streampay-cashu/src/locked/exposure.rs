//! What is credited and not redeemed yet, and what time it is, mint by mint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use streampay_core::backend::Answer;
use streampay_core::units::Msat;

use super::clock::MintClock;
use super::payee::PayeePurse;

/// Sums over all of this node's purses, of both methods where their machines share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposure(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    open: BTreeMap<String, u64>,
    /// Where the limit is another than the policy's.
    most: BTreeMap<String, Msat>,
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

    /// Lets so much be open at this mint.
    pub(super) fn limit(&self, mint: &str, most: Msat) {
        self.with(|sums| sums.most.insert(mint.to_owned(), most));
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
            let most = sums.most.get(purse.mint()).copied();
            purse.set_others(others.unwrap_or_default(), most);
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
