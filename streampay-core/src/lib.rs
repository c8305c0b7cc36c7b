#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(unnameable_types)]
// Neither clock, randomness, socket nor disk (clippy.toml), no sum that could overflow, and nothing that
// could panic. Modules that are made to touch the world, or to say that a test failed, say so where they stand.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests have clocks and files"
    )
)]

extern crate alloc;

pub mod backend;
mod codes;
#[cfg(feature = "driver")]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the driver gives the core its clock, entropy and links"
)]
pub mod driver;
/// The guide, with its code compiled.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../EMBEDDING.md")]
pub mod embedding {}
pub mod meter;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
pub mod room;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod units;
pub mod wire;
