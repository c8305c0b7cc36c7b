//! The payee that closes: what it waits for, whom it tells, what it cannot settle.

use bytes::Bytes;
use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::PurseId;
use streampay_core::wire::{Close, Message, Purse};

use super::payee::{capacity, credit, opened};
use super::payee_before::close;
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Payer, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "closes-over-a-check",
        "A payment is being checked when it closes: after 5 s it says closed without it and settles the other \
         purse; what comes of the payment is said and settled then.",
        over_a_check,
    ),
    scene(
        "payee",
        "notes-said-thrice",
        "A payer that says hello again and again while it settles: closed each time, its notes three times.",
        notes_thrice,
    ),
    scene(
        "payee",
        "note-answered",
        "The payer's backend answers a note: shown to its own, in one part and of a purse that settles alone.",
        note_answered,
    ),
    scene(
        "payee",
        "settle-failed",
        "One purse cannot be settled: its user is told; it lingers once the other is settled.",
        settle_failed,
    ),
    scene(
        "payee",
        "settle-in-vain",
        "Its mint does not answer five times over: its user is told, and what is left is for later.",
        settle_in_vain,
    ),
    scene(
        "payee",
        "lingers",
        "It is settled: its payer is told again, another is turned away, and after 10 s it ends.",
        lingers,
    ),
    scene(
        "payee",
        "restart-settled",
        "The process begins anew with a settled session: it opens none of that name, and says closed to who \
         has its keys, and to nobody else.",
        restart_settled,
    ),
];

const DONE: Message = Message::Close(Close {
    code: CloseCode::Done,
});

fn settled(stage: &mut Stage<'_>, purse: u32, amount: u64) -> Played {
    stage.answer(purse, "settled", Object::new().int("settled", amount))
}

/// How often it says that it is closed, in the last step.
fn closed(stage: &Stage<'_>) -> Vec<Option<u64>> {
    let total = |sent| match sent {
        Message::Closed(closed) => Some(closed.evidence.map(|of| of.receipt.total.msat())),
        _ => None,
    };
    stage.sent().into_iter().filter_map(total).collect()
}

/// Two purses, with a tick of each credited.
fn two_purses(stage: &mut Stage<'_>) -> Played<Payer> {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Purse(payer.purse(1)))?;
    stage.answer(1, "accepted", capacity())?;
    Ok(payer)
}

fn over_a_check(stage: &mut Stage<'_>) -> Played {
    let payer = two_purses(stage)?;
    stage.receive(&Message::Tick(payer.tick(1, 1)))?;
    stage.receive(&DONE)?;
    stage.must(stage.sent().is_empty(), "wait for what is checked")?;
    stage.receive(&DONE)?;
    stage.must(stage.sent().is_empty(), "wait on")?;
    stage.wait_ms(4_999)?;
    stage.must(stage.sent().is_empty(), "wait 5 s")?;
    stage.wait_ms(1)?;
    stage.must(
        closed(stage) == [Some(2_000)],
        "say it without that payment",
    )?;
    let asked = (stage.asked("settle").is_some(), stage.asked_purse("settle"));
    stage.must(asked == (true, 0), "settle the other purse")?;
    settled(stage, 0, 2_000)?;
    stage.must(!stage.told("settled"), "not be settled yet")?;
    stage.answer(1, "credited", Object::new())?;
    stage.must(closed(stage) == [Some(4_000)], "say what is due now")?;
    let asked = (stage.asked("settle").is_some(), stage.asked_purse("settle"));
    stage.must(asked == (true, 1), "settle that purse")?;
    settled(stage, 1, 2_000)?;
    stage.must(stage.told("settled"), "be settled")
}

/// It settles, and its backend left a note.
fn with_note(stage: &mut Stage<'_>) -> Played<Payer> {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    close(stage, CloseCode::Done)?;
    let note = Object::new()
        .int("purse", 0_u64)
        .hex("note", b"what lets you take the rest home");
    stage.step(Object::new().with("backend", note))?;
    Ok(payer)
}

