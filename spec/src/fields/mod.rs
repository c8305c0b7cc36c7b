//! Messages and terms as plain JSON and back: the `fields` of the vectors.

mod read;
mod write;

pub(crate) use read::receipt as receipt_from_json;
pub use read::{
    evidence_from_json, message_from_json, reading_from_json, schedule_from_json, tariff_from_json,
    terms_from_json,
};
pub(crate) use write::receipt_to_json;
pub use write::{
    error_to_json, evidence_to_json, message_to_json, reading_to_json, schedule_to_json,
    tariff_to_json, terms_to_json,
};

/// The names of all messages and their numbers, in the order of the numbers.
pub const MESSAGES: [(&str, u64); 27] = [
    ("hello", 0),
    ("reading", 1),
    ("welcome", 2),
    ("bind", 4),
    ("ready", 6),
    ("purse", 8),
    ("purse_ok", 10),
    ("purse_refused", 12),
    ("tick", 14),
    ("ack", 16),
    ("nack", 18),
    ("pause", 20),
    ("resume", 22),
    ("close", 24),
    ("closed", 26),
    ("offer_terms", 28),
    ("agree", 30),
    ("decline", 32),
    ("agreed", 34),
    ("receipt_request", 36),
    ("join", 40),
    ("joined", 42),
    ("room_refused", 44),
    ("presence", 46),
    ("chat", 48),
    ("tip", 50),
    ("leave", 52),
];

/// What stands for terms by themselves in errors.
pub const TERMS: u64 = 1000;

/// The name of the message with this number.
#[must_use]
pub fn name_of(number: u64) -> &'static str {
    let found = MESSAGES.iter().find(|(_, known)| *known == number);
    found.map_or("terms", |(name, _)| name)
}
