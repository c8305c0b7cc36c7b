//! Which keys each message has, of which kind and within which bounds: from the chapters on
//! messages, not from the codec, so that one checks the other.

use super::cbor::Item;

/// One key of a map.
#[derive(Clone, Debug)]
pub struct Key {
    /// The integer key.
    pub key: u64,
    /// What must be there.
    pub kind: Kind,
    /// True where it may be missing.
    pub optional: bool,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An unsigned integer from the first to the second.
    Uint(u64, u64),
    /// Bytes, at least and at most so many.
    Bytes(usize, usize),
    /// A text of at most so many bytes, of characters that stand in a line and do no more.
    Text(usize),
    /// The same of at least one byte.
    Line(usize),
    /// A method's name.
    Name(usize),
    /// A list of integers, at least and at most so many.
    Numbers(usize, usize),
    /// A map.
    Map(Vec<Key>),
    /// A list of maps, at least and at most so many.
    Maps(Vec<Key>, usize, usize),
}

/// No bound but that of an integer.
const ANY: u64 = u64::MAX;
/// 21 million bitcoin in millisatoshi.
const MONEY: u64 = 2_100_000_000_000_000_000;
const U8: u64 = 0xff;
const U16: u64 = 0xffff;
const U32: u64 = 0xffff_ffff;

/// The keys of a message beside its type.
#[must_use]
pub fn message(number: u64) -> Vec<Key> {
    use Kind::{Bytes, Line, Map, Numbers, Uint};
    match number {
        0 => vec![
            must(2, bytes(32)),
            must(4, Numbers(1, 8)),
            must(6, Uint(0, ANY)),
            must(8, bytes(32)),
            must(10, bytes(32)),
            must(12, bytes(32)),
            may(14, bytes(32)),
            may(16, Map(evidence())),
        ],
        1 => vec![must(2, Uint(0, ANY)), must(4, Uint(0, ANY))],
        2 => vec![
            must(2, bytes(32)),
            must(4, Uint(0, U16)),
            must(6, Uint(0, ANY)),
            must(8, bytes(32)),
            must(10, bytes(32)),
            must(12, Map(terms())),
            must(14, bytes(64)),
            must(16, bytes(64)),
        ],
        4 => vec![must(2, bytes(64))],
        6 => vec![may(2, Map(evidence()))],
        8 => vec![
            must(2, Uint(0, U32)),
            must(4, Uint(0, 63)),
            must(6, Uint(1, 64)),
            must(8, Uint(0, U8)),
            must(10, Bytes(0, usize::MAX)),
        ],
        10 => vec![must(2, Uint(0, U32))],
        12 => vec![must(2, Uint(0, U32)), must(4, Uint(0, U16))],
        14 => vec![
            must(2, Uint(0, U32)),
            must(4, Uint(1, ANY)),
            must(6, Uint(0, MONEY)),
            must(8, Bytes(0, 15 * 1024)),
            may(10, Uint(1, MONEY)),
        ],
        16 => vec![must(2, Map(evidence())), may(4, Bytes(0, 64))],
        18 => vec![
            must(2, Uint(0, U32)),
            must(4, Uint(0, ANY)),
            must(6, Uint(0, U16)),
            must(8, Uint(0, 2)),
        ],
        20 => vec![must(2, Uint(0, ANY)), must(4, Uint(1, 9))],
        22 => vec![must(2, Uint(0, ANY))],
        24 => vec![must(2, Uint(0, U16))],
        26 => vec![
            must(2, Uint(0, U16)),
            may(4, Map(evidence())),
            may(5, Bytes(64, 64)),
        ],
        28 => vec![
            must(2, Map(terms())),
            must(4, Uint(0, MONEY)),
            must(6, bytes(64)),
        ],
        30 | 32 | 34 => vec![must(2, bytes(32))],
        40 => vec![must(2, Line(32)), may(4, Bytes(0, 64))],
        42 => vec![must(2, Line(32))],
        44 => vec![must(2, Uint(0, U16))],
        46 => vec![must(2, Uint(0, ANY)), must(4, Uint(0, U32))],
        48 => vec![must(2, Uint(0, ANY)), may(4, Line(32)), must(6, Line(500))],
        50 => vec![
            must(2, Uint(0, ANY)),
            must(4, Line(32)),
            must(6, Uint(1, MONEY)),
        ],
        _ => vec![],
    }
}

