//! Whole parts against real counterparts, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should say where"
)]

mod again;
mod apps;
mod backup;
mod backup_channel;
mod canary;
mod cashu;
mod cashu_faults;
mod cashu_node;
mod channel;
mod channel_fees;
mod channel_offline;
mod closed_output;
mod edges;
#[path = "../../../streampay-btc/tests/it/esplora.rs"]
#[allow(dead_code, reason = "another test asks for more of it")]
mod esplora;
mod foreign;
mod http;
mod ipv6;
mod judged;
mod late;
mod ledger;
mod line;
mod live;
mod locked;
mod matrix;
mod network;
mod nutshell;
mod offered;
mod old_invoices;
mod pairwise;
mod payouts;
mod players;
mod processes;
mod purses;
mod sealed;
mod shares;
mod split;
mod store;
mod stream;
mod taken_up;
mod waiting;
mod wallet;
mod weather;
