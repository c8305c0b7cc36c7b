use crate::session::SecretKey;
use crate::units::Msat;
use crate::wire::Terms;

/// Who the payee is and what it offers.
#[derive(Clone, Debug)]
pub struct PayeeConfig {
    /// The payee's identity: the key in the link.
    pub identity: SecretKey,
    /// What is offered to new sessions.
    pub terms: Terms,
    /// What is left of the free preview for this payer, in millisatoshi: the least of the
    /// budgets in all and for its address. The session gives it or the terms' preview, whichever
    /// is less, once; [`PayeeSession::preview_used`](super::PayeeSession::preview_used) says what
    /// to take off the budgets.
    pub preview_left: Msat,
    /// How long a bound payer may stay without paying anything, in milliseconds.
    pub unpaid_ms: u64,
}
