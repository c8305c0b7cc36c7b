//! Who says nothing signed ends nothing; who does not pay does not stay.

use super::side::Config;
use super::*;
use crate::meter::Grant;
use crate::meter::Reading;
use crate::session::{
    ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent, Misbehaviour, Output,
    PayeeSession, SecretKey,
};
use crate::store::{Store, session_prefix};
use crate::units::{Msat, PurseId, Seq};
use crate::wire::{Close, Closed, Hello, Message, Purse, Tick, VERSION, decode, encode};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn count(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> usize {
    let events = pair.events(of).iter();
    events.filter(|event| wanted(event)).count()
}

fn closed(pair: &Pair, of: Direction) -> Option<CloseCode> {
    let mut events = pair.events(of).iter();
    events.find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn nothing_unsigned_ends_or_pauses_a_session_that_exists() {
    let code = CloseCode::Done;
    let huge = Reading {
        media_ms: u64::MAX,
        bytes: u64::MAX,
    };
    let (evidence, nothing) = (None, Message::Reading(Reading::default()));
    for said in [
        Message::Close(Close { code }),
        Message::Closed(Closed {
            code,
            evidence,
            proof: None,
        }),
        Message::Reading(huge),
        nothing,
    ] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(5_500, &[]).unwrap();
        let credited = pair.credited();
        // In the place of every welcome somebody else speaks.
        pair.tamper(move |_, bytes| match decode(bytes) {
            Ok(Some(Message::Welcome(_))) => vec![encode(&said)],
            _ => vec![bytes.clone()],
        });
        pair.take_link_down(4_000);
        pair.run(60_000, &[]).unwrap();
        assert_eq!((closed(&pair, PAYER), pair.credited()), (None, credited));
        pair.tamper = None;
        pair.run(60_000, &[]).unwrap();
        assert!(pair.credited() > credited);
        pair.settle().unwrap();
    }
}

/// Found by the simulator: a connection that was given up, and an unsigned message on it.
#[test]
fn nothing_on_a_connection_that_was_given_up_ends_a_session() {
    let close = Message::Close(Close {
        code: CloseCode::Done,
    });
    let tick = Message::Tick(Tick {
        purse: PurseId(0),
        seq: Seq(1),
        cumulative: Msat::ZERO,
        payload: Bytes::new(),
        tips: None,
    });
    for to in [PAYEE, PAYER] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(5_500, &[]).unwrap();
        let credited = pair.credited();
        // Nobody answers the hello; somebody who signs nothing speaks instead.
        pair.tamper(|_, _| vec![]);
        pair.take_link_down(100);
        pair.run(150, &[]).unwrap();
        pair.inject(to, &encode(&close));
        match to {
            // What the payee takes for a hello, and the payer for a tick, cannot come now.
            PAYEE => (0..40).for_each(|_| pair.inject(to, b"nonsense")),
            PAYER => pair.inject(to, &encode(&tick)),
        }
        assert_eq!(closed(&pair, to), None);
        pair.tamper = None;
        pair.run(20_000, &[]).unwrap();
        assert!(pair.credited() > credited);
        pair.settle().unwrap();
    }
}

#[test]
fn a_payer_that_goes_quiet_is_sent_away_once_its_credit_is_used() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_500, &[]).unwrap();
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(_) | Message::Pause(_) | Message::Close(_))) if to == PAYEE => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(700_000, &[]).unwrap();
    assert_eq!(closed(&pair, PAYEE), Some(CloseCode::TimedOut));
    pair.tamper = None;
    pair.settle().unwrap();
}

