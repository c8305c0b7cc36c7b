//! What can be asked of a session without changing it.

use super::{PayerSession, Phase};
use crate::meter::{Reading, Schedule};
use crate::planted::{self, Planted};
use crate::session::SessionLedger;
use crate::units::{Mono, Msat, SessionId};
use crate::wire::Terms;

impl PayerSession {
    /// When a session without a connection ends, if nobody resumes it: its terms say after how
    /// long. Who holds one must come back with
    /// [`Input::Timeout`](crate::session::Input::Timeout) then.
    #[must_use]
    pub const fn resume_by(&self) -> Option<Mono> {
        match self.phase {
            Phase::Offline => self.resume_by,
            _ => None,
        }
    }

    /// The session's name.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// What was delivered, after a restart by the last checkpoint: where a new meter starts.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        self.metered
    }

    /// What the session was bound with; none before the first binding.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        self.record.as_ref().map(|record| record.common.terms())
    }

    /// All ticks made, the one under way included, less what was taken back.
    #[must_use]
    pub fn paid(&self) -> Msat {
        self.sum(|purse| purse.paid)
    }

    /// All ticks acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Msat {
        if planted::is(Planted::CreditOnSend) {
            return self.paid();
        }
        self.sum(|purse| purse.acked)
    }

    /// Ticks for media that were spent, never acknowledged, and written off by consent. A lost tip
    /// stays a tip. Spec: rooms 4.
    #[must_use]
    pub fn written_off(&self) -> Msat {
        self.record
            .as_ref()
            .map(|record| record.written_off)
            .unwrap_or_default()
    }

    /// Drift of the two meters that was booked by consent.
    #[must_use]
    pub fn booked(&self) -> Reading {
        self.record
            .as_ref()
            .map(|record| record.booked)
            .unwrap_or_default()
    }

    /// True once the session is over and every purse was told to come home.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// True once all money is where it belongs.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.record
            .as_ref()
            .is_none_or(|record| record.common.settled)
    }

    /// Its rows of the ledger as the machine has them: what is on disk, where the store has not failed. None
    /// before the first binding.
    #[must_use]
    pub fn ledger(&self) -> Option<SessionLedger> {
        self.record.as_ref().map(SessionLedger::of_payer)
    }

    /// How what is delivered is priced.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let record = self.record.as_ref();
        record
            .map(|record| record.common.schedule)
            .unwrap_or_default()
    }

    /// What the transition tables call the state that it is in, for logs. Spec: session 10.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match &self.phase {
            Phase::Offline => "Offline",
            Phase::Greeting(_) => "Greeting",
            Phase::Binding(_) => "Binding",
            Phase::Live(_) => "Live",
            Phase::Closing(_) => "Closing",
            Phase::Releasing(_) => "Releasing",
            Phase::Ended => "Ended",
        }
    }
}

impl core::fmt::Debug for PayerSession {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PayerSession")
            .field("session", &self.session)
            .field("phase", &self.state_name())
            .field("paid", &self.paid())
            .field("acknowledged", &self.acknowledged())
            .finish_non_exhaustive()
    }
}
