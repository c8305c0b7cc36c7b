//! The messages and terms of the vectors, and one input for every way to refuse.

use streampay_core::session::{Entropy, SecretKey};
use streampay_core::sim::Rng;
use streampay_core::wire::{MESSAGE_MAX, Terms, encode};
use streampay_spec::fields::MESSAGES;
use streampay_spec::people;
use streampay_spec::vectors::samples;

use super::stored;

/// A target, the name of a file, and its bytes.
type Seed = (&'static str, String, Vec<u8>);

pub(crate) fn all() -> Vec<Seed> {
    let messages = messages();
    let mut all: Vec<Seed> = Vec::new();
    for (name, bytes) in &messages {
        all.push(("wire", name.clone(), bytes.clone()));
    }
    for (name, bytes) in refused() {
        all.push(("wire", name.into(), bytes.clone()));
        all.push(("scan", name.into(), bytes));
    }
    for (name, bytes) in messages.into_iter().filter(|(name, _)| is_of_shapes(name)) {
        all.push(("scan", name, bytes));
    }
    for (name, terms) in samples::all_terms().unwrap() {
        all.push(("terms", slug(name), terms.to_bytes()));
    }
    all.push(("terms", "refused-empty".into(), vec![0xa0]));
    let terms = Terms {
        payee: key("payee").public(),
        methods: vec![people::method("fake")],
        ..people::terms().unwrap()
    };
    let [payer, payee] = stored::records(terms, key);
    all.push(("records", "payer".into(), payer));
    all.push(("records", "payee".into(), payee));
    for (target, length) in [
        ("session", 192),
        ("resume", 160),
        ("store", 192),
        ("receipts", 80),
        ("messages", 160),
        ("channel", 160),
    ] {
        for (name, seed) in [("first", 1), ("second", 2), ("third", 3)] {
            all.push((target, name.into(), random(seed, length)));
        }
    }
    all
}

/// Each message of the vectors, once.
fn messages() -> Vec<(String, Vec<u8>)> {
    let messages = samples::messages().unwrap().into_iter();
    let named = messages.map(|(name, message)| {
        let kind = MESSAGES.iter().find(|(_, n)| *n == message.number());
        let kind = kind.unwrap().0;
        (slug(&format!("{kind} {name}")), encode(&message).to_vec())
    });
    named.collect()
}

/// A few with maps in maps, lists, texts and long bytes.
fn is_of_shapes(name: &str) -> bool {
    ["welcome", "hello", "chat", "ack"]
        .iter()
        .any(|kind| name.starts_with(kind))
}

fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

/// What a seed chooses: sessions, histories of a store, numbers.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let bytes = std::iter::repeat_with(|| rng.next().to_be_bytes()[0]);
    bytes.take(length).collect()
}

fn key(name: &str) -> SecretKey {
    SecretKey::derive(&Entropy([1; 32]), name).unwrap()
}

fn refused() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("refused-01-empty", vec![]),
        ("refused-02-too-long", vec![0; MESSAGE_MAX + 1]),
        ("refused-03-truncated", vec![0xa2, 0, 0x16, 2]),
        ("refused-04-trailing", vec![0xa2, 0, 0x16, 2, 1, 0]),
        ("refused-05-not-shortest", vec![0xa2, 0, 0x16, 2, 0x18, 1]),
        ("refused-06-indefinite", vec![0xbf, 0, 0x16, 0xff]),
        ("refused-07-key-order", vec![0xa2, 0, 0x16, 0, 0x16]),
        ("refused-08-key-type", vec![0xa1, 0x20, 0]),
        ("refused-09-too-deep", vec![0x81; 64]),
        ("refused-10-unsupported", vec![0xa1, 0, 0xf6]),
        ("refused-11-not-utf8", vec![0xa1, 1, 0x61, 0xc3]),
        ("refused-12-no-type", vec![0xa0]),
        ("refused-13-unknown-type", vec![0xa1, 0, 0x18, 38]),
        ("refused-14-unknown-key", vec![0xa3, 0, 0x16, 2, 1, 4, 0]),
        ("refused-15-missing", vec![0xa1, 0, 0x16]),
        ("refused-16-wrong-kind", vec![0xa2, 0, 0x16, 2, 0x60]),
        (
            "refused-tip-of-nothing",
            vec![0xa4, 0, 0x18, 50, 2, 1, 4, 0x61, b'a', 6, 0],
        ),
        ("refused-leave-with-key", vec![0xa2, 0, 0x18, 52, 2, 0]),
        ("refused-17-out-of-range", vec![0xa2, 0, 4, 2, 0x41, 0]),
        ("ignored-odd-type", vec![0xa1, 0, 0x18, 29]),
        ("ignored-odd-key", vec![0xa3, 0, 0x16, 2, 1, 3, 0x80]),
    ]
}
