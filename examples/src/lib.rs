//! What both applications share, and each one's work: the embedded mint, the wallet folder, the
//! home folder, links and prices, serving and watching.

// The futures of a whole session, from the connection down to the mint, are deep.
#![recursion_limit = "256"]

pub mod accounting;
pub mod backup;
pub mod board;
pub mod channel;
pub mod cli;
pub mod config;
pub mod doctor;
mod durable;
pub mod error;
pub mod events;
pub mod exit;
pub mod home;
pub mod http;
pub mod ledger;
pub mod link;
pub mod links;
pub mod metrics;
pub mod mint;
mod mint_check;
pub mod money;
pub mod pay;
pub mod price;
mod progress;
pub mod quote;
pub mod report;
pub mod secret;
mod seed_file;
mod seed_words;
pub mod signals;
pub mod split;
pub mod streamer;
pub mod trust;
pub mod tui;
pub mod viewer;
pub mod wallet;
