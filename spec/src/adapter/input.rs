//! What a step is given.

use bytes::Bytes;
use serde_json::Value;
use streampay_core::backend::{
    Answer, BackendError, Consumed, Effect, Opened, Outcome, RefusalCode,
};
use streampay_core::session::{
    BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Input, LinkEvent, MediaGrant,
    PayeeConfig, PayerConfig, Policy, SecretKey,
};
use streampay_core::units::{
    EffectId, Mono, Msat, Now, PurseId, PurseKey, SessionId, Unix, XOnlyKey,
};

use super::room::{invitation, line, name, news};
use crate::fields::{reading_from_json, tariff_from_json, terms_from_json};
use crate::json::{BadJson, Fields};

type Read<T> = Result<T, BadJson>;

fn bad(key: &str) -> BadJson {
    BadJson(key.into())
}

pub(super) fn now(fields: Fields<'_>) -> Read<Now> {
    Ok(Now {
        mono: Mono(fields.int("mono_ms")?),
        unix: Unix(fields.int("unix_s")?),
    })
}

pub(super) fn msat(fields: Fields<'_>, key: &str) -> Read<Msat> {
    Msat::new(fields.int(key)?).map_err(|_| bad(key))
}

fn secret(fields: Fields<'_>, key: &str) -> Read<SecretKey> {
    SecretKey::from_bytes(fields.array(key)?).map_err(|_| bad(key))
}

pub(super) fn payer_config(fields: Fields<'_>) -> Read<PayerConfig> {
    let policy = fields.object("policy")?;
    let name = |value: &Value| value.as_str().map(Into::into).ok_or_else(|| bad("methods"));
    Ok(PayerConfig {
        identity: secret(fields, "identity")?,
        payee: XOnlyKey(fields.array("payee")?),
        policy: Policy {
            budget: msat(policy, "budget")?,
            max_tariff: tariff_from_json(policy.object("max_tariff")?)?,
            max_purse: msat(policy, "max_purse")?,
            max_tick: msat(policy, "max_tick")?,
            methods: policy
                .list("methods")?
                .iter()
                .map(name)
                .collect::<Read<_>>()?,
            stall_close_ms: policy.int("stall_close_ms")?,
        },
    })
}

pub(super) fn payee_config(fields: Fields<'_>) -> Read<PayeeConfig> {
    Ok(PayeeConfig {
        identity: secret(fields, "identity")?,
        terms: terms_from_json(fields.object("terms")?)?.into(),
        preview_left: msat(fields, "preview_left")?,
        unpaid_ms: fields.int("unpaid_ms")?,
    })
}

/// `session` names the purses of a backend's answers.
pub(super) fn input(fields: Fields<'_>, session: SessionId) -> Read<Input> {
    if fields.opt("received").is_some() {
        return Ok(Input::Received(Bytes::from(fields.bytes("received")?)));
    }
    if let Some(usage) = fields.opt("usage") {
        return reading_from_json(Fields::new(usage)).map(Input::Usage);
    }
    if let Some(said) = fields.opt("command") {
        return command(Fields::new(said)).map(Input::Command);
    }
    if let Some(said) = fields.opt("backend") {
        return backend(Fields::new(said), session).map(Input::Backend);
    }
    if let Some(up) = fields.opt("link_up") {
        return link_up(Fields::new(up)).map(Input::Link);
    }
    let plain = [
        ("timeout", Input::Timeout),
        ("link_down", Input::Link(LinkEvent::Down)),
        ("persist_failed", Input::PersistFailed),
    ];
    let found = plain
        .into_iter()
        .find(|(name, _)| fields.opt(name).is_some());
    found.map(|(_, input)| input).ok_or_else(|| bad("input"))
}

fn command(fields: Fields<'_>) -> Read<Command> {
    if fields.opt("close").is_some() {
        return Ok(Command::Close(CloseCode::from_code(fields.int("close")?)));
    }
    if let Some(offer) = fields.opt("offer_terms") {
        let offer = Fields::new(offer);
        return Ok(Command::OfferTerms {
            terms: Box::new(terms_from_json(offer.object("terms")?)?),
            in_ticks: offer.int("in_ticks")?,
        });
    }
    if fields.opt("top_up").is_some() {
        return msat(fields, "top_up").map(Command::TopUp);
    }
    if fields.opt("grant").is_some() {
        let grant = fields.bytes("grant")?.into();
        return Ok(Command::Grant(MediaGrant(grant)));
    }
    if let Some(command) = member(fields)? {
        return Ok(command);
    }
    let plain = [
        ("request_receipt", Command::RequestReceipt),
        ("pause", Command::Pause),
        ("resume", Command::Resume),
        ("write_off", Command::WriteOff),
        ("agree", Command::Agree),
        ("decline", Command::Decline),
    ];
    let found = plain
        .into_iter()
        .find(|(name, _)| fields.opt(name).is_some());
    found
        .map(|(_, command)| command)
        .ok_or_else(|| bad("command"))
}

