use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::process::ExitCode;

use super::{Adapter, Broken};

/// Answers the lines of standard input until they end.
#[must_use]
pub fn serve(broken: Option<Broken>) -> ExitCode {
    let mut adapter = Adapter::new(broken);
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Some(answer) = adapter.answer_line(&line) else {
            return ExitCode::FAILURE;
        };
        // A broken one that hangs says nothing at all.
        if answer.is_empty() {
            continue;
        }
        let mut out = stdout().lock();
        let written = writeln!(out, "{answer}").and_then(|()| out.flush());
        if written.is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}
