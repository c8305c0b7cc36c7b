//! One of everything.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::backend::{Consumed, RefusalCode};
use crate::meter::{PauseReason, Rate, Reading, Tariff};
use crate::session::{CloseCode, Hash, Receipt, Signature};
use crate::units::{Msat, PurseId, Seq, SessionId, Unix, XOnlyKey};
use crate::wire::*;

pub(super) fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}

pub(super) fn evidence() -> Evidence {
    Evidence {
        receipt: Receipt {
            purse: PurseId(1),
            seq: Seq(300),
            cumulative: msat(20_000),
            total: msat(128_000),
            reading: Reading {
                media_ms: 640_000,
                bytes: 0,
            },
            tips: Msat::ZERO,
        },
        signature: Signature([0x5a; 64]),
    }
}

pub(super) fn terms() -> Terms {
    Terms {
        title: "a clip, für alle".into(),
        tariff: Tariff {
            time: Some(Rate::new(msat(2_000), 10_000).unwrap()),
            bytes: None,
        },
        tick: msat(2_000),
        preview: Msat::ZERO,
        window: msat(500),
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: "cashu-swap".into(),
            params: vec![0xa0],
        }],
        join_fee: Msat::ZERO,
        resumable_s: 86_400,
        expires: Unix(1_900_000_000),
        payee: XOnlyKey([7; 32]),
    }
}

pub(super) fn hello() -> Hello {
    Hello {
        session: SessionId([1; 32]),
        versions: vec![VERSION, 700],
        features: 0,
        nonce: [2; 32],
        identity: XOnlyKey([3; 32]),
        session_key: XOnlyKey([4; 32]),
        root: None,
        evidence: None,
    }
}

pub(super) fn tick() -> Tick {
    Tick {
        purse: PurseId(0),
        seq: Seq(24),
        cumulative: msat(48_000),
        payload: Bytes::from_static(b"money"),
        tips: None,
    }
}

/// Evidence of a session in which a tip was given.
pub(super) fn evidence_of_tips() -> Evidence {
    let mut evidence = evidence();
    evidence.receipt.tips = msat(4_000);
    evidence
}

pub(super) fn tip() -> Tip {
    Tip {
        id: 8,
        sender: "älice".into(),
        amount: msat(21_000),
    }
}

pub(super) fn offer_terms() -> OfferTerms {
    OfferTerms {
        terms: terms(),
        from: msat(200_000),
        signature: Signature([11; 64]),
    }
}

pub(super) fn join() -> Join {
    Join {
        name: "alice".into(),
        invitation: Some(Bytes::from_static(b"invitation")),
    }
}

pub(super) fn chat() -> Chat {
    Chat {
        id: 7,
        sender: Some("älice".into()),
        text: "hello, alle".into(),
    }
}

/// Every message, with and without what may be missing.
pub(super) fn messages() -> Vec<Message> {
    let (purse, seq) = (PurseId(3), Seq(9));
    vec![
        Message::Hello(hello()),
        Message::Hello(Hello {
            root: Some([9; 32]),
            evidence: Some(evidence()),
            ..hello()
        }),
        Message::Welcome(Welcome {
            session: SessionId([1; 32]),
            version: VERSION,
            features: u64::MAX,
            nonce: [2; 32],
            session_key: XOnlyKey([4; 32]),
            terms: Terms {
                join_fee: msat(21_000),
                ..terms()
            },
            terms_signature: Signature([5; 64]),
            binding: Signature([6; 64]),
        }),
        Message::Bind(Bind {
            binding: Signature([6; 64]),
        }),
        Message::Ready(Ready { evidence: None }),
        Message::Ready(Ready {
            evidence: Some(evidence()),
        }),
        Message::Ready(Ready {
            evidence: Some(evidence_of_tips()),
        }),
        Message::Purse(Purse {
            purse,
            part: 1,
            of: PARTS_MAX,
            method: 0,
            bytes: Bytes::from_static(b"part"),
        }),
        Message::PurseOk(PurseOk { purse }),
        Message::PurseRefused(PurseRefused {
            purse,
            code: RefusalCode::WrongMint,
        }),
        Message::Tick(tick()),
        Message::Tick(Tick {
            tips: Some(msat(4_000)),
            ..tick()
        }),
        Message::Ack(Ack {
            evidence: evidence(),
            grant: None,
        }),
        Message::Ack(Ack {
            evidence: evidence(),
            grant: Some(Bytes::from(vec![8; GRANT_MAX])),
        }),
        Message::Nack(Nack {
            purse,
            seq,
            code: RefusalCode::AlreadySpent,
            consumed: Consumed::Unknown,
        }),
        Message::Pause(Pause {
            epoch: 256,
            reason: PauseReason::BackendAway,
        }),
        Message::Resume(Resume { epoch: 65_536 }),
        Message::Close(Close {
            code: CloseCode::BudgetSpent,
        }),
        Message::Closed(Closed {
            code: CloseCode::Done,
            evidence: None,
            proof: None,
        }),
        Message::Closed(Closed {
            code: CloseCode::Drift,
            evidence: Some(evidence()),
            proof: None,
        }),
        Message::Reading(Reading {
            media_ms: 1 << 33,
            bytes: u64::MAX,
        }),
        Message::OfferTerms(offer_terms()),
        Message::Agree(Agree {
            offer: Hash([12; 32]),
        }),
        Message::Decline(Decline {
            offer: Hash([13; 32]),
        }),
        Message::Agreed(Agreed {
            offer: Hash([14; 32]),
        }),
        Message::ReceiptRequest,
        Message::Join(join()),
        Message::Join(Join {
            invitation: None,
            ..join()
        }),
        Message::Joined(Joined {
            name: "alice 2".into(),
        }),
        Message::RoomRefused(RoomRefused {
            code: RoomCode::NotInvited,
        }),
        Message::Presence(Presence {
            epoch: 1 << 40,
            viewers: u32::MAX,
        }),
        Message::Chat(chat()),
        Message::Chat(Chat {
            sender: None,
            text: "x".repeat(CHAT_MAX),
            ..chat()
        }),
        Message::Tip(tip()),
        Message::Leave,
    ]
}
