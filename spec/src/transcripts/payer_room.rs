//! The payer in the payee's room.

use serde_json::Value;
use streampay_core::session::CloseCode;
use streampay_core::wire::{
    Chat, Close, Join, Joined, Message, Presence, RoomCode, RoomRefused, Tip,
};

use super::payer::{bound, first_tick, first_tick_of, rebind, settle, watch};
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "room",
        "Joins, is answered late, hears and is heard, leaves; what is old is not told again.",
        room,
    ),
    scene(
        "payer",
        "room-unasked",
        "Hears nothing of the room before it joins, nor what it did not ask for.",
        unasked,
    ),
    scene(
        "payer",
        "room-refused",
        "May not join, shows an invitation, may.",
        refused,
    ),
    scene(
        "payer",
        "room-before-bound",
        "Asked to join before there is a connection, it joins once it is bound.",
        before_bound,
    ),
    scene(
        "payer",
        "room-again",
        "Joins again on a new connection, where all numbers begin anew; not once it has left.",
        again,
    ),
    scene(
        "payer",
        "room-fee",
        "Pays the fee for joining in whole ticks, by consent, once it is asked for it, and joins.",
        fee,
    ),
    scene(
        "payer",
        "room-fee-too-high",
        "A fee that is more in whole ticks than the user consented to: nothing is paid.",
        fee_too_high,
    ),
    scene(
        "payer",
        "room-fee-twice",
        "The payee has the fee and wants it again: nothing more is paid.",
        fee_twice,
    ),
    scene(
        "payer",
        "room-no-fee",
        "The payee wants a fee that the terms do not have: nothing is paid.",
        no_fee,
    ),
    scene(
        "payer",
        "room-flood",
        "More texts than anybody reads: 128 are told, then 20 a second.",
        flood,
    ),
    scene(
        "payer",
        "removed",
        "The payee sends it out: the session ends, and what is left comes home.",
        |stage| sent_out(stage, CloseCode::Removed),
    ),
    scene(
        "payer",
        "banned",
        "The payee sends it out for good.",
        |stage| sent_out(stage, CloseCode::Banned),
    ),
];

/// What the user says to join for at most so much.
pub(crate) fn join(max_fee: u64) -> Object {
    Object::new().with("name", "ann").int("max_fee", max_fee)
}

fn joins(stage: &Stage<'_>) -> Option<Join> {
    stage.sent().into_iter().find_map(|sent| match sent {
        Message::Join(join) => Some(join),
        _ => None,
    })
}

pub(crate) fn joined() -> Message {
    let name = "ann#0123abcd".into();
    Message::Joined(Joined { name })
}

pub(crate) fn chat(id: u64) -> Message {
    Message::Chat(Chat {
        id,
        sender: Some("bob#89ef4567".into()),
        text: format!("number {id}"),
    })
}

fn presence(epoch: u64, viewers: u32) -> Message {
    Message::Presence(Presence { epoch, viewers })
}

fn unpaid(code: RoomCode) -> Message {
    Message::RoomRefused(RoomRefused { code })
}

fn heard(stage: &Stage<'_>) -> bool {
    stage.told("news")
}

fn hears(stage: &mut Stage<'_>, message: &Message) -> Played {
    stage.receive(message)?;
    stage.must(heard(stage), "tell it to the user")
}

fn hears_nothing(stage: &mut Stage<'_>, message: &Message) -> Played {
    stage.receive(message)?;
    stage.must(!heard(stage), "drop it")
}

/// From nothing to the room, with a tick acknowledged.
pub(crate) fn inside(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("join", join(0))?;
    hears(stage, &joined())?;
    Ok(payee)
}

fn room(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    stage.command("chat", "nobody hears me")?;
    stage.must(stage.sent().is_empty(), "say nothing before it is in")?;
    stage.command("join", join(0))?;
    let first = joins(stage);
    stage.must(first.is_some(), "ask to join")?;
    for ms in [2_000, 4_000, 8_000] {
        stage.wait_ms(ms)?;
        stage.must(joins(stage) == first, "ask again in the same words")?;
    }
    hears(stage, &joined())?;
    hears_nothing(stage, &joined())?;
    hears(stage, &presence(7, 3))?;
    hears_nothing(stage, &presence(6, 4))?;
    hears_nothing(stage, &presence(7, 4))?;
    hears(stage, &chat(1))?;
    hears_nothing(stage, &chat(1))?;
    hears(stage, &chat(3))?;
    hears_nothing(stage, &chat(2))?;
    let tip = Tip {
        id: 4,
        sender: "bob#89ef4567".into(),
        amount: msat(21_000),
    };
    hears(stage, &Message::Tip(tip))?;
    let from_host = Chat {
        id: 5,
        sender: None,
        text: "welcome".into(),
    };
    hears(stage, &Message::Chat(from_host))?;
    for id in 1..=2 {
        stage.command("chat", "hello")?;
        let sent = stage.sent();
        let right =
            matches!(&sent[..], [Message::Chat(chat)] if chat.id == id && chat.sender.is_none());
        stage.must(right, "say it, numbered")?;
    }
    stage.command("leave", Object::new())?;
    stage.must(stage.sent() == [Message::Leave], "say so")?;
    stage.command("leave", Object::new())?;
    stage.must(stage.sent().is_empty(), "say so once")?;
    hears_nothing(stage, &chat(6))?;
    hears_nothing(stage, &presence(8, 2))
}

