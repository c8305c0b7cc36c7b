//! Opening purses: the first one, and the next before one runs dry.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use minicbor::bytes::ByteVec;

use super::{PayerSession, Phase, pay::tick_amount};
use crate::backend::{BackendError, PurseOffer, RefusalCode, Request};
use crate::meter::PauseReason;
use crate::session::record::{Fate, PayerPurse, PurseState, method_name};
use crate::session::{CloseCode, Event, Output};
use crate::units::{Msat, PurseId, RequestId, Seq};
use crate::wire::{Message, Purse, Terms};

/// The most purses of one session. With 64 ticks a purse that is about three days of ticks of
/// 10 s; the record stays below a few tens of KiB.
const PURSES_MAX: usize = 400;
/// A purse with less than so many ticks left is followed by another.
const LOW_TICKS: u64 = 3;
/// The largest part of an opening in one message: a message less its frame, rounded down.
const PART: usize = 15 * 1024;

impl PayerSession {
    /// The first method of the payer's that the terms list too.
    pub(super) fn choose_method(&self, terms: &Terms) -> Option<u8> {
        let position = |wanted: &String| {
            let at = terms
                .methods
                .iter()
                .position(|method| method.name == *wanted)?;
            u8::try_from(at).ok()
        };
        self.config.policy.methods.iter().find_map(position)
    }

    /// What the budget leaves for another purse.
    pub(super) fn budget_left(&self) -> Msat {
        let cost = self.sum(|purse| purse.cost);
        self.config.policy.budget.saturating_minus(cost)
    }

    /// Opens another purse where the ones there are run low and the budget allows it.
    pub(super) fn provide_purse(&mut self) {
        let Some(record) = &self.record else { return };
        let tick = tick_amount(&record.common.terms.0);
        let Ok(low) = tick.times(LOW_TICKS) else {
            return;
        };
        let usable = |purse: &PayerPurse| match purse.state {
            PurseState::Opening | PurseState::Offered => true,
            PurseState::Open => purse.capacity.saturating_minus(purse.paid) >= low,
            PurseState::Closing | PurseState::Done => false,
        };
        let dry = self.live().is_some_and(|live| live.dry);
        if dry || record.purses.iter().any(usable) || record.purses.len() >= PURSES_MAX {
            return;
        }
        let budget = self.budget_left();
        match self.choose_method(&record.common.terms.0) {
            Some(method) if budget >= tick => self.open_purse(method, budget),
            _ => self.run_dry(),
        }
    }

    fn open_purse(&mut self, method: u8, budget: Msat) {
        let Some(record) = &mut self.record else {
            return;
        };
        let id = PurseId(u32::try_from(record.purses.len()).unwrap_or(u32::MAX));
        let request = record.common.request_id();
        record.purses.push(PayerPurse {
            id,
            method,
            state: PurseState::Opening,
            capacity: budget,
            cost: budget,
            paid: Msat::ZERO,
            acked: Msat::ZERO,
            seq: Seq(0),
            pending: None,
            opening: ByteVec::from(Vec::new()),
            request,
            refunded: Msat::ZERO,
        });
        self.persist();
        self.ask_to_open(id);
    }

    /// Asks the backend to open the purse, also again after a restart: same id, same words.
    pub(super) fn ask_to_open(&mut self, id: PurseId) {
        let Some(record) = &self.record else { return };
        let Some(purse) = self.purse(id) else { return };
        let terms = &record.common.terms.0;
        let params = terms.methods.get(usize::from(purse.method));
        let offer = PurseOffer {
            params: params
                .map(|method| Bytes::copy_from_slice(&method.params))
                .unwrap_or_default(),
            tick: tick_amount(terms),
            payer_key: self.key.public(),
            payee_key: record.common.peer_key,
        };
        let (capacity, budget, request) = (purse.capacity, purse.cost, purse.request);
        self.ask(
            id,
            request,
            Request::Open {
                offer,
                capacity,
                budget,
            },
        );
    }

    pub(super) fn ask(&mut self, id: PurseId, request_id: RequestId, request: Request) {
        let method = self.method_of(id);
        let purse = self.purse_key(id);
        self.out.push_back(Output::Backend {
            method,
            purse,
            id: request_id,
            request,
        });
    }

    pub(super) fn on_opened(&mut self, id: PurseId, opening: &Bytes, capacity: Msat, cost: Msat) {
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Opening {
            return;
        }
        purse.capacity = capacity;
        purse.cost = cost;
        purse.opening = opening.to_vec().into();
        purse.state = PurseState::Offered;
        if !self.in_session() {
            return self.release_purses_if_closing();
        }
        self.offer_purse(id);
    }

