//! A room over whole sessions: joining, fees, chat, tips, evil payers and payees, crashes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::room::{Admission, HostCommand, RoomConfig, RoomId};
use crate::session::{CloseCode, Command, Event, Invitation, Line, Misbehaviour, Name, RoomNews};
use crate::units::{Msat, PurseId, PurseKey, Seq, Unix};
use crate::wire::{Chat, Join, Message, Presence, RoomCode, Tip, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn room() -> RoomConfig {
    RoomConfig::new(RoomId([1; 32]))
}

fn house(config: RoomConfig, count: u64, fee: u64) -> House {
    let pair = |seed| PairConfig {
        seed,
        join_fee: sat(fee),
        ..PairConfig::default()
    };
    House::new(config, (1..=count).map(pair))
}

fn join(fee: u64) -> Command {
    Command::Join {
        name: Name::new("ann").unwrap(),
        invitation: None,
        max_fee: sat(fee),
    }
}

fn news(pair: &Pair) -> Vec<&RoomNews> {
    let mut news = vec![];
    for event in pair.events(PAYER) {
        if let Event::News(one) = event {
            news.push(one);
        }
    }
    news
}

fn joined(pair: &Pair) -> usize {
    let is_in = |news: &&&RoomNews| matches!(news, RoomNews::Joined { .. });
    news(pair).iter().filter(is_in).count()
}

fn refused(pair: &Pair, code: RoomCode) -> bool {
    news(pair).contains(&&RoomNews::Refused { code })
}

fn chats(pair: &Pair) -> usize {
    let is_chat = |news: &&&RoomNews| matches!(news, RoomNews::Chat { .. });
    news(pair).iter().filter(is_chat).count()
}

fn misbehaved(pair: &Pair) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Misbehaved { .. });
    pair.events(PAYER)
        .iter()
        .chain(pair.events(PAYEE))
        .any(is_it)
}

fn tips(pair: &Pair) -> (u64, u64) {
    let (payer, payee) = (pair.payer().unwrap(), pair.payee().unwrap());
    (payer.tips().sat_floor(), payee.tips().sat_floor())
}

#[test]
fn they_join_hear_each_other_and_see_how_many_they_are() {
    let mut house = house(room(), 3, 0);
    (0..3).for_each(|n| house.join(n, join(0)));
    house.run(3_000, &[]).unwrap();
    house.say(0);
    house.say(0);
    house.say(1);
    house.command(2, Command::Tip(sat(6)));
    house.run(3_000, &[]).unwrap();
    for (pair, heard) in house.pairs.iter().zip([1, 2, 3]) {
        assert_eq!((joined(pair), chats(pair)), (1, heard));
        let tip =
            |news: &&&RoomNews| matches!(news, RoomNews::Tip { amount, .. } if *amount == sat(6));
        assert_eq!(news(pair).iter().filter(tip).count(), 1);
        let three = |news: &&RoomNews| matches!(news, RoomNews::Presence { viewers: 3, .. });
        assert!(news(pair).iter().any(three));
    }
    // One leaves the room and stays a viewer; one closes and is none.
    house.command(0, Command::Leave);
    house.command(1, Command::Close(CloseCode::Done));
    house.run(2_000, &[]).unwrap();
    assert_eq!((house.room.viewers(), house.room.names().count()), (2, 1));
    house.say(0);
    house.run(1_000, &[]).unwrap();
    assert_eq!(chats(&house.pairs[2]), 3, "who left is not heard");
    house.settle().unwrap();
}

#[test]
fn payee_without_a_room_says_so_and_the_session_goes_on() {
    let mut pair = Pair::new(PairConfig::default());
    pair.command(PAYER, join(0));
    pair.run(5_000, &[]).unwrap();
    assert!(refused(&pair, RoomCode::NoRoom) && !misbehaved(&pair));
    // A tip needs no room.
    pair.tip(sat(4));
    let chat = Message::Chat(Chat {
        id: 1,
        sender: None,
        text: "x".into(),
    });
    (0..100).for_each(|_| pair.inject(PAYEE, &encode(&chat)));
    pair.inject(PAYEE, &encode(&Message::Leave));
    pair.run(5_000, &[]).unwrap();
    assert_eq!(tips(&pair), (4, 4));
    assert!(!misbehaved(&pair) && pair.delivered().media_ms > 9_000);
    pair.settle().unwrap();
}

