//! A source that gives nothing, and what hides that; words that come too often.

use super::*;
use crate::backend::{Answer, Outcome, RefusalCode};
use crate::meter::{PauseReason, Reading};
use crate::session::{
    BackendEvent, CloseCode, Command, Event, Input, Name, Output, PayeeConfig, PayeeSession,
    RoomNews,
};
use crate::store::{Store as _, session_prefix};
use crate::units::{Mono, Msat, PurseId};
use crate::wire::{Ack, Message, Pause, Presence, Purse, PurseRefused, Resume, decode, encode};
use bytes::Bytes;

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn is_drift(event: &Event) -> bool {
    let (reason, by_peer) = (PauseReason::Drift, false);
    *event == Event::Paused { by_peer, reason }
}

fn is_stall(event: &Event) -> bool {
    matches!(event, Event::Stalled { .. })
}

fn count(pair: &Pair, wanted: impl Fn(&Event) -> bool) -> usize {
    pair.events(PAYER).iter().filter(|one| wanted(one)).count()
}

fn closed(pair: &Pair) -> Option<CloseCode> {
    pair.events(PAYER).iter().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

/// After 5 s the source is dead, and the payee never says that it closes.
fn dead(config: PairConfig) -> Pair {
    let mut pair = Pair::new(config);
    pair.run(5_000, &[]).unwrap();
    pair.media_at = pair.now.mono.after_ms(86_400_000);
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Close(_) | Message::Closed(_))) if to == PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    pair
}

fn say(pair: &mut Pair, media_ms: u64, bytes: u64) {
    let reading = Reading { media_ms, bytes };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
}

/// The payee pauses and goes on until the payer closes: for how long it flowed, in milliseconds.
fn pause_in_turn(pair: &mut Pair, pause_ms: u64, most_ms: u64) -> u64 {
    let (mut flowed_ms, flow_ms) = (0, 1_500);
    while closed(pair).is_none() && flowed_ms < most_ms {
        for (command, ms) in [(Command::Pause, pause_ms), (Command::Resume, flow_ms)] {
            pair.command(PAYEE, command);
            pair.run(ms, &[]).unwrap();
        }
        flowed_ms += flow_ms;
    }
    flowed_ms
}

/// A pause begins or ends more often than a stall takes to show. The time that flows is what counts: 600 s.
#[test]
fn pauses_in_turn_do_not_keep_a_dead_source_alive() {
    let mut pair = dead(PairConfig::default());
    let flowed_ms = pause_in_turn(&mut pair, 500, 700_000);
    assert_eq!(closed(&pair), Some(CloseCode::MediaStalled));
    assert!((590_000..=610_000).contains(&flowed_ms), "{flowed_ms}");
}

/// Its payee takes no purse, and pauses again and again. What is locked in the purse comes home.
#[test]
fn pauses_in_turn_do_not_keep_a_payer_waiting_for_a_purse() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Purse(_))) if to == PAYEE => vec![],
        Ok(Some(Message::Close(_) | Message::Closed(_))) if to == PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    let side::Config::Payer(config) = &mut pair.payer.config else {
        panic!("a payer");
    };
    config.policy.stall_close_ms = 60_000;
    pair.payer.die();
    pair.payer_back = Some(Mono(10));
    pair.run(200, &[]).unwrap();
    let flowed_ms = pause_in_turn(&mut pair, 300, 100_000);
    assert_eq!(closed(&pair), Some(CloseCode::TimedOut));
    assert!((55_000..=65_000).contains(&flowed_ms), "{flowed_ms}");
    pair.tamper = None;
    pair.settle().unwrap();
}

/// A grant that is another each time, in acks that say nothing new and so are not verified.
#[test]
fn grants_without_end_are_told_twenty_times_a_second() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    let evidence = pair.payer().unwrap().receipt().unwrap();
    let flood = |pair: &mut Pair, from: u32| {
        for number in from..from + 500 {
            let grant = Some(Bytes::copy_from_slice(&number.to_be_bytes()));
            pair.inject(PAYER, &encode(&Message::Ack(Ack { evidence, grant })));
        }
    };
    let granted = |event: &Event| matches!(event, Event::Grant(_));
    flood(&mut pair, 0);
    assert_eq!(count(&pair, granted), 128);
    pair.run(1_000, &[]).unwrap();
    flood(&mut pair, 500);
    assert_eq!(count(&pair, granted), 148);
    pair.settle().unwrap();
}

