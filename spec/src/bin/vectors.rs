//! Writes all vectors and transcripts: `vectors [--check]`. Those of the Cashu and media chapters are written by the
//! tests of their packages, which check them in every test run: with `--check` they are left to those.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use streampay_spec::json::render;
use streampay_spec::transcripts;
use streampay_spec::vectors::{self, File};
use streampay_spec::{btc, others};

fn main() -> ExitCode {
    let check = env::args().any(|argument| argument == "--check");
    let written = btc::vectors(check).and_then(|()| others::vectors(check));
    match written.and_then(|()| run(check)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vectors: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<String, String> {
    let mut old = Vec::new();
    let mut count = 0;
    for (folder, files) in [
        (vectors::folder(), vectors::files()?),
        (transcripts::folder(), transcripts::files()?),
        (transcripts::cashu::folder(), transcripts::cashu::files()?),
    ] {
        count += files.len();
        if check {
            old.extend(differing(&folder, &files)?);
        } else {
            write(&folder, &files)?;
        }
    }
    if old.is_empty() {
        let what = if check { "up to date" } else { "written" };
        Ok(format!("{count} files {what}"))
    } else {
        let files = old.join(", ");
        Err(format!(
            "not what this code writes; run `cargo run --release -p streampay-spec --bin vectors` \
             and look at what changed: {files}"
        ))
    }
}

fn write(folder: &Path, files: &[File]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for old in names(folder)? {
        if !files.iter().any(|(name, _)| *name == old) {
            let path = folder.join(old);
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    for (name, value) in files {
        let path = folder.join(name);
        fs::write(&path, render(value)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Files that are missing, other, or too many.
fn differing(folder: &Path, files: &[File]) -> Result<Vec<String>, String> {
    let mut found: Vec<String> = files
        .iter()
        .filter(|(name, value)| {
            let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
            text != render(value)
        })
        .map(|(name, _)| name.clone())
        .collect();
    let known = |name: &String| files.iter().any(|(known, _)| known == name);
    found.extend(names(folder)?.into_iter().filter(|name| !known(name)));
    Ok(found)
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(".json")).collect())
}
