//! What is on disk is what this code writes.

use std::collections::BTreeSet;

use streampay_spec::conformance::read;
use streampay_spec::fields::MESSAGES;
use streampay_spec::vectors::{File, schema};
use streampay_spec::{transcripts, vectors};

fn same(written: Vec<File>, found: Vec<File>) {
    let mut written = written;
    written.sort_by(|(one, _), (other, _)| one.cmp(other));
    let names = |files: &[File]| {
        files
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&written), names(&found), "run the bin `vectors`");
    for ((name, written), (_, found)) in written.iter().zip(&found) {
        assert!(
            written == found,
            "{name} has grown old: run the bin `vectors`"
        );
    }
}

#[test]
fn vectors_are_up_to_date() {
    same(vectors::files().unwrap(), read(&vectors::folder()).unwrap());
}

#[test]
fn transcripts_are_up_to_date() {
    let found = read(&transcripts::folder()).unwrap();
    same(transcripts::files().unwrap(), found);
}

#[test]
fn transcripts_of_the_cashu_methods_are_up_to_date() {
    let found = read(&transcripts::cashu::folder()).unwrap();
    same(transcripts::cashu::files().unwrap(), found);
}

/// At least ten refusals of every message, none of them twice, with at least ten error codes.
#[test]
fn every_message_has_ten_refusals_of_ten_kinds() {
    for (name, file) in read(&vectors::folder()).unwrap() {
        let Some(refused) = file.get("invalid") else {
            continue;
        };
        let refused = refused.as_array().unwrap();
        let codes: BTreeSet<&str> = refused
            .iter()
            .map(|case| case["error"]["code"].as_str().unwrap())
            .collect();
        let bytes: BTreeSet<&str> = refused
            .iter()
            .map(|case| case["hex"].as_str().unwrap())
            .collect();
        assert!(bytes.len() >= 10, "{name}: {} refusals", bytes.len());
        assert_eq!(bytes.len(), refused.len(), "{name}: one is there twice");
        assert!(codes.len() >= 10, "{name}: {codes:?}");
    }
}

/// The events of one step are in the order of the table in `conformance.md`.
#[test]
fn events_come_in_the_order_that_is_written_down() {
    let text = include_str!("../../conformance.md");
    let (_, table) = text.split_once("| event | fields | told |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let first = rows.filter_map(|row| row.split_once(" | "));
    let order: Vec<&str> = first
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    assert!(order.len() > 25, "{order:?}");
    for (name, file) in read(&transcripts::folder()).unwrap() {
        if file["role"] == "host" {
            continue;
        }
        for (at, step) in file["steps"].as_array().unwrap().iter().enumerate() {
            let told = step["outputs"].as_array().unwrap().iter();
            let told = told.filter_map(|output| output.get("event")?.as_object());
            let told: Vec<_> = told.flat_map(|event| event.keys()).collect();
            let places: Vec<_> = told
                .iter()
                .map(|event| order.iter().position(|known| known == event))
                .collect();
            assert!(!places.contains(&None), "{name} step {at}: {told:?}");
            assert!(places.is_sorted(), "{name} step {at}: {told:?}");
        }
    }
}

/// A line of the registry's table of keys: which keys, and which of them may be missing.
fn keys(row: &str) -> Vec<(u64, bool)> {
    let listed = row.split(", ").filter(|key| *key != "none");
    let key = |key: &str| {
        let (number, _) = key.split_once(' ').unwrap();
        (number.parse().unwrap(), key.ends_with('?'))
    };
    listed.map(key).collect()
}

#[test]
fn registry_lists_every_message_and_every_key() {
    let text = include_str!("../../registry.md");
    let row = |name: &str| {
        let found = text.split_once(&format!("\n| {name} | ")).unwrap().1;
        keys(found.split_once(" |\n").unwrap().0)
    };
    let of = |keys: Vec<schema::Key>| -> Vec<(u64, bool)> {
        keys.iter().map(|key| (key.key, key.optional)).collect()
    };
    let evidence = schema::message(6).into_iter().map(|key| key.kind).next();
    let Some(schema::Kind::Map(evidence)) = evidence else {
        panic!("ready has no evidence");
    };
    let inner = |key: u64| {
        let found = schema::terms().into_iter().find(|found| found.key == key);
        match found.map(|found| found.kind) {
            Some(schema::Kind::Map(keys) | schema::Kind::Maps(keys, ..)) => of(keys),
            _ => panic!("no map at key {key} of terms"),
        }
    };
    assert_eq!(row("rate, in terms"), inner(2));
    assert_eq!(row("rate, in terms"), inner(4));
    assert_eq!(row("method, in terms"), inner(18));
    assert_eq!(row("terms"), of(schema::terms()));
    assert_eq!(row("evidence"), of(evidence));
    let (_, listed) = text.split_once("## Keys").unwrap();
    let (keys_alone, _) = listed.split_once("\n## ").unwrap();
    for (name, number) in MESSAGES {
        assert!(
            text.contains(&format!("\n| {number} | `{name}` | ")),
            "{name}"
        );
        let (_, found) = keys_alone.split_once(&format!("\n| `{name}` | ")).unwrap();
        let found = keys(found.split_once(" |\n").unwrap().0);
        assert_eq!(found, of(schema::message(number)), "{name}");
    }
}