/// The time of a pause is no time in which a source is dead.
#[test]
fn pause_of_an_hour_ends_no_session() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    let credited = pair.credited();
    let hour = 3_600_000;
    pair.run(hour + 5_000, &[(0, Fault::PausePayer(hour))])
        .unwrap();
    assert_eq!((closed(&pair), count(&pair, is_stall)), (None, 0));
    assert!(pair.credited() > credited);
    pair.settle().unwrap();
}

/// Bytes come that cost nothing, and no time of media with them.
#[test]
fn bytes_that_are_free_are_no_media() {
    for (bytes_msat, stalls, ends) in [(0, 1, Some(CloseCode::MediaStalled)), (1, 0, None)] {
        let mut pair = dead(PairConfig {
            bytes_msat,
            ..PairConfig::default()
        });
        for _ in 0..605 {
            let mut reading = pair.payer.reading;
            reading.bytes += 1;
            (pair.payer.reading, pair.received.bytes) = (reading, pair.received.bytes + 1);
            pair.input(PAYER, Input::Usage(reading));
            pair.run(1_000, &[]).unwrap();
        }
        assert_eq!(closed(&pair), ends, "{bytes_msat}");
        assert_eq!(count(&pair, is_stall), stalls, "{bytes_msat}");
    }
}

/// There is nothing to consent to, and nothing that a new connection would have forgotten.
#[test]
fn consent_to_drift_without_a_connection_books_nothing_and_is_asked_for_again() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(3_500, &[]).unwrap();
    let ahead = pair.payer().unwrap().reading().media_ms + 1_100;
    say(&mut pair, ahead, 0);
    assert_eq!(count(&pair, is_drift), 1);
    pair.take_link_down(300);
    pair.command(PAYER, Command::Resume);
    pair.run(600, &[]).unwrap();
    let ahead = pair.payer().unwrap().reading().media_ms + 1_100;
    say(&mut pair, ahead, 0);
    let booked = pair.payer().unwrap().booked();
    assert_eq!((booked, count(&pair, is_drift)), (Reading::default(), 2));
    pair.command(PAYER, Command::Resume);
    assert_eq!(pair.payer().unwrap().booked().media_ms, 1_100);
}

/// Sixteen at once, and one more in a tenth of a second: to look at one takes thousands of prices.
#[test]
fn readings_that_say_too_much_are_looked_at_now_and_then() {
    for (wait_ms, looks) in [(0, false), (100, true)] {
        let mut pair = Pair::new(PairConfig {
            bytes_msat: 2_000,
            consents: false,
            ..PairConfig::default()
        });
        pair.run(3_500, &[]).unwrap();
        for more in 0..16 {
            say(&mut pair, 3_600_000 + more, 0);
        }
        pair.run(wait_ms, &[]).unwrap();
        // By far the most of it is bytes.
        say(&mut pair, 0, 1 << 50);
        pair.command(PAYER, Command::Resume);
        let booked = pair.payer().unwrap().booked();
        assert!(booked.media_ms < 1_000 || !looks, "{booked:?}");
        assert_eq!(booked.bytes > 0, looks, "{wait_ms}: {booked:?}");
    }
}

/// As many as lines of a chat: what comes beyond is the payee's, and nobody reads it.
#[test]
fn counts_of_a_room_come_no_faster_than_lines() {
    let mut house = House::new(
        crate::room::RoomConfig::new(crate::room::RoomId([1; 32])),
        [PairConfig::default()],
    );
    let (name, max_fee) = (Name::new("ann").unwrap(), Msat::ZERO);
    let invitation = None;
    house.join(
        0,
        Command::Join {
            name,
            invitation,
            max_fee,
        },
    );
    house.run(3_000, &[]).unwrap();
    let pair = &mut house.pairs[0];
    let told = |event: &Event| matches!(event, Event::News(RoomNews::Presence { .. }));
    let before = count(pair, told);
    for epoch in 1_000..2_000 {
        let viewers = 7;
        pair.inject(
            PAYER,
            &encode(&Message::Presence(Presence { epoch, viewers })),
        );
    }
    assert_eq!(count(pair, told) - before, 128);
}

