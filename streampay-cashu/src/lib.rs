//! Cashu backend of streampay: ticks paid in ecash.
//!
//! The method `cashu-swap`: the payer's wallet splits a purse into tokens of exactly one tick
//! each, with the fee of redeeming it on top; every tick hands over one, and the payee swaps it at
//! the mint before it acknowledges. A swap costs a fee and a call a tick, and asks nothing of the
//! mint but NUT-03, 07 and 09.
//!
//! [`SwapMachine`] is the sync machine of both roles, [`Runner`] makes its calls over the
//! `cdk::Wallet`s that the embedder's [`Wallets`] hands out.
//!
//! # Where the money is
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
mod fee;
mod figures;
mod job;
mod keysets;
mod locked;
mod machine;
mod params;
mod params_locked;
mod runner;
pub mod verify;
mod wire;

pub use figures::{PurseFigures, purse_figures};
pub use locked::{LockedMachine, LockedPolicy};
pub use machine::{SwapMachine, SwapPolicy};
pub use params::{AcceptedMint, ParamsError, SwapParams, check_mint_url};
pub use params_locked::LockedParams;
pub use runner::{Runner, Wallets, redeeming_fee};
