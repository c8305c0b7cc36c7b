//! The payer, the payee and the terms of all vectors, transcripts and scripts. Their keys come
//! from fixed bytes and are worth nothing.

use streampay_core::meter::{Rate, Reading, Tariff};
use streampay_core::session::{BadKey, Entropy, Receipt, SecretKey};
use streampay_core::units::{Msat, PurseId, Seq, SessionId, Unix};
use streampay_core::wire::{Evidence, Method, Terms};

/// 32 equal bytes, as entropy.
#[must_use]
pub const fn entropy(byte: u8) -> Entropy {
    Entropy([byte; 32])
}

/// What all keys here come from.
pub const PEOPLE: u8 = 0x11;

/// A key by the name of who holds it.
///
/// # Errors
/// None for the names used here.
pub fn key(name: &str) -> Result<SecretKey, BadKey> {
    SecretKey::derive(&entropy(PEOPLE), name)
}

/// An amount below 21 million bitcoin.
#[must_use]
pub fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap_or(Msat::MAX)
}

/// A price.
#[must_use]
pub fn rate(amount: u64, per: u64) -> Option<Rate> {
    Rate::new(msat(amount), per).ok()
}

/// A way to pay.
#[must_use]
pub fn method(name: &str) -> Method {
    Method {
        name: name.into(),
        params: b"params".to_vec(),
    }
}

/// What the payee offers: 2 sat for 10 s, no preview, no window.
///
/// # Errors
/// None.
pub fn terms() -> Result<Terms, BadKey> {
    Ok(Terms {
        title: "a clip, für alle".into(),
        tariff: Tariff {
            time: rate(2_000, 10_000),
            bytes: None,
        },
        tick: msat(2_000),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: [method("test-hash")].into(),
        resumable_s: 86_400,
        expires: Unix(1_900_000_000),
        payee: key("payee")?.public(),
        join_fee: Msat::ZERO,
    })
}

/// The session of the vectors.
#[must_use]
pub const fn session() -> SessionId {
    SessionId([0x21; 32])
}

/// A receipt for the 300th tick.
#[must_use]
pub fn receipt() -> Receipt {
    Receipt {
        purse: PurseId(1),
        seq: Seq(300),
        cumulative: msat(600_000),
        total: msat(1_000_000),
        reading: Reading {
            media_ms: 4_990_123,
            bytes: 1 << 33,
        },
        tips: msat(4_000),
    }
}

/// The same, signed.
///
/// # Errors
/// None.
pub fn evidence() -> Result<Evidence, BadKey> {
    Ok(receipt().sign(session(), &key("payee-session")?))
}
