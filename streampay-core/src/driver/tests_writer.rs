//! The one writer: what comes while it commits goes into the next commit, together.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::StoreWriter;
use crate::store::{ChangeSet, Key, MemoryStore, Store, StoreError};

/// A store whose every append waits until it may go on, and is counted.
struct Slow {
    inner: MemoryStore,
    began: UnboundedSender<()>,
    go: Receiver<()>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Store for Slow {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        self.began.send(()).unwrap();
        self.go.recv().unwrap();
        self.sizes.lock().unwrap().push(sets.len());
        self.inner.append(sets)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.inner.scan(prefix)
    }
}

struct Stage {
    writer: StoreWriter,
    began: UnboundedReceiver<()>,
    go: std::sync::mpsc::Sender<()>,
    sizes: Arc<Mutex<Vec<usize>>>,
    done: JoinSet<Result<(), StoreError>>,
}

fn set(number: usize) -> ChangeSet {
    let mut set = ChangeSet::new();
    set.put(number.to_be_bytes(), *b"x");
    set
}

impl Stage {
    /// The first append has begun, and so many more wait.
    async fn with_waiting(inner: MemoryStore, waiting: usize) -> Self {
        let (began_in, mut began) = unbounded_channel();
        let (go, go_out) = channel();
        let sizes = Arc::default();
        let slow = Slow {
            inner,
            began: began_in,
            go: go_out,
            sizes: Arc::clone(&sizes),
        };
        let writer = StoreWriter::start(Box::new(slow)).unwrap();
        let mut done = JoinSet::new();
        let append = |number| {
            let writer = writer.clone();
            async move { writer.append(set(number)).await }
        };
        done.spawn(append(0));
        began.recv().await.unwrap();
        for number in 1..=waiting {
            done.spawn(append(number));
        }
        // Each has asked by then: there is room for all, one thread, and at least one of them is
        // polled at each turn.
        for _ in 0..=waiting {
            tokio::task::yield_now().await;
        }
        Self {
            writer,
            began,
            go,
            sizes,
            done,
        }
    }
}

#[tokio::test]
async fn what_comes_during_a_commit_is_in_the_next_one_up_to_its_limit() {
    for (waiting, sizes) in [
        (0, [1].as_slice()),
        (1, &[1, 1]),
        (100, &[1, 100]),
        (600, &[1, 512, 88]),
    ] {
        let mut stage = Stage::with_waiting(MemoryStore::new(), waiting).await;
        for _ in sizes {
            stage.go.send(()).unwrap();
        }
        while let Some(done) = stage.done.join_next().await {
            assert_eq!(done.unwrap(), Ok(()));
        }
        assert_eq!(*stage.sizes.lock().unwrap(), sizes);
        let found = stage.writer.scan(Key::new()).await.unwrap();
        assert_eq!(found.len(), waiting + 1);
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_commit_ends() {
    let mut stage = Stage::with_waiting(MemoryStore::new(), 10).await;
    stage.go.send(()).unwrap();
    assert_eq!(stage.done.join_next().await.unwrap().unwrap(), Ok(()));
    // The other ten are being written now.
    stage.began.recv().await.unwrap();
    assert!(stage.done.try_join_next().is_none());
    stage.go.send(()).unwrap();
    assert_eq!(stage.done.join_all().await, [Ok(()); 10]);
}

#[tokio::test]
async fn failed_commit_fails_for_all_in_it_and_all_after_it() {
    let mut inner = MemoryStore::new();
    inner.fail_from_now_on();
    let mut stage = Stage::with_waiting(inner, 50).await;
    for _ in 0..2 {
        stage.go.send(()).unwrap();
    }
    let mut failed = Vec::new();
    while let Some(done) = stage.done.join_next().await {
        failed.push(done.unwrap().unwrap_err());
    }
    let first = failed.iter().filter(|error| **error == StoreError::Failed);
    assert_eq!((first.count(), failed.len()), (1, 51));
    let read = stage.writer.scan(Key::new()).await;
    assert_eq!(read, Err(StoreError::Poisoned));
}
