//! What both applications share, and each one's work: the embedded mint, the wallet folder, the
//! home folder, links and prices, serving and watching.

pub mod accounting;
pub mod channel;
mod durable;
pub mod error;
pub mod home;
pub mod http;
pub mod ledger;
pub mod link;
pub mod links;
pub mod mint;
mod mint_check;
pub mod money;
pub mod pay;
pub mod price;
pub mod quote;
pub mod report;
mod seed_file;
pub mod signals;
pub mod streamer;
pub mod trust;
pub mod viewer;
pub mod wallet;