#[test]
fn a_payer_whose_purse_is_being_checked_is_waited_for_three_times_as_long() {
    for (shows, limit_ms) in [(false, 600_000), (true, 1_800_000)] {
        let mut pair = Pair::new(PairConfig::default());
        pair.tamper(|to, bytes| match decode(bytes) {
            Ok(Some(Message::Purse(_) | Message::Tick(_) | Message::Close(_))) if to == PAYEE => {
                vec![]
            }
            _ => vec![bytes.clone()],
        });
        pair.run(3_000, &[(0, Fault::MintAway(10_000_000))])
            .unwrap();
        if shows {
            let purse = Purse {
                purse: PurseId(7),
                part: 0,
                of: 1,
                method: 1,
                // The fake method's openings tell what is in them.
                bytes: Bytes::copy_from_slice(&100_000_u64.to_be_bytes()),
            };
            pair.inject(PAYEE, &encode(&Message::Purse(purse)));
        }
        pair.run(limit_ms - 10_000, &[]).unwrap();
        assert_eq!(closed(&pair, PAYEE), None, "{shows}");
        pair.run(20_000, &[]).unwrap();
        assert_eq!(closed(&pair, PAYEE), Some(CloseCode::TimedOut), "{shows}");
    }
}

#[test]
fn refused_ticks_and_unpaid_purses_are_few() {
    let mut pair = Pair::new(PairConfig::default());
    // Its own ticks never arrive: nothing is credited.
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(_))) => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(3_000, &[]).unwrap();
    for seq in 1..100 {
        let tick = Message::Tick(Tick {
            purse: PurseId(0),
            seq: Seq(seq),
            cumulative: Msat::from_sat(1_000).unwrap(),
            payload: Bytes::from_static(b"x"),
            tips: None,
        });
        pair.inject(PAYEE, &encode(&tick));
    }
    pair.run(1_000, &[]).unwrap();
    let refused = |event: &Event| matches!(event, Event::TickRefused { .. });
    assert_eq!(count(&pair, PAYEE, refused), 16);
    assert_eq!(closed(&pair, PAYEE), Some(CloseCode::Misbehaved));

    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(_) | Message::PurseRefused(_))) => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(3_000, &[]).unwrap();
    for purse in 1..100 {
        let purse = Message::Purse(Purse {
            purse: PurseId(purse),
            part: 0,
            of: 1,
            method: 0,
            bytes: Bytes::from_static(b"x"),
        });
        pair.inject(PAYEE, &encode(&purse));
    }
    pair.run(1_000, &[]).unwrap();
    let how = Misbehaviour::PurseParts;
    assert_eq!(
        count(&pair, PAYEE, |event| *event == Event::Misbehaved { how }),
        1
    );
    let purses =
        |event: &Event| matches!(event, Event::PurseRefused { .. } | Event::PurseOpen { .. });
    assert!(count(&pair, PAYEE, purses) <= 8);
}

/// One meter at a time each word is within the bound; both together are not.
#[test]
fn consent_to_drift_of_two_meters_is_no_more() {
    let mut pair = Pair::new(PairConfig {
        bytes_msat: 20,
        ..PairConfig::default()
    });
    pair.run(5_500, &[]).unwrap();
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(_))) if to == PAYER => {
            let say = |media_ms, bytes| encode(&Message::Reading(Reading { media_ms, bytes }));
            let alone = (1..40).flat_map(|part| [say(part * 500, 0), say(0, part * 5_000_000)]);
            core::iter::once(bytes.clone()).chain(alone).collect()
        }
        _ => vec![bytes.clone()],
    });
    pair.run(1_000, &[]).unwrap();
    let before = pair.payer().unwrap().reading();
    pair.command(PAYER, Command::Resume);
    let payer = pair.payer().unwrap();
    let schedule = payer.schedule();
    let booked = payer.booked();
    let both = Reading {
        media_ms: before.media_ms + booked.media_ms,
        bytes: before.bytes + booked.bytes,
    };
    let cost = schedule.used(both).saturating_minus(schedule.used(before));
    assert!(
        booked.bytes > 0 && cost.msat() <= 5_000,
        "{cost} {booked:?}"
    );
    pair.tamper = None;
    pair.settle().unwrap();
}

#[test]
fn consent_to_drift_is_consent_to_a_tick_and_a_lease() {
    let mut pair = Pair::new(PairConfig {
        preview: Msat::from_sat(1_000_000).unwrap(),
        consents: false,
        ..PairConfig::default()
    });
    pair.run(5_500, &[]).unwrap();
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(_))) if to == PAYER => vec![
            bytes.clone(),
            encode(&Message::Reading(Reading {
                media_ms: 3_600_000,
                bytes: 0,
            })),
        ],
        _ => vec![bytes.clone()],
    });
    let booked = |pair: &Pair| pair.payer().unwrap().booked().media_ms;
    for _ in 0..20 {
        let before = booked(&pair);
        pair.run(1_000, &[]).unwrap();
        assert_eq!(booked(&pair), before, "nobody was asked");
        pair.command(PAYER, Command::Resume);
        let more = booked(&pair) - before;
        assert!(more <= 1_250, "{more} by one consent");
    }
    pair.tamper = None;
    pair.settle().unwrap();
}

