//! What a payee signs, and what a payer keeps of it.

use streampay_core::meter::Reading;
use streampay_core::session::{CloseCode, Entropy, Receipt, SecretKey};
use streampay_core::units::{Msat, PurseId, Seq, SessionId};
use streampay_core::wire::{Ack, Closed, Evidence, Message, Ready, decode, encode};

use crate::actions::Actions;

/// A receipt of any numbers, signed, goes through every message that carries one and stays
/// itself. Changed in any field, or for another session, or by another key, its signature does
/// not hold.
///
/// # Panics
/// Where it does, or where a message changes it.
pub fn receipts(bytes: &[u8]) {
    let mut actions = Actions(bytes);
    let session = SessionId(Entropy([actions.byte(); 32]).derive("session-id"));
    let receipt = Receipt {
        purse: PurseId(u32::try_from(any(&mut actions) >> 32).unwrap_or_default()),
        seq: Seq(any(&mut actions)),
        cumulative: amount(&mut actions),
        total: amount(&mut actions),
        reading: Reading {
            media_ms: any(&mut actions),
            bytes: any(&mut actions),
        },
        tips: amount(&mut actions),
    };
    let keys = ["one", "other"].map(|name| SecretKey::derive(&Entropy([1; 32]), name));
    let [Ok(key), Ok(other)] = keys else { return };
    let evidence = receipt.sign(session, &key);
    assert_eq!(evidence, receipt.sign(session, &key), "signed in two ways");
    let holds = |receipt: Receipt, session| {
        let hash = receipt.hash(session);
        key.public().verifies(hash, &evidence.signature)
    };
    assert!(holds(receipt, session));
    let hash = receipt.hash(session);
    assert!(!other.public().verifies(hash, &evidence.signature));
    let mut elsewhere = session;
    let (at, bit) = (usize::from(actions.byte() % 32), actions.byte() % 8);
    elsewhere
        .0
        .iter_mut()
        .skip(at)
        .take(1)
        .for_each(|byte| *byte ^= 1 << bit);
    assert!(!holds(receipt, elsewhere), "a receipt of another session");
    let changed = change(receipt, &mut actions);
    if changed != receipt {
        assert!(!holds(changed, session), "signed for {changed:?}");
    }
    carried(evidence);
}

fn any(actions: &mut Actions<'_>) -> u64 {
    let bytes = [0; 8].map(|_: u8| actions.byte());
    // Small numbers as often as large ones.
    u64::from_be_bytes(bytes) >> (actions.byte() % 64)
}

fn amount(actions: &mut Actions<'_>) -> Msat {
    Msat::new(any(actions)).unwrap_or(Msat::MAX)
}

/// One field as somebody would like it better.
fn change(mut receipt: Receipt, actions: &mut Actions<'_>) -> Receipt {
    match actions.byte() % 7 {
        0 => receipt.purse = PurseId(receipt.purse.0 ^ 1),
        1 => receipt.seq = Seq(any(actions)),
        2 => receipt.cumulative = amount(actions),
        3 => receipt.total = amount(actions),
        4 => receipt.reading.media_ms = any(actions),
        5 => receipt.reading.bytes = any(actions),
        _ => receipt.tips = amount(actions),
    }
    receipt
}

fn carried(evidence: Evidence) {
    let messages = [
        Message::Ack(Ack {
            evidence,
            grant: None,
        }),
        Message::Ready(Ready {
            evidence: Some(evidence),
        }),
        Message::Closed(Closed {
            code: CloseCode::Done,
            evidence: Some(evidence),
            proof: None,
        }),
    ];
    for message in messages {
        let bytes = encode(&message);
        assert_eq!(decode(&bytes), Ok(Some(message)));
    }
}
