//! Metered streaming in an application of one's own: a store, a backend and a transport that are
//! written beside this file, put together with the driver, and a gate.
//!
//! ```sh
//! cargo run -p streampay-core --example embed --features driver,tcp,sim
//! ```
//!
//! The guide to it is EMBEDDING.md. Two processes are in one here: the payer's and the payee's
//! half share the bank and the pipes, and nothing else.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an application has files, tasks and clocks"
)]

#[path = "../own_backend/main.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod own_backend;
#[path = "../own_store.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod own_store;
#[path = "../own_transport.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod own_transport;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use own_backend::bank::Bank;
use own_backend::payword::PayWord;
use own_store::LogStore;
use streampay_core::driver::{
    Connected, Link, Node, Ports, SessionTask, Stopped, StoreWriter, entropy,
};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{
    Event, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy, SecretKey,
};
use streampay_core::units::{Msat, Unix, XOnlyKey};
use streampay_core::wire::{Method, Terms};
use tokio::sync::watch;

type Failed = Box<dyn Error + Send + Sync>;

/// Both sides' price: 2 sat for 200 ms.
fn tariff() -> Result<Tariff, Failed> {
    let time = Some(Rate::new(Msat::from_sat(2)?, 200)?);
    Ok(Tariff { time, bytes: None })
}

/// What the payee signs.
fn terms(payee: &SecretKey) -> Result<Terms, Failed> {
    Ok(Terms {
        title: "a counter".into(),
        tariff: tariff()?,
        tick: Msat::from_sat(2)?,
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: PayWord::METHOD.into(),
            params: vec![],
        }],
        resumable_s: 3_600,
        expires: Unix(u64::MAX),
        payee: payee.public(),
        join_fee: Msat::ZERO,
    })
}

/// How far the payer goes along, whatever the terms say.
fn policy() -> Result<Policy, Failed> {
    let budget = Msat::from_sat(10)?;
    Ok(Policy {
        budget,
        max_purse: budget,
        max_tariff: tariff()?,
        max_tick: Msat::from_sat(2)?,
        methods: vec![PayWord::METHOD.into()],
        stall_close_ms: 10_000,
    })
}

/// What all sessions of one process share: its records, its methods, its clock.
async fn node(folder: &Path, name: &str, bank: &Bank) -> Result<Arc<Node>, Failed> {
    let store = LogStore::open(&folder.join(name))?;
    let writer = StoreWriter::start(Box::new(store))?;
    // Really: made once, and kept with the store.
    let machine = PayWord::new(entropy()?);
    let builder = Node::builder(writer).method(Box::new(machine), Arc::new(bank.clone()));
    Ok(builder.build().await?)
}

/// The payee: takes a connection, lets media through as far as it is paid, and is paid.
async fn payee(
    node: Arc<Node>,
    identity: SecretKey,
    link: Link,
    received: watch::Sender<Reading>,
) -> Result<Msat, Failed> {
    let config = PayeeConfig {
        terms: terms(&identity)?.into(),
        identity,
        preview_left: Msat::ZERO,
        unpaid_ms: 30_000,
    };
    let session = PayeeSession::new(config, &entropy()?)?;
    let (ports, user) = Ports::pair();
    let (sent, usage) = watch::channel(Reading::default());
    let mut task = SessionTask::new(node, session, ports);
    let gate = tokio::spawn(gate(user.gate, sent, received));
    task.run(Some(Connected { link, usage })).await;
    gate.abort();
    Ok(task.session().credited())
}

/// The gate: 20 ms of "media" go out where the grant admits them, themselves included. A real one
/// writes packets, see `streampay-media`; the rule is the same.
async fn gate(
    grants: watch::Receiver<Grant>,
    sent: watch::Sender<Reading>,
    received: watch::Sender<Reading>,
) {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        let mut next = *sent.borrow();
        next.media_ms = next.media_ms.saturating_add(20);
        // No grant any more: the session is gone, and the gate is shut.
        let admits = grants.has_changed().is_ok() && grants.borrow().admits(next);
        if admits {
            sent.send_replace(next);
            // The network is here: the viewer counts what reaches it.
            received.send_replace(next);
        }
    }
}

/// The payer: pays for what its own meter has counted, until its budget is used up.
async fn payer(
    node: Arc<Node>,
    payee: XOnlyKey,
    link: Link,
    usage: watch::Receiver<Reading>,
) -> Result<Msat, Failed> {
    let config = PayerConfig {
        identity: SecretKey::derive(&entropy()?, "identity")?,
        payee,
        policy: policy()?,
    };
    let session = PayerSession::new(config, &entropy()?)?;
    let (ports, mut user) = Ports::pair();
    let mut task = SessionTask::new(node, session, ports);
    let teller = tokio::spawn(async move {
        while let Some(event) = user.events.recv().await {
            if let Event::TickPaid { total, reading, .. } = event {
                println!("{total} paid, {} ms of media", reading.media_ms);
            }
        }
    });
    let stopped = task.run(Some(Connected { link, usage })).await;
    let paid = task.session().acknowledged();
    let settled = task.session().is_settled();
    drop(task);
    teller.await?;
    match (stopped, settled) {
        (Stopped::Ended, true) => Ok(paid),
        // Its records are what counts: the application would connect again, or recover.
        _ => Err(format!("not over: {stopped:?}, settled: {settled}").into()),
    }
}

/// Both, over pipes. What was paid, and what the bank says after it: the payer's account and the
/// payee's.
async fn session(folder: &Path) -> Result<(Msat, (Msat, Msat)), Failed> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let bank = Bank::new(Msat::from_sat(100)?, Unix(now.as_secs()));
    let identity = SecretKey::derive(&entropy()?, "identity")?;
    // What the payer knows beforehand, from the link that it was given.
    let key = identity.public();
    let (payer_link, payee_link) = own_transport::joined().await?;
    let (received, usage) = watch::channel(Reading::default());
    let payer_node = node(folder, "payer", &bank).await?;
    let payee_node = node(folder, "payee", &bank).await?;
    let (paid, credited) = tokio::try_join!(
        payer(payer_node, key, payer_link, usage),
        payee(payee_node, identity, payee_link, received),
    )?;
    if paid != credited {
        return Err(format!("{paid} paid and {credited} credited").into());
    }
    Ok((paid, bank.accounts()))
}

#[cfg_attr(test, allow(dead_code, reason = "the tests have no main"))]
#[tokio::main]
async fn main() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (paid, (payer, payee)) = session(folder.path()).await?;
    println!("{paid} in all; the bank has {payer} of the payer and {payee} of the payee");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_was_paid_arrives_and_the_rest_comes_home() {
        let folder = tempfile::tempdir().unwrap();
        let sat = |sat| Msat::from_sat(sat).unwrap();
        let end = session(folder.path()).await.unwrap();
        assert_eq!(end, (sat(10), (sat(90), sat(10))));
    }
}
