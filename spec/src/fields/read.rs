use bytes::Bytes;
use serde_json::Value;
use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::{NextTariff, PauseReason, Rate, Reading, Schedule, Tariff};
use streampay_core::session::{CloseCode, Hash, Receipt, Signature};
use streampay_core::units::{Msat, PurseId, Seq, SessionId, Unix, XOnlyKey};
use streampay_core::wire::{
    Ack, Agree, Agreed, Bind, Chat, Close, Closed, Decline, Evidence, Hello, Join, Joined, Message,
    Method, Nack, OfferTerms, Pause, Presence, Purse, PurseOk, PurseRefused, Ready, Resume,
    RoomCode, RoomRefused, Terms, Tick, Tip, Welcome,
};

use crate::json::{BadJson, Fields, as_int};

type Read<T> = Result<T, BadJson>;

/// The message with this name and these fields.
///
/// # Errors
/// [`BadJson`] where a field is missing or cannot be written.
pub fn message_from_json(value: &Value) -> Read<Message> {
    let whole = Fields::new(value);
    let (name, map) = (whole.text("type")?, whole.object("fields")?);
    Ok(match name {
        "hello" => Message::Hello(hello(map)?),
        "welcome" => Message::Welcome(welcome(map)?),
        "bind" => Message::Bind(Bind {
            binding: Signature(map.array("binding")?),
        }),
        "ready" => Message::Ready(Ready {
            evidence: map.maybe("evidence", evidence)?,
        }),
        "purse" => Message::Purse(purse(map)?),
        "purse_ok" => Message::PurseOk(PurseOk {
            purse: PurseId(map.int("purse")?),
        }),
        "purse_refused" => Message::PurseRefused(PurseRefused {
            purse: PurseId(map.int("purse")?),
            code: RefusalCode::from_code(map.int("code")?),
        }),
        "tick" => Message::Tick(tick(map)?),
        "ack" => Message::Ack(Ack {
            evidence: evidence(map.object("evidence")?)?,
            grant: opt_bytes(map, "grant")?,
        }),
        "nack" => Message::Nack(nack(map)?),
        "pause" => Message::Pause(Pause {
            epoch: map.int("epoch")?,
            reason: PauseReason::from_code(map.int("reason")?).ok_or_else(|| bad("reason"))?,
        }),
        "resume" => Message::Resume(Resume {
            epoch: map.int("epoch")?,
        }),
        "close" => Message::Close(Close {
            code: CloseCode::from_code(map.int("code")?),
        }),
        "closed" => Message::Closed(Closed {
            code: CloseCode::from_code(map.int("code")?),
            evidence: map.maybe("evidence", evidence)?,
            proof: proof(map)?,
        }),
        "reading" => Message::Reading(reading_from_json(map)?),
        other => later(other, map)?,
    })
}

/// Offers, receipts on request, rooms.
fn later(name: &str, map: Fields<'_>) -> Read<Message> {
    Ok(match name {
        "offer_terms" => Message::OfferTerms(OfferTerms {
            terms: terms_from_json(map.object("terms")?)?,
            from: msat(map, "from")?,
            signature: Signature(map.array("signature")?),
        }),
        "agree" => Message::Agree(Agree { offer: offer(map)? }),
        "decline" => Message::Decline(Decline { offer: offer(map)? }),
        "agreed" => Message::Agreed(Agreed { offer: offer(map)? }),
        "receipt_request" => Message::ReceiptRequest,
        "join" => Message::Join(Join {
            name: map.text("name")?.into(),
            invitation: opt_bytes(map, "invitation")?,
        }),
        "joined" => Message::Joined(Joined {
            name: map.text("name")?.into(),
        }),
        "room_refused" => Message::RoomRefused(RoomRefused {
            code: RoomCode::from_code(map.int("code")?),
        }),
        "presence" => Message::Presence(Presence {
            epoch: map.int("epoch")?,
            viewers: map.int("viewers")?,
        }),
        "chat" => Message::Chat(Chat {
            id: map.int("id")?,
            sender: match map.opt("sender") {
                Some(_) => Some(map.text("sender")?.into()),
                None => None,
            },
            text: map.text("text")?.into(),
        }),
        "tip" => Message::Tip(Tip {
            id: map.int("id")?,
            sender: map.text("sender")?.into(),
            amount: msat(map, "amount")?,
        }),
        "leave" => Message::Leave,
        _ => return Err(bad("type")),
    })
}

fn bad(key: &str) -> BadJson {
    BadJson(key.into())
}

fn offer(map: Fields<'_>) -> Read<Hash> {
    map.array("offer").map(Hash)
}

fn opt_bytes(map: Fields<'_>, key: &str) -> Read<Option<Bytes>> {
    match map.opt(key) {
        Some(_) => map.bytes(key).map(Bytes::from).map(Some),
        None => Ok(None),
    }
}

fn proof(map: Fields<'_>) -> Read<Option<Signature>> {
    match map.opt("proof") {
        Some(_) => Ok(Some(Signature(map.array("proof")?))),
        None => Ok(None),
    }
}

fn msat(map: Fields<'_>, key: &str) -> Read<Msat> {
    Msat::new(map.int(key)?).map_err(|_| bad(key))
}

/// An amount that is missing where it is zero.
fn amount(map: Fields<'_>, key: &str) -> Read<Option<Msat>> {
    match map.opt(key) {
        Some(_) => msat(map, key).map(Some),
        None => Ok(None),
    }
}

