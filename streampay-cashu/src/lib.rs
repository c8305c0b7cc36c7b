#![doc = include_str!("../README.md")]
//!
//! # Machines
//!
//! | method | machine |
//! |---|---|
//! | `cashu-chain` | [`LockedMachine::chain`] |
//! | `cashu-p2pk` | [`LockedMachine::p2pk`] |
//! | `cashu-swap` | [`SwapMachine`] |
//!
//! Each machine is sync and of both roles; one [`Runner`] makes the calls of all, over the
//! `cdk::Wallet`s that the embedder's [`Wallets`] hands out.
//!
//! # Locked ecash
//!
//! A purse is funded once with proofs that name the payee's key of that purse, the payer's for the
//! way back, and a locktime; in `cashu-chain` each step also has a lock of its own. The payee checks
//! it offline ([`verify`]) and asks the mint once (NUT-07). From then on a tick is a hash. The pure
//! functions are in [`chain`]; what the machines do when is in the documentation of
//! [`LockedMachine`].
//!
//! | moment | payer's money | payee's |
//! |---|---|---|
//! | planned | wallet's proofs, reserved under the purse's operation id; seed in our record | |
//! | at the mint | outputs derived from the seed: the same request again, or NUT-09 | |
//! | open | locked; signatures in our record, secrets and preimages derived | preimages as they come |
//! | redeemed | | swapped in batches into outputs derived from its own seed |
//! | closed | the payee signs the rest over (a note), which the payer swaps home | |
//! | locktime | the payer swaps home what is left, by itself | |
//!
//! # `cashu-swap`
//!
//! The payer's wallet splits a purse into tokens of exactly one tick
//! each, with the fee of redeeming it on top; every tick hands over one, and the payee swaps it at
//! the mint before it acknowledges. A swap costs a fee and a call a tick, and asks nothing of the
//! mint but NUT-03, 07 and 09.
//!
//! | moment | payer's tokens |
//! |---|---|
//! | planned | wallet's proofs, reserved under the purse's operation id; seed in our record |
//! | at the mint | inputs reserved, outputs derived from the seed: the same request again, or NUT-09 |
//! | open | in our records, and in the wallet as reserved |
//! | sent | the same; `Reclaim` asks the mint (NUT-07) and swaps back |
//! | released | spendable in the wallet |
//!
//! The payee's outputs are derived from the purse's seed, the tick and the payload, all durable
//! before the swap. Whether a spent token was spent by us is never guessed: the mint has signed
//! exactly our outputs (NUT-09), or it was somebody else.
//!
//! What the derived seeds protect is the record, not the paper backup: these proofs come back
//! from the store and the wallet's file, not from the wallet's seed words alone. cdk spends them
//! first.

pub mod chain;
mod codec;
mod coin;
#[cfg(test)]
mod damage;
mod fee;
mod figures;
#[cfg(test)]
mod fuzz;
mod job;
mod keysets;
mod locked;
mod machine;
mod pace;
mod params;
mod params_locked;
mod runner;
#[cfg(test)]
mod tests_called_off;
#[cfg(feature = "transcript")]
pub mod transcript;
#[cfg(test)]
mod vectors;
pub mod verify;
mod wire;

pub use figures::{PurseFigures, add_line, purse_figures, purse_name};
pub use locked::{LockedMachine, LockedPolicy, PurseLock};
pub use machine::{SwapMachine, SwapPolicy};
pub use params::{AcceptedMint, ParamsError, SwapParams, check_mint_url};
pub use params_locked::LockedParams;
pub use runner::{
    CallBudget, LostFunding, MintFault, MintPolicy, PurseQuote, Runner, Wallets, announced_nuts,
    best_mint, canary, canary_home, check_mint, find_signed, purse_quote,
};