fn notes_thrice(stage: &mut Stage<'_>) -> Played {
    let mut payer = with_note(stage)?;
    let notes = |stage: &Stage<'_>| {
        let sent = stage.sent();
        sent.iter()
            .filter(|sent| matches!(sent, Message::Purse(_)))
            .count()
    };
    for connection in 0..2 {
        let hello = Message::Hello(payer.hello());
        for count in 1..=4 {
            stage.receive(&hello)?;
            stage.must(closed(stage).len() == 1, "say that it is closed")?;
            stage.must(
                notes(stage) == usize::from(count <= 3),
                "say it three times",
            )?;
        }
        if connection == 0 {
            stage.link_down()?;
            stage.link_up()?;
        }
    }
    Ok(())
}

fn note_answered(stage: &mut Stage<'_>) -> Played {
    let payer = with_note(stage)?;
    let part = |purse, of, bytes: &'static [u8]| {
        Message::Purse(Purse {
            purse: PurseId(purse),
            of,
            bytes: Bytes::from_static(bytes),
            ..payer.purse(0)
        })
    };
    for message in [part(0, 2, b"in two"), part(7, 1, b"of none")] {
        stage.receive(&message)?;
        stage.must(stage.asked("note").is_none(), "not look at it")?;
    }
    stage.receive(&part(0, 1, b"a signature"))?;
    stage.must(stage.asked("note").is_some(), "show it to its backend")?;
    settled(stage, 0, 2_000)?;
    stage.receive(&part(0, 1, b"another"))?;
    stage.must(stage.asked("note").is_none(), "not look at it any more")
}

fn settle_failed(stage: &mut Stage<'_>) -> Played {
    let payer = two_purses(stage)?;
    stage.receive(&Message::Tick(payer.tick(1, 1)))?;
    stage.answer(1, "credited", Object::new())?;
    stage.receive(&DONE)?;
    let why = Object::new().int("code", RefusalCode::UnknownKeyset.code());
    stage.fail(0, "fatal", why)?;
    stage.must(stage.told("unsettled"), "tell the user")?;
    settled(stage, 1, 2_000)?;
    stage.must(!stage.told("settled"), "not be settled")?;
    stage.receive(&DONE)?;
    stage.must(closed(stage).len() == 1, "linger")?;
    stage.wait_ms(10_000)?;
    stage.must(stage.is_over(), "end")
}

fn settle_in_vain(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&DONE)?;
    for wait in [2_000, 4_000, 8_000, 8_000] {
        stage.fail(0, "transient", Object::new())?;
        stage.wait_ms(wait)?;
        stage.must(stage.asked("settle").is_some(), "ask again")?;
    }
    stage.fail(0, "transient", Object::new())?;
    stage.wait_ms(8_000)?;
    stage.must(stage.asked("settle").is_none(), "not ask a sixth time")?;
    stage.must(stage.told("unsettled"), "tell the user")?;
    stage.receive(&DONE)?;
    stage.must(closed(stage).len() == 1, "linger")?;
    stage.link_down()?;
    stage.must(stage.is_over(), "end")
}

fn lingers(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&DONE)?;
    settled(stage, 0, 2_000)?;
    let hello = payer.hello();
    stage.receive(&Message::Hello(hello.clone()))?;
    stage.must(closed(stage).len() == 1, "tell its payer again")?;
    let mut other = hello;
    other.root = Some([9; 32]);
    stage.receive(&Message::Hello(other))?;
    let code = CloseCode::Misbehaved;
    let away = Message::Close(Close { code });
    stage.must(stage.sent() == [away], "turn the other away")?;
    stage.wait_ms(9_999)?;
    stage.must(!stage.is_over(), "stay for 10 s")?;
    stage.wait_ms(1)?;
    stage.must(stage.is_over(), "end")
}

fn restart_settled(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&DONE)?;
    settled(stage, 0, 2_000)?;
    stage.link_down()?;
    stage.restart()?;
    stage.must(stage.asked("settle").is_none(), "ask nobody")?;
    stage.link_up()?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.must(
        stage.sent().is_empty(),
        "say nothing to who has not named it",
    )?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.must(closed(stage) == [Some(2_000)], "say that it is closed")?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.must(closed(stage) == [Some(2_000)], "say it to all that comes")?;
    stage.wait_ms(10_000)?;
    stage.must(stage.is_over(), "end")
}
