//! `test-hash`, the payment method of the transcripts: an opening and payments are tagged hashes,
//! worth nothing. Spec: conformance 4.

use streampay_core::session::TaggedHash;
use streampay_core::units::{Msat, PurseId, Seq, SessionId};

/// Its name in terms.
pub const METHOD: &str = "test-hash";

/// What opens a purse.
#[must_use]
pub fn opening(session: SessionId, purse: PurseId, capacity: Msat) -> Vec<u8> {
    let hash = TaggedHash::new("streampay/test-opening/v1")
        .bytes32(&session.0)
        .u64(purse.0.into())
        .u64(capacity.msat());
    hash.finish().0.to_vec()
}

/// What pays a tick.
#[must_use]
pub fn payment(session: SessionId, purse: PurseId, seq: Seq, cumulative: Msat) -> Vec<u8> {
    let hash = TaggedHash::new("streampay/test-payment/v1")
        .bytes32(&session.0)
        .u64(purse.0.into())
        .u64(seq.0)
        .u64(cumulative.msat());
    hash.finish().0.to_vec()
}