#[test]
fn fee_is_paid_by_consent_once_and_over_reconnects() {
    let mut house = house(room(), 3, 5);
    house.join(0, join(6));
    house.join(1, join(5));
    house.run(5_000, &[]).unwrap();
    assert_eq!(
        (joined(&house.pairs[0]), tips(&house.pairs[0])),
        (1, (6, 6))
    );
    // Three ticks of 2 are more than 5: that user did not consent.
    assert!(refused(&house.pairs[1], RoomCode::Unpaid));
    assert_eq!(tips(&house.pairs[1]), (0, 0));
    // Who gave as much before need not pay again.
    house.command(2, Command::Tip(sat(8)));
    house.run(2_000, &[]).unwrap();
    house.join(2, join(0));
    let faults = [(0, 0, Fault::LinkDown(500)), (0, 2, Fault::LinkDown(500))];
    house.run(5_000, &faults).unwrap();
    assert_eq!(
        (joined(&house.pairs[0]), tips(&house.pairs[0])),
        (2, (6, 6))
    );
    assert_eq!(tips(&house.pairs[2]), (8, 8));
    assert!(joined(&house.pairs[2]) >= 1);
    // Only what goes beyond the fee is told as a tip.
    house.settle().unwrap();
}

#[test]
fn crash_at_any_output_pays_the_fee_once() {
    for outputs in 0..20 {
        let away_ms = 300;
        let payer = Fault::CrashPayer { outputs, away_ms };
        let payee = Fault::CrashPayee { outputs, away_ms };
        for fault in [payer, payee] {
            let mut house = house(room(), 1, 5);
            house.run(1_500, &[]).unwrap();
            house.join(0, join(6));
            house.run(8_000, &[(0, 0, fault)]).unwrap();
            assert_eq!(house.pairs[0].crashes(), 1, "{fault:?}");
            assert_eq!(tips(&house.pairs[0]), (6, 6), "{fault:?}");
            assert!(joined(&house.pairs[0]) >= 1, "{fault:?}");
            house.settle().unwrap();
        }
    }
}

/// The payee spent it, said no, and the user wrote it off. It is no part of the fee any more, and counts for what the
/// user consents to.
#[test]
fn fee_that_was_lost_is_missing_and_its_payer_is_told() {
    for (consent, joins) in [(4, 0), (5, 0), (6, 1)] {
        let mut pair = Pair::new(PairConfig {
            join_fee: sat(4),
            ..PairConfig::default()
        });
        pair.open_room();
        pair.run(500, &[]).unwrap();
        let (session, purse) = (pair.payer.id.unwrap(), PurseId(0));
        pair.mint.steal(PurseKey { session, purse }, Seq(2));
        pair.command(PAYER, join(consent));
        let unpaid = |pair: &mut Pair| {
            let code = RoomCode::Unpaid;
            let unpaid = Message::RoomRefused(crate::wire::RoomRefused { code });
            pair.inject(PAYER, &encode(&unpaid));
        };
        unpaid(&mut pair);
        pair.run(8_000, &[]).unwrap();
        let lost = |event: &&Event| matches!(event, Event::TickLost { .. });
        assert_eq!(pair.events(PAYER).iter().filter(lost).count(), 1);
        pair.command(PAYER, Command::WriteOff);
        pair.run(8_000, &[]).unwrap();
        if joins == 0 {
            assert!(refused(&pair, RoomCode::Unpaid), "{consent}");
            assert_eq!(tips(&pair), (4, 2), "{consent}");
        } else {
            assert_eq!(tips(&pair), (6, 4), "{consent}");
        }
    }
}

#[test]
fn payee_that_wants_the_fee_twice_or_asks_for_one_that_is_not_in_the_terms_gets_nothing() {
    for fee in [0, 4] {
        let mut pair = Pair::new(PairConfig {
            join_fee: sat(fee),
            ..PairConfig::default()
        });
        pair.run(2_000, &[]).unwrap();
        pair.command(PAYER, join(100));
        for _ in 0..5 {
            let code = RoomCode::Unpaid;
            let unpaid = Message::RoomRefused(crate::wire::RoomRefused { code });
            pair.inject(PAYER, &encode(&unpaid));
            pair.run(2_000, &[]).unwrap();
        }
        assert_eq!(tips(&pair), (fee, fee));
        pair.settle().unwrap();
    }
}

