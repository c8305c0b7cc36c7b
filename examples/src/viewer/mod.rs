//! The viewer's work: watching, paying, recording, and bringing money home.

mod recording;
pub mod recover;
pub mod watch;
