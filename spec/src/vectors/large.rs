//! Messages at the limits of length: who takes no more than what is usual refuses these.

use bytes::Bytes;
use streampay_core::session::{BadKey, Signature};
use streampay_core::units::{Msat, PurseId, Seq};
use streampay_core::wire::{
    MESSAGE_MAX, Message, OfferTerms, PARTS_MAX, PAYLOAD_MAX, Purse, Tick, Welcome, encode,
};

use super::cbor::{Item, head};
use super::samples::{self, largest_terms};

/// What each part of an opening but the last should hold. Spec: session 4.
const PART: usize = 15_360;
/// An odd key that no map has.
const FILLED: u64 = 9_999;

/// A message, what is special about it, and whether a sender of this version writes it.
pub(super) type Large = (&'static str, Vec<u8>, bool);

const WHOLE: &str = "16384 bytes, filled by an odd key";

/// Of the message of this type, where it may be large.
///
/// # Errors
/// A text where one is not as large as it should be.
pub(super) fn cases(number: u64) -> Result<Vec<Large>, String> {
    let written = |message| encode(&message).to_vec();
    match number {
        2 => {
            let welcome = written(welcome().map_err(super::hashes::bad_key)?);
            let whole = whole(&welcome)?;
            Ok(vec![
                ("terms at every limit", welcome, true),
                (WHOLE, whole, false),
            ])
        }
        8 => {
            let frame = written(purse(256)).len().saturating_sub(256);
            let most = written(purse(MESSAGE_MAX.saturating_sub(frame)));
            sized(&most)?;
            Ok(vec![
                ("a part of 15360 bytes", written(purse(PART)), true),
                ("16384 bytes", most, true),
            ])
        }
        14 => {
            let tick = written(tick());
            let whole = whole(&tick)?;
            Ok(vec![("longest payload", tick, true), (WHOLE, whole, false)])
        }
        28 => {
            let offer = written(offer().map_err(super::hashes::bad_key)?);
            Ok(vec![("terms at every limit", offer, true)])
        }
        _ => Ok(vec![]),
    }
}

/// These terms, which are large already, filled up to the longest message.
///
/// # Errors
/// As [`cases`].
pub(super) fn terms(largest: &[u8]) -> Result<Large, String> {
    Ok((WHOLE, whole(largest)?, false))
}

/// A message of an odd type that nobody knows, of this many bytes.
pub(super) fn ignored(len: usize) -> Vec<u8> {
    let filled = len.saturating_sub(8);
    let pairs = vec![(0, Item::Uint(29)), (1, Item::Bytes(vec![0x5a; filled]))];
    Item::Map(pairs).encode()
}

fn welcome() -> Result<Message, BadKey> {
    let all = samples::messages()?;
    let usual = all.into_iter().find_map(|(_, message)| match message {
        Message::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    Ok(Message::Welcome(Welcome {
        terms: largest_terms()?,
        ..usual.ok_or(BadKey)?
    }))
}

fn purse(len: usize) -> Message {
    Message::Purse(Purse {
        purse: PurseId(u32::MAX),
        part: 0,
        of: PARTS_MAX,
        method: u8::MAX,
        bytes: filling(len),
    })
}

fn tick() -> Message {
    Message::Tick(Tick {
        purse: PurseId(u32::MAX),
        seq: Seq(u64::MAX),
        cumulative: Msat::MAX,
        payload: filling(PAYLOAD_MAX),
        tips: Some(Msat::MAX),
    })
}

fn offer() -> Result<Message, BadKey> {
    Ok(Message::OfferTerms(OfferTerms {
        terms: largest_terms()?,
        from: Msat::MAX,
        signature: Signature([0xff; 64]),
    }))
}

/// Bytes that count up.
fn filling(len: usize) -> Bytes {
    (0..251_u8).cycle().take(len).collect()
}

/// The same map with an odd key behind all others, so that it is as long as a message may be.
fn whole(map: &[u8]) -> Result<Vec<u8>, String> {
    let Some((Item::Map(mut pairs), _)) = Item::parse(map) else {
        return Err("a large message is no map".into());
    };
    let key = head(0, FILLED).len();
    // Bytes of at least 256 have a head of three.
    let room = MESSAGE_MAX.saturating_sub(map.len());
    let filled = room.saturating_sub(key).saturating_sub(3);
    pairs.push((FILLED, Item::Bytes(vec![0x5a; filled])));
    let bytes = Item::Map(pairs).encode();
    sized(&bytes)?;
    Ok(bytes)
}

fn sized(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() == MESSAGE_MAX {
        return Ok(());
    }
    Err(format!("a large message has {} bytes", bytes.len()))
}
