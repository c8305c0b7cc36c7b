use crate::session::SecretKey;
use crate::wire::Terms;

/// Who the payee is and what it offers.
#[derive(Clone, Debug)]
pub struct PayeeConfig {
    /// The payee's identity: the key in the link.
    pub identity: SecretKey,
    /// What is offered to new sessions.
    pub terms: Terms,
    /// How long a bound payer may stay without paying anything, in milliseconds.
    pub unpaid_ms: u64,
}
