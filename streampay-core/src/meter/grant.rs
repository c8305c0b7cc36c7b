use super::{Reading, Schedule};
use crate::units::Msat;

/// What the session allows its gate. Idempotent: the newest one holds. It carries no deadline: a
/// gate shuts by its own meter, and must also shut when the session that granted it is gone.
///
/// Spec: pricing 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Grant {
    /// A packet passes while what is used, itself included, stays within `limit`.
    Open {
        /// Preview, credit and window together, in millisatoshi, as far as it is durable.
        limit: Msat,
        /// How to price a reading.
        schedule: Schedule,
    },
    /// Nothing passes and the meters stand still until another grant.
    Paused(PauseReason),
    /// Nothing passes any more.
    #[default]
    Closed,
}

impl Grant {
    /// True where the gate may let a packet through that brings the reading to `reading`.
    #[must_use]
    pub fn admits(&self, reading: Reading) -> bool {
        match self {
            Self::Open { limit, schedule } => schedule.used(reading) <= *limit,
            Self::Paused(_) | Self::Closed => false,
        }
    }
}

/// Why nothing flows. Spec: registry, pause reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum PauseReason {
    /// The payer asked.
    ByPayer,
    /// The payee asked.
    ByPayee,
    /// The purse has nothing left.
    PurseEmpty,
    /// No media comes though it is paid.
    MediaStalled,
    /// The mint or the chain does not answer.
    BackendAway,
    /// The two meters went apart further than the tolerance.
    Drift,
    /// A payment was not acknowledged in time.
    AckOverdue,
    /// A payment was refused; it counts as paid until its fate is known.
    PaymentRefused,
    /// The connection is gone.
    LinkDown,
}

impl PauseReason {
    /// All reasons with their number on the wire.
    pub const ALL: &[(Self, u16)] = &[
        (Self::ByPayer, 1),
        (Self::ByPayee, 2),
        (Self::PurseEmpty, 3),
        (Self::MediaStalled, 4),
        (Self::BackendAway, 5),
        (Self::Drift, 6),
        (Self::AckOverdue, 7),
        (Self::PaymentRefused, 8),
        (Self::LinkDown, 9),
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        Self::ALL
            .iter()
            .find(|(reason, _)| *reason == self)
            .map_or(0, |(_, code)| *code)
    }

    /// The reason with that number; none for a number this version does not know.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == code)
            .map(|(reason, _)| *reason)
    }
}

impl core::fmt::Display for PauseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ByPayer => "the viewer paused",
            Self::ByPayee => "the streamer paused",
            Self::PurseEmpty => "the purse is empty",
            Self::MediaStalled => "no media arrives",
            Self::BackendAway => "the mint or the chain does not answer",
            Self::Drift => "the two meters disagree",
            Self::AckOverdue => "a payment is not acknowledged",
            Self::PaymentRefused => "a payment was refused",
            Self::LinkDown => "the connection is down",
        })
    }
}
