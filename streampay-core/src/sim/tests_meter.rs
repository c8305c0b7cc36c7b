//! The payer's meter: what a consent costs, what a death forgets.

use super::*;
use crate::meter::{PauseReason, Rate, Reading, Schedule};
use crate::session::{Command, Event, Input};
use crate::units::Msat;
use crate::wire::{Message, decode, encode};

const PAYER: Direction = Direction::ToPayer;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// A reading of all that was paid and a payment and nearly a lease more: a drift of two payments.
#[test]
fn consent_to_drift_costs_a_payment_and_a_lease_at_most() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(300, &[]).unwrap();
    let (paid, booked) = pair.payer().map(|of| (of.paid(), of.booked())).unwrap();
    assert_eq!((paid, booked), (sat(2), Reading::default()));
    let reading = Reading {
        media_ms: 2_240,
        bytes: 0,
    };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
    let drift = |event: &Event| {
        matches!(
            event,
            Event::Paused {
                reason: PauseReason::Drift,
                ..
            }
        )
    };
    assert!(pair.events(PAYER).iter().any(drift));
    pair.command(PAYER, Command::Resume);
    let payer = pair.payer().unwrap();
    let booked = payer.booked().media_ms;
    assert!((1_000..=1_250).contains(&booked), "{booked} ms at once");
    // The rest is no more than a payment: no further consent is asked for.
    assert!(payer.paid() <= sat(4));
    pair.run(1_000, &[]).unwrap();
    pair.settle().unwrap();
}

/// Bytes cost something too: what came of them in less than a second of media is durable.
#[test]
fn death_forgets_no_bytes_that_are_worth_more_than_a_part_of_a_payment() {
    let mut pair = Pair::new(PairConfig {
        bytes_msat: 2_000,
        ..PairConfig::default()
    });
    pair.run(300, &[]).unwrap();
    let mut raw = pair.payer.reading;
    raw.bytes += 60_000;
    pair.input(PAYER, Input::Usage(raw));
    let before = pair.payer().unwrap().reading();
    assert!(before.bytes >= 60_000);
    pair.payer.die();
    pair.payer_back = Some(pair.now.mono.after_ms(100));
    pair.take_link_down(50);
    pair.run(110, &[]).unwrap();
    let after = pair.payer().unwrap().reading();
    // A quarter of a tick of bytes.
    assert!(
        after.bytes + 25_000 >= before.bytes,
        "{after:?}, {before:?}"
    );
}

/// So much media comes, nobody's but the payer's meter's, in packets of 20 ms as time passes.
fn comes(pair: &mut Pair, media_ms: u64) {
    for _ in 0..media_ms / 20 {
        pair.run(20, &[]).unwrap();
        pair.payer.reading.media_ms += 20;
        pair.received.media_ms += 20;
        let reading = pair.payer.reading;
        pair.input(PAYER, Input::Usage(reading));
    }
}

/// A tolerance of nearly a payment. What came of the pause before its connection was lost and what comes before
/// the next one is bound are worth a payment together, not each.
#[test]
fn connection_that_is_lost_within_a_pause_makes_no_room_for_another_payment() {
    let mut pair = Pair::new(PairConfig {
        tolerance_ms: 950,
        ..PairConfig::default()
    });
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let payer = pair.payer().unwrap();
    let used = payer.schedule().used(payer.reading());
    let most = payer.paid().max(used).saturating_plus(pair.config.tick);
    comes(&mut pair, 4_000);
    pair.tamper(|_, _| vec![]);
    pair.run(1_000, &[(0, Fault::LinkDown(300))]).unwrap();
    comes(&mut pair, 4_000);
    pair.tamper = None;
    pair.run(4_000, &[]).unwrap();
    let delivered = pair.delivered().media_ms;
    pair.command(PAYER, Command::Resume);
    pair.run(3_000, &[]).unwrap();
    let (payer, delivered_now) = (pair.payer().unwrap(), pair.delivered().media_ms);
    let sent = delivered_now - delivered;
    assert!(sent > 500, "it flows again");
    let unasked = Reading {
        media_ms: payer.reading().media_ms - sent,
        bytes: 0,
    };
    let used = payer.schedule().used(unasked);
    assert!(used <= most, "{used} of {most}");
}

/// The payee sends nothing more.
fn falls_silent(pair: &mut Pair) {
    pair.media_at = pair.now.mono.after_ms(86_400_000);
}

/// A tenth of the price is agreed to, and the payee never hears that. What comes in a pause is worth a payment
/// beyond what is paid, once the payee offers something else in its place too.
#[test]
fn price_that_is_not_confirmed_makes_no_room_in_a_pause() {
    let mut pair = Pair::new(PairConfig {
        preview: sat(5),
        ..PairConfig::default()
    });
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Agree(_))) if to != PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(9_800, &[(4_000, Fault::OfferTariff(10))]).unwrap();
    pair.command(PAYER, Command::Pause);
    let payer = pair.payer().unwrap();
    assert!(payer.schedule().next.is_some(), "it agreed");
    let most = payer.paid().saturating_plus(pair.config.tick);
    comes(&mut pair, 15_000);
    pair.run(100, &[(0, Fault::OfferTariff(100))]).unwrap();
    let payer = pair.payer().unwrap();
    let counted = Schedule::new(payer.schedule().tariff).used(payer.reading());
    assert!(counted <= most, "{counted} of {most}");
    assert!(
        counted.saturating_plus(sat(1)) > most,
        "{counted} of {most}"
    );
}

