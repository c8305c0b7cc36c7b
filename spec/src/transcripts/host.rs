//! The host of a room: who may join, who is there, what they say.

use serde_json::Value;
use streampay_core::session::Invitation;
use streampay_core::wire::RoomCode;

use super::{Scene, scene};
use crate::json::{Object, hex};
use crate::peer::{Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "host",
        "presence",
        "Sessions are bound and go: each counts once, told to who joined, once a second at most.",
        presence,
    ),
    scene(
        "host",
        "names",
        "Two of one name are told apart; names that could pass for another's are refused.",
        names,
    ),
    scene(
        "host",
        "chat",
        "What one says all others hear, once, and who comes later as well.",
        chat,
    ),
    scene(
        "host",
        "flood",
        "One identity in two sessions says more than five texts at once: the rest is dropped.",
        flood,
    ),
    scene(
        "host",
        "mute",
        "Who is muted reaches nobody, after a restart as well.",
        mute,
    ),
    scene(
        "host",
        "order-of-refusals",
        "Banned, not invited, full, a bad name, unpaid: the first that fits is said.",
        order,
    ),
    scene(
        "host",
        "fee",
        "Who has paid the fee is let in, and is told the fee only where nothing else keeps it out.",
        fee,
    ),
    scene(
        "host",
        "invitation",
        "An invitation for two: each identity uses it once, durably, and stays on the list.",
        invitation,
    ),
    scene(
        "host",
        "invitation-over",
        "An invitation whose time is over, or that was revoked, lets nobody in.",
        invitation_over,
    ),
    scene(
        "host",
        "invitation-crash",
        "The process dies before an invitation's use is durable: it is not used, and nobody heard.",
        invitation_crash,
    ),
    scene(
        "host",
        "kick",
        "Who is sent out may come back; all its sessions end.",
        kick,
    ),
    scene(
        "host",
        "ban",
        "A ban is durable before anybody is sent out, and holds after a restart.",
        ban,
    ),
    scene(
        "host",
        "tips",
        "Ticks of a tip are told as one, once none came for a second, or who gave it goes.",
        tips,
    ),
    scene(
        "host",
        "store-failed",
        "The store fails: nothing leaves any more.",
        store_failed,
    ),
];

/// 32 equal bytes.
fn id(byte: u8) -> String {
    hex(&[byte; 32])
}

fn bound_as(stage: &mut Stage<'_>, session: u8, identity: u8) -> Played {
    let bound = Object::new()
        .with("session", id(session))
        .with("identity", id(identity));
    stage.step(Object::new().with("bound", bound))
}

pub(crate) fn bound(stage: &mut Stage<'_>, n: u8) -> Played {
    bound_as(stage, n, n)
}

fn gone(stage: &mut Stage<'_>, session: u8) -> Played {
    let gone = Object::new().with("session", id(session));
    stage.step(Object::new().with("gone", gone))
}

fn asked(session: u8, ask: Object) -> Object {
    let asked = Object::new().with("session", id(session)).with("ask", ask);
    Object::new().with("asked", asked)
}

pub(crate) fn ask(
    stage: &mut Stage<'_>,
    session: u8,
    what: &str,
    fields: impl Into<Value>,
) -> Played {
    stage.step(asked(session, Object::new().with(what, fields)))
}

/// What a session wants to join as.
pub(crate) fn joining(name: &str, invitation: Option<[u8; 32]>, unpaid: u64) -> Object {
    let join = Object::new()
        .with("name", name)
        .maybe("invitation", invitation.map(|hash| hex(&hash)));
    join.int("unpaid", unpaid)
}

/// What the session is told of this kind in the last step.
pub(crate) fn told<'a>(stage: &'a Stage<'_>, session: u8, kind: &str) -> Option<&'a Value> {
    let tells = stage.outputs.iter().filter_map(|output| output.get("tell"));
    let mut own = tells.filter(|tell| tell.get("session") == Some(&Value::String(id(session))));
    own.find_map(|tell| tell.pointer(&format!("/news/{kind}")))
}

fn lets_in(stage: &mut Stage<'_>, session: u8, join: Object) -> Played {
    ask(stage, session, "join", join)?;
    stage.must(told(stage, session, "joined").is_some(), "let it in")?;
    stage.must(
        told(stage, session, "presence").is_some(),
        "say how many watch",
    )
}

