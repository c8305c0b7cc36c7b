//! The streamer's work: offering a stream, and one session for every viewer.

mod closing;
pub mod demo;
pub mod host;
mod page;
pub mod serve;
mod sessions;
