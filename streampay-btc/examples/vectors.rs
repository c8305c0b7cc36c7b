//! Writes the vectors of the bitcoin chapter anew: `cargo run -p streampay-btc --example vectors`.
//! It must change nothing that is checked in.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "shared with the tests"
)]

#[path = "../tests/it/vectors.rs"]
mod vectors;

fn main() -> std::io::Result<()> {
    std::fs::write(vectors::path(), vectors::file())
}
