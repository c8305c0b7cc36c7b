//! Everything over real WebRTC and HTTP on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod api;
mod delivery;
mod embed;
mod endurance;
mod feedback;
mod last_words;
mod misbehaviour;
mod paywall;
mod paywall_limits;
mod recording;
mod rig;
#[cfg(feature = "e2ee")]
mod sealed;
mod sequences;
mod slow;
mod vectors;
mod whep;
mod whip;
