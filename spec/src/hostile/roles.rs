//! Peers that say what belongs to the other role: all of it, each in a session of its own.

use streampay_core::session::CloseCode;
use streampay_core::wire::Message;

use super::Script;
use crate::peer::{Played, Stage};
use crate::transcripts::payee::{credit, opened};
use crate::transcripts::payer::first_tick;
use crate::vectors::samples::messages;

pub(super) const SCRIPTS: &[Script] = &[
    Script::new("payer plays the payee", |stage| {
        plays(stage, is_payees, |stage| {
            let payer = opened(stage)?;
            credit(stage, payer.tick(0, 1))
        })
    }),
    Script::new("payee plays the payer", |stage| {
        plays(stage, is_payers, |stage| {
            let payee = first_tick(stage)?;
            stage.receive(&payee.ack(1, 0))
        })
    }),
];

/// What only a payee says.
const fn is_payees(message: &Message) -> bool {
    matches!(
        message,
        Message::Welcome(_)
            | Message::Ready(_)
            | Message::PurseOk(_)
            | Message::PurseRefused(_)
            | Message::Ack(_)
            | Message::Nack(_)
            | Message::Closed(_)
            | Message::Reading(_)
            | Message::OfferTerms(_)
            | Message::Agreed(_)
            | Message::Joined(_)
            | Message::RoomRefused(_)
            | Message::Presence(_)
            | Message::Tip(_)
    )
}

/// What only a payer says.
const fn is_payers(message: &Message) -> bool {
    matches!(
        message,
        Message::Hello(_)
            | Message::Bind(_)
            | Message::Tick(_)
            | Message::Agree(_)
            | Message::Decline(_)
            | Message::ReceiptRequest
            | Message::Join(_)
            | Message::Leave
    )
}

/// Each such message ends a session that was paid for: as misbehaviour.
fn plays(
    stage: &mut Stage<'_>,
    is_theirs: fn(&Message) -> bool,
    open: fn(&mut Stage<'_>) -> Played,
) -> Played {
    let all = messages().map_err(|_| "a fixed key is none")?;
    for (_, message) in all.iter().filter(|(_, message)| is_theirs(message)) {
        let mut stage = stage.anew();
        open(&mut stage)?;
        stage.receive(message)?;
        let number = message.number();
        let of = |what: &str| format!("{what} (type {number})");
        stage.must(stage.told("misbehaved"), &of("call it misbehaviour"))?;
        let closes = stage.sent().iter().any(|sent| match sent {
            Message::Close(close) => close.code == CloseCode::Misbehaved,
            Message::Closed(closed) => closed.code == CloseCode::Misbehaved,
            _ => false,
        });
        stage.must(closes, &of("close with 8"))?;
    }
    Ok(())
}