fn hello(map: Fields<'_>) -> Read<Hello> {
    let version = |value: &Value| {
        let number = as_int(value).and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| bad("versions"))
    };
    let root = match map.opt("root") {
        Some(_) => Some(map.array("root")?),
        None => None,
    };
    Ok(Hello {
        session: SessionId(map.array("session")?),
        versions: map
            .list("versions")?
            .iter()
            .map(version)
            .collect::<Read<_>>()?,
        features: map.int("features")?,
        nonce: map.array("nonce")?,
        identity: XOnlyKey(map.array("identity")?),
        session_key: XOnlyKey(map.array("session_key")?),
        root,
        evidence: map.maybe("evidence", evidence)?,
    })
}

fn welcome(map: Fields<'_>) -> Read<Welcome> {
    Ok(Welcome {
        session: SessionId(map.array("session")?),
        version: map.int("version")?,
        features: map.int("features")?,
        nonce: map.array("nonce")?,
        session_key: XOnlyKey(map.array("session_key")?),
        terms: terms_from_json(map.object("terms")?)?,
        terms_signature: Signature(map.array("terms_signature")?),
        binding: Signature(map.array("binding")?),
    })
}

fn purse(map: Fields<'_>) -> Read<Purse> {
    Ok(Purse {
        purse: PurseId(map.int("purse")?),
        part: map.int("part")?,
        of: map.int("of")?,
        method: map.int("method")?,
        bytes: map.bytes("bytes")?.into(),
    })
}

fn tick(map: Fields<'_>) -> Read<Tick> {
    Ok(Tick {
        purse: PurseId(map.int("purse")?),
        seq: Seq(map.int("seq")?),
        cumulative: msat(map, "cumulative")?,
        payload: map.bytes("payload")?.into(),
        tips: amount(map, "tips")?,
    })
}

fn nack(map: Fields<'_>) -> Read<Nack> {
    Ok(Nack {
        purse: PurseId(map.int("purse")?),
        seq: Seq(map.int("seq")?),
        code: RefusalCode::from_code(map.int("code")?),
        consumed: Consumed::from_code(map.int("consumed")?).ok_or_else(|| bad("consumed"))?,
    })
}

pub(crate) fn receipt(map: Fields<'_>) -> Read<Receipt> {
    Ok(Receipt {
        purse: PurseId(map.int("purse")?),
        seq: Seq(map.int("seq")?),
        cumulative: msat(map, "cumulative")?,
        total: msat(map, "total")?,
        reading: reading_from_json(map.object("reading")?)?,
        tips: amount(map, "tips")?.unwrap_or_default(),
    })
}

/// A receipt and its signature.
///
/// # Errors
/// [`BadJson`].
pub fn evidence_from_json(map: Fields<'_>) -> Read<Evidence> {
    evidence(map)
}

fn evidence(map: Fields<'_>) -> Read<Evidence> {
    Ok(Evidence {
        receipt: receipt(map.object("receipt")?)?,
        signature: Signature(map.array("signature")?),
    })
}

/// Both meters.
///
/// # Errors
/// [`BadJson`] where one is missing.
pub fn reading_from_json(map: Fields<'_>) -> Read<Reading> {
    Ok(Reading {
        media_ms: map.int("media_ms")?,
        bytes: map.int("bytes")?,
    })
}

/// Terms by themselves.
///
/// # Errors
/// [`BadJson`] where a field is missing or cannot be written.
pub fn terms_from_json(map: Fields<'_>) -> Read<Terms> {
    let method = |value: &Value| {
        let map = Fields::new(value);
        Ok(Method {
            name: map.text("name")?.into(),
            params: map.bytes("params")?,
        })
    };
    Ok(Terms {
        title: map.text("title")?.into(),
        tariff: tariff_from_json(map.object("tariff")?)?,
        tick: msat(map, "tick")?,
        preview: msat(map, "preview")?,
        window: msat(map, "window")?,
        tolerance_permille: map.int("tolerance_permille")?,
        tolerance_ms: map.int("tolerance_ms")?,
        live_ms: map.int("live_ms")?,
        methods: map
            .list("methods")?
            .iter()
            .map(method)
            .collect::<Read<_>>()?,
        resumable_s: map.int("resumable_s")?,
        expires: Unix(map.int("expires")?),
        payee: XOnlyKey(map.array("payee")?),
        join_fee: amount(map, "join_fee")?.unwrap_or_default(),
    })
}

/// The price of each meter.
///
/// # Errors
/// [`BadJson`] where a rate is none.
pub fn tariff_from_json(map: Fields<'_>) -> Read<Tariff> {
    let rate = |map: Fields<'_>| {
        let msat = msat(map, "msat")?;
        Rate::new(msat, map.int("per")?).map_err(|_| bad("per"))
    };
    Ok(Tariff {
        time: map.maybe("time", rate)?,
        bytes: map.maybe("bytes", rate)?,
    })
}

/// A tariff, from where it holds, and what follows it.
///
/// # Errors
/// [`BadJson`] where a part is missing.
pub fn schedule_from_json(map: Fields<'_>) -> Read<Schedule> {
    let next = |map: Fields<'_>| {
        Ok(NextTariff {
            from: msat(map, "from")?,
            tariff: tariff_from_json(map.object("tariff")?)?,
        })
    };
    Ok(Schedule {
        base_msat: msat(map, "base_msat")?,
        base: reading_from_json(map.object("base")?)?,
        tariff: tariff_from_json(map.object("tariff")?)?,
        next: map.maybe("next", next)?,
        known: reading_from_json(map.object("known")?)?,
    })
}
