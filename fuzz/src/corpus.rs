//! What a target starts from: what its folder holds, and the vectors.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;
use streampay_spec::conformance::read;
use streampay_spec::json::unhex;
use streampay_spec::vectors;

/// An input and its name.
pub type Named = (String, Vec<u8>);

/// The folder of a target's corpus.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// All of it.
///
/// # Errors
/// Of reading the files.
pub fn inputs(target: &str) -> io::Result<Vec<Named>> {
    let mut inputs = kept(target)?;
    inputs.extend(of_vectors(target)?);
    Ok(inputs)
}

/// What the folder holds.
///
/// # Errors
/// Of reading the files.
pub fn kept(target: &str) -> io::Result<Vec<Named>> {
    let entries = fs::read_dir(folder(target))?;
    let named = entries.map(|entry| {
        let path = entry?.path();
        Ok((path.display().to_string(), fs::read(path)?))
    });
    let mut kept = named.collect::<io::Result<Vec<Named>>>()?;
    kept.sort();
    Ok(kept)
}

/// Every vector that the target takes: what is right, what is passed over and what is refused.
///
/// # Errors
/// Of reading the files.
pub fn of_vectors(target: &str) -> io::Result<Vec<Named>> {
    let takes = |file: &str| match target {
        "wire" => file != TERMS,
        "terms" => file == TERMS,
        "scan" => true,
        _ => false,
    };
    let files = read(&vectors::folder()).map_err(io::Error::other)?;
    let files = files.iter().filter(|(file, _)| takes(file));
    Ok(files
        .flat_map(|(file, vectors)| cases(file, vectors))
        .collect())
}

const TERMS: &str = "terms.json";

fn cases(file: &str, vectors: &Value) -> Vec<Named> {
    let parts = ["valid", "invalid", "ignored"];
    let parts = parts
        .iter()
        .filter_map(|part| vectors.get(part)?.as_array());
    let named = parts.flatten().filter_map(|case| {
        let bytes = unhex(case.get("hex")?.as_str()?)?;
        let name = case.get("name").and_then(Value::as_str).unwrap_or_default();
        Some((format!("{file}: {name}"), bytes))
    });
    named.collect()
}
