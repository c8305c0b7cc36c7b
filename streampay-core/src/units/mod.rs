//! Checked units: money, time, ids. No operator that could wrap; every sum says what it does on
//! overflow.

mod amount;
mod id;
mod time;

pub use amount::{Msat, Overflow};
pub use id::{BadHex, EffectId, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};
pub use time::{Mono, Now, Unix};

#[cfg(test)]
mod tests;
