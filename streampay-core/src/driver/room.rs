//! One room for many session tasks. Who comes and goes, and what each asks, goes to the room at
//! once; what it tells them goes through a bounded queue for each, so that a slow member loses
//! lines and nobody waits for it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::{Clock, Node, StoreWriter};
use crate::room::{HostCommand, Room, RoomConfig, RoomEvent, RoomInput, RoomOutput};
use crate::session::{CloseCode, RoomAsk, RoomNews};
use crate::store::StoreError;
use crate::units::{SessionId, XOnlyKey};

/// What may wait for one member: all that was said lately, and more.
const NEWS: usize = 256;
/// Of these, for answers, which are few and not said again by themselves.
const ANSWERS: usize = 16;
/// Events that may wait. A host who reads none loses the newest.
const EVENTS: usize = 1024;

/// The room of a process. Clones are the same room; it ends with the last of them and the last
/// [`Seat`].
#[derive(Clone)]
pub struct RoomHandle {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
    clock: Clock,
}

struct Inner {
    room: Room,
    seats: BTreeMap<SessionId, Ends>,
    next_seat: u64,
    events: mpsc::Sender<RoomEvent>,
}

/// The room's ends of a seat.
#[derive(Clone)]
struct Ends {
    seat: u64,
    news: mpsc::Sender<RoomNews>,
    close: watch::Sender<Option<CloseCode>>,
}

/// One session's place in the room: give it to
/// [`SessionTask::in_room`](super::SessionTask::in_room). When it is dropped, as with a task that
/// dies, its session is gone from the room.
pub struct Seat {
    room: RoomHandle,
    ends: Ends,
    news: mpsc::Receiver<RoomNews>,
    close: watch::Receiver<Option<CloseCode>>,
    there: Option<SessionId>,
}

/// What the room wants of a session.
pub(super) enum Word {
    News(RoomNews),
    Close(CloseCode),
}

impl RoomHandle {
    /// Opens the room with what the node's store has of it. Events come out of the receiver.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub async fn open(
        node: &Node,
        config: RoomConfig,
    ) -> Result<(Self, mpsc::Receiver<RoomEvent>), StoreError> {
        let records = node.store.scan(config.prefix()).await?;
        let (events, events_out) = mpsc::channel(EVENTS);
        let inner = Inner {
            room: Room::restore(config, &records)?,
            seats: BTreeMap::new(),
            next_seat: 0,
            events,
        };
        let wake = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Arc::clone(&wake),
            clock: node.clock,
        });
        tokio::spawn(serve(Arc::downgrade(&shared), wake, node.store.clone()));
        Ok((Self { shared }, events_out))
    }

    /// A place for one session.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let (news_in, news) = mpsc::channel(NEWS);
        let (close_in, close) = watch::channel(None);
        let mut inner = self.shared.lock();
        inner.next_seat = inner.next_seat.saturating_add(1);
        let ends = Ends {
            seat: inner.next_seat,
            news: news_in,
            close: close_in,
        };
        drop(inner);
        Seat {
            room: self.clone(),
            ends,
            news,
            close,
            there: None,
        }
    }

    /// What the host wants.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] where the room's store failed before: nothing was done. A store
    /// that fails at this very command is told by [`RoomEvent::StoreFailed`].
    pub fn host(&self, command: HostCommand) -> Result<(), StoreError> {
        if self.is_failed() {
            return Err(StoreError::Poisoned);
        }
        self.shared.input(RoomInput::Host(command));
        Ok(())
    }

    /// True once the room's store failed: it says and keeps nothing any more.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.shared.lock().room.is_failed()
    }

    /// How many sessions are bound, connected and not closing. Spec: rooms 2.
    #[must_use]
    pub fn viewers(&self) -> u32 {
        self.shared.lock().room.viewers()
    }
}

