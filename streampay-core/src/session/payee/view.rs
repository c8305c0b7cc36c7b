//! What can be asked of a session without changing it.

use super::{PayeeSession, Phase};
use crate::meter::{Reading, Schedule};
use crate::units::{Mono, Msat, SessionId};
use crate::wire::Terms;

impl PayeeSession {
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

    /// The session's name, once a payer said it.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// What was delivered, after a restart what may have been: where a new meter starts.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        self.metered
    }

    /// What is offered.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.config.terms
    }

    /// All ticks accepted.
    #[must_use]
    pub fn credited(&self) -> Msat {
        self.sum(|purse| purse.credited)
    }

    /// True once the session is over.
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

    /// How what is delivered is priced.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let first = || Schedule::new(self.config.terms.tariff);
        let record = self.record.as_ref();
        record.map_or_else(first, |record| record.common.schedule)
    }

    /// What the transition tables call the state that it is in, for logs. Spec: session 11.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match &self.phase {
            Phase::Offline => "Offline",
            Phase::Waiting { .. } => "Waiting",
            Phase::Greeted(_) => "Greeted",
            Phase::Live(_) => "Live",
            Phase::Settling(_) => "Settling",
            Phase::Lingering(_) => "Lingering",
            Phase::Ended => "Ended",
        }
    }
}

impl core::fmt::Debug for PayeeSession {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PayeeSession")
            .field("session", &self.session)
            .field("phase", &self.state_name())
            .field("credited", &self.credited())
            .finish_non_exhaustive()
    }
}
