//! What leaves the machine, in the order that keeps the promises.

use super::PayerSession;
use crate::planted;
use crate::session::output::Barrier;
use crate::session::record::stage;
use crate::session::{BackendEvent, Event, Output};
use crate::store::ChangeSet;
use crate::wire::{Message, encode};

impl PayerSession {
    pub(super) fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    pub(super) fn send(&mut self, message: &Message) {
        if self.up.is_some() {
            self.out.push_back(Output::Send(encode(message)));
        }
    }

    pub(super) fn persist(&mut self) {
        let changes = self.changes();
        if !changes.is_empty() {
            self.out.push_back(Output::Persist(changes));
        }
    }

    fn changes(&mut self) -> ChangeSet {
        let mut changes = ChangeSet::new();
        if let Some(record) = &mut self.record {
            stage(record, &mut changes);
        }
        changes
    }

    /// Takes a backend's answer: its changes and the record's become durable together, before
    /// its effects run and before anything is said of its outcome.
    pub(super) fn on_backend(&mut self, event: BackendEvent) {
        let BackendEvent { purse, answer } = event;
        let barrier = Barrier::raise(&mut self.out);
        if let Some(outcome) = answer.outcome {
            self.on_outcome(purse.purse, outcome);
        }
        if let Some(note) = answer.note {
            self.answer_note(purse.purse, &note);
        }
        let mut changes = answer.delta.within_purse(purse);
        if !answer.node_delta.is_empty() {
            let method = self.method_of(purse.purse);
            changes.merge(answer.node_delta.within_node(&method));
        }
        changes.merge(self.changes());
        let effects = answer.effects.into_iter().map(|effect| Output::Effect {
            method: self.method_of(purse.purse),
            effect,
        });
        let effects = effects.collect();
        barrier.set(&mut self.out, changes, effects);
        planted::reorder(&mut self.out, true);
    }
}
