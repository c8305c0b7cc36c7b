//! Ends with two purses, of which one holds up or fails: the other comes home all the same.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::PurseId;
use streampay_core::wire::{Closed, Message, PurseOk};

use super::payee::{acked, bound as payee_bound, capacity, credit};
use super::payer::first_tick_of;
use super::purses::two_methods;
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Payer, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "settles-all-but-checked",
        "A payment is still checked 5 s after the end: the other purse is settled, that one when it is answered.",
        |stage| settles(stage, false),
    ),
    scene(
        "payee",
        "settles-all-but-checked-after-restart",
        "The process dies while a payment is checked: the other purse is settled without waiting for it.",
        |stage| settles(stage, true),
    ),
    scene(
        "payer",
        "one-purse-fails",
        "A purse cannot come home: the other does, and that one is asked again after a restart.",
        one_fails,
    ),
    scene(
        "payer",
        "purses-stay-out",
        "Five rounds in vain: the user is told of the purse that is out still, and not again of the one that failed.",
        stay_out,
    ),
];

/// A purse with a tick that was credited, and one of another method with a tick that its mint is asked about.
pub(crate) fn one_is_checked(stage: &mut Stage<'_>) -> Played<Payer> {
    let payer = payee_bound(stage, &two_methods()?)?;
    for (id, method) in [(0_u32, 0_u8), (1, 1)] {
        let mut purse = payer.purse(id);
        purse.method = method;
        stage.receive(&Message::Purse(purse))?;
        stage.answer(id, "accepted", capacity())?;
    }
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Tick(payer.tick(1, 1)))?;
    stage.must(stage.asked("receive").is_some(), "have it checked")?;
    stage.fail(1, "transient", Object::new())?;
    Ok(payer)
}

/// The purses that its backend is asked to settle or to release in the last step.
pub(crate) fn asked_of(stage: &Stage<'_>, name: &str) -> Vec<u64> {
    let backends = stage
        .outputs
        .iter()
        .filter_map(|output| output.get("backend"));
    let asked = backends.filter(|backend| backend.get(name).is_some());
    asked
        .filter_map(|backend| crate::json::Fields::new(backend).int("purse").ok())
        .collect()
}

fn settled_of(msat: u64) -> Object {
    Object::new().int("settled", msat)
}

fn settles(stage: &mut Stage<'_>, restarts: bool) -> Played {
    one_is_checked(stage)?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    stage.must(stage.asked("settle").is_none(), "wait for the payment")?;
    if restarts {
        stage.restart()?;
    } else {
        stage.wait_ms(5_000)?;
        let closed = |sent: &Message| matches!(sent, Message::Closed(_));
        stage.must(stage.sent().iter().any(closed), "say that it is closed")?;
    }
    stage.must(asked_of(stage, "settle") == [0], "settle the other")?;
    stage.answer(0, "settled", settled_of(2_000))?;
    stage.must(!stage.told("settled"), "wait for the payment still")?;
    stage.answer(1, "credited", Object::new())?;
    stage.must(!acked(stage), "acknowledge nothing any more")?;
    stage.must(asked_of(stage, "settle") == [1], "settle it then")?;
    stage.answer(1, "settled", settled_of(2_000))?;
    stage.must(stage.told("settled"), "be settled")
}

/// Two purses are told to come home.
fn both_come_home(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &two_methods()?, 4_000)?;
    stage.receive(&payee.ack(1, 0))?;
    let purse = PurseId(1);
    stage.opened(purse.0, payee.hello.session, 10_000)?;
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    let closed = Closed {
        code: CloseCode::Done,
        evidence: Some(payee.sign(payee.receipt(1, 0))),
        proof: None,
    };
    stage.receive(&Message::Closed(closed))?;
    stage.must(asked_of(stage, "release") == [0, 1], "release both")
}

/// The purses that its user was told stay out, in the last step.
fn unsettled(stage: &Stage<'_>) -> Vec<u64> {
    let events = stage.outputs.iter();
    let told = events.filter_map(|output| output.pointer("/event/unsettled"));
    told.filter_map(|told| crate::json::Fields::new(told).int("purse").ok())
        .collect()
}

fn fails(stage: &mut Stage<'_>, purse: u32) -> Played {
    let code = RefusalCode::Other.code();
    stage.fail(purse, "fatal", Object::new().int("code", code))
}

fn one_fails(stage: &mut Stage<'_>) -> Played {
    both_come_home(stage)?;
    fails(stage, 0)?;
    stage.must(unsettled(stage) == [0], "tell its user")?;
    stage.must(!stage.is_over(), "wait for the other")?;
    stage.answer(1, "released", Object::new().int("refunded", 10_000_u64))?;
    stage.must(!stage.told("settled"), "not be settled")?;
    stage.must(stage.is_over(), "end")?;
    stage.restart()?;
    stage.must(asked_of(stage, "release") == [0], "ask again for that one")?;
    stage.answer(0, "released", Object::new().int("refunded", 2_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

fn stay_out(stage: &mut Stage<'_>) -> Played {
    both_come_home(stage)?;
    stage.fail(0, "transient", Object::new())?;
    stage.fail(1, "transient", Object::new())?;
    for ms in [2_000, 4_000, 8_000, 8_000] {
        stage.wait_ms(ms)?;
        stage.must(asked_of(stage, "release") == [0, 1], "ask both again")?;
    }
    fails(stage, 0)?;
    stage.must(unsettled(stage) == [0], "tell its user of the one")?;
    stage.wait_ms(8_000)?;
    stage.must(unsettled(stage) == [1], "tell its user of the other")?;
    stage.must(stage.is_over(), "end")
}
