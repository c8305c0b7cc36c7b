//! Codes of later versions, which are read as `0`, and the last one that is known: where a table grows, these
//! vectors change, and whoever reads them with an older table fails.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::wire::RoomCode;

use super::cbor::Item::{self, Map, Uint};

/// A message with a code: its name, its bytes, and whether a sender of this version writes them.
pub(super) struct Coded {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) known: bool,
    /// What is read.
    pub(super) read: u16,
}

/// The message's other keys, up to its code and behind it.
struct Place {
    before: &'static [(u64, u64)],
    key: u64,
    after: &'static [(u64, u64)],
}

/// Of the message of this type, where it has a code.
pub(super) fn cases(number: u64) -> Vec<Coded> {
    let Some((place, last)) = place(number).zip(last(number)) else {
        return vec![];
    };
    let next = last.saturating_add(1);
    [
        ("the last code that is known", last, true),
        ("the first code that is not known", next, false),
        ("a code of a later version", 999, false),
        ("the largest code", u16::MAX, false),
    ]
    .map(|(name, code, known)| Coded {
        name,
        bytes: place.with(number, code),
        known,
        read: if known { code } else { 0 },
    })
    .into()
}

/// The largest code of the table that the message's codes are of.
fn last(number: u64) -> Option<u16> {
    match number {
        12 | 18 => RefusalCode::ALL.iter().map(|code| code.code()).max(),
        24 | 26 => CloseCode::ALL.iter().map(|code| code.code()).max(),
        44 => RoomCode::ALL.iter().map(|code| code.code()).max(),
        _ => None,
    }
}

const fn place(number: u64) -> Option<Place> {
    let (before, key, after): (&'static [_], _, &'static [_]) = match number {
        12 => (&[(2, 0)], 4, &[]),
        18 => (&[(2, 0), (4, 1)], 6, &[(8, 0)]),
        24 | 26 | 44 => (&[], 2, &[]),
        _ => return None,
    };
    Some(Place { before, key, after })
}

impl Place {
    fn with(&self, number: u64, code: u16) -> Vec<u8> {
        let at = (self.key, u64::from(code));
        let pairs = [(0, number)].into_iter().chain(self.before.iter().copied());
        let pairs = pairs.chain([at]).chain(self.after.iter().copied());
        let pairs: Vec<(u64, Item)> = pairs.map(|(key, value)| (key, Uint(value))).collect();
        Map(pairs).encode()
    }
}
