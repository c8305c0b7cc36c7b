//! The streamer's sessions: one for every viewer, taken up after a crash, closed at the end.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streampay_core::driver::{
    Connected, Link, LinkEnd, Node, Ports, RoomHandle, SessionTask, Stopped, TellError, UserPorts,
    entropy,
};
use streampay_core::meter::Grant;
use streampay_core::session::{
    CloseCode, Command, Event, PayeeConfig, PayeeSession, SEALED_MEDIA, SecretKey,
};
use streampay_core::store::{Key, StoreError};
use streampay_core::units::{Msat, SessionId};
use streampay_core::wire::peek_session;
use streampay_media::peer::ViewerConnection;
use streampay_media::whep::{Arrival, Seats, UnboundPlace};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::offered::Offered;
use super::seated::{Seated, turn_away};
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

/// How long a fresh connection has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(15);
/// How long after a session could not settle it is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(60);
/// How long a bound viewer may stay without paying, in milliseconds.
pub(super) const UNPAID_MS: u64 = 10_000;
/// The same where it may wait for its channel of bitcoin to confirm.
const CONFIRMING_MS: u64 = 12 * 3_600_000;
/// Sessions that are kept without a connection although nothing was paid in them yet: a channel may
/// be on its way. Chosen arbitrarily; a record of each is on disk.
const CONFIRMING_MAX: usize = 1_000;

/// All sessions of one process. Each that is not over has a task, with a viewer or without.
pub(super) struct Sessions {
    pub(super) node: Arc<Node>,
    identity: SecretKey,
    pub(super) report: Report,
    /// None while nobody is served: sessions are closed, not joined.
    room: Option<RoomHandle>,
    seats: Seats,
    slots: Mutex<HashMap<SessionId, Slot>>,
    /// Those that ended before their money was home, because the mint was away.
    unsettled: Mutex<BTreeSet<SessionId>>,
    /// How long a viewer may stay without paying, in milliseconds.
    unpaid_ms: u64,
    /// The feature bits without which a viewer is not taken.
    features: u64,
    /// Room for unpaid sessions that wait for their viewer to come back.
    confirming: Semaphore,
    /// Told when nothing can be kept any more.
    store_failed: Notify,
}

/// How to reach a session's task.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) commands: mpsc::Sender<Command>,
    /// One may wait while the session's last connection is still there, for a stranger cannot push
    /// the real viewer out. A viewer that does not get in comes again.
    connections: mpsc::Sender<Connection>,
}

/// A viewer whose first message named its session.
struct Connection {
    link: Link,
    media: ViewerConnection,
    place: UnboundPlace,
}

/// A session's end of its slot.
struct Doors {
    connections: mpsc::Receiver<Connection>,
    ports: Ports,
    user: UserPorts,
}

/// What the store has of a session.
pub(super) enum Found {
    /// Nothing.
    New,
    /// This, to go on with.
    Session(Box<PayeeSession>, Vec<(Key, Vec<u8>)>),
    /// Something that cannot be gone on with.
    Unusable(StoreError),
}

type Task = SessionTask<PayeeSession>;

