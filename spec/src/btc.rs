//! The vectors and transcripts of the bitcoin chapter: `streampay-btc` writes them itself, with its
//! simulated chain, so this crate needs none of it.

use std::env;
use std::path::Path;
use std::process::Command;

/// Has them written, or with `check` looks whether they are up to date.
///
/// # Errors
/// A text where they are not, or cargo does not run.
pub fn vectors(check: bool) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["run", "--quiet", "--package", "streampay-btc"])
        .args(["--example", "vectors"]);
    if check {
        command.args(["--", "--check"]);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("those of the bitcoin chapter are not what this code writes".into()),
        Err(error) => Err(format!("cargo does not run: {error}")),
    }
}
