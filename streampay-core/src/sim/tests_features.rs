//! Features: offered by the payer, required by the payee, and bound.

use super::*;
use crate::meter::{Rate, Tariff};
use crate::session::{
    ChannelIdentity, CloseCode, Entropy, Event, Input, LinkEvent, Output, PayeeConfig,
    PayeeSession, PayerConfig, PayerSession, Policy, SEALED_MEDIA, SecretKey,
};
use crate::units::{Mono, Msat, Now, Unix};
use crate::wire::{Method, Terms};

const NOW: Now = Now {
    mono: Mono(0),
    unix: Unix(0),
};

fn configs() -> (PayerConfig, PayeeConfig) {
    let identity = SecretKey::derive(&Entropy([1; 32]), "payee").unwrap();
    let tick = Msat::from_sat(2).unwrap();
    let tariff = Tariff {
        time: Rate::new(tick, 1_000).ok(),
        bytes: None,
    };
    let terms = Terms {
        title: "offer".into(),
        tariff,
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
        payee: identity.public(),
        join_fee: Msat::ZERO,
    };
    let budget = Msat::from_sat(10).unwrap();
    let payer = PayerConfig {
        identity: SecretKey::derive(&Entropy([2; 32]), "payer").unwrap(),
        payee: identity.public(),
        policy: Policy {
            budget,
            max_purse: budget,
            max_tariff: tariff,
            max_tick: tick,
            methods: vec![FakeBackend::METHOD.into()],
            stall_close_ms: 60_000,
        },
    };
    let payee = PayeeConfig {
        identity,
        preview_left: Msat::ZERO,
        terms: terms.into(),
        unpaid_ms: 60_000,
    };
    (payer, payee)
}

/// What each side says it is bound with, or how the payer closes.
fn meet(offered: u64, required: u64) -> (Option<u64>, Option<u64>, Option<CloseCode>) {
    let (payer, payee) = configs();
    let payer = PayerSession::new(payer, &Entropy([3; 32])).unwrap();
    let payee = PayeeSession::new(payee, &Entropy([4; 32])).unwrap();
    let (mut payer, mut payee) = (payer.offering(offered), payee.requiring(required));
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
    payee.handle(NOW, up(7)).unwrap();
    payer.handle(NOW, up(8)).unwrap();
    let (mut bound, mut bound_too, mut closed) = (None, None, None);
    for _ in 0..8 {
        while let Some(output) = payer.poll_output() {
            match output {
                Output::Send(bytes) => drop(payee.handle(NOW, Input::Received(bytes))),
                Output::Event(Event::Bound { features, .. }) => bound = Some(features),
                Output::Event(Event::Closed { code, .. }) => closed = Some(code),
                _ => {}
            }
        }
        while let Some(output) = payee.poll_output() {
            match output {
                Output::Send(bytes) => drop(payer.handle(NOW, Input::Received(bytes))),
                Output::Event(Event::Bound { features, .. }) => bound_too = Some(features),
                _ => {}
            }
        }
    }
    (bound, bound_too, closed)
}

#[test]
fn a_feature_holds_where_it_is_offered_and_required() {
    let both = |features| (Some(features), Some(features), None);
    assert_eq!(meet(SEALED_MEDIA, SEALED_MEDIA), both(SEALED_MEDIA));
    assert_eq!(meet(SEALED_MEDIA, 0), both(0));
    assert_eq!(meet(0, 0), both(0));
    // What nobody knows is not said.
    assert_eq!(meet(u64::MAX, u64::MAX), both(SEALED_MEDIA));
}

#[test]
fn a_payee_takes_no_payer_without_the_feature_that_it_requires() {
    let refused = (None, None, Some(CloseCode::Incompatible));
    assert_eq!(meet(0, SEALED_MEDIA), refused);
}
