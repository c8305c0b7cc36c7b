//! What a payee sells that it never delivered: time in which nothing came, and what came from somebody else.

use super::*;
use crate::meter::{Rate, Reading, Tariff};
use crate::session::{Command, Event, Input};
use crate::units::Msat;

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

/// The payer's meter reads so much more.
fn comes(pair: &mut Pair, media_ms: u64, bytes: u64) {
    pair.payer.reading.media_ms += media_ms;
    pair.payer.reading.bytes += bytes;
    pair.received.media_ms += media_ms;
    pair.received.bytes += bytes;
    let reading = pair.payer.reading;
    pair.input(PAYER, Input::Usage(reading));
}

fn falls_silent(pair: &mut Pair) {
    pair.media_at = pair.now.mono.after_ms(86_400_000);
}

fn offer(pair: &mut Pair, tariff: Tariff) {
    let mut terms = Box::new(pair.payee().unwrap().terms().clone());
    terms.tariff = tariff;
    let in_ticks = 2;
    pair.command(PAYEE, Command::OfferTerms { terms, in_ticks });
}

fn began(pair: &Pair) -> usize {
    let began = |event: &&Event| matches!(event, Event::TermsBegan { .. });
    pair.events(PAYER).iter().filter(began).count()
}

fn used(pair: &Pair) -> Msat {
    let payer = pair.payer().unwrap();
    payer.schedule().used(payer.reading())
}

/// Bytes come until so much is used, and no time with them.
fn bytes_until(pair: &mut Pair, used_msat: u64) {
    while used(pair).msat() < used_msat {
        let bytes = ((used_msat - used(pair).msat()) * 100).min(50_000);
        comes(pair, 0, bytes);
        pair.payee.reading.bytes += bytes;
        pair.delivered.bytes += bytes;
        let reading = pair.payee.reading;
        pair.input(PAYEE, Input::Usage(reading));
        pair.run(200, &[]).unwrap();
    }
}

/// Time costs next to nothing, and the user consented to more of it from an amount on. Just before that nothing but
/// bytes come for a minute; then one reading has a minute of media, and the bytes with which the other price begins.
#[test]
fn silence_is_not_sold_by_bytes_that_begin_another_price() {
    let config = PairConfig {
        bytes_msat: 1_000,
        ..PairConfig::default()
    };
    let dear = config::tariff(&config);
    let cheap = Tariff {
        time: Rate::new(Msat::new(1).unwrap(), 1_000_000_000).ok(),
        ..dear
    };
    let mut pair = Pair::new(config);
    pair.run(300, &[]).unwrap();
    offer(&mut pair, cheap);
    pair.run(200, &[]).unwrap();
    falls_silent(&mut pair);
    pair.run(300, &[]).unwrap();
    bytes_until(&mut pair, 8_000);
    assert_eq!(began(&pair), 1);
    offer(&mut pair, dear);
    pair.run(1_000, &[]).unwrap();
    let next = pair.payer().unwrap().schedule().next.unwrap();
    bytes_until(&mut pair, next.from.msat() - 1);
    pair.run(60_000, &[]).unwrap();
    let before = pair.payer().unwrap().reading().media_ms;
    comes(&mut pair, 60_000, 1_200);
    let counted = pair.payer().unwrap().reading().media_ms - before;
    assert_eq!((began(&pair), counted), (2, 10_000));
}

/// The payer is led to somebody without any key, who sends it much, and then back to its payee.
#[test]
fn media_from_a_stranger_is_not_paid_for_at_the_next_binding() {
    for media_ms in [0, 9_000] {
        let mut pair = Pair::new(PairConfig {
            bytes_msat: 1_000,
            ..PairConfig::default()
        });
        pair.run(3_000, &[]).unwrap();
        pair.tamper(|_, _| vec![]);
        pair.run(1_000, &[(0, Fault::LinkDown(300))]).unwrap();
        falls_silent(&mut pair);
        let before = pair.payer().unwrap().reading();
        let paid = pair.payer().unwrap().paid();
        assert_eq!(pair.payer().unwrap().state_name(), "Greeting");
        comes(&mut pair, media_ms, 10_000_000);
        pair.take_link_down(300);
        // And the last of it is told once the line is gone.
        comes(&mut pair, media_ms, 10_000_000);
        pair.tamper = None;
        pair.run(500, &[]).unwrap();
        falls_silent(&mut pair);
        pair.run(20_000, &[]).unwrap();
        let payer = pair.payer().unwrap();
        assert_eq!(payer.state_name(), "Live");
        let grown = payer.reading().since(before);
        assert!(grown.media_ms < 500, "{grown:?}");
        assert!(grown.bytes < 500_000, "{grown:?}");
        let tick = pair.config.tick;
        assert!(payer.paid() <= paid.saturating_plus(tick.times(2).unwrap()));
    }
}

/// Media on its way when the line went is the payee's, however many connections nobody binds come in between.
#[test]
fn media_that_was_on_its_way_counts_though_a_connection_in_between_is_not_bound() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    pair.tamper(|_, _| vec![]);
    pair.take_link_down(300);
    let before = pair.payer().unwrap().reading();
    comes(&mut pair, 400, 0);
    for _ in 0..3 {
        pair.run(1_000, &[]).unwrap();
        pair.take_link_down(300);
    }
    pair.tamper = None;
    pair.run(400, &[]).unwrap();
    falls_silent(&mut pair);
    pair.run(2_000, &[]).unwrap();
    let grown = pair.payer().unwrap().reading().since(before);
    assert!(grown.media_ms >= 400, "{grown:?}");
    let none = Reading::default();
    assert_ne!(grown, none);
}
