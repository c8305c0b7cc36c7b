//! How long a bound payee waits for a payer that pays nothing, or may be gone.

use streampay_core::meter::PauseReason;
use streampay_core::wire::{Message, Pause, Resume};

use super::payee::{bound, credit, opened};
use super::{Scene, scene};
use crate::peer::{Cast, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "no-payment-while-checked",
        "A payer that has shown a purse may wait three times as long for the backend's word.",
        no_payment_while_checked,
    ),
    scene(
        "payee",
        "source-dead",
        "Its own source is dead, credit is left, and nothing comes of the payer: it ends once the time to \
         resume is over, for the payer may be gone.",
        source_dead,
    ),
    scene(
        "payee",
        "pause-near-the-end",
        "Near the end of the credit the payer pauses, for longer than it may stay without paying: that time is \
         left out, and counts on when it flows.",
        pause_near_the_end,
    ),
];

fn no_payment_while_checked(stage: &mut Stage<'_>) -> Played {
    let payer = bound(stage, &Cast::usual()?)?;
    stage.receive(&Message::Purse(payer.purse(0)))?;
    stage.wait_ms(20_000)?;
    stage.must(!stage.told("closed"), "wait for its own backend")?;
    stage.wait_ms(39_999)?;
    stage.must(!stage.told("closed"), "wait three times as long")?;
    stage.wait_ms(1)?;
    stage.must(stage.told("closed"), "send the payer away")
}

fn source_dead(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.pass_ms(500);
    stage.usage(500)?;
    stage.wait_ms(60_000)?;
    stage.must(!stage.told("closed"), "bear with its own source")?;
    stage.wait_ms(86_339_999)?;
    stage.must(!stage.told("closed"), "wait as for one that is away")?;
    stage.wait_ms(1)?;
    stage.must(stage.told("closed"), "end the session")?;
    stage.must(stage.asked("settle").is_some(), "settle")
}

fn pause_near_the_end(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.pass_ms(9_910);
    stage.usage(9_910)?;
    stage.wait_ms(5_000)?;
    let reason = PauseReason::ByPayer;
    stage.receive(&Message::Pause(Pause { epoch: 1, reason }))?;
    stage.wait_ms(600_000)?;
    stage.receive(&Message::Resume(Resume { epoch: 2 }))?;
    stage.must(stage.told("resumed"), "go on")?;
    stage.wait_ms(14_999)?;
    stage.must(!stage.told("closed"), "wait for the rest of its time")?;
    stage.wait_ms(1)?;
    stage.must(stage.told("closed"), "send the payer away")
}
