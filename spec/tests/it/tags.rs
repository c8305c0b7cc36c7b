//! Tags of hashes: all that the code uses are in the registry, and all that two sides share are in vectors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use streampay_spec::conformance::read;
use streampay_spec::vectors;

/// Where the code is whose tags are looked for.
const SOURCES: [&str; 5] = [
    "streampay-core/src",
    "streampay-cashu/src",
    "streampay-btc/src",
    "streampay-media/src",
    "examples/src",
];
/// Tags of others that the code uses. Source: BIP 327.
const OF_OTHERS: [&str; 3] = ["KeyAgg list", "KeyAgg coefficient", "TapSighash"];
/// Tests are no part of what peers meet.
const OF_TESTS: &str = "streampay/test/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder whose names end so.
fn below(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, end, found);
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
}

fn texts(folder: &str, end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    below(&root().join(folder), end, &mut found);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    found.into_iter().map(read).collect()
}

/// What stands between two marks, wherever it does.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(open).skip(1);
    parts.filter_map(move |part| Some(part.split_once(close)?.0))
}

/// The protocol's own name, which has a number behind it and is hashed nowhere.
fn is_protocol(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

fn tags_of(text: &str) -> impl Iterator<Item = String> {
    let names = between(text, "\"streampay/", "\"").filter(|name| !is_protocol(name));
    let whole = names.map(|name| format!("streampay/{name}"));
    whole.filter(|tag| !tag.starts_with(OF_TESTS))
}

/// Whatever else a hash or a key is made with, where the text itself is there.
fn other_tags(text: &str) -> impl Iterator<Item = &str> {
    let calls = ["TaggedHash::new(\"", "Tag::new(\"", "tagged(\""];
    let tags = calls.into_iter().flat_map(|call| between(text, call, "\""));
    tags.filter(|tag| !tag.starts_with("streampay/"))
}

fn is_of_tests(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    parts.any(|part| part == "tests" || part.starts_with("tests.") || part.starts_with("tests_"))
}

/// The tables of tags: those of the protocol, and those of our programs.
fn registered() -> [Vec<String>; 2] {
    let text = include_str!("../../registry.md");
    let (_, tags) = text.split_once("\n## Tags\n").unwrap();
    let (tags, _) = tags.split_once("\n## ").unwrap();
    let (shared, programs) = tags.split_once("\nThese are of our programs").unwrap();
    [shared, programs].map(|part| {
        let rows = part
            .lines()
            .filter(|line| line.starts_with("| `streampay/"));
        let cells = rows.flat_map(|row| {
            let (tags, rest) = row[2..].split_once(" | ").unwrap();
            let is_tag = !rest.starts_with("not a tag") && !rest.starts_with("labels of");
            let kind = if is_tag { "" } else { "not a tag: " };
            tags.split('`')
                .filter(|tag| tag.starts_with("streampay/"))
                .map(move |tag| format!("{kind}{tag}"))
                .collect::<Vec<_>>()
        });
        cells.collect()
    })
}

#[test]
fn every_tag_of_the_code_is_in_the_registry_and_none_is_there_for_nothing() {
    let known = registered().concat();
    let known: BTreeSet<&str> = known
        .iter()
        .map(|tag| tag.trim_start_matches("not a tag: "))
        .collect();
    let mut used = BTreeSet::new();
    for (path, text) in SOURCES.iter().flat_map(|folder| texts(folder, ".rs")) {
        for tag in tags_of(&text) {
            assert!(known.contains(tag.as_str()), "{tag} in {}", path.display());
            used.insert(tag);
        }
        for tag in other_tags(&text).filter(|_| !is_of_tests(&path)) {
            assert!(OF_OTHERS.contains(&tag), "{tag} in {}", path.display());
        }
    }
    let idle: Vec<_> = known.iter().filter(|tag| !used.contains(**tag)).collect();
    assert!(idle.is_empty(), "nobody uses {idle:?}");
    assert!(used.len() > 25, "{used:?}");
}

/// Shown by a case of `hashes.json`, or used where the script works out what other vectors show.
#[test]
fn every_tag_of_the_protocol_has_a_vector() {
    let files = read(&vectors::folder()).unwrap();
    let (_, hashes) = files
        .iter()
        .find(|(name, _)| name == "hashes.json")
        .unwrap();
    let shown: BTreeSet<&str> = hashes["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["tag"].as_str().unwrap())
        .collect();
    let scripts = texts("spec/check", ".py");
    let computed = |tag: &str| {
        scripts
            .iter()
            .any(|(_, text)| text.contains(&format!("\"{tag}\"")))
    };
    let [shared, _] = registered();
    let tags = shared.iter().filter(|tag| tag.starts_with("streampay/"));
    let without: Vec<_> = tags
        .filter(|tag| !shown.contains(tag.as_str()) && !computed(tag))
        .collect();
    assert!(without.is_empty(), "no vector of {without:?}");
    assert!(shared.len() > 20, "{shared:?}");
}
