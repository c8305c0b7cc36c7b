//! What an embedder relies on without thinking of it.

use std::fmt::Debug;

use bytes::Bytes;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Opened, Outcome,
    PurseOffer, RefusalCode, Request,
};
use streampay_core::driver::{EffectRunner, Link, LinkEnd};
use streampay_core::meter::{Grant, PauseReason, Rate, Reading, Schedule, Tariff};
use streampay_core::session::{
    ApiMisuse, BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input,
    Invitation, LinkEvent, MediaGrant, Misbehaviour, Name, Output, PayeeConfig, PayeeSession,
    PayerConfig, PayerSession, Policy, Receipt, SecretKey,
};
use streampay_core::store::{Change, ChangeSet, MemoryStore, RedbStore, Store, StoreError};
use streampay_core::units::{
    EffectId, Mono, Msat, Now, PurseId, PurseKey, RequestId, Seq, SessionId, Unix, XOnlyKey,
};
use streampay_core::wire::{Message, Purse, Terms, Tick, WireError, encode};

fn sendable<T: Send + 'static>() {}
fn shown<T: Debug>() {}
fn value<T: Clone + Debug + Send + Sync + 'static>() {}
fn journaled<T: serde::Serialize + for<'de> serde::Deserialize<'de>>() {}

#[test]
fn machines_move_between_threads() {
    sendable::<PayerSession>();
    sendable::<PayeeSession>();
    sendable::<Box<dyn BackendMachine + Send>>();
    sendable::<Box<dyn Store>>();
    sendable::<RedbStore>();
    sendable::<MemoryStore>();
    sendable::<Link>();
    sendable::<LinkEnd>();
    sendable::<Box<dyn EffectRunner>>();
    shown::<PayerSession>();
    shown::<PayeeSession>();
}

#[test]
fn what_goes_in_and_out_is_plain_data() {
    value::<Input>();
    value::<Output>();
    value::<Command>();
    value::<Event>();
    value::<LinkEvent>();
    value::<BackendEvent>();
    value::<ChannelIdentity>();
    value::<Misbehaviour>();
    value::<CloseCode>();
    value::<ApiMisuse>();
    value::<PayerConfig>();
    value::<PayeeConfig>();
    value::<Policy>();
    value::<SecretKey>();
    value::<Receipt>();
    value::<Request>();
    value::<PurseOffer>();
    value::<Answer>();
    value::<Outcome>();
    value::<Opened>();
    value::<Effect>();
    value::<EffectResult>();
    value::<BackendError>();
    value::<RefusalCode>();
    value::<Consumed>();
    value::<Grant>();
    value::<PauseReason>();
    value::<Reading>();
    value::<Schedule>();
    value::<Tariff>();
    value::<Rate>();
    value::<Change>();
    value::<ChangeSet>();
    value::<StoreError>();
    value::<Msat>();
    value::<Mono>();
    value::<Unix>();
    value::<Now>();
    value::<PurseKey>();
    value::<SessionId>();
    value::<XOnlyKey>();
    value::<Message>();
    value::<Terms>();
    value::<WireError>();
}

#[test]
fn a_run_can_be_journaled() {
    journaled::<Input>();
    journaled::<Output>();
    journaled::<Now>();
}

#[test]
fn secrets_do_not_show() {
    let entropy = Entropy([0x42; 32]);
    let key = SecretKey::derive(&entropy, "identity").unwrap();
    let mut changes = ChangeSet::new();
    changes.put(b"B".to_vec(), vec![0x42; 8]);
    for shown in [
        format!("{entropy:?}"),
        format!("{key:?}"),
        format!("{changes:?}"),
    ] {
        assert!(!shown.contains("66"), "{shown}");
        assert!(!shown.contains("42"), "{shown}");
    }
}

/// What a payment, an opening or a key would be.
const MARK: &[u8] = b"PAYMENT-MARK";