fn drift(event: &Event) -> bool {
    let reason = PauseReason::Drift;
    matches!(event, Event::Paused { reason: of, .. } if *of == reason)
}

/// The payee has a window of five payments, and delivered all of it before it heard that its payer had paused. Each consent
/// is to a payment and a lease at most, and the last of them comes to the end of it.
#[test]
fn payee_that_is_ahead_by_a_window_is_caught_up_with_consent_by_consent() {
    let mut pair = Pair::new(PairConfig {
        window: sat(10),
        consents: false,
        ..PairConfig::default()
    });
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    let used = |pair: &Pair| {
        let payer = pair.payer().unwrap();
        payer.schedule().used(plus(payer.reading(), payer.booked()))
    };
    let media_ms = counted(&pair) + 5_500;
    let reading = Reading { media_ms, bytes: 0 };
    let mut consents = 0;
    while pair.payer().unwrap().reading().media_ms + pair.payer().unwrap().booked().media_ms + 1_000
        < media_ms
    {
        let before = used(&pair);
        pair.inject(PAYER, &encode(&Message::Reading(reading)));
        pair.command(PAYER, Command::Resume);
        let grown = used(&pair).saturating_minus(before).msat();
        assert!(
            grown > 0 && grown <= pair.config.tick.msat() * 5 / 4,
            "{grown}"
        );
        pair.run(500, &[]).unwrap();
        consents += 1;
        assert!(consents < 20);
    }
    assert!(consents > 2, "{consents}");
}

const fn plus(one: Reading, other: Reading) -> Reading {
    Reading {
        media_ms: one.media_ms + other.media_ms,
        bytes: one.bytes + other.bytes,
    }
}

/// By what was agreed to the payee's reading is right, and the confirmation is on its way. By none it is drift.
#[test]
fn reading_that_waits_for_a_confirmation_is_no_drift() {
    for (ahead_ms, pauses) in [(5_000, false), (60_000, true)] {
        let mut pair = Pair::new(PairConfig {
            preview: sat(5),
            consents: false,
            ..PairConfig::default()
        });
        pair.tamper(|to, bytes| match decode(bytes) {
            Ok(Some(Message::Agree(_))) if to != PAYER => vec![],
            _ => vec![bytes.clone()],
        });
        pair.run(9_800, &[(4_000, Fault::OfferTariff(10))]).unwrap();
        let media_ms = counted(&pair) + ahead_ms;
        let reading = Reading { media_ms, bytes: 0 };
        pair.inject(PAYER, &encode(&Message::Reading(reading)));
        let paused = pair.events(PAYER).iter().any(drift);
        assert_eq!(paused, pauses, "{ahead_ms} ms");
        pair.command(PAYER, Command::Resume);
        let payer = pair.payer().unwrap();
        let alone = Schedule::new(payer.schedule().tariff);
        let booked = alone.tariff.price(payer.booked());
        // A payment and a lease, by either price.
        let most = pair.config.tick.msat() * 5 / 4;
        assert!(booked.msat() <= most, "{booked} by one consent");
    }
}

/// A price from an amount that nobody has come to yet is none of a consent.
#[test]
fn dearer_price_that_is_far_off_does_not_make_a_consent_dearer() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(2_000, &[]).unwrap();
    let mut terms = Box::new(pair.payee().unwrap().terms().clone());
    let time = terms.tariff.time.unwrap();
    let dearer = time.msat().times(2).unwrap();
    terms.tariff.time = Rate::new(dearer, time.per()).ok();
    let in_ticks = 50;
    pair.command(Direction::ToPayee, Command::OfferTerms { terms, in_ticks });
    pair.run(300, &[]).unwrap();
    assert!(pair.payer().unwrap().schedule().next.is_some(), "agreed");
    let payer = pair.payer().unwrap();
    let tick = pair.config.tick;
    let most = payer.paid().max(payer.schedule().used(payer.reading()));
    // A lease is a quarter of what a payment buys.
    let most = most.saturating_plus(tick).msat() + tick.msat() / 4;
    let price = |media_ms| payer.schedule().used(Reading { media_ms, bytes: 0 }).msat();
    let media_ms = (0..).find(|ms| price(*ms) > most).unwrap();
    let reading = Reading { media_ms, bytes: 0 };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
    assert!(pair.events(PAYER).iter().any(drift));
    pair.command(PAYER, Command::Resume);
    let payer = pair.payer().unwrap();
    let booked = payer.schedule().tariff.price(payer.booked());
    assert!(
        booked.msat() <= tick.msat() * 5 / 4,
        "{booked} by one consent"
    );
}

