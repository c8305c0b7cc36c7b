use bitcoin::{Amount, OutPoint, ScriptBuf};
use streampay_core::backend::{BackendError, Effect, EffectResult};

use crate::codec;
use crate::job::{Done, Drawn, Job};

/// What an effect of the machine asks for, for those who make its calls themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A look at the chain: the machine is to be told a view before this ends.
    Look,
    /// A payment of exactly `value` to `script`, unless there is one from height `since` on.
    Fund {
        /// The channel's script.
        script: ScriptBuf,
        /// Exactly so much.
        value: Amount,
        /// No funding is below this height.
        since: u32,
    },
    /// The same, and nobody is asked to pay.
    Find {
        /// The channel's script.
        script: ScriptBuf,
        /// Exactly so much.
        value: Amount,
        /// No funding is below this height.
        since: u32,
    },
    /// Fresh randomness.
    Draw,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// The view was shown; or nothing was found.
    Looked,
    /// The channel was funded here, at this cost.
    Funded(OutPoint, Amount),
    /// The randomness.
    Drawn([u8; 32]),
    /// The chain, the wallet or the machine's own randomness is away.
    Failed,
}

impl Call {
    /// Reads an effect; none where it is not one of this method's.
    #[must_use]
    pub fn of(effect: &Effect) -> Option<Self> {
        let script = |bytes: &[u8]| ScriptBuf::from_bytes(bytes.to_vec());
        let job = codec::decode::<Job>(&effect.body, usize::MAX).ok()?;
        Some(match job {
            Job::Look => Self::Look,
            Job::Fund {
                script: to,
                value,
                since,
            } => Self::Fund {
                script: script(&to),
                value: Amount::from_sat(value),
                since,
            },
            Job::Find {
                script: to,
                value,
                since,
            } => Self::Find {
                script: script(&to),
                value: Amount::from_sat(value),
                since,
            },
            Job::Draw => Self::Draw,
        })
    }
}

impl Called {
    /// The end of `effect`, as the machine is told of it.
    #[must_use]
    pub fn end(self, effect: &Effect) -> EffectResult {
        let done = match self {
            Self::Looked => Ok(Done::Looked),
            Self::Funded(outpoint, fee) => Ok(Done::Funded {
                outpoint: outpoint.into(),
                fee: fee.to_sat(),
            }),
            Self::Drawn(bytes) => Ok(Done::Drawn(Drawn(bytes.into()))),
            Self::Failed => Err(BackendError::Transient),
        };
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: done.map(|done| codec::encode(&done).into()),
        }
    }
}
