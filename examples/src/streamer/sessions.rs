//! The streamer's sessions: one for every viewer. How it comes to its session is in `arrivals`, what
//! becomes of those without a viewer in `kept`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streampay_core::driver::{
    Connected, Link, Node, Ports, RoomHandle, SessionTask, Stopped, TellError, UserPorts,
};
use streampay_core::meter::Grant;
use streampay_core::session::{CloseCode, Command, Event, PayeeSession, SEALED_MEDIA, SecretKey};
use streampay_core::store::{Key, StoreError};
use streampay_core::units::SessionId;
use streampay_media::peer::ViewerConnection;
use streampay_media::whep::{Preview, UnboundPlace};
use tokio::sync::{Notify, mpsc, watch};

use super::seated::{Seated, turn_away};
use super::strangers::{Patience, Stranger, Strangers};
use crate::channel::Channels;
use crate::home::Home;
use crate::report::{Next, Report};

/// All sessions of one process. Each that is not over has a task, with a viewer or without.
pub(super) struct Sessions {
    pub(super) node: Arc<Node>,
    pub(super) identity: SecretKey,
    pub(super) channels: Option<Arc<Channels>>,
    pub(super) report: Report,
    /// None while nobody is served: sessions are closed, not joined.
    room: Option<RoomHandle>,
    /// How long who may stay without paying.
    pub(super) patience: Patience,
    slots: Mutex<HashMap<SessionId, Slot>>,
    /// Those that ended before their money was home, because the mint was away.
    unsettled: Mutex<BTreeSet<SessionId>>,
    /// The feature bits without which a viewer is not taken.
    pub(super) features: u64,
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
pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) media: ViewerConnection,
    pub(super) place: UnboundPlace,
    /// Where it comes from.
    pub(super) address: IpAddr,
}

