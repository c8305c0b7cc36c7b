//! The viewer's work: watching, paying, recording, and bringing money home.

pub mod account;
mod attend;
pub mod keys;
pub mod locked;
mod recording;
pub mod recover;
pub mod watch;
