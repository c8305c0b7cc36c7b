//! Names that nobody else can have: what was asked for, and a mark of the identity.

use alloc::format;
use alloc::string::String;

use crate::session::TaggedHash;
use crate::units::XOnlyKey;

/// How much of the name that was asked for is shown, in bytes: with the longest mark it makes 32.
const ASKED_MAX: usize = 20;
/// What separates name and mark, and so is in no name.
const SEPARATOR: char = '#';
/// Bytes of the mark, in hex twice as many characters; the longer one where the shorter is taken.
const MARKS: [usize; 2] = [4, 5];

/// The name that others see; none where this one cannot be shown. `is_taken` says whether another
/// identity has it. Spec: rooms 1.
pub(super) fn shown(
    asked: &str,
    identity: XOnlyKey,
    is_taken: impl Fn(&str) -> bool,
) -> Option<String> {
    let asked = asked.trim();
    if asked.is_empty() || asked.contains(SEPARATOR) {
        return None;
    }
    let ends = asked
        .char_indices()
        .map(|(at, c)| at.saturating_add(c.len_utf8()));
    let end = ends.take_while(|end| *end <= ASKED_MAX).last()?;
    let asked = asked.get(..end)?.trim_end();
    let mark = mark(identity);
    let names = MARKS.iter().filter_map(|bytes| {
        let mark = mark.get(..bytes.saturating_mul(2))?;
        Some(format!("{asked}{SEPARATOR}{mark}"))
    });
    names.into_iter().find(|name| !is_taken(name))
}

/// 20 hex digits that follow from the identity.
fn mark(identity: XOnlyKey) -> String {
    let hash = TaggedHash::new("streampay/name/v1")
        .bytes32(&identity.0)
        .finish();
    let bytes = hash.0.iter().take(10);
    bytes.fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