fn refuses(stage: &mut Stage<'_>, session: u8, join: Object, code: RoomCode) -> Played {
    ask(stage, session, "join", join)?;
    let said = told(stage, session, "refused").and_then(|refused| refused.get("code"));
    let right = said == Some(&Value::String(code.code().to_string()));
    stage.must(right, "refuse it, and say why")
}

/// An open room with this many joined.
pub(crate) fn open_room(stage: &mut Stage<'_>, joined: u8) -> Played {
    stage.create_host("open", 4, 3)?;
    for n in 1..=joined {
        bound(stage, n)?;
        lets_in(stage, n, joining("ann", None, 0))?;
    }
    stage.wait_ms(1_000)
}

fn viewers(stage: &Stage<'_>, count: &str) -> Played {
    let right = stage.state.get("viewers") == Some(&Value::String(count.into()));
    stage.must(right, "count each session once")
}

fn presence(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 1)?;
    stage.pass_ms(5_000);
    bound(stage, 2)?;
    stage.must(told(stage, 1, "presence").is_some(), "tell the number")?;
    stage.must(told(stage, 2, "presence").is_none(), "tell who joined")?;
    stage.pass_ms(100);
    bound_as(stage, 3, 2)?;
    stage.must(told(stage, 1, "presence").is_none(), "not tell it so often")?;
    viewers(stage, "3")?;
    stage.wait_ms(900)?;
    stage.must(
        told(stage, 1, "presence").is_some(),
        "tell it after a second",
    )?;
    // On a new connection, without a word of the old one: the same viewer.
    bound(stage, 2)?;
    viewers(stage, "3")?;
    stage.pass_ms(2_000);
    gone(stage, 2)?;
    gone(stage, 2)?;
    viewers(stage, "2")?;
    ask(stage, 1, "leave", Object::new())?;
    viewers(stage, "2")?;
    stage.restart()?;
    viewers(stage, "0")?;
    bound(stage, 3)?;
    viewers(stage, "1")
}

fn names(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 0)?;
    for n in 1..=3 {
        bound(stage, n)?;
    }
    lets_in(stage, 1, joining("  ann ", None, 0))?;
    lets_in(stage, 2, joining("ann", None, 0))?;
    let long = "a name of more than twenty bytes";
    lets_in(stage, 3, joining(long, None, 0))?;
    // The answer may have been lost: the same again.
    ask(stage, 3, "join", joining("another name", None, 0))?;
    stage.must(told(stage, 3, "joined").is_some(), "say it again")?;
    bound(stage, 4)?;
    for name in ["ann#0123abcd", " ", "#"] {
        refuses(stage, 4, joining(name, None, 0), RoomCode::BadName)?;
    }
    lets_in(stage, 4, joining("für alle, mehr als zwanzig", None, 0))
}

fn chat(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    bound(stage, 3)?;
    ask(stage, 1, "chat", "one")?;
    stage.must(told(stage, 2, "chat").is_some(), "tell the others")?;
    stage.must(told(stage, 1, "chat").is_none(), "not tell who said it")?;
    stage.must(
        told(stage, 3, "chat").is_none(),
        "not tell who only watches",
    )?;
    ask(stage, 3, "chat", "who did not join")?;
    stage.must(stage.outputs.is_empty(), "drop it")?;
    stage.command("say", "from the host")?;
    ask(stage, 2, "chat", "three")?;
    ask(stage, 2, "chat", "four")?;
    // The last three of four texts.
    lets_in(stage, 3, joining("cid", None, 0))?;
    stage.must(
        told(stage, 3, "chat").is_some(),
        "tell what was said lately",
    )?;
    gone(stage, 2)?;
    stage.wait_ms(1_000)?;
    ask(stage, 1, "chat", "five")?;
    bound(stage, 2)?;
    lets_in(stage, 2, joining("ann", None, 0))?;
    let chats = stage
        .outputs
        .iter()
        .filter(|output| output.pointer("/tell/news/chat").is_some());
    stage.must(chats.count() == 1, "tell a session nothing twice")?;
    ask(stage, 1, "leave", Object::new())?;
    stage.command("say", "six")?;
    stage.must(told(stage, 1, "chat").is_none(), "not tell who left")
}

