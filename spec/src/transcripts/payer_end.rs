//! The payer that closes and takes home what is left; what makes it close; and what becomes of a refused
//! payment while it is away.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{Close, Closed, Hello, Message, PurseOk};

use super::payer::{bound, first_tick, first_tick_of, rebind, settle, ticked};
use super::payer_outstanding::{nack_of, pays_again};
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "closed-without-close",
        "A closed comes, and no close before it: its receipt counts, and the rest comes home at once.",
        closed_without_close,
    ),
    scene(
        "payer",
        "closing-and-the-link-goes",
        "The connection goes while it waits for closed: it waits no longer.",
        |stage| {
            closing(stage)?;
            stage.link_down()?;
            settle(stage, 8_000)
        },
    ),
    scene(
        "payer",
        "releasing-and-back",
        "A connection comes while the purse comes home: bound once more, to say that it closes, and not waited \
         for.",
        releasing_and_back,
    ),
    scene(
        "payer",
        "releasing-and-closed",
        "A connection comes while the purse comes home, and the payee knows: what it acknowledged is told to \
         the backend, and nothing more is said.",
        releasing_and_closed,
    ),
    scene(
        "payer",
        "release-failed",
        "One of two purses does not come home: its user is told, and it ends once the other is there.",
        release_failed,
    ),
    scene(
        "payer",
        "release-in-vain",
        "Its mint does not answer five times over: its user is told, and what is left is for later.",
        release_in_vain,
    ),
    scene(
        "payer",
        "restart-settled",
        "The process begins anew with a settled session: there is nothing to do.",
        |stage| {
            closing(stage)?;
            stage.link_down()?;
            settle(stage, 8_000)?;
            stage.restart()?;
            stage.must(stage.is_over() && stage.outputs.is_empty(), "do nothing")
        },
    ),
    scene(
        "payer",
        "refused-three-times",
        "The third refusal in a row ends the session, though each payment came back.",
        three_times,
    ),
    scene(
        "payer",
        "refused-and-back-while-away",
        "A refused payment is back while there is no connection: paid anew on the next one.",
        back_while_away,
    ),
    scene(
        "payer",
        "refused-and-spent-while-away",
        "A refused payment is spent while there is no connection: the user is told at once, the payee that it \
         is paused when it is there.",
        spent_while_away,
    ),
    scene(
        "payer",
        "outstanding-while-away",
        "A refused payment is outstanding, and paid again, while there is no connection: sent on the next one.",
        outstanding_while_away,
    ),
    scene(
        "payer",
        "backend-fatal",
        "The backend cannot pay from the purse: the session ends with 10.",
        |stage| {
            cannot_pay(stage, RefusalCode::UnknownKeyset)?;
            said(stage, CloseCode::BackendFailed)
        },
    ),
    scene(
        "payer",
        "purse-empty",
        "The backend finds the purse empty: the session goes on with another.",
        |stage| {
            cannot_pay(stage, RefusalCode::PurseEmpty)?;
            stage.must(!stage.told("closed"), "go on")?;
            stage.must(stage.asked("open").is_some(), "ask for another")
        },
    ),
    scene(
        "payer",
        "no-purse-in-time",
        "A purse does not open for as long as it waits for media: the session ends with 9, and the backend is \
         told to give it up.",
        no_purse_in_time,
    ),
    scene(
        "payer",
        "insufficient-funds",
        "The wallet holds too little for a purse: the session ends with 14.",
        |stage| {
            bound(stage, &Cast::usual()?)?;
            let code = RefusalCode::InsufficientFunds.code();
            stage.fail(0, "fatal", Object::new().int("code", code))?;
            said(stage, CloseCode::InsufficientFunds)
        },
    ),
];

/// It says that it closes, with this code.
fn said(stage: &Stage<'_>, code: CloseCode) -> Played {
    let close = Message::Close(Close { code });
    stage.must(stage.told("closed"), "end the session")?;
    stage.must(stage.sent().contains(&close), "say why")
}

/// A tick is acknowledged, and the user closes.
fn closing(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    said(stage, CloseCode::Done)?;
    Ok(payee)
}

fn closed(payee: &Payee, seq: u64) -> Message {
    Message::Closed(Closed {
        code: CloseCode::Done,
        evidence: Some(payee.sign(payee.receipt(seq, 0))),
        proof: None,
    })
}

fn closed_without_close(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&closed(&payee, 1))?;
    stage.must(stage.told("tick_paid"), "count what it says")?;
    said(stage, CloseCode::Done)?;
    settle(stage, 8_000)
}

/// A connection on which it says hello.
fn greeted(stage: &mut Stage<'_>) -> Played<Hello> {
    stage.link_up()?;
    match stage.sent().into_iter().next() {
        Some(Message::Hello(hello)) => Ok(hello),
        _ => Err("no hello".into()),
    }
}

fn said_again(stage: &mut Stage<'_>) -> Played {
    let first = stage.sent();
    stage.must(!first.is_empty(), "say something")?;
    for ms in [2_000, 4_000] {
        stage.wait_ms(ms)?;
        stage.must(stage.sent() == first, "say the same again")?;
    }
    Ok(())
}

