//! For tests: what `spec/vectors/hashes.json` shows.

use alloc::format;
use alloc::string::String;

use super::Hash;

/// True where the vectors of hashes have this one.
pub(crate) fn have(hash: Hash) -> bool {
    let bytes = hash.0.iter();
    have_one_from(&bytes.fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

/// True where one of them begins with these hex digits.
pub(crate) fn have_one_from(hex: &str) -> bool {
    let hashes = include_str!("../../../spec/vectors/hashes.json");
    hashes.contains(&format!("\"hash\": \"{hex}"))
}
