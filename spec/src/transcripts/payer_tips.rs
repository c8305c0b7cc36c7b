//! The payer's tips: ticks that buy no media.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::units::Seq;
use streampay_core::wire::{Message, Nack, Tick};

use super::payer::{bound, first_tick, nack, rebind, rebind_with, ticked, watch};
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "tip",
        "Gives 4 sat in two ticks, one after the other; they buy no media.",
        tip,
    ),
    scene(
        "payer",
        "tip-after-media",
        "A tip is wanted while a tick for media is due: the media is paid first.",
        after_media,
    ),
    scene(
        "payer",
        "tip-refused",
        "A tip without a connection, below a tick, or beyond the budget is not given.",
        refused,
    ),
    scene(
        "payer",
        "tip-kept",
        "What is less than a tick is kept until a tick of it is full.",
        kept,
    ),
    scene(
        "payer",
        "tip-crash-before-durable",
        "The process dies before a tip's payment is durable; what is wanted is, and is given once.",
        |stage| crash(stage, 0),
    ),
    scene(
        "payer",
        "tip-crash-before-sending",
        "The process dies with a tip's payment durable and not sent; the same bytes go out.",
        |stage| crash(stage, 1),
    ),
    scene(
        "payer",
        "tip-crash-unwanted",
        "The process dies before it is durable that a tip is wanted: nothing is given.",
        unwanted,
    ),
    scene(
        "payer",
        "tip-ack-lost",
        "The connection goes with a tip under way; the receipt in ready brings it.",
        ack_lost,
    ),
    scene(
        "payer",
        "tip-nacked",
        "A tip that is refused and comes back is given anew.",
        nacked,
    ),
    scene(
        "payer",
        "tip-written-off",
        "A tip that is refused and spent and written off stays a tip: the media costs no more.",
        written_off,
    ),
    scene(
        "payer",
        "tip-not-receipted",
        "A receipt that counts a tip as media is misbehaviour.",
        |stage| miscounted(stage, true),
    ),
    scene(
        "payer",
        "tip-never-given",
        "A receipt that counts media as a tip is misbehaviour.",
        |stage| miscounted(stage, false),
    ),
];

/// From nothing to a tick acknowledged.
fn paid_for(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    Ok(payee)
}

/// The payment that was asked for is made, and is a tip with which all come to so many ticks.
fn given(stage: &mut Stage<'_>, payee: &Payee, tips: u64) -> Played<Tick> {
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    let said = tick.tips == Some(msat(tips * 2_000));
    stage.must(said, "say what all tips come to")?;
    Ok(tick)
}

fn tip(stage: &mut Stage<'_>) -> Played {
    let payee = paid_for(stage)?;
    watch(stage, 0, 3_000)?;
    stage.command("tip", "4000")?;
    given(stage, &payee, 1)?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.must(stage.told("tip_paid"), "tell the user")?;
    given(stage, &payee, 2)?;
    stage.receive(&payee.ack_with_tips(3, 2))?;
    stage.must(stage.asked("pay").is_none(), "give no more")?;
    watch(stage, 3_000, 9_800)?;
    stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    watch(stage, 9_800, 9_950)?;
    stage.make_payment(payee.hello.session)?;
    stage.must(ticked(stage)?.tips.is_none(), "pay for the media")
}

fn after_media(stage: &mut Stage<'_>) -> Played {
    let payee = paid_for(stage)?;
    watch(stage, 0, 5_000)?;
    // While nothing flows neither is paid.
    stage.command("pause", Object::new())?;
    stage.command("tip", "2000")?;
    stage.must(stage.asked("pay").is_none(), "give nothing while paused")?;
    stage.command("resume", Object::new())?;
    given(stage, &payee, 1)?;
    watch(stage, 5_000, 9_950)?;
    stage.command("tip", "2000")?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.make_payment(payee.hello.session)?;
    stage.must(ticked(stage)?.tips.is_none(), "pay for the media first")?;
    stage.receive(&payee.ack_with_tips(3, 1))?;
    given(stage, &payee, 2).map(drop)
}

fn is_refused(stage: &mut Stage<'_>, amount: &str) -> Played {
    stage.command("tip", amount)?;
    stage.must(stage.told("tip_refused"), "say that it is not given")?;
    stage.must(stage.asked("pay").is_none(), "give nothing")
}