/// Its old payments would be taken for new ones.
#[test]
fn a_settled_session_is_never_begun_anew() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_500, &[]).unwrap();
    pair.settle().unwrap();
    let id = pair.payee.id.unwrap();
    let records = pair.payee.store.scan(&session_prefix(id)).unwrap();
    let identity = pair.payee_key.clone();
    let mut payee = PayeeSession::restore(identity, 1_000, pair.now, id, &records).unwrap();
    let stranger = SecretKey::derive(&Entropy([9; 32]), "stranger").unwrap();
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let entropy = Entropy([3; 32]);
    let hello = Message::Hello(Hello {
        session: id,
        versions: vec![VERSION],
        features: 0,
        nonce: [7; 32],
        identity: stranger.public(),
        session_key: stranger.public(),
        root: None,
        evidence: None,
    });
    let up = Input::Link(LinkEvent::Up { identity, entropy });
    payee.handle(pair.now, up).unwrap();
    payee
        .handle(pair.now, Input::Received(encode(&hello)))
        .unwrap();
    let mut said = vec![];
    while let Some(output) = payee.poll_output() {
        match output {
            Output::Send(bytes) => said.push(decode(&bytes).unwrap().unwrap()),
            Output::Gate(grant) => assert_eq!(grant, Grant::Closed),
            _ => {}
        }
    }
    let over = |message: &Message| matches!(message, Message::Close(_) | Message::Closed(_));
    assert!(!said.is_empty() && said.iter().all(over), "{said:?}");
}

/// What somebody says to the hello of a payer that comes back.
enum Says {
    /// What the payee would.
    Proof,
    /// The same by another key.
    Forged,
    /// The same to another hello.
    Earlier,
    /// The receipt that the hello itself shows.
    Echo,
    /// The same, where the payee has another receipt.
    Less,
}

#[test]
fn payee_that_closed_while_its_payer_was_away_ends_it_by_a_proof_to_its_hello() {
    for (says, ends) in [
        (Says::Proof, true),
        (Says::Forged, false),
        (Says::Earlier, false),
        (Says::Echo, false),
        (Says::Less, false),
    ] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(3_500, &[]).unwrap();
        let key = match (&says, &pair.payee.config) {
            (Says::Forged, Config::Payee(config)) => config.identity.clone(),
            _ => pair.payee_key.clone(),
        };
        let (session, code) = (pair.payer.id.unwrap(), CloseCode::Done);
        let hellos = Arc::new(Mutex::new(vec![]));
        let heard = hellos.clone();
        pair.tamper(move |_, bytes| {
            if let Ok(Some(Message::Hello(hello))) = decode(bytes) {
                heard.lock().unwrap().push(hello);
            }
            vec![]
        });
        pair.take_link_down(100);
        pair.run(150, &[]).unwrap();
        let hello = hellos.lock().unwrap().pop().unwrap();
        let receipt = hello.evidence.unwrap().receipt;
        let evidence = match says {
            Says::Less => None,
            Says::Echo => hello.evidence,
            _ => Some(receipt.sign(session, &key)),
        };
        let nonce = match says {
            Says::Earlier => [7; 32],
            _ => hello.nonce,
        };
        let mut closed_by = Closed {
            code,
            evidence,
            proof: None,
        };
        let proof = key.sign(closed_by.hash(session, &nonce), &[0; 32]);
        closed_by.proof = (!matches!(says, Says::Echo)).then_some(proof);
        pair.inject(PAYER, &encode(&Message::Closed(closed_by)));
        assert_eq!(closed(&pair, PAYER), ends.then_some(code));
        pair.tamper = None;
        pair.run(20_000, &[]).unwrap();
        pair.settle().unwrap();
    }
}
