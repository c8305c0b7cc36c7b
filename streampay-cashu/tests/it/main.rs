//! Locked ecash against a real cdk mint in the process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test that fails should say where"
)]

mod attacks;
mod backups;
mod canaries;
mod conformance;
mod dear;
mod denied;
mod fooled;
mod locked;
mod lost;
mod mint;
mod mints;
mod node;
mod pair;
mod refund;
mod refused;
mod session;
mod suite;
mod tips;
mod unfound;
mod world;
