//! Ticks, acks and nacks, each with one thing wrong.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::backend::{Consumed, RefusalCode};
use crate::meter::PauseReason;
use crate::session::{CloseCode, Command, Event, Input, Misbehaviour, Receipt};
use crate::units::{Msat, PurseId, PurseKey, Seq};
use crate::wire::{Ack, Message, Nack, Tick, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

type Log = Arc<Mutex<Vec<Message>>>;

/// A pair whose messages are noted, and changed by `change`.
fn noted(mut change: impl FnMut(Message) -> Vec<Message> + Send + 'static) -> (Pair, Log) {
    let log = Log::default();
    let (mut pair, noted) = (Pair::new(PairConfig::default()), log.clone());
    pair.tamper(move |_, bytes| {
        let message = decode(bytes).unwrap().unwrap();
        noted.lock().unwrap().push(message.clone());
        change(message).iter().map(encode).collect()
    });
    (pair, log)
}

fn ticks(log: &Log) -> Vec<Tick> {
    let log = log.lock().unwrap();
    let ticks = log.iter().filter_map(|message| match message {
        Message::Tick(tick) => Some(tick.clone()),
        _ => None,
    });
    ticks.collect()
}

fn misbehaved(pair: &Pair, of: Direction, wanted: Misbehaviour) -> bool {
    let is_wanted = |event: &Event| matches!(event, Event::Misbehaved { how } if *how == wanted);
    pair.events(of).iter().any(is_wanted)
}

fn count(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> usize {
    pair.events(of).iter().filter(|event| wanted(event)).count()
}

#[test]
fn lost_ack_resends_the_same_payment_and_is_credited_once() {
    let mut lost = 0;
    let (mut pair, log) = noted(move |message| match message {
        Message::Ack(_) if lost < 2 => {
            lost += 1;
            vec![]
        }
        other => vec![other],
    });
    pair.run(12_000, &[]).unwrap();
    let ticks = ticks(&log);
    let first: Vec<_> = ticks.iter().filter(|tick| tick.seq == Seq(1)).collect();
    let first: Vec<_> = first
        .iter()
        .filter(|tick| tick.purse == PurseId(0))
        .collect();
    assert_eq!(first.len(), 3, "two acks lost");
    assert!(first.iter().all(|tick| tick.payload == first[0].payload));
    assert_eq!(
        pair.events(PAYER)
            .iter()
            .filter(|event| matches!(event, Event::TickPaid { seq: Seq(1), .. }))
            .count(),
        1
    );
    pair.settle().unwrap();
}

#[test]
fn repeated_tick_is_acked_again_and_credited_once() {
    let (mut pair, log) = noted(|message| match message {
        tick @ Message::Tick(_) => vec![tick.clone(), tick],
        other => vec![other],
    });
    pair.run(6_000, &[]).unwrap();
    let acks = log
        .lock()
        .unwrap()
        .iter()
        .filter(|message| matches!(message, Message::Ack(_)))
        .count();
    let received = count(&pair, PAYEE, |event| {
        matches!(event, Event::TickReceived { .. })
    });
    assert!(received >= 5);
    assert!(acks >= received);
    let last = ticks(&log).pop().unwrap();
    pair.inject(PAYEE, &encode(&Message::Tick(last)));
    pair.run(100, &[]).unwrap();
    assert!(
        log.lock()
            .unwrap()
            .iter()
            .filter(|message| matches!(message, Message::Ack(_)))
            .count()
            > acks
    );
    pair.settle().unwrap();
}

#[test]
fn another_payload_for_a_used_tick_is_misbehaviour() {
    let (mut pair, log) = noted(|message| vec![message]);
    pair.run(3_000, &[]).unwrap();
    let newest = Seq(pair.credited().msat() / 2_000);
    let mut ticks = ticks(&log).into_iter();
    let mut tick = ticks.find(|tick| tick.seq == newest).unwrap();
    tick.payload = Bytes::from_static(b"another");
    pair.inject(PAYEE, &encode(&Message::Tick(tick)));
    assert!(misbehaved(&pair, PAYEE, Misbehaviour::TickReused));
    pair.settle().unwrap();
}

#[test]
fn tick_with_a_gap_is_misbehaviour() {
    let (mut pair, log) = noted(|message| vec![message]);
    pair.run(3_000, &[]).unwrap();
    let mut tick = ticks(&log).pop().unwrap();
    tick.seq = Seq(tick.seq.0 + 2);
    pair.inject(PAYEE, &encode(&Message::Tick(tick)));
    assert!(misbehaved(&pair, PAYEE, Misbehaviour::TickGap));
    pair.settle().unwrap();
}

#[test]
fn tick_with_one_unit_too_little_is_refused_and_paid_anew() {
    let mut changed = false;
    let (mut pair, _) = noted(move |message| match message {
        Message::Tick(mut tick) if tick.seq == Seq(2) && !changed => {
            changed = true;
            tick.cumulative = tick.cumulative.saturating_minus(Msat::from_sat(1).unwrap());
            vec![Message::Tick(tick)]
        }
        other => vec![other],
    });
    pair.run(6_000, &[]).unwrap();
    assert_eq!(
        count(&pair, PAYER, |event| matches!(
            event,
            Event::TickReclaimed { .. }
        )),
        1
    );
    assert!(pair.credited().msat() >= 8_000);
    pair.settle().unwrap();
}

#[test]
fn nack_that_lies_though_unspent_is_reclaimed_and_paid_anew_once() {
    let (mut pair, log) = noted(|message| match message {
        // The payee never takes it and says that it is spent.
        Message::Tick(mut tick) if tick.seq == Seq(2) && tick.purse == PurseId(0) => {
            tick.payload = Bytes::from_static(b"taken for spent");
            vec![Message::Tick(tick)]
        }
        Message::Nack(mut nack) => {
            nack.consumed = Consumed::Yes;
            vec![Message::Nack(nack)]
        }
        other => vec![other],
    });
    pair.run(6_000, &[]).unwrap();
    assert_eq!(
        count(&pair, PAYER, |event| matches!(
            event,
            Event::TickReclaimed { seq: Seq(2) }
        )),
        1
    );
    assert!(ticks(&log).iter().any(|tick| tick.seq == Seq(3)));
    assert!(pair.credited().msat() >= 8_000);
    pair.settle().unwrap();
}

/// Runs until the payer's third tick was refused, its money gone.
fn robbed() -> Pair {
    robbed_of(PairConfig::default())
}

fn robbed_of(config: PairConfig) -> Pair {
    let mut pair = Pair::new(config);
    pair.run(500, &[]).unwrap();
    let session = pair.payer.id.unwrap();
    let purse = PurseId(0);
    pair.mint.steal(PurseKey { session, purse }, Seq(3));
    pair.run(8_000, &[]).unwrap();
    let lost = |event: &Event| matches!(event, Event::TickLost { seq: Seq(3), .. });
    assert_eq!(count(&pair, PAYER, lost), 1);
    let reason = PauseReason::PaymentRefused;
    let paused = |event: &Event| {
        *event
            == Event::Paused {
                by_peer: false,
                reason,
            }
    };
    assert_eq!(count(&pair, PAYER, paused), 1);
    assert_eq!(
        pair.credited().msat(),
        4_000,
        "nothing is paid in its place"
    );
    pair
}

/// A process that began anew has told nobody, and the user is the one who can end the pause.
#[test]
fn lost_payment_is_told_again_after_a_restart() {
    let mut pair = robbed();
    let before = pair.events(PAYER).len();
    pair.payer.die();
    pair.payer_back = Some(pair.now.mono.after_ms(100));
    pair.take_link_down(50);
    pair.run(3_000, &[]).unwrap();
    let (by_peer, reason) = (false, PauseReason::PaymentRefused);
    let (seq, amount) = (Seq(3), pair.config.tick);
    let told = &pair.events(PAYER)[before..];
    for event in [
        Event::Paused { by_peer, reason },
        Event::TickLost { seq, amount },
    ] {
        let times = told.iter().filter(|one| **one == event).count();
        assert_eq!(times, 1, "{event:?}");
    }
    pair.command(PAYER, Command::WriteOff);
    pair.run(4_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 8_000);
    pair.settle().unwrap();
}

/// A tip is lost, and then a payment for media, which is acknowledged after all: nothing of media is lost any more.
#[test]
fn late_ack_of_media_is_regained_though_a_tip_is_lost() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(500, &[]).unwrap();
    let (session, purse) = (pair.payer.id.unwrap(), PurseId(0));
    pair.tip(Msat::from_sat(2).unwrap());
    for seq in [Seq(2), Seq(3)] {
        pair.mint.steal(PurseKey { session, purse }, seq);
        pair.run(8_000, &[]).unwrap();
        let lost = |event: &Event| matches!(event, Event::TickLost { seq: of, .. } if *of == seq);
        assert_eq!(count(&pair, PAYER, lost), 1, "{seq:?}");
        pair.command(PAYER, Command::WriteOff);
    }
    let payer = pair.payer().unwrap();
    assert_eq!(payer.written_off(), pair.config.tick);
    let receipt = Receipt {
        seq: Seq(3),
        cumulative: Msat::new(4_000).unwrap(),
        total: Msat::new(4_000).unwrap(),
        ..Receipt::default()
    };
    let ack = Ack {
        evidence: receipt.sign(session, &pair.payee_key),
        grant: None,
    };
    pair.inject(PAYER, &encode(&Message::Ack(ack)));
    let payer = pair.payer().unwrap();
    assert_eq!(payer.acknowledged().msat(), 4_000);
    assert_eq!(payer.written_off(), Msat::ZERO);
}

/// A payment was written off, the next is under way, and the payee acknowledges the first after all.
#[test]
fn late_ack_of_what_was_written_off_does_not_silence_the_payment_under_way() {
    let mut pair = robbed();
    let log = Log::default();
    let said = log.clone();
    pair.tamper(move |_, bytes| {
        let message = decode(bytes).unwrap().unwrap();
        let ack = matches!(message, Message::Ack(_));
        said.lock().unwrap().push(message);
        if ack { vec![] } else { vec![bytes.clone()] }
    });
    pair.command(PAYER, Command::WriteOff);
    pair.run(1_000, &[]).unwrap();
    let fourth = ticks(&log);
    assert_eq!(fourth.len(), 1);
    let receipt = Receipt {
        purse: PurseId(0),
        seq: Seq(3),
        cumulative: Msat::new(6_000).unwrap(),
        total: Msat::new(6_000).unwrap(),
        ..Receipt::default()
    };
    let session = pair.payer.id.unwrap();
    let evidence = receipt.sign(session, &pair.payee_key);
    let ack = Message::Ack(Ack {
        evidence,
        grant: None,
    });
    pair.inject(PAYER, &encode(&ack));
    assert_eq!(pair.payer().unwrap().acknowledged().msat(), 6_000);
    pair.run(16_000, &[]).unwrap();
    let all = ticks(&log);
    assert!(all.len() >= 4, "it is said again: {}", all.len());
    assert!(all.iter().all(|tick| *tick == fourth[0]), "the same bytes");
    let (by_peer, reason) = (false, PauseReason::AckOverdue);
    let overdue = |event: &Event| *event == Event::Paused { by_peer, reason };
    assert_eq!(count(&pair, PAYER, overdue), 1);
}

#[test]
fn refused_though_spent_pauses_until_written_off() {
    let mut pair = robbed();
    pair.command(PAYER, Command::WriteOff);
    pair.run(8_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 14_000);
    pair.settle().unwrap();
}

/// The pause is durable. What two meters may differ by counts in it once, however often the payer dies.
#[test]
fn restart_within_a_pause_makes_no_room_for_what_two_meters_may_differ_by() {
    for window in [0, 20] {
        restarts_within_a_pause(Msat::from_sat(window).unwrap());
    }
}

fn restarts_within_a_pause(window: Msat) {
    let mut pair = robbed_of(PairConfig {
        window,
        tolerance_ms: 900,
        ..PairConfig::default()
    });
    let used = |pair: &Pair| {
        let payer = pair.payer().unwrap();
        payer.schedule().used(payer.reading())
    };
    let most = pair.payer().unwrap().paid().max(used(&pair));
    let most = most.saturating_plus(pair.config.tick);
    for _ in 0..4 {
        for _ in 0..100 {
            pair.run(20, &[]).unwrap();
            let mut raw = pair.payer.reading;
            raw.media_ms += 20;
            pair.received.media_ms += 20;
            pair.payer.reading = raw;
            pair.input(PAYER, Input::Usage(raw));
        }
        pair.payer.die();
        pair.payer_back = Some(pair.now.mono.after_ms(100));
        pair.take_link_down(50);
        pair.run(1_000, &[]).unwrap();
    }
    assert!(used(&pair) <= most, "{} of {most}", used(&pair));
}

/// It bought nothing: a pause is worth one payment beyond what is paid, as without it.
#[test]
fn payment_that_was_written_off_buys_nothing_in_a_pause() {
    let mut pair = robbed();
    pair.command(PAYER, Command::WriteOff);
    pair.run(3_000, &[]).unwrap();
    // The clock goes on; what comes in the pause may have been on its way since.
    pair.media_at = pair.now.mono.after_ms(86_400_000);
    pair.run(4_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let payer = pair.payer().unwrap();
    assert!(!payer.written_off().is_zero());
    let bought = payer.paid().minus(payer.written_off()).unwrap();
    let mut raw = pair.payer.reading;
    for _ in 0..200 {
        pair.run(20, &[]).unwrap();
        raw.media_ms += 20;
        pair.input(PAYER, Input::Usage(raw));
    }
    let payer = pair.payer().unwrap();
    let used = payer.schedule().used(payer.reading());
    let most = bought.saturating_plus(Msat::from_sat(2).unwrap());
    assert!(used <= most, "{used} of {most}");
}

#[test]
fn refused_though_spent_closes_and_settles() {
    robbed().settle().unwrap();
}

#[test]
fn receipt_that_says_too_much_is_misbehaviour() {
    let mut pair = Pair::new(PairConfig::default());
    let (key, session) = (pair.payee_key.clone(), pair.payer.id.unwrap());
    pair.tamper(move |_, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(mut ack))) => {
            let mut receipt = ack.evidence.receipt;
            receipt.seq = receipt.seq.next();
            receipt.cumulative = receipt.cumulative.saturating_plus(receipt.cumulative);
            receipt.total = receipt.cumulative;
            ack.evidence = receipt.sign(session, &key);
            vec![encode(&Message::Ack(ack))]
        }
        _ => vec![bytes.clone()],
    });
    pair.run(2_000, &[]).unwrap();
    assert!(misbehaved(&pair, PAYER, Misbehaviour::OverAcknowledged));
    pair.tamper = None;
    pair.settle().unwrap();
}

