//! Other terms while a session runs.

use super::*;
use crate::meter::{Rate, Reading};
use crate::session::{ApiMisuse, CloseCode, Command, Event, Input};
use crate::units::Msat;
use crate::wire::{Message, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn any(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> bool {
    pair.events(of).iter().any(wanted)
}

fn closed(pair: &Pair, of: Direction) -> Option<CloseCode> {
    pair.events(of).iter().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

fn began(pair: &Pair, of: Direction) -> bool {
    any(pair, of, |event| matches!(event, Event::TermsBegan { .. }))
}

fn replying(reply: Reply) -> Pair {
    Pair::new(PairConfig {
        reply,
        ..PairConfig::default()
    })
}

/// Offers so many percent after 3 s, and runs.
fn offered(reply: Reply, percent: u16, ms: u64) -> Pair {
    let mut pair = replying(reply);
    pair.run(ms, &[(3_000, Fault::OfferTariff(percent))])
        .unwrap();
    pair
}

#[test]
fn cheaper_tariff_is_agreed_to_without_asking() {
    let pair = offered(Reply::Silence, 50, 20_000);
    assert!(began(&pair, PAYER) && began(&pair, PAYEE));
    assert_eq!(pair.payer().unwrap().schedule().base_msat.msat(), 10_000);
    // 5 s at 2 sat, 15 s at 1 sat.
    let credited = pair.credited().msat();
    assert!((24_000..=28_000).contains(&credited), "{credited}");
}

#[test]
fn dearer_tariff_holds_from_its_amount_once_the_user_agrees() {
    let mut pair = offered(Reply::Agree, 200, 20_000);
    assert!(began(&pair, PAYER) && began(&pair, PAYEE));
    let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
    assert_eq!(payer.schedule().base, payee.schedule().base);
    assert_eq!(payer.schedule().base.media_ms, 5_000);
    // 5 s at 2 sat, less than 15 s at 4 sat.
    let credited = pair.credited().msat();
    assert!((60_000..=70_000).contains(&credited), "{credited}");
    pair.settle().unwrap();
}

#[test]
fn declined_offer_ends_where_it_would_begin_and_loses_nothing() {
    for (reply, code) in [
        (Reply::Decline, CloseCode::TermsChanged),
        (Reply::Silence, CloseCode::TermsChanged),
    ] {
        let mut pair = offered(reply, 200, 40_000);
        assert_eq!(closed(&pair, PAYER), Some(code), "{reply:?}");
        assert_eq!(closed(&pair, PAYEE), Some(code), "{reply:?}");
        assert_eq!(pair.credited().msat(), 10_000, "{reply:?}");
        let delivered = pair.delivered().media_ms;
        assert!((4_950..=5_000).contains(&delivered), "{delivered}");
        assert!(!began(&pair, PAYER) && !began(&pair, PAYEE));
        pair.settle().unwrap();
    }
}

#[test]
fn dearer_than_the_policy_is_declined_whatever_the_user_says() {
    let pair = offered(Reply::Agree, config::PERCENT_MAX + 1, 40_000);
    assert_eq!(closed(&pair, PAYER), Some(CloseCode::TermsChanged));
    assert!(!any(&pair, PAYER, |event| matches!(
        event,
        Event::TermsOffered { .. }
    )));
    assert_eq!(pair.credited().msat(), 10_000);
}

#[test]
fn offers_follow_one_another() {
    let mut pair = replying(Reply::Agree);
    let faults = [(2_000, 200), (8_000, 50), (20_000, 100)];
    let faults = faults.map(|(at, percent)| (at, Fault::OfferTariff(percent)));
    pair.run(40_000, &faults).unwrap();
    let begins = |event: &&Event| matches!(event, Event::TermsBegan { .. });
    assert_eq!(pair.events(PAYER).iter().filter(begins).count(), 3);
    assert_eq!(pair.events(PAYEE).iter().filter(begins).count(), 3);
    pair.settle().unwrap();
}

/// A payer that pays beyond each offer, and reconnects, keeps the old price no longer than the
/// offer may move.
#[test]
fn paying_beyond_an_offer_does_not_keep_the_old_price() {
    let mut pair = replying(Reply::Silence);
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::OfferTerms(_))) if to == PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    let mut faults = vec![(3_000, Fault::OfferTariff(200))];
    faults.extend((1..9).map(|at| (3_000 + at * 14_000, Fault::LinkDown(100))));
    pair.run(130_000, &faults).unwrap();
    assert_eq!(closed(&pair, PAYEE), Some(CloseCode::TermsChanged));
    assert!(pair.credited().msat() <= 60_000, "{}", pair.credited());
    pair.tamper = None;
    pair.settle().unwrap();
}

/// While the user is asked, other terms do not take the place of those that were shown.
#[test]
fn consent_is_to_the_terms_that_were_shown() {
    let mut pair = replying(Reply::Silence);
    let faults = [(3_000, 110), (3_500, 200), (3_600, 190)];
    let faults = faults.map(|(at, percent)| (at, Fault::OfferTariff(percent)));
    pair.run(4_000, &faults).unwrap();
    let offered: Vec<_> = (pair.events(PAYER).iter())
        .filter_map(|event| match event {
            Event::TermsOffered { terms, .. } => Some(terms.tariff),
            _ => None,
        })
        .collect();
    pair.command(PAYER, Command::Agree);
    pair.run(30_000, &[]).unwrap();
    let tariff = pair.payer().unwrap().schedule().tariff;
    let shown = offered.first().copied();
    assert!(offered.iter().all(|offer| Some(*offer) == shown));
    assert!(Some(tariff) == shown || !began(&pair, PAYER), "{tariff:?}");
    pair.settle().unwrap();
}

#[test]
fn offer_while_another_waits_or_of_another_tick_is_misuse() {
    let mut pair = replying(Reply::Agree);
    pair.run(3_000, &[]).unwrap();
    let mut terms = pair.payee().unwrap().terms().clone();
    let offer = |terms: &crate::wire::Terms| {
        Input::Command(Command::OfferTerms {
            terms: terms.clone().into(),
            in_ticks: 2,
        })
    };
    let now = pair.now;
    let mut payee = |input| match pair.payee.session.as_mut() {
        Some(side::Session::Payee(payee)) => payee.handle(now, input),
        _ => panic!("the payee lives"),
    };
    terms.tick = Msat::from_sat(3).unwrap();
    assert_eq!(payee(offer(&terms)), Err(ApiMisuse::TermsDiffer));
    pair.offer_tariff(150);
    pair.run(300, &[]).unwrap();
    let agreed = |event: &Event| matches!(event, Event::TermsAgreed { .. });
    assert!(any(&pair, PAYER, agreed) && any(&pair, PAYEE, agreed));
    let terms = pair.payee().unwrap().terms().clone();
    let now = pair.now;
    match pair.payee.session.as_mut() {
        Some(side::Session::Payee(payee)) => {
            assert_eq!(
                payee.handle(now, offer(&terms)),
                Err(ApiMisuse::OfferPending)
            );
        }
        _ => panic!("the payee lives"),
    }
}

#[test]
fn forged_offer_is_misbehaviour() {
    let mut pair = replying(Reply::Agree);
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::OfferTerms(mut offer))) => {
            offer.from = offer.from.saturating_plus(Msat::from_sat(2).unwrap());
            vec![encode(&Message::OfferTerms(offer))]
        }
        _ => vec![bytes.clone()],
    });
    pair.run(5_000, &[(3_000, Fault::OfferTariff(50))]).unwrap();
    let how = crate::session::Misbehaviour::BadSignature;
    assert!(any(&pair, PAYER, |event| *event == Event::Misbehaved { how }));
    pair.tamper = None;
    pair.settle().unwrap();
}

