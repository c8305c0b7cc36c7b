//! Tips: payments besides what the media costs, each given once.

use proptest::prelude::*;

use super::*;
use crate::session::{Event, Misbehaviour, Receipt};
use crate::units::{Msat, Seq};
use crate::wire::{Ack, Message, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn given(pair: &Pair) -> (u64, u64) {
    let payer = pair.payer().unwrap();
    let payee = pair.payee().unwrap();
    let acked = payer.receipt().map(|evidence| evidence.receipt.tips);
    assert_eq!(acked.unwrap_or_default(), payee.tips());
    (payer.tips().sat_floor(), payee.tips().sat_floor())
}

fn refused(pair: &Pair) -> bool {
    let is_refusal = |event: &Event| matches!(event, Event::TipRefused { .. });
    pair.events(PAYER).iter().any(is_refusal)
}

#[test]
fn tip_is_given_once_and_buys_no_media() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[(2_000, Fault::Tip(6))]).unwrap();
    assert_eq!(given(&pair), (6, 6));
    let bought = pair.payee().unwrap().bought();
    let used = config::tariff(&pair.config).price(pair.delivered());
    assert!(used <= bought && bought <= used.saturating_plus(sat(3)));
    let received: Vec<_> = pair.events(PAYEE).iter().filter_map(tip_of).collect();
    assert_eq!(received, [2_000, 2_000, 2_000]);
    pair.settle().unwrap();
}

fn tip_of(event: &Event) -> Option<u64> {
    match event {
        Event::TipReceived { amount, .. } => Some(amount.msat()),
        _ => None,
    }
}

#[test]
fn what_is_less_than_a_tick_is_kept_for_the_next_tip() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_000, &[]).unwrap();
    pair.tip(sat(1));
    assert!(refused(&pair));
    pair.tip(sat(3));
    pair.run(2_000, &[]).unwrap();
    assert_eq!(given(&pair), (2, 2));
    pair.tip(sat(3));
    pair.run(2_000, &[]).unwrap();
    assert_eq!(given(&pair), (6, 6));
    pair.settle().unwrap();
}

#[test]
fn tip_beyond_the_budget_or_without_a_connection_is_refused() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tip(sat(2));
    assert!(refused(&pair), "nobody is bound");
    pair.payer.events.clear();
    pair.run(3_000, &[]).unwrap();
    pair.tip(sat(201));
    assert!(refused(&pair));
    pair.payer.events.clear();
    pair.tip(sat(100));
    // What is wanted already counts.
    pair.tip(sat(100));
    assert!(refused(&pair));
    pair.run(30_000, &[]).unwrap();
    assert_eq!(given(&pair), (100, 100), "over several purses");
    pair.settle().unwrap();
}

#[test]
fn tip_waits_out_a_pause_and_does_not_hold_up_the_media() {
    let mut pair = Pair::new(PairConfig::default());
    let faults = [
        (2_000, Fault::PausePayer(2_000)),
        (2_500, Fault::Tip(4)),
        (8_000, Fault::Tip(60)),
    ];
    pair.run(3_500, &faults[..2]).unwrap();
    assert_eq!(given(&pair), (0, 0));
    pair.run(26_500, &[(4_500, Fault::Tip(60))]).unwrap();
    assert_eq!(given(&pair), (64, 64));
    assert!(pair.delivered().media_ms > 26_000, "{:?}", pair.delivered());
    pair.settle().unwrap();
}

#[test]
fn crash_at_any_output_loses_no_tip_and_doubles_none() {
    for outputs in 0..25 {
        let away_ms = 500;
        let payer = Fault::CrashPayer { outputs, away_ms };
        let payee = Fault::CrashPayee { outputs, away_ms };
        for fault in [payer, payee] {
            let mut pair = Pair::new(PairConfig::default());
            pair.run(2_000, &[]).unwrap();
            pair.tip(sat(6));
            pair.run(10_000, &[(0, fault)]).unwrap();
            assert_eq!(pair.crashes(), 1, "{fault:?}");
            assert_eq!(given(&pair), (6, 6), "{fault:?}");
            pair.settle().unwrap();
        }
    }
}

#[test]
fn lost_mint_answers_and_lost_messages_do_not_double_a_tip() {
    for weather in 0..24_u8 {
        let weather = Weather {
            lose: weather % 3,
            repeat: weather / 3 % 4,
            delay: weather / 12 * 3,
        };
        let mut pair = Pair::new(PairConfig::default());
        pair.run(2_000, &[]).unwrap();
        pair.tip(sat(8));
        let faults = [(0, Fault::Weather(weather)), (10, Fault::LoseAnswers(2))];
        pair.run(60_000, &faults).unwrap();
        assert_eq!(given(&pair), (8, 8), "{weather:?}");
        pair.settle().unwrap();
    }
}

#[test]
fn replayed_tip_is_answered_again_and_credited_once() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(tick))) if tick.tips.is_some() => vec![bytes.clone(); 5],
        _ => vec![bytes.clone()],
    });
    pair.run(10_000, &[(2_000, Fault::Tip(10))]).unwrap();
    assert_eq!(given(&pair), (10, 10));
    pair.settle().unwrap();
}

