//! The vectors, transcripts and scripts against this implementation, and against others that are
//! broken on purpose.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod cddl;
mod conforms;
mod registry;
mod robust;
mod shown;
mod tags;
mod written;
