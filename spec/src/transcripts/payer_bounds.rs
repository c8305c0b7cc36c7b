//! What a payer makes of lost time, of drift, of numbers that no payment had, and of refusals on one
//! connection after the other.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::Seq;
use streampay_core::wire::Message;

use super::payer::{
    first_tick, first_tick_of, reading, rebind, rebind_with, settle, ticked, watch,
};
use super::payer_outstanding::nack_of;
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Cast, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "lost-time",
        "A packet now and then, then half a minute at once: 10 s beyond what counted are media that came late.",
        lost_time,
    ),
    scene(
        "payer",
        "drift-by-one-consent",
        "The payee reads a tick and nearly all that is paid more: one consent books a tick and a lease.",
        one_consent,
    ),
    scene(
        "payer",
        "receipt-newer-than-the-backup",
        "A payer that came back from a backup takes a receipt by the last number that its purse can have had.",
        |stage| newer_receipt(stage, LAST, true),
    ),
    scene(
        "payer",
        "receipt-by-no-number",
        "The same by the next number, which no payment can have had: it ends, and blames nobody.",
        |stage| newer_receipt(stage, LAST + 1, false),
    ),
    scene(
        "payer",
        "receipt-by-the-last-number-there-is",
        "After this one no payment could follow: it is not taken.",
        |stage| newer_receipt(stage, u64::MAX, false),
    ),
    scene(
        "payer",
        "refusals-over-connections",
        "Two payments are refused, the line drops, and a third is: taken back, and the session ends.",
        refusals,
    ),
];

/// One payment was made and four are left in the purse: each may have been refused, and shown again, twice.
const LAST: u64 = 1 + 3 * 4;

fn lost_time(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    for own in [20, 40, 60] {
        stage.pass_ms(25_000);
        stage.usage(own)?;
    }
    stage.pass_ms(10);
    stage.usage(30_060)?;
    let counts = stage.state.pointer("/reading").cloned().unwrap_or_default();
    let counts = crate::json::Fields::new(&counts).int("media_ms");
    let counts: u64 = counts.map_err(|bad| bad.to_string())?;
    stage.must((10_000..10_100).contains(&counts), "count what may be late")
}

fn one_consent(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.receive(&reading(20_900))?;
    stage.must(stage.told("paused"), "ask its user")?;
    stage.command("resume", Object::new())?;
    // 12 s are used, 13 s by the payee's word as far as it is tolerated.
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 20_900))?;
    stage.must(stage.asked("pay").is_none(), "pay no more")?;
    watch(stage, 1_000, 7_800)?;
    stage.must(stage.asked("pay").is_none(), "pay no more yet")?;
    watch(stage, 7_800, 8_600)?;
    stage.must(stage.asked("pay").is_some(), "pay when it is used")
}

pub(crate) fn newer_receipt(stage: &mut Stage<'_>, seq: u64, fits: bool) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.restart()?;
    let mut receipt = payee.receipt(2, 0);
    receipt.seq = Seq(seq);
    rebind_with(stage, &mut payee, receipt)?;
    stage.must(!stage.told("misbehaved"), "blame nobody")?;
    stage.must(stage.told("tick_paid") == fits, "take what fits alone")?;
    if fits {
        watch(stage, 0, 19_950)?;
        stage.make_payment(payee.hello.session)?;
        let next = ticked(stage)?.seq == Seq(seq + 1);
        return stage.must(next, "pay by the next number");
    }
    let code = CloseCode::OutOfDate;
    let closes = |sent: &Message| matches!(sent, Message::Close(close) if close.code == code);
    stage.must(stage.sent().iter().any(closes), "close")?;
    stage.wait_ms(6_000)?;
    settle(stage, 8_000)
}

/// The payee refuses this tick, and the backend takes it back.
pub(crate) fn refused(stage: &mut Stage<'_>, seq: u64) -> Played {
    stage.receive(&nack_of(seq, RefusalCode::Malformed))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    stage.answer(0, "reclaimed", Object::new())
}

fn refusals(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick_of(stage, &Cast::usual()?, 20_000)?;
    let session = payee.hello.session;
    for seq in [1, 2] {
        refused(stage, seq)?;
        stage.make_payment(session)?;
        stage.must(ticked(stage)?.seq == Seq(seq + 1), "pay by the next number")?;
    }
    stage.link_down()?;
    rebind(stage, &mut payee, None)?;
    stage.must(ticked(stage)?.seq == Seq(3), "send the third again")?;
    refused(stage, 3)?;
    stage.must(stage.asked("pay").is_none(), "pay no fourth")?;
    let code = CloseCode::BackendFailed;
    let closes = |sent: &Message| matches!(sent, Message::Close(close) if close.code == code);
    stage.must(stage.sent().iter().any(closes), "close")
}
