//! placeholder
mod codec;
pub mod gate;
pub mod meter;
pub mod packet;
pub mod source;