fn flood(stage: &mut Stage<'_>) -> Played {
    stage.create_host("open", 4, 0)?;
    bound_as(stage, 1, 7)?;
    bound_as(stage, 2, 7)?;
    bound(stage, 3)?;
    for n in 1..=3 {
        lets_in(stage, n, joining("ann", None, 0))?;
    }
    stage.wait_ms(10_000)?;
    for text in 0..8 {
        ask(stage, 1 + text % 2, "chat", format!("text {text}"))?;
        let heard = told(stage, 3, "chat").is_some();
        stage.must(heard == (text < 5), "take five at once")?;
    }
    stage.wait_ms(1_000)?;
    for text in 0..2 {
        ask(stage, 1, "chat", format!("later {text}"))?;
        let heard = told(stage, 3, "chat").is_some();
        stage.must(heard == (text == 0), "take one a second")?;
    }
    Ok(())
}

fn mute(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    stage.command("mute", id(1))?;
    for _ in 0..2 {
        ask(stage, 1, "chat", "one")?;
        stage.must(told(stage, 2, "chat").is_none(), "tell nobody")?;
        stage.restart()?;
        for n in 1..=2 {
            bound(stage, n)?;
            lets_in(stage, n, joining("ann", None, 0))?;
        }
    }
    stage.command("unmute", id(1))?;
    ask(stage, 1, "chat", "two")?;
    stage.must(told(stage, 2, "chat").is_some(), "tell it")
}

fn order(stage: &mut Stage<'_>) -> Played {
    stage.create_host("listed", 1, 0)?;
    for n in 1..=3 {
        bound(stage, n)?;
        stage.command("allow", id(n))?;
    }
    lets_in(stage, 1, joining("ann", None, 0))?;
    refuses(stage, 2, joining("#", None, 2_000), RoomCode::Full)?;
    stage.command("disallow", id(2))?;
    refuses(stage, 2, joining("#", None, 2_000), RoomCode::NotInvited)?;
    gone(stage, 1)?;
    refuses(stage, 3, joining("#", None, 2_000), RoomCode::BadName)?;
    refuses(stage, 3, joining("cid", None, 2_000), RoomCode::Unpaid)?;
    lets_in(stage, 3, joining("cid", None, 0))
}

fn fee(stage: &mut Stage<'_>) -> Played {
    stage.create_host("open", 4, 0)?;
    bound(stage, 1)?;
    refuses(stage, 1, joining("ann", None, 3_000), RoomCode::Unpaid)?;
    refuses(stage, 1, joining("ann", None, 1), RoomCode::Unpaid)?;
    lets_in(stage, 1, joining("ann", None, 0))?;
    // In another session it is to be paid again.
    bound_as(stage, 2, 1)?;
    refuses(stage, 2, joining("ann", None, 3_000), RoomCode::Unpaid)
}

/// The hash of an invitation.
fn token(byte: u8) -> Played<[u8; 32]> {
    let invitation = Invitation::new(vec![byte; 16]).map_err(|_| "too long")?;
    Ok(invitation.hash().0)
}

fn invite(stage: &mut Stage<'_>, byte: u8, uses: u64, expires: u64) -> Played {
    let invite = Object::new()
        .hex("invitation", &token(byte)?)
        .int("uses", uses)
        .int("expires", expires);
    stage.command("invite", invite)
}

fn invitation(stage: &mut Stage<'_>) -> Played {
    stage.create_host("listed", 4, 0)?;
    let until = stage.unix_s + 60;
    invite(stage, 0x5a, 2, until)?;
    for n in 1..=3 {
        bound(stage, n)?;
    }
    let shown = Some(token(0x5a)?);
    refuses(stage, 1, joining("ann", None, 0), RoomCode::NotInvited)?;
    refuses(
        stage,
        1,
        joining("ann", Some(token(0x5b)?), 0),
        RoomCode::NotInvited,
    )?;
    // Only the fee is missing: it is used, for who goes and pays.
    refuses(stage, 1, joining("ann", shown, 2_000), RoomCode::Unpaid)?;
    stage.restart()?;
    for n in 1..=3 {
        bound(stage, n)?;
    }
    lets_in(stage, 1, joining("ann", shown, 0))?;
    lets_in(stage, 2, joining("bob", shown, 0))?;
    refuses(stage, 3, joining("cid", shown, 0), RoomCode::NotInvited)?;
    // Who used it is on the list.
    ask(stage, 1, "leave", Object::new())?;
    lets_in(stage, 1, joining("ann", None, 0))
}