/// So much media at once, by time stamps that are forged.
fn claims(pair: &mut Pair, media_ms: u64) {
    pair.payer.reading.media_ms += media_ms;
    pair.received.media_ms += media_ms;
    let reading = pair.payer.reading;
    pair.input(PAYER, Input::Usage(reading));
}

/// Time passes; the payer's meter reads the same, and is told each half second.
fn passes(pair: &mut Pair, ms: u64) {
    for _ in 0..ms / 500 {
        pair.run(500, &[]).unwrap();
        claims(pair, 0);
    }
}

fn counted(pair: &Pair) -> u64 {
    pair.payer().unwrap().reading().media_ms
}

/// An hour by forged stamps, and then nothing, or a packet now and then.
#[test]
fn media_that_is_claimed_in_advance_pays_for_ten_seconds_of_silence() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    claims(&mut pair, 3_600_000);
    let before = counted(&pair);
    passes(&mut pair, 60_000);
    assert_eq!(counted(&pair) - before, 10_000);
    for _ in 0..10 {
        claims(&mut pair, 20);
        passes(&mut pair, 20_000);
    }
    assert_eq!(counted(&pair) - before, 10_200);
}

/// What is claimed before the silence and what is claimed after it is no more together.
#[test]
fn media_that_is_claimed_once_more_after_a_silence_pays_for_no_more_of_it() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    claims(&mut pair, 8_000);
    let before = counted(&pair);
    passes(&mut pair, 60_000);
    claims(&mut pair, 60_000);
    assert_eq!(counted(&pair) - before, 10_000);
}

/// The same before a connection is bound.
#[test]
fn media_that_is_claimed_before_the_connection_is_bound_pays_for_ten_seconds_of_silence() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    pair.tamper(|_, _| vec![]);
    pair.run(1_000, &[(0, Fault::LinkDown(300))]).unwrap();
    let (before, delivered) = (counted(&pair), pair.delivered().media_ms);
    claims(&mut pair, 3_600_000);
    pair.tamper = None;
    pair.run(4_000, &[]).unwrap();
    falls_silent(&mut pair);
    passes(&mut pair, 60_000);
    let sent = pair.delivered().media_ms - delivered;
    assert!(sent > 1_000, "it flows again");
    assert_eq!(counted(&pair) - before, sent + 10_000);
}

/// Some seconds wait for the clock, and the payee's reading has them too. What the user consents to is paid,
/// and not once more when their time has come.
#[test]
fn consent_to_drift_pays_once_for_what_waits_for_the_clock() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    claims(&mut pair, 6_000);
    pair.run(200, &[]).unwrap();
    let (own, came) = (counted(&pair), pair.payer.reading.media_ms);
    assert!(own + 3_000 < came, "{own} of {came}");
    let media_ms = own + 1_200;
    let reading = Reading { media_ms, bytes: 0 };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
    pair.command(PAYER, Command::Resume);
    let booked = pair.payer().unwrap().booked().media_ms;
    assert_eq!(booked, 1_200);
    passes(&mut pair, 10_000);
    assert_eq!(counted(&pair) + booked, came);
}

/// Nine seconds come at once, and the payee's own reading is at the end of its credit: while they wait for the clock
/// nobody is asked.
#[test]
fn what_waits_for_the_clock_is_no_drift() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    // A payment buys ten seconds.
    pair.run(4_000, &[(500, Fault::OfferTariff(10))]).unwrap();
    let paid = pair.payer().unwrap().paid();
    falls_silent(&mut pair);
    let price = |media_ms| {
        pair.payer()
            .unwrap()
            .schedule()
            .used(Reading { media_ms, bytes: 0 })
    };
    let all = (0..)
        .find(|ms| price(*ms) >= pair.payer().unwrap().paid())
        .unwrap();
    let came = pair.payer.reading.media_ms;
    claims(&mut pair, all - came);
    let reading = Reading {
        media_ms: all,
        bytes: 0,
    };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
    assert!(counted(&pair) + 5_000 < all, "most of it waits");
    pair.run(12_000, &[]).unwrap();
    let stalled = |event: &Event| matches!(event, Event::Stalled { .. });
    assert!(pair.events(PAYER).iter().any(stalled));
    assert!(!pair.events(PAYER).iter().any(drift));
    assert_eq!(counted(&pair), all);
    assert!(pair.payer().unwrap().paid() > paid, "it pays for it");
}

/// A reading in which more came than time has passed, and no other after it.
#[test]
fn what_waits_for_the_clock_counts_without_another_reading() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    falls_silent(&mut pair);
    claims(&mut pair, 6_000);
    let came = pair.payer.reading.media_ms;
    assert!(counted(&pair) + 3_000 < came);
    let before = pair.payer.events.len();
    pair.run(8_000, &[]).unwrap();
    assert_eq!(counted(&pair), came);
    let events = &pair.payer.events[before..];
    let stalled = |event: &Event| matches!(event, Event::Stalled { .. });
    assert!(events.iter().any(stalled), "nothing came: {events:?}");
}