/// A peer that pauses and goes on a thousand times in a moment is heard 128 times, and again when it says less.
#[test]
fn pauses_come_no_faster_than_lines() {
    for (to, reason) in [(PAYER, PauseReason::ByPayee), (PAYEE, PauseReason::ByPayer)] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(3_000, &[]).unwrap();
        let pause = |epoch| encode(&Message::Pause(Pause { epoch, reason }));
        for epoch in (1..1_000).step_by(2) {
            pair.inject(to, &pause(epoch));
            let epoch = epoch + 1;
            pair.inject(to, &encode(&Message::Resume(Resume { epoch })));
        }
        let told = |pair: &Pair| {
            let told = |event: &&Event| matches!(event, Event::Paused { .. } | Event::Resumed);
            pair.events(to).iter().filter(told).count()
        };
        assert_eq!(told(&pair), 128);
        pair.run(3_000, &[]).unwrap();
        pair.inject(to, &pause(5_000));
        assert_eq!(told(&pair), 129);
    }
}

/// Its purses are on their way home, and the peer goes on saying what makes no sense.
#[test]
fn nonsense_while_purses_come_home_is_told_sixteen_times() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    pair.mint_back = pair.now.mono.after_ms(600_000);
    pair.command(PAYER, Command::Close(CloseCode::Done));
    pair.run(7_000, &[]).unwrap();
    assert_eq!(pair.payer().unwrap().state_name(), "Releasing");
    for _ in 0..100 {
        pair.inject(PAYER, &[0xff]);
        pair.inject(PAYER, &encode(&Message::ReceiptRequest));
    }
    let told = |event: &Event| matches!(event, Event::Dropped { .. } | Event::Misbehaved { .. });
    assert_eq!(count(&pair, told), 16);
}

/// The same of a payer whose payee settles, and once that has.
#[test]
fn nonsense_to_a_payee_that_settles_is_told_sixteen_times() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    for _ in 0..100 {
        pair.inject(PAYEE, &[0xff]);
    }
    let told = |event: &&Event| matches!(event, Event::Dropped { .. } | Event::Misbehaved { .. });
    let told = pair.events(PAYEE).iter().filter(told).count();
    assert_eq!(told, 16);
}

/// Each is refused, and the user allows more.
#[test]
fn payer_shows_no_more_purses_than_a_payee_takes_before_it_is_paid() {
    let mut pair = Pair::new(PairConfig {
        budget: Msat::from_sat(2_000).unwrap(),
        ..PairConfig::default()
    });
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Purse(part))) if to == PAYEE && part.part == 0 => vec![],
        _ => vec![bytes.clone()],
    });
    let code = RefusalCode::Malformed;
    for _ in 0..20 {
        pair.run(1_000, &[]).unwrap();
        let newest = pair.payer().unwrap().purses().last().map(|(id, _)| *id);
        if let Some(purse) = newest {
            let refused = Message::PurseRefused(PurseRefused { purse, code });
            pair.inject(PAYER, &encode(&refused));
        }
        // What failed is tried again at once.
        pair.command(PAYER, Command::TopUp(Msat::from_sat(1).unwrap()));
    }
    assert_eq!(pair.payer().unwrap().purses().len(), 8);
}

