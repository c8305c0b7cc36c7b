//! The streampay specification as data and programs: vectors, transcripts, and the runner that
//! checks an implementation against them. The documents are beside this crate's manifest.
//!
//! | program | what it does |
//! |---|---|
//! | `vectors` | writes `vectors/` and `transcripts/`; with `--check`, says whether they are up to date |
//! | `conformance` | drives an implementation through all of them and a suite of hostile peers |
//! | `adapter` | this implementation, as the runner drives it; `--broken NAME` breaks it on purpose |
//!
//! What an implementation answers is in `conformance.md`.

pub mod adapter;
pub mod btc;
pub mod conformance;
pub mod fields;
pub mod hostile;
pub mod json;
pub mod others;
pub mod peer;
pub mod people;
pub mod transcripts;
pub mod vectors;

/// The root README, so that its example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