impl Sessions {
    /// `waits` where a viewer may be waiting for a channel to confirm before it pays; `sealed`
    /// where the stream is.
    pub(super) fn new(
        home: &Home,
        report: Report,
        room: Option<RoomHandle>,
        seats: Seats,
        waits: bool,
        sealed: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            node: home.node.clone(),
            identity: home.identity.clone(),
            report,
            room,
            seats,
            slots: Mutex::default(),
            unsettled: Mutex::default(),
            unpaid_ms: if waits { CONFIRMING_MS } else { UNPAID_MS },
            features: if sealed { SEALED_MEDIA } else { 0 },
            confirming: Semaphore::new(if waits { CONFIRMING_MAX } else { 0 }),
            store_failed: Notify::new(),
        })
    }

    pub(super) async fn find(&self, id: SessionId) -> Result<Found, StoreError> {
        let records = self.node.records_of(id).await?;
        if records.is_empty() {
            return Ok(Found::New);
        }
        let (identity, now) = (self.identity.clone(), self.node.clock().now());
        let restored = PayeeSession::restore(identity, self.unpaid_ms, now, id, &records);
        Ok(match restored {
            Ok(session) => Found::Session(Box::new(session.requiring(self.features)), records),
            Err(error) => Found::Unusable(error),
        })
    }

    /// Serves every viewer that comes.
    pub(super) async fn accept(
        self: Arc<Self>,
        offered: Arc<Offered>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        while let Some(arrival) = arrivals.recv().await {
            let (sessions, offered) = (self.clone(), offered.clone());
            tokio::spawn(async move {
                if let Err(error) = sessions.welcome(&offered, arrival).await {
                    let line = format!("a viewer could not be served: {error}");
                    sessions.report.tell(&line);
                    if let AppError::Store(error) = error {
                        sessions.note(error);
                    }
                }
            });
        }
    }

    /// A store that failed once refuses everything until it is opened anew: nobody can be served.
    fn note(&self, error: StoreError) {
        if matches!(
            error,
            StoreError::Failed | StoreError::Poisoned | StoreError::Fenced
        ) {
            self.store_failed.notify_one();
        }
    }

    /// Ready once the store has failed.
    pub(super) async fn store_failed(&self) {
        self.store_failed.notified().await;
    }

    /// Leads a viewer to its session: the one that is there, or a new one.
    async fn welcome(&self, offered: &Arc<Offered>, arrival: Arrival) -> Result<(), AppError> {
        let Arrival {
            mut link,
            connection: media,
            place,
            ..
        } = arrival;
        let hello = tokio::time::timeout(HELLO_WAIT, link.end.incoming.recv()).await;
        let Ok(Some(hello)) = hello else {
            return Ok(());
        };
        let Ok(id) = peek_session(&hello) else {
            return Ok(());
        };
        let link = with_first(link, hello).await;
        let connection = Connection { link, media, place };
        let Some(mut doors) = self.enter(id, Some(connection)) else {
            return Ok(());
        };
        let _leaves = Leaves(self, id);
        let (task, doors) = match self.find(id).await? {
            Found::Session(session, records) => self.restored(*session, &records, doors),
            Found::Unusable(error) => return Err(error.into()),
            Found::New => {
                let sale = offered.now().await;
                let Some(terms) = &sale.terms else {
                    if let Ok(Connection { link, media, place }) = doors.connections.try_recv() {
                        turn_away(link, (media, place)).await;
                    }
                    return Ok(());
                };
                let payee = PayeeConfig {
                    identity: self.identity.clone(),
                    preview_left: Msat::ZERO,
                    terms: terms.clone().into(),
                    unpaid_ms: self.unpaid_ms,
                };
                let entropy = entropy().map_err(AppError::io("no randomness"))?;
                let session = PayeeSession::new(payee, &entropy)?.requiring(self.features);
                doors.with(|ports| SessionTask::new(self.node.clone(), session, ports))
            }
        };
        self.live(id, task, doors).await?;
        Ok(())
    }

    /// Hands the connection to the session's task. Where there is none, the caller is to be it.
    fn enter(&self, id: SessionId, connection: Option<Connection>) -> Option<Doors> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&id) {
            if let Some(connection) = connection {
                let _ = slot.connections.try_send(connection);
            }
            return None;
        }
        let (ports, user) = Ports::pair();
        let (connections, from) = mpsc::channel(1);
        if let Some(connection) = connection {
            let _ = connections.try_send(connection);
        }
        let commands = user.commands.clone();
        slots.insert(
            id,
            Slot {
                commands,
                connections,
            },
        );
        drop(slots);
        Some(Doors {
            connections: from,
            ports,
            user,
        })
    }

    fn restored(
        &self,
        session: PayeeSession,
        records: &[(Key, Vec<u8>)],
        doors: Doors,
    ) -> (Task, (mpsc::Receiver<Connection>, UserPorts)) {
        let node = self.node.clone();
        doors.with(|ports| SessionTask::restored(node, session, records, ports))
    }

    /// A session over all its connections, until it is over: closed, or not resumed in time.
    async fn live(
        &self,
        id: SessionId,
        mut task: Task,
        (mut connections, user): (mpsc::Receiver<Connection>, UserPorts),
    ) -> Result<(), StoreError> {
        if let Some(room) = &self.room {
            task = task.in_room(room.seat());
        }
        let gate = user.gate.clone();
        let place = Arc::new(Mutex::new(None));
        let watcher = tokio::spawn(tell(user.events, place.clone(), id, self.report));
        drop(user.commands);
        let mut connected = false;
        let mut seated = Seated::default();
        let ended = loop {
            // Nobody resumes what nothing was paid for, unless a channel may be about to confirm.
            let unpaid = connected && task.session().credited().is_zero();
            match self.next(&mut task, &mut connections, unpaid).await {
                Ok(Some(Some(connection))) => {
                    if !seated.sit(&self.seats) {
                        let Connection { link, media, place } = connection;
                        turn_away(link, (media, place)).await;
                        if connected || !task.session().credited().is_zero() {
                            continue;
                        }
                        break Ok(());
                    }
                    connected = true;
                    match self.over(id, &mut task, connection, &gate, &place).await {
                        Stopped::LinkDown => {}
                        Stopped::StoreFailed => break Err(StoreError::Failed),
                        _ => break Ok(()),
                    }
                    seated.leave(!task.session().credited().is_zero());
                }
                Ok(Some(None)) if unpaid => {
                    let told = task.tell(Command::Close(CloseCode::Done)).await;
                    if let Err(TellError::Store(error)) = told {
                        break Err(error);
                    }
                    task.run(None).await;
                    break Ok(());
                }
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if !task.session().is_settled() {
            self.waiting().insert(id);
        }
        drop(task);
        let _ = watcher.await;
        ended
    }

    /// The session's next connection: none once it is over, and none inside where nobody comes.
    async fn next(
        &self,
        task: &mut Task,
        connections: &mut mpsc::Receiver<Connection>,
        unpaid: bool,
    ) -> Result<Option<Option<Connection>>, StoreError> {
        if !unpaid {
            return task.idle(connections.recv()).await;
        }
        let Ok(_room) = self.confirming.try_acquire() else {
            return Ok(Some(None));
        };
        let limit = Duration::from_millis(self.unpaid_ms);
        let next = tokio::time::timeout(limit, task.idle(connections.recv())).await;
        next.unwrap_or(Ok(Some(None)))
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection of a session.
    async fn over(
        &self,
        id: SessionId,
        task: &mut Task,
        connection: Connection,
        gate: &watch::Receiver<Grant>,
        place: &Mutex<Option<UnboundPlace>>,
    ) -> Stopped {
        let Connection {
            link,
            mut media,
            place: of_this,
        } = connection;
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(of_this);
        let (gate, reading) = (gate.clone(), task.session().reading());
        let commands = self.lock().get(&id).map(|slot| slot.commands.clone());
        let started = match commands.filter(|_| media.is_sealed()) {
            Some(commands) => media.start_sealed(gate, reading, commands),
            None => media.start(gate, reading),
        };
        let Ok(usage) = started else {
            return Stopped::LinkDown;
        };
        let meter = usage.clone();
        let stopped = task.run(Some(Connected { link, usage })).await;
        let (sent, total) = (*media.sent().borrow(), *meter.borrow());
        let fields = serde_json::json!({
            "side": "streamer", "session": id.to_string(), "media_ms": total.media_ms,
            "video_packets": sent.video, "audio_packets": sent.audio,
        });
        self.report.say("viewer_gone", fields);
        media.closer().close().await;
        stopped
    }

    /// Takes up every session that is not over: what a crash interrupted is finished, a payment
    /// whose swap had begun is redeemed, and its viewer may come back. Then, for as long as this
    /// runs, those again that a mint which was away kept from settling: what was acknowledged is
    /// the streamer's only once it is redeemed, and locked ecash goes back after its locktime.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut ids = self.node.sessions().await.unwrap_or_default();
        loop {
            self.take_up(ids).await;
            tokio::time::sleep(SETTLE_AGAIN).await;
            ids = std::mem::take(&mut *self.waiting()).into_iter().collect();
        }
    }

    async fn take_up(self: &Arc<Self>, ids: Vec<SessionId>) {
        for id in ids {
            let sessions = self.clone();
            // A viewer that is back already has done so.
            let Some(doors) = sessions.enter(id, None) else {
                continue;
            };
            let found = sessions.find(id).await;
            tokio::spawn(async move {
                let _leaves = Leaves(&sessions, id);
                let gone_on = match found {
                    Ok(Found::Session(session, records)) if !session.is_settled() => {
                        let (task, doors) = sessions.restored(*session, &records, doors);
                        sessions.live(id, task, doors).await
                    }
                    // This folder was a viewer's too; or it is over.
                    Ok(Found::Session(..) | Found::New) => Ok(()),
                    Ok(Found::Unusable(StoreError::OtherRole)) => Ok(()),
                    Ok(Found::Unusable(error)) | Err(error) => Err(error),
                };
                if let Err(error) = gone_on {
                    sessions.report.tell(&format!("session {id}: {error}"));
                    sessions.note(error);
                }
            });
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doors {
    fn with(
        self,
        task: impl FnOnce(Ports) -> Task,
    ) -> (Task, (mpsc::Receiver<Connection>, UserPorts)) {
        (task(self.ports), (self.connections, self.user))
    }
}

/// Frees the session's slot when dropped.
struct Leaves<'a>(&'a Sessions, SessionId);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

pub(super) async fn tell(
    mut events: mpsc::Receiver<Event>,
    place: Arc<Mutex<Option<UnboundPlace>>>,
    id: SessionId,
    report: Report,
) {
    while let Some(event) = events.recv().await {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Bound { .. } => place.iter().for_each(UnboundPlace::bound),
            Event::TickReceived { .. } => place.take().into_iter().for_each(UnboundPlace::paid),
            _ => {}
        }
        drop(place);
        report.of_session("streamer", id, &event);
    }
}

/// The link again, its first message still to come.
async fn with_first(link: Link, first: bytes::Bytes) -> Link {
    let Link {
        identity,
        end: LinkEnd {
            outgoing,
            mut incoming,
        },
    } = link;
    let (to, from) = mpsc::channel(LinkEnd::QUEUE);
    let _ = to.send(first).await;
    tokio::spawn(async move {
        while let Some(bytes) = incoming.recv().await {
            if to.send(bytes).await.is_err() {
                return;
            }
        }
    });
    Link {
        identity,
        end: LinkEnd {
            outgoing,
            incoming: from,
        },
    }
}
