//! What one purse's seed gives: the chain's end, what both sides derive from, the way back, and
//! the outputs that bring the rest home.

use cdk::nuts::SecretKey;
use streampay_core::session::TaggedHash;

use crate::chain::Preimage;
use crate::coin::Seed;

pub(crate) struct Secrets<'a>(pub(crate) &'a Seed);

impl Secrets<'_> {
    fn derive(&self, tag: &str) -> [u8; 32] {
        TaggedHash::new(tag).blob(self.0.bytes()).finish().0
    }

    pub(super) fn top(&self) -> Preimage {
        Preimage::new(self.derive("streampay/cashu-chain/top/v1"))
    }

    /// Sent to the payee.
    pub(super) fn salt(&self) -> [u8; 32] {
        self.derive("streampay/cashu/salt/v1")
    }

    pub(crate) fn refund(&self) -> Option<SecretKey> {
        SecretKey::from_slice(&self.derive("streampay/cashu/refund/v1")).ok()
    }
}