impl Seat {
    /// Tells the room whether the session is there: bound, connected and not closing.
    pub(super) fn sync(&mut self, session: Option<SessionId>, viewer: Option<XOnlyKey>) {
        let now = session.zip(viewer);
        if now.map(|(session, _)| session) == self.there {
            return;
        }
        self.depart();
        if let Some((session, identity)) = now {
            self.there = Some(session);
            let shared = &self.room.shared;
            shared.lock().seats.insert(session, self.ends.clone());
            shared.input(RoomInput::Bound { session, identity });
        }
    }

    /// Tells the room what the session's payer wants.
    pub(super) fn ask(&self, ask: RoomAsk) {
        if let Some(session) = self.there {
            self.room.shared.input(RoomInput::Asked { session, ask });
        }
    }

    /// What the room wants next of the session. Nothing is lost where this is dropped.
    pub(super) async fn next(&mut self) -> Word {
        loop {
            tokio::select! {
                Some(news) = self.news.recv() => return Word::News(news),
                Ok(()) = self.close.changed() => {
                    let code = *self.close.borrow_and_update();
                    if let Some(code) = code {
                        return Word::Close(code);
                    }
                }
            }
        }
    }

    fn depart(&mut self) {
        let Some(session) = self.there.take() else {
            return;
        };
        let shared = &self.room.shared;
        let mut inner = shared.lock();
        let ends = inner.seats.get(&session);
        // Another task may have the session by now: then it is there.
        let own = ends.is_some_and(|ends| ends.seat == self.ends.seat);
        if own {
            inner.seats.remove(&session);
        }
        drop(inner);
        if own {
            shared.input(RoomInput::Gone { session });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.depart();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The room is a machine without panics: what a poisoned lock guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self, input: RoomInput) {
        let mut inner = self.lock();
        // The time is taken under the lock, so that it does not go back.
        let now = self.clock.now();
        let _ = inner.room.handle(now, input);
        drop(inner);
        self.wake.notify_one();
    }

    /// Takes every output in order. Each [`RoomOutput::Persist`] is durable before the next.
    async fn drain(&self, store: &StoreWriter) -> Result<(), StoreError> {
        loop {
            let output = self.lock().room.poll_output();
            match output {
                None => return Ok(()),
                Some(RoomOutput::Persist(changes)) => store.append(changes).await?,
                Some(output) => self.lock().act(output),
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Inner {
    fn act(&self, output: RoomOutput) {
        match output {
            RoomOutput::Tell { session, news } => {
                let ends = self.seats.get(&session);
                let full = |ends: &Ends| news.may_be_dropped() && ends.news.capacity() <= ANSWERS;
                if let Some(ends) = ends.filter(|ends| !full(ends)) {
                    let _ = ends.news.try_send(news);
                }
            }
            RoomOutput::Close { session, code } => {
                if let Some(ends) = self.seats.get(&session) {
                    ends.close.send_replace(Some(code));
                }
            }
            RoomOutput::Event(event) => drop(self.events.try_send(event)),
            RoomOutput::Persist(_) => {}
        }
    }
}

/// Takes the room's outputs until nobody has it any more, or its store failed.
async fn serve(room: Weak<Shared>, wake: Arc<Notify>, store: StoreWriter) {
    while let Some(shared) = room.upgrade() {
        if shared.drain(&store).await.is_err() {
            shared.input(RoomInput::PersistFailed);
            // What is left is the event that says so: nothing of it is written.
            let _ = shared.drain(&store).await;
            return;
        }
        let at = shared.lock().room.poll_timeout();
        let at = at.map(|at| shared.clock.instant(at));
        drop(shared);
        let timeout = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = timeout => {
                if let Some(shared) = room.upgrade() {
                    shared.input(RoomInput::Timeout);
                }
            }
        }
    }
}

impl core::fmt::Debug for RoomHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RoomHandle")
            .field("viewers", &self.viewers())
            .finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Seat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seat")
            .field("session", &self.there)
            .finish_non_exhaustive()
    }
}
