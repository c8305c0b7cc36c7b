//! The payer, where a refused payment is outstanding: it pays the same sum of the same purse again, by
//! the next number, or nothing.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::session::CloseCode;
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{Ack, Message, Nack};

use super::payer::{first_tick, rebind, ticked};
use super::{Scene, scene};
use crate::json::{Fields, Object};
use crate::peer::{Payee, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "outstanding-again",
        "A refused payment is outstanding: the same sum is paid by the next number, and the pause ends with it.",
        again,
    ),
    scene(
        "payer",
        "outstanding-three-times",
        "The third refusal in a row ends the session, though each payment is outstanding.",
        three_times,
    ),
    scene(
        "payer",
        "outstanding-unknown-purse",
        "The payee does not know the purse: what is outstanding there is lost, and the user is asked.",
        unknown_purse,
    ),
    scene(
        "payer",
        "outstanding-not-shown",
        "What is outstanding cannot be paid again: it is lost, and its second number was never used.",
        not_shown,
    ),
    scene(
        "payer",
        "outstanding-away",
        "The backend is away while it is to pay again: it is asked again, and nothing else is paid.",
        away,
    ),
    scene(
        "payer",
        "outstanding-restart",
        "The process dies before it has paid again: it stays paused, and pays by the same number.",
        restart,
    ),
];

/// The payee refuses this tick of the first purse.
pub(crate) fn nack_of(seq: u64, code: RefusalCode) -> Message {
    Message::Nack(Nack {
        purse: PurseId(0),
        seq: Seq(seq),
        code,
        consumed: Consumed::No,
    })
}

/// It refuses it, and the payer's backend cannot take it back: the payer pays the first step again.
pub(crate) fn outstanding(stage: &mut Stage<'_>, seq: u64) -> Played {
    stage.receive(&nack_of(seq, RefusalCode::Malformed))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    stage.must(stage.asked("pay").is_none(), "pay nothing yet")?;
    stage.answer(0, "outstanding", Object::new())
}

/// What the backend is asked to pay, is the first step again, by this number.
pub(crate) fn pays_again(stage: &Stage<'_>, seq: u64) -> Played {
    let fields = |pay| {
        let fields = Fields::new(pay);
        Some((fields.int("seq").ok()?, fields.int("cumulative").ok()?))
    };
    let asked: Option<(u64, u64)> = stage.asked("pay").and_then(fields);
    let same = stage.asked_purse("pay") == 0 && asked == Some((seq, 2_000));
    stage.must(
        same,
        "pay the same sum of the same purse by the next number",
    )
}

fn refused(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    outstanding(stage, 1)?;
    pays_again(stage, 2)?;
    Ok(payee)
}

fn acknowledged(stage: &mut Stage<'_>, payee: &Payee) -> Played {
    let tick = ticked(stage)?;
    let right = tick.seq == Seq(2) && tick.cumulative == msat(2_000);
    stage.must(right, "send it by the next number")?;
    let mut receipt = payee.receipt(1, 0);
    receipt.seq = Seq(2);
    let (evidence, grant) = (payee.sign(receipt), None);
    stage.receive(&Message::Ack(Ack { evidence, grant }))?;
    stage.must(stage.told("tick_paid"), "count it")
}

fn again(stage: &mut Stage<'_>) -> Played {
    let payee = refused(stage)?;
    stage.make_payment(payee.hello.session)?;
    let resumes = |sent: &Message| matches!(sent, Message::Resume(_));
    stage.must(stage.sent().iter().any(resumes), "go on with it")?;
    acknowledged(stage, &payee)
}

fn three_times(stage: &mut Stage<'_>) -> Played {
    let payee = refused(stage)?;
    stage.make_payment(payee.hello.session)?;
    outstanding(stage, 2)?;
    pays_again(stage, 3)?;
    stage.make_payment(payee.hello.session)?;
    outstanding(stage, 3)?;
    stage.must(stage.asked("pay").is_none(), "pay it no fourth time")?;
    let code = CloseCode::BackendFailed;
    let closes = |sent: &Message| matches!(sent, Message::Close(close) if close.code == code);
    stage.must(stage.sent().iter().any(closes), "close")
}

fn unknown_purse(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    stage.receive(&nack_of(1, RefusalCode::OutOfOrder))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    stage.answer(0, "outstanding", Object::new())?;
    lost(stage)
}

fn not_shown(stage: &mut Stage<'_>) -> Played {
    refused(stage)?;
    let code = RefusalCode::PurseEmpty.code();
    stage.fail(0, "fatal", Object::new().int("code", code))?;
    lost(stage)
}

/// The user is told, and nothing is paid before it has written the payment off; then another purse pays.
fn lost(stage: &mut Stage<'_>) -> Played {
    stage.must(stage.told("tick_lost"), "say what is lost")?;
    stage.must(stage.asked("pay").is_none(), "pay nothing in its place")?;
    stage.wait_ms(2_000)?;
    stage.must(stage.asked("pay").is_none(), "stay paused")?;
    stage.command("write_off", Object::new())?;
    stage.must(stage.asked("pay").is_none(), "pay nothing more from it")
}

fn away(stage: &mut Stage<'_>) -> Played {
    let payee = refused(stage)?;
    stage.fail(0, "transient", Object::new())?;
    stage.wait_ms(2_000)?;
    pays_again(stage, 2)?;
    stage.make_payment(payee.hello.session)?;
    acknowledged(stage, &payee)
}

fn restart(stage: &mut Stage<'_>) -> Played {
    let mut payee = refused(stage)?;
    stage.restart()?;
    pays_again(stage, 2)?;
    let paid = stage.payment(payee.hello.session)?;
    rebind(stage, &mut payee, None)?;
    let pauses = |sent: &Message| matches!(sent, Message::Pause(_));
    stage.must(stage.sent().iter().any(pauses), "be paused still")?;
    stage.answer(0, "paid", paid)?;
    acknowledged(stage, &payee)
}
