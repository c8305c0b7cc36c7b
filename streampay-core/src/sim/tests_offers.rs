//! Offers of other terms at the edge: the last moment, the last one, the next connection.

use super::*;
use crate::meter::{PauseReason, Reading};
use crate::session::{CloseCode, Command, Event};
use crate::units::Msat;
use crate::wire::{Agreed, Message, OfferTerms, decode, encode};
use std::sync::{Arc, Mutex};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

type Offers = Arc<Mutex<Vec<OfferTerms>>>;

fn silent() -> Pair {
    Pair::new(PairConfig {
        reply: Reply::Silence,
        ..PairConfig::default()
    })
}

/// Notes the offers that are said, and lets those messages to the payer through that `passes`.
fn noted(pair: &mut Pair, mut passes: impl FnMut(&Message) -> bool + Send + 'static) -> Offers {
    let offers = Offers::default();
    let noted = offers.clone();
    pair.tamper(move |to, bytes| {
        let message = decode(bytes).unwrap().unwrap();
        if let Message::OfferTerms(offer) = &message {
            noted.lock().unwrap().push(offer.clone());
        }
        if to == PAYEE || passes(&message) {
            vec![bytes.clone()]
        } else {
            vec![]
        }
    });
    offers
}

fn count(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> usize {
    pair.events(of).iter().filter(|event| wanted(event)).count()
}

fn asked(pair: &Pair) -> usize {
    count(pair, PAYER, |event| {
        matches!(event, Event::TermsOffered { .. })
    })
}

fn closed(pair: &Pair, of: Direction) -> Option<CloseCode> {
    pair.events(of).iter().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn offer_begins_after_whole_payments_of_the_purse_in_use() {
    let mut pair = Pair::new(PairConfig {
        reply: Reply::Silence,
        methods: vec![FakeBackend::STEPS],
        ..PairConfig::default()
    });
    let offers = noted(&mut pair, |_| true);
    pair.run(3_500, &[(3_000, Fault::OfferTariff(200))])
        .unwrap();
    let from = offers.lock().unwrap()[0].from;
    // Payments of 2 sat in steps of 300 msat.
    assert_eq!(from.msat() % 2_100, 0, "{from}");
    assert!(from > pair.credited());
    pair.settle().unwrap();
}

/// All that the old terms allow is used by then, and the user still has time.
#[test]
fn consent_counts_until_the_time_to_answer_is_over() {
    let mut pair = silent();
    pair.run(12_000, &[(3_000, Fault::OfferTariff(200))])
        .unwrap();
    assert_eq!(pair.delivered().media_ms, 5_000);
    pair.command(PAYER, Command::Agree);
    pair.run(5_000, &[]).unwrap();
    assert_eq!((closed(&pair, PAYER), closed(&pair, PAYEE)), (None, None));
    assert_eq!(pair.payer().unwrap().schedule().base_msat.msat(), 10_000);
    assert!(pair.credited().msat() > 20_000);
    pair.settle().unwrap();
}

#[test]
fn offer_is_said_and_asked_again_on_the_next_connection_until_it_is_declined() {
    let mut pair = silent();
    let offers = noted(&mut pair, |message| {
        !matches!(message, Message::OfferTerms(_))
    });
    pair.run(3_200, &[(3_000, Fault::OfferTariff(200))])
        .unwrap();
    assert_eq!((offers.lock().unwrap().len(), asked(&pair)), (1, 0));
    let offers = noted(&mut pair, |_| true);
    for times in 1..3 {
        pair.take_link_down(100);
        pair.run(700, &[]).unwrap();
        assert_eq!((offers.lock().unwrap().len(), asked(&pair)), (times, times));
    }
    pair.command(PAYER, Command::Decline);
    pair.run(100, &[]).unwrap();
    let said = offers.lock().unwrap().len();
    pair.take_link_down(100);
    pair.run(400, &[]).unwrap();
    assert_eq!((offers.lock().unwrap().len(), asked(&pair)), (said, 2));
    pair.settle().unwrap();
}

#[test]
fn offer_that_is_not_heard_moves_on_four_times_and_then_ends_the_session() {
    let mut pair = silent();
    let offers = noted(&mut pair, |message| {
        !matches!(message, Message::OfferTerms(_))
    });
    let mut faults = vec![(3_000, Fault::OfferTariff(200))];
    faults.extend((1..9).map(|at| (3_000 + at * 14_000, Fault::LinkDown(100))));
    pair.run(130_000, &faults).unwrap();
    assert_eq!(closed(&pair, PAYEE), Some(CloseCode::TermsChanged));
    let mut from: Vec<Msat> = offers
        .lock()
        .unwrap()
        .iter()
        .map(|offer| offer.from)
        .collect();
    assert!(from.is_sorted());
    from.dedup();
    assert_eq!(from.len(), 5, "{from:?}");
    pair.tamper = None;
    pair.settle().unwrap();
}

#[test]
fn offers_on_one_connection_are_looked_at_64_times() {
    let mut pair = silent();
    pair.run(2_500, &[]).unwrap();
    for _ in 0..70 {
        pair.offer_tariff(200);
        pair.run(20, &[]).unwrap();
    }
    assert_eq!(asked(&pair), 64);
}

#[test]
fn offer_that_comes_late_takes_no_later_ones_place() {
    let mut pair = silent();
    let offers = noted(&mut pair, |_| true);
    pair.run(2_500, &[]).unwrap();
    for times in 1..3 {
        pair.offer_tariff(200);
        pair.run(100, &[]).unwrap();
        assert_eq!(asked(&pair), times);
    }
    let first = offers.lock().unwrap()[0].clone();
    pair.inject(PAYER, &encode(&Message::OfferTerms(first)));
    assert_eq!(asked(&pair), 2);
    pair.settle().unwrap();
}

/// The payee hears of the consent and, thanks to the preview, goes on to the new price; the payer
/// does not hear that it is confirmed. The next offer waits for a payment at the new price.
#[test]
fn next_offer_does_not_undo_a_consent_of_which_the_confirmation_is_lost() {
    let mut pair = Pair::new(PairConfig {
        preview: Msat::from_sat(3).unwrap(),
        reply: Reply::Agree,
        ..PairConfig::default()
    });
    let lost = Arc::new(Mutex::new(true));
    let loses = lost.clone();
    let offers = noted(&mut pair, move |message| {
        !(*loses.lock().unwrap() && matches!(message, Message::Agreed(_)))
    });
    let begins = |event: &Event| matches!(event, Event::TermsBegan { .. });
    let begun = |pair: &Pair| (count(pair, PAYER, begins), count(pair, PAYEE, begins));
    let offered = || {
        let mut froms: Vec<Msat> = offers
            .lock()
            .unwrap()
            .iter()
            .map(|offer| offer.from)
            .collect();
        froms.dedup();
        froms.len()
    };
    let faults = [(2_500, 75), (6_500, 50)];
    let faults = faults.map(|(at, percent)| (at, Fault::OfferTariff(percent)));
    pair.run(7_000, &faults).unwrap();
    assert_eq!((begun(&pair), offered()), ((0, 1), 1));
    *lost.lock().unwrap() = false;
    pair.run(30_000, &[(10_000, Fault::OfferTariff(50))])
        .unwrap();
    assert_eq!((begun(&pair), offered()), ((2, 2), 2));
    pair.settle().unwrap();
}

#[test]
fn terms_that_expire_now_are_declined() {
    for (left, agrees) in [(0, false), (1, true)] {
        let mut pair = silent();
        pair.run(3_000, &[]).unwrap();
        let mut terms = Box::new(pair.payee().unwrap().terms().clone());
        terms.expires.0 = pair.now.unix.0 + left;
        let in_ticks = 2;
        pair.command(PAYEE, Command::OfferTerms { terms, in_ticks });
        pair.run(300, &[]).unwrap();
        let agreed = |event: &Event| matches!(event, Event::TermsAgreed { .. });
        let declined = |event: &Event| matches!(event, Event::TermsDeclined { .. });
        let counts = (count(&pair, PAYER, agreed), count(&pair, PAYER, declined));
        assert_eq!(
            counts,
            (usize::from(agrees), usize::from(!agrees)),
            "{left}"
        );
        pair.settle().unwrap();
    }
}

/// The payee's close is lost, and so is what confirms a consent.
#[test]
fn payer_ends_by_itself_at_an_offer_that_nobody_settles() {
    for (reply, after, at) in [
        (Reply::Silence, 19_500, 22_000),
        (Reply::Agree, 16_500, 18_500),
    ] {
        let mut pair = Pair::new(PairConfig {
            reply,
            ..PairConfig::default()
        });
        noted(&mut pair, |message| {
            !matches!(
                message,
                Message::Close(_) | Message::Closed(_) | Message::Agreed(_)
            )
        });
        pair.run(after, &[(3_000, Fault::OfferTariff(200))])
            .unwrap();
        assert_eq!(closed(&pair, PAYER), None, "{reply:?}");
        pair.run(at - after, &[]).unwrap();
        let code = Some(CloseCode::TermsChanged);
        assert_eq!(closed(&pair, PAYER), code, "{reply:?}");
        pair.tamper = None;
        pair.settle().unwrap();
    }
}

/// A pair whose user consents to nothing, after 3.5 s.
fn metered(methods: Vec<&'static str>) -> Pair {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        methods,
        ..PairConfig::default()
    });
    pair.run(3_500, &[]).unwrap();
    pair
}

