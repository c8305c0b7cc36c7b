use serde_json::Value;
use streampay_core::meter::{Rate, Reading, Schedule, Tariff};
use streampay_core::session::Receipt;
use streampay_core::units::Msat;
use streampay_core::wire::{
    Evidence, Hello, Message, Method, Purse, Terms, Tick, Welcome, WireError,
};

use super::name_of;
use crate::json::{Object, hex, int, plain};

/// A message's name and fields.
#[must_use]
pub fn message_to_json(message: &Message) -> Value {
    Object::new()
        .with("type", name_of(message.number()))
        .with("fields", fields(message))
        .done()
}

fn fields(message: &Message) -> Object {
    let new = Object::new();
    match message {
        Message::Hello(hello) => hello_to_json(hello),
        Message::Welcome(welcome) => welcome_to_json(welcome),
        Message::Bind(bind) => new.hex("binding", &bind.binding.0),
        Message::Ready(ready) => {
            new.maybe("evidence", ready.evidence.as_ref().map(evidence_to_json))
        }
        Message::Purse(purse) => purse_to_json(purse),
        Message::PurseOk(ok) => new.int("purse", ok.purse.0),
        Message::PurseRefused(refused) => new
            .int("purse", refused.purse.0)
            .int("code", refused.code.code()),
        Message::Tick(tick) => tick_to_json(tick),
        Message::Ack(ack) => new
            .with("evidence", evidence_to_json(&ack.evidence))
            .maybe("grant", ack.grant.as_deref().map(hex)),
        Message::Nack(nack) => new
            .int("purse", nack.purse.0)
            .int("seq", nack.seq.0)
            .int("code", nack.code.code())
            .int("consumed", nack.consumed.code()),
        Message::Pause(pause) => new
            .int("epoch", pause.epoch)
            .int("reason", pause.reason.code()),
        Message::Resume(resume) => new.int("epoch", resume.epoch),
        Message::Close(close) => new.int("code", close.code.code()),
        Message::Closed(closed) => new
            .int("code", closed.code.code())
            .maybe("evidence", closed.evidence.as_ref().map(evidence_to_json))
            .maybe("proof", closed.proof.map(|proof| hex(&proof.0))),
        Message::Reading(reading) => new
            .int("media_ms", reading.media_ms)
            .int("bytes", reading.bytes),
        other => later(other),
    }
}

/// Offers, receipts on request, rooms.
fn later(message: &Message) -> Object {
    let new = Object::new();
    match message {
        Message::OfferTerms(offer) => new
            .with("terms", terms_to_json(&offer.terms))
            .int("from", offer.from.msat())
            .hex("signature", &offer.signature.0),
        Message::Agree(agree) => new.hex("offer", &agree.offer.0),
        Message::Decline(decline) => new.hex("offer", &decline.offer.0),
        Message::Agreed(agreed) => new.hex("offer", &agreed.offer.0),
        Message::Join(join) => new
            .with("name", join.name.as_str())
            .maybe("invitation", join.invitation.as_deref().map(hex)),
        Message::Joined(joined) => new.with("name", joined.name.as_str()),
        Message::RoomRefused(refused) => new.int("code", refused.code.code()),
        Message::Presence(presence) => new
            .int("epoch", presence.epoch)
            .int("viewers", presence.viewers),
        Message::Chat(chat) => new
            .int("id", chat.id)
            .maybe("sender", chat.sender.as_deref())
            .with("text", chat.text.as_str()),
        Message::Tip(tip) => new
            .int("id", tip.id)
            .with("sender", tip.sender.as_str())
            .int("amount", tip.amount.msat()),
        _ => new,
    }
}

fn hello_to_json(hello: &Hello) -> Object {
    let versions: Vec<Value> = hello.versions.iter().map(|version| int(*version)).collect();
    Object::new()
        .hex("session", &hello.session.0)
        .with("versions", versions)
        .int("features", hello.features)
        .hex("nonce", &hello.nonce)
        .hex("identity", &hello.identity.0)
        .hex("session_key", &hello.session_key.0)
        .maybe("root", hello.root.as_ref().map(|root| hex(root)))
        .maybe("evidence", hello.evidence.as_ref().map(evidence_to_json))
}

fn welcome_to_json(welcome: &Welcome) -> Object {
    Object::new()
        .hex("session", &welcome.session.0)
        .int("version", welcome.version)
        .int("features", welcome.features)
        .hex("nonce", &welcome.nonce)
        .hex("session_key", &welcome.session_key.0)
        .with("terms", terms_to_json(&welcome.terms))
        .hex("terms_signature", &welcome.terms_signature.0)
        .hex("binding", &welcome.binding.0)
}

