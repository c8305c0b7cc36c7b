//! What a payee's backend shows a payer's.

use bytes::Bytes;
use streampay_core::session::CloseCode;
use streampay_core::units::PurseId;
use streampay_core::wire::{Message, Purse};

use super::Scene;
use super::payee::{credit, opened};
use super::payer::first_tick;
use crate::json::Object;
use crate::peer::{Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "note",
        about: "Notes on a purse, in parts and in one, are joined and shown to the backend.",
        role: "payer",
        play: payer_note,
    },
    Scene {
        name: "note-on-unknown-purse",
        about: "A note on a purse that it never opened is misbehaviour.",
        role: "payer",
        play: payer_unknown,
    },
    Scene {
        name: "note",
        about: "Its backend leaves a note while it settles; said then, and to a payer that comes back.",
        role: "payee",
        play: payee_note,
    },
];

fn part(purse: u32, part: u16, of: u16, bytes: &'static [u8]) -> Message {
    Message::Purse(Purse {
        purse: PurseId(purse),
        part,
        of,
        method: 0,
        bytes: Bytes::from_static(bytes),
    })
}

fn payer_note(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.receive(&part(0, 0, 2, b"what lets you take "))?;
    stage.must(stage.asked("note").is_none(), "wait for the rest")?;
    stage.receive(&part(0, 1, 2, b"the rest home"))?;
    stage.must(stage.asked("note").is_some(), "show it")?;
    stage.receive(&part(0, 0, 1, b"another"))?;
    stage.must(stage.asked("note").is_some(), "show the other")
}

fn payer_unknown(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.receive(&part(7, 0, 1, b"a note"))?;
    stage.must(stage.told("misbehaved"), "say so")
}

fn payee_note(stage: &mut Stage<'_>) -> Played {
    let said = |stage: &Stage<'_>| {
        let sent = stage.sent();
        sent.iter().any(|sent| matches!(sent, Message::Purse(_)))
    };
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    let backend = Object::new()
        .int("purse", 0_u64)
        .hex("note", b"what lets you take the rest home");
    stage.step(Object::new().with("backend", backend))?;
    stage.must(said(stage), "say it")?;
    stage.link_down()?;
    stage.link_up()?;
    let hello = payer.hello();
    stage.receive(&Message::Hello(hello))?;
    stage.must(said(stage), "say it again")
}
