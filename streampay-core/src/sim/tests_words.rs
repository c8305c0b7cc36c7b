//! What the sides say besides ticks: versions, features, grants, receipts; and when a session that
//! nobody resumes ends.

use bytes::Bytes;

use super::*;
use crate::session::{
    ApiMisuse, CloseCode, Command, Event, Input, MediaGrant, Misbehaviour, Receipt,
};
use crate::units::{Msat, PurseId, Seq};
use crate::wire::{Ack, GRANT_MAX, Hello, Message, VERSION, Welcome, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn any(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> bool {
    pair.events(of).iter().any(wanted)
}

fn bound(pair: &Pair) -> bool {
    any(pair, PAYER, |event| matches!(event, Event::Bound { .. }))
}

/// Runs with every hello and welcome changed.
fn met(hello: impl Fn(&mut Hello) + Send + 'static, welcome: fn(&mut Welcome)) -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(move |_, bytes| {
        let mut message = decode(bytes).unwrap().unwrap();
        match &mut message {
            Message::Hello(found) => hello(found),
            Message::Welcome(found) => welcome(found),
            _ => {}
        }
        vec![encode(&message)]
    });
    pair.run(3_000, &[]).unwrap();
    pair
}

fn closed(pair: &Pair, of: Direction, wanted: CloseCode) -> bool {
    any(
        pair,
        of,
        |event| matches!(event, Event::Closed { code, .. } if *code == wanted),
    )
}

#[test]
fn no_common_version_and_unknown_even_feature_are_refused() {
    let unknown = met(|hello| hello.versions = vec![VERSION + 1], |_| {});
    assert!(closed(&unknown, PAYEE, CloseCode::Incompatible) && !bound(&unknown));
    for bit in (0..64).step_by(2) {
        let even = met(move |hello| hello.features |= 1 << bit, |_| {});
        assert!(
            closed(&even, PAYEE, CloseCode::Incompatible) && !bound(&even),
            "{bit}"
        );
        assert_eq!(even.mint.payer, even.total);
    }
    let chosen = met(|_| {}, |welcome| welcome.features |= 1);
    assert!(closed(&chosen, PAYER, CloseCode::Incompatible) && !bound(&chosen));
    let version = met(|_| {}, |welcome| welcome.version += 1);
    assert!(closed(&version, PAYER, CloseCode::Incompatible) && !bound(&version));
}

#[test]
fn nobody_on_the_way_can_change_what_is_offered() {
    let forged = |pair: &Pair| {
        let how = Misbehaviour::BadSignature;
        any(pair, PAYER, |event| *event == Event::Misbehaved { how })
    };
    // Each is fine by itself: an odd bit, another version besides, another order. But it is not
    // what the other side said.
    let cases = [
        met(|hello| hello.features |= 2, |_| {}),
        met(|hello| hello.versions.push(7), |_| {}),
        met(|hello| hello.versions.insert(0, 7), |_| {}),
        met(|_| {}, |welcome| welcome.features |= 8),
    ];
    for pair in cases {
        assert!(forged(&pair) && !bound(&pair));
        assert_eq!(pair.mint.payer, pair.total);
    }
}

#[test]
fn grant_rides_on_acks_and_is_told_once() {
    let mut pair = Pair::new(PairConfig::default());
    let keys = [
        Bytes::from_static(b"epoch 1"),
        Bytes::from_static(b"epoch 2"),
    ];
    for key in &keys {
        pair.run(2_500, &[]).unwrap();
        pair.command(PAYEE, Command::Grant(MediaGrant(key.clone())));
    }
    pair.run(3_000, &[]).unwrap();
    let grants = pair.events(PAYER).iter().filter_map(|event| match event {
        Event::Grant(grant) => Some(grant.0.clone()),
        _ => None,
    });
    assert_eq!(grants.collect::<Vec<_>>(), keys);
    let long = MediaGrant(Bytes::from(vec![0; GRANT_MAX + 1]));
    let now = pair.now;
    let Some(side::Session::Payee(payee)) = pair.payee.session.as_mut() else {
        panic!("the payee lives");
    };
    let long = Input::Command(Command::Grant(long));
    assert_eq!(payee.handle(now, long), Err(ApiMisuse::GrantTooLong));
    let shown = format!("{:?}", MediaGrant(keys[0].clone()));
    assert!(
        !shown.contains("epoch") && !shown.contains("101"),
        "{shown}"
    );
    pair.settle().unwrap();
}

