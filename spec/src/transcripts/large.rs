//! The largest messages: an opening of several parts, and a payment that fills a tick.

use bytes::Bytes;
use streampay_core::units::PurseId;
use streampay_core::wire::{Message, PAYLOAD_MAX, Purse, PurseOk, Tick};

use super::payee::{bound as payee_bound, capacity, opened};
use super::payer::{bound, ticked};
use super::{Scene, scene};
use crate::json::{Object, hex};
use crate::peer::{Cast, Played, Stage};

/// What each part of an opening but the last should hold. Spec: session 4.
const PART: usize = 15_360;
/// Two whole parts, and some more.
const OPENING: usize = 40_000;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "purse-cut-at-15360",
        "An opening of 40 000 bytes goes in parts of 15 360, and again after 2 s, the same bytes.",
        payer_cuts,
    ),
    scene(
        "payee",
        "purse-cut-at-15360",
        "An opening of 40 000 bytes comes in parts of 15 360, and is shown to the backend whole.",
        payee_joins,
    ),
    scene(
        "payer",
        "payload-of-15360",
        "The backend's payment fills a tick: it goes as it is.",
        payer_pays,
    ),
    scene(
        "payee",
        "payload-of-15360",
        "A tick comes with the longest payload: the backend is shown all of it, and it is credited.",
        payee_takes,
    ),
];

/// Bytes of which no two parts are the same.
fn counting(len: usize) -> Vec<u8> {
    let bytes = (0..251_u8).cycle();
    bytes.take(len).collect()
}

fn parts(sent: &[Message]) -> Vec<Bytes> {
    let part = |message: &Message| match message {
        Message::Purse(purse) => Some(purse.bytes.clone()),
        _ => None,
    };
    sent.iter().filter_map(part).collect()
}

fn payer_cuts(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    let whole = counting(OPENING);
    let purse = stage.asked_purse("open");
    let opened = Object::new()
        .hex("opening", &whole)
        .int("capacity", 10_000_u64)
        .int("cost", 10_000_u64)
        .int("quantum", 1_000_u64);
    stage.answer(purse, "opened", opened)?;
    let shown = parts(&stage.sent());
    let sizes: Vec<usize> = shown.iter().map(Bytes::len).collect();
    let sized = sizes == [PART, PART, OPENING % PART];
    stage.must(sized && shown.concat() == whole, "cut it at 15 360")?;
    stage.wait_ms(2_000)?;
    stage.must(parts(&stage.sent()) == shown, "show all parts again")?;
    let purse = PurseId(purse);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.must(stage.asked("pay").is_some(), "pay from it")
}

fn payee_joins(stage: &mut Stage<'_>) -> Played {
    let payer = payee_bound(stage, &Cast::usual()?)?;
    let whole = Bytes::from(counting(OPENING));
    for (part, from) in (0..OPENING).step_by(PART).enumerate() {
        stage.must(stage.asked("accept").is_none(), "wait for the rest")?;
        let to = from.saturating_add(PART).min(OPENING);
        let part = u16::try_from(part).map_err(|error| error.to_string())?;
        stage.receive(&Message::Purse(Purse {
            part,
            of: 3,
            bytes: whole.slice(from..to),
            ..payer.purse(0)
        }))?;
    }
    shown(stage, "accept", "opening", &whole)?;
    stage.answer(0, "accepted", capacity())?;
    let sent = stage.sent();
    stage.must(matches!(sent[..], [Message::PurseOk(_)]), "accept it")
}

fn payer_pays(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    stage.open_purse(payee.hello.session, 10_000)?;
    let purse = PurseId(0);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.must(stage.asked("pay").is_some(), "ask for a payment")?;
    let payload = counting(PAYLOAD_MAX);
    stage.answer(0, "paid", Object::new().hex("payload", &payload))?;
    stage.must(ticked(stage)?.payload == payload, "say it whole")?;
    stage.pass_ms(40);
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("tick_paid"), "count the ack")
}

fn payee_takes(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    let payload = Bytes::from(counting(PAYLOAD_MAX));
    stage.receive(&Message::Tick(Tick {
        payload: payload.clone(),
        ..payer.tick(0, 1)
    }))?;
    shown(stage, "receive", "payload", &payload)?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(stage.told("tick_received"), "credit it")
}

/// The backend is asked for `request`, whose `key` is these bytes.
fn shown(stage: &Stage<'_>, request: &str, key: &str, bytes: &Bytes) -> Played {
    let shown = stage.asked(request).and_then(|asked| asked.get(key));
    let whole = shown.and_then(|shown| shown.as_str()) == Some(&hex(bytes));
    stage.must(whole, "show all of it to the backend")
}
