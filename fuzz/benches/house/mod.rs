//! Payees bound to payers, each with an open purse and its first tick credited.

use std::sync::Arc;

use bytes::Bytes;
use streampay_core::backend::{Answer, Opened, Outcome, Request};
use streampay_core::session::{
    BackendEvent, ChannelIdentity, Entropy, Input, LinkEvent, Output, PayeeConfig, PayeeSession,
    PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::units::{Mono, Msat, Now, PurseId, Seq, Unix};
use streampay_core::wire::{Message, Terms, Tick, encode};
use streampay_spec::people;

/// Sessions of the process.
pub(crate) const SESSIONS: u64 = 10_000;
/// One step of a hash chain.
const PAYLOAD: [u8; 32] = [0x5a; 32];
const METHOD: &str = "fake";
const NOW: Now = Now {
    mono: Mono(0),
    unix: Unix(1_800_000_000),
};

/// What all of them are offered.
pub(crate) fn offer() -> Arc<Terms> {
    let identity = identity();
    Arc::new(Terms {
        payee: identity.public(),
        methods: vec![people::method(METHOD)],
        ..people::terms().expect("keys of the vectors are valid")
    })
}

fn identity() -> SecretKey {
    SecretKey::derive(&Entropy([1; 32]), "payee").expect("derived keys are valid")
}

/// Ten thousand of them have the same terms, and no two the same payer.
pub(crate) fn payee(number: u64, terms: &Arc<Terms>) -> PayeeSession {
    let mut entropy = [2; 32];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    let policy = Policy {
        budget: Msat::MAX,
        max_purse: Msat::MAX,
        max_tariff: terms.tariff,
        max_tick: Msat::MAX,
        methods: vec![METHOD.into()],
        stall_close_ms: 600_000,
    };
    let payer = PayerConfig {
        identity: SecretKey::derive(&Entropy(entropy), "payer").expect("derived keys are valid"),
        payee: terms.payee,
        policy,
    };
    let payee = PayeeConfig {
        identity: identity(),
        preview_left: terms.preview,
        terms: Arc::clone(terms),
        unpaid_ms: 600_000,
    };
    let mut payer = PayerSession::new(payer, &Entropy(entropy)).expect("derived keys are valid");
    entropy[8] = 3;
    let mut payee = PayeeSession::new(payee, &Entropy(entropy)).expect("derived keys are valid");
    let identity = ChannelIdentity {
        payer: [4; 32],
        payee: [5; 32],
    };
    let entropy = Entropy(entropy);
    let up = || {
        let entropy = entropy.clone();
        Input::Link(LinkEvent::Up { identity, entropy })
    };
    payer.handle(NOW, up()).expect("no misuse");
    payee.handle(NOW, up()).expect("no misuse");
    for _ in 0..8 {
        for message in payers_words(&mut payer) {
            payee
                .handle(NOW, Input::Received(message))
                .expect("no misuse");
        }
        for message in take(&mut payee) {
            payer
                .handle(NOW, Input::Received(message))
                .expect("no misuse");
        }
    }
    payee
}

fn payers_words(payer: &mut PayerSession) -> Vec<Bytes> {
    let mut sent = Vec::new();
    while let Some(output) = payer.poll_output() {
        match output {
            Output::Send(message) => sent.push(message),
            Output::Backend { purse, request, .. } => {
                let outcome = match request {
                    Request::Open { capacity, .. } => Outcome::Opened(Opened {
                        opening: Bytes::from_static(&PAYLOAD),
                        capacity,
                        cost: capacity,
                        quantum: quantum(),
                        usable_until: None,
                    }),
                    Request::Pay { .. } => Outcome::Paid {
                        payload: Bytes::from_static(&PAYLOAD),
                    },
                    _ => continue,
                };
                let answer = Answer::outcome(outcome);
                let event = BackendEvent { purse, answer };
                payer.handle(NOW, Input::Backend(event)).expect("no misuse");
            }
            _ => {}
        }
    }
    sent
}

fn quantum() -> Msat {
    Msat::new(1).expect("a small amount")
}

/// Takes every output, with a backend that takes every payment and a disk that takes everything;
/// what is sent.
fn take(payee: &mut PayeeSession) -> Vec<Bytes> {
    let (mut sent, mut durable) = (Vec::new(), true);
    while let Some(output) = payee.poll_output() {
        match output {
            Output::Persist(changes) => durable |= !changes.is_empty(),
            Output::Send(message) => {
                assert!(durable, "said before it is durable");
                sent.push(message);
            }
            Output::Backend { purse, request, .. } => {
                durable = false;
                let outcome = match request {
                    Request::Accept { .. } => Outcome::Accepted {
                        capacity: Msat::MAX,
                        quantum: quantum(),
                    },
                    Request::Receive { .. } => Outcome::Credited,
                    _ => continue,
                };
                let answer = Answer::outcome(outcome);
                let event = BackendEvent { purse, answer };
                payee.handle(NOW, Input::Backend(event)).expect("no misuse");
            }
            _ => {}
        }
    }
    sent
}

/// The tick with this number, as every payer here says it.
pub(crate) fn tick(seq: u64, payload: &[u8; 32]) -> Bytes {
    encode(&Message::Tick(Tick {
        purse: PurseId(0),
        seq: Seq(seq),
        cumulative: Msat::new(seq * 2_000).expect("a small amount"),
        payload: Bytes::copy_from_slice(payload),
        tips: None,
    }))
}

/// Gives one tick and takes what comes of it, to the ack.
pub(crate) fn give(payee: &mut PayeeSession, tick: &Bytes) -> Vec<Bytes> {
    let input = Input::Received(tick.clone());
    payee.handle(NOW, input).expect("no misuse");
    take(payee)
}
