//! What is counted, what it costs, and what may flow: pure arithmetic, no state machine.
//!
//! A [`Reading`] says what was delivered; a [`Tariff`] prices it; a [`Schedule`] says from where
//! the tariff holds and what follows it; a [`Grant`] is what a gate needs to decide alone.

mod grant;
mod schedule;
mod tariff;

pub use grant::{Grant, PauseReason};
pub(crate) use schedule::last_on_way;
pub use schedule::{NextTariff, Schedule};
pub use tariff::{Rate, Reading, Tariff};

#[cfg(test)]
mod tests;
