//! Two things wrong at once: which one is reported. Spec: messages 2.1 and 2.3.

use serde_json::Value;

use super::cbor::Item;
use super::invalid::{Invalid, about, plain};

/// All cases.
pub(super) fn cases() -> Vec<Invalid> {
    let case = |(name, bytes, error): (&str, Vec<u8>, Value)| Invalid {
        name: format!("first of two errors: {name}"),
        bytes,
        error,
    };
    [scan(), read()].into_iter().flatten().map(case).collect()
}

type Case = (&'static str, Vec<u8>, Value);

/// Found by the scan, from left to right.
fn scan() -> Vec<Case> {
    let too_long = [vec![0xff], vec![0; 16 * 1024]].concat();
    vec![
        ("too long, then a break", too_long, plain("TooLong")),
        (
            "reserved length, then cut",
            vec![0x9c],
            plain("Unsupported"),
        ),
        ("half a float", vec![0xfb, 0x00], plain("Unsupported")),
        ("cut argument of a tag", vec![0xd8], plain("Truncated")),
        (
            "long argument of a tag",
            vec![0xd8, 0x01],
            plain("NotShortest"),
        ),
        (
            "negative in the long form",
            vec![0x38, 0x01],
            plain("NotShortest"),
        ),
        (
            "cut text that is not UTF-8",
            vec![0x63, 0xff, 0xff],
            plain("Truncated"),
        ),
        (
            "an empty list too deep",
            vec![0x81, 0x81, 0x81, 0x81, 0x80],
            plain("TooDeep"),
        ),
        (
            "a list too deep and cut",
            vec![0x81, 0x81, 0x81, 0x81, 0x81],
            plain("TooDeep"),
        ),
        (
            "a long key that is out of order",
            vec![0xa2, 0x02, 0x00, 0x18, 0x00, 0x00],
            plain("NotShortest"),
        ),
        (
            "a key out of order with a bad value",
            vec![0xa2, 0x02, 0x00, 0x00, 0xff],
            plain("KeyOrder"),
        ),
        (
            "a bad value, then a key out of order",
            vec![0xa2, 0x02, 0xf6, 0x00, 0x00],
            plain("Unsupported"),
        ),
        (
            "a byte behind no message",
            vec![0x80, 0x00],
            plain("Trailing"),
        ),
    ]
}

/// Found by the reader, in the order of the keys.
fn read() -> Vec<Case> {
    let map = |pairs: &[(u64, Item)]| Item::Map(pairs.to_vec()).encode();
    let uint = Item::Uint;
    let text = || Item::Text(b"text".to_vec());
    let part = |part, of, more: &[(u64, Item)]| {
        let mut pairs = vec![(0, uint(8)), (2, uint(0)), (4, uint(part)), (6, uint(of))];
        pairs.extend([(8, uint(0)), (10, Item::Bytes(vec![]))]);
        pairs.extend(more.iter().cloned());
        Item::Map(pairs).encode()
    };
    let versions = |items: Vec<Item>| {
        let head = [(0, uint(0)), (2, Item::Bytes(vec![7; 32]))];
        let list = [(4, Item::List(items)), (6, text())];
        Item::Map(head.into_iter().chain(list).collect()).encode()
    };
    vec![
        (
            "an unknown type with unknown keys",
            map(&[(0, uint(38)), (2, text())]),
            super::unknown_type(38),
        ),
        (
            "a key of another kind, then a missing one",
            map(&[(0, uint(46)), (2, text())]),
            about("WrongKind", 16, 46, 2),
        ),
        (
            "a missing key, then one out of its range",
            map(&[(0, uint(20)), (4, uint(99))]),
            about("Missing", 15, 20, 2),
        ),
        (
            "a missing key, then an unknown one",
            map(&[(0, uint(22)), (4, uint(0))]),
            about("Missing", 15, 22, 2),
        ),
        (
            "a part and a number of parts out of their ranges",
            part(70_000, 65, &[]),
            about("OutOfRange", 17, 8, 4),
        ),
        (
            "too many parts, and a part beyond them",
            part(70, 65, &[]),
            about("OutOfRange", 17, 8, 6),
        ),
        (
            "no parts, and an unknown key",
            part(0, 0, &[(12, uint(0))]),
            about("OutOfRange", 17, 8, 6),
        ),
        (
            "tick 0 with more than all money",
            map(&[
                (0, uint(14)),
                (2, uint(0)),
                (4, uint(0)),
                (6, uint(u64::MAX)),
                (8, Item::Bytes(vec![])),
            ]),
            about("OutOfRange", 17, 14, 6),
        ),
        (
            "tick 0 with an unknown key",
            map(&[
                (0, uint(14)),
                (2, uint(0)),
                (4, uint(0)),
                (6, uint(0)),
                (8, Item::Bytes(vec![])),
                (12, uint(0)),
            ]),
            about("OutOfRange", 17, 14, 4),
        ),
        (
            "nine versions, one of them a text",
            versions(vec![text(); 9]),
            about("OutOfRange", 17, 0, 4),
        ),
        (
            "a version of 2^16",
            versions(vec![uint(1), uint(1 << 16)]),
            about("WrongKind", 16, 0, 4),
        ),
        (
            "no versions, then a key of another kind",
            versions(vec![]),
            about("WrongKind", 16, 0, 6),
        ),
        (
            "true where a number is",
            map(&[(0, uint(22)), (2, Item::Raw(vec![0xf5]))]),
            about("WrongKind", 16, 22, 2),
        ),
        (
            "an unknown key inside, then one outside",
            map(&[
                (0, uint(6)),
                (2, Item::Map(vec![(0, uint(0)), (2, uint(0)), (3, uint(0))])),
                (4, uint(0)),
            ]),
            about("Missing", 15, 6, 4),
        ),
    ]
}
