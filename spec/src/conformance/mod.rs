//! The runner: puts an implementation through vectors, transcripts and hostile peers.

mod child;
mod report;
mod subject;
mod transcripts;
mod vectors;

use std::path::Path;

use serde_json::Value;

pub use self::child::{Child, DEFAULT_TIMEOUT, LINE_MAX};
pub use self::report::Report;
pub use self::subject::{InProcess, Subject, Trouble};
pub(crate) use self::transcripts::{Numbers, is_event};
use crate::hostile;
use crate::vectors::File;

/// What an implementation is put through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes and what they mean, hashes, signatures, prices.
    Vectors,
    /// Scenes, step by step.
    Transcripts,
    /// Peers that lie, repeat and flood.
    Hostile,
    /// Scenes of the machines of the Cashu methods.
    Cashu,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vectors, Self::Transcripts, Self::Hostile, Self::Cashu];
}

/// Folders of cases that no adapter is asked for. Spec: conformance 9.
const NOT_ASKED: [&str; 4] = [
    "vectors/cashu",
    "vectors/btc",
    "vectors/media",
    "transcripts/btc",
];

/// What is in the specification, and in none of these parts: folders, and how many files each has.
///
/// # Errors
/// A text where a folder cannot be read.
pub fn not_asked(parts: &[Part]) -> Result<Vec<(&'static str, usize)>, String> {
    let cashu = (!parts.contains(&Part::Cashu)).then_some("transcripts/cashu");
    let folders = NOT_ASKED.into_iter().chain(cashu);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = |folder: &'static str| Ok((folder, read(&root.join(folder))?.len()));
    folders.map(count).collect()
}

/// Every case of these parts, against one implementation.
///
/// # Errors
/// A text where the files of cases cannot be read.
pub fn run(subject: &mut dyn Subject, parts: &[Part]) -> Result<Report, String> {
    let mut report = Report::default();
    for part in parts {
        match part {
            Part::Vectors => {
                for (name, file) in read(&crate::vectors::folder())? {
                    vectors::run(subject, &mut report, &name, &file);
                }
            }
            Part::Transcripts => {
                for (name, file) in read(&crate::transcripts::folder())? {
                    transcripts::run(subject, &mut report, &name, &file);
                }
            }
            Part::Cashu => {
                for (name, file) in read(&crate::transcripts::folder().join("cashu"))? {
                    transcripts::run(subject, &mut report, &name, &file);
                }
            }
            Part::Hostile => {
                for script in hostile::scripts() {
                    let name = format!("hostile `{}`", script.name);
                    report.add(&name, script.play(subject));
                }
            }
        }
    }
    Ok(report)
}

/// All JSON files of a folder, by name.
///
/// # Errors
/// A text where one cannot be read.
pub fn read(folder: &Path) -> Result<Vec<File>, String> {
    let say = |error: &dyn core::fmt::Display| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|error| say(&error))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    let read = |name: String| {
        let text = std::fs::read_to_string(folder.join(&name)).map_err(|error| say(&error))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| say(&error))?;
        Ok((name, value))
    };
    names.into_iter().map(read).collect()
}

/// True where two values say the same: an integer may be a text or a number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let there = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|found| same(value, found))
            };
            one.len() == other.len() && one.iter().all(there)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Number(_), Value::String(_)) | (Value::String(_), Value::Number(_)) => {
            crate::json::as_int(one).is_some_and(|int| Some(int) == crate::json::as_int(other))
        }
        (one, other) => one == other,
    }
}