/// To look at a purse is a write to disk, and a question to a mint or a chain.
#[test]
fn purse_that_is_being_checked_is_looked_at_once_a_second() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    let part = Message::Purse(Purse {
        purse: PurseId(7),
        part: 0,
        of: 1,
        method: 0,
        bytes: Bytes::from_static(b"x"),
    });
    let part = encode(&part);
    let mut now = pair.now;
    let Some(side::Session::Payee(payee)) = &mut pair.payee.session else {
        panic!("a payee");
    };
    let mut asked = |now| {
        payee.handle(now, Input::Received(part.clone())).unwrap();
        let outputs = core::iter::from_fn(|| payee.poll_output());
        let asks = |output: &Output| matches!(output, Output::Backend { .. });
        outputs.filter(asks).count()
    };
    let at_once: usize = (0..100).map(|_| asked(now)).sum();
    // The first one, and eight more.
    assert_eq!(at_once, 9);
    now.mono = now.mono.after_ms(1_000);
    let later: usize = (0..100).map(|_| asked(now)).sum();
    assert_eq!(later, 1);
}

/// Its only purse was refused, and nobody keeps anything of it.
#[test]
fn stranger_whose_purse_was_refused_leaves_nothing_behind() {
    let mut pair = Pair::new(PairConfig {
        wallet: Msat::ZERO,
        ..PairConfig::default()
    });
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Close(_))) if to == PAYEE => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(65, &[]).unwrap();
    let session = pair.payee().unwrap().session().unwrap();
    let kept = |pair: &Pair| {
        pair.payee
            .store
            .scan(&session_prefix(session))
            .unwrap()
            .len()
    };
    assert_eq!(kept(&pair), 2);
    let part = Message::Purse(Purse {
        purse: PurseId(0),
        part: 0,
        of: 1,
        method: 0,
        bytes: Bytes::from_static(b"x"),
    });
    pair.inject(PAYEE, &encode(&part));
    pair.run(1_000, &[]).unwrap();
    let refused = |event: &&Event| matches!(event, Event::PurseRefused { .. });
    assert_eq!(pair.events(PAYEE).iter().filter(refused).count(), 1);
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    pair.run(20_000, &[]).unwrap();
    assert!(pair.payee().unwrap().is_settled());
    assert_eq!(kept(&pair), 0);
}

/// It closes while the backend still looks at its purse, which is settled with nothing. What the backend writes after
/// that is kept with all that a restart needs to read it.
#[test]
fn session_that_left_nothing_is_whole_again_where_its_backend_writes_late() {
    let mut pair = Pair::new(PairConfig {
        wallet: Msat::ZERO,
        ..PairConfig::default()
    });
    pair.run(65, &[]).unwrap();
    let now = pair.now;
    let side::Config::Payee(config) = &pair.payee.config else {
        panic!("a payee");
    };
    let config = config.clone();
    let Some(side::Session::Payee(payee)) = &mut pair.payee.session else {
        panic!("a payee");
    };
    let session = payee.session().unwrap();
    let store = &mut pair.payee.store;
    let mut hear = |input| {
        payee.handle(now, input).unwrap();
        let outputs = core::iter::from_fn(|| payee.poll_output());
        let mut asked = vec![];
        for output in outputs {
            match output {
                Output::Persist(changes) => store.append(&[changes]).unwrap(),
                Output::Backend { purse, .. } => asked.push(purse),
                _ => {}
            }
        }
        let kept = store.scan(&session_prefix(session)).unwrap();
        (asked, kept)
    };
    let part = Message::Purse(Purse {
        purse: PurseId(0),
        part: 0,
        of: 1,
        method: 0,
        bytes: Bytes::from_static(b"x"),
    });
    let (asked, _) = hear(Input::Received(encode(&part)));
    let purse = asked[0];
    hear(Input::Command(Command::Close(CloseCode::Done)));
    let settled = Msat::ZERO;
    let answer = Answer::outcome(Outcome::Settled { settled });
    let (_, kept) = hear(Input::Backend(BackendEvent { purse, answer }));
    assert_eq!(kept.len(), 0);
    let mut answer = Answer::default();
    answer.delta.put([7], vec![1]);
    let (_, kept) = hear(Input::Backend(BackendEvent { purse, answer }));
    let PayeeConfig {
        identity,
        unpaid_ms,
        ..
    } = config;
    let restored = PayeeSession::restore(identity, unpaid_ms, now, session, &kept);
    assert!(restored.is_ok());
}
