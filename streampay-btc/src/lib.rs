#![doc = include_str!("../README.md")]
//!
//! # The channel
//!
//! The method `btc-cltv`: one purse is one channel, an output that the payer funds,
//!
//! ```text
//! tr(I, and_v(or_c(pk(S),v:after(T)),pk(V)))
//! ```
//!
//! with `V` the payer's key, `S` the payee's, `I` their aggregate by BIP 327 and `T` an absolute
//! height; or the same miniscript under P2WSH. Spec: bitcoin.
//!
//! - **A tick** is the payer's signature over its own change alone (`SIGHASH_SINGLE` with
//!   `ANYONECANPAY`). The payee signs last, at broadcast, sets the fee, and closes many channels in
//!   one transaction. Nothing is revoked; no old state harms anybody.
//! - **The refund** is the payer's alone after `T`.
//! - **Nobody's word is taken**: what the channel is follows from the signed terms, funding and
//!   heights from one's own [`chain::ChainSource`].
//!
//! [`machine::ChannelMachine`] is the sync machine of both roles and the watch over the chain: it
//! does no I/O. Feature `sim` brings a chain in memory that judges every input with Bitcoin Core's
//! script code.

pub mod chain;
mod codec;
#[cfg(test)]
mod damage;
mod job;
pub mod keys;
pub mod kit;
pub mod machine;
pub mod params;
pub mod policy;
pub mod runner;
pub mod script;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod tx;
mod wire;

pub use bitcoin;
