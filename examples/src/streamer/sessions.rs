//! The streamer's sessions: one for every viewer, finished after a crash, closed at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streampay_core::driver::{
    Connected, Link, LinkEnd, Node, Ports, SessionTask, Stopped, UserPorts, entropy,
};
use streampay_core::session::{CloseCode, Command, Event, PayeeConfig, PayeeSession, SecretKey};
use streampay_core::store::StoreError;
use streampay_core::units::SessionId;
use streampay_core::wire::peek_session;
use streampay_media::whep::Arrival;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

/// How long a fresh connection has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(15);
/// How long a bound viewer may stay without paying, in milliseconds.
pub(super) const UNPAID_MS: u64 = 30_000;
/// How long finishing one session may take; a mint that is away longer is asked again next time.
const FINISH: Duration = Duration::from_secs(30);
/// How many sessions are finished at once.
const FINISH_AT_ONCE: usize = 8;
/// How long live sessions have to close when the streamer ends.
const GOODBYE: Duration = Duration::from_secs(10);

/// All sessions of one process.
pub(super) struct Sessions {
    node: Arc<Node>,
    identity: SecretKey,
    report: Report,
    live: Mutex<HashMap<SessionId, mpsc::Sender<Command>>>,
}

/// What the store has of a session.
enum Found {
    /// Nothing.
    New,
    /// This, to go on with.
    Task(Box<(SessionTask<PayeeSession>, UserPorts)>),
    /// Something that cannot be gone on with.
    Unusable(StoreError),
}

impl Sessions {
    pub(super) fn new(home: &Home, report: Report) -> Arc<Self> {
        Arc::new(Self {
            node: home.node.clone(),
            identity: home.identity.clone(),
            report,
            live: Mutex::default(),
        })
    }

    async fn find(&self, id: SessionId) -> Result<Found, StoreError> {
        let records = self.node.records_of(id).await?;
        if records.is_empty() {
            return Ok(Found::New);
        }
        let (identity, now) = (self.identity.clone(), self.node.clock().now());
        let restored = PayeeSession::restore(identity, UNPAID_MS, now, id, &records);
        Ok(match restored {
            Ok(session) => {
                let (ports, user) = Ports::pair();
                let node = self.node.clone();
                let task = SessionTask::restored(node, id, session, &records, ports);
                Found::Task(Box::new((task, user)))
            }
            Err(error) => Found::Unusable(error),
        })
    }

    /// Serves every viewer that comes.
    pub(super) async fn accept(
        self: Arc<Self>,
        payee: PayeeConfig,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        while let Some(arrival) = arrivals.recv().await {
            let (sessions, payee) = (self.clone(), payee.clone());
            tokio::spawn(async move {
                if let Err(error) = sessions.welcome(payee, arrival).await {
                    let line = format!("a viewer could not be served: {error}");
                    sessions.report.tell(&line);
                }
            });
        }
    }

