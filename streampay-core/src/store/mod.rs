//! What must outlive the process: records, changes to them, and the trait of a store.
//!
//! The core stages a [`ChangeSet`] and hands it out as an output; it is durable before the next
//! output is taken. Nothing here does I/O: the adapter over redb is behind the feature `redb`,
//! a store in memory that crashes on request behind `sim`.

mod change;
#[cfg(feature = "redb")]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the lock is a file"
)]
mod fence;
mod key;
#[cfg(feature = "redb")]
mod medium;
#[cfg(feature = "std")]
mod memory;
#[cfg(feature = "redb")]
#[allow(clippy::disallowed_types, reason = "the store is a file")]
mod redb;

pub use change::{Change, ChangeSet};
#[cfg(any(feature = "driver", feature = "sim"))]
pub(crate) use key::node_prefix;
pub(crate) use key::room_prefix;
pub use key::{Key, fixed_key, purse_prefix, session_key, session_of, session_prefix};
#[cfg(feature = "std")]
pub use memory::MemoryStore;
#[cfg(feature = "redb")]
pub use redb::RedbStore;

#[cfg(feature = "std")]
pub use traits::Store;
#[cfg(feature = "std")]
mod traits;

/// The store did not do what it was asked. Nothing more may be sent, and the gate shuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the lock file.
    #[error("another process uses this folder")]
    Locked,
    /// Reading or writing failed.
    #[error("the store failed: check the disk's space and health, then start again")]
    Failed,
    /// A write failed before; what is on disk is unknown until the store is opened anew.
    #[error("the store failed earlier and must be opened anew")]
    Poisoned,
    /// Another process took the folder over while this one had it. It must stop.
    #[error("another process took this folder over; stop this one")]
    Fenced,
    /// A later version of this software wrote the store.
    #[error("a later version of this software wrote the store; use that one")]
    NewerFormat,
    /// What was read is not what this version wrote.
    #[error("the store holds a record that this version cannot read")]
    Corrupt,
    /// A payer's session was asked for and it is a payee's, or the other way round.
    #[error("the session is one of the other role")]
    OtherRole,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[cfg(feature = "redb")]
mod tests_redb;
