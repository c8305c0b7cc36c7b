//! Forgers, somebody in the middle, strangers, terms that ask too much.

use super::*;
use crate::meter::{Grant, Rate, Tariff};
use crate::session::{
    ChannelIdentity, CloseCode, Entropy, Event, Input, LinkEvent, Misbehaviour, Output,
    PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey, Signature,
};
use crate::units::{Mono, Msat, Now, Unix};
use crate::wire::{Hello, Message, Method, Terms, VERSION, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn any(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> bool {
    pair.events(of).iter().any(wanted)
}

fn forged(pair: &Pair, of: Direction) -> bool {
    let how = Misbehaviour::BadSignature;
    any(pair, of, |event| *event == Event::Misbehaved { how })
}

fn bound(pair: &Pair) -> bool {
    let is_bound = |event: &Event| matches!(event, Event::Bound { .. });
    any(pair, PAYER, is_bound) || any(pair, PAYEE, is_bound)
}

fn tampered(mut change: impl FnMut(&mut Message) + Send + 'static) -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(move |_, bytes| {
        let mut message = decode(bytes).unwrap().unwrap();
        change(&mut message);
        vec![encode(&message)]
    });
    pair
}

fn spoil(signature: &mut Signature) {
    signature.0[40] ^= 1;
}

#[test]
fn forged_welcome_binds_nobody_and_moves_no_money() {
    for part in [0, 1] {
        let mut pair = tampered(move |message| {
            if let Message::Welcome(welcome) = message {
                spoil(match part {
                    0 => &mut welcome.binding,
                    _ => &mut welcome.terms_signature,
                });
            }
        });
        pair.run(5_000, &[]).unwrap();
        assert!(forged(&pair, PAYER) && !bound(&pair));
        assert_eq!(
            (pair.mint.payer, pair.delivered().media_ms),
            (pair.total, 0)
        );
    }
}

#[test]
fn forged_bind_binds_nobody_and_moves_no_money() {
    let mut pair = tampered(|message| {
        if let Message::Bind(bind) = message {
            spoil(&mut bind.binding);
        }
    });
    pair.run(5_000, &[]).unwrap();
    assert!(forged(&pair, PAYEE) && !bound(&pair));
    assert_eq!(
        (pair.mint.payer, pair.delivered().media_ms),
        (pair.total, 0)
    );
}

#[test]
fn forged_ack_closes_and_settles() {
    let mut pair = tampered(|message| {
        if let Message::Ack(ack) = message {
            spoil(&mut ack.evidence.signature);
        }
    });
    pair.run(2_000, &[]).unwrap();
    assert!(forged(&pair, PAYER));
    pair.settle().unwrap();
}

#[test]
fn somebody_in_the_middle_gets_no_money_and_no_media() {
    let mut pair = Pair::new(PairConfig {
        mitm: true,
        preview: Msat::from_sat(10).unwrap(),
        ..PairConfig::default()
    });
    pair.run(30_000, &[]).unwrap();
    assert!(!bound(&pair) && forged(&pair, PAYER));
    assert_eq!(
        (pair.mint.payer, pair.delivered().media_ms),
        (pair.total, 0)
    );
    assert!(!matches!(pair.payee.grant, Grant::Open { .. }));
}

#[test]
fn stranger_who_knows_the_session_cannot_end_it() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_500, &[]).unwrap();
    pair.take_link_down(4_000);
    let credited = pair.credited();
    let key = SecretKey::derive(&Entropy([9; 32]), "stranger").unwrap();
    let hello = Message::Hello(Hello {
        session: pair.payer.id.unwrap(),
        versions: vec![VERSION],
        features: 0,
        nonce: [7; 32],
        identity: key.public(),
        session_key: key.public(),
        root: None,
        evidence: None,
    });
    let close = encode(&Message::Close(crate::wire::Close {
        code: CloseCode::Done,
    }));
    for attempt in 0..3 {
        let channel = [attempt; 32];
        let identity = ChannelIdentity {
            payer: channel,
            payee: channel,
        };
        let entropy = Entropy([attempt; 32]);
        pair.input(PAYEE, Input::Link(LinkEvent::Up { identity, entropy }));
        match attempt {
            0 => pair.inject(PAYEE, &encode(&hello)),
            1 => (0..40).for_each(|_| pair.inject(PAYEE, b"nonsense")),
            _ => pair.inject(PAYEE, &close),
        }
        pair.input(PAYEE, Input::Link(LinkEvent::Down));
        assert!(!pair.payee.is_ended());
    }
    pair.run(10_000, &[]).unwrap();
    assert!(
        pair.credited().msat() >= credited.msat() + 8_000,
        "the session goes on"
    );
    pair.settle().unwrap();
}