fn refused(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    stage.link_down()?;
    is_refused(stage, "2000")?;
    stage.link_up()?;
    is_refused(stage, "2000")
}

fn kept(stage: &mut Stage<'_>) -> Played {
    let payee = paid_for(stage)?;
    is_refused(stage, "1999")?;
    is_refused(stage, "98001")?;
    stage.command("tip", "3000")?;
    given(stage, &payee, 1)?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.must(stage.asked("pay").is_none(), "keep the rest")?;
    stage.command("tip", "3000")?;
    given(stage, &payee, 2)?;
    stage.receive(&payee.ack_with_tips(3, 2))?;
    given(stage, &payee, 3)?;
    stage.receive(&payee.ack_with_tips(4, 3))?;
    stage.must(stage.asked("pay").is_none(), "give no more")
}

fn crash(stage: &mut Stage<'_>, take: u64) -> Played {
    let mut payee = paid_for(stage)?;
    let session = payee.hello.session;
    stage.command("tip", "2000")?;
    let payment = stage.payment(session)?;
    let backend = Object::new()
        .int("purse", 0_u32)
        .with("outcome", Object::new().with("paid", payment));
    stage.step_taking(Object::new().with("backend", backend), Some(take))?;
    stage.restart()?;
    let asked = stage.asked("pay").is_some();
    if asked {
        stage.make_payment(session)?;
    }
    rebind(stage, &mut payee, Some(1))?;
    if !asked && ticked(stage).is_err() {
        stage.make_payment(session)?;
    }
    let said = ticked(stage)?.tips == Some(msat(2_000));
    stage.must(said, "give it")?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.must(stage.asked("pay").is_none(), "give it once")
}

fn unwanted(stage: &mut Stage<'_>) -> Played {
    let mut payee = paid_for(stage)?;
    let command = Object::new().with("tip", "2000");
    stage.step_taking(Object::new().with("command", command), Some(0))?;
    stage.restart()?;
    rebind(stage, &mut payee, Some(1))?;
    stage.must(stage.asked("pay").is_none(), "give nothing")
}

fn ack_lost(stage: &mut Stage<'_>) -> Played {
    let mut payee = paid_for(stage)?;
    stage.command("tip", "2000")?;
    given(stage, &payee, 1)?;
    stage.link_down()?;
    stage.pass_ms(1_000);
    let receipt = payee.receipt_with_tips(2, 1);
    rebind_with(stage, &mut payee, receipt)?;
    stage.must(stage.told("tip_paid"), "count what the receipt says")?;
    stage.must(stage.asked("pay").is_none(), "give it once")
}

fn refusal(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = paid_for(stage)?;
    stage.command("tip", "2000")?;
    given(stage, &payee, 1)?;
    let Message::Nack(first) = nack(RefusalCode::BadProof, Consumed::Unknown) else {
        return Err("no nack".into());
    };
    let seq = Seq(2);
    stage.receive(&Message::Nack(Nack { seq, ..first }))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    Ok(payee)
}

fn nacked(stage: &mut Stage<'_>) -> Played {
    let payee = refusal(stage)?;
    stage.answer(0, "reclaimed", Object::new())?;
    let tick = given(stage, &payee, 1)?;
    stage.must(tick.seq == Seq(3), "never use a number twice")
}

fn written_off(stage: &mut Stage<'_>) -> Played {
    let payee = refusal(stage)?;
    stage.answer(0, "spent", Object::new())?;
    stage.command("write_off", Object::new())?;
    stage.must(stage.asked("pay").is_none(), "give it once")?;
    watch(stage, 0, 9_800)?;
    stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    watch(stage, 9_800, 9_950)?;
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    stage.must(
        tick.tips.is_none() && tick.seq == Seq(3),
        "pay for the media",
    )
}

fn miscounted(stage: &mut Stage<'_>, tip: bool) -> Played {
    let payee = paid_for(stage)?;
    if tip {
        stage.command("tip", "2000")?;
    } else {
        watch(stage, 0, 9_950)?;
    }
    stage.make_payment(payee.hello.session)?;
    let tips = u64::from(!tip);
    stage.receive(&payee.ack_with_tips(2, tips))?;
    stage.must(stage.told("misbehaved"), "see that it does not fit")
}
