//! Without the feature `musig2` nobody closes together: see `mutual.rs`.

use bitcoin::Transaction;
use bytes::Bytes;
use streampay_core::session::Entropy;

use super::payee::Payee;
use super::payer::Payer;
use super::{Chain, Env};

/// None is ever made.
pub(super) enum Attempt {
    None,
}

/// Nobody asks.
pub(super) struct Asked;

impl Payee {
    pub(super) const fn begin_mutual(&self, _: &Env<'_>) -> bool {
        !matches!(self.attempt, Attempt::None)
    }

    pub(super) fn propose(&self, _: Entropy) -> Option<Bytes> {
        None
    }

    pub(super) const fn cosigned(&self, _: &[u8]) -> bool {
        false
    }

    pub(super) const fn awaits_cosigning(&self, _: &Chain) -> bool {
        false
    }

    pub(super) const fn take_mutual(&self) -> Option<Transaction> {
        None
    }

    pub(super) const fn give_up_mutual(&self) {}
}

impl Payer {
    pub(super) fn proposed(&self, _: &[u8]) -> bool {
        self.asked.is_some()
    }

    pub(super) fn cosign(&self, _: Entropy) -> Option<Bytes> {
        None
    }
}
