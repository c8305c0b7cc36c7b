//! The payee with a room, and what it is given besides the price of the media.

use serde_json::Value;
use streampay_core::session::{CloseCode, Invitation};
use streampay_core::wire::{Chat, Closed, Join, Message, Tick};

use super::payee::{acked, bound, connect, credit, opened_by};
use super::{Scene, scene};
use crate::json::{Object, as_int, hex};
use crate::peer::{Cast, Payer, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "no-room",
        "A payer wants to join where there is no room.",
        no_room,
    ),
    scene(
        "payee",
        "room",
        "A payer joins, says something, hears the others, leaves; the room is asked each time.",
        room,
    ),
    scene(
        "payee",
        "room-before-bound",
        "What is said to the room before the connection is bound, or while closing, is ignored.",
        before_bound,
    ),
    scene(
        "payee",
        "room-invitation",
        "A payer shows an invitation: the room sees its hash alone.",
        invitation,
    ),
    scene(
        "payee",
        "room-again",
        "On a new connection all numbers begin anew.",
        again,
    ),
    scene(
        "payee",
        "room-fee",
        "A payer pays the fee for joining in ticks; what is beyond it is a tip.",
        fee,
    ),
    scene(
        "payee",
        "removed",
        "The room sends the payer out: the session ends and is settled.",
        |stage| sent_out(stage, CloseCode::Removed),
    ),
    scene(
        "payee",
        "banned",
        "The room sends the payer out for good, as soon as it is bound.",
        |stage| sent_out(stage, CloseCode::Banned),
    ),
    scene(
        "payee",
        "tip",
        "Two ticks are tips: credited, receipted, told, and good for no media.",
        tip,
    ),
    scene(
        "payee",
        "tip-wrong-sum",
        "A tip that does not say what all tips come to with it is refused.",
        wrong_sum,
    ),
    scene(
        "payee",
        "tip-repeated",
        "A tip comes again, before and after it is acknowledged, and with another sum.",
        repeated,
    ),
    scene(
        "payee",
        "tip-crash-before-ack",
        "The process dies with a tip durable and not acknowledged; its receipt has it.",
        |stage| crash(stage, 1),
    ),
    scene(
        "payee",
        "tip-crash-before-durable",
        "The process dies before a tip is durable; it comes again and is credited once.",
        |stage| crash(stage, 0),
    ),
];

pub(crate) fn with_room() -> Played<Cast> {
    let mut cast = Cast::usual()?;
    cast.room = true;
    Ok(cast)
}

pub(crate) fn join(invitation: Option<&'static [u8]>) -> Message {
    Message::Join(Join {
        name: "ann".into(),
        invitation: invitation.map(Into::into),
    })
}

pub(crate) fn chat(id: u64, sender: Option<&str>) -> Message {
    Message::Chat(Chat {
        id,
        sender: sender.map(Into::into),
        text: format!("number {id}"),
    })
}

/// What the room is asked in the last step.
fn asked_room<'a>(stage: &'a Stage<'_>, what: &str) -> Option<&'a Value> {
    let mut outputs = stage.outputs.iter();
    outputs.find_map(|output| output.pointer(&format!("/event/room/{what}")))
}

/// The room says so.
fn room_says(stage: &mut Stage<'_>, what: &str, fields: Object) -> Played {
    stage.command("room", Object::new().with(what, fields))?;
    stage.must(stage.sent().len() == 1, "pass it on")
}

fn joined(stage: &mut Stage<'_>) -> Played {
    stage.receive(&join(None))?;
    stage.must(asked_room(stage, "join").is_some(), "ask the room")?;
    room_says(stage, "joined", Object::new().with("name", "ann#0123abcd"))
}

fn no_room(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    for _ in 0..2 {
        stage.receive(&join(None))?;
        let sent = stage.sent();
        stage.must(matches!(sent[..], [Message::RoomRefused(_)]), "refuse it")?;
    }
    stage.receive(&chat(1, None))?;
    stage.receive(&Message::Leave)?;
    stage.must(!stage.told("room"), "ignore it")
}