fn invitation_over(stage: &mut Stage<'_>) -> Played {
    stage.create_host("listed", 4, 0)?;
    let until = stage.unix_s + 60;
    invite(stage, 0x5a, 9, until)?;
    invite(stage, 0x5b, 9, until)?;
    stage.command("revoke", hex(&token(0x5b)?))?;
    bound(stage, 1)?;
    refuses(
        stage,
        1,
        joining("ann", Some(token(0x5b)?), 0),
        RoomCode::NotInvited,
    )?;
    stage.unix_s = until;
    refuses(
        stage,
        1,
        joining("ann", Some(token(0x5a)?), 0),
        RoomCode::NotInvited,
    )?;
    stage.unix_s = until - 1;
    lets_in(stage, 1, joining("ann", Some(token(0x5a)?), 0))
}

fn invitation_crash(stage: &mut Stage<'_>) -> Played {
    stage.create_host("listed", 4, 0)?;
    let until = stage.unix_s + 60;
    invite(stage, 0x5a, 1, until)?;
    bound(stage, 1)?;
    let shown = Some(token(0x5a)?);
    let join = Object::new().with("join", joining("ann", shown, 0));
    stage.step_taking(asked(1, join), Some(0))?;
    stage.restart()?;
    bound(stage, 2)?;
    let join = Object::new().with("join", joining("bob", shown, 0));
    stage.step_taking(asked(2, join), Some(1))?;
    stage.restart()?;
    for n in 1..=2 {
        bound(stage, n)?;
    }
    refuses(stage, 1, joining("ann", shown, 0), RoomCode::NotInvited)?;
    lets_in(stage, 2, joining("bob", None, 0))
}

/// The sessions that are ended in the last step.
fn closed(stage: &Stage<'_>) -> usize {
    let outputs = stage.outputs.iter();
    outputs
        .filter(|output| output.get("close").is_some())
        .count()
}

fn kick(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    bound_as(stage, 3, 1)?;
    stage.command("kick", id(1))?;
    stage.must(closed(stage) == 2, "end both")?;
    gone(stage, 1)?;
    gone(stage, 3)?;
    bound(stage, 1)?;
    stage.must(closed(stage) == 0, "let it watch again")?;
    lets_in(stage, 1, joining("ann", None, 0))
}

fn ban(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    stage.command("ban", id(1))?;
    stage.must(closed(stage) == 1, "end its session")?;
    ask(stage, 1, "leave", Object::new())?;
    refuses(stage, 1, joining("ann", None, 0), RoomCode::Banned)?;
    gone(stage, 1)?;
    for _ in 0..2 {
        bound(stage, 1)?;
        stage.must(closed(stage) == 1, "send it out again")?;
        stage.must(!stage.told("viewers"), "not count it")?;
        gone(stage, 1)?;
        stage.restart()?;
    }
    stage.command("unban", id(1))?;
    bound(stage, 1)?;
    lets_in(stage, 1, joining("ann", None, 0))
}

fn tips(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    bound(stage, 3)?;
    stage.wait_ms(1_000)?;
    for _ in 0..3 {
        ask(stage, 1, "tip", "2000")?;
        stage.wait_ms(900)?;
        stage.must(told(stage, 2, "tip").is_none(), "wait for the rest")?;
    }
    stage.wait_ms(100)?;
    let amount = |stage: &Stage<'_>, session| {
        let tip = told(stage, session, "tip").and_then(|tip| tip.get("amount"));
        tip.and_then(Value::as_str).map(String::from)
    };
    for session in 1..=2 {
        let right = amount(stage, session).as_deref() == Some("6000");
        stage.must(right, "tell all who joined, as one")?;
    }
    // Who did not join is told to the host alone.
    ask(stage, 3, "tip", "2000")?;
    stage.wait_ms(1_000)?;
    stage.must(told(stage, 2, "tip").is_none(), "tell the host alone")?;
    ask(stage, 2, "tip", "2000")?;
    gone(stage, 2)?;
    stage.must(told(stage, 1, "tip").is_some(), "tell it before it is gone")
}

fn store_failed(stage: &mut Stage<'_>) -> Played {
    open_room(stage, 2)?;
    stage.step(Object::new().with("persist_failed", Object::new()))?;
    stage.command("ban", id(1))?;
    stage.must(stage.outputs.is_empty(), "do nothing")?;
    ask(stage, 2, "chat", "one")?;
    stage.must(stage.outputs.is_empty(), "say nothing")
}
