//! The streamer's work: offering a stream, and one session for every viewer.

mod closing;
pub mod demo;
mod page;
pub mod serve;
mod sessions;