/// A pair that pays by steps first, which stay out, of which the payee refuses one with this code,
/// and keeps it.
fn keeping(seq: u64, code: RefusalCode) -> (Pair, Log) {
    let log = Log::default();
    let mut pair = Pair::new(PairConfig {
        methods: vec![FakeBackend::STEPS, FakeBackend::METHOD],
        ..PairConfig::default()
    });
    let noted = log.clone();
    pair.tamper(move |_, bytes| {
        let mut message = decode(bytes).unwrap().unwrap();
        noted.lock().unwrap().push(message.clone());
        match &mut message {
            Message::Tick(tick) if tick.seq == Seq(seq) && tick.purse == PurseId(0) => {
                tick.payload = Bytes::from_static(b"kept");
            }
            Message::Nack(nack) => nack.code = code,
            _ => {}
        }
        vec![encode(&message)]
    });
    (pair, log)
}

/// Also the last one of its purse, when another is open already.
#[test]
fn refused_payment_that_stays_out_is_shown_again_before_anything_else_is_paid() {
    for at in [3, 12] {
        let (mut pair, log) = keeping(at, RefusalCode::BadProof);
        pair.run(30_000, &[]).unwrap();
        let ticks = ticks(&log);
        let mut after = ticks.iter().skip_while(|tick| tick.seq != Seq(at));
        let kept = after.next().unwrap();
        let again = after.find(|tick| tick.seq != Seq(at)).unwrap();
        assert_eq!((again.purse, again.seq), (PurseId(0), Seq(at + 1)));
        assert_eq!(again.payload, kept.payload, "nothing more is out");
        assert_eq!(again.cumulative, kept.cumulative);
        let moved =
            |event: &Event| matches!(event, Event::TickLost { .. } | Event::TickReclaimed { .. });
        assert_eq!(count(&pair, PAYER, moved), 0);
        assert!(pair.credited().msat() >= 14 * 2_000, "{at}");
        pair.settle().unwrap();
    }
}