/// The keys of terms.
#[must_use]
pub fn terms() -> Vec<Key> {
    use Kind::{Bytes, Map, Maps, Name, Text, Uint};
    let rate = || Map(vec![must(0, Uint(0, MONEY)), must(2, Uint(1, U32))]);
    let method = vec![must(0, Name(16)), must(2, Bytes(0, 1024))];
    vec![
        must(0, Text(128)),
        may(2, rate()),
        may(4, rate()),
        must(6, Uint(1, MONEY)),
        must(8, Uint(0, MONEY)),
        must(10, Uint(0, MONEY)),
        must(12, Uint(0, 1000)),
        must(14, Uint(0, U32)),
        must(16, Uint(0, U32)),
        must(18, Maps(method, 1, 8)),
        must(20, Uint(0, U32)),
        must(22, Uint(0, ANY)),
        must(24, bytes(32)),
        may(26, Uint(1, MONEY)),
    ]
}

fn evidence() -> Vec<Key> {
    use Kind::Uint;
    vec![
        must(0, Uint(0, U32)),
        must(2, Uint(0, ANY)),
        must(4, Uint(0, MONEY)),
        must(6, Uint(0, MONEY)),
        must(8, Uint(0, ANY)),
        must(10, Uint(0, ANY)),
        must(12, bytes(64)),
        may(14, Uint(1, MONEY)),
    ]
}

const fn bytes(len: usize) -> Kind {
    Kind::Bytes(len, len)
}

const fn must(key: u64, kind: Kind) -> Key {
    Key {
        key,
        kind,
        optional: false,
    }
}

const fn may(key: u64, kind: Kind) -> Key {
    Key {
        key,
        kind,
        optional: true,
    }
}

impl Kind {
    /// A value of another kind.
    #[must_use]
    pub fn wrong(&self) -> Item {
        match self {
            Self::Uint(..) => Item::Text(b"1".to_vec()),
            Self::Bytes(..) => Item::Text(b"bytes".to_vec()),
            Self::Text(_) | Self::Line(_) | Self::Name(_) => Item::Bytes(b"text".to_vec()),
            Self::Numbers(..) | Self::Map(_) | Self::Maps(..) => Item::Uint(1),
        }
    }

    /// Values of this kind that are out of its bounds, and what is wrong with them.
    #[must_use]
    pub fn outside(&self, good: &Item) -> Vec<(&'static str, Item)> {
        let text = |text: &str| Item::Text(text.as_bytes().to_vec());
        let filled = |len: usize| Item::Bytes(vec![0x5a; len]);
        let long = |max: usize| ("too long", text(&"x".repeat(max.saturating_add(1))));
        match self {
            Self::Uint(min, max) => {
                let above = max.checked_add(1).map(|above| ("too large", above));
                let below = min.checked_sub(1).map(|below| ("too small", below));
                let both = above.into_iter().chain(below);
                both.map(|(what, value)| (what, Item::Uint(value)))
                    .collect()
            }
            Self::Bytes(min, max) => {
                let below = min.checked_sub(1).map(|len| ("too short", filled(len)));
                let above = max.checked_add(1).map(|len| ("too long", filled(len)));
                below.into_iter().chain(above).collect()
            }
            Self::Text(max) => unfit(long(*max)),
            Self::Line(max) => {
                let mut cases = unfit(long(*max));
                cases.push(("empty", text("")));
                cases
            }
            Self::Name(max) => vec![
                long(*max),
                ("empty", text("")),
                ("in capitals", text("Cashu")),
                ("with a space", text("a b")),
                ("with a letter of two bytes", text("é")),
            ],
            Self::Numbers(min, max) | Self::Maps(_, min, max) => {
                let first = match good {
                    Item::List(items) => items.first().cloned(),
                    _ => None,
                };
                let first = first.unwrap_or(Item::Uint(1));
                let list = |len| Item::List(vec![first.clone(); len]);
                let below = min.checked_sub(1).map(|len| ("too short", list(len)));
                let above = [("too long", list(max.saturating_add(1)))];
                let mut cases: Vec<_> = below.into_iter().chain(above).collect();
                if matches!(self, Self::Maps(..)) {
                    cases.push(("with one twice", list(2)));
                }
                cases
            }
            Self::Map(_) => vec![],
        }
    }
}

/// Texts that do more to a line than stand in it.
fn unfit(long: (&'static str, Item)) -> Vec<(&'static str, Item)> {
    let text = |text: &str| Item::Text(text.as_bytes().to_vec());
    vec![
        long,
        ("with a line feed", text("a\nb")),
        ("with a control character of two bytes", text("a\u{9b}b")),
        ("with a delete", text("\u{7f}")),
        ("with a line separator", text("a\u{2028}b")),
        ("with an override of direction", text("a\u{202e}b")),
        ("with an isolate", text("a\u{2067}b")),
    ]
}
