//! Judges and chains for tests: transactions go to Bitcoin Core's own script code.

mod call;
mod chain;
mod conformance;
mod consensus;
mod ledger;
mod node;
mod play;
mod policy;
#[cfg(test)]
mod tests;

pub use call::{Call, Called};
pub use chain::SimChain;
pub use conformance::{ChainLab, conforms};
pub use consensus::{BadInput, check_scripts};
pub use ledger::open_home;
pub use node::{Payment, SimNode, home, sim_config};
pub use play::{Tally, play};
pub use policy::Reject;
