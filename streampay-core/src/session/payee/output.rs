//! What leaves the machine, in the order that keeps the promises.

use alloc::string::String;

use super::PayeeSession;
use crate::backend::Request;
use crate::meter::{Grant, PauseReason};
use crate::planted;
use crate::session::output::Barrier;
use crate::session::record::{method_name, stage, stage_removal};
use crate::session::{BackendEvent, Event, Output};
use crate::store::ChangeSet;
use crate::units::{PurseId, PurseKey, RequestId};
use crate::wire::{Message, encode};

impl PayeeSession {
    pub(super) fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    pub(super) fn send(&mut self, message: &Message) {
        if self.up.is_some() {
            self.out.push_back(Output::Send(encode(message)));
        }
    }

    pub(super) fn gate(&mut self, grant: Grant) {
        self.out.push_back(Output::Gate(grant));
    }

    pub(super) fn shut_gate(&mut self, reason: PauseReason) {
        self.gate(Grant::Paused(reason));
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
            // One in which nothing ever was cannot be paid twice: strangers leave nothing behind.
            if record.common.settled && record.is_empty() {
                stage_removal(record, &mut changes);
            } else {
                stage(record, &mut changes);
            }
        }
        changes
    }

    /// Takes a backend's answer: its changes and the record's become durable together, before
    /// its effects run and before anything is said of its outcome.
    pub(super) fn on_backend(&mut self, event: BackendEvent) {
        let BackendEvent { purse, answer } = event;
        let barrier = Barrier::raise(&mut self.out);
        let writes = !answer.delta.is_empty() || !answer.node_delta.is_empty();
        if let Some(record) = self.record.as_mut().filter(|_| writes) {
            record.kept = true;
        }
        if let Some(outcome) = answer.outcome {
            self.on_outcome(purse.purse, outcome);
        }
        if let Some(note) = answer.note {
            self.leave_note(purse.purse, note);
        }
        if let Some(error) = answer.trouble {
            let purse = purse.purse;
            self.event(Event::Unredeemed { purse, error });
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
        planted::reorder(&mut self.out, false);
    }

    pub(super) fn method_of(&self, id: PurseId) -> String {
        let method = self.purse(id).map(|purse| purse.method).unwrap_or_default();
        method_name(&self.config.terms, method)
    }

    pub(super) fn ask(&mut self, id: PurseId, request_id: RequestId, request: Request) {
        let Some(session) = self.session else { return };
        let method = self.method_of(id);
        let purse = PurseKey { session, purse: id };
        self.out.push_back(Output::Backend {
            method,
            purse,
            id: request_id,
            request,
        });
    }
}