/// The payee signs receipts in which tips are wrong by so much.
fn lie(tips: impl Fn(Msat) -> Msat + Send + 'static) -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    let (key, id) = (pair.payee_key.clone(), pair.payer.id.unwrap());
    pair.tamper(move |_, bytes| {
        let mut message = decode(bytes).unwrap().unwrap();
        if let Message::Ack(ack) = &mut message {
            let receipt = ack.evidence.receipt;
            let tips = tips(receipt.tips);
            ack.evidence = Receipt { tips, ..receipt }.sign(id, &key);
        }
        vec![encode(&message)]
    });
    pair
}

#[test]
fn payee_that_calls_ticks_tips_or_tips_ticks_is_left() {
    let tick = sat(2);
    let caught = |pair: &Pair| {
        let how = Misbehaviour::OverAcknowledged;
        let events = pair.events(PAYER);
        events.contains(&Event::Misbehaved { how })
    };
    let mut pair = lie(move |tips| tips.saturating_plus(tick));
    pair.run(3_000, &[]).unwrap();
    assert!(caught(&pair));
    pair.settle().unwrap();
    let mut pair = lie(move |tips| tips.saturating_minus(tick));
    pair.run(2_000, &[]).unwrap();
    assert!(!caught(&pair));
    pair.tip(sat(2));
    pair.run(2_000, &[]).unwrap();
    assert!(caught(&pair));
    pair.settle().unwrap();
}

/// The payee acknowledges a tick for media in two steps: all but a millisatoshi of it as a tip
/// under the number before, then the rest.
#[test]
fn payee_cannot_call_a_part_of_a_tick_a_tip() {
    for (crumb, back) in [(1, 1), (1_000, 1), (1, 0)] {
        let mut pair = Pair::new(PairConfig::default());
        let (key, id) = (pair.payee_key.clone(), pair.payer.id.unwrap());
        pair.tamper(move |_, bytes| {
            let mut message = decode(bytes).unwrap().unwrap();
            let Message::Ack(ack) = &mut message else {
                return vec![bytes.clone()];
            };
            let receipt = ack.evidence.receipt;
            let less = Msat::new(crumb).unwrap().min(receipt.total);
            let lie = Receipt {
                seq: Seq(receipt.seq.0 - back),
                cumulative: receipt.cumulative.minus(less).unwrap(),
                total: receipt.total.minus(less).unwrap(),
                tips: sat(2).minus(less).unwrap(),
                ..receipt
            };
            let rest = Receipt {
                tips: lie.tips,
                ..receipt
            };
            let says = |receipt: Receipt| {
                let evidence = receipt.sign(id, &key);
                encode(&Message::Ack(Ack {
                    evidence,
                    grant: None,
                }))
            };
            vec![says(lie), says(rest)]
        });
        pair.run(30_000, &[]).unwrap();
        let how = Misbehaviour::OverAcknowledged;
        assert!(pair.events(PAYER).contains(&Event::Misbehaved { how }));
        pair.settle().unwrap();
    }
}

#[test]
fn tick_with_wrong_tips_is_refused_and_not_credited() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| {
        let mut message = decode(bytes).unwrap().unwrap();
        if let Message::Tick(tick) = &mut message {
            tick.tips = tick.tips.map(|tips| tips.saturating_plus(sat(2)));
        }
        vec![encode(&message)]
    });
    pair.run(20_000, &[(2_000, Fault::Tip(2))]).unwrap();
    let refused = |event: &Event| matches!(event, Event::TickRefused { .. });
    assert!(pair.events(PAYEE).iter().any(refused));
    assert_eq!(pair.payee().unwrap().tips(), Msat::ZERO);
    pair.tamper = None;
    pair.settle().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_weather_gives_each_tip_once(
        seed: u64,
        faults in faults(20_000),
        tips in proptest::collection::vec((1_000_u64..20_000, 2_u16..9), 1..4),
    ) {
        let fail = |violation: Violation| TestCaseError::fail(violation.to_string());
        let tips = tips.into_iter().map(|(at, sat)| (at, Fault::Tip(sat)));
        let mut all: Vec<_> = faults.into_iter().chain(tips).collect();
        all.sort_by_key(|(at, _)| *at);
        let mut pair = Pair::new(PairConfig { seed, ..PairConfig::default() });
        pair.run(20_000, &all).map_err(fail)?;
        pair.heal(1_000, 60_000).map_err(fail)?;
        if let (Some(payer), Some(payee)) = (pair.payer(), pair.payee())
            && !payer.is_ended()
            && !payee.is_ended()
        {
            let left = payer.tips_wanted().saturating_minus(payer.tips());
            prop_assert!(left < pair.config.max_tick, "{left} is not given");
            prop_assert_eq!(payer.tips(), payee.tips());
        }
        pair.settle().map_err(fail)?;
    }
}
