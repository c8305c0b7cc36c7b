//! Payees that offer a price next to nothing, never confirm it, and take it back for the old one; and one whose next
//! price takes in what was bought by the last.

use streampay_core::meter::Reading;
use streampay_core::wire::{Agreed, Message, OfferTerms};

use super::Script;
use super::meters::passes;
use super::payees::{pay_if_asked, signed};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::{msat, rate};
use crate::transcripts::payer::{first_tick_of, offer, reading, rebind, watch};

pub(super) const SCRIPTS: &[Script] = &[
    Script::new(
        "payee sends on in a pause at a price that it takes back",
        sends_on,
    ),
    Script::new(
        "payee has its user consent to hours at a price that it takes back",
        consent_to_hours,
    ),
    Script::new(
        "payee claims an hour at a price that it takes back",
        claims_an_hour,
    ),
    Script::new(
        "payee prices anew what its user consented to",
        prices_consent_anew,
    ),
];

/// One second of the first tick was watched.
fn watched(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    Ok(payee)
}

/// From `from` on, 1 msat buys seven weeks.
fn cheap(payee: &Payee, from: u64) -> Message {
    let offered = OfferTerms {
        from: msat(from),
        ..offer(payee)
    };
    at_rate(offered, payee, 1, u32::MAX.into())
}

/// The old price, from an amount that nobody comes to.
fn old_again(payee: &Payee) -> Message {
    let offered = OfferTerms {
        from: msat(80_000),
        ..offer(payee)
    };
    at_rate(offered, payee, 2_000, 10_000)
}

fn at_rate(mut offer: OfferTerms, payee: &Payee, msat: u64, per: u64) -> Message {
    offer.terms.tariff.time = rate(msat, per);
    signed(&mut offer, payee);
    Message::OfferTerms(offer)
}

fn must_agree(stage: &Stage<'_>) -> Played {
    let agrees = |sent: &Message| matches!(sent, Message::Agree(_));
    stage.must(stage.sent().iter().any(agrees), "agree to a lower price")
}

/// An hour in a pause is less than a step at the one price, and its budget at the other.
fn sends_on(stage: &mut Stage<'_>) -> Played {
    let payee = watched(stage)?;
    stage.command("pause", Object::new())?;
    stage.receive(&cheap(&payee, 2_000))?;
    must_agree(stage)?;
    watch(stage, 1_000, 3_600_000)?;
    stage.receive(&old_again(&payee))?;
    stage.command("resume", Object::new())?;
    let mut seq = 1;
    pay_if_asked(stage, &payee, &mut seq, 1_000)?;
    passes(stage, 20, |stage| {
        stage.usage(3_600_000)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)
    })?;
    // 10 s that are paid, a step more, and the tick ahead.
    stage.must(seq <= 3, "pay for what it did not ask for")
}

/// Ten hours are nothing more to consent to than a payment at the one price.
fn consent_to_hours(stage: &mut Stage<'_>) -> Played {
    let payee = watched(stage)?;
    watch(stage, 1_000, 9_800)?;
    stage.receive(&cheap(&payee, 4_000))?;
    must_agree(stage)?;
    stage.receive(&reading(36_000_000))?;
    if stage.told("paused") {
        stage.command("resume", Object::new())?;
    }
    let mut seq = 1;
    pay_if_asked(stage, &payee, &mut seq, 9_800)?;
    stage.receive(&old_again(&payee))?;
    pay_if_asked(stage, &payee, &mut seq, 9_800)?;
    passes(stage, 20, |stage| {
        stage.usage(9_800)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)
    })?;
    // What came, a tick and a lease by consent, and the tick ahead.
    stage.must(seq <= 3, "pay for what a consent is to at most")
}

/// An hour of silence is late media at the one price, which a payment buys all of.
fn claims_an_hour(stage: &mut Stage<'_>) -> Played {
    let mut payee = watched(stage)?;
    stage.receive(&cheap(&payee, 2_000))?;
    must_agree(stage)?;
    stage.usage(3_600_000)?;
    for _ in 0..360 {
        stage.link_down()?;
        rebind(stage, &mut payee, Some(1))?;
        stage.pass_ms(10_000);
        stage.usage(3_600_000)?;
    }
    stage.receive(&old_again(&payee))?;
    let mut seq = 1;
    pay_if_asked(stage, &payee, &mut seq, 1_000)?;
    passes(stage, 20, |stage| {
        stage.usage(3_600_000)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)
    })?;
    // 3 s that the clock lets count, 10 s that are late, and the tick ahead.
    stage.must(seq <= 3, "pay for silence")
}

/// Two gigabytes are worth a tick by the price that holds, and a thousand ticks by the next, which begins just after
/// them.
fn prices_consent_anew(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.tariff.bytes = rate(1, 1_000_000);
    cast.max_tariff.bytes = rate(1, 1_000);
    let payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    let mut next = OfferTerms {
        terms: payee.terms.clone(),
        ..offer(&payee)
    };
    next.terms.tariff.bytes = cast.max_tariff.bytes;
    signed(&mut next, &payee);
    let offer = next.hash(payee.hello.session);
    stage.receive(&Message::OfferTerms(next.clone()))?;
    stage.command("agree", Object::new())?;
    must_agree(stage)?;
    stage.receive(&Message::Agreed(Agreed { offer }))?;
    stage.judge.next = Some(next.terms.tariff);
    let mut seq = 1;
    watch(stage, 1_000, 9_500)?;
    pay_if_asked(stage, &payee, &mut seq, 9_500)?;
    stage.receive(&Message::Reading(Reading {
        media_ms: 9_500,
        bytes: 2_090_000_000,
    }))?;
    stage.must(stage.told("paused"), "ask its user")?;
    stage.command("resume", Object::new())?;
    pay_if_asked(stage, &payee, &mut seq, 9_500)?;
    for at in 10..16 {
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
        pay_if_asked(stage, &payee, &mut seq, 9_500)?;
    }
    // Two payments up to where the price begins, and the one ahead.
    stage.must(seq <= 3, "pay for it once")
}
