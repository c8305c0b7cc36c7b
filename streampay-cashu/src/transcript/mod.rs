//! What the machines ask of a mint and of their wallet, as data, for the spec's transcripts and
//! whoever replays them: [`Call`] is an effect's body in words, [`Called`] its good end, [`State`]
//! what a purse's records say, [`Mint`] a mint of fixed keys that answers.
//!
//! Nothing here is for payments: what is secret is written out. Spec: conformance 8.

mod call;
mod called;
mod mint;
mod state;
mod text;

pub use self::call::{Call, Coins, Offer, Output, Redeemed, Right};
pub use self::called::{Called, KeysetFee};
pub use self::mint::{Mint, MintKeys};
pub use self::state::{State, state};
pub use self::text::{Hex, Int};
