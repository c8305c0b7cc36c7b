//! Rules of the house that no lint knows.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn check(mut rule: impl FnMut(&Path, &str) -> Option<String>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "only {} files in {src:?}", files.len());
    let broken: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            rule(path.strip_prefix(&src).unwrap(), &text)
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The core is told the time and given entropy. The driver alone asks the machine.
#[test]
fn core_asks_no_clock_and_no_dice() {
    const ASKS: [&str; 7] = [
        "Instant::now",
        "SystemTime::now",
        "thread_rng",
        "rand::",
        "OsRng",
        "getrandom",
        "std::env",
    ];
    check(|path, text| {
        let asked = ASKS.iter().find(|asks| text.contains(**asks))?;
        let driver = path.starts_with("driver");
        (!driver).then(|| format!("{} asks {asked}", path.display()))
    });
}

/// The session, the codec and the meters do no I/O at all.
#[test]
fn machines_know_no_runtime() {
    check(|path, text| {
        let sans_io = ["session", "wire", "meter", "units", "backend"];
        let pure = sans_io.iter().any(|module| path.starts_with(module));
        let named = ["tokio", "std::net", "std::fs", "std::thread", "redb::"];
        let found = named.iter().find(|name| text.contains(**name))?;
        pure.then(|| format!("{} names {found}", path.display()))
    });
}
