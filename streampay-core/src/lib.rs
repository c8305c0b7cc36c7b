//! Metered sessions: a payer pays a payee tick by tick for what streams, and neither can cheat
//! the other of more than one tick.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(unnameable_types)]

extern crate alloc;

pub mod backend;
mod codes;
#[cfg(feature = "driver")]
pub mod driver;
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
