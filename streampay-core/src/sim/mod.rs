//! A session under virtual time: both machines, a link that loses, repeats and reorders, a fake
//! backend with a fake mint, stores that survive crashes. Public, so that others can drive their
//! backends and their own machines through the same weather.
//!
//! Everything follows from a seed and a list of [`Fault`]s: a run replays exactly.

mod backend_suite;
mod config;
mod fake;
mod house;
mod judge;
mod link;
mod mint;
#[expect(
    clippy::expect_used,
    reason = "keys of a pair come from its seed, and a test without them has failed"
)]
mod pair;
mod side;
#[expect(clippy::expect_used, reason = "a suite ends with what failed")]
mod store_suite;
mod strategy;
mod world;

pub use backend_suite::{BackendWorld, check_backend};
pub use config::{Fault, PairConfig, Reply};
pub use fake::FakeBackend;
pub use house::House;
pub use judge::Violation;
pub use link::{Direction, Weather};
pub use mint::FakeMint;
pub use pair::Pair;
pub use store_suite::{check_failing_store, check_store};
pub use strategy::{fault, faults};

#[cfg(feature = "driver")]
pub use crate::driver::check_link;

/// A small seeded generator: the simulator must not depend on the host's randomness.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number. Source: splitmix64.
    #[must_use]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 32 bytes.
    #[must_use]
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_answers;
#[cfg(test)]
mod tests_called_off;
#[cfg(test)]
mod tests_callers;
#[cfg(test)]
mod tests_change;
#[cfg(test)]
mod tests_each_purse;
#[cfg(test)]
mod tests_evil;
#[cfg(test)]
mod tests_features;
#[cfg(test)]
mod tests_flow;
#[cfg(test)]
mod tests_late;
#[cfg(test)]
mod tests_ledger;
#[cfg(test)]
mod tests_meter;
#[cfg(test)]
mod tests_offers;
#[cfg(test)]
mod tests_purses;
#[cfg(test)]
mod tests_restored;
#[cfg(test)]
mod tests_room;
#[cfg(test)]
mod tests_sold;
#[cfg(test)]
mod tests_stalls;
#[cfg(test)]
mod tests_ticks;
#[cfg(test)]
mod tests_tips;
#[cfg(test)]
mod tests_told;
#[cfg(test)]
mod tests_unpaid;
#[cfg(test)]
mod tests_unsigned;
#[cfg(test)]
mod tests_words;