#[test]
fn receipt_comes_on_request_and_survives() {
    let mut pair = Pair::new(PairConfig {
        preview: Msat::from_sat(1).unwrap(),
        ..PairConfig::default()
    });
    let receipts = |pair: &Pair| -> Vec<Msat> {
        let receipts = pair.events(PAYER).iter().filter_map(|event| match event {
            Event::Receipt(evidence) => Some(evidence.receipt.total),
            _ => None,
        });
        receipts.collect()
    };
    pair.run(90, &[]).unwrap();
    pair.command(PAYER, Command::RequestReceipt);
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::RequestReceipt);
    pair.run(100, &[]).unwrap();
    let found = receipts(&pair);
    assert_eq!(found.len(), 2);
    assert!(found[0] < found[1]);
    let kept = pair.payer().unwrap().receipt().unwrap();
    assert_eq!(kept.receipt.total, found[1]);
    let hash = kept.receipt.hash(pair.payer.id.unwrap());
    assert!(pair.payee_key.public().verifies(hash, &kept.signature));
    pair.settle().unwrap();
}

#[test]
fn forged_receipt_on_request_is_misbehaviour() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(mut ack))) => {
            ack.evidence.signature.0[5] ^= 1;
            vec![encode(&Message::Ack(ack))]
        }
        _ => vec![bytes.clone()],
    });
    pair.command(PAYER, Command::RequestReceipt);
    pair.run(45, &[]).unwrap();
    let how = Misbehaviour::BadSignature;
    assert!(any(&pair, PAYER, |event| *event == Event::Misbehaved { how }));
    pair.tamper = None;
    pair.settle().unwrap();
}

#[test]
fn other_receipt_of_the_same_total_is_misbehaviour_and_is_not_kept() {
    type Lie = fn(&mut Receipt);
    let lies: [Lie; 5] = [
        |receipt| receipt.purse = PurseId(1),
        |receipt| receipt.seq = Seq(9),
        |receipt| receipt.cumulative = Msat::ZERO,
        |receipt| receipt.reading.media_ms += 1,
        |receipt| receipt.tips = receipt.total,
    ];
    for paid in [false, true] {
        for lie in lies {
            let mut pair = Pair::new(PairConfig {
                preview: Msat::from_sat(1).unwrap(),
                ..PairConfig::default()
            });
            pair.run(if paid { 3_500 } else { 90 }, &[]).unwrap();
            let known = pair.payer().unwrap().receipt();
            let mut receipt = known.map(|known| known.receipt).unwrap_or_default();
            let was = receipt;
            lie(&mut receipt);
            if receipt == was {
                continue;
            }
            pair.tamper(|_, _| vec![]);
            pair.command(PAYER, Command::RequestReceipt);
            let evidence = receipt.sign(pair.payer.id.unwrap(), &pair.payee_key);
            let grant = None;
            let ack = encode(&Message::Ack(Ack { evidence, grant }));
            pair.input(PAYER, Input::Received(ack));
            let how = Misbehaviour::Changed;
            assert!(any(&pair, PAYER, |event| *event == Event::Misbehaved { how }));
            assert_eq!(pair.payer().unwrap().receipt(), known);
        }
    }
}

#[test]
fn session_that_nobody_resumes_settles_when_its_terms_say() {
    let mut pair = Pair::new(PairConfig {
        resumable_s: 60,
        ..PairConfig::default()
    });
    pair.run(90_000, &[(5_000, Fault::LinkDown(3_600_000))])
        .unwrap();
    assert!(closed(&pair, PAYER, CloseCode::TimedOut));
    assert!(closed(&pair, PAYEE, CloseCode::TimedOut));
    assert!(pair.payer.is_settled() && pair.payee.is_settled());
}

#[test]
fn pause_that_nobody_ends_settles_after_as_long() {
    let mut pair = Pair::new(PairConfig {
        resumable_s: 60,
        ..PairConfig::default()
    });
    pair.run(55_000, &[(5_000, Fault::PausePayer(40_000))])
        .unwrap();
    assert!(pair.delivered().media_ms > 13_000, "it goes on");
    pair.run(90_000, &[(0, Fault::PausePayer(3_600_000))])
        .unwrap();
    assert!(closed(&pair, PAYER, CloseCode::TimedOut));
    assert!(pair.payer.is_settled() && pair.payee.is_settled());
}

#[test]
fn preview_is_no_more_than_the_budgets_left() {
    let sat = |sat| Msat::from_sat(sat).unwrap();
    for (left, delivered) in [(0, 0), (1, 500), (9, 1_500)] {
        let mut pair = Pair::new(PairConfig {
            preview: sat(3),
            preview_left: sat(left),
            ..PairConfig::default()
        });
        pair.tamper(|_, bytes| match decode(bytes) {
            Ok(Some(Message::Tick(_))) => vec![],
            _ => vec![bytes.clone()],
        });
        pair.run(5_000, &[]).unwrap();
        let found = pair.delivered().media_ms;
        assert!(found <= delivered && found + 40 > delivered, "{found}");
        let used = pair.payee().unwrap().preview_used();
        assert!(used <= sat(left.min(3)) && used.msat() + 80 >= left.min(3) * 1_000);
    }
}
