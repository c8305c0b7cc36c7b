//! Bitcoin backend of streampay: one-way payment channels of two keys. Under construction: keys,
//! funding outputs and transactions are here; the machine that pays with them is not yet.

pub mod chain;
mod codec;
mod job;
pub mod keys;
pub mod machine;
pub mod params;
pub mod policy;
pub mod script;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod tx;
mod wire;
