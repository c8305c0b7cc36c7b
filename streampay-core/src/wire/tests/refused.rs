//! What is refused, and as what.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::samples::{chat, evidence, hello, join, terms, tip};
use crate::units::{Msat, PurseId};
use crate::wire::*;

/// Message 22 (resume) with this epoch, in raw bytes.
const RESUME_EPOCH_1: &[u8] = &[0xa2, 0x00, 0x16, 0x02, 0x01];

fn field(message: u64, key: u64) -> Field {
    Field { message, key }
}

/// A map of a tick's head and one more pair.
fn tick_with(seq: &[u8], cumulative: &[u8], rest: &[u8]) -> Vec<u8> {
    [
        &[0xa5, 0x00, 0x0e, 0x02, 0x00, 0x04],
        seq,
        &[0x06],
        cumulative,
        rest,
    ]
    .concat()
}

/// The same with a payload, and tips.
fn tick_with_tips(tips: &[u8]) -> Vec<u8> {
    let mut bytes = tick_with(&[1], &[1], &[&[8, 0x40, 10], tips].concat());
    bytes[0] += 1;
    bytes
}

#[test]
fn refused_bytes_say_why() {
    let payload_too_long = [vec![0x08, 0x59, 0x3c, 0x01], vec![0; PAYLOAD_MAX + 1]].concat();
    let cases: Vec<(&str, Vec<u8>, WireError)> = vec![
        ("nothing", vec![], WireError::Empty),
        ("long", vec![0; MESSAGE_MAX + 1], WireError::TooLong),
        ("cut", vec![0xa2, 0x00, 0x16, 0x02], WireError::Truncated),
        (
            "cut in a number",
            vec![0xa1, 0x00, 0x19, 1],
            WireError::Truncated,
        ),
        (
            "map of 2^64 pairs",
            [&[0xbb][..], &[0xff; 8]].concat(),
            WireError::Truncated,
        ),
        (
            "array of 2^64",
            [&[0x9b][..], &[0xff; 8]].concat(),
            WireError::Truncated,
        ),
        (
            "bytes of 2^64",
            [&[0x5b][..], &[0xff; 8]].concat(),
            WireError::Truncated,
        ),
        (
            "more behind",
            [RESUME_EPOCH_1, &[0]].concat(),
            WireError::Trailing,
        ),
        (
            "two messages",
            [RESUME_EPOCH_1, RESUME_EPOCH_1].concat(),
            WireError::Trailing,
        ),
        (
            "1 in two bytes",
            vec![0xa2, 0, 0x16, 2, 0x18, 1],
            WireError::NotShortest,
        ),
        (
            "key in two bytes",
            vec![0xa2, 0, 0x16, 0x18, 2, 1],
            WireError::NotShortest,
        ),
        (
            "map head in two bytes",
            vec![0xb8, 1, 0, 0x16],
            WireError::NotShortest,
        ),
        (
            "endless map",
            vec![0xbf, 0, 0x16, 0xff],
            WireError::Indefinite,
        ),
        (
            "endless bytes",
            vec![0xa1, 0, 0x5f, 0xff],
            WireError::Indefinite,
        ),
        ("break alone", vec![0xff], WireError::Indefinite),
        (
            "key twice",
            vec![0xa2, 0, 0x16, 0, 0x16],
            WireError::KeyOrder,
        ),
        (
            "keys descending",
            vec![0xa2, 2, 1, 0, 0x16],
            WireError::KeyOrder,
        ),
        ("text as key", vec![0xa1, 0x61, b'a', 0], WireError::KeyType),
        ("negative key", vec![0xa1, 0x20, 0], WireError::KeyType),
        (
            "five arrays",
            vec![0x81, 0x81, 0x81, 0x81, 0x81, 0],
            WireError::TooDeep,
        ),
        ("10 000 arrays", vec![0x81; 10_000], WireError::TooDeep),
        ("negative", vec![0x20], WireError::Unsupported),
        ("tag", vec![0xc0, 0], WireError::Unsupported),
        ("null", vec![0xf6], WireError::Unsupported),
        (
            "float",
            vec![0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
            WireError::Unsupported,
        ),
        ("reserved length", vec![0x1c], WireError::Unsupported),
        (
            "text of half a letter",
            vec![0xa1, 1, 0x61, 0xc3],
            WireError::NotUtf8,
        ),
        ("a number", vec![0x01], WireError::NoType),
        ("an array", vec![0x80], WireError::NoType),
        ("no keys", vec![0xa0], WireError::NoType),
        ("no type", vec![0xa1, 2, 0], WireError::NoType),
        (
            "a text as type",
            vec![0xa1, 0, 0x61, b'a'],
            WireError::NoType,
        ),
        (
            "type 38",
            vec![0xa1, 0, 0x18, 38],
            WireError::UnknownType(38),
        ),
        (
            "offer of nothing",
            vec![0xa1, 0, 0x18, 28],
            WireError::Missing(field(28, 2)),
        ),
        (
            "number as terms",
            vec![0xa2, 0, 0x18, 28, 2, 1],
            WireError::WrongKind(field(28, 2)),
        ),
        (
            "short offer hash",
            vec![0xa2, 0, 0x18, 30, 2, 0x41, 0],
            WireError::OutOfRange(field(30, 2)),
        ),
        (
            "receipt request with a key",
            vec![0xa2, 0, 0x18, 36, 2, 0],
            WireError::UnknownKey(field(36, 2)),
        ),
        (
            "2^32 viewers",
            vec![0xa3, 0, 0x18, 46, 2, 1, 4, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
            WireError::OutOfRange(field(46, 4)),
        ),
        (
            "even key behind",
            vec![0xa3, 0, 0x16, 2, 1, 4, 0],
            WireError::UnknownKey(field(22, 4)),
        ),
        (
            "resume of nothing",
            vec![0xa1, 0, 0x16],
            WireError::Missing(field(22, 2)),
        ),
        (
            "text as epoch",
            vec![0xa2, 0, 0x16, 2, 0x60],
            WireError::WrongKind(field(22, 2)),
        ),
        (
            "number as evidence",
            vec![0xa2, 0, 6, 2, 1],
            WireError::WrongKind(field(6, 2)),
        ),
        (
            "short signature",
            vec![0xa2, 0, 4, 2, 0x41, 0],
            WireError::OutOfRange(field(4, 2)),
        ),
        (
            "tick 0",
            tick_with(&[0], &[1], &[8, 0x40]),
            WireError::OutOfRange(field(14, 4)),
        ),
        (
            "more than all bitcoin",
            tick_with(&[1], &[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0], &[8, 0x40]),
            WireError::OutOfRange(field(14, 6)),
        ),
        (
            "payment too long",
            tick_with(&[1], &[1], &payload_too_long),
            WireError::OutOfRange(field(14, 8)),
        ),
        (
            "purse 2^32",
            vec![0xa2, 0, 10, 2, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
            WireError::OutOfRange(field(10, 2)),
        ),
        (
            "tips of nothing",
            tick_with_tips(&[0]),
            WireError::OutOfRange(field(14, 10)),
        ),
        (
            "tips beyond all bitcoin",
            tick_with_tips(&[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0]),
            WireError::OutOfRange(field(14, 10)),
        ),
        (
            "text as tips",
            tick_with_tips(&[0x60]),
            WireError::WrongKind(field(14, 10)),
        ),
        (
            "tip of nothing",
            vec![0xa4, 0, 0x18, 50, 2, 1, 4, 0x61, b'a', 6, 0],
            WireError::OutOfRange(field(50, 6)),
        ),
        (
            "tip of no amount",
            vec![0xa3, 0, 0x18, 50, 2, 1, 4, 0x61, b'a'],
            WireError::Missing(field(50, 6)),
        ),
        (
            "tip of nobody",
            vec![0xa3, 0, 0x18, 50, 2, 1, 6, 1],
            WireError::Missing(field(50, 4)),
        ),
        (
            "tip without an id",
            vec![0xa3, 0, 0x18, 50, 4, 0x61, b'a', 6, 1],
            WireError::Missing(field(50, 2)),
        ),
        (
            "bytes as a giver",
            vec![0xa4, 0, 0x18, 50, 2, 1, 4, 0x41, b'a', 6, 1],
            WireError::WrongKind(field(50, 4)),
        ),
        (
            "tip with an even key",
            vec![0xa5, 0, 0x18, 50, 2, 1, 4, 0x61, b'a', 6, 1, 8, 1],
            WireError::UnknownKey(field(50, 8)),
        ),
        (
            "leave with a key",
            vec![0xa2, 0, 0x18, 52, 2, 0],
            WireError::UnknownKey(field(52, 2)),
        ),
        ("leave, cut", vec![0xa1, 0, 0x18], WireError::Truncated),
        (
            "pause reason 10",
            vec![0xa3, 0, 20, 2, 1, 4, 10],
            WireError::OutOfRange(field(20, 4)),
        ),
    ];
    let mut seen = BTreeSet::new();
    for (name, bytes, error) in cases {
        let found = decode(&bytes);
        assert!(found == Err(error), "{name}: {found:?}, not {error:?}");
        assert!(!error.to_string().is_empty());
        seen.insert(error.code());
    }
    assert_eq!(seen, (1..=17).collect(), "every code has a case");
}

#[test]
fn values_out_of_range_are_refused() {
    let refused = |message: Message, key| {
        let number = message.number();
        let found = decode(&encode(&message));
        assert!(
            found == Err(WireError::OutOfRange(field(number, key))),
            "{found:?}"
        );
    };
    let part = |part, of, len| {
        Message::Purse(Purse {
            purse: PurseId(0),
            part,
            of,
            method: 0,
            bytes: Bytes::from(vec![0; len]),
        })
    };
    refused(part(0, 0, 1), 6);
    refused(part(0, PARTS_MAX + 1, 1), 6);
    refused(part(2, 2, 1), 4);
    let versions = |versions| {
        Message::Hello(Hello {
            versions,
            ..hello()
        })
    };
    refused(versions(vec![]), 4);
    refused(versions(vec![1; VERSIONS_MAX + 1]), 4);
    refused(
        Message::Ack(Ack {
            evidence: evidence(),
            grant: Some(Bytes::from(vec![0; GRANT_MAX + 1])),
        }),
        4,
    );
}

#[test]
fn texts_of_a_room_are_one_short_line() {
    let join = |name: &str| {
        let name = name.into();
        Message::Join(Join { name, ..join() })
    };
    let chat = |text: &str| {
        let text = text.into();
        Message::Chat(Chat { text, ..chat() })
    };
    let tip = |sender: &str| {
        let sender = sender.into();
        Message::Tip(Tip { sender, ..tip() })
    };
    let cases = [
        (join(""), 2),
        (join(&"x".repeat(NAME_MAX + 1)), 2),
        (join("a\nb"), 2),
        (join("a\u{9b}b"), 2),
        (chat(""), 6),
        (chat(&"x".repeat(CHAT_MAX + 1)), 6),
        (chat("\u{1b}[2J"), 6),
        (chat("a\0"), 6),
        (tip(""), 4),
        (tip(&"x".repeat(NAME_MAX + 1)), 4),
        (tip("a\u{202e}b"), 4),
    ];
    for (message, key) in cases {
        let error = WireError::OutOfRange(field(message.number(), key));
        assert!(decode(&encode(&message)) == Err(error), "{message:?}");
    }
    let long = Message::Join(Join {
        name: "a".into(),
        invitation: Some(vec![0; INVITATION_MAX + 1].into()),
    });
    assert!(decode(&encode(&long)) == Err(WireError::OutOfRange(field(40, 4))));
}

#[test]
fn nothing_in_a_line_moves_what_is_around_it() {
    let edges = [0x202a, 0x202e, 0x2066, 0x2069, 0x2028, 0x2029, 0x85, 0x7f];
    for c in edges.map(|c| char::from_u32(c).unwrap()) {
        assert!(!is_line(&alloc::format!("a{c}b")), "{c:?}");
    }
    let fine = [0x2027, 0x202f, 0x2065, 0x206a, 0x200d, 0xa0, 0x1f600];
    for c in fine.map(|c| char::from_u32(c).unwrap()) {
        assert!(is_line(&alloc::format!("a{c}b")), "{c:?}");
    }
    assert!(!is_line(""));
}

#[test]
fn join_fee_of_nothing_is_left_out() {
    let mut bytes = terms().to_bytes();
    bytes[0] += 1;
    bytes.extend([0x18, 26, 0]);
    let error = WireError::OutOfRange(field(1000, 26));
    assert_eq!(Terms::from_bytes(&bytes), Err(error));
    bytes.pop();
    bytes.push(1);
    assert_eq!(Terms::from_bytes(&bytes).unwrap().join_fee.msat(), 1);
}

#[test]
fn terms_out_of_range_are_refused() {
    let method = |name: &str, params: usize| Method {
        name: name.into(),
        params: vec![0; params],
    };
    let long_title: &str = &"x".repeat(TITLE_MAX + 1);
    let cases: Vec<(Terms, u64)> = vec![
        (
            Terms {
                title: long_title.into(),
                ..terms()
            },
            0,
        ),
        (
            Terms {
                tick: Msat::ZERO,
                ..terms()
            },
            6,
        ),
        (
            Terms {
                tolerance_permille: 1001,
                ..terms()
            },
            12,
        ),
        (
            Terms {
                methods: vec![],
                ..terms()
            },
            18,
        ),
        (
            Terms {
                methods: vec![method("a", 0); METHODS_MAX + 1],
                ..terms()
            },
            18,
        ),
        (
            Terms {
                methods: vec![method("", 0)],
                ..terms()
            },
            0,
        ),
        (
            Terms {
                methods: vec![method("Cashu", 0)],
                ..terms()
            },
            0,
        ),
        (
            Terms {
                methods: vec![method("a-name-17-letters", 0)],
                ..terms()
            },
            0,
        ),
        (
            Terms {
                methods: vec![method("a", PARAMS_MAX + 1)],
                ..terms()
            },
            2,
        ),
    ];
    for (terms, key) in cases {
        match Terms::from_bytes(&terms.to_bytes()) {
            Err(WireError::OutOfRange(field)) => assert_eq!(field.key, key, "{terms:?}"),
            other => panic!("{other:?} for {terms:?}"),
        }
    }
}

#[test]
fn odd_is_ignored_and_even_is_not() {
    let odd_type = [0xa2, 0x00, 0x18, 29, 0x02, 0x81, 0x00];
    assert!(decode(&odd_type) == Ok(None));
    // Odd keys before, between and after the known one, nested values included.
    let odd_keys = [
        0xa5, 0x00, 0x16, 0x01, 0x61, b'x', 0x02, 0x01, 0x03, 0x81, 0x80, 0x05, 0xf5,
    ];
    let resume = Message::Resume(Resume { epoch: 1 });
    assert!(decode(&odd_keys) == Ok(Some(resume)));
    let even_key = [0xa3, 0x00, 0x16, 0x02, 0x01, 0x06, 0x00];
    assert!(decode(&even_key) == Err(WireError::UnknownKey(field(22, 6))));
    // Inside a nested map: the evidence of a ready, with one key more.
    let evidence = |pairs, more: &[u8]| {
        let head = [0xa2, 0x00, 0x06, 0x02, pairs];
        let numbers = [0, 0, 2, 0, 4, 0, 6, 0, 8, 0, 10, 0, 12, 0x58, 64];
        decode(&[&head, &numbers[..], &[0; 64], more].concat())
    };
    assert!(matches!(evidence(0xa7, &[]), Ok(Some(Message::Ready(_)))));
    assert!(matches!(
        evidence(0xa8, &[0x0d, 0]),
        Ok(Some(Message::Ready(_)))
    ));
    assert!(evidence(0xa8, &[0x10, 0]) == Err(WireError::UnknownKey(field(6, 16))));
}