/// What the payee says that it delivered.
fn say(pair: &mut Pair, media_ms: u64) {
    let reading = Reading { media_ms, bytes: 0 };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
}

#[test]
fn drift_of_one_payment_is_borne_and_of_more_pauses() {
    // A second is 2 sat; a payment in steps of 300 msat is 2.1 sat.
    for (method, payment_ms) in [(FakeBackend::METHOD, 1_000), (FakeBackend::STEPS, 1_050)] {
        for (more, pauses) in [(0, 0), (1, 1)] {
            let mut pair = metered(vec![method]);
            let own = pair.payer().unwrap().reading().media_ms;
            say(&mut pair, own + payment_ms + more);
            let (reason, by_peer) = (PauseReason::Drift, false);
            let paused = Event::Paused { by_peer, reason };
            let found = count(&pair, PAYER, |event| *event == paused);
            assert_eq!(found, pauses, "{method} {more}");
        }
    }
}

#[test]
fn consent_to_drift_books_no_more_than_a_payment_and_a_lease() {
    for more in [0, 1, 1_000_000] {
        let mut pair = metered(vec![FakeBackend::METHOD]);
        let payer = pair.payer().unwrap();
        let own = payer.reading().media_ms;
        // What is paid, a payment, and a lease of a quarter of a second, at 2 msat a ms.
        let most = (payer.bought().msat() + 2_000 + 500) / 2;
        assert!(most - own > 1_250, "{own}");
        say(&mut pair, most + more);
        pair.command(PAYER, Command::Resume);
        let booked = pair.payer().unwrap().booked().media_ms;
        assert_eq!(booked, 1_250, "{more}");
    }
}