/// What the user wants of the room, and gives.
fn member(fields: Fields<'_>) -> Read<Option<Command>> {
    if let Some(join) = fields.opt("join").map(Fields::new) {
        return Ok(Some(Command::Join {
            name: name(join, "name")?,
            invitation: invitation(join)?,
            max_fee: msat(join, "max_fee")?,
        }));
    }
    if fields.opt("chat").is_some() {
        return line(fields, "chat").map(|text| Some(Command::Chat(text)));
    }
    if fields.opt("tip").is_some() {
        return msat(fields, "tip").map(|amount| Some(Command::Tip(amount)));
    }
    if let Some(said) = fields.opt("room") {
        return news(Fields::new(said)).map(|news| Some(Command::Room(news)));
    }
    Ok(fields.opt("leave").map(|_| Command::Leave))
}

fn link_up(fields: Fields<'_>) -> Read<LinkEvent> {
    Ok(LinkEvent::Up {
        identity: ChannelIdentity {
            payer: fields.array("payer")?,
            payee: fields.array("payee")?,
        },
        entropy: Entropy(fields.array("entropy")?),
    })
}

fn backend(fields: Fields<'_>, session: SessionId) -> Read<BackendEvent> {
    let purse = PurseKey {
        session,
        purse: PurseId(fields.int("purse")?),
    };
    let effect = |value: &Value| {
        let fields = Fields::new(value);
        Ok(Effect {
            purse,
            id: EffectId(fields.int("id")?),
            body: fields.bytes("body")?.into(),
        })
    };
    let effects = match fields.opt("effects") {
        Some(_) => fields.list("effects")?.iter().map(effect).collect(),
        None => Ok(vec![]),
    };
    let note = match fields.opt("note") {
        Some(_) => Some(fields.bytes("note")?.into()),
        None => None,
    };
    let answer = Answer {
        outcome: fields.maybe("outcome", outcome)?,
        effects: effects?,
        note,
        ..Answer::default()
    };
    Ok(BackendEvent { purse, answer })
}

fn outcome(fields: Fields<'_>) -> Read<Outcome> {
    let at = |name: &str| fields.opt(name).map(Fields::new);
    if let Some(opened) = at("opened") {
        let usable_until = match opened.opt("usable_until") {
            Some(_) => Some(Unix(opened.int("usable_until")?)),
            None => None,
        };
        return Ok(Outcome::Opened(Opened {
            opening: opened.bytes("opening")?.into(),
            capacity: msat(opened, "capacity")?,
            cost: msat(opened, "cost")?,
            quantum: msat(opened, "quantum")?,
            usable_until,
        }));
    }
    if let Some(paid) = at("paid") {
        let payload = paid.bytes("payload")?.into();
        return Ok(Outcome::Paid { payload });
    }
    if let Some(released) = at("released") {
        let refunded = msat(released, "refunded")?;
        return Ok(Outcome::Released { refunded });
    }
    if let Some(accepted) = at("accepted") {
        let capacity = msat(accepted, "capacity")?;
        let quantum = msat(accepted, "quantum")?;
        return Ok(Outcome::Accepted { capacity, quantum });
    }
    if let Some(settled) = at("settled") {
        let settled = msat(settled, "settled")?;
        return Ok(Outcome::Settled { settled });
    }
    if let Some(failed) = at("failed") {
        return failure(failed).map(Outcome::Failed);
    }
    let plain = [
        ("reclaimed", Outcome::Reclaimed),
        ("outstanding", Outcome::Outstanding),
        ("spent", Outcome::Spent),
        ("credited", Outcome::Credited),
    ];
    let found = plain.into_iter().find(|(name, _)| at(name).is_some());
    found
        .map(|(_, outcome)| outcome)
        .ok_or_else(|| bad("outcome"))
}

pub(super) fn failure(fields: Fields<'_>) -> Read<BackendError> {
    let at = |name: &str| fields.opt(name).map(Fields::new);
    if let Some(rejected) = at("rejected") {
        let consumed = Consumed::from_code(rejected.int("consumed")?);
        let consumed = consumed.ok_or_else(|| bad("consumed"))?;
        let code = RefusalCode::from_code(rejected.int("code")?);
        return Ok(BackendError::Rejected(code, consumed));
    }
    if let Some(fatal) = at("fatal") {
        let code = RefusalCode::from_code(fatal.int("code")?);
        return Ok(BackendError::Fatal(code));
    }
    match (at("transient"), at("unknown")) {
        (Some(_), _) => Ok(BackendError::Transient),
        (_, Some(_)) => Ok(BackendError::Unknown),
        _ => Err(bad("failed")),
    }
}
