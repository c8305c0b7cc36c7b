//! The codec: what round-trips, what is refused and as what, and that nothing panics.

use alloc::collections::BTreeSet;
use alloc::vec;

use bytes::Bytes;
use proptest::prelude::*;

use self::samples::{messages, msat, terms, tick};
use super::*;
use crate::backend::RefusalCode;
use crate::session::CloseCode;
use crate::units::{Unix, XOnlyKey};

mod refused;
mod samples;

/// True where a code was not known and stands as "other".
fn code_unknown(message: &Message) -> bool {
    match message {
        Message::PurseRefused(refused) => refused.code == RefusalCode::Other,
        Message::Nack(nack) => nack.code == RefusalCode::Other,
        Message::Close(close) => close.code == CloseCode::Other,
        Message::Closed(closed) => closed.code == CloseCode::Other,
        Message::RoomRefused(refused) => refused.code == RoomCode::Other,
        _ => false,
    }
}

/// What must hold for any bytes: a typed end, and one encoding for what was read. A message that
/// came out shorter had odd keys, which were skipped.
fn check_any(bytes: &[u8]) {
    let Ok(Some(message)) = decode(bytes) else {
        return;
    };
    let again = encode(&message);
    assert!(decode(&again) == Ok(Some(message.clone())), "{bytes:02x?}");
    if !code_unknown(&message) && again != bytes {
        assert!(again.len() < bytes.len(), "{bytes:02x?}");
    }
}

#[test]
fn every_message_round_trips() {
    let mut numbers = BTreeSet::new();
    for message in messages() {
        let bytes = encode(&message);
        assert_eq!(scan(&bytes), Ok(()), "{message:?}");
        assert!(bytes.len() <= MESSAGE_MAX);
        assert!(decode(&bytes) == Ok(Some(message.clone())), "{message:?}");
        numbers.insert(message.number());
    }
    let all = (0..=36).step_by(2).chain((40..=52).step_by(2)).chain([1]);
    assert_eq!(numbers, all.collect());
}

#[test]
fn terms_round_trip_and_their_hash_covers_every_field() {
    let terms = terms();
    assert_eq!(Terms::from_bytes(&terms.to_bytes()), Ok(terms.clone()));
    let other = |change: fn(&mut Terms)| {
        let mut changed = terms.clone();
        change(&mut changed);
        changed.hash().0
    };
    let hashes = [
        terms.hash().0,
        other(|terms| terms.title.push('!')),
        other(|terms| terms.tariff.time = None),
        other(|terms| terms.tariff.bytes = terms.tariff.time),
        other(|terms| {
            terms.tariff.bytes = terms.tariff.time.take();
        }),
        other(|terms| terms.tick = msat(2_001)),
        other(|terms| terms.preview = msat(1)),
        other(|terms| terms.window = msat(501)),
        other(|terms| terms.tolerance_permille = 21),
        other(|terms| terms.tolerance_ms = 1_001),
        other(|terms| terms.live_ms = 2_001),
        other(|terms| terms.methods[0].name = "cashu-chain".into()),
        other(|terms| terms.methods[0].params = vec![]),
        other(|terms| terms.methods.push(terms.methods[0].clone())),
        other(|terms| terms.resumable_s = 1),
        other(|terms| terms.expires = Unix(1)),
        other(|terms| terms.payee = XOnlyKey([8; 32])),
        other(|terms| terms.join_fee = msat(1)),
    ];
    let free = terms.to_bytes();
    assert!(
        free.len()
            < Terms {
                join_fee: msat(1),
                ..terms
            }
            .to_bytes()
            .len()
    );
    assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
}

#[test]
fn tick_is_as_small_as_the_design_says() {
    // 24 of the frame and the payload: a 32-byte preimage stays under 60 bytes.
    let message = Message::Tick(Tick {
        payload: Bytes::from(vec![1; 32]),
        ..tick()
    });
    assert!(encode(&message).len() < 60);
}

#[test]
fn codes_of_a_later_version_are_read_as_other() {
    let close = decode(&[0xa2, 0x00, 0x18, 0x18, 0x02, 0x19, 0x03, 0xe8]);
    let other = Message::Close(Close {
        code: CloseCode::Other,
    });
    assert!(close == Ok(Some(other)));
}

#[test]
fn session_is_found_in_a_hello_alone() {
    for message in messages() {
        let found = peek_session(&encode(&message));
        match &message {
            Message::Hello(hello) => assert_eq!(found, Ok(hello.session)),
            other => assert_eq!(found, Err(WireError::UnknownType(other.number()))),
        }
    }
}

#[test]
fn debug_shows_no_payment() {
    let (join, chat) = (samples::join(), samples::chat());
    let shown = alloc::format!("{:?} {:?} {join:?} {chat:?}", Message::Tick(tick()), tick());
    for secret in ["money", "6d, 6f", "invitation", "hello"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn every_cut_is_a_typed_error() {
    for message in messages() {
        let bytes = encode(&message);
        for len in 0..bytes.len() {
            let cut = decode(&bytes[..len]);
            let expect = if len == 0 {
                WireError::Empty
            } else {
                WireError::Truncated
            };
            assert!(cut == Err(expect), "{message:?} cut at {len}: {cut:?}");
        }
    }
}

#[test]
fn every_flipped_bit_ends_well() {
    for message in messages() {
        let bytes = encode(&message);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check_any(&flipped);
            assert!(
                decode(&flipped) != Ok(Some(message.clone())),
                "two encodings of {message:?}: bit {bit}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_well(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes);
        let _ = Terms::from_bytes(&bytes).map(|terms| terms.hash());
    }

    /// Random bytes seldom pass the scan: these begin as a message of a known type.
    #[test]
    fn any_body_ends_well(
        kind in 0_u8..56,
        pairs in 1_u8..9,
        body in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let number = if kind < 24 { vec![kind] } else { vec![0x18, kind] };
        check_any(&[vec![0xa0 | pairs, 0x00], number, body].concat());
    }

    /// Valid messages with a few bytes replaced, removed or put in.
    #[test]
    fn any_damage_ends_well(
        which in 0..messages().len(),
        damage in proptest::collection::vec((any::<u16>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = encode(&messages()[which]).to_vec();
        for (at, byte, how) in damage {
            let at = usize::from(at) % bytes.len().max(1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        check_any(&bytes);
    }
}
