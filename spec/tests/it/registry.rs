//! Codes and constants of the registry, against the code.

use std::path::Path;

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::PauseReason;
use streampay_core::session::CloseCode;
use streampay_core::wire::{Field, RoomCode, WireError};

/// The rows of the table below this heading, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../registry.md");
    let (_, part) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let part = part.split_once("\n## ").map_or(part, |(part, _)| part);
    let rows = part.lines().filter(|line| line.starts_with("| "));
    let cells = |row: &str| {
        let row = row.trim_start_matches("| ").trim_end_matches(" |");
        row.split(" | ").map(ToOwned::to_owned).collect()
    };
    rows.skip(1).map(cells).collect()
}

/// Number and name of each row.
fn codes(heading: &str) -> Vec<(u16, String)> {
    let code = |row: &Vec<String>| {
        let name = row[1].trim_matches('`').to_owned();
        (row[0].parse().unwrap(), name)
    };
    table(heading).iter().map(code).collect()
}

fn named<T: core::fmt::Debug + Copy>(all: &[T], code: impl Fn(T) -> u16) -> Vec<(u16, String)> {
    let mut all: Vec<_> = all
        .iter()
        .map(|one| (code(*one), format!("{one:?}")))
        .collect();
    all.sort();
    all
}

#[test]
fn codes_of_the_registry_are_those_of_the_code() {
    let refusals = named(RefusalCode::ALL, RefusalCode::code);
    assert_eq!(codes("Refusal codes"), refusals);
    let closes = named(CloseCode::ALL, CloseCode::code);
    assert_eq!(codes("Close codes"), closes);
    let rooms = named(RoomCode::ALL, RoomCode::code);
    assert_eq!(codes("Room codes"), rooms);
    let reasons: Vec<_> = PauseReason::ALL.iter().map(|(reason, _)| *reason).collect();
    let reasons = named(&reasons, PauseReason::code);
    assert_eq!(codes("Pause reasons"), reasons);
    let consumed: Vec<_> = (0..=u8::MAX).filter_map(Consumed::from_code).collect();
    let consumed = named(&consumed, |consumed| consumed.code().into());
    assert_eq!(codes("Consumed"), consumed);
}

#[test]
fn errors_of_the_registry_are_those_of_the_codec() {
    let field = Field { message: 0, key: 0 };
    let all = [
        WireError::Empty,
        WireError::TooLong,
        WireError::Truncated,
        WireError::Trailing,
        WireError::NotShortest,
        WireError::Indefinite,
        WireError::KeyOrder,
        WireError::KeyType,
        WireError::TooDeep,
        WireError::Unsupported,
        WireError::NotUtf8,
        WireError::NoType,
        WireError::UnknownType(0),
        WireError::UnknownKey(field),
        WireError::Missing(field),
        WireError::WrongKind(field),
        WireError::OutOfRange(field),
    ];
    let found = named(&all, WireError::code).into_iter();
    let bare = found.map(|(code, name)| {
        let end = name.find(['(', ' ']).unwrap_or(name.len());
        (code, name[..end].to_owned())
    });
    assert_eq!(codes("Error codes"), bare.collect::<Vec<_>>());
}

/// A row of the table of constants, and where the code has it.
struct Constant {
    name: &'static str,
    value: &'static str,
    /// Files, and what stands in them.
    code: &'static [(&'static str, &'static str)],
}

const fn row(
    name: &'static str,
    value: &'static str,
    code: &'static [(&'static str, &'static str)],
) -> Constant {
    Constant { name, value, code }
}

const WIRE: &str = "streampay-core/src/wire/mod.rs";
const PAYER: &str = "streampay-core/src/session/payer";
const TARIFF: &str = "streampay-core/src/meter";
const PAYEE: &str = "streampay-core/src/session/payee";
const LEASE: &str = "streampay-core/src/session/lease.rs";
const SEAL: &str = "streampay-media/src/seal";
const ROOM: &str = "streampay-core/src/room";

