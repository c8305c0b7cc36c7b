//! The vectors: bytes and what they mean, or why they mean nothing.

pub mod cbor;
mod codes;
mod hashes;
mod invalid;
mod large;
mod order;
mod pricing;
pub mod samples;
pub mod schema;
mod signatures;

use std::path::PathBuf;

use serde_json::Value;
use streampay_core::wire::{Hello, MESSAGE_MAX, Message, Terms, VERSION, decode, encode};

use self::invalid::{Invalid, plain, unknown_type};
use crate::fields::{self, MESSAGES, error_to_json, message_to_json, terms_to_json};
use crate::json::{Object, hex, int};

/// A file and what is in it.
pub type File = (String, Value);

/// The folder of the vectors.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// All files of the folder.
///
/// # Errors
/// A text where the code does not do what the tables of this module say: then one has a bug.
pub fn files() -> Result<Vec<File>, String> {
    let samples = samples::messages().map_err(hashes::bad_key)?;
    let mut files = Vec::new();
    for (name, number) in MESSAGES {
        let mine: Vec<_> = samples
            .iter()
            .filter(|(_, message)| message.number() == number)
            .collect();
        files.push((format!("{name}.json"), message_file(name, number, &mine)?));
    }
    files.push(("terms.json".into(), terms_file()?));
    files.push(("framing.json".into(), framing_file()?));
    for (name, cases) in [
        ("hashes", hashes::cases()?),
        ("signatures", signatures::cases()?),
        ("pricing", pricing::cases()),
    ] {
        let file = Object::new().int("format", 1_u64).with("cases", cases);
        files.push((format!("{name}.json"), file.done()));
    }
    Ok(files)
}