    /// One viewer, from its first message to the end of its connection.
    async fn welcome(&self, payee: PayeeConfig, arrival: Arrival) -> Result<(), AppError> {
        let Arrival {
            mut link,
            mut connection,
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
        // While the session's last connection is still there, another one has to wait: it comes
        // again, and a stranger cannot push the real viewer out.
        let Some(claim) = Claim::take(self, id) else {
            return Ok(());
        };
        let (mut task, user) = match self.find(id).await? {
            Found::Task(found) => *found,
            Found::Unusable(error) => return Err(error.into()),
            Found::New => {
                let entropy = entropy().map_err(AppError::io("no randomness"))?;
                let session = PayeeSession::new(payee, &entropy)
                    .map_err(|_| AppError::Failed("a one in 2^128 chance; try again"))?;
                let (ports, user) = Ports::pair();
                (SessionTask::new(self.node.clone(), session, ports), user)
            }
        };
        claim.listens(user.commands.clone());
        let initial = task.session().reading();
        let usage = connection.start(user.gate.clone(), initial)?;
        let meter = usage.clone();
        let link = with_first(link, hello).await;
        let watcher = tokio::spawn(tell(user, place, id, self.report));
        if task.run(Some(Connected { link, usage })).await == Stopped::StoreFailed {
            let line = "the store failed; nothing more is accepted from this viewer";
            self.report.tell(line);
        }
        let (sent, total) = (*connection.sent().borrow(), *meter.borrow());
        let fields = serde_json::json!({
            "side": "streamer", "session": id.to_string(), "media_ms": total.media_ms,
            "video_packets": sent.video, "audio_packets": sent.audio,
        });
        self.report.say("viewer_gone", fields);
        connection.closer().close().await;
        drop(task);
        let _ = watcher.await;
        Ok(())
    }

    /// What a crash interrupted is finished: a payment whose swap had begun is redeemed. With a
    /// code, every session that is not over is closed with it, and settled. True where nothing
    /// is left to do then.
    pub(super) async fn finish(
        self: Arc<Self>,
        close: Option<CloseCode>,
    ) -> Result<bool, StoreError> {
        let mut under_way = JoinSet::new();
        let mut all_well = true;
        for id in self.node.sessions().await? {
            if under_way.len() >= FINISH_AT_ONCE
                && let Some(done) = under_way.join_next().await
            {
                all_well &= done.unwrap_or(false);
            }
            under_way.spawn(self.clone().finish_one(id, close));
        }
        while let Some(done) = under_way.join_next().await {
            all_well &= done.unwrap_or(false);
        }
        Ok(all_well)
    }

    async fn finish_one(self: Arc<Self>, id: SessionId, close: Option<CloseCode>) -> bool {
        // A viewer that is back already finishes it by itself.
        let Some(_claim) = Claim::take(&self, id) else {
            return true;
        };
        let (mut task, user) = match self.find(id).await {
            Ok(Found::Task(found)) => *found,
            // This folder was a viewer's too.
            Ok(Found::New | Found::Unusable(StoreError::OtherRole)) => return true,
            Ok(Found::Unusable(error)) | Err(error) => {
                self.report.tell(&format!("session {id}: {error}"));
                return false;
            }
        };
        if task.session().is_settled() {
            return true;
        }
        let watcher = tokio::spawn(tell_events(user, id, self.report));
        if let Some(code) = close
            && task.tell(Command::Close(code)).await.is_err()
        {
            return false;
        }
        let ran = tokio::time::timeout(FINISH, task.run(None)).await;
        let settled = task.session().is_settled();
        drop(task);
        let _ = watcher.await;
        settled || (close.is_none() && ran.is_ok())
    }

    /// Closes every live session and waits until each has told its viewer.
    pub(super) async fn goodbye(&self) {
        let live: Vec<_> = self.lock().values().cloned().collect();
        for commands in live {
            let _ = commands.send(Command::Close(CloseCode::Done)).await;
        }
        let all_gone = async {
            while !self.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all_gone).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<Command>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run a session; given back when dropped.
struct Claim<'a> {
    sessions: &'a Sessions,
    id: SessionId,
}

impl<'a> Claim<'a> {
    fn take(sessions: &'a Sessions, id: SessionId) -> Option<Self> {
        let mut live = sessions.lock();
        if live.contains_key(&id) {
            return None;
        }
        // Deaf until it says who listens.
        let (deaf, _) = mpsc::channel(1);
        live.insert(id, deaf);
        drop(live);
        Some(Self { sessions, id })
    }

    fn listens(&self, commands: mpsc::Sender<Command>) {
        self.sessions.lock().insert(self.id, commands);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

async fn tell(
    mut user: UserPorts,
    place: streampay_media::whep::UnboundPlace,
    id: SessionId,
    report: Report,
) {
    let mut place = Some(place);
    while let Some(event) = user.events.recv().await {
        if matches!(event, Event::Bound { .. })
            && let Some(place) = place.take()
        {
            place.bound();
        }
        report.of_session("streamer", id, &event);
    }
}

async fn tell_events(mut user: UserPorts, id: SessionId, report: Report) {
    while let Some(event) = user.events.recv().await {
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
