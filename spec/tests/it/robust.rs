//! Every flipped bit and every cut of every vector, and what decoding it allocates. A sample of them of what is said in
//! the transcripts, given to the machines.

use serde_json::{Value, json};
use streampay_core::wire::{MESSAGE_MAX, Terms, decode};
use streampay_spec::adapter::Adapter;
use streampay_spec::conformance::read;
use streampay_spec::json::{hex, unhex};
use streampay_spec::{transcripts, vectors};

/// The most that one decoding may allocate, all in all.
const ALLOCATED_MAX: u64 = 64 * 1024;

/// How often the adapter, and the machine behind it, may copy the text of a step that is longer than that.
const TEXT_FACTOR: u64 = 5;

fn check(terms: bool, bytes: &[u8]) {
    let allocated = allocation_counter::measure(|| {
        if terms {
            drop(Terms::from_bytes(bytes));
        } else {
            drop(decode(bytes));
        }
    });
    let total = allocated.bytes_total;
    assert!(total <= ALLOCATED_MAX, "{total} bytes for {}", hex(bytes));
}

fn every_damage(terms: bool, mut bytes: Vec<u8>) -> usize {
    for len in 0..=bytes.len() {
        check(terms, &bytes[..len]);
    }
    // A bit beyond the limit changes nothing: nobody looks there.
    let bits = bytes.len().min(MESSAGE_MAX) * 8;
    for bit in 0..bits {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(terms, &bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.len() + bits
}

#[test]
fn every_damaged_vector_ends_well_and_small() {
    let mut count = 0;
    for (name, file) in read(&vectors::folder()).unwrap() {
        let parts = ["valid", "invalid", "ignored"];
        let cases = parts.iter().filter_map(|part| file.get(part)?.as_array());
        for case in cases.flatten() {
            let bytes = unhex(case["hex"].as_str().unwrap()).unwrap();
            count += every_damage(name == "terms.json", bytes);
        }
    }
    assert!(count > 1_000_000, "only {count} damaged vectors");
}

fn steps(file: &Value) -> &Vec<Value> {
    file["steps"].as_array().unwrap()
}

fn step(adapter: &mut Adapter, step: &Value) -> Value {
    let mut request = json!({"cmd": "step", "now": step["now"], "input": step["input"]});
    if let Some(take) = step.get("take") {
        request["take"] = take.clone();
    }
    let answer = adapter.answer(&request);
    assert!(answer.get("ok").is_some(), "{answer} for {request}");
    answer
}

fn said(value: &Value) -> Option<Vec<u8>> {
    unhex(value["input"].get("received")?.as_str()?)
}

/// Some of what can be done to a message; another part of it for each `round`.
fn damaged(bytes: &[u8], round: usize) -> Vec<Vec<u8>> {
    let bits = (round * 7..bytes.len() * 8).step_by(bytes.len() * 8 / 5 + 1);
    let flipped = bits.map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cut = bytes[..bytes.len() * round / 8].to_vec();
    flipped.chain([cut]).collect()
}

/// What a machine allocates for one input of a transcript, with what the adapter needs to read it and to tell what came
/// of it: of an opening of 60 KiB, in hexadecimal, a few copies.
#[test]
fn no_step_of_a_transcript_allocates_much() {
    let mut count = 0;
    for (name, file) in read(&transcripts::folder()).unwrap() {
        let mut adapter = Adapter::new(None);
        for target in steps(&file) {
            let mut answer = Value::Null;
            let allocated = allocation_counter::measure(|| answer = step(&mut adapter, target));
            let text = target.to_string().len() + answer.to_string().len();
            let most = ALLOCATED_MAX.max(TEXT_FACTOR * u64::try_from(text).unwrap());
            let total = allocated.bytes_total;
            assert!(
                total <= most,
                "{total} of {most} bytes for {name}: {}",
                target["input"]
            );
            count += 1;
        }
    }
    assert!(count > 1_000, "only {count} steps");
}

/// Each message of each transcript comes damaged, some ways, before it comes as it was said.
#[test]
fn damaged_messages_never_break_a_machine() {
    let mut count = 0;
    for (_, file) in read(&transcripts::folder()).unwrap() {
        for (at, target) in steps(&file).iter().enumerate() {
            let Some(bytes) = said(target) else { continue };
            let round = at % 8;
            let mut adapter = Adapter::new(None);
            for before in &steps(&file)[..at] {
                step(&mut adapter, before);
            }
            for bytes in damaged(&bytes, round) {
                let input = json!({"received": hex(&bytes)});
                step(&mut adapter, &json!({"now": target["now"], "input": input}));
                count += 1;
            }
            for after in &steps(&file)[at..] {
                step(&mut adapter, after);
            }
        }
    }
    assert!(count > 1_000, "only {count} damaged messages");
}

/// What one side hears in any transcript, said to the other side in the middle of a session.
#[test]
fn messages_of_the_wrong_side_never_break_a_machine() {
    let files = read(&transcripts::folder()).unwrap();
    let open: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.ends_with("-open-and-tick.json"))
        .collect();
    assert_eq!(open.len(), 2);
    for (_, begin) in open {
        for (_, file) in &files {
            let mut adapter = Adapter::new(None);
            for before in steps(begin) {
                step(&mut adapter, before);
            }
            let now = &steps(begin).last().unwrap()["now"];
            for bytes in steps(file).iter().filter_map(said) {
                let input = json!({"received": hex(&bytes)});
                step(&mut adapter, &json!({"now": now, "input": input}));
            }
        }
    }
}