fn offer(payee: &SecretKey) -> Terms {
    let tick = Msat::from_sat(2).unwrap();
    Terms {
        title: "offer".into(),
        tariff: Tariff {
            time: Rate::new(tick, 1_000).ok(),
            bytes: None,
        },
        tick,
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: FakeBackend::METHOD.into(),
            params: vec![],
        }],
        resumable_s: 60,
        expires: Unix(1_000),
        payee: payee.public(),
        join_fee: Msat::ZERO,
    }
}

/// How the payer closes when it meets these terms at this time; none where it does not.
fn meet(unix: u64, change: impl FnOnce(&mut Terms, &mut Policy)) -> Option<CloseCode> {
    let identity = SecretKey::derive(&Entropy([1; 32]), "payee").unwrap();
    let mut terms = offer(&identity);
    let mut policy = Policy {
        budget: Msat::from_sat(10).unwrap(),
        max_purse: Msat::from_sat(10).unwrap(),
        max_tariff: terms.tariff,
        max_tick: terms.tick,
        methods: vec![FakeBackend::METHOD.into()],
        stall_close_ms: 60_000,
    };
    change(&mut terms, &mut policy);
    let payer = PayerConfig {
        identity: SecretKey::derive(&Entropy([2; 32]), "payer").unwrap(),
        payee: identity.public(),
        policy,
    };
    let payee = PayeeConfig {
        identity,
        preview_left: Msat::MAX,
        terms: terms.into(),
        unpaid_ms: 60_000,
    };
    let mut payer = PayerSession::new(payer, &Entropy([3; 32])).unwrap();
    let mut payee = PayeeSession::new(payee, &Entropy([4; 32])).unwrap();
    // The payee's clock is an hour behind, so that it is the payer who judges.
    let early = Now {
        mono: Mono(0),
        unix: Unix(0),
    };
    let now = Now {
        mono: Mono(0),
        unix: Unix(unix),
    };
    let up = |entropy| {
        let identity = ChannelIdentity {
            payer: [5; 32],
            payee: [6; 32],
        };
        Input::Link(LinkEvent::Up {
            identity,
            entropy: Entropy([entropy; 32]),
        })
    };
    payee.handle(early, up(7)).unwrap();
    payer.handle(now, up(8)).unwrap();
    let mut closed = None;
    for _ in 0..8 {
        while let Some(output) = payer.poll_output() {
            match output {
                Output::Send(bytes) => drop(payee.handle(early, Input::Received(bytes))),
                Output::Event(Event::Closed { code, .. }) => closed = Some(code),
                Output::Backend { .. } => assert_eq!(closed, None, "money moves"),
                _ => {}
            }
        }
        while let Some(output) = payee.poll_output() {
            if let Output::Send(bytes) = output {
                let _ = payer.handle(now, Input::Received(bytes));
            }
        }
    }
    closed
}

#[test]
fn terms_that_ask_too_much_are_refused_before_money_moves() {
    let sat = |sat| Msat::from_sat(sat).unwrap();
    assert_eq!(meet(10, |_, _| {}), None);
    assert_eq!(meet(1_000, |_, _| {}), Some(CloseCode::TermsExpired));
    assert_eq!(
        meet(10, |terms, _| terms.tick = sat(3)),
        Some(CloseCode::OverPolicy)
    );
    let dear = |terms: &mut Terms, _: &mut Policy| {
        terms.tariff.time = Rate::new(sat(3), 1_000).ok();
    };
    assert_eq!(meet(10, dear), Some(CloseCode::OverPolicy));
    let bytes = |terms: &mut Terms, _: &mut Policy| {
        terms.tariff.bytes = Rate::new(sat(1), 1_000).ok();
    };
    assert_eq!(meet(10, bytes), Some(CloseCode::OverPolicy));
    assert_eq!(
        meet(10, |_, policy| policy.budget = sat(1)),
        Some(CloseCode::BudgetSpent)
    );
    let other = |_: &mut Terms, policy: &mut Policy| policy.methods = vec!["other".into()];
    assert_eq!(meet(10, other), Some(CloseCode::NoCommonMethod));
}
