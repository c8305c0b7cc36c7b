//! What a caller may ask, and when; and what strangers hear.

use super::side::{Config, Session};
use super::*;
use crate::backend::Answer;
use crate::session::{
    ApiMisuse, BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent,
    MediaGrant, Misbehaviour, Output, PayeeSession,
};
use crate::store::{Store, session_prefix};
use crate::units::{Msat, Now, PurseId, PurseKey, SessionId};
use crate::wire::{Close, Closed, GRANT_MAX, Hello, Message, Purse, decode, encode};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

type Log = Arc<Mutex<Vec<(Direction, Message)>>>;

/// Notes every message from here on, and lets those through that `passes`.
fn noted(pair: &mut Pair, mut passes: impl FnMut(&Message) -> bool + Send + 'static) -> Log {
    let log = Log::default();
    let noted = log.clone();
    pair.tamper(move |to, bytes| {
        let message = decode(bytes).unwrap().unwrap();
        noted.lock().unwrap().push((to, message.clone()));
        if passes(&message) {
            vec![bytes.clone()]
        } else {
            vec![]
        }
    });
    log
}

fn count(log: &Log, wanted: impl Fn(&Message) -> bool) -> usize {
    let log = log.lock().unwrap();
    log.iter().filter(|(_, message)| wanted(message)).count()
}

