//! Everything over real WebRTC and HTTP on loopback.

mod api;
mod delivery;
mod recording;
mod rig;
mod whep;
