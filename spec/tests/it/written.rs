//! What is on disk is what this code writes.

use streampay_spec::conformance::read;
use streampay_spec::vectors::File;
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

/// The least that the issue asks for: at least ten refusals for every message.
#[test]
fn every_message_has_ten_refusals() {
    for (name, file) in read(&vectors::folder()).unwrap() {
        let Some(refused) = file.get("invalid") else {
            continue;
        };
        assert!(refused.as_array().unwrap().len() >= 10, "{name}");
    }
}
