//! Several purses under one bound: rollover, fallback, top-up, steps of another size.

use super::side::Session;
use super::tests_callers::{link_up, said};
use super::*;
use crate::backend::Answer;
use crate::meter::PauseReason;
use crate::session::{BackendEvent, CloseCode, Command, Event, Input, LinkEvent};
use crate::units::{Msat, PurseId, PurseKey};
use crate::wire::{Message, PurseRefused, decode, encode};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn at(pair: &Pair, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
    pair.events(PAYER).iter().position(wanted)
}

fn opened(pair: &Pair, id: u32) -> Option<usize> {
    let id = PurseId(id);
    at(
        pair,
        |event| matches!(event, Event::PurseOpen { purse, .. } if *purse == id),
    )
}

fn away(pair: &Pair) -> bool {
    let away = |event: &Event| {
        matches!(
            event,
            Event::Paused {
                reason: PauseReason::BackendAway,
                by_peer: false
            }
        )
    };
    at(pair, away).is_some()
}

fn method(pair: &Pair, id: u32) -> String {
    let purses = pair.payer().unwrap().purses();
    let mut purses = purses.into_iter();
    purses
        .find(|(purse, _)| purse.0 == id)
        .map(|(_, name)| name)
        .unwrap()
}

/// Runs for so long, then settles.
fn ran(config: PairConfig, ms: u64, faults: &[(u64, Fault)]) -> Pair {
    let mut pair = Pair::new(config);
    pair.run(ms, faults).unwrap();
    pair
}

#[test]
fn next_purse_opens_before_the_last_tick_and_media_never_stops() {
    let mut pair = ran(PairConfig::default(), 30_000, &[]);
    // Eight ticks a purse: the next one is there while three are left.
    let paid = |total: Msat| {
        at(
            &pair,
            |event| matches!(event, Event::TickPaid { total: paid, .. } if *paid == total),
        )
    };
    assert!(opened(&pair, 1).unwrap() < paid(sat(16)).unwrap());
    assert!(opened(&pair, 3).is_some());
    let delivered = pair.delivered().media_ms;
    assert!(delivered > 29_500, "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn purse_that_grows_old_is_followed_then_comes_home_unspent() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[(2_000, Fault::PausePayer(10_500))])
        .unwrap();
    assert!(opened(&pair, 1).is_none());
    pair.run(10_400, &[]).unwrap();
    // Twelve of fifteen seconds are over: another opens though five ticks are left.
    assert!(opened(&pair, 1).is_some());
    let spent = pair.total.saturating_minus(pair.mint.payer);
    assert_eq!(spent, sat(32));
    pair.run(4_000, &[]).unwrap();
    // It gives no more; what is left of it is back while the session goes on.
    let spent = pair.total.saturating_minus(pair.mint.payer);
    assert!(spent < sat(32), "{spent}");
    let delivered = pair.delivered().media_ms;
    assert!(delivered > 5_500, "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn method_whose_mint_is_away_is_replaced_and_used_later() {
    let faults = [(0, Fault::FirstMethodAway(20_000))];
    let mut pair = ran(PairConfig::default(), 40_000, &faults);
    assert_eq!(method(&pair, 1), FakeBackend::STEPS);
    assert!(opened(&pair, 1).unwrap() < opened(&pair, 0).unwrap());
    let delivered = pair.delivered().media_ms;
    assert!(delivered > 33_000, "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn rollover_to_a_mint_that_is_away_does_not_stop_what_is_paid() {
    let faults = [(4_000, Fault::FirstMethodAway(12_000))];
    let config = PairConfig {
        budget: sat(400),
        ..PairConfig::default()
    };
    // The payee must swap the ticks of that mint, so the purse in use has to be of the other.
    let config = PairConfig {
        methods: vec![FakeBackend::STEPS, FakeBackend::METHOD],
        ..config
    };
    let mut pair = ran(config, 30_000, &faults);
    assert!(!away(&pair));
    let delivered = pair.delivered().media_ms;
    assert!(delivered > 29_500, "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn method_that_is_refused_is_not_tried_again_at_once() {
    let faults = [(0, Fault::RefuseOpenings(1))];
    let mut pair = ran(PairConfig::default(), 60_000, &faults);
    let methods: Vec<String> = (0..5).map(|id| method(&pair, id)).collect();
    assert_eq!(methods[0], FakeBackend::METHOD);
    assert!(methods[1..4].iter().all(|name| name == FakeBackend::STEPS));
    assert_eq!(methods[4], FakeBackend::METHOD, "after half a minute it is");
    pair.settle().unwrap();
}

#[test]
fn purse_that_the_payee_refuses_comes_home_and_another_method_pays() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::PurseOk(ok))) if ok.purse == PurseId(0) => {
            let code = crate::backend::RefusalCode::WrongMint;
            let purse = ok.purse;
            vec![encode(&Message::PurseRefused(PurseRefused { purse, code }))]
        }
        _ => vec![bytes.clone()],
    });
    pair.run(6_000, &[]).unwrap();
    assert!(opened(&pair, 0).is_none());
    assert_eq!(method(&pair, 1), FakeBackend::STEPS);
    let spent = pair.total.saturating_minus(pair.mint.payer);
    assert_eq!(spent.msat(), 12 * 2_100, "the refused purse is back");
    assert!(pair.delivered().media_ms > 5_500);
    pair.settle().unwrap();
}

