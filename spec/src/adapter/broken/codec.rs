//! Wrong codecs, hashes and prices.

use streampay_core::meter::{Reading, Tariff};
use streampay_core::units::Msat;
use streampay_core::wire::{WireError, decode, scan};

use super::Broken;
use crate::vectors::cbor::Item;

/// The longest message of one that takes no large ones.
const SMALL: usize = 1_024;

/// The bytes that a wrong codec would take these for.
pub(super) fn received(broken: Broken, bytes: Vec<u8>) -> Vec<u8> {
    let fixed = match (broken, scan(&bytes)) {
        (Broken::Trailing, Err(WireError::Trailing)) => {
            Item::parse(&bytes).map(|(item, _)| item.encode())
        }
        (Broken::LongInts, Err(WireError::NotShortest)) => {
            Item::parse(&bytes).map(|(item, _)| item.encode())
        }
        (Broken::KeyOrder, Err(WireError::KeyOrder)) => in_order(&bytes),
        (Broken::LossyText, Err(WireError::NotUtf8)) => {
            Item::parse(&bytes).map(|(item, _)| lossy(item).encode())
        }
        (Broken::UnknownEven, Ok(())) => without_unknown(&bytes),
        (Broken::SmallAlone, Ok(())) if bytes.len() > SMALL => Some(vec![]),
        _ => None,
    };
    fixed.unwrap_or(bytes)
}

fn in_order(bytes: &[u8]) -> Option<Vec<u8>> {
    let (item, _) = Item::parse(bytes)?;
    let mut pairs = item.pairs()?.to_vec();
    pairs.sort_by_key(|(key, _)| *key);
    pairs.dedup_by_key(|(key, _)| *key);
    Some(Item::Map(pairs).encode())
}

fn lossy(item: Item) -> Item {
    match item {
        Item::Text(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Item::Text(text.into_owned().into_bytes())
        }
        Item::List(items) => Item::List(items.into_iter().map(lossy).collect()),
        Item::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| (key, lossy(value)));
            Item::Map(pairs.collect())
        }
        other => other,
    }
}

fn without_unknown(bytes: &[u8]) -> Option<Vec<u8>> {
    let Err(WireError::UnknownKey(field)) = decode(bytes) else {
        return None;
    };
    let (item, _) = Item::parse(bytes)?;
    let pairs = item.pairs()?.iter().filter(|(key, _)| *key != field.key);
    Some(Item::Map(pairs.cloned().collect()).encode())
}

pub(super) fn price(broken: Broken, tariff: &Tariff, reading: Reading) -> Msat {
    let right = tariff.price(reading);
    let alone = |time, bytes| Tariff { time, bytes }.price(reading);
    match broken {
        Broken::RoundsDown => {
            let exact = |rate: Option<streampay_core::meter::Rate>, quantity: u64| {
                rate.is_none_or(|rate| {
                    let cost = u128::from(rate.msat().msat()) * u128::from(quantity);
                    cost % u128::from(rate.per()) == 0
                })
            };
            let whole = exact(tariff.time, reading.media_ms) && exact(tariff.bytes, reading.bytes);
            let one = Msat::new(u64::from(!whole)).unwrap_or_default();
            right.saturating_minus(one)
        }
        Broken::RoundsTwice => alone(tariff.time, None).saturating_plus(alone(None, tariff.bytes)),
        _ => right,
    }
}
