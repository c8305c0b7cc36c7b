//! placeholder
mod codec;
pub mod gate;
pub mod meter;
pub mod packet;
pub mod peer;
pub mod record;
pub mod source;
pub mod whep;