#[test]
fn invitation_travels_and_lets_one_in() {
    let config = RoomConfig {
        admission: Admission::Listed,
        ..room()
    };
    let mut house = house(config, 3, 0);
    let token = Invitation::new(&b"sixteen random b"[..]).unwrap();
    house.host(HostCommand::Invite {
        invitation: token.hash(),
        uses: 1,
        expires: Unix(u64::MAX),
    });
    let shown = |token: Option<&Invitation>| Command::Join {
        name: Name::new("bob").unwrap(),
        invitation: token.cloned(),
        max_fee: Msat::ZERO,
    };
    house.join(0, shown(None));
    house.join(1, shown(Some(&token)));
    house.run(3_000, &[]).unwrap();
    house.join(2, shown(Some(&token)));
    house.run(3_000, &[]).unwrap();
    assert!(refused(&house.pairs[0], RoomCode::NotInvited));
    assert_eq!(joined(&house.pairs[1]), 1);
    assert!(refused(&house.pairs[2], RoomCode::NotInvited));
    // It comes back, after a crash of the whole house as well.
    house.crash();
    house.run(5_000, &[]).unwrap();
    assert_eq!(joined(&house.pairs[1]), 2);
    house.settle().unwrap();
}

#[test]
fn who_is_banned_is_sent_out_with_its_money_and_does_not_come_back() {
    let mut house = house(room(), 2, 0);
    (0..2).for_each(|n| house.join(n, join(0)));
    house.run(3_500, &[]).unwrap();
    let who = house.identity(0).unwrap();
    house.host(HostCommand::Ban(who));
    house.run(15_000, &[]).unwrap();
    let closed = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                code: CloseCode::Banned,
                by_peer: true
            }
        )
    };
    assert!(house.pairs[0].events(PAYER).iter().any(closed));
    assert_eq!(house.room.viewers(), 1);
    assert!(house.pairs[0].payer.is_settled());
    house.settle().unwrap();
}

#[test]
fn count_and_names_are_exact_after_a_crash_of_the_house() {
    let mut house = house(room(), 3, 0);
    (0..3).for_each(|n| house.join(n, join(0)));
    for outputs in [0, 1, 2, 5, 9] {
        house.run(4_000, &[]).unwrap();
        house.crash_in = Some(outputs);
        (0..3).for_each(|n| house.say(n));
        house.run(200, &[(0, 1, Fault::LinkDown(2_000))]).unwrap();
        house.run(8_000, &[]).unwrap();
        assert_eq!((house.room.viewers(), house.room.names().count()), (3, 3));
    }
    assert_eq!(house.crashes, 5);
    house.settle().unwrap();
}

/// Everything that a payee's machine may be told by an evil payer, and a payer's by a payee.
#[test]
fn words_of_the_room_end_no_session_and_flood_nobody() {
    let mut house = house(room(), 2, 0);
    (0..2).for_each(|n| house.join(n, join(0)));
    house.run(3_000, &[]).unwrap();
    let chat = |id, sender: Option<&str>| {
        let sender = sender.map(Into::into);
        let text = "x".repeat(500);
        encode(&Message::Chat(Chat { id, sender, text }))
    };
    let join = encode(&Message::Join(Join {
        name: "eve".into(),
        invitation: None,
    }));
    let mallory = &mut house.pairs[0];
    mallory.inject(PAYEE, &chat(1, Some("bob#12345678")));
    for id in 0..1_000 {
        mallory.inject(PAYEE, &chat(id, None));
        mallory.inject(PAYEE, &chat(7, None));
        mallory.inject(PAYEE, &join);
    }
    house.run(2_000, &[]).unwrap();
    assert!(chats(&house.pairs[1]) <= 6, "{}", chats(&house.pairs[1]));
    let payer = &mut house.pairs[1];
    let before = payer.events(PAYER).len();
    for id in 0..5_000 {
        payer.inject(PAYER, &chat(u64::MAX - 5_000 + id, Some("x")));
        let tip = Message::Tip(Tip {
            id,
            sender: "x".into(),
            amount: sat(1),
        });
        payer.inject(PAYER, &encode(&tip));
        let presence = Message::Presence(Presence {
            epoch: 0,
            viewers: 9,
        });
        payer.inject(PAYER, &encode(&presence));
    }
    assert!(payer.events(PAYER).len() - before < 200);
    house.run(3_000, &[]).unwrap();
    for pair in &house.pairs {
        assert!(!misbehaved(pair));
        assert!(pair.delivered().media_ms > 7_000, "{:?}", pair.delivered());
    }
    house.settle().unwrap();
}