/// True for the messages of an offer.
fn is_of_offer(bytes: &bytes::Bytes) -> bool {
    matches!(
        decode(bytes),
        Ok(Some(
            Message::OfferTerms(_) | Message::Agree(_) | Message::Agreed(_)
        ))
    )
}

#[test]
fn any_message_of_an_offer_may_be_lost_twice_or_late() {
    // Which messages of the offer suffer, and what from: nothing, lost, twice, after the next.
    for pattern in 0..4_u32.pow(3) {
        let (mut pair, mut seen) = (replying(Reply::Agree), 0);
        let mut late = std::collections::BTreeMap::<Direction, Vec<bytes::Bytes>>::new();
        pair.tamper(move |to, bytes| {
            if !is_of_offer(bytes) {
                return vec![bytes.clone()];
            }
            let how = pattern / 4_u32.pow(seen.min(3)) % 4;
            seen += 1;
            let held = late.remove(&to).unwrap_or_default();
            match how {
                1 => held,
                2 => [vec![bytes.clone(); 2], held].concat(),
                3 => {
                    late.insert(to, vec![bytes.clone()]);
                    held
                }
                _ => [vec![bytes.clone()], held].concat(),
            }
        });
        pair.run(3_000, &[]).unwrap();
        pair.offer_tariff(200);
        pair.run(30_000, &[]).unwrap();
        assert!(
            began(&pair, PAYER) && began(&pair, PAYEE),
            "pattern {pattern}"
        );
        pair.settle().unwrap();
    }
}

