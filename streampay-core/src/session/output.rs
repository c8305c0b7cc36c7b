//! The queue of what a machine wants done.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Output;
use crate::store::ChangeSet;

/// The next output. A queue that is empty keeps no memory: with thousands of sessions each would
/// have some of its own that no cache holds.
pub(super) fn next_output(out: &mut VecDeque<Output>) -> Option<Output> {
    let next = out.pop_front();
    if next.is_none() {
        *out = VecDeque::new();
    }
    next
}

/// A place in the queue for records that are not known yet: they become durable before what is
/// said behind it.
pub(super) struct Barrier(usize);

impl Barrier {
    /// Takes the next place.
    pub(super) fn raise(out: &mut VecDeque<Output>) -> Self {
        let at = out.len();
        out.push_back(Output::Persist(ChangeSet::new()));
        Self(at)
    }

    /// Puts the records in it, and the effects right behind them.
    pub(super) fn set(self, out: &mut VecDeque<Output>, changes: ChangeSet, effects: Vec<Output>) {
        if let Some(place) = out.get_mut(self.0) {
            *place = Output::Persist(changes);
        }
        for (effect, at) in effects.into_iter().zip(self.0.saturating_add(1)..) {
            out.insert(at, effect);
        }
    }
}
