//! The tokio side: what connects a sans-IO session to a link, a store, a backend, a clock.
//!
//! One task a session. All sessions share one [`Backends`] (machines and their effects) and one
//! [`StoreWriter`] (group commit). Everything between them is a bounded channel.

mod link;
mod runner;

pub use link::{ChannelIdentity, Link, LinkEnd};
pub use runner::EffectRunner;
