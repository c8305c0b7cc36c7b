//! One message of every kind, and one input for every way to refuse.

use super::stored;
use bytes::Bytes;
use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::{PauseReason, Rate, Reading, Tariff};
use streampay_core::session::{CloseCode, Entropy, Receipt, SecretKey};
use streampay_core::units::{Msat, PurseId, Seq, SessionId, Unix, XOnlyKey};
use streampay_core::wire::*;

/// `(target, file, bytes)`.
pub(crate) fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let messages = messages()
        .into_iter()
        .chain(later_messages())
        .map(|(name, message)| ("wire", name, encode(&message).to_vec()));
    let refused = refused()
        .into_iter()
        .map(|(name, bytes)| ("wire", name, bytes));
    let terms = [
        ("terms", "terms", terms().to_bytes()),
        ("terms", "refused-empty", vec![0xa0]),
    ];
    let [payer, payee] = stored::records(self::terms(), key);
    let records = [("records", "payer", payer), ("records", "payee", payee)];
    let [first, second, third] = stored::sessions();
    let sessions = [
        ("session", "first", first),
        ("session", "second", second),
        ("session", "third", third),
    ];
    let all = messages.chain(refused).chain(terms);
    all.chain(records).chain(sessions).collect()
}

fn key(name: &str) -> SecretKey {
    SecretKey::derive(&Entropy([1; 32]), name).unwrap()
}

fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}

fn terms() -> Terms {
    let rate = |msat_each, per| Rate::new(msat(msat_each), per).ok();
    Terms {
        title: "clip".into(),
        tariff: Tariff {
            time: rate(2_000, 10_000),
            bytes: rate(1, 4_096),
        },
        tick: msat(2_000),
        preview: msat(1_000),
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: ["cashu-swap", "fake"].map(method).into(),
        join_fee: msat(21_000),
        resumable_s: 86_400,
        expires: Unix(1_800_000_000),
        payee: key("payee").public(),
    }
}

fn method(name: &str) -> Method {
    Method {
        name: name.into(),
        params: b"params".to_vec(),
    }
}

fn messages() -> Vec<(&'static str, Message)> {
    let session = SessionId([7; 32]);
    let (purse, seq) = (PurseId(0), Seq(1));
    let reading = Reading {
        media_ms: 10_000,
        bytes: 300_000,
    };
    let receipt = Receipt {
        purse,
        seq,
        cumulative: msat(2_000),
        total: msat(2_000),
        reading,
        tips: Msat::ZERO,
    };
    let evidence = receipt.sign(session, &key("payee-session"));
    let signature = evidence.signature;
    let session_key: XOnlyKey = key("payer-session").public();
    let hello = Hello {
        session,
        versions: vec![VERSION],
        features: 0,
        nonce: [8; 32],
        identity: key("payer").public(),
        session_key,
        root: None,
        evidence: None,
    };
    let code = CloseCode::Done;
    vec![
        ("hello", Message::Hello(hello.clone())),
        (
            "hello-resume",
            Message::Hello(Hello {
                root: Some([9; 32]),
                evidence: Some(evidence),
                ..hello
            }),
        ),
        (
            "welcome",
            Message::Welcome(Welcome {
                session,
                version: VERSION,
                features: 0,
                nonce: [10; 32],
                session_key,
                terms: terms(),
                terms_signature: signature,
                binding: signature,
            }),
        ),
        ("bind", Message::Bind(Bind { binding: signature })),
        (
            "ready",
            Message::Ready(Ready {
                evidence: Some(evidence),
            }),
        ),
        (
            "purse",
            Message::Purse(Purse {
                purse,
                part: 0,
                of: 1,
                method: 0,
                bytes: Bytes::from_static(b"opening"),
            }),
        ),
        ("purse-ok", Message::PurseOk(PurseOk { purse })),
        (
            "purse-refused",
            Message::PurseRefused(PurseRefused {
                purse,
                code: RefusalCode::WrongMint,
            }),
        ),
        (
            "tick",
            Message::Tick(Tick {
                purse,
                seq,
                cumulative: msat(2_000),
                payload: Bytes::from_static(b"payment"),
                tips: None,
            }),
        ),
        (
            "ack",
            Message::Ack(Ack {
                evidence,
                grant: Some(Bytes::from_static(b"grant")),
            }),
        ),
        (
            "nack",
            Message::Nack(Nack {
                purse,
                seq,
                code: RefusalCode::AlreadySpent,
                consumed: Consumed::Unknown,
            }),
        ),
        (
            "pause",
            Message::Pause(Pause {
                epoch: 1,
                reason: PauseReason::ByPayer,
            }),
        ),
        ("resume", Message::Resume(Resume { epoch: 2 })),
        ("close", Message::Close(Close { code })),
        (
            "closed",
            Message::Closed(Closed {
                code,
                evidence: Some(evidence),
            }),
        ),
        ("reading", Message::Reading(reading)),
    ]
}

