//! Whole sessions over channels on a simulated chain.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod bitcoind;
mod chains;
mod core;
mod esplora;
mod mempool;
mod must_fail;
mod mutual_vectors;
mod openings;
mod session;
mod stage;
mod transcripts;
mod vectors;
