//! Futures of a task that are dropped half way, and a task that goes on.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::pin;
use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot, watch};

use super::tests::{Runner, configs, media, node, sat};
use super::*;
use crate::meter::Reading;
use crate::session::*;
use crate::sim::{FakeBackend, FakeMint};
use crate::store::{ChangeSet, Key, MemoryStore, Store, StoreError};

/// A store whose append number `at` does not come back before it is told to.
struct Held {
    inner: MemoryStore,
    appends: u32,
    at: u32,
    reached: Option<oneshot::Sender<()>>,
    go: std::sync::mpsc::Receiver<()>,
}

impl Store for Held {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        self.appends += 1;
        if self.appends == self.at {
            self.reached.take().unwrap().send(()).unwrap();
            self.go.recv().unwrap();
        }
        self.inner.append(sets)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.inner.scan(prefix)
    }
}

fn links(n: u8) -> (Link, Link) {
    let (a, b) = LinkEnd::pair();
    let identity = ChannelIdentity {
        payer: [n; 32],
        payee: [n + 100; 32],
    };
    let link = |end| Link { identity, end };
    (link(a), link(b))
}

/// The payer's run is dropped while its store writes, and the task is run again over another
/// connection: nothing leaves before the write is durable, and every sum is as it should be.
async fn run_dropped_at_append(at: u32) {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(100))));
    let (payer_config, payee_config) = configs();
    let payer = PayerSession::new(payer_config, &entropy().unwrap()).unwrap();
    let payee = PayeeSession::new(payee_config, &entropy().unwrap()).unwrap();
    let (payer_ports, _payer_user) = Ports::pair();
    let (payee_ports, payee_user) = Ports::pair();
    let (payee_meter, payee_usage) = watch::channel(Reading::default());
    let (payer_meter, payer_usage) = watch::channel(Reading::default());
    tokio::spawn(media(payee_user.gate.clone(), payee_meter, payer_meter));
    let mut payee = SessionTask::new(node(&mint, MemoryStore::new()).await, payee, payee_ports);
    let (connect, mut connections) = mpsc::channel(2);
    let payee = tokio::spawn(async move {
        while let Some(link) = connections.recv().await {
            let usage = payee_usage.clone();
            if payee.run(Some(Connected { link, usage })).await == Stopped::Ended {
                break;
            }
        }
    });
    let (reached_in, reached) = oneshot::channel();
    let (go, go_out) = std::sync::mpsc::channel();
    let held = Held {
        inner: MemoryStore::new(),
        appends: 0,
        at,
        reached: Some(reached_in),
        go: go_out,
    };
    let writer = StoreWriter::start(Box::new(held)).unwrap();
    let runner = Arc::new(Runner(Arc::clone(&mint)));
    let builder = Node::builder(writer).method(Box::new(FakeBackend::default()), runner);
    let mut payer = SessionTask::new(builder.build().await.unwrap(), payer, payer_ports);

    let (link, other) = links(1);
    connect.send(other).await.unwrap();
    let usage = payer_usage.clone();
    tokio::select! {
        stopped = payer.run(Some(Connected { link, usage })) => panic!("{stopped:?} before {at}"),
        reached = reached => reached.unwrap(),
    }
    let (link, mut other) = links(2);
    let usage = payer_usage.clone();
    {
        let mut run = pin!(payer.run(Some(Connected { link, usage })));
        for _ in 0..100 {
            tokio::select! {
                biased;
                stopped = &mut run => panic!("{stopped:?} before it is durable"),
                () = tokio::task::yield_now() => {}
            }
        }
        let early = other.end.incoming.try_recv();
        assert!(early.is_err(), "left before append {at} was durable");
        go.send(()).unwrap();
        connect.send(other).await.unwrap();
        assert_eq!(run.await, Stopped::Ended);
    }
    assert!(payer.session().is_settled());
    drop(payer);
    payee.await.unwrap();
    let mint = mint.lock().unwrap();
    assert_eq!((mint.payer, mint.payee), (sat(90), sat(10)), "{at}");
}

#[tokio::test]
async fn dropped_run_leaves_its_write_before_everything_that_follows() {
    for at in [4, 5, 6, 7, 8] {
        run_dropped_at_append(at).await;
    }
}
