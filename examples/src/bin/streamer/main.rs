//! The streamer: offers media for money, tick by tick.

// The futures of a whole session, from the connection down to the mint, are deep.
#![recursion_limit = "256"]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    streampay_examples::cli::streamer::main().await
}
