//! Writes the vectors and transcripts of the bitcoin chapter: `cargo run -p streampay-btc --example
//! vectors`. It must change nothing that is checked in; with `--check` it says whether it would.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    dead_code,
    unused_imports,
    reason = "shared with the tests"
)]

#[path = "../tests/it/must_fail.rs"]
mod must_fail;
#[path = "../tests/it/mutual_vectors.rs"]
mod mutual_vectors;
#[path = "../tests/it/openings.rs"]
mod openings;
#[path = "../tests/it/transcripts/mod.rs"]
mod transcripts;
#[path = "../tests/it/vectors.rs"]
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let check = env::args().any(|argument| argument == "--check");
    match run(check) {
        Ok(old) if old.is_empty() => ExitCode::SUCCESS,
        Ok(old) => {
            let files: Vec<_> = old.iter().map(|path| path.display().to_string()).collect();
            eprintln!("not what this code writes: {}", files.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("vectors: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Files that are missing, other, or too many; none where they are to be written.
fn run(check: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut files = vec![
        (vectors::path(), vectors::file()),
        (mutual_vectors::path(), mutual_vectors::file()),
        (openings::path(), openings::file()),
    ];
    let folder = transcripts::folder();
    for (name, text) in transcripts::files() {
        files.push((folder.join(name), text));
    }
    fs::create_dir_all(&folder)?;
    let mut old = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if !files.iter().any(|(known, _)| *known == path) {
            if !check {
                fs::remove_file(&path)?;
            }
            old.push(path);
        }
    }
    for (path, text) in files {
        if fs::read_to_string(&path).unwrap_or_default() != text {
            if !check {
                fs::write(&path, text)?;
            }
            old.push(path);
        }
    }
    Ok(if check { old } else { Vec::new() })
}