/// A session's end of its slot.
pub(super) struct Doors {
    pub(super) connections: mpsc::Receiver<Connection>,
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

pub(super) type Task = SessionTask<PayeeSession>;

impl Sessions {
    /// `strangers` says what who has not paid may do; `sealed` is true where the stream is.
    pub(super) fn new(
        home: &Home,
        report: Report,
        room: Option<RoomHandle>,
        strangers: Strangers,
        sealed: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            node: home.node.clone(),
            identity: home.identity.clone(),
            channels: home.channels.clone(),
            report,
            room,
            patience: Patience::new(strangers),
            slots: Mutex::default(),
            unsettled: Mutex::default(),
            features: if sealed { SEALED_MEDIA } else { 0 },
            store_failed: Notify::new(),
        })
    }

    pub(super) async fn find(&self, id: SessionId) -> Result<Found, StoreError> {
        let records = self.node.records_of(id).await?;
        if records.is_empty() {
            return Ok(Found::New);
        }
        let (identity, now) = (self.identity.clone(), self.node.clock().now());
        let unpaid_ms = self.patience.unpaid_ms();
        let restored = PayeeSession::restore(identity, unpaid_ms, now, id, &records);
        Ok(match restored {
            Ok(session) => Found::Session(Box::new(session.requiring(self.features)), records),
            Err(error) => Found::Unusable(error),
        })
    }

    /// A store that failed once refuses everything until it is opened anew: nobody can be served.
    pub(super) fn note(&self, error: StoreError) {
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

    /// Hands the connection to the session's task. Where there is none, the caller is to be it.
    pub(super) fn enter(&self, id: SessionId, connection: Option<Connection>) -> Option<Doors> {
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

    pub(super) fn restored(
        &self,
        session: PayeeSession,
        records: &[(Key, Vec<u8>)],
        doors: Doors,
    ) -> (Task, (mpsc::Receiver<Connection>, UserPorts)) {
        let node = self.node.clone();
        doors.with(|ports| SessionTask::restored(node, session, records, ports))
    }

    /// A session over all its connections, until it is over: closed, or not resumed in time. What it
    /// did not use of its `preview` is there for others then.
    pub(super) async fn live(
        &self,
        id: SessionId,
        mut task: Task,
        (mut connections, user): (mpsc::Receiver<Connection>, UserPorts),
        mut preview: Option<Preview>,
    ) -> Result<(), StoreError> {
        if let Some(room) = &self.room {
            task = task.in_room(room.seat());
        }
        let gate = user.gate.clone();
        let has_paid = |task: &Task| !task.session().credited().is_zero();
        let stranger = Arc::new(Stranger::new(has_paid(&task)));
        let watcher = tokio::spawn(tell(
            user.events,
            stranger.clone(),
            id,
            self.report,
            Next::after_serving,
        ));
        drop(user.commands);
        let mut last = None;
        let mut seated = Seated::default();
        let ended = loop {
            // Nobody resumes what nothing was paid for, unless a channel may be about to confirm.
            let unpaid = last.filter(|_| !has_paid(&task));
            match self.next(&mut task, &mut connections, unpaid).await {
                Ok(Some(Some(connection))) => {
                    if !seated.sit(self.patience.seats()) {
                        let Connection {
                            link, media, place, ..
                        } = connection;
                        turn_away(link, (media, place)).await;
                        if last.is_some() || has_paid(&task) {
                            continue;
                        }
                        break Ok(());
                    }
                    last = Some(connection.address);
                    let viewer = (&*stranger, &mut seated);
                    match self.over(id, &mut task, connection, &gate, viewer).await {
                        Stopped::LinkDown => {}
                        Stopped::StoreFailed => break Err(StoreError::Failed),
                        _ => break Ok(()),
                    }
                    seated.leave(has_paid(&task));
                }
                Ok(Some(None)) if unpaid.is_some() => {
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
        if let Some(preview) = &mut preview {
            preview.used(task.session().preview_used());
        }
        if !task.session().is_settled() {
            self.waiting().insert(id);
        }
        drop(task);
        let _ = watcher.await;
        ended
    }

    /// The session's next connection: none once it is over, and none inside where nobody comes.
    /// `unpaid` is where the last one came from, where nothing was paid yet.
    async fn next(
        &self,
        task: &mut Task,
        connections: &mut mpsc::Receiver<Connection>,
        unpaid: Option<IpAddr>,
    ) -> Result<Option<Option<Connection>>, StoreError> {
        let Some(address) = unpaid else {
            return task.idle(connections.recv()).await;
        };
        let Some((_place, limit)) = self.patience.wait_away(address) else {
            return Ok(Some(None));
        };
        let next = tokio::time::timeout(limit, task.idle(connections.recv())).await;
        next.unwrap_or(Ok(Some(None)))
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
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
        (stranger, seated): (&Stranger, &mut Seated),
    ) -> Stopped {
        let Connection {
            link,
            mut media,
            place,
            address,
        } = connection;
        stranger.comes(place);
        let (gate, reading) = (gate.clone(), task.session().reading());
        let commands = self.lock().get(&id).map(|slot| slot.commands.clone());
        let Some(commands) = commands else {
            return Stopped::LinkDown;
        };
        let started = match media.is_sealed() {
            true => media.start_sealed(gate, reading, commands.clone()),
            false => media.start(gate, reading),
        };
        let Ok(usage) = started else {
            return Stopped::LinkDown;
        };
        let meter = usage.clone();
        let stopped = tokio::select! {
            stopped = task.run(Some(Connected { link, usage })) => stopped,
            () = self.patience.mind(address, stranger, seated, &commands) => Stopped::LinkDown,
        };
        let (sent, total) = (*media.sent().borrow(), *meter.borrow());
        let fields = serde_json::json!({
            "side": "streamer", "session": id.to_string(), "media_ms": total.media_ms,
            "video_packets": sent.video, "audio_packets": sent.audio,
        });
        self.report.say("viewer_gone", fields);
        media.closer().close().await;
        // What passed the gate until it was shut counts, also where the loop did not look any more.
        let last = *meter.borrow();
        match task.metered(last).await {
            Ok(()) => stopped,
            Err(_) => Stopped::StoreFailed,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doors {
    pub(super) fn with(
        self,
        task: impl FnOnce(Ports) -> Task,
    ) -> (Task, (mpsc::Receiver<Connection>, UserPorts)) {
        (task(self.ports), (self.connections, self.user))
    }
}

/// Frees the session's slot when dropped.
pub(super) struct Leaves<'a>(pub(super) &'a Sessions, pub(super) SessionId);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// Tells a session's events as they come; `next` is what happens after each.
pub(super) async fn tell(
    mut events: mpsc::Receiver<Event>,
    stranger: Arc<Stranger>,
    id: SessionId,
    report: Report,
    next: fn(&Event) -> Option<Next>,
) {
    while let Some(event) = events.recv().await {
        stranger.hear(&event);
        report.of_session("streamer", id, &event, next(&event));
    }
}
