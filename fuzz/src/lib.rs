//! Fuzz targets of streampay, as plain functions: anybody can call them with any bytes.
//!
//! | target | what it is given | what must hold |
//! |---|---|---|
//! | [`scan()`] | anything | the pre-scan accepts what a plain decoder and encoder agree on, and nothing else |
//! | [`wire()`] | one data-channel message | a typed end; what decodes has one encoding |
//! | [`terms()`] | signed terms out of a store or a link | the same, and equal terms hash alike |
//! | [`messages()`] | which keys of a message, or of terms, are right and which wrong | what keeps to the chapters' table of keys is read, the rest refused |
//! | [`receipts()`] | the numbers of a receipt, and how to change them | it stays itself in every message; changed, its signature does not hold |
//! | [`session()`] | faults, commands and forged messages for a whole session | all bounds; money is conserved; it settles |
//! | [`resume()`] | crashes, and lies at each resumption | the same |
//! | [`store()`] | appends, power cuts and failures of a disk | what was acknowledged is there; the rest in whole or not at all |
//! | [`records()`] | a session's records on disk | unreadable, or a machine that can be driven |
//! | [`channel()`] | faults, blocks and fees for two bitcoin channels | the same as for sessions; what is broadcast is valid and standard |
//!
//! `corpus/TARGET` holds what each has learnt and every input that once broke it; the vectors of
//! messages and terms belong to those that read them. `cargo test` replays all of it on stable Rust. To look for more, with changed inputs on stable Rust ([`hunt`]),
//! and with cargo-fuzz:
//!
//! ```text
//! cargo run --release -p streampay-fuzz --bin fuzz -- --target all --seconds 60
//! cargo run --release -p streampay-fuzz --bin fuzz -- --target wire --vectors FOLDER
//! cargo +nightly fuzz run wire fuzz/corpus/wire FOLDER --features libfuzzer -- -use_value_profile=1 -max_total_time=60
//! ```

mod actions;
mod channel;
pub mod corpus;
mod disk;
pub mod hunt;
mod messages;
pub mod order;
mod receipts;
mod records;
mod resume;
mod scan;
mod session;
pub mod simulate;
mod store;

pub use channel::channel;
pub use messages::messages;
pub use receipts::receipts;
pub use records::{records, split_records};
pub use resume::resume;
pub use scan::scan;
pub use session::session;
pub use store::store;

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::wire::{self, MESSAGE_MAX, Message, RoomCode, Terms, WireError};

/// A target: takes any bytes, panics where something does not hold.
pub type Target = fn(&[u8]);

/// All targets by the name of their corpus folder.
pub const TARGETS: [(&str, Target); 10] = [
    ("scan", scan),
    ("wire", wire),
    ("terms", terms),
    ("messages", messages),
    ("receipts", receipts),
    ("session", session),
    ("resume", resume),
    ("records", records),
    ("store", store),
    ("channel", channel),
];

/// One message from a peer.
///
/// # Panics
/// Where the codec contradicts itself.
pub fn wire(bytes: &[u8]) {
    let scanned = wire::scan(bytes);
    let decoded = wire::decode(bytes);
    if scanned.is_err() {
        assert!(decoded.is_err(), "decoded what the scan refuses");
    }
    let peeked = wire::peek_session(bytes);
    let Ok(Some(message)) = decoded else {
        assert!(peeked.is_err(), "a session in what is no message");
        return;
    };
    assert_eq!(peeked.is_ok(), matches!(message, Message::Hello(_)));
    assert!(bytes.len() <= MESSAGE_MAX);
    let again = wire::encode(&message);
    assert!(
        wire::decode(&again) == Ok(Some(message.clone())),
        "another message after a round trip"
    );
    // Odd keys that were skipped are not written again, and a code of a later version is written
    // as "other". All else has one encoding.
    if !has_unknown_code(&message) && again != bytes {
        assert!(again.len() < bytes.len(), "two encodings of one message");
    }
    match &message {
        Message::Welcome(welcome) => terms(&welcome.terms.to_bytes()),
        Message::OfferTerms(offer) => terms(&offer.terms.to_bytes()),
        _ => {}
    }
}

/// Terms by themselves.
///
/// # Panics
/// Where the codec or the hash contradicts itself.
pub fn terms(bytes: &[u8]) {
    let Ok(terms) = Terms::from_bytes(bytes) else {
        return;
    };
    let again = terms.to_bytes();
    let back: Result<Terms, WireError> = Terms::from_bytes(&again);
    assert_eq!(back.as_ref(), Ok(&terms), "other terms after a round trip");
    assert_eq!(back.map(|back| back.hash()), Ok(terms.hash()));
    if again != bytes {
        assert!(again.len() < bytes.len(), "two encodings of the same terms");
    }
}

fn has_unknown_code(message: &Message) -> bool {
    match message {
        Message::PurseRefused(refused) => refused.code == RefusalCode::Other,
        Message::Nack(nack) => nack.code == RefusalCode::Other,
        Message::Close(close) => close.code == CloseCode::Other,
        Message::Closed(closed) => closed.code == CloseCode::Other,
        Message::RoomRefused(refused) => refused.code == RoomCode::Other,
        _ => false,
    }
}