fn releasing_and_back(stage: &mut Stage<'_>) -> Played {
    let mut payee = closing(stage)?;
    stage.link_down()?;
    stage.must(stage.asked("release").is_some(), "take the rest home")?;
    payee.hello = greeted(stage)?;
    said_again(stage)?;
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    stage.must(matches!(stage.sent()[..], [Message::Bind(_)]), "bind")?;
    said_again(stage)?;
    let evidence = payee.sign(payee.receipt(1, 0));
    stage.receive(&Payee::ready(Some(evidence)))?;
    stage.must(matches!(stage.sent()[..], [Message::Close(_)]), "say so")?;
    said_again(stage)?;
    stage.receive(&closed(&payee, 1))?;
    stage.must(stage.sent().is_empty(), "say nothing more")?;
    stage.wait_ms(8_000)?;
    stage.must(stage.sent().is_empty(), "say nothing more")?;
    stage.answer(0, "released", Object::new().int("refunded", 8_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

fn releasing_and_closed(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.link_down()?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    greeted(stage)?;
    stage.receive(&closed(&payee, 1))?;
    stage.must(stage.asked("acked").is_some(), "tell the backend")?;
    stage.wait_ms(2_000)?;
    stage.must(stage.sent().is_empty(), "say nothing more")?;
    stage.answer(0, "released", Object::new().int("refunded", 8_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

/// Two purses are out, of two ticks and of five.
fn two_purses(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick_of(stage, &Cast::usual()?, 4_000)?;
    stage.receive(&payee.ack(1, 0))?;
    let purse = PurseId(1);
    stage.opened(purse.0, payee.hello.session, 10_000)?;
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    Ok(payee)
}

fn release_failed(stage: &mut Stage<'_>) -> Played {
    let payee = two_purses(stage)?;
    stage.receive(&closed(&payee, 1))?;
    stage.must(stage.asked("release").is_some(), "take the rest home")?;
    let code = RefusalCode::UnknownKeyset.code();
    stage.fail(0, "fatal", Object::new().int("code", code))?;
    stage.must(stage.told("unsettled"), "tell the user")?;
    stage.must(!stage.is_over(), "wait for the other")?;
    stage.answer(1, "released", Object::new().int("refunded", 10_000_u64))?;
    stage.must(!stage.told("settled"), "not be settled")?;
    stage.must(stage.is_over(), "end")
}

fn release_in_vain(stage: &mut Stage<'_>) -> Played {
    closing(stage)?;
    stage.link_down()?;
    for wait in [2_000, 4_000, 8_000, 8_000] {
        stage.fail(0, "transient", Object::new())?;
        stage.wait_ms(wait)?;
        stage.must(stage.asked("release").is_some(), "ask again")?;
    }
    stage.fail(0, "transient", Object::new())?;
    stage.wait_ms(8_000)?;
    stage.must(stage.asked("release").is_none(), "not ask a sixth time")?;
    stage.must(stage.told("unsettled"), "tell the user")?;
    stage.must(stage.is_over(), "end")
}

/// The payee refuses this tick, and the payer's backend is asked for it.
fn refused(stage: &mut Stage<'_>, seq: u64) -> Played {
    stage.receive(&nack_of(seq, RefusalCode::BadProof))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")
}

fn three_times(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    for seq in [1, 2] {
        refused(stage, seq)?;
        stage.answer(0, "reclaimed", Object::new())?;
        stage.make_payment(payee.hello.session)?;
        let tick = ticked(stage)?;
        stage.must(tick.seq == Seq(seq + 1), "pay by the next number")?;
    }
    refused(stage, 3)?;
    stage.answer(0, "reclaimed", Object::new())?;
    stage.must(stage.asked("pay").is_none(), "pay it no fourth time")?;
    said(stage, CloseCode::BackendFailed)
}

/// A payment is refused, and the connection goes.
fn refused_and_away(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    refused(stage, 1)?;
    stage.link_down()?;
    Ok(payee)
}

fn back_while_away(stage: &mut Stage<'_>) -> Played {
    let mut payee = refused_and_away(stage)?;
    stage.answer(0, "reclaimed", Object::new())?;
    stage.must(stage.asked("pay").is_none(), "wait for a connection")?;
    rebind(stage, &mut payee, None)?;
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    stage.must(tick.seq == Seq(2), "never use a number twice")
}

fn pauses(stage: &Stage<'_>) -> Played {
    let pauses = |sent: &Message| matches!(sent, Message::Pause(_));
    stage.must(stage.sent().iter().any(pauses), "say that it is paused")
}

fn spent_while_away(stage: &mut Stage<'_>) -> Played {
    let mut payee = refused_and_away(stage)?;
    stage.answer(0, "spent", Object::new())?;
    stage.must(stage.told("tick_lost"), "say what is lost")?;
    rebind(stage, &mut payee, None)?;
    pauses(stage)?;
    stage.command("write_off", Object::new())?;
    stage.make_payment(payee.hello.session)
}

fn outstanding_while_away(stage: &mut Stage<'_>) -> Played {
    let mut payee = refused_and_away(stage)?;
    stage.answer(0, "outstanding", Object::new())?;
    pays_again(stage, 2)?;
    stage.make_payment(payee.hello.session)?;
    stage.must(stage.sent().is_empty(), "have nobody to send it to")?;
    rebind(stage, &mut payee, None)?;
    let tick = ticked(stage)?;
    stage.must(tick.seq == Seq(2), "send it by the next number")
}

/// The backend is asked to pay, and this is what is in its way.
fn cannot_pay(stage: &mut Stage<'_>, code: RefusalCode) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    stage.open_purse(payee.hello.session, 10_000)?;
    let purse = PurseId(0);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.must(stage.asked("pay").is_some(), "ask for a payment")?;
    stage.fail(0, "fatal", Object::new().int("code", code.code()))
}

fn no_purse_in_time(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    stage.wait_ms(29_999)?;
    stage.must(!stage.told("closed"), "wait for it")?;
    stage.wait_ms(1)?;
    said(stage, CloseCode::TimedOut)?;
    stage.must(stage.asked("release").is_some(), "give the purse up")?;
    stage.link_down()?;
    stage.answer(0, "released", Object::new().int("refunded", 0_u64))?;
    stage.must(stage.told("settled"), "be settled")
}
