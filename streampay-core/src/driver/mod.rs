//! The tokio side: what connects a sans-IO session to a link, a store, backends and a clock.
//!
//! One [`SessionTask`] a session. All tasks share one [`Node`]: the payment machines with their
//! effects, and the store's writer, which commits for many sessions at once. Everything between
//! them is a bounded channel, and every [`Output::Persist`](crate::session::Output::Persist) is
//! durable before the next output is taken.

mod clock;
mod link;
#[cfg(feature = "sim")]
#[expect(clippy::expect_used, reason = "a suite ends with what failed")]
mod link_suite;
mod machine;
mod node;
mod outgoing;
mod ports;
mod room;
mod runner;
mod task;
#[cfg(feature = "tcp")]
mod tcp;
mod writer;

pub use clock::{Clock, entropy};
pub use link::{ChannelIdentity, Link, LinkEnd};
#[cfg(feature = "sim")]
pub use link_suite::check_link;
pub use machine::SessionMachine;
pub use node::{Node, NodeBuilder};
pub use ports::{Ports, UserPorts};
pub use room::{RoomHandle, Seat};
pub use runner::EffectRunner;
pub use task::{Connected, SessionTask, Stopped, TellError};
#[cfg(feature = "tcp")]
pub use tcp::{TcpReach, tcp_link};
pub use writer::StoreWriter;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_dropped;
#[cfg(test)]
mod tests_outgoing;
#[cfg(test)]
mod tests_room;
#[cfg(test)]
mod tests_writer;
