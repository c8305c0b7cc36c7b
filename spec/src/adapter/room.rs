//! What a payer and a room say to each other, and what a host sees. Spec: conformance 3, 7.

use serde_json::Value;
use streampay_core::room::{
    Admission, HostCommand, RoomConfig, RoomEvent, RoomId, RoomInput, RoomOutput,
};
use streampay_core::session::{Hash, Invitation, Line, Name, RoomAsk, RoomNews};
use streampay_core::units::{Msat, SessionId, Unix, XOnlyKey};
use streampay_core::wire::RoomCode;

use crate::json::{BadJson, Fields, Object};

type Read<T> = Result<T, BadJson>;

fn bad(key: &str) -> BadJson {
    BadJson(key.into())
}

fn msat(fields: Fields<'_>, key: &str) -> Read<Msat> {
    Msat::new(fields.int(key)?).map_err(|_| bad(key))
}

pub(super) fn line(fields: Fields<'_>, key: &str) -> Read<Line> {
    Line::new(fields.text(key)?).map_err(|_| bad(key))
}

pub(super) fn name(fields: Fields<'_>, key: &str) -> Read<Name> {
    Name::new(fields.text(key)?).map_err(|_| bad(key))
}

pub(super) fn invitation(fields: Fields<'_>) -> Read<Option<Invitation>> {
    if fields.opt("invitation").is_none() {
        return Ok(None);
    }
    let bytes = fields.bytes("invitation")?;
    let invitation = Invitation::new(bytes).map_err(|_| bad("invitation"))?;
    Ok(Some(invitation))
}

pub(super) fn news(fields: Fields<'_>) -> Read<RoomNews> {
    let at = |name: &str| fields.opt(name).map(Fields::new);
    let sender = |said: Fields<'_>| said.text("sender").map(String::from);
    if let Some(joined) = at("joined") {
        let name = joined.text("name")?.into();
        return Ok(RoomNews::Joined { name });
    }
    if let Some(refused) = at("refused") {
        let code = RoomCode::from_code(refused.int("code")?);
        return Ok(RoomNews::Refused { code });
    }
    if let Some(presence) = at("presence") {
        let (epoch, viewers) = (presence.int("epoch")?, presence.int("viewers")?);
        return Ok(RoomNews::Presence { epoch, viewers });
    }
    if let Some(chat) = at("chat") {
        let text = line(chat, "text")?;
        let sender = chat.opt("sender").map(|_| sender(chat)).transpose()?;
        return Ok(RoomNews::Chat { sender, text });
    }
    let tip = at("tip").ok_or_else(|| bad("room"))?;
    Ok(RoomNews::Tip {
        sender: sender(tip)?,
        amount: msat(tip, "amount")?,
    })
}

pub(super) fn news_to_json(news: &RoomNews) -> Value {
    let new = Object::new();
    let (kind, fields) = match news {
        RoomNews::Joined { name } => ("joined", new.with("name", name.as_str())),
        RoomNews::Refused { code } => ("refused", new.int("code", code.code())),
        RoomNews::Presence { epoch, viewers } => {
            let presence = new.int("epoch", *epoch).int("viewers", *viewers);
            ("presence", presence)
        }
        RoomNews::Chat { sender, text } => {
            let chat = new.maybe("sender", sender.clone());
            ("chat", chat.with("text", text.as_str()))
        }
        RoomNews::Tip { sender, amount } => {
            let tip = new.with("sender", sender.as_str());
            ("tip", tip.int("amount", amount.msat()))
        }
        // Of a later version.
        _ => ("other", new),
    };
    Object::new().with(kind, fields).done()
}

pub(super) fn ask_to_json(ask: &RoomAsk) -> Value {
    let new = Object::new();
    match ask {
        RoomAsk::Join {
            name,
            invitation,
            unpaid,
        } => {
            let invitation = invitation.map(|hash| crate::json::hex(&hash.0));
            let join = Object::new()
                .with("name", name.as_str())
                .maybe("invitation", invitation)
                .int("unpaid", unpaid.msat());
            new.with("join", join)
        }
        RoomAsk::Leave => new.with("leave", Object::new()),
        RoomAsk::Chat(text) => new.with("chat", text.as_str()),
        RoomAsk::Tip(amount) => new.int("tip", amount.msat()),
        // Of a later version.
        _ => new.with("other", Object::new()),
    }
    .done()
}

fn ask(fields: Fields<'_>) -> Read<RoomAsk> {
    if let Some(join) = fields.opt("join").map(Fields::new) {
        let invitation = match join.opt("invitation") {
            Some(_) => Some(Hash(join.array("invitation")?)),
            None => None,
        };
        return Ok(RoomAsk::Join {
            name: name(join, "name")?,
            invitation,
            unpaid: msat(join, "unpaid")?,
        });
    }
    if fields.opt("chat").is_some() {
        return line(fields, "chat").map(RoomAsk::Chat);
    }
    if fields.opt("tip").is_some() {
        return msat(fields, "tip").map(RoomAsk::Tip);
    }
    let leaves = fields.opt("leave").map(|_| RoomAsk::Leave);
    leaves.ok_or_else(|| bad("ask"))
}

