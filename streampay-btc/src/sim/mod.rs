//! Judges and chains for tests: transactions go to Bitcoin Core's own script code.

mod consensus;

pub use consensus::{BadInput, check_scripts};
