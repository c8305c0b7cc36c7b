//! The streamer's work: offering a stream, and one session for every viewer.

mod arrivals;
mod claims;
mod closing;
pub mod demo;
pub mod host;
mod kept;
pub mod media;
pub mod network;
mod offered;
mod page;
mod paywall;
mod record;
mod seated;
pub mod serve;
mod sessions;
mod strangers;