/// Every input and output that carries something secret.
fn secret_carriers() -> Vec<Box<dyn Debug>> {
    let bytes = || Bytes::from_static(MARK);
    let purse = PurseKey {
        session: SessionId([1; 32]),
        purse: PurseId(1),
    };
    let effect = Effect {
        purse,
        id: EffectId(1),
        body: bytes(),
    };
    let mut changes = ChangeSet::new();
    changes.put(MARK, MARK);
    let opened = Opened {
        opening: bytes(),
        capacity: Msat::ZERO,
        cost: Msat::ZERO,
        quantum: Msat::ZERO,
        usable_until: None,
    };
    let outcomes = [Outcome::Opened(opened), Outcome::Paid { payload: bytes() }];
    let answers = outcomes.map(|outcome| Answer {
        outcome: Some(outcome),
        delta: changes.clone(),
        node_delta: changes.clone(),
        effects: vec![effect.clone()],
        note: Some(bytes()),
        trouble: None,
    });
    let offer = PurseOffer {
        params: Bytes::new(),
        tick: Msat::ZERO,
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    };
    let requests = [
        Request::Note { bytes: bytes() },
        Request::Accept {
            offer,
            opening: bytes(),
        },
        Request::Receive {
            seq: Seq(1),
            amount: Msat::ZERO,
            cumulative: Msat::ZERO,
            payload: bytes(),
        },
    ];
    let tick = Message::Tick(Tick {
        purse: PurseId(1),
        seq: Seq(1),
        cumulative: Msat::from_sat(1).unwrap(),
        tips: None,
        payload: bytes(),
    });
    let part = Message::Purse(Purse {
        purse: PurseId(1),
        part: 0,
        of: 1,
        method: 0,
        bytes: bytes(),
    });
    let messages = [tick, part].map(|message| (encode(&message), message));
    let join = Command::Join {
        name: Name::new("ann").unwrap(),
        invitation: Some(Invitation::new(MARK).unwrap()),
        max_fee: Msat::ZERO,
    };
    let grant = || MediaGrant(bytes());
    let result = EffectResult {
        purse,
        id: EffectId(1),
        result: Ok(bytes()),
    };
    let mut all: Vec<Box<dyn Debug>> = vec![
        Box::new(Input::Received(bytes())),
        Box::new(Output::Send(bytes())),
        Box::new(Output::Persist(changes.clone())),
        Box::new(changes.changes().to_vec()),
        Box::new(Output::Effect {
            method: "m".into(),
            effect,
        }),
        Box::new(Output::Event(Event::Grant(grant()))),
        Box::new(Input::Command(Command::Grant(grant()))),
        Box::new(Input::Command(join)),
        Box::new(result),
    ];
    for (encoded, message) in messages {
        assert!(encoded.windows(MARK.len()).any(|part| part == MARK));
        all.push(Box::new(Input::Received(encoded.clone())));
        all.push(Box::new(Output::Send(encoded)));
        all.push(Box::new(message));
    }
    for answer in answers {
        all.push(Box::new(Input::Backend(BackendEvent { purse, answer })));
    }
    for request in requests {
        all.push(Box::new(Output::Backend {
            method: "m".into(),
            purse,
            id: RequestId(1),
            request,
        }));
    }
    all
}

#[test]
fn payments_do_not_show_in_any_input_or_output() {
    let numbers = format!("{:?}", &MARK[..4]);
    let numbers = numbers.trim_matches(['[', ']']);
    for carrier in secret_carriers() {
        for shown in [format!("{carrier:?}"), format!("{carrier:#?}")] {
            let line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!line.contains("MARK"), "{shown}");
            assert!(!line.contains(numbers), "{shown}");
            assert!(!line.to_lowercase().contains("7061796d"), "{shown}");
            assert!(!line.contains("5041594d"), "{shown}");
        }
    }
}

#[test]
fn messages_show_their_type_and_length() {
    let resume = encode(&Message::ReceiptRequest);
    let shown = format!("{:?}", Output::Send(resume.clone()));
    assert_eq!(shown, format!("Send(type 36, {} bytes)", resume.len()));
    let shown = format!("{:?}", Input::Received(Bytes::from_static(b"no message")));
    assert_eq!(shown, "Received(no message, 10 bytes)");
}
