//! What an embedder relies on without thinking of it.

use std::fmt::Debug;

use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Opened, Outcome,
    PurseOffer, RefusalCode, Request,
};
use streampay_core::driver::{EffectRunner, Link, LinkEnd};
use streampay_core::meter::{Grant, PauseReason, Rate, Reading, Schedule, Tariff};
use streampay_core::session::{
    ApiMisuse, BackendEvent, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent,
    Misbehaviour, Output, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, Receipt,
    SecretKey,
};
use streampay_core::store::{Change, ChangeSet, MemoryStore, RedbStore, Store, StoreError};
use streampay_core::units::{Mono, Msat, Now, PurseKey, SessionId, Unix, XOnlyKey};
use streampay_core::wire::{Message, Terms, WireError};

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
