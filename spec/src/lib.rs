//! The streampay specification: the documents of this folder, and one day its vectors and the
//! runner that checks an implementation against them. See `README.md` beside this crate's
//! manifest.
//!
//! For now it holds the documents alone, and keeps the example in the root README running.

/// The root README, so that its example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
