//! Purses as the payee sees them: collected in parts, shown to the backend, accepted or refused.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use minicbor::bytes::ByteArray;

use super::{PayeeSession, Phase};
use crate::backend::{BackendError, PurseOffer, RefusalCode, Request};
use crate::planted::{self, Planted};
use crate::session::parts::{Parts, frames};
use crate::session::record::{PayeePurse, PurseState};
use crate::session::{Event, Misbehaviour, TaggedHash};
use crate::units::{Msat, PurseId, Seq};
use crate::wire::{METHODS_MAX, Message, Purse, PurseOk, PurseRefused};

/// The most purses that one payer may open in one session. Matches what a payer opens.
const PURSES_MAX: usize = 400;

/// The most before anything is credited: one of each method that terms can list. Each is a write
/// to disk and a call to its backend.
const UNPAID_PURSES_MAX: usize = METHODS_MAX;

/// How often all notes are said again on one connection, for the asking: a few hundred bytes ask for
/// half a megabyte. Once does, and twice more over a link that loses messages.
const NOTES_MAX: u8 = 3;

/// How often purses that are being checked may be shown again, over all connections: one in so many milliseconds on
/// average, and so many at once. A sound payer shows each after 2, 4 and 8 s. Spec: session 4.
const SHOWN_EVERY_MS: u64 = 1_000;
const SHOWN: u64 = 8;

/// The most answers to notes that our backend is shown of one session: one for every purse, and some.
const ANSWERS_MAX: u16 = 1_024;

impl PayeeSession {
    pub(super) fn on_purse_part(&mut self, part: Purse) {
        if matches!(self.phase, Phase::Settling(_)) {
            return self.on_note_answer(part);
        }
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let id = part.purse;
        if planted::after_restart(Planted::PurseTakenAnew)
            && let Some(purse) = self.purse_mut(id)
        {
            (purse.credited, purse.seq) = (Msat::ZERO, Seq(0));
        }
        match self.purse(id).map(|purse| purse.state) {
            Some(PurseState::Open) => return self.send(&Message::PurseOk(PurseOk { purse: id })),
            Some(PurseState::Closing | PurseState::Done) => {
                let code = RefusalCode::OutOfOrder;
                return self.send(&Message::PurseRefused(PurseRefused { purse: id, code }));
            }
            // Being checked, or not known yet: it may have to be asked again after a restart.
            _ => {}
        }
        let Some(live) = self.live_mut() else { return };
        let other = live.parts.as_ref().is_none_or(|parts| parts.purse() != id);
        if other {
            live.parts = Some(Parts::new(&part));
        }
        let Some(parts) = &mut live.parts else { return };
        let method = part.method;
        if !parts.add(part) {
            return self.misbehaved(Misbehaviour::PurseParts);
        }
        if let Some(opening) = parts.joined() {
            live.parts = None;
            self.accept_purse(id, method, opening);
        }
    }

    fn accept_purse(&mut self, id: PurseId, method: u8, opening: Bytes) {
        let hash = opening_hash(&opening);
        let now = self.now.mono;
        if self.purse(id).is_some() && !self.shown.take(now, SHOWN_EVERY_MS, SHOWN) {
            // Each is a write to disk and a question to a mint or a chain.
            return;
        }
        match self.purse(id) {
            Some(known) if *known.opening != hash => {
                return self.misbehaved(Misbehaviour::PurseParts);
            }
            Some(_) => {}
            None => {
                if !self.add_purse(id, method, hash) {
                    return self.misbehaved(Misbehaviour::PurseParts);
                }
            }
        }
        let Some(record) = &self.record else { return };
        let Some(purse) = self.purse(id) else { return };
        let terms = &self.config.terms;
        let params = terms.methods.get(usize::from(method));
        let offer = PurseOffer {
            params: params
                .map(|method| Bytes::copy_from_slice(&method.params))
                .unwrap_or_default(),
            tick: terms.tick,
            payer_key: record.common.fixed.peer_key,
            payee_key: self.key.public(),
        };
        let request = purse.request;
        self.ask(id, request, Request::Accept { offer, opening });
    }

