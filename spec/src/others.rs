//! The vectors of the Cashu and media chapters: tests of those packages write them, with parts that only
//! they see, and fail in every test run where they have grown old.

use std::env;
use std::path::Path;
use std::process::Command;

/// The packages, and the features with which all their vectors are there.
const PACKAGES: [(&str, &[&str]); 2] = [
    ("streampay-cashu", &[]),
    ("streampay-media", &["--features", "e2ee"]),
];

/// Has them written. With `check` nothing is done: `cargo test` checks them.
///
/// # Errors
/// A text where they are not written, or cargo does not run.
pub fn vectors(check: bool) -> Result<(), String> {
    if check {
        return Ok(());
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for (package, features) in PACKAGES {
        let status = Command::new(&cargo)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .env("STREAMPAY_WRITE_VECTORS", "1")
            .args(["test", "--quiet", "--package", package])
            .args(features)
            .arg("vectors")
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(format!("those of {package} are not written")),
            Err(error) => return Err(format!("cargo does not run: {error}")),
        }
    }
    Ok(())
}