#[test]
fn crash_at_any_output_of_an_offer_keeps_the_bounds_and_the_price() {
    for outputs in 0..30 {
        for crash in [
            Fault::CrashPayer {
                outputs,
                away_ms: 300,
            },
            Fault::CrashPayee {
                outputs,
                away_ms: 300,
            },
        ] {
            let mut pair = replying(Reply::Agree);
            let offer = Fault::OfferTariff(150);
            pair.run(25_000, &[(2_999, crash), (3_000, offer)]).unwrap();
            assert_eq!(pair.crashes(), 1, "{crash:?}");
            let bases = [
                pair.payer().unwrap().schedule(),
                pair.payee().unwrap().schedule(),
            ];
            assert_eq!(bases[0].tariff, bases[1].tariff, "{crash:?}");
            assert_eq!(bases[0].base_msat, bases[1].base_msat, "{crash:?}");
            pair.settle().unwrap();
        }
    }
}

#[test]
fn link_lost_at_any_moment_of_an_offer_goes_on() {
    for at in (2_950..3_300).step_by(10) {
        for reply in [Reply::Agree, Reply::Decline] {
            let mut pair = replying(reply);
            let faults = [(3_000, Fault::OfferTariff(150)), (at, Fault::LinkDown(700))];
            let mut faults = faults.to_vec();
            faults.sort_by_key(|(at, _)| *at);
            pair.run(25_000, &faults).unwrap();
            if at > 3_000 {
                let wanted = reply == Reply::Agree;
                assert_eq!(began(&pair, PAYER), wanted, "{at}");
                assert_eq!(began(&pair, PAYEE), wanted, "{at}");
            }
            pair.settle().unwrap();
        }
    }
}

#[test]
fn payment_that_crossed_an_offer_moves_it_on() {
    let mut pair = Pair::new(PairConfig {
        seed: 9_107_812_198_052_047_184,
        ..PairConfig::default()
    });
    let lose = |lose| {
        Fault::Weather(Weather {
            lose,
            ..Weather::default()
        })
    };
    let crash = Fault::CrashPayee {
        outputs: 4,
        away_ms: 100,
    };
    let faults = [
        (60, lose(2)),
        (1_773, Fault::OfferTariff(50)),
        (3_175, lose(1)),
        (3_680, crash),
    ];
    pair.run(30_000, &faults).unwrap();
    assert!(began(&pair, PAYER) && began(&pair, PAYEE));
    pair.settle().unwrap();
}

/// A price for bytes follows, from 6 sat on. By consent the payer pays for bytes up to just before that: they are
/// bought, and none of what comes next.
#[test]
fn what_was_consented_to_just_before_a_price_begins_is_not_priced_anew() {
    let mut pair = Pair::new(PairConfig {
        bytes_msat: 100,
        consents: false,
        ..PairConfig::default()
    });
    pair.run(300, &[]).unwrap();
    let mut terms = Box::new(pair.payee().unwrap().terms().clone());
    let bytes = terms.tariff.bytes.unwrap();
    terms.tariff.bytes = Rate::new(bytes.msat().times(3).unwrap(), bytes.per()).ok();
    let (next, in_ticks) = (terms.tariff, 2);
    pair.command(PAYEE, Command::OfferTerms { terms, in_ticks });
    pair.run(1_500, &[]).unwrap();
    let payer = pair.payer().unwrap();
    let (schedule, own) = (payer.schedule(), payer.reading());
    let from = schedule.next.unwrap().from;
    assert_eq!(from.msat(), 6_000);
    // As far as the old price goes.
    let hint = |bytes| Reading { bytes, ..own };
    let last = |bytes: &u64| schedule.used(hint(*bytes)) < from;
    let last = (own.bytes..).step_by(1_000).take_while(last).last();
    let hint = hint(last.unwrap());
    let drift = from.saturating_minus(schedule.used(own)).msat();
    assert!((2_001..2_500).contains(&drift), "{drift}");
    pair.inject(PAYER, &encode(&Message::Reading(hint)));
    pair.command(PAYER, Command::Resume);
    assert_eq!(pair.payer().unwrap().booked().bytes, hint.bytes - own.bytes);
    pair.run(500, &[]).unwrap();
    let payer = pair.payer().unwrap();
    let (schedule, booked) = (payer.schedule(), payer.booked());
    assert_eq!(schedule.next, None, "it began");
    let reading = Reading {
        media_ms: payer.reading().media_ms + booked.media_ms,
        bytes: payer.reading().bytes + booked.bytes,
    };
    let since = next.price(reading.since(hint));
    let used = schedule.used(reading);
    let most = from.saturating_plus(since);
    assert!(used <= most, "{used} of {most}");
}
