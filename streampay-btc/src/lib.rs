//! Bitcoin backend of streampay. **There is nothing here yet**: this page says what will be, so
//! that nobody takes the package's name for a promise kept. Until then sessions are paid by
//! `streampay-cashu`.
//!
//! # What it will hold
//!
//! The method `btc-channel`: one purse is one one-way payment channel, funded by the viewer, as
//! the descriptor
//!
//! ```text
//! tr(I, and_v(or_c(pk(S),v:after(T)),pk(V)))
//! ```
//!
//! with `V` the viewer's key, `S` the streamer's, `I` their aggregate by BIP 327 and `T` an
//! absolute height; and the same miniscript under P2WSH as a second type.
//!
//! - **A tick** is the viewer's signature over its own change alone (`SIGHASH_SINGLE` with
//!   `ANYONECANPAY`). The streamer signs last, at broadcast, sets the fee, and can close many
//!   channels in one transaction. Nothing is revoked and no state is toxic.
//! - **The refund** is the viewer's alone after `T`, with a descriptor and a seed that work without
//!   this software.
//! - **The machine** is a [`BackendMachine`](streampay_core::backend::BackendMachine) like any
//!   other: sync, without I/O. Blocks come from a `ChainSource` of the embedder's: Bitcoin Core's
//!   RPC or Esplora.
//!
//! The session needs no change for it: settle reserves, confirmations and life left are the
//! backend's, behind the requests and outcomes that there are.
