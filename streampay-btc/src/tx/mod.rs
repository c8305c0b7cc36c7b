//! The transactions of a channel, as pure functions. Spec: bitcoin 4 to 7.

mod close;
mod contract;
mod digest;
mod fee;
#[cfg(feature = "musig2")]
mod mutual;
mod refund;
mod spend;
#[cfg(test)]
mod tests;
mod update;

pub use close::{
    CLOSE_INPUTS_MAX, CloseError, CloseInput, ClosePlan, FeeCoin, WEIGHT_MAX, close_tx, sweep_tx,
};
pub(crate) use contract::is_standard;
pub use contract::{Contract, ContractError};
pub(crate) use fee::{Carried, fee_with};
pub use fee::{FeeOverflow, fee_for, virtual_size};
#[cfg(feature = "musig2")]
pub use mutual::{MutualClose, MutualError, MutualTerms, PayerPart, cosign};
pub use refund::{RefundError, refund_tx};
pub use update::{Refusal, UpdateSignature};

/// The version of updates and closes: they replace each other and have at most one small child.
/// Source: BIP 431.
pub(crate) const TRUC: bitcoin::transaction::Version = bitcoin::transaction::Version(3);

/// The sequence of every input: final by no other clock, replaceable. Source: BIP 125.
pub(crate) const SEQUENCE: bitcoin::Sequence = bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME;
