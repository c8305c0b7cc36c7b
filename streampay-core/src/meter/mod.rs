//! What is counted, what it costs, and what may flow: pure arithmetic, no state machine.
//!
//! A [`Reading`] says what was delivered; a [`Tariff`] prices it; a [`Schedule`] says from where
//! the tariff holds; a [`Grant`] is what a gate needs to decide alone.

mod grant;
mod tariff;

pub use grant::{Grant, PauseReason};
pub use tariff::{Rate, Reading, Schedule, Tariff};

#[cfg(test)]
mod tests;