#[test]
fn payment_that_stays_out_of_a_purse_that_the_payee_denies_holds_the_session() {
    let (mut pair, log) = keeping(3, RefusalCode::OutOfOrder);
    pair.run(8_000, &[]).unwrap();
    let crash = Fault::CrashPayer {
        outputs: 1,
        away_ms: 300,
    };
    pair.run(8_000, &[(0, Fault::LinkDown(500)), (4_000, crash)])
        .unwrap();
    let lost = |event: &Event| matches!(event, Event::TickLost { seq: Seq(3), .. });
    assert_eq!(count(&pair, PAYER, lost), 2, "once in each life");
    let payer = pair.payer().unwrap();
    let at_stake = payer.paid().saturating_minus(payer.acknowledged());
    assert_eq!(at_stake.msat(), 2_100, "one tick, in all");
    assert_eq!(pair.credited().msat(), 2 * 2_100);
    assert!(ticks(&log).iter().all(|tick| tick.purse == PurseId(0)));
    // By the user's consent, from another purse.
    pair.command(PAYER, Command::WriteOff);
    pair.run(8_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 10_000);
    let newest = ticks(&log).pop().unwrap();
    assert_ne!(newest.purse, PurseId(0));
    pair.settle().unwrap();
}

#[test]
fn payment_of_a_purse_that_the_payee_denies_comes_home_at_close() {
    let (mut pair, _) = keeping(3, RefusalCode::OutOfOrder);
    pair.run(8_000, &[]).unwrap();
    pair.settle().unwrap();
    assert_eq!(pair.mint.payee.msat(), 2 * 2_100);
}

/// A payee that refuses, drops the line and refuses again: each costs what the mint takes.
#[test]
fn refusals_are_counted_over_connections_until_an_ack() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(_))) => vec![],
        _ => vec![bytes.clone()],
    });
    for seq in 1..6 {
        pair.run(1_000, &[(0, Fault::LinkDown(100))]).unwrap();
        let nack = Nack {
            purse: PurseId(0),
            seq: Seq(seq),
            code: RefusalCode::Malformed,
            consumed: Consumed::No,
        };
        pair.inject(PAYER, &encode(&Message::Nack(nack)));
    }
    pair.run(1_000, &[]).unwrap();
    let back = |event: &Event| matches!(event, Event::TickReclaimed { .. });
    assert_eq!(count(&pair, PAYER, back), 3);
    let code = CloseCode::BackendFailed;
    let over = |event: &Event| matches!(event, Event::Closed { code: why, .. } if *why == code);
    assert_eq!(count(&pair, PAYER, over), 1);
    pair.tamper = None;
    pair.settle().unwrap();
}
