use alloc::sync::Arc;

use crate::session::{BadKey, SecretKey};
use crate::units::Msat;
use crate::wire::{Terms, WireError};

/// Who the payee is and what it offers.
#[derive(Clone, Debug)]
pub struct PayeeConfig {
    /// The payee's identity: the key in the link.
    pub identity: SecretKey,
    /// What is offered to new sessions; the same for all of them, and so held once.
    pub terms: Arc<Terms>,
    /// What is left of the free preview for this payer, in millisatoshi: the least of the
    /// budgets in all and for its address. The session gives it or the terms' preview, whichever
    /// is less, once; [`PayeeSession::preview_used`](super::PayeeSession::preview_used) says what
    /// to take off the budgets.
    pub preview_left: Msat,
    /// How long a bound payer may stay without paying anything, in milliseconds; three times as
    /// long while its purse is being checked. Once it has paid, time in which nothing flows is left
    /// out. Spec: session 9.2.
    pub unpaid_ms: u64,
}

/// Why there is no session with this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadConfig {
    /// Others could not read the terms.
    #[error("the terms are not fit to be offered: {0}")]
    Terms(#[from] WireError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] BadKey),
}