    /// Shows the payee what opens the purse, in parts.
    pub(super) fn offer_purse(&mut self, id: PurseId) {
        let now = self.now.mono;
        let Some(live) = self.live_mut() else { return };
        live.offered(now);
        let Some(purse) = self.purse(id) else { return };
        let (method, opening) = (purse.method, Bytes::copy_from_slice(&purse.opening));
        let of = opening.len().div_ceil(PART).max(1);
        for part in 0..of {
            let from = part.saturating_mul(PART);
            let to = from.saturating_add(PART).min(opening.len());
            let (Ok(part), Ok(of)) = (u16::try_from(part), u16::try_from(of)) else {
                return;
            };
            let bytes = opening.slice(from.min(to)..to);
            self.send(&Message::Purse(Purse {
                purse: id,
                part,
                of,
                method,
                bytes,
            }));
        }
    }

    pub(super) fn on_purse_ok(&mut self, id: PurseId) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let Some(purse) = self.purse_mut(id) else {
            return;
        };
        if purse.state != PurseState::Offered {
            return;
        }
        purse.state = PurseState::Open;
        purse.opening = ByteVec::from(Vec::new());
        let capacity = purse.capacity;
        self.persist();
        self.event(Event::PurseOpen {
            purse: id,
            capacity,
        });
    }

    pub(super) fn on_purse_refused(&mut self, id: PurseId, code: RefusalCode) {
        let offered = self
            .purse(id)
            .is_some_and(|purse| purse.state == PurseState::Offered);
        if !matches!(self.phase, Phase::Live(_)) || !offered {
            return;
        }
        self.event(Event::PurseRefused { purse: id, code });
        self.close(CloseCode::BackendFailed, false);
    }

    pub(super) fn open_failed(&mut self, id: PurseId, error: BackendError) {
        self.event(Event::BackendTrouble { error });
        match error {
            BackendError::Transient | BackendError::Unknown => self.try_later(),
            BackendError::Rejected(..) | BackendError::Fatal(_) => {
                // It never opened: it holds nothing and costs nothing.
                if let Some(purse) = self.purse_mut(id) {
                    purse.state = PurseState::Done;
                    purse.capacity = Msat::ZERO;
                    purse.cost = Msat::ZERO;
                }
                self.run_dry();
                self.release_purses_if_closing();
            }
        }
    }

    /// No purse opens any more. What is open is used up; where nothing was ever paid there is
    /// nothing to wait for.
    fn run_dry(&mut self) {
        if let Some(live) = self.live_mut() {
            live.dry = true;
        }
        let any_open = self
            .record
            .iter()
            .flat_map(|record| &record.purses)
            .any(|purse| matches!(purse.state, PurseState::Open | PurseState::Offered));
        if !any_open && matches!(self.phase, Phase::Live(_)) {
            self.close(CloseCode::InsufficientFunds, false);
        }
    }

    /// What a restart or a reconnect must say or ask again.
    pub(super) fn take_up_again(&mut self) {
        let Some(record) = &self.record else { return };
        if record.common.settled {
            self.phase = Phase::Ended;
            return;
        }
        if record.common.closing.is_some() {
            return self.release(true);
        }
        let mut purses = record.purses.iter();
        let refused =
            |purse: &PayerPurse| (purse.pending.as_ref()).is_some_and(|p| p.fate != Fate::UnderWay);
        if purses.any(refused) {
            self.flow.add(PauseReason::PaymentRefused);
        }
        self.ask_again();
    }

    /// Asks again for everything that the backend has not answered.
    pub(super) fn ask_again(&mut self) {
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        for purse in purses {
            match (&purse.state, &purse.pending) {
                (PurseState::Opening, _) => self.ask_to_open(purse.id),
                (_, Some(pending)) if pending.payload.is_none() => self.ask_to_pay(purse.id),
                (PurseState::Open, Some(pending)) if pending.is_refused() => {
                    self.ask_to_reclaim(purse.id);
                }
                _ => {}
            }
        }
    }

    /// What the payee must be shown again on a new connection.
    pub(super) fn show_again(&mut self) {
        let Some(record) = &self.record else { return };
        let purses = record.purses.clone();
        for purse in purses {
            match (&purse.state, &purse.pending) {
                (PurseState::Offered, _) => self.offer_purse(purse.id),
                (PurseState::Open, Some(pending)) if pending.payload.is_some() => {
                    self.send_pending(purse.id);
                }
                _ => {}
            }
        }
    }

    pub(super) fn purse(&self, id: PurseId) -> Option<&PayerPurse> {
        self.record
            .as_ref()?
            .purses
            .iter()
            .find(|purse| purse.id == id)
    }

    pub(super) fn purse_mut(&mut self, id: PurseId) -> Option<&mut PayerPurse> {
        self.record
            .as_mut()?
            .purses
            .iter_mut()
            .find(|purse| purse.id == id)
    }

    pub(super) fn method_of(&self, id: PurseId) -> String {
        let method = self.purse(id).map(|purse| purse.method).unwrap_or_default();
        self.terms()
            .map(|terms| method_name(terms, method))
            .unwrap_or_default()
    }
}

impl PayerSession {
    /// The session's purses and the names of their methods.
    #[must_use]
    pub fn purses(&self) -> Vec<(PurseId, String)> {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses
            .map(|purse| (purse.id, self.method_of(purse.id)))
            .collect()
    }
}
