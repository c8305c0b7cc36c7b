//! The pre-scan against a plain decoder that takes much more, and a plain encoder.

use streampay_core::wire::{DEPTH_MAX, MESSAGE_MAX, scan as prescan};

/// How deep the plain decoder goes: further than any message may.
const PLAIN_DEPTH: u8 = 32;

/// What the pre-scan accepts is exactly what a plain decoder reads whole, a plain encoder writes
/// back as the same bytes, and keeps the rules of messages: unsigned keys in order, few levels,
/// UTF-8, not too long.
///
/// # Panics
/// Where the two differ.
pub fn scan(bytes: &[u8]) {
    let plain = Value::read(bytes, PLAIN_DEPTH);
    let plain = plain.filter(|(value, rest)| {
        rest.is_empty() && value.keeps_the_rules(DEPTH_MAX) && value.write() == bytes
    });
    let accepted = prescan(bytes).is_ok();
    assert_eq!(accepted, plain.is_some() && bytes.len() <= MESSAGE_MAX);
}

enum Value {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Bool(bool),
}

impl Value {
    /// One value of definite length, its lengths in any form, and what follows it.
    fn read(bytes: &[u8], depth: u8) -> Option<(Self, &[u8])> {
        let depth = depth.checked_sub(1)?;
        let (&first, rest) = bytes.split_first()?;
        let (major, info) = (first / 32, first % 32);
        let size = match info {
            0..24 => 0,
            24..28 => 1_usize << (info - 24),
            _ => return None,
        };
        let (argument, mut rest) = rest.split_at_checked(size)?;
        let argument = match size {
            0 => u64::from(info),
            _ => argument.iter().fold(0, |sum, b| sum * 256 + u64::from(*b)),
        };
        match major {
            0 => return Some((Self::Uint(argument), rest)),
            2 | 3 => {
                let size = usize::try_from(argument).ok()?;
                let (body, rest) = rest.split_at_checked(size)?;
                let make = if major == 2 { Self::Bytes } else { Self::Text };
                return Some((make(body.to_vec()), rest));
            }
            7 if size == 0 && (argument == 20 || argument == 21) => {
                return Some((Self::Bool(argument == 21), rest));
            }
            4 | 5 => {}
            _ => return None,
        }
        let (mut items, mut pairs) = (Vec::new(), Vec::new());
        for _ in 0..argument {
            let (item, after) = Self::read(rest, depth)?;
            rest = after;
            if major == 4 {
                items.push(item);
                continue;
            }
            let (value, after) = Self::read(rest, depth)?;
            pairs.push((item, value));
            rest = after;
        }
        let value = if major == 4 {
            Self::List(items)
        } else {
            Self::Map(pairs)
        };
        Some((value, rest))
    }

    fn keeps_the_rules(&self, depth: u8) -> bool {
        match self {
            Self::Uint(_) | Self::Bytes(_) | Self::Bool(_) => true,
            Self::Text(text) => std::str::from_utf8(text).is_ok(),
            Self::List(items) => {
                depth > 0 && items.iter().all(|item| item.keeps_the_rules(depth - 1))
            }
            Self::Map(pairs) => {
                let keys: Option<Vec<u64>> = pairs.iter().map(|(key, _)| key.uint()).collect();
                let values = || {
                    pairs
                        .iter()
                        .all(|(_, item)| item.keeps_the_rules(depth - 1))
                };
                depth > 0 && keys.is_some_and(|keys| keys.is_sorted_by(|a, b| a < b)) && values()
            }
        }
    }

    const fn uint(&self) -> Option<u64> {
        match self {
            Self::Uint(value) => Some(*value),
            _ => None,
        }
    }

    /// In the shortest form.
    fn write(&self) -> Vec<u8> {
        match self {
            Self::Uint(value) => head(0, *value),
            Self::Bytes(body) => [head(2, len(body)), body.clone()].concat(),
            Self::Text(body) => [head(3, len(body)), body.clone()].concat(),
            Self::List(items) => {
                let body: Vec<u8> = items.iter().flat_map(Self::write).collect();
                [head(4, len(items)), body].concat()
            }
            Self::Map(pairs) => {
                let pair = |(key, value): &(Self, Self)| [key.write(), value.write()].concat();
                let body: Vec<u8> = pairs.iter().flat_map(pair).collect();
                [head(5, len(pairs)), body].concat()
            }
            Self::Bool(value) => vec![0xf4 + u8::from(*value)],
        }
    }
}

fn len<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    let (info, tail) = match argument {
        0..24 => (u8::try_from(argument).unwrap_or_default(), bytes.get(8..)),
        24..0x100 => (24, bytes.get(7..)),
        0x100..0x1_0000 => (25, bytes.get(6..)),
        0x1_0000..0x1_0000_0000 => (26, bytes.get(4..)),
        _ => (27, bytes.get(..)),
    };
    [&[major * 32 + info], tail.unwrap_or_default()].concat()
}
