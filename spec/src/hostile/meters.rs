//! Payees whose media comes when it should not, or says that it came.

use streampay_core::wire::{Agreed, Message, OfferTerms};

use super::Script;
use super::payees::{pay_if_asked, signed};
use crate::json::Object;
use crate::peer::{Cast, Played, Stage};
use crate::people::rate;
use crate::transcripts::payer::{first_tick_of, offer, reading, rebind, watch};

pub(super) const SCRIPTS: &[Script] = &[
    Script::new(
        "payee sends on in a pause, and drops the line within it",
        sends_on_over_a_lost_line,
    ),
    Script::new("payee claims an hour, then sends little", claims_first),
    Script::new("payee claims before a silence and after it", claims_twice),
    Script::new(
        "payee has its user consent to what waits for the clock",
        consent_to_what_waits,
    ),
    Script::new("stranger sends media for a payee", strangers_media),
    Script::new(
        "payee sells a silence by the bytes that begin another price",
        silence_by_bytes,
    ),
];

/// Second by second, as long as there is a session.
pub(super) fn passes(
    stage: &mut Stage<'_>,
    seconds: u64,
    mut then: impl FnMut(&mut Stage<'_>) -> Played,
) -> Played {
    for _ in 0..seconds {
        if stage.is_over() {
            break;
        }
        stage.pass_ms(1_000);
        then(stage)?;
    }
    Ok(())
}

/// Terms that tolerate nearly a tick. In the pause, 10 s that are paid and what is tolerated come; then the line
/// goes, and as much comes again before the next one is bound.
fn sends_on_over_a_lost_line(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.tolerance_ms = 9_990;
    let mut payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.command("pause", Object::new())?;
    watch(stage, 1_000, 19_990)?;
    stage.link_down()?;
    watch(stage, 19_990, 29_980)?;
    rebind(stage, &mut payee, Some(1))?;
    stage.command("resume", Object::new())?;
    let mut seq = 1;
    pay_if_asked(stage, &payee, &mut seq, 19_990)?;
    passes(stage, 20, |stage| {
        stage.usage(29_980)?;
        pay_if_asked(stage, &payee, &mut seq, 19_990)
    })?;
    // 10 s that were paid, nearly as much that is tolerated, and the tick ahead.
    stage.must(seq <= 3, "pay for what came after that")
}

/// An hour by forged stamps, at once; then a packet in half a minute.
fn claims_first(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    let (mut seq, mut own) = (1, 3_600_000);
    stage.usage(own)?;
    for _ in 0..40 {
        own += 20;
        stage.pass_ms(25_000);
        stage.usage(own)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)?;
    }
    // 3 s that the clock lets count, 10 s that may wait for it, 1 s that came: two ticks.
    stage.must(seq <= 2, "pay for silence")
}

/// Some seconds by forged stamps, silence, and more of them.
fn claims_twice(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    let mut seq = 1;
    stage.usage(10_000)?;
    passes(stage, 25, |stage| {
        stage.usage(10_000)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)
    })?;
    stage.usage(60_000)?;
    pay_if_asked(stage, &payee, &mut seq, 1_000)?;
    // 3 s that the clock lets count, and 10 s of the silence.
    stage.must(seq <= 2, "pay for ten seconds of silence")
}

/// 9 s at once, of which the clock lets 3 count, and a reading that is ahead by more than a tick: what its user
/// consents to is what waits.
fn consent_to_what_waits(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.usage(9_000)?;
    stage.receive(&reading(21_000))?;
    stage.must(stage.told("paused"), "ask its user")?;
    stage.command("resume", Object::new())?;
    let mut seq = 1;
    pay_if_asked(stage, &payee, &mut seq, 21_000)?;
    passes(stage, 10, |stage| {
        stage.usage(9_000)?;
        pay_if_asked(stage, &payee, &mut seq, 21_000)
    })?;
    // 3 s, a tick and a lease by consent, and what is tolerated.
    stage.must(seq <= 2, "pay for it once")
}

/// Both meters cost something: 4 msat for 1 000 bytes.
fn both() -> Played<Cast> {
    let mut cast = Cast::usual()?;
    cast.terms.tariff.bytes = rate(1_000, 250_000);
    cast.max_tariff.bytes = rate(5_000, 250_000);
    Ok(cast)
}

/// The payer is led to somebody who sends it 25 MB and is never bound, and then back.
fn strangers_media(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick_of(stage, &both()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.link_down()?;
    stage.link_up()?;
    stage.pass_ms(1_000);
    stage.usage_of(1_000, 25_000_000)?;
    stage.link_down()?;
    rebind(stage, &mut payee, Some(1))?;
    let mut seq = 1;
    passes(stage, 20, |stage| {
        stage.wait_ms(0)?;
        pay_if_asked(stage, &payee, &mut seq, 1_000)
    })?;
    stage.usage_of(1_200, 25_001_000)?;
    pay_if_asked(stage, &payee, &mut seq, 1_200)?;
    stage.must(seq <= 2, "pay for what its payee sent")
}

/// Time costs next to nothing, and what it cost before from an amount on, to which its user consented. Bytes come up to
/// just there, and after a minute one reading with a minute of media.
fn silence_by_bytes(stage: &mut Stage<'_>) -> Played {
    let mut cast = both()?;
    cast.terms.tariff.time = rate(1, u32::MAX.into());
    let payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.pass_ms(40);
    let mut next = OfferTerms {
        terms: payee.terms.clone(),
        ..offer(&payee)
    };
    next.terms.tariff.time = cast.max_tariff.time;
    signed(&mut next, &payee);
    let hash = next.hash(payee.hello.session);
    stage.receive(&Message::OfferTerms(next.clone()))?;
    stage.command("agree", Object::new())?;
    stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
    stage.judge.next = Some(next.terms.tariff);
    let mut seq = 1;
    for bytes in (50_000..1_000_000).step_by(50_000) {
        stage.pass_ms(1_000);
        stage.usage_of(0, bytes)?;
        pay_if_asked(stage, &payee, &mut seq, 0)?;
    }
    stage.usage_of(0, 999_500)?;
    pay_if_asked(stage, &payee, &mut seq, 0)?;
    stage.pass_ms(60_000);
    stage.usage_of(60_000, 1_001_000)?;
    pay_if_asked(stage, &payee, &mut seq, 0)?;
    // 4 000 msat of bytes, 10 s at 0.5 msat a ms, and the tick ahead.
    stage.must(seq <= 6, "pay for ten seconds of silence")
}