#[test]
fn without_any_method_left_the_session_ends() {
    let config = PairConfig {
        methods: vec![FakeBackend::METHOD],
        ..PairConfig::default()
    };
    let mut pair = ran(config, 5_000, &[(0, Fault::RefuseOpenings(9))]);
    let code = CloseCode::BackendFailed;
    assert!(
        at(
            &pair,
            |event| matches!(event, Event::Closed { code: found, .. } if *found == code)
        )
        .is_some()
    );
    assert_eq!(pair.delivered().media_ms, 0);
    pair.settle().unwrap();
}

#[test]
fn top_up_goes_on_beyond_the_budget() {
    let mut pair = Pair::new(PairConfig {
        budget: sat(21),
        ..PairConfig::default()
    });
    pair.run(60_000, &[(5_000, Fault::TopUp(20))]).unwrap();
    pair.settle().unwrap();
    assert_eq!(pair.credited(), sat(40));
}

#[test]
fn top_up_outlives_a_restart() {
    let mut pair = Pair::new(PairConfig {
        budget: sat(21),
        ..PairConfig::default()
    });
    let crash = Fault::CrashPayer {
        outputs: 3,
        away_ms: 300,
    };
    pair.run(60_000, &[(5_000, Fault::TopUp(20)), (6_000, crash)])
        .unwrap();
    pair.settle().unwrap();
    assert_eq!((pair.crashes(), pair.credited()), (1, sat(40)));
}

#[test]
fn tick_is_rounded_up_to_the_methods_quantum_and_counts_in_full() {
    let config = PairConfig {
        methods: vec![FakeBackend::STEPS],
        budget: sat(42),
        ..PairConfig::default()
    };
    let mut pair = ran(config, 60_000, &[]);
    // Twenty steps of 2100 msat at 2 msat a millisecond: the judge has checked the bound.
    assert_eq!(pair.credited().msat(), 42_000);
    let delivered = pair.delivered().media_ms;
    assert!((20_940..=21_000).contains(&delivered), "{delivered}");
    pair.settle().unwrap();
}

#[test]
fn method_whose_steps_are_larger_than_the_policy_allows_is_left() {
    let config = PairConfig {
        methods: vec![FakeBackend::STEPS, FakeBackend::METHOD],
        max_tick: sat(2),
        ..PairConfig::default()
    };
    let mut pair = ran(config, 6_000, &[]);
    assert!(opened(&pair, 0).is_none());
    assert_eq!(method(&pair, 1), FakeBackend::METHOD);
    assert!(pair.delivered().media_ms > 5_500);
    pair.settle().unwrap();
}

#[test]
fn old_and_new_purse_together_are_never_two_ticks_ahead() {
    // A user who tops up, pauses, and changes the connection while two purses are open; the
    // judge checks the one bound at every step.
    for at in (3_000..9_000).step_by(250) {
        let faults = [
            (at, Fault::TopUp(30)),
            (at + 10, Fault::LinkDown(400)),
            (at + 900, Fault::FirstMethodAway(3_000)),
            (at + 950, Fault::PausePayer(300)),
        ];
        let mut pair = ran(PairConfig::default(), 20_000, &faults);
        pair.command(PAYEE, Command::Close(CloseCode::Done));
        pair.settle().unwrap();
    }
}

#[test]
fn payer_that_brings_its_money_home_tells_a_payee_that_missed_the_close() {
    let mut pair = Pair::new(PairConfig::default());
    let away = [Fault::LinkDown(5_000), Fault::MintAway(10_000)];
    pair.run(3_000, &away.map(|fault| (2_900, fault))).unwrap();
    pair.command(PAYER, Command::Close(CloseCode::Done));
    let told = |event: &Event| matches!(event, Event::Closed { by_peer: true, .. });
    pair.run(1_000, &[]).unwrap();
    assert!(!pair.events(PAYEE).iter().any(told), "no connection yet");
    pair.run(20_000, &[]).unwrap();
    assert!(pair.events(PAYEE).iter().any(told));
    pair.settle().unwrap();
}

/// A hello is small, and all notes are not.
#[test]
fn notes_are_said_again_three_times_a_connection() {
    let mut pair = Pair::new(PairConfig::default());
    let hello = Arc::new(Mutex::new(None));
    let heard = hello.clone();
    pair.tamper(move |_, bytes| {
        if let Some(Message::Hello(said)) = decode(bytes).unwrap() {
            *heard.lock().unwrap() = Some(said);
        }
        vec![bytes.clone()]
    });
    pair.run(2_500, &[]).unwrap();
    // The hello of a session that goes on names more.
    pair.take_link_down(100);
    pair.run(1_000, &[]).unwrap();
    let hello = hello.lock().unwrap().clone().unwrap();
    let now = pair.now;
    let Some(Session::Payee(payee)) = &mut pair.payee.session else {
        panic!("a payee");
    };
    let purse = PurseKey {
        session: hello.session,
        purse: PurseId(0),
    };
    let answer = Answer {
        note: Some(Bytes::from_static(b"note")),
        ..Answer::default()
    };
    let noted = Input::Backend(BackendEvent { purse, answer });
    payee.handle(now, noted).unwrap();
    let close = Input::Command(Command::Close(CloseCode::Done));
    payee.handle(now, close).unwrap();
    said(payee, now, None);
    for connection in 1..=2 {
        payee.handle(now, Input::Link(LinkEvent::Down)).unwrap();
        payee.handle(now, link_up()).unwrap();
        for asked in 1..=5 {
            let (answers, _) = said(payee, now, Some(Message::Hello(hello.clone())));
            let notes = answers.iter();
            let notes = notes.filter(|message| matches!(message, Message::Purse(_)));
            assert_eq!(notes.count() == 1, asked <= 3, "{connection} {asked}");
        }
    }
}
