//! The viewer's work: watching, paying, recording, and bringing money home.

pub mod account;
mod attend;
pub mod browser;
pub mod keys;
pub mod late;
pub mod locked;
mod lost;
pub(crate) mod recording;
pub mod recover;
mod status;
pub mod watch;
