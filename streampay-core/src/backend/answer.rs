use alloc::vec::Vec;
use bytes::Bytes;

use super::BackendError;
use crate::store::ChangeSet;
use crate::units::{EffectId, Msat, PurseKey, Unix};

/// How a request ended.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The purse is open.
    Opened(Opened),
    /// A payment is ready, durable with this answer.
    Paid {
        /// What the payee's backend must be shown.
        payload: Bytes,
    },
    /// The tick is back in the payer's hands.
    Reclaimed,
    /// The tick stays in the payee's hands until the purse comes home. A `Pay` of the same sum shows
    /// it again and gives out nothing more. Spec: session 5.3.
    Outstanding,
    /// The tick's money is gone: the payee, or somebody who had it, spent it.
    Spent,
    /// What was not acknowledged is back with its owner.
    Released {
        /// What came back, net of fees.
        refunded: Msat,
    },
    /// The payee's backend takes ticks from this purse.
    Accepted {
        /// What ticks of this purse can come to.
        capacity: Msat,
        /// What a tick is rounded up to; the same as on the payer's side.
        quantum: Msat,
    },
    /// The tick is worth its amount and is collectable without the payer.
    Credited,
    /// What was credited is the payee's own.
    Settled {
        /// What arrived in the payee's wallet from this purse, net of fees.
        settled: Msat,
    },
    /// It did not work; the error says whose fault it is and what became of the money.
    Failed(BackendError),
}

/// A purse that opened, on the payer's side.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Opened {
    /// What the payee's backend must be shown.
    pub opening: Bytes,
    /// What ticks of this purse can come to; at most what was asked.
    pub capacity: Msat,
    /// What left the wallet for it, fees included; at most the budget.
    pub cost: Msat,
    /// What a tick is rounded up to: the least that the method can pay, in millisatoshi.
    pub quantum: Msat,
    /// From then on it gives no tick any more, by the method's own margin.
    pub usable_until: Option<Unix>,
}

/// What a machine answers.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    /// How the request ended; none while effects are under way, or where it has no outcome.
    pub outcome: Option<Outcome>,
    /// Changes to the purse's own records; keys are sub-keys of the purse.
    pub delta: ChangeSet,
    /// Changes to the method's records of the whole node; keys are sub-keys of the method.
    pub node_delta: ChangeSet,
    /// Network calls to make once both deltas are durable.
    pub effects: Vec<Effect>,
    /// What the other side's machine must be shown, once both deltas are durable, in purse frames.
    /// Payee: a later one of the same purse takes its place. Payer: the answer to the payee's, shown
    /// once, while the session closes, and in one part: a longer one is not looked at.
    pub note: Option<Bytes>,
    /// Payee: why what was credited cannot be made its own now, where nobody has asked for that; or
    /// [`Rejected`](BackendError::Rejected) as already spent: some of it never will be. The user is told, and
    /// nothing else comes of it.
    pub trouble: Option<BackendError>,
}

impl Answer {
    /// An answer with an outcome and nothing else.
    #[must_use]
    pub fn outcome(outcome: Outcome) -> Self {
        Self {
            outcome: Some(outcome),
            ..Self::default()
        }
    }

    /// An answer that failed and changed nothing.
    #[must_use]
    pub fn failed(error: BackendError) -> Self {
        Self::outcome(Outcome::Failed(error))
    }
}

/// A network call, by its id. Its body is the method's own and as secret as money.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Effect {
    /// Which purse wants it.
    pub purse: PurseKey,
    /// Which of the purse's effects.
    pub id: EffectId,
    /// What to do, as the method encodes it.
    pub body: Bytes,
}

/// How a network call ended.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EffectResult {
    /// Which purse wanted it.
    pub purse: PurseKey,
    /// Which of the purse's effects.
    pub id: EffectId,
    /// What came back, as the method encodes it.
    pub result: Result<Bytes, BackendError>,
}

impl core::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Opened(opened) => opened.fmt(f),
            Self::Paid { payload } => write!(f, "Paid({} bytes)", payload.len()),
            Self::Reclaimed => write!(f, "Reclaimed"),
            Self::Outstanding => write!(f, "Outstanding"),
            Self::Spent => write!(f, "Spent"),
            Self::Released { refunded } => write!(f, "Released({refunded})"),
            Self::Accepted { capacity, .. } => write!(f, "Accepted({capacity})"),
            Self::Credited => write!(f, "Credited"),
            Self::Settled { settled } => write!(f, "Settled({settled})"),
            Self::Failed(error) => write!(f, "Failed({error})"),
        }
    }
}

impl core::fmt::Debug for Opened {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Opened({})", self.capacity)
    }
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Answer")
            .field("outcome", &self.outcome)
            .field("effects", &self.effects.len())
            .field("note", &self.note.as_ref().map(Bytes::len))
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Effect {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Effect")
            .field("purse", &self.purse)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for EffectResult {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EffectResult")
            .field("purse", &self.purse)
            .field("id", &self.id)
            .field("error", &self.result.as_ref().err())
            .finish()
    }
}