fn events(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> usize {
    pair.events(of).iter().filter(|event| wanted(event)).count()
}

fn closed(pair: &Pair, of: Direction) -> Option<CloseCode> {
    pair.events(of).iter().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

pub(super) fn link_up() -> Input {
    Input::Link(LinkEvent::Up {
        identity: ChannelIdentity {
            payer: [1; 32],
            payee: [2; 32],
        },
        entropy: Entropy([3; 32]),
    })
}

fn handle(pair: &mut Pair, of: Direction, now: Now, input: Input) -> Result<(), ApiMisuse> {
    let side = match of {
        Direction::ToPayer => &mut pair.payer,
        Direction::ToPayee => &mut pair.payee,
    };
    match side.session.as_mut().unwrap() {
        Session::Payer(payer) => payer.handle(now, input),
        Session::Payee(payee) => payee.handle(now, input),
    }
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let down = || Input::Link(LinkEvent::Down);
    let said = || Input::Received(Bytes::from_static(b"nonsense"));
    let grant = |len| Input::Command(Command::Grant(MediaGrant(vec![0; len].into())));
    for of in [PAYER, PAYEE] {
        let mut pair = Pair::new(PairConfig::default());
        let now = pair.now;
        assert_eq!(handle(&mut pair, of, now, down()), Err(ApiMisuse::NoLink));
        assert_eq!(handle(&mut pair, of, now, said()), Err(ApiMisuse::NoLink));
        pair.run(2_500, &[]).unwrap();
        let now = pair.now;
        let purse = PurseKey {
            session: SessionId([9; 32]),
            purse: PurseId(0),
        };
        let answer = Answer::default();
        let other = Input::Backend(BackendEvent { purse, answer });
        assert_eq!(handle(&mut pair, of, now, Input::Timeout), Ok(()));
        let mut early = now;
        early.mono.0 -= 1;
        for (now, input, wanted) in [
            (now, link_up(), ApiMisuse::LinkAlreadyUp),
            (now, other, ApiMisuse::WrongSession),
            (early, Input::Timeout, ApiMisuse::TimeWentBack),
        ] {
            assert_eq!(handle(&mut pair, of, now, input), Err(wanted), "{of:?}");
        }
        assert_eq!(handle(&mut pair, of, now, grant(GRANT_MAX)), Ok(()));
        let long = handle(&mut pair, of, now, grant(GRANT_MAX + 1));
        assert_eq!(long.is_err(), of == PAYEE);
        pair.run(3_000, &[]).unwrap();
        assert!(pair.credited().msat() >= 8_000, "{of:?}");
        pair.settle().unwrap();
    }
}

#[test]
fn what_can_be_asked_of_a_session_follows_it() {
    let mut pair = Pair::new(PairConfig {
        resumable_s: 60,
        ..PairConfig::default()
    });
    let shown = |pair: &Pair| {
        let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
        (format!("{payer:?}"), format!("{payee:?}"))
    };
    let (payer, payee) = shown(&pair);
    assert!(payer.contains("Offline") && payee.contains("Offline"));
    pair.run(2_500, &[]).unwrap();
    let (payer, payee) = shown(&pair);
    assert!(payer.contains("Live") && payee.contains("Live"), "{payer}");
    let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
    let first = (PurseId(0), FakeBackend::METHOD.to_string());
    assert_eq!(
        (payer.purses(), payee.purses()),
        (vec![first.clone()], vec![first])
    );
    // Usable for 15 s from its opening.
    let out = payer.purses_out();
    let [(PurseId(0), Some(until))] = out[..] else {
        panic!("{out:?}");
    };
    assert!(
        (1_800_000_014..=1_800_000_017).contains(&until.0),
        "{until:?}"
    );
    assert_eq!((payer.resume_by(), payee.resume_by()), (None, None));
    assert!(payer.poll_timeout() <= Some(pair.now.mono.after_ms(500)));
    assert!(payer.poll_timeout().is_some());
    pair.take_link_down(5_000);
    let by = Some(pair.now.mono.after_ms(60_000));
    let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
    assert_eq!((payer.resume_by(), payee.resume_by()), (by, by));
    pair.run(8_000, &[]).unwrap();
    let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
    assert_eq!((payer.resume_by(), payee.resume_by()), (None, None));
    pair.settle().unwrap();
    assert_eq!(pair.payer().unwrap().purses_out(), vec![]);
}

/// A payee that nobody knows yet, connected, and the hello of a payer.
fn fresh(pair: &mut Pair) -> (PayeeSession, Hello) {
    let log = noted(pair, |_| false);
    pair.run(100, &[]).unwrap();
    let log = log.lock().unwrap();
    let mut hellos = log.iter().filter_map(|(_, message)| match message {
        Message::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    let Config::Payee(config) = &pair.payee.config else {
        panic!("a payee");
    };
    let mut payee = PayeeSession::new(config.clone(), &Entropy([8; 32])).unwrap();
    payee.handle(pair.now, link_up()).unwrap();
    (payee, hellos.next().unwrap())
}

/// What a payee says to a message, and the events.
pub(super) fn said(
    payee: &mut PayeeSession,
    now: Now,
    message: Option<Message>,
) -> (Vec<Message>, Vec<Event>) {
    let input = message.map_or(Input::Timeout, |message| Input::Received(encode(&message)));
    payee.handle(now, input).unwrap();
    let (mut said, mut events) = (vec![], vec![]);
    while let Some(output) = payee.poll_output() {
        match output {
            Output::Send(bytes) => said.push(decode(&bytes).unwrap().unwrap()),
            Output::Event(event) => events.push(event),
            _ => {}
        }
    }
    (said, events)
}

#[test]
fn hello_is_answered_once_bound_in_time_and_by_nobody_else() {
    let mut pair = Pair::new(PairConfig::default());
    let (mut payee, hello) = fresh(&mut pair);
    let now = pair.now;
    let (welcome, _) = said(&mut payee, now, Some(Message::Hello(hello.clone())));
    assert!(matches!(welcome[..], [Message::Welcome(_)]));
    // Again the same, and then another's.
    let (again, _) = said(&mut payee, now, Some(Message::Hello(hello.clone())));
    assert_eq!(again, welcome);
    let nonce = [5; 32];
    let other = Hello { nonce, ..hello };
    let (said, events) = said(&mut payee, now, Some(Message::Hello(other)));
    let how = Misbehaviour::Unexpected(0);
    assert!(events.contains(&Event::Misbehaved { how }), "{events:?}");
    assert!(matches!(said[..], [Message::Close(_)]), "{said:?}");
    assert!(payee.is_ended());
}

#[test]
fn hello_that_nobody_binds_is_given_up_after_15_s() {
    let mut pair = Pair::new(PairConfig::default());
    let (mut payee, hello) = fresh(&mut pair);
    let mut now = pair.now;
    said(&mut payee, now, Some(Message::Hello(hello)));
    assert_eq!(payee.poll_timeout(), Some(now.mono.after_ms(15_000)));
    now.mono = now.mono.after_ms(14_999);
    assert_eq!(said(&mut payee, now, None), (vec![], vec![]));
    now.mono = now.mono.after_ms(1);
    let code = CloseCode::TimedOut;
    let (said, _) = said(&mut payee, now, None);
    assert_eq!(said, vec![Message::Close(Close { code })]);
    assert!(payee.is_ended());
}

#[test]
fn payer_that_closes_before_the_binding_is_gone() {
    let mut pair = Pair::new(PairConfig::default());
    let (mut payee, hello) = fresh(&mut pair);
    let now = pair.now;
    said(&mut payee, now, Some(Message::Hello(hello)));
    let code = CloseCode::Done;
    let (_, events) = said(&mut payee, now, Some(Message::Close(Close { code })));
    let by_peer = true;
    assert_eq!(events, vec![Event::Closed { code, by_peer }]);
    assert!(payee.is_ended());
}

/// The payee of a pair from its store, connected.
fn from_store(pair: &Pair) -> PayeeSession {
    let id = pair.payee.id.unwrap();
    let records = pair.payee.store.scan(&session_prefix(id)).unwrap();
    let Config::Payee(config) = &pair.payee.config else {
        panic!("a payee");
    };
    let identity = config.identity.clone();
    let mut payee = PayeeSession::restore(identity, 1_000, pair.now, id, &records).unwrap();
    payee.handle(pair.now, link_up()).unwrap();
    while payee.poll_output().is_some() {}
    payee
}

/// The same, and the hello of its payer.
fn restored(pair: &mut Pair) -> (PayeeSession, Hello) {
    let log = noted(pair, |_| true);
    pair.take_link_down(100);
    pair.run(2_000, &[]).unwrap();
    let log = log.lock().unwrap();
    let mut hellos = log.iter().filter_map(|(_, message)| match message {
        Message::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    (from_store(pair), hellos.next().unwrap())
}

/// A receipt is for who paid.
#[test]
fn session_that_is_closing_is_said_to_its_own_payer_alone() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let (_, hello) = restored(&mut pair);
    // The process dies before the purses are settled.
    pair.payee.crash_in = Some(4);
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    assert!(pair.payee.session.is_none(), "closing, and not settled");
    let mut payee = from_store(&pair);
    let shown = format!("{payee:?}");
    assert!(shown.contains("Settling"), "{shown}");
    let stranger = Hello {
        session_key: hello.identity,
        ..hello.clone()
    };
    let now = pair.now;
    let (told, _) = said(&mut payee, now, Some(Message::Hello(stranger)));
    assert_eq!(told, vec![]);
    let (told, _) = said(&mut payee, now, Some(Message::Hello(hello)));
    let [Message::Closed(Closed { evidence, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    let total = evidence.map(|evidence| evidence.receipt.total);
    assert_eq!(total, Some(pair.credited()));
}

/// The same once all is settled, and before who is there has named the session's keys.
#[test]
fn session_that_is_settled_is_said_to_its_own_payer_alone() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let (_, hello) = restored(&mut pair);
    pair.settle().unwrap();
    let mut payee = from_store(&pair);
    assert!(format!("{payee:?}").contains("Lingering"), "{payee:?}");
    let now = pair.now;
    let request = || Some(Message::ReceiptRequest);
    let (told, _) = said(&mut payee, now, request());
    assert_eq!(told, vec![]);
    let stranger = Hello {
        session_key: hello.identity,
        ..hello.clone()
    };
    let (told, _) = said(&mut payee, now, Some(Message::Hello(stranger)));
    let code = CloseCode::Misbehaved;
    assert_eq!(told, vec![Message::Close(Close { code })]);
    let (told, _) = said(&mut payee, now, request());
    assert_eq!(told, vec![]);
    let (told, _) = said(&mut payee, now, Some(Message::Hello(hello)));
    let [Message::Closed(Closed { evidence, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    let total = evidence.map(|evidence| evidence.receipt.total);
    assert_eq!(total, Some(pair.credited()));
    let (told, _) = said(&mut payee, now, request());
    assert!(matches!(told[..], [Message::Closed(_)]), "{told:?}");
}

#[test]
fn restored_payee_knows_its_payer() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let (mut payee, hello) = restored(&mut pair);
    let now = pair.now;
    let (told, _) = said(&mut payee, now, Some(Message::Hello(hello)));
    assert!(matches!(told[..], [Message::Welcome(_)]), "{told:?}");
}

#[test]
fn lost_messages_of_the_handshake_are_said_again() {
    for lost in 0..3 {
        let mut pair = Pair::new(PairConfig::default());
        let mut left = 2;
        noted(&mut pair, move |message| {
            let is_lost = match message {
                Message::Hello(_) => lost == 0,
                Message::Bind(_) => lost == 1,
                Message::Ready(_) => lost == 2,
                _ => false,
            };
            left -= u8::from(is_lost && left > 0);
            !is_lost || left == 0
        });
        pair.run(12_000, &[]).unwrap();
        assert!(pair.credited().msat() >= 4_000, "{lost}");
        assert_eq!(closed(&pair, PAYER), None);
        pair.tamper = None;
        pair.settle().unwrap();
    }
}

#[test]
fn payer_gives_up_a_binding_that_nobody_confirms_after_15_s() {
    let mut pair = Pair::new(PairConfig::default());
    let log = noted(&mut pair, |message| !matches!(message, Message::Ready(_)));
    pair.run(14_000, &[]).unwrap();
    let down = |event: &Event| matches!(event, Event::LinkDown);
    assert_eq!(events(&pair, PAYER, down), 0);
    assert!(count(&log, |message| matches!(message, Message::Bind(_))) >= 3);
    pair.run(2_000, &[]).unwrap();
    assert_eq!(events(&pair, PAYER, down), 1);
    pair.tamper = None;
    pair.run(5_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 4_000);
    pair.settle().unwrap();
}

#[test]
fn nonsense_before_the_binding_ends_the_connection_alone() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let credited = pair.credited();
    noted(&mut pair, |_| false);
    pair.take_link_down(100);
    pair.run(150, &[]).unwrap();
    for _ in 0..16 {
        pair.inject(PAYER, b"nonsense");
    }
    assert_eq!(closed(&pair, PAYER), None);
    pair.tamper = None;
    pair.run(20_000, &[]).unwrap();
    assert!(pair.credited() > credited);
    pair.settle().unwrap();
}

#[test]
fn tick_and_purse_of_a_lost_connection_are_repeated_on_the_next() {
    // The purse that nobody heard of.
    let mut pair = Pair::new(PairConfig::default());
    noted(&mut pair, |message| !matches!(message, Message::Purse(_)));
    pair.run(1_000, &[]).unwrap();
    pair.tamper = None;
    pair.take_link_down(100);
    pair.run(1_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 2_000, "{}", pair.credited());
    pair.settle().unwrap();
    // The tick, of which the first repetition is lost too.
    let mut pair = Pair::new(PairConfig::default());
    noted(&mut pair, |message| !matches!(message, Message::Tick(_)));
    pair.run(1_000, &[]).unwrap();
    let mut ticks = 0;
    noted(&mut pair, move |message| {
        ticks += u8::from(matches!(message, Message::Tick(_)));
        ticks != 1
    });
    pair.take_link_down(100);
    pair.run(4_000, &[]).unwrap();
    assert!(pair.credited().msat() >= 2_000, "{}", pair.credited());
    pair.tamper = None;
    pair.settle().unwrap();
}

#[test]
fn bound_payee_that_says_closed_ends_the_session_with_or_without_a_receipt() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let (code, evidence) = (CloseCode::Done, None);
    pair.inject(
        PAYER,
        &encode(&Message::Closed(Closed {
            code,
            evidence,
            proof: None,
        })),
    );
    assert_eq!(closed(&pair, PAYER), Some(code));
    pair.settle().unwrap();
}

#[test]
fn note_of_a_purse_may_begin_anew_and_is_of_its_method() {
    let part = |part, method, bytes: &'static [u8]| {
        encode(&Message::Purse(Purse {
            purse: PurseId(0),
            part,
            of: 2,
            method,
            bytes: Bytes::from_static(bytes),
        }))
    };
    let how = Misbehaviour::PurseParts;
    let misbehaved = |pair: &Pair| events(pair, PAYER, |event| *event == Event::Misbehaved { how });
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    // Terms list this method second.
    for bytes in [part(0, 1, b"a"), part(0, 1, b"b"), part(1, 1, b"c")] {
        pair.inject(PAYER, &bytes);
        assert_eq!(misbehaved(&pair), 0);
    }
    pair.inject(PAYER, &part(0, 0, b"a"));
    assert_eq!(misbehaved(&pair), 1);
    pair.settle().unwrap();
}

#[test]
fn notes_on_one_connection_are_looked_at_1024_times() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    let note = encode(&Message::Purse(Purse {
        purse: PurseId(0),
        part: 0,
        of: 1,
        method: 1,
        bytes: Bytes::from_static(b"note"),
    }));
    let how = Misbehaviour::PurseParts;
    for notes in 1..=1_025 {
        pair.inject(PAYER, &note);
        let found = events(&pair, PAYER, |event| *event == Event::Misbehaved { how });
        assert_eq!(found > 0, notes == 1_025, "{notes}");
    }
}

/// Nothing could be lost yet, so what it offers by then holds.
#[test]
fn payee_that_died_before_its_first_record_may_offer_other_terms() {
    let mut changed = 0;
    for outputs in 0..8 {
        let mut pair = Pair::new(PairConfig::default());
        if let Config::Payee(config) = &mut pair.payee.config {
            Arc::make_mut(&mut config.terms).title = "after the crash".into();
        }
        let away_ms = 300;
        let crash = Fault::CrashPayee { outputs, away_ms };
        pair.run(6_000, &[(0, crash)]).unwrap();
        assert!(pair.credited().msat() >= 6_000, "{outputs}");
        let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
        assert_eq!(payer.terms(), Some(payee.terms()), "{outputs}");
        changed += u8::from(payee.terms().title == "after the crash");
        pair.settle().unwrap();
    }
    assert!((1..8).contains(&changed), "{changed}");
}

#[test]
fn what_ends_a_session_without_a_purse_is_said() {
    let config = PairConfig {
        wallet: Msat::ZERO,
        ..PairConfig::default()
    };
    let mut pair = Pair::new(config);
    pair.run(60_000, &[]).unwrap();
    assert_eq!(closed(&pair, PAYER), Some(CloseCode::InsufficientFunds));
}

#[test]
fn terms_that_hold_money_for_longer_than_30_days_are_refused() {
    for (resumable_s, code) in [
        (30 * 86_400, None),
        (30 * 86_400 + 1, Some(CloseCode::OverPolicy)),
        (u32::MAX, Some(CloseCode::OverPolicy)),
    ] {
        let mut pair = Pair::new(PairConfig {
            resumable_s,
            ..PairConfig::default()
        });
        pair.run(2_500, &[]).unwrap();
        assert_eq!(closed(&pair, PAYER), code, "{resumable_s}");
    }
}

#[test]
fn payee_is_not_told_that_it_flows_while_it_pauses_itself() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    pair.command(PAYEE, Command::Pause);
    pair.command(PAYER, Command::Pause);
    pair.run(500, &[]).unwrap();
    pair.command(PAYER, Command::Resume);
    pair.run(500, &[]).unwrap();
    let resumed = |event: &Event| matches!(event, Event::Resumed);
    assert_eq!(events(&pair, PAYEE, resumed), 0);
    pair.command(PAYEE, Command::Resume);
    assert_eq!(events(&pair, PAYEE, resumed), 1);
    pair.settle().unwrap();
}

#[test]
fn pause_is_no_reason_to_send_a_payer_away() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    let credited = pair.credited();
    pair.run(705_000, &[(0, Fault::PausePayer(700_000))])
        .unwrap();
    assert_eq!((closed(&pair, PAYER), closed(&pair, PAYEE)), (None, None));
    assert!(pair.credited() > credited);
    pair.settle().unwrap();
}

/// Each side by itself: the other's word is lost.
#[test]
fn payer_ends_by_itself_a_pause_that_nobody_ends() {
    let mut pair = Pair::new(PairConfig {
        resumable_s: 30,
        ..PairConfig::default()
    });
    pair.run(2_500, &[]).unwrap();
    noted(&mut pair, |message| {
        !matches!(message, Message::Close(_) | Message::Closed(_))
    });
    pair.command(PAYER, Command::Pause);
    pair.run(29_000, &[]).unwrap();
    assert_eq!(closed(&pair, PAYER), None);
    pair.run(2_000, &[]).unwrap();
    assert_eq!(closed(&pair, PAYER), Some(CloseCode::TimedOut));
    pair.tamper = None;
    pair.settle().unwrap();
}
