//! What happens after something went wrong in a session.

use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::meter::PauseReason;
use streampay_core::session::Event;
use streampay_core::store::StoreError;

/// What happens next by itself, or what the user must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same is tried again, until it works or the session ends.
    TriesAgain,
    /// Another purse, another mint or another way to pay is tried; without one the session ends.
    OtherPurse,
    /// The payment comes back or is shown again; else it is lost.
    TakesBack,
    /// What came back is paid anew.
    PaysAnew,
    /// It goes on when the other side does; else the session ends.
    Waits,
    /// The user says whether it goes on; else the session ends.
    Decide,
    /// The money comes home: the session is settled, or what is not says why.
    Settles,
    /// What is still out is kept: the streamer that serves asks for it again by itself, each minute.
    Retries,
    /// What is still out is kept: `recover` brings it home.
    Recover,
    /// It is left as it is, and the rest goes on: the user brings it back from a backup.
    Restore,
    /// The user mends the disk and starts again.
    StartAgain,
    /// It is lost. The rest goes on.
    Gone,
}

impl Next {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::TriesAgain,
        Self::OtherPurse,
        Self::TakesBack,
        Self::PaysAnew,
        Self::Waits,
        Self::Decide,
        Self::Settles,
        Self::Retries,
        Self::Recover,
        Self::Restore,
        Self::StartAgain,
        Self::Gone,
    ];

    /// What happens after `event`; none after one that is no trouble and no end.
    #[must_use]
    pub const fn after(event: &Event) -> Option<Self> {
        Some(match event {
            Event::BackendTrouble { error } => match error {
                BackendError::Transient | BackendError::Unknown => Self::TriesAgain,
                _ => Self::OtherPurse,
            },
            Event::PurseRefused { .. } => Self::OtherPurse,
            Event::TickRefused { .. } => Self::TakesBack,
            Event::TickReclaimed { .. } => Self::PaysAnew,
            Event::TickLost { .. } => Self::Decide,
            Event::Paused { reason, .. } => match reason {
                PauseReason::BackendAway | PauseReason::AckOverdue => Self::TriesAgain,
                PauseReason::PurseEmpty => Self::OtherPurse,
                PauseReason::PaymentRefused => Self::TakesBack,
                PauseReason::Drift => Self::Decide,
                _ => Self::Waits,
            },
            Event::Stalled { .. } | Event::LinkDown => Self::Waits,
            Event::Closed { .. } => Self::Settles,
            Event::Unredeemed { error, .. } => match error {
                BackendError::Rejected(RefusalCode::AlreadySpent, _) => Self::Gone,
                _ => Self::TriesAgain,
            },
            Event::Unsettled { .. } => Self::Recover,
            _ => return None,
        })
    }

    /// The same in a streamer that goes on serving.
    #[must_use]
    pub fn after_serving(event: &Event) -> Option<Self> {
        Self::after(event).map(|next| match next {
            Self::Recover => Self::Retries,
            next => next,
        })
    }

    /// What happens to a session that cannot be taken up: no command of ours reads what cannot be read, or
    /// writes to a store that failed.
    #[must_use]
    pub const fn after_unusable(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt | StoreError::OtherRole => Self::Restore,
            _ => Self::StartAgain,
        }
    }

    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TriesAgain => "tries_again",
            Self::OtherPurse => "other_purse",
            Self::TakesBack => "takes_back",
            Self::PaysAnew => "pays_anew",
            Self::Waits => "waits",
            Self::Decide => "decide",
            Self::Settles => "settles",
            Self::Retries => "retries",
            Self::Recover => "recover",
            Self::Restore => "restore",
            Self::StartAgain => "start_again",
            Self::Gone => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::backend::Consumed;
    use streampay_core::units::PurseId;

    use super::*;

    #[test]
    fn who_serves_asks_again_by_itself() {
        let (purse, error) = (PurseId(0), BackendError::Transient);
        let unsettled = Event::Unsettled { purse, error };
        assert_eq!(Next::after(&unsettled), Some(Next::Recover));
        assert_eq!(Next::after_serving(&unsettled), Some(Next::Retries));
        let unredeemed = Event::Unredeemed { purse, error };
        assert_eq!(Next::after(&unredeemed), Some(Next::TriesAgain));
        let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
        let lost = Event::Unredeemed {
            purse,
            error: spent,
        };
        assert_eq!(Next::after_serving(&lost), Some(Next::Gone));
    }

    #[test]
    fn what_cannot_be_used_is_not_sent_to_a_command_that_says_the_same_again() {
        let cases = [
            (StoreError::Corrupt, Next::Restore),
            (StoreError::Failed, Next::StartAgain),
            (StoreError::Poisoned, Next::StartAgain),
            (StoreError::Fenced, Next::StartAgain),
        ];
        for (error, next) in cases {
            assert_eq!(Next::after_unusable(error), next, "{error}");
        }
    }

    #[test]
    fn the_documents_name_each() {
        let field = crate::events::FIELDS.iter().find(|field| field.0 == "next");
        let (_, says) = field.unwrap();
        for next in Next::ALL {
            assert!(says.contains(&format!("`{}`", next.name())), "{next:?}");
        }
    }
}