/// The payee reads a little more than is tolerated, and its credit is not at its end: that nothing
/// comes has another cause.
#[test]
fn dead_source_is_a_stall_and_no_drift() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(3_200, &[]).unwrap();
    let payer = pair.payer().unwrap();
    let (own, bought) = (payer.reading().media_ms, payer.bought().msat());
    assert!((own + 300) * 2 + 400 < bought, "{own} {bought}");
    pair.media_at = pair.now.mono.after_ms(10_000);
    say(&mut pair, own + 300);
    pair.run(5_000, &[]).unwrap();
    let stalled = |event: &Event| matches!(event, Event::Stalled { .. });
    let paused = |event: &Event| matches!(event, Event::Paused { .. });
    let found = (count(&pair, PAYER, stalled), count(&pair, PAYER, paused));
    assert_eq!(found, (1, 0));
}

/// A lower price is agreed to, which the payee never hears; another offer takes its place. The time in which that
/// consent is repeated is its own.
#[test]
fn consent_that_was_replaced_does_not_use_up_the_time_of_the_next() {
    let mut pair = silent();
    let lost = Arc::new(Mutex::new(true));
    let loses = lost.clone();
    pair.tamper(move |to, bytes| match decode(bytes) {
        Ok(Some(Message::Agree(_))) if to == PAYEE && *loses.lock().unwrap() => vec![],
        _ => vec![bytes.clone()],
    });
    let faults = [
        (3_000, Fault::OfferTariff(50)),
        (3_300, Fault::OfferTariff(200)),
    ];
    pair.run(17_500, &faults).unwrap();
    assert_eq!((asked(&pair), closed(&pair, PAYER)), (1, None));
    *lost.lock().unwrap() = false;
    pair.command(PAYER, Command::Agree);
    pair.run(5_000, &[]).unwrap();
    assert_eq!((closed(&pair, PAYER), closed(&pair, PAYEE)), (None, None));
    pair.settle().unwrap();
}