/// Every row, and what must change with it. A path that is a folder stands for all files in it.
#[rustfmt::skip]
const CONSTANTS: &[Constant] = &[
    row("longest message", "16 384 bytes", &[(WIRE, "MESSAGE_MAX: usize = 16 * 1024;")]),
    row("deepest nesting", "4", &[(WIRE, "DEPTH_MAX: u8 = 4;")]),
    row("longest payload of a tick", "15 360 bytes", &[(WIRE, "PAYLOAD_MAX: usize = 15 * 1024;")]),
    row("parts of an opening", "64", &[(WIRE, "PARTS_MAX: u16 = 64;")]),
    row("longest opening", "262 144 bytes", &[(WIRE, "OPENING_MAX: usize = 256 * 1024;")]),
    row("versions in a hello", "8", &[(WIRE, "VERSIONS_MAX: usize = 8;")]),
    row("methods in terms", "8", &[(WIRE, "METHODS_MAX: usize = 8;")]),
    row("longest params of a method", "1 024 bytes", &[(WIRE, "PARAMS_MAX: usize = 1024;")]),
    row("longest title", "128 bytes", &[(WIRE, "TITLE_MAX: usize = 128;")]),
    row("longest method name", "16 characters", &[(WIRE, "METHOD_NAME_MAX: usize = 16;")]),
    row("longest grant on an ack", "64 bytes", &[(WIRE, "GRANT_MAX: usize = 64;")]),
    row("an epoch of sealed media; its counters", "50 ms; below 1 024",
        &[(SEAL, "EPOCH_MS: u64 = 50;"), (SEAL, "COUNTERS: u64 = 1024;")]),
    row("a grant of sealed media", "24 bytes", &[(SEAL, "LEN: usize = 24;")]),
    row("keys kept; epochs that a key may be late", "256; 20",
        &[(SEAL, "EPOCHS_MAX: usize = 256;"), (SEAL, "BEHIND_MAX: u64 = 20;")]),
    row("sealed frames that wait for a key, of one kind", "256, and 4 MiB",
        &[(SEAL, "WAITING_MAX: usize = 256;"), (SEAL, "WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;")]),
    row("longest name, invitation, chat text", "32, 64, 500 bytes",
        &[(WIRE, "NAME_MAX: usize = 32;"), (WIRE, "INVITATION_MAX: usize = 64;"), (WIRE, "CHAT_MAX: usize = 500;")]),
    row("largest amount", "2 100 000 000 000 000 000 msat",
        &[("streampay-core/src/units/amount.rs", "MAX: Self = Self(2_100_000_000_000_000_000);")]),
    row("largest `per` of a rate", "4 294 967 295",
        &[("streampay-core/src/meter/tariff.rs", "MAX_PER: u64 = 0xffff_ffff;")]),
    row("repetitions", "after 2, 4, 8 s, then every 8 s",
        &[("streampay-core/src/session/pace.rs", "STEPS_MS: [u64; 3] = [2_000, 4_000, 8_000];")]),
    row("handshake, each half", "15 s",
        &[(PAYER, "HANDSHAKE_MS: u64 = 15_000;"), (PAYEE, "HANDSHAKE_MS: u64 = 15_000;")]),
    row("answer to a close", "6 s", &[(PAYER, "CLOSE_MS: u64 = 6_000;")]),
    row("a payment being checked holds up a close", "5 s", &[(PAYEE, "CHECK_MS: u64 = 5_000;")]),
    row("lingering", "10 s", &[(PAYEE, "LINGER_MS: u64 = 10_000;")]),
    row("a checked payment is slow", "3 s", &[(PAYEE, "SLOW_MS: u64 = 3_000;")]),
    row("heartbeat", "2 s",
        &[(PAYER, "HEARTBEAT_MS: u64 = 2_000;"), (PAYEE, "HEARTBEAT_MS: u64 = 2_000;")]),
    row("notes on one connection; answers to notes that one process looks at in a session", "1 024; 1 024",
        &[(PAYER, "NOTES_MAX: u16 = 1_024;"), (PAYEE, "ANSWERS_MAX: u16 = 1_024;")]),
    row("all notes again, for the asking, on one connection", "3 times", &[(PAYEE, "NOTES_MAX: u8 = 3;")]),
    row("a payer may stay without paying while its purse is checked", "3 times as long",
        &[(PAYEE, "OPENING_FACTOR: u64 = 3;")]),
    row("purses in a session", "400",
        &[(PAYER, "PURSES_MAX: usize = 400;"), (PAYEE, "PURSES_MAX: usize = 400;")]),
    row("purses before anything is credited", "8", &[(PAYEE, "UNPAID_PURSES_MAX: usize = METHODS_MAX;")]),
    row("a purse is low", "3 steps; a fifth of capacity or life",
        &[(PAYER, "LOW_TICKS: u64 = 3;"), (PAYER, "LEFT_PART: u64 = 5;")]),
    row("a method that failed rests", "30 s, doubled, at most 16 min",
        &[(PAYER, "AGAIN_MS: u64 = 30_000;"), (PAYER, "DOUBLED_MAX: u8 = 5;")]),
    row("refusals in a row", "3", &[(PAYER, "REFUSALS_MAX: u8 = 3;")]),
    row("numbers by which a receipt is ahead of a payer that restarted",
        "3 for each step from what is acknowledged to the purse's capacity",
        &[(PAYER, "payments.saturating_mul(REFUSALS_MAX.into())")]),
    row("least and most lead", "100 ms; a fifth of a tick",
        &[(TARIFF, "LEAD_MIN_MS: u64 = 100;"), (TARIFF, "LEAD_MAX_PART: u64 = 5;")]),
    row("a payee is near its end", "a fifth of a tick is left",
        &[(PAYEE, "self.left().msat() <= self.config.terms.tick.msat() / 5")]),
    row("notice of an offer; how often it moves on, in all", "2 ticks; 4",
        &[(PAYEE, "NOTICE_TICKS: u64 = 2;"), (PAYEE, "MOVES_MAX: u8 = 4;")]),
    row("new offers that a payer looks at on a connection", "64", &[(PAYER, "OFFERS_MAX: u8 = 64;")]),
    row("longest `resumable_s` that a payer takes", "2 592 000 s",
        &[(PAYER, "RESUMABLE_MAX_S: u32 = 30 * 86_400;")]),
    row("refused messages and ticks, until one is credited", "16",
        &[(PAYER, "NONSENSE_MAX: u16 = 16;"), (PAYEE, "NONSENSE_MAX: u16 = 16;")]),
    row("an answer to an offer, payee; payer", "10 s; 15 s",
        &[("streampay-core/src/session/offer.rs", "ANSWER_MS: u64 = 10_000;"), (PAYER, "PATIENCE_MS: u64 = 5_000;")]),
    row("lease", "a quarter of a tick; 100 to 1 000 ms and 16 384 to 262 144 bytes",
        &[(LEASE, "PARTS: u128 = 4;"), (LEASE, "LEAST_MS: u64 = 100;"), (LEASE, "MOST_MS: u64 = 1_000;"),
          (LEASE, "LEAST_BYTES: u64 = 16 * 1024;"), (LEASE, "MOST_BYTES: u64 = 256 * 1024;")]),
    row("a reading that is noted is ahead of what is paid or used; one consent to drift",
        "a tick and a lease; a tick and a lease",
        &[(PAYER, "self.step().saturating_plus(self.price_of(leased))")]),
    row("byte meters may differ by", "65 536 bytes", &[(PAYER, "TOLERANCE_BYTES: u64 = 64 * 1024;")]),
    row("a payer's reading may be ahead of its clock", "2 000 ms", &[(PAYER, "CACHE_MS: u64 = 2_000;")]),
    row("a payer's clock is ahead of what counted when media last came; what waits for it, of what counts",
        "10 000 ms at most, each, or what a tick buys where that is longer",
        &[(PAYER, "LATE_MS: u64 = 10_000;")]),
    row("texts and attempts to join that a payee takes of an identity", "1 a second, 5 at once",
        &[(ROOM, "SPEAK_EVERY_MS: u64 = 1_000;"), (ROOM, "SPEAK_BURST: u64 = 5;")]),
    row("texts that a payer takes", "20 a second, 128 at once",
        &[(PAYER, "HEAR_EVERY_MS: u64 = 50;"), (PAYER, "HEAR_BURST: u64 = 128;")]),
    row("of a name that is asked for is shown", "20 bytes", &[(ROOM, "ASKED_MAX: usize = 20;")]),
    row("a number of viewers is told again; a tip is told as one", "after 1 s; 1 s after its last tick",
        &[(ROOM, "COUNT_EVERY_MS: u64 = 1_000;"), (ROOM, "GIVEN_MS: u64 = 1_000;")]),
];

/// All text of a file, or of all files in a folder.
fn source(path: &Path) -> String {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        let parts = entries.map(|entry| source(&entry.unwrap().path()));
        return parts.collect::<Vec<_>>().join("\n");
    }
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn constants_of_the_registry_are_those_of_the_code() {
    let written: Vec<_> = table("Constants")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let known = CONSTANTS
        .iter()
        .map(|row| (row.name.to_owned(), row.value.to_owned()));
    assert_eq!(written, known.collect::<Vec<_>>());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for constant in CONSTANTS {
        for (path, code) in constant.code {
            let there = source(&root.join(path)).contains(code);
            assert!(there, "{}: no `{code}` in {path}", constant.name);
        }
    }
}