fn room(stage: &mut Stage<'_>) -> Played {
    bound(stage, &with_room()?)?;
    joined(stage)?;
    let presence = Object::new().int("epoch", 4_u64).int("viewers", 3_u64);
    room_says(stage, "presence", presence)?;
    for (id, sender, heard) in [
        (1, None, true),
        (1, None, false),
        (4, None, true),
        (3, None, false),
        (5, Some("somebody else"), false),
        (5, None, true),
    ] {
        stage.receive(&chat(id, sender))?;
        let said = asked_room(stage, "chat").is_some();
        stage.must(said == heard, "take each text once, without a sender")?;
    }
    let from_bob = Object::new().with("sender", "bob#89ef4567");
    room_says(stage, "chat", from_bob.with("text", "hello"))?;
    let tip = Object::new().with("sender", "bob#89ef4567");
    room_says(stage, "tip", tip.int("amount", 21_000_u64))?;
    room_says(stage, "chat", Object::new().with("text", "welcome"))?;
    let third = matches!(&stage.sent()[..], [Message::Chat(chat)] if chat.id == 3);
    stage.must(third, "number texts and tips together")?;
    // The answer to a join may have been lost.
    joined(stage)?;
    stage.receive(&Message::Leave)?;
    stage.must(asked_room(stage, "leave").is_some(), "tell the room")
}

fn before_bound(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&with_room()?)?;
    let mut payer = super::puppet_payer()?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    let sent = stage.sent();
    let Some(Message::Welcome(welcome)) = sent.first() else {
        return Err("no welcome".into());
    };
    for message in [join(None), chat(1, None), Message::Leave] {
        stage.receive(&message)?;
        let quiet = stage.outputs.is_empty();
        stage.must(quiet, "ignore it before it is bound")?;
    }
    let bind = payer.bind(welcome);
    stage.receive(&bind)?;
    joined(stage)?;
    stage.receive(&chat(1, None))?;
    stage.must(asked_room(stage, "chat").is_some(), "hear it")?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    stage.receive(&chat(2, None))?;
    stage.must(!stage.told("room"), "hear nothing more")?;
    stage.command(
        "room",
        Object::new().with("chat", Object::new().with("text", "late")),
    )?;
    let said = stage
        .sent()
        .iter()
        .any(|sent| matches!(sent, Message::Chat(_)));
    stage.must(!said, "say nothing more")
}

fn invitation(stage: &mut Stage<'_>) -> Played {
    bound(stage, &with_room()?)?;
    let secret = b"sixteen bytes...".as_slice();
    stage.receive(&join(Some(secret)))?;
    let shown = asked_room(stage, "join").and_then(|join| join.get("invitation"));
    let hash = Invitation::new(secret).map(|invitation| invitation.hash());
    let hash = hash.map_err(|_| "too long")?;
    let right = shown.and_then(Value::as_str) == Some(&hex(&hash.0));
    stage.must(right, "show the room its hash")?;
    room_says(stage, "refused", Object::new().int("code", 2_u64))?;
    stage.receive(&join(None))?;
    room_says(stage, "refused", Object::new().int("code", 2_u64))
}

fn again(stage: &mut Stage<'_>) -> Played {
    let mut payer = bound(stage, &with_room()?)?;
    stage.receive(&Message::Purse(payer.purse(0)))?;
    stage.answer(0, "accepted", super::payee::capacity())?;
    credit(stage, payer.tick(0, 1))?;
    joined(stage)?;
    stage.receive(&chat(7, None))?;
    room_says(stage, "chat", Object::new().with("text", "welcome"))?;
    stage.link_down()?;
    stage.command(
        "room",
        Object::new().with("chat", Object::new().with("text", "late")),
    )?;
    stage.must(stage.sent().is_empty(), "say nothing to nobody")?;
    stage.pass_ms(1_000);
    connect(stage, &mut payer)?;
    joined(stage)?;
    stage.receive(&chat(1, None))?;
    stage.must(asked_room(stage, "chat").is_some(), "hear it")?;
    room_says(stage, "chat", Object::new().with("text", "welcome back"))?;
    let first = matches!(&stage.sent()[..], [Message::Chat(chat)] if chat.id == 1);
    stage.must(first, "count anew")
}

fn unpaid(stage: &mut Stage<'_>, missing: &str) -> Played {
    stage.receive(&join(None))?;
    let said = asked_room(stage, "join").and_then(|join| join.get("unpaid"));
    let right = said.and_then(Value::as_str) == Some(missing);
    stage.must(right, "say what is missing of the fee")
}

fn fee(stage: &mut Stage<'_>) -> Played {
    let mut cast = with_room()?;
    cast.terms.join_fee = msat(3_000);
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    unpaid(stage, "3000")?;
    room_says(stage, "refused", Object::new().int("code", 5_u64))?;
    credit(stage, payer.tip(0, 2, 1))?;
    stage.must(asked_room(stage, "tip").is_none(), "count it as the fee")?;
    unpaid(stage, "1000")?;
    room_says(stage, "refused", Object::new().int("code", 5_u64))?;
    credit(stage, payer.tip(0, 3, 2))?;
    let beyond = asked_room(stage, "tip").and_then(Value::as_str) == Some("1000");
    stage.must(beyond, "tell the room what is beyond it")?;
    unpaid(stage, "0")?;
    room_says(stage, "joined", Object::new().with("name", "ann#0123abcd"))?;
    credit(stage, payer.tip(0, 4, 3))?;
    let all = asked_room(stage, "tip").and_then(Value::as_str) == Some("2000");
    stage.must(all, "tell the room of a tip")
}

