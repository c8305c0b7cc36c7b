use alloc::string::String;
use alloc::vec::Vec;

use crate::meter::Tariff;
use crate::session::SecretKey;
use crate::units::{Msat, XOnlyKey};

/// What the payer lets a payee ask of it, whatever the terms say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The most that may leave the wallet for this session, mint fees included, in millisatoshi.
    pub budget: Msat,
    /// The most that one purse may cost: what one method's mint or one funding is trusted with at
    /// a time, and what another method can still spend while that one is away.
    pub max_purse: Msat,
    /// The highest rate of each meter; a meter without one must be free.
    pub max_tariff: Tariff,
    /// The largest single payment. At stake are one, the lead, and drift of up to one more.
    pub max_tick: Msat,
    /// Payment methods that there are backends for, the favourite first.
    pub methods: Vec<String>,
    /// How long paid media may stay away before the session ends, in milliseconds.
    pub stall_close_ms: u64,
}

impl Policy {
    /// Pays nothing: for a session that is only to be closed.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            budget: Msat::ZERO,
            max_purse: Msat::ZERO,
            max_tariff: Tariff::default(),
            max_tick: Msat::ZERO,
            methods: Vec::new(),
            stall_close_ms: u64::MAX,
        }
    }
}

/// Who the payer is, whom it pays, and how far it goes.
#[derive(Clone, Debug)]
pub struct PayerConfig {
    /// The payer's identity.
    pub identity: SecretKey,
    /// The payee's identity: the key in the link.
    pub payee: XOnlyKey,
    /// The payer's own limits.
    pub policy: Policy,
}