/// What a host's room is like.
pub(super) fn config(fields: Fields<'_>) -> Read<RoomConfig> {
    let admission = match fields.text("admission")? {
        "open" => Admission::Open,
        "listed" => Admission::Listed,
        _ => return Err(bad("admission")),
    };
    Ok(RoomConfig {
        admission,
        members_max: fields.int("members_max")?,
        history: fields.int("history")?,
        ..RoomConfig::new(RoomId([0; 32]))
    })
}

fn session(fields: Fields<'_>) -> Read<SessionId> {
    fields.array("session").map(SessionId)
}

/// What a host is given.
pub(super) fn input(fields: Fields<'_>) -> Read<RoomInput> {
    let at = |name: &str| fields.opt(name).map(Fields::new);
    if let Some(bound) = at("bound") {
        return Ok(RoomInput::Bound {
            session: session(bound)?,
            identity: XOnlyKey(bound.array("identity")?),
        });
    }
    if let Some(gone) = at("gone") {
        let session = session(gone)?;
        return Ok(RoomInput::Gone { session });
    }
    if let Some(asked) = at("asked") {
        return Ok(RoomInput::Asked {
            session: session(asked)?,
            ask: ask(asked.object("ask")?)?,
        });
    }
    if let Some(said) = at("command") {
        return command(said).map(RoomInput::Host);
    }
    let plain = [
        ("timeout", RoomInput::Timeout),
        ("persist_failed", RoomInput::PersistFailed),
    ];
    let found = plain.into_iter().find(|(name, _)| at(name).is_some());
    found.map(|(_, input)| input).ok_or_else(|| bad("input"))
}

/// What a host does to an identity.
type OfSomebody = fn(XOnlyKey) -> HostCommand;

fn command(fields: Fields<'_>) -> Read<HostCommand> {
    if fields.opt("say").is_some() {
        return line(fields, "say").map(HostCommand::Say);
    }
    if let Some(invite) = fields.opt("invite").map(Fields::new) {
        return Ok(HostCommand::Invite {
            invitation: Hash(invite.array("invitation")?),
            uses: invite.int("uses")?,
            expires: Unix(invite.int("expires")?),
        });
    }
    if fields.opt("revoke").is_some() {
        return fields.array("revoke").map(Hash).map(HostCommand::Revoke);
    }
    let of: [(&str, OfSomebody); 7] = [
        ("kick", HostCommand::Kick),
        ("ban", HostCommand::Ban),
        ("unban", HostCommand::Unban),
        ("mute", HostCommand::Mute),
        ("unmute", HostCommand::Unmute),
        ("allow", HostCommand::Allow),
        ("disallow", HostCommand::Disallow),
    ];
    let found = of.iter().find(|(name, _)| fields.opt(name).is_some());
    let (name, command) = found.ok_or_else(|| bad("command"))?;
    fields.array(name).map(XOnlyKey).map(command)
}

/// What a host does.
pub(super) fn output_to_json(output: &RoomOutput) -> Value {
    let new = Object::new();
    match output {
        RoomOutput::Persist(_) => new.with("persist", Object::new()),
        RoomOutput::Tell { session, news } => {
            let tell = Object::new().hex("session", &session.0);
            new.with("tell", tell.with("news", news_to_json(news)))
        }
        RoomOutput::Close { session, code } => {
            let close = Object::new().hex("session", &session.0);
            new.with("close", close.int("code", code.code()))
        }
        RoomOutput::Event(event) => new.with("event", event_to_json(event)),
        // Of a later version.
        _ => new.with("other", Object::new()),
    }
    .done()
}

fn event_to_json(event: &RoomEvent) -> Value {
    let of = |identity: &XOnlyKey| Object::new().hex("identity", &identity.0);
    let (kind, fields) = match event {
        RoomEvent::Viewers { viewers } => ("viewers", Object::new().int("viewers", *viewers)),
        RoomEvent::Joined { identity, name } => {
            ("joined", of(identity).with("name", name.as_str()))
        }
        RoomEvent::Left { identity, name } => ("left", of(identity).with("name", name.as_str())),
        RoomEvent::Refused { identity, code } => ("refused", of(identity).int("code", code.code())),
        RoomEvent::Said {
            identity,
            name,
            text,
        } => {
            let said = of(identity).with("name", name.as_str());
            ("said", said.with("text", text.as_str()))
        }
        RoomEvent::Tip {
            identity,
            name,
            amount,
        } => {
            let tip = of(identity).maybe("name", name.clone());
            ("tip", tip.int("amount", amount.msat()))
        }
        RoomEvent::ListFull => ("list_full", Object::new()),
        RoomEvent::StoreFailed => ("store_failed", Object::new()),
        // Of a later version.
        _ => ("other", Object::new()),
    };
    Object::new().with(kind, fields).done()
}

/// How many watch, and the names of those who joined, in the order of the alphabet.
pub(super) fn state_to_json(room: &streampay_core::room::Room) -> Object {
    let mut names: Vec<&str> = room.names().map(|(name, _)| name).collect();
    names.sort_unstable();
    Object::new().int("viewers", room.viewers()).with(
        "names",
        names.into_iter().map(Value::from).collect::<Vec<_>>(),
    )
}
