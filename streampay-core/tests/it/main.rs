//! What holds for the crate as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests"
)]

mod api;
#[path = "../../examples/own_backend/main.rs"]
mod own_backend;
mod tidy;
mod wrong_backends;
mod wrong_links;