fn message_file(
    name: &str,
    number: u64,
    samples: &[&(&'static str, Message)],
) -> Result<Value, String> {
    let Some((_, first)) = samples.first() else {
        return Err(format!("no sample of `{name}`"));
    };
    let mut valid = Vec::new();
    for (case, message) in samples {
        valid.push(valid_message(case, &encode_whole(message), true)?);
    }
    let base = encode_whole(first);
    for (case, bytes) in skipped(&base, 0) {
        valid.push(valid_message(&case, &bytes, false)?);
    }
    for (case, bytes, canonical) in large::cases(number)? {
        valid.push(valid_message(case, &bytes, canonical)?);
    }
    for coded in codes::cases(number) {
        let case = valid_message(coded.name, &coded.bytes, coded.known)?;
        if case.pointer("/fields/code") != Some(&int(coded.read)) {
            return Err(format!("{name}: {} is read as another", coded.name));
        }
        valid.push(case);
    }
    for (case, bytes) in no_version(number, samples) {
        valid.push(valid_message(case, &bytes, false)?);
    }
    let mut invalid = invalid::cases(number, &schema::message(number), &base);
    invalid.extend(too_much(number));
    let file = Object::new()
        .int("format", 1_u64)
        .with("message", name)
        .int("type", number)
        .with("valid", valid)
        .with("invalid", invalid_to_json(&invalid, decode_error)?);
    Ok(file.done())
}

fn encode_whole(message: &Message) -> Vec<u8> {
    encode(message).to_vec()
}

fn valid_message(name: &str, bytes: &[u8], canonical: bool) -> Result<Value, String> {
    let message = match decode(bytes) {
        Ok(Some(message)) => message,
        other => return Err(format!("{name}: {other:?}")),
    };
    // An encoder may know less of what nobody writes than of what it must not lose.
    if canonical && encode(&message) != bytes {
        return Err(format!("{name}: is not what is written"));
    }
    let json = message_to_json(&message);
    if fields::message_from_json(&json).as_ref() != Ok(&message) {
        return Err(format!("{name}: the fields do not say it all"));
    }
    let fields = json.get("fields").cloned().unwrap_or_default();
    let case = Object::new()
        .with("name", name)
        .hex("hex", bytes)
        .with("fields", fields)
        .with("canonical", canonical);
    Ok(case.done())
}

/// Valid, though not what a sender of this version writes: odd keys, which are skipped.
fn skipped(base: &[u8], first: u64) -> Vec<(String, Vec<u8>)> {
    let Some((cbor::Item::Map(pairs), _)) = cbor::Item::parse(base) else {
        return vec![];
    };
    let insert = |key: u64, value: &[u8]| {
        let mut pairs = pairs.clone();
        pairs.push((key, cbor::Item::Raw(value.to_vec())));
        pairs.sort_by_key(|(key, _)| *key);
        cbor::Item::Map(pairs).encode()
    };
    vec![
        ("an odd key early".into(), insert(first + 1, &[0x01])),
        (
            "an odd key late, with three levels inside".into(),
            insert(9_999, &[0xa1, 0x00, 0x81, 0x81, 0xf5]),
        ),
    ]
}

/// Version 0, which no sender offers and nobody speaks.
fn no_version(number: u64, samples: &[&(&'static str, Message)]) -> Vec<(&'static str, Vec<u8>)> {
    let hellos = samples.iter().filter_map(|(_, message)| match message {
        Message::Hello(hello) if number == 0 => Some(hello.clone()),
        _ => None,
    });
    let with_zero = |hello| {
        let versions = [0, VERSION].into();
        let message = Message::Hello(Hello { versions, ..hello });
        ("version 0 among those offered", encode_whole(&message))
    };
    hellos.take(1).map(with_zero).collect()
}

/// Bounds that depend on more than one value.
fn too_much(number: u64) -> Vec<Invalid> {
    use cbor::Item::{Bytes, Map, Uint};
    if number != 8 {
        return vec![];
    }
    let part = [(0, 8), (2, 0), (4, 2), (6, 2), (8, 0)].map(|(key, value)| (key, Uint(value)));
    let pairs = part.into_iter().chain([(10, Bytes(vec![1]))]).collect();
    let error = Object::new()
        .with("name", "OutOfRange")
        .int("code", 17_u64)
        .int("message", 8_u64)
        .int("key", 4_u64);
    vec![Invalid {
        name: "third part of two".into(),
        bytes: Map(pairs).encode(),
        error: error.done(),
    }]
}

fn decode_error(bytes: &[u8]) -> Option<Value> {
    decode(bytes).err().map(error_to_json)
}

fn invalid_to_json(
    cases: &[Invalid],
    decode: impl Fn(&[u8]) -> Option<Value>,
) -> Result<Vec<Value>, String> {
    let case = |case: &Invalid| {
        let found = decode(&case.bytes);
        if found.as_ref() != Some(&case.error) {
            let (name, expect) = (&case.name, &case.error);
            let bytes = hex(&case.bytes);
            return Err(format!("{name}: {found:?} and not {expect} for {bytes}"));
        }
        let json = Object::new()
            .with("name", case.name.as_str())
            .hex("hex", &case.bytes)
            .with("error", case.error.clone());
        Ok(json.done())
    };
    cases.iter().map(case).collect()
}

fn terms_file() -> Result<Value, String> {
    let all = samples::all_terms().map_err(hashes::bad_key)?;
    let mut valid = Vec::new();
    for (name, terms) in &all {
        valid.push(valid_terms(name, &terms.to_bytes(), true)?);
    }
    let base = all.first().map(|(_, terms)| terms.to_bytes());
    let base = base.unwrap_or_default();
    for (name, bytes) in skipped(&base, 0) {
        valid.push(valid_terms(&name, &bytes, false)?);
    }
    let largest = all.last().map(|(_, terms)| terms.to_bytes());
    let (name, bytes, canonical) = large::terms(&largest.unwrap_or_default())?;
    valid.push(valid_terms(name, &bytes, canonical)?);
    let mut invalid = invalid::cases(fields::TERMS, &schema::terms(), &base);
    invalid.push(Invalid {
        name: "no bytes".into(),
        bytes: vec![],
        error: plain("Empty"),
    });
    let decode = |bytes: &[u8]| Terms::from_bytes(bytes).err().map(error_to_json);
    let file = Object::new()
        .int("format", 1_u64)
        .with("message", "terms")
        .int("type", fields::TERMS)
        .with("valid", valid)
        .with("invalid", invalid_to_json(&invalid, decode)?);
    Ok(file.done())
}

fn valid_terms(name: &str, bytes: &[u8], canonical: bool) -> Result<Value, String> {
    let terms = Terms::from_bytes(bytes).map_err(|error| format!("{name}: {error}"))?;
    if (terms.to_bytes() == bytes) != canonical {
        return Err(format!("{name}: canonical is not {canonical}"));
    }
    let case = Object::new()
        .with("name", name)
        .hex("hex", bytes)
        .with("fields", terms_to_json(&terms))
        .with("canonical", canonical);
    Ok(case.done())
}

/// What is refused, or ignored, whatever the message.
fn framing_file() -> Result<Value, String> {
    let long = [vec![0x59, 0x40, 0x00], vec![0; 16 * 1024]].concat();
    let mut deep = vec![0x81; 10_000];
    deep.push(0x80);
    let invalid: Vec<(&str, Vec<u8>, Value)> = vec![
        ("no bytes", vec![], plain("Empty")),
        ("16387 bytes", long, plain("TooLong")),
        (
            "type 29, of 16385 bytes",
            large::ignored(MESSAGE_MAX.saturating_add(1)),
            plain("TooLong"),
        ),
        (
            "half a map",
            vec![0xa2, 0x00, 0x16, 0x02],
            plain("Truncated"),
        ),
        ("a map of 2^64 pairs", huge(0xbb), plain("Truncated")),
        ("a list of 2^64 items", huge(0x9b), plain("Truncated")),
        ("2^64 bytes", huge(0x5b), plain("Truncated")),
        ("a text of 2^64 bytes", huge(0x7b), plain("Truncated")),
        ("a break", vec![0xff], plain("Indefinite")),
        (
            "a list without an end",
            vec![0x9f, 0xff],
            plain("Indefinite"),
        ),
        ("10000 lists in each other", deep, plain("TooDeep")),
        ("a negative number", vec![0x20], plain("Unsupported")),
        ("a tag", vec![0xc0, 0x00], plain("Unsupported")),
        ("null", vec![0xf6], plain("Unsupported")),
        ("undefined", vec![0xf7], plain("Unsupported")),
        (
            "a simple value in two bytes",
            vec![0xf8, 0x20],
            plain("Unsupported"),
        ),
        ("a reserved length", vec![0x1c], plain("Unsupported")),
        ("a number", vec![0x01], plain("NoType")),
        ("true", vec![0xf5], plain("NoType")),
        ("a list", vec![0x80], plain("NoType")),
        ("an empty map", vec![0xa0], plain("NoType")),
        ("true as type", vec![0xa1, 0x00, 0xf5], plain("NoType")),
        ("type 38", vec![0xa1, 0x00, 0x18, 38], unknown_type(38)),
        ("type 54", vec![0xa1, 0x00, 0x18, 54], unknown_type(54)),
        (
            "type 1000",
            vec![0xa1, 0x00, 0x19, 0x03, 0xe8],
            unknown_type(1000),
        ),
        (
            "type 2^64 - 2",
            [&[0xa1, 0x00, 0x1b][..], &[0xff; 7], &[0xfe]].concat(),
            unknown_type(u64::MAX - 1),
        ),
    ];
    let invalid = invalid
        .into_iter()
        .map(|(name, bytes, error)| Invalid {
            name: name.into(),
            bytes,
            error,
        })
        .chain(order::cases())
        .collect::<Vec<_>>();
    let file = Object::new()
        .int("format", 1_u64)
        .with("message", "framing")
        .with("ignored", ignored()?)
        .with("invalid", invalid_to_json(&invalid, decode_error)?);
    Ok(file.done())
}

fn huge(head: u8) -> Vec<u8> {
    [&[head][..], &[0xff; 8]].concat()
}

/// Messages of odd types that this version does not know.
fn ignored() -> Result<Vec<Value>, String> {
    let cases: [(&str, Vec<u8>); 5] = [
        ("type 29", vec![0xa1, 0x00, 0x18, 29]),
        (
            "type 3 with keys of any kind",
            vec![0xa3, 0, 3, 2, 0x81, 0, 4, 0xf4],
        ),
        (
            "type 2^64 - 1",
            [&[0xa1, 0x00, 0x1b][..], &[0xff; 8]].concat(),
        ),
        ("type 1001", vec![0xa1, 0x00, 0x19, 0x03, 0xe9]),
        ("type 29, of 16384 bytes", large::ignored(MESSAGE_MAX)),
    ];
    let case = |(name, bytes): (&str, Vec<u8>)| match decode(&bytes) {
        Ok(None) => Ok(Object::new().with("name", name).hex("hex", &bytes).done()),
        other => Err(format!("{name}: {other:?}")),
    };
    cases.into_iter().map(case).collect()
}
