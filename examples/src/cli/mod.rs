//! The command lines of both programs.

pub mod shell;
pub mod streamer;
pub mod viewer;