fn sent_out(stage: &mut Stage<'_>, code: CloseCode) -> Played {
    let payer = opened_by(stage, &with_room()?)?;
    credit(stage, payer.tick(0, 1))?;
    if code == CloseCode::Removed {
        joined(stage)?;
    }
    stage.command("close", code.code().to_string())?;
    let sent = stage.sent();
    let said = sent.iter().any(|sent| match sent {
        Message::Closed(Closed { code: said, .. }) => *said == code,
        _ => false,
    });
    stage.must(said, "say why")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))
}

fn limit(stage: &Stage<'_>) -> Option<u64> {
    let mut outputs = stage.outputs.iter().rev();
    let limit = outputs.find_map(|output| output.pointer("/gate/limit"))?;
    as_int(limit)
}

fn tip(stage: &mut Stage<'_>) -> Played {
    let mut cast = with_room()?;
    cast.terms.window = msat(500);
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    // Near the end of what is bought the gate's limit is what is bought, not what it is given.
    for at in [2_000, 4_000, 6_000, 8_000, 10_000] {
        stage.pass_ms(2_000);
        stage.usage(at)?;
    }
    stage.pass_ms(1_900);
    stage.usage(11_900)?;
    stage.must(limit(stage) == Some(2_500), "be near the end")?;
    for (seq, tips) in [(2, 1), (3, 2)] {
        credit(stage, payer.tip(0, seq, tips))?;
        stage.must(stage.told("tip_received"), "tell the user")?;
        let more = limit(stage).is_some_and(|limit| limit > 2_500);
        stage.must(!more, "let no media through for it")?;
    }
    credit(stage, payer.tick(0, 4))?;
    let more = limit(stage).is_some_and(|limit| limit > 2_500);
    stage.must(more, "let media through again")
}

fn nacked(stage: &Stage<'_>) -> bool {
    matches!(stage.sent()[..], [Message::Nack(_)])
}

fn wrong_sum(stage: &mut Stage<'_>) -> Played {
    let payer = opened_by(stage, &with_room()?)?;
    credit(stage, payer.tick(0, 1))?;
    credit(stage, payer.tip(0, 2, 1))?;
    let wrong = payer.tip(0, 3, 1);
    stage.receive(&Message::Tick(wrong))?;
    stage.must(nacked(stage), "refuse it")?;
    // Its number is used; the sum goes on from what was credited.
    let cumulative = msat(6_000);
    let next = Tick {
        cumulative,
        payload: payer.paying(0, 4, cumulative),
        ..payer.tip(0, 4, 2)
    };
    credit(stage, next)
}

fn repeated(stage: &mut Stage<'_>) -> Played {
    let payer = opened_by(stage, &with_room()?)?;
    let tip = payer.tip(0, 1, 1);
    stage.receive(&Message::Tick(tip.clone()))?;
    stage.receive(&Message::Tick(tip.clone()))?;
    stage.must(
        stage.asked("receive").is_none(),
        "not have it checked twice",
    )?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")?;
    for tips in [1, 2] {
        stage.receive(&Message::Tick(payer.tip(0, 1, tips)))?;
        stage.must(acked(stage), "acknowledge it again")?;
        stage.must(!stage.told("tip_received"), "count it once")?;
    }
    Ok(())
}

fn crash(stage: &mut Stage<'_>, take: u64) -> Played {
    let mut payer: Payer = opened_by(stage, &with_room()?)?;
    credit(stage, payer.tick(0, 1))?;
    let tip = payer.tip(0, 2, 1);
    stage.receive(&Message::Tick(tip.clone()))?;
    let backend = Object::new()
        .int("purse", 0_u32)
        .with("outcome", Object::new().with("credited", Object::new()));
    stage.step_taking(Object::new().with("backend", backend), Some(take))?;
    stage.restart()?;
    connect(stage, &mut payer)?;
    stage.receive(&Message::Tick(tip))?;
    if take == 0 {
        stage.must(stage.asked("receive").is_some(), "have it checked again")?;
        stage.answer(0, "credited", Object::new())?;
    }
    stage.must(acked(stage), "acknowledge it")?;
    let credited = stage.state.get("credited").cloned();
    stage.must(credited == Some("4000".into()), "count it once")
}
