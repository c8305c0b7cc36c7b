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

/// A payee that runs on `store` and a payer, not yet connected; with the payee's gate and meter.
struct Meeting {
    payer: SessionTask<PayerSession>,
    payee: SessionTask<PayeeSession>,
    gate: watch::Receiver<crate::meter::Grant>,
    meter: watch::Sender<Reading>,
    usage: watch::Receiver<Reading>,
    _users: (UserPorts, UserPorts),
}

async fn meeting(store: impl Store + 'static) -> Meeting {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(100))));
    let (payer_config, payee_config) = configs();
    let payer = PayerSession::new(payer_config, &entropy().unwrap()).unwrap();
    let payee = PayeeSession::new(payee_config, &entropy().unwrap()).unwrap();
    let (payer_ports, payer_user) = Ports::pair();
    let (payee_ports, payee_user) = Ports::pair();
    let (meter, usage) = watch::channel(Reading::default());
    let writer = StoreWriter::start(Box::new(store)).unwrap();
    let runner = Arc::new(Runner(Arc::clone(&mint)));
    let builder = Node::builder(writer).method(Box::new(FakeBackend::default()), runner);
    let payee = SessionTask::new(builder.build().await.unwrap(), payee, payee_ports);
    let payer = SessionTask::new(node(&mint, MemoryStore::new()).await, payer, payer_ports);
    let (gate, _users) = (payee_user.gate.clone(), (payer_user, payee_user));
    Meeting {
        payer,
        payee,
        gate,
        meter,
        usage,
        _users,
    }
}

impl Meeting {
    /// Both run until `moment`; then so much has passed the gate, and the payer is gone at once.
    async fn passes_at<T>(&mut self, moment: impl Future<Output = T>, passed: Reading) -> Stopped {
        let (link, other) = links(1);
        let (_meter, usage) = watch::channel(Reading::default());
        let payer = self.payer.run(Some(Connected { link: other, usage }));
        let mut payer = Box::pin(payer);
        let usage = self.usage.clone();
        let mut run = pin!(self.payee.run(Some(Connected { link, usage })));
        let mut moment = pin!(moment);
        tokio::select! {
            stopped = &mut payer => panic!("{stopped:?} early"),
            stopped = &mut run => panic!("{stopped:?} early"),
            _ = &mut moment => {}
        }
        self.meter.send_replace(passed);
        drop(payer);
        run.await
    }
}

const PASSED: Reading = Reading {
    media_ms: 20,
    bytes: 0,
};

/// Which of both wakes the loop is a coin toss.
#[tokio::test]
async fn what_passed_the_gate_counts_where_the_link_goes_at_once() {
    for round in 0..64 {
        let mut meeting = meeting(MemoryStore::new()).await;
        let mut gate = meeting.gate.clone();
        let opens = async move { gate.wait_for(|grant| grant.admits(PASSED)).await.map(drop) };
        let stopped = meeting.passes_at(opens, PASSED).await;
        assert_eq!(stopped, Stopped::LinkDown);
        assert_eq!(meeting.payee.session().reading(), PASSED, "{round}");
    }
}

/// And what passes while something is made durable that is then sent in vain.
#[tokio::test]
async fn what_passes_the_gate_during_a_write_counts_though_the_link_is_of_no_use_after_it() {
    for at in [1, 2, 3, 4] {
        let (reached_in, reached) = oneshot::channel();
        let (go, go_out) = std::sync::mpsc::channel();
        let held = Held {
            inner: MemoryStore::new(),
            appends: 0,
            at,
            reached: Some(reached_in),
            go: go_out,
        };
        let mut meeting = meeting(held).await;
        let held = async move {
            reached.await.unwrap();
            go.send(()).unwrap();
        };
        let stopped = meeting.passes_at(held, PASSED).await;
        assert_eq!(stopped, Stopped::LinkDown);
        assert_eq!(meeting.payee.session().reading(), PASSED, "{at}");
    }
}

/// The meter grew after the loop had looked for the last time, before the media was closed.
#[tokio::test]
async fn last_reading_counts_without_a_connection() {
    let mut meeting = meeting(MemoryStore::new()).await;
    let mut gate = meeting.gate.clone();
    let opens = async move { gate.wait_for(|grant| grant.admits(PASSED)).await.map(drop) };
    meeting.passes_at(opens, PASSED).await;
    let last = Reading {
        media_ms: 40,
        bytes: 0,
    };
    meeting.payee.metered(last).await.unwrap();
    assert_eq!(meeting.payee.session().reading(), last);
}
