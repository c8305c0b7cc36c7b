//! Peers that lie about tips and fees, and talk too much.

use streampay_core::wire::{Message, RoomCode, RoomRefused, Tip};

use super::Script;
use crate::peer::{Played, Stage};
use crate::people::msat;
use crate::transcripts::host::{ask, bound as watches, joining, open_room, told};
use crate::transcripts::payee::{credit, opened_by};
use crate::transcripts::payee_room::{chat as said, join, with_room};
use crate::transcripts::payer::{first_tick_of, ticked};
use crate::transcripts::payer_room::{chat, inside, join as wants_in};

pub(super) const SCRIPTS: &[Script] = &[
    Script::new("payee says far more than anybody reads", |stage| {
        inside(stage)?;
        let mut heard = 0;
        for id in 1..=400 {
            stage.receive(&chat(id))?;
            heard += usize::from(stage.told("news"));
        }
        stage.must(heard <= 128, "tell 128 at once at most")
    }),
    Script::new("payee tells of tips without end", |stage| {
        inside(stage)?;
        let mut heard = 0;
        for id in 1..=400 {
            let sender = "bob#89ef4567".into();
            let amount = msat(1_000);
            stage.receive(&Message::Tip(Tip { id, sender, amount }))?;
            heard += usize::from(stage.told("news"));
        }
        stage.must(heard <= 128, "tell 128 at once at most")
    }),
    Script::new("payee wants the fee again and again", wants_fee),
    Script::new("payee acknowledges a tip as two", |stage| {
        let payee = inside(stage)?;
        stage.command("tip", "4000")?;
        stage.make_payment(payee.hello.session)?;
        stage.receive(&payee.ack_with_tips(2, 2))?;
        stage.must(stage.told("misbehaved"), "see that it does not fit")
    }),
    Script::new("payer tips without sense", |stage| {
        let payer = opened_by(stage, &with_room()?)?;
        credit(stage, payer.tick(0, 1))?;
        for (seq, tips) in (2..).zip([2, 7, 1_000_000_000_000]) {
            if stage.is_over() {
                return Ok(());
            }
            let mut tip = payer.tip(0, seq, tips);
            // What was refused is not in the sum.
            tip.cumulative = msat(4_000);
            stage.receive(&Message::Tick(tip))?;
            stage.must(stage.asked("receive").is_none(), "not take it")?;
        }
        Ok(())
    }),
    Script::new("payer tips more than it says", |stage| {
        let payer = opened_by(stage, &with_room()?)?;
        credit(stage, payer.tick(0, 1))?;
        let mut tip = payer.tip(0, 2, 2);
        tip.cumulative = msat(4_000);
        stage.receive(&Message::Tick(tip))?;
        stage.must(stage.asked("receive").is_none(), "not take it")
    }),
    Script::new("payer talks and joins without end", |stage| {
        let payer = opened_by(stage, &with_room()?)?;
        for id in 1..=300 {
            stage.receive(&said(id, None))?;
            stage.receive(&join(None))?;
            stage.receive(&Message::Leave)?;
        }
        credit(stage, payer.tick(0, 1))
    }),
    Script::new("one identity joins and talks without end", |stage| {
        open_room(stage, 1)?;
        watches(stage, 2)?;
        let (mut answered, mut heard) = (0, 0);
        for _ in 0..100 {
            ask(stage, 2, "join", joining("#", None, 0))?;
            answered += usize::from(told(stage, 2, "refused").is_some());
            ask(stage, 1, "chat", "x")?;
            ask(stage, 2, "chat", "not in")?;
            heard += usize::from(told(stage, 2, "chat").is_some());
        }
        stage.must(answered <= 5, "answer five attempts at once")?;
        stage.must(heard == 0, "tell who did not join nothing")
    }),
];

/// Each time it is paid it wants it anew: it gets it once, and never more than was consented to.
fn wants_fee(stage: &mut Stage<'_>) -> Played {
    let mut cast = crate::peer::Cast::usual()?;
    cast.terms.join_fee = msat(2_000);
    let payee = first_tick_of(stage, &cast, 20_000)?;
    stage.receive(&payee.ack(1, 0))?;
    let unpaid = Message::RoomRefused(RoomRefused {
        code: RoomCode::Unpaid,
    });
    stage.command("join", wants_in(20_000))?;
    stage.receive(&unpaid)?;
    stage.make_payment(payee.hello.session)?;
    stage.must(ticked(stage).is_ok(), "pay the fee")?;
    stage.receive(&unpaid)?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    for _ in 0..10 {
        for message in [&unpaid, &unpaid] {
            stage.receive(message)?;
            stage.must(stage.asked("pay").is_none(), "pay it once")?;
        }
        stage.command("join", wants_in(20_000))?;
        stage.must(stage.asked("pay").is_none(), "pay it once")?;
    }
    Ok(())
}