    fn add_purse(&mut self, id: PurseId, method: u8, opening: [u8; 32]) -> bool {
        let listed = usize::from(method) < self.config.terms.methods.len();
        let most = if self.credited().is_zero() {
            UNPAID_PURSES_MAX
        } else {
            PURSES_MAX
        };
        let Some(record) = &mut self.record else {
            return false;
        };
        let new = record.purses.iter().all(|purse| purse.id != id);
        if !listed || !new || record.purses.len() >= most {
            return false;
        }
        let request = record.common.request_id();
        record.purses.push(PayeePurse {
            id,
            method,
            state: PurseState::Opening,
            capacity: Msat::ZERO,
            credited: Msat::ZERO,
            seq: Seq(0),
            last: None,
            refusal: None,
            receiving: None,
            opening: ByteArray::from(opening),
            request,
            settled: Msat::ZERO,
            step: record.common.terms().tick,
        });
        true
    }

    pub(super) fn on_accepted(&mut self, id: PurseId, capacity: Msat, quantum: Msat) {
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Opening {
            return;
        }
        purse.state = PurseState::Open;
        purse.capacity = capacity;
        purse.step = purse.step.round_up_to(quantum).unwrap_or(Msat::MAX);
        self.event(Event::PurseOpen {
            purse: id,
            capacity,
        });
        self.send_in_live(&Message::PurseOk(PurseOk { purse: id }));
        self.backend_is_back();
    }

    pub(super) fn accept_failed(&mut self, id: PurseId, error: BackendError) {
        self.event(Event::BackendTrouble { error });
        let code = match error {
            // The payer shows its purse again, and then it is asked again.
            BackendError::Transient | BackendError::Unknown => return,
            BackendError::Rejected(code, _) | BackendError::Fatal(code) => code,
        };
        if let Some(purse) = self.purse_mut(id) {
            purse.state = PurseState::Done;
        }
        self.event(Event::PurseRefused { purse: id, code });
        self.send_in_live(&Message::PurseRefused(PurseRefused { purse: id, code }));
    }

    /// Keeps what the payer's machine is to be shown of a purse, and shows it where a payer listens.
    pub(super) fn leave_note(&mut self, id: PurseId, note: Bytes) {
        self.notes.insert(id, note);
        if matches!(
            self.phase,
            Phase::Live(_) | Phase::Settling(_) | Phase::Lingering(_)
        ) {
            self.say_note(id);
        }
    }

    /// Shows a payer that came back what it may have missed.
    pub(super) fn say_notes(&mut self) {
        let Some(up) = self.up.as_mut().filter(|up| up.notes_said < NOTES_MAX) else {
            return;
        };
        up.notes_said = up.notes_said.saturating_add(1);
        let ids: Vec<PurseId> = self.notes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.say_note(id));
    }

    fn say_note(&mut self, id: PurseId) {
        let Some(note) = self.notes.get(&id).cloned() else {
            return;
        };
        let method = self.purse(id).map(|purse| purse.method).unwrap_or_default();
        for frame in frames(id, method, &note) {
            self.send(&Message::Purse(frame));
        }
    }

    /// What the payer's backend makes of our note: in one part, of a purse that settles.
    fn on_note_answer(&mut self, part: Purse) {
        let settles =
            |purse: &PayeePurse| purse.state == PurseState::Closing && purse.method == part.method;
        let settles = self.purse(part.purse).is_some_and(settles);
        let expected = settles && self.notes.contains_key(&part.purse);
        if part.of != 1 || !expected || !self.is_known() {
            return;
        }
        self.answers = self.answers.saturating_add(1);
        let Some(record) = self.record.as_mut().filter(|_| self.answers <= ANSWERS_MAX) else {
            return;
        };
        let request = record.common.request_id();
        let bytes = part.bytes;
        self.ask(part.purse, request, Request::Note { bytes });
    }

    /// Sends what makes sense on a bound connection only.
    pub(super) fn send_in_live(&mut self, message: &Message) {
        if matches!(self.phase, Phase::Live(_)) {
            self.send(message);
        }
    }
}

impl PayeeSession {
    /// The session's purses and the names of their methods.
    #[must_use]
    pub fn purses(&self) -> Vec<(PurseId, String)> {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses
            .map(|purse| (purse.id, self.method_of(purse.id)))
            .collect()
    }
}

/// What an opening is known again by.
fn opening_hash(opening: &[u8]) -> [u8; 32] {
    TaggedHash::new("streampay/purse/v1")
        .blob(opening)
        .finish()
        .0
}

#[cfg(test)]
mod tests;
