//! Locked ecash, as pure functions: the hash chain, the locks that both sides derive, the keys,
//! and the two things that are sent about them, a funding and a release.
//!
//! ```text
//!   p_N (the payer's) --H--> p_{N-1} --H--> ... --H--> p_1        H(p) = tagged hash, "streampay/cashu-chain/step/v1"
//!    |                        |                         |
//!  SHA-256                  SHA-256                   SHA-256
//!    v                        v                         v
//!  lock_N                   lock_{N-1}                lock_1      public, in the proofs' secrets
//! ```
//!
//! Two hashes, for with one the lock of a step would be the preimage of the one before. A tick
//! reveals `p_i`; whoever has it has every older one. Source: PayWord (Rivest, Shamir 1996),
//! NUT-14.

mod funding;
mod key;
mod lock;
mod preimage;
mod release;
#[cfg(test)]
mod tests;

pub(crate) use self::funding::{Funded, PIECE, Piece};
pub use self::funding::{Funding, FundingError};
pub use self::key::{PurseKeys, ReceiverKey};
#[cfg(test)]
pub(crate) use self::lock::nonce_and_blinding;
pub use self::lock::{LockKind, LockTerms};
pub(crate) use self::preimage::Last;
pub use self::preimage::{Chain, Preimage, walk_back};
pub(crate) use self::release::signature_hex;
pub use self::release::{Release, ReleaseError};

use streampay_core::session::TaggedHash;

/// The most steps of one purse. Chosen so that a walk along the whole chain takes well below a
/// millisecond.
pub const STEPS_MAX: u64 = 1024;
/// The most proofs of one purse: with change they fit one swap of at most 1000 outputs, and their
/// funding fits the purse frames.
pub const PROOFS_MAX: u64 = 768;
/// The most proofs in one step.
pub const STEP_PROOFS_MAX: usize = 24;

/// The number of the first proof of step `step`, counted from 0; steps count from 1.
pub(crate) fn first_proof(step: u64, per_step: usize) -> u64 {
    let per_step = u64::try_from(per_step).unwrap_or(u64::MAX);
    step.saturating_sub(1).saturating_mul(per_step)
}

/// The step that proof `number` belongs to.
pub(crate) fn step_of(number: u64, per_step: usize) -> u64 {
    let per_step = u64::try_from(per_step).unwrap_or(u64::MAX);
    number
        .checked_div(per_step)
        .unwrap_or_default()
        .saturating_add(1)
}

fn numbered(tag: &str, root: &[u8; 32], number: u64) -> [u8; 32] {
    TaggedHash::new(tag).bytes32(root).u64(number).finish().0
}