/// Offers of other terms, receipts on request, rooms.
fn later_messages() -> Vec<(&'static str, Message)> {
    let offered = OfferTerms {
        terms: terms(),
        from: msat(20_000),
        signature: key("payee").sign(terms().hash(), &[0; 32]),
    };
    let offer = offered.hash(SessionId([7; 32]));
    let name = || "alice".into();
    vec![
        ("offer-terms", Message::OfferTerms(offered)),
        ("agree", Message::Agree(Agree { offer })),
        ("decline", Message::Decline(Decline { offer })),
        ("agreed", Message::Agreed(Agreed { offer })),
        ("receipt-request", Message::ReceiptRequest),
        (
            "join",
            Message::Join(Join {
                name: name(),
                invitation: Some(Bytes::from_static(b"invitation")),
            }),
        ),
        ("joined", Message::Joined(Joined { name: name() })),
        (
            "room-refused",
            Message::RoomRefused(RoomRefused {
                code: RoomCode::Full,
            }),
        ),
        (
            "presence",
            Message::Presence(Presence {
                epoch: 3,
                viewers: 21,
            }),
        ),
        (
            "chat",
            Message::Chat(Chat {
                id: 1,
                sender: Some(name()),
                text: "hello".into(),
            }),
        ),
        (
            "tip",
            Message::Tip(Tip {
                id: 2,
                sender: name(),
                amount: msat(21_000),
            }),
        ),
        ("leave", Message::Leave),
        ("tick-tip", Message::Tick(tick_of_a_tip())),
        ("ack-tips", Message::Ack(ack_of_tips())),
    ]
}

fn tick_of_a_tip() -> Tick {
    Tick {
        purse: PurseId(0),
        seq: Seq(2),
        cumulative: msat(4_000),
        payload: Bytes::from_static(b"tip"),
        tips: Some(msat(2_000)),
    }
}

fn ack_of_tips() -> Ack {
    let receipt = Receipt {
        purse: PurseId(0),
        seq: Seq(2),
        cumulative: msat(4_000),
        total: msat(4_000),
        reading: Reading::default(),
        tips: msat(2_000),
    };
    Ack {
        evidence: receipt.sign(SessionId([7; 32]), &key("payee-session")),
        grant: None,
    }
}

fn refused() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("refused-01-empty", vec![]),
        ("refused-02-too-long", vec![0; MESSAGE_MAX + 1]),
        ("refused-03-truncated", vec![0xa2, 0, 0x16, 2]),
        ("refused-04-trailing", vec![0xa2, 0, 0x16, 2, 1, 0]),
        ("refused-05-not-shortest", vec![0xa2, 0, 0x16, 2, 0x18, 1]),
        ("refused-06-indefinite", vec![0xbf, 0, 0x16, 0xff]),
        ("refused-07-key-order", vec![0xa2, 0, 0x16, 0, 0x16]),
        ("refused-08-key-type", vec![0xa1, 0x20, 0]),
        ("refused-09-too-deep", vec![0x81; 64]),
        ("refused-10-unsupported", vec![0xa1, 0, 0xf6]),
        ("refused-11-not-utf8", vec![0xa1, 1, 0x61, 0xc3]),
        ("refused-12-no-type", vec![0xa0]),
        ("refused-13-unknown-type", vec![0xa1, 0, 0x18, 38]),
        ("refused-14-unknown-key", vec![0xa3, 0, 0x16, 2, 1, 4, 0]),
        ("refused-15-missing", vec![0xa1, 0, 0x16]),
        ("refused-16-wrong-kind", vec![0xa2, 0, 0x16, 2, 0x60]),
        (
            "refused-tip-of-nothing",
            vec![0xa4, 0, 0x18, 50, 2, 1, 4, 0x61, b'a', 6, 0],
        ),
        ("refused-leave-with-key", vec![0xa2, 0, 0x18, 52, 2, 0]),
        ("refused-17-out-of-range", vec![0xa2, 0, 4, 2, 0x41, 0]),
        ("ignored-odd-type", vec![0xa1, 0, 0x18, 29]),
        ("ignored-odd-key", vec![0xa3, 0, 0x16, 2, 1, 3, 0x80]),
    ]
}