fn purse_to_json(purse: &Purse) -> Object {
    Object::new()
        .int("purse", purse.purse.0)
        .int("part", purse.part)
        .int("of", purse.of)
        .int("method", purse.method)
        .hex("bytes", &purse.bytes)
}

fn tick_to_json(tick: &Tick) -> Object {
    Object::new()
        .int("purse", tick.purse.0)
        .int("seq", tick.seq.0)
        .int("cumulative", tick.cumulative.msat())
        .hex("payload", &tick.payload)
        .maybe("tips", tick.tips.and_then(amount))
}

/// An amount that is missing where it is zero.
fn amount(amount: Msat) -> Option<Value> {
    (!amount.is_zero()).then(|| int(amount.msat()))
}

/// A receipt and its signature.
#[must_use]
pub fn evidence_to_json(evidence: &Evidence) -> Value {
    Object::new()
        .with("receipt", receipt_to_json(&evidence.receipt))
        .hex("signature", &evidence.signature.0)
        .done()
}

/// A receipt by itself.
pub(crate) fn receipt_to_json(receipt: &Receipt) -> Object {
    Object::new()
        .int("purse", receipt.purse.0)
        .int("seq", receipt.seq.0)
        .int("cumulative", receipt.cumulative.msat())
        .int("total", receipt.total.msat())
        .with("reading", reading_to_json(receipt.reading))
        .maybe("tips", amount(receipt.tips))
}

/// Both meters.
#[must_use]
pub fn reading_to_json(reading: Reading) -> Value {
    Object::new()
        .int("media_ms", reading.media_ms)
        .int("bytes", reading.bytes)
        .done()
}

/// Terms by themselves.
#[must_use]
pub fn terms_to_json(terms: &Terms) -> Value {
    let method = |method: &Method| {
        Object::new()
            .with("name", method.name.as_str())
            .hex("params", &method.params)
            .done()
    };
    Object::new()
        .with("title", terms.title.as_str())
        .with("tariff", tariff_to_json(&terms.tariff))
        .int("tick", terms.tick.msat())
        .int("preview", terms.preview.msat())
        .int("window", terms.window.msat())
        .int("tolerance_permille", terms.tolerance_permille)
        .int("tolerance_ms", terms.tolerance_ms)
        .int("live_ms", terms.live_ms)
        .with(
            "methods",
            terms.methods.iter().map(method).collect::<Vec<_>>(),
        )
        .int("resumable_s", terms.resumable_s)
        .int("expires", terms.expires.0)
        .hex("payee", &terms.payee.0)
        .maybe("join_fee", amount(terms.join_fee))
        .done()
}

/// The price of each meter.
#[must_use]
pub fn tariff_to_json(tariff: &Tariff) -> Value {
    let rate = |rate: Rate| {
        Object::new()
            .int("msat", rate.msat().msat())
            .int("per", rate.per())
    };
    Object::new()
        .maybe("time", tariff.time.map(rate))
        .maybe("bytes", tariff.bytes.map(rate))
        .done()
}

/// A tariff, from where it holds, and what follows it.
#[must_use]
pub fn schedule_to_json(schedule: &Schedule) -> Value {
    let next = schedule.next.map(|next| {
        Object::new()
            .int("from", next.from.msat())
            .with("tariff", tariff_to_json(&next.tariff))
    });
    Object::new()
        .int("base_msat", schedule.base_msat.msat())
        .with("base", reading_to_json(schedule.base))
        .with("tariff", tariff_to_json(&schedule.tariff))
        .maybe("next", next)
        .with("known", reading_to_json(schedule.known))
        .done()
}

/// Why bytes are no message: the error's name and number, and what it is about.
#[must_use]
pub fn error_to_json(error: WireError) -> Value {
    let new = Object::new().int("code", error.code());
    let said = serde_json::to_value(error).map(plain).unwrap_or_default();
    let named = |object: Object, name: &str| object.with("name", name);
    match said {
        Value::String(name) => named(new, &name),
        Value::Object(map) => map.into_iter().fold(new, |object, (name, about)| {
            let object = named(object, &name);
            match about {
                Value::Object(field) => field
                    .into_iter()
                    .fold(object, |object, (key, value)| object.with(&key, value)),
                number => object.with("message", number),
            }
        }),
        other => new.with("name", other),
    }
    .into()
}