#[test]
fn words_of_the_other_role_are_misbehaviour_and_words_before_the_binding_are_not_heard() {
    let tip = encode(&Message::Tip(Tip {
        id: 1,
        sender: "x".into(),
        amount: sat(1),
    }));
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_000, &[]).unwrap();
    pair.inject(PAYEE, &tip);
    let how = Misbehaviour::Unexpected(50);
    assert!(pair.events(PAYEE).contains(&Event::Misbehaved { how }));
    pair.settle().unwrap();
    let mut pair = Pair::new(PairConfig::default());
    let leave = encode(&Message::Leave);
    pair.tamper(move |to, bytes| match to {
        PAYEE => vec![leave.clone(), bytes.clone()],
        PAYER => vec![tip.clone(), bytes.clone()],
    });
    pair.run(3_000, &[]).unwrap();
    assert!(!misbehaved(&pair) && news(&pair).is_empty());
    pair.settle().unwrap();
}

/// Names come from the payee alone, and its `joined` is believed only when asked for.
#[test]
fn joined_that_nobody_asked_for_changes_nothing() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_000, &[]).unwrap();
    let name = "eve".into();
    pair.inject(
        PAYER,
        &encode(&Message::Joined(crate::wire::Joined { name })),
    );
    pair.tamper(|_, bytes: &Bytes| {
        let said = matches!(decode(bytes), Ok(Some(Message::Chat(_))));
        assert!(!said, "it is not in");
        vec![bytes.clone()]
    });
    let text = Line::new("x").unwrap();
    pair.command(PAYER, Command::Chat(text));
    pair.run(2_000, &[]).unwrap();
    assert!(news(&pair).is_empty());
    pair.settle().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Three sessions in one room under any weather, with crashes of each process and of the
    /// whole house: money as if each were alone, the count exact at each moment, no line twice,
    /// each tip and fee once.
    #[test]
    fn any_weather_keeps_the_room_and_the_money(
        seed: u64,
        storms in proptest::collection::vec(faults(15_000), 3),
        acts in proptest::collection::vec((0_usize..3, 0_u8..6, 100_u64..1_500), 5..25),
        crash in 0_u16..200,
    ) {
        let fail = |violation: Violation| TestCaseError::fail(violation.to_string());
        let pair = |n| PairConfig { seed: seed.wrapping_add(n), join_fee: sat(3), ..PairConfig::default() };
        let mut house = House::new(room(), (0..3).map(pair));
        (0..3).for_each(|n| house.join(n, join(4)));
        house.crash_in = Some(crash);
        let mut faults: Vec<_> = storms.into_iter().enumerate()
            .flat_map(|(n, storm)| storm.into_iter().map(move |(at, fault)| (at, n, fault)))
            .collect();
        for (n, act, ms) in acts {
            match act {
                0..=2 => house.say(n),
                3 => house.command(n, Command::Tip(sat(3))),
                4 => house.command(n, Command::Leave),
                _ => house.join(n, join(4)),
            }
            house.run(ms, &faults).map_err(fail)?;
            faults = faults.into_iter().filter(|(at, ..)| *at >= ms)
                .map(|(at, n, fault)| (at - ms, n, fault)).collect();
        }
        house.heal();
        house.run(40_000, &[]).map_err(fail)?;
        for pair in &house.pairs {
            if let (Some(payer), Some(payee)) = (pair.payer(), pair.payee()) {
                let flows = payee.viewer().is_some() && !payer.is_ended();
                let left = payer.tips_wanted().saturating_minus(payer.tips());
                prop_assert!(!flows || left < pair.config.max_tick, "{left} is not given");
                prop_assert!(!flows || payer.tips() == payee.tips());
            }
        }
        house.settle().map_err(fail)?;
    }
}
