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

/// The core is told the time and given entropy, and does no I/O. These files alone ask the
/// machine: the driver, the store's adapter, and the simulator's switch, which is of a thread.
#[test]
fn core_asks_no_clock_no_dice_and_does_no_io() {
    const MAY: [&str; 7] = [
        "driver",
        "planted.rs",
        "store/fence.rs",
        "store/medium.rs",
        "store/mod.rs",
        "store/redb.rs",
        "store/tests_redb.rs",
    ];
    const ASKS: [&str; 14] = [
        "Instant::now",
        "SystemTime::now",
        "thread_rng",
        "rand::",
        "OsRng",
        "getrandom",
        "std::env",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "tokio",
        "redb::",
    ];
    check(|path, text| {
        let asked = ASKS.iter().find(|asks| text.contains(**asks))?;
        let may = MAY.iter().any(|module| path.starts_with(module));
        (!may).then(|| format!("{} asks {asked}", path.display()))
    });
}