/// Nobody was shown what the policy does not allow.
#[test]
fn user_cannot_agree_to_what_its_policy_declined() {
    let mut pair = silent();
    let greedy = config::PERCENT_MAX + 1;
    pair.run(3_200, &[(3_000, Fault::OfferTariff(greedy))])
        .unwrap();
    let declined = |event: &Event| matches!(event, Event::TermsDeclined { .. });
    assert_eq!((asked(&pair), count(&pair, PAYER, declined)), (0, 1));
    pair.command(PAYER, Command::Agree);
    assert_eq!(pair.payer().unwrap().schedule().next, None);
    pair.settle().unwrap();
}

/// Whoever saw the offer on a line that is not private can say so.
#[test]
fn confirmation_on_a_connection_that_is_not_bound_confirms_nothing() {
    let mut pair = silent();
    let offers = noted(&mut pair, |message| !matches!(message, Message::Agreed(_)));
    pair.run(3_200, &[(3_000, Fault::OfferTariff(50))]).unwrap();
    let offer = offers.lock().unwrap().last().cloned().unwrap();
    let offer = offer.hash(pair.payer().unwrap().session());
    pair.tamper(|to, bytes| {
        if to == PAYER {
            vec![]
        } else {
            vec![bytes.clone()]
        }
    });
    pair.take_link_down(100);
    pair.run(300, &[]).unwrap();
    assert_eq!(pair.payer().unwrap().state_name(), "Greeting");
    let agreed = |event: &Event| matches!(event, Event::TermsAgreed { .. });
    pair.inject(PAYER, &encode(&Message::Agreed(Agreed { offer })));
    assert_eq!(count(&pair, PAYER, agreed), 0);
    pair.tamper = None;
    pair.run(10_000, &[]).unwrap();
    assert_eq!(count(&pair, PAYER, agreed), 1);
    pair.settle().unwrap();
}

/// Media stops in the middle of a payment, beyond which nothing is agreed.
#[test]
fn session_whose_media_stops_before_the_ceiling_of_an_offer_ends() {
    let mut pair = silent();
    pair.run(4_500, &[(3_000, Fault::OfferTariff(200))])
        .unwrap();
    pair.media_at = pair.now.mono.after_ms(86_400_000);
    pair.run(610_000, &[]).unwrap();
    assert_eq!(closed(&pair, PAYER), Some(CloseCode::MediaStalled));
    pair.settle().unwrap();
}
