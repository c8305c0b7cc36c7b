//! What both applications share: the embedded mint, the wallet folder, the purses on disk.

pub mod mint;
pub mod purses;
mod seed_file;
pub mod wallet;
