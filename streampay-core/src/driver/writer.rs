use alloc::boxed::Box;
use alloc::vec::Vec;

use tokio::sync::{mpsc, oneshot};

use crate::store::{ChangeSet, Key, Store, StoreError};

/// Requests that may wait for the writer. More sessions than that wait for room.
const QUEUE: usize = 1024;
/// The most change sets in one commit.
const BATCH_MAX: usize = 512;

/// Changes of one session on their way to the store. Whoever waits for them may be dropped: who
/// waits next waits for the same ones.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    changes: Option<ChangeSet>,
    answer: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

impl Barrier {
    /// Puts changes up; those before must be durable.
    pub(super) fn raise(&mut self, changes: ChangeSet) {
        self.changes = Some(changes);
    }

    /// Waits until nothing is on its way any more.
    ///
    /// # Errors
    /// [`StoreError`]: nothing may leave any more.
    pub(super) async fn pass(&mut self, store: &StoreWriter) -> Result<(), StoreError> {
        if self.changes.is_some() {
            let room = store.requests.reserve().await;
            let room = room.map_err(|_| StoreError::Failed)?;
            if let Some(changes) = self.changes.take() {
                let (answer, receiver) = oneshot::channel();
                room.send(Request::Append(changes, answer));
                self.answer = Some(receiver);
            }
        }
        let Some(answer) = &mut self.answer else {
            return Ok(());
        };
        let result = answer.await.unwrap_or(Err(StoreError::Failed));
        self.answer = None;
        result
    }
}

/// The one writer of a store, on a thread of its own. It commits at once when idle, and gathers
/// whatever came meanwhile into the next commit.
#[derive(Clone, Debug)]
pub struct StoreWriter {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Append(ChangeSet, oneshot::Sender<Result<(), StoreError>>),
    Scan(Key, oneshot::Sender<Result<Records, StoreError>>),
}

type Records = Vec<(Key, Vec<u8>)>;

impl StoreWriter {
    /// Starts the thread. It ends, and drops the store, when the last clone is dropped.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("streampay-store".into());
        thread.spawn(move || write_all(store, receiver))?;
        Ok(Self { requests })
    }

    /// Makes `changes` durable.
    ///
    /// # Errors
    /// [`StoreError`]: nothing may leave any more.
    pub async fn append(&self, changes: ChangeSet) -> Result<(), StoreError> {
        self.ask(|answer| Request::Append(changes, answer)).await
    }

    /// All records whose key begins with `prefix`, in key order.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    pub async fn scan(&self, prefix: Key) -> Result<Records, StoreError> {
        self.ask(|answer| Request::Scan(prefix, answer)).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.requests
            .send(request(answer))
            .await
            .map_err(|_| StoreError::Failed)?;
        receiver.await.unwrap_or(Err(StoreError::Failed))
    }
}

fn write_all(mut store: Box<dyn Store>, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let (mut sets, mut answers) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        let mut scan = None;
        while let Some(request) = next.take() {
            match request {
                Request::Append(set, answer) => {
                    sets.push(set);
                    answers.push(answer);
                }
                // What was asked to be written before is read with it.
                Request::Scan(prefix, answer) => scan = Some((prefix, answer)),
            }
            if scan.is_none() && sets.len() < BATCH_MAX {
                next = requests.try_recv().ok();
            }
        }
        if !sets.is_empty() {
            let result = store.append(&sets);
            // A session that is gone does not wait for its answer.
            for answer in answers {
                let _ = answer.send(result);
            }
        }
        if let Some((prefix, answer)) = scan {
            let _ = answer.send(store.scan(&prefix));
        }
    }
}