fn unasked(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    hears_nothing(stage, &joined())?;
    hears_nothing(stage, &chat(1))?;
    hears_nothing(stage, &presence(1, 1))?;
    hears_nothing(stage, &unpaid(RoomCode::Banned))?;
    stage.command("join", join(0))?;
    hears_nothing(stage, &chat(2))?;
    hears_nothing(stage, &presence(2, 2))?;
    hears(stage, &joined())?;
    hears_nothing(stage, &unpaid(RoomCode::Full))?;
    hears(stage, &chat(3))
}

fn refused(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    stage.command("join", join(0))?;
    hears(stage, &unpaid(RoomCode::NotInvited))?;
    stage.wait_ms(2_000)?;
    stage.must(joins(stage).is_none(), "ask no more by itself")?;
    let invited = join(0).hex("invitation", &[0x5a; 16]);
    stage.command("join", invited)?;
    let shown = joins(stage).and_then(|join| join.invitation);
    stage.must(shown.as_deref() == Some(&[0x5a; 16]), "show the invitation")?;
    hears(stage, &joined())
}

fn before_bound(stage: &mut Stage<'_>) -> Played {
    stage.create_payer(&Cast::usual()?)?;
    stage.command("join", join(0))?;
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    let mut payee = super::puppet_payee(hello.clone())?;
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    stage.must(joins(stage).is_none(), "not join before it is bound")?;
    stage.receive(&Payee::ready(None))?;
    stage.must(joins(stage).is_some(), "join")
}

fn again(stage: &mut Stage<'_>) -> Played {
    let mut payee = inside(stage)?;
    hears(stage, &chat(9))?;
    hears(stage, &presence(9, 2))?;
    stage.command("chat", "hello")?;
    stage.link_down()?;
    stage.command("chat", "nobody hears me")?;
    stage.pass_ms(1_000);
    rebind(stage, &mut payee, Some(1))?;
    stage.must(joins(stage).is_some(), "join again")?;
    hears_nothing(stage, &chat(10))?;
    hears(stage, &joined())?;
    hears(stage, &chat(1))?;
    hears(stage, &presence(1, 1))?;
    stage.command("chat", "back again")?;
    let sent = stage.sent();
    let first = matches!(&sent[..], [Message::Chat(chat)] if chat.id == 1);
    stage.must(first, "count anew")?;
    stage.link_down()?;
    stage.command("leave", Object::new())?;
    stage.pass_ms(1_000);
    rebind(stage, &mut payee, Some(1))?;
    stage.must(joins(stage).is_none(), "not join once it has left")
}

/// From nothing to a tick acknowledged, under terms with a fee, with the fee asked for.
fn asked_for_fee(stage: &mut Stage<'_>, fee: u64, max_fee: u64) -> Played<Payee> {
    let mut cast = Cast::usual()?;
    cast.terms.join_fee = msat(fee);
    let payee = first_tick_of(stage, &cast, 20_000)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("join", join(max_fee))?;
    stage.must(stage.asked("pay").is_none(), "pay nothing unasked")?;
    stage.receive(&unpaid(RoomCode::Unpaid))?;
    Ok(payee)
}

fn fee(stage: &mut Stage<'_>) -> Played {
    let payee = asked_for_fee(stage, 3_000, 4_000)?;
    let session = payee.hello.session;
    stage.make_payment(session)?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.must(joins(stage).is_none(), "pay all of it first")?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack_with_tips(3, 2))?;
    stage.must(joins(stage).is_some(), "join again")?;
    stage.must(stage.asked("pay").is_none(), "pay nothing more")?;
    hears(stage, &joined())?;
    // Media is paid for as ever: the first tick is used up.
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    let tips = super::payer::ticked(stage)?.tips;
    stage.must(tips.is_none(), "pay for the media")
}

fn stays_out(stage: &mut Stage<'_>) -> Played {
    stage.must(heard(stage), "tell the user")?;
    stage.must(stage.asked("pay").is_none(), "pay nothing")?;
    stage.wait_ms(2_000)?;
    stage.must(joins(stage).is_none(), "stay outside")
}

fn fee_too_high(stage: &mut Stage<'_>) -> Played {
    asked_for_fee(stage, 3_000, 3_999)?;
    stays_out(stage)
}

fn fee_twice(stage: &mut Stage<'_>) -> Played {
    let payee = asked_for_fee(stage, 2_000, 4_000)?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack_with_tips(2, 1))?;
    stage.must(joins(stage).is_some(), "join again")?;
    stage.receive(&unpaid(RoomCode::Unpaid))?;
    stays_out(stage)
}

fn no_fee(stage: &mut Stage<'_>) -> Played {
    asked_for_fee(stage, 0, 4_000)?;
    stays_out(stage)
}

fn flood(stage: &mut Stage<'_>) -> Played {
    inside(stage)?;
    for id in 1..=128 {
        hears(stage, &chat(id))?;
    }
    hears_nothing(stage, &chat(129))?;
    stage.pass_ms(50);
    hears(stage, &chat(130))?;
    hears_nothing(stage, &chat(131))
}

fn sent_out(stage: &mut Stage<'_>, code: CloseCode) -> Played {
    let payee = inside(stage)?;
    stage.receive(&Message::Close(Close { code }))?;
    let told = stage.outputs.iter().find_map(|output| {
        let code = output.pointer("/event/closed/code")?;
        Some(code.clone())
    });
    let right = told == Some(Value::String(code.code().to_string()));
    stage.must(right, "tell the user why")?;
    let evidence = Some(payee.sign(payee.receipt(1, 0)));
    let closed = streampay_core::wire::Closed {
        code,
        evidence,
        proof: None,
    };
    stage.receive(&Message::Closed(closed))?;
    settle(stage, 8_000)
}
