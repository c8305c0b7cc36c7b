use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::outgoing::{Outgoing, Sent};
use super::room::Word;
use super::writer::Barrier;
use super::{Link, LinkEnd, Node, Ports, Seat, SessionMachine, entropy};
use crate::backend::{Effect, EffectResult};
use crate::meter::{Grant, Reading};
use crate::session::{
    ApiMisuse, BackendEvent, Command, Event, Input, LinkEvent, Output, PayeeSession, RoomNews,
};
use crate::store::{Key, StoreError};
use crate::units::{PurseKey, Unix};

/// Ends of effects that may wait: a session has few under way.
const RESULTS: usize = 256;

/// A connection, and the meter that counts what it delivers.
#[derive(Debug)]
pub struct Connected {
    /// The messages.
    pub link: Link,
    /// What the meter reads, since the session began.
    pub usage: watch::Receiver<Reading>,
}

/// Why [`SessionTask::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The session is over.
    Ended,
    /// The connection is gone, or of no use; the session can go on with another. Without one,
    /// [`SessionTask::run`] it again at [`SessionMachine::resume_by`], so that it settles.
    LinkDown,
    /// The store failed. What is on disk is what counts.
    StoreFailed,
}

/// Why [`SessionTask::tell`] did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The command breaks the contract: the session has ended, or the command's own rule says so.
    /// Nothing has changed.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
    /// An output could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One session's loop. State is in the machine and the store alone: dropping the task at any
/// moment is a crash, which loses nothing. Dropping a future of [`SessionTask::run`],
/// [`SessionTask::tell`] or [`SessionTask::idle`] and going on with the task is losing the
/// connection: what was on its way to the store is durable before anything that follows it leaves.
#[derive(Debug)]
pub struct SessionTask<S> {
    session: S,
    node: Arc<Node>,
    ports: Ports,
    results: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    under_way: usize,
    commands_gone: bool,
    seat: Option<Seat>,
    /// When a purse wants to be told the time, and the instant that this was when it first said so.
    alarm: Option<(Unix, Instant)>,
    /// What must be durable before the next output is taken.
    barrier: Barrier,
    /// True while the session believes in a connection.
    linked: bool,
    outgoing: Outgoing,
}

#[derive(Debug)]
struct Finished {
    method: String,
    result: EffectResult,
}

/// What woke the loop.
enum Wake {
    Input(Input),
    /// What the user wants.
    Command(Command),
    Finished(Finished),
    LinkGone,
    CommandsGone,
    News(RoomNews),
    /// What waits to be said can be.
    Room,
    /// A purse's machine wants to be told the time.
    Alarm(String, PurseKey),
}

impl SessionTask<PayeeSession> {
    /// The same task, its session in a room: what the payer wants of it goes there, and what the
    /// room says goes to the payer. Before the first connection.
    #[must_use]
    pub fn in_room(self, seat: Seat) -> Self {
        Self {
            session: self.session.with_room(),
            seat: Some(seat),
            ..self
        }
    }
}

impl<S: SessionMachine> SessionTask<S> {
    /// A loop for a new session.
    #[must_use]
    pub fn new(node: Arc<Node>, session: S, ports: Ports) -> Self {
        Self {
            session,
            node,
            ports,
            results: mpsc::channel(RESULTS),
            under_way: 0,
            commands_gone: false,
            seat: None,
            alarm: None,
            barrier: Barrier::default(),
            linked: false,
            outgoing: Outgoing::default(),
        }
    }

    /// A loop for a session that was restored from `records`. The payment machines are given
    /// theirs here, before the session's first output is taken.
    #[must_use]
    pub fn restored(node: Arc<Node>, session: S, records: &[(Key, Vec<u8>)], ports: Ports) -> Self {
        let answers = match session.id() {
            Some(id) => node.restore(id, &session.purses(), records),
            None => Vec::new(),
        };
        let mut task = Self::new(node, session, ports);
        let said = answers.into_iter().filter(|(_, answer)| {
            !answer.effects.is_empty()
                || !answer.delta.is_empty()
                || answer.note.is_some()
                || answer.trouble.is_some()
        });
        for (purse, answer) in said {
            // What it wants done or shown goes the way of every answer.
            task.input(Input::Backend(BackendEvent { purse, answer }));
        }
        task
    }

    /// The machine.
    #[must_use]
    pub const fn session(&self) -> &S {
        &self.session
    }

    /// Tells the session something at once, also without a connection.
    ///
    /// # Errors
    /// [`TellError::Misuse`] where the command breaks the contract, with the session unchanged;
    /// [`TellError::Store`] where an output could not be made durable.
    pub async fn tell(&mut self, command: Command) -> Result<(), TellError> {
        self.begin().await?;
        self.handle(Input::Command(command))?;
        self.drain(None).await?;
        Ok(())
    }

    /// Takes what the meter read last, once nothing passes its gate any more: also without a connection. What it grew by
    /// after [`SessionTask::run`] had looked for the last time counts too.
    ///
    /// # Errors
    /// [`StoreError`] where an output could not be made durable.
    pub async fn metered(&mut self, reading: Reading) -> Result<(), StoreError> {
        self.begin().await?;
        self.input(Input::Usage(reading));
        self.drain(None).await.map(|_| ())
    }

    /// Runs the session over a connection, or without one, until it ends or the connection is
    /// gone and nothing is under way any more.
    pub async fn run(&mut self, connected: Option<Connected>) -> Stopped {
        if self.begin().await.is_err() {
            return Stopped::StoreFailed;
        }
        let (mut link, mut usage) = match connected {
            Some(Connected { link, usage }) => {
                let Ok(entropy) = entropy() else {
                    return Stopped::LinkDown;
                };
                let up = LinkEvent::Up {
                    identity: link.identity,
                    entropy,
                };
                self.input(Input::Link(up));
                self.linked = true;
                (Some(link.end), Some(usage))
            }
            None => {
                self.input(Input::Timeout);
                (None, None)
            }
        };
        loop {
            match self.drain(link.as_ref()).await {
                Ok(LinkWanted::Yes) => {}
                Ok(LinkWanted::No) => {
                    if self.drop_link(&mut link, &mut usage).await.is_err() {
                        return Stopped::StoreFailed;
                    }
                }
                Err(_) => return Stopped::StoreFailed,
            }
            if self.session.is_ended() {
                if self.outgoing.last_words(link.as_mut()).await {
                    continue;
                }
                self.forget();
                return Stopped::Ended;
            }
            if link.is_none() && self.rests() {
                return Stopped::LinkDown;
            }
            match self.wait(link.as_mut(), usage.as_mut()).await {
                Wake::LinkGone => {
                    if self.drop_link(&mut link, &mut usage).await.is_err() {
                        return Stopped::StoreFailed;
                    }
                }
                Wake::News(news) if is_crowded(link.as_ref()) && news.may_be_dropped() => {}
                woken => self.woken(woken),
            }
        }
    }

    /// Keeps the session without a connection until `wake` is ready: none once it is over, because
    /// nobody resumed it in time or somebody closed it. `wake` being ready leaves the session as it
    /// is.
    ///
    /// # Errors
    /// [`StoreError`] where an output could not be made durable.
    pub async fn idle<T>(
        &mut self,
        wake: impl Future<Output = T>,
    ) -> Result<Option<T>, StoreError> {
        let mut wake = core::pin::pin!(wake);
        self.begin().await?;
        loop {
            self.drain(None).await?;
            if self.session.is_ended() {
                self.forget();
                return Ok(None);
            }
            tokio::select! {
                value = &mut wake => return Ok(Some(value)),
                woken = self.wait(None, None) => self.woken(woken),
            }
        }
    }

    /// Ends what a dropped future left: its connection is gone, and nothing that was meant for it
    /// goes over the next one.
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.unlink();
        self.drain(None).await.map(|_| ())
    }

    fn woken(&mut self, woken: Wake) {
        match woken {
            Wake::Input(input) => {
                if matches!(input, Input::Received(_)) {
                    self.outgoing.heard();
                }
                self.input(input);
            }
            Wake::Command(command) => {
                if let Err(misuse) = self.handle(Input::Command(command)) {
                    self.tell_user(Event::CommandRefused(misuse));
                }
            }
            Wake::Finished(finished) => self.finished(finished),
            Wake::News(news) => self.input(Input::Command(Command::Room(news))),
            Wake::CommandsGone => self.commands_gone = true,
            Wake::Alarm(method, purse) => {
                self.alarm = None;
                let answer = self.node.wake(&method, purse);
                self.input(Input::Backend(BackendEvent { purse, answer }));
            }
            Wake::LinkGone | Wake::Room => {}
        }
    }

    fn forget(&self) {
        if let (true, Some(id)) = (self.session.is_settled(), self.session.id()) {
            self.node.forget(id, &self.session.purses());
        }
    }

    /// True where nothing is left to do without a connection.
    fn rests(&self) -> bool {
        self.under_way == 0 && self.session.poll_timeout() == self.session.resume_by()
    }

    fn next_alarm(&mut self) -> Option<(Unix, Instant, PurseKey, String)> {
        let id = self.session.id()?;
        let (at, purse, method) = self.node.wake_at(id, &self.session.purses())?;
        let instant = match self.alarm {
            Some((known, instant)) if known == at => instant,
            _ => self.node.clock.instant_of(at),
        };
        self.alarm = Some((at, instant));
        Some((at, instant, purse, method))
    }

    /// The connection is gone. What passed the gate before it shuts counts, also where nobody woke for it: the meter
    /// may have grown while the last output was made durable.
    async fn drop_link(
        &mut self,
        link: &mut Option<LinkEnd>,
        usage: &mut Option<watch::Receiver<Reading>>,
    ) -> Result<(), StoreError> {
        *link = None;
        self.read_meter(usage.as_ref());
        self.unlink();
        self.drain(None).await?;
        if let Some(usage) = usage.take() {
            self.read_meter(Some(&usage));
            self.drain(None).await?;
        }
        Ok(())
    }

    fn read_meter(&mut self, usage: Option<&watch::Receiver<Reading>>) {
        if let Some(usage) = usage {
            let reading = *usage.borrow();
            self.input(Input::Usage(reading));
        }
    }

    /// Tells the session that its connection is gone, where it believes in one: also in that of a
    /// [`SessionTask::run`] whose future was dropped.
    fn unlink(&mut self) {
        if self.linked {
            self.linked = false;
            self.input(Input::Link(LinkEvent::Down));
        }
    }

    async fn wait(
        &mut self,
        link: Option<&mut LinkEnd>,
        usage: Option<&mut watch::Receiver<Reading>>,
    ) -> Wake {
        let deadline = self
            .session
            .poll_timeout()
            .map(|at| self.node.clock.instant(at));
        let timeout = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let alarm = self.next_alarm();
        let alarm = async {
            match alarm {
                Some((at, instant, purse, method)) => {
                    self.node.clock.sleep_until(at, instant).await;
                    Wake::Alarm(method, purse)
                }
                None => std::future::pending().await,
            }
        };
        let (incoming, outgoing) = match link {
            Some(end) => (Some(&mut end.incoming), Some(&end.outgoing)),
            None => (None, None),
        };
        let room = self.outgoing.room(outgoing);
        let listens = self.outgoing.listens();
        let received = async {
            match incoming.filter(|_| listens) {
                Some(incoming) => incoming.recv().await,
                None => std::future::pending().await,
            }
        };
        let read = async {
            if let Some(usage) = usage
                && usage.changed().await.is_ok()
            {
                return *usage.borrow_and_update();
            }
            std::future::pending().await
        };
        let seat = self.seat.as_mut();
        let word = async {
            match seat {
                Some(seat) => seat.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            word = word => match word {
                Word::News(news) => Wake::News(news),
                Word::Close(code) => Wake::Input(Input::Command(Command::Close(code))),
            },
            bytes = received => bytes.map_or(Wake::LinkGone, |bytes| Wake::Input(Input::Received(bytes))),
            Some(finished) = self.results.1.recv() => Wake::Finished(finished),
            command = self.ports.commands.recv(), if !self.commands_gone => {
                command.map_or(Wake::CommandsGone, Wake::Command)
            }
            there_is = room.comes() => if there_is { Wake::Room } else { Wake::LinkGone },
            reading = read => Wake::Input(Input::Usage(reading)),
            () = timeout => Wake::Input(Input::Timeout),
            alarm = alarm => alarm,
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), ApiMisuse> {
        let now = self.node.clock.now();
        self.session.handle(now, input)
    }

    /// What is no command of the user. Misuse changes nothing: a link that is down already, or a
    /// session that has just ended.
    fn input(&mut self, input: Input) {
        let _ = self.handle(input);
    }

    fn finished(&mut self, finished: Finished) {
        self.under_way = self.under_way.saturating_sub(1);
        let purse = finished.result.purse;
        let answer = self.node.effect_done(&finished.method, finished.result);
        self.input(Input::Backend(BackendEvent { purse, answer }));
    }

    /// Takes every output in order. Each [`Output::Persist`] is durable before the next is taken.
    async fn drain(&mut self, link: Option<&LinkEnd>) -> Result<LinkWanted, StoreError> {
        let mut wanted = match self.outgoing.flush(link) {
            Sent::Yes => LinkWanted::Yes,
            Sent::Gone => LinkWanted::No,
        };
        loop {
            if let Err(error) = self.barrier.pass(&self.node.store).await {
                self.persist_failed();
                return Err(error);
            }
            let Some(output) = self.session.poll_output() else {
                break;
            };
            match output {
                Output::Persist(changes) => self.barrier.raise(changes),
                Output::Send(bytes) => {
                    if self.outgoing.send(link, bytes) == Sent::Gone {
                        wanted = LinkWanted::No;
                    }
                }
                Output::Backend {
                    method,
                    purse,
                    id,
                    request,
                } => {
                    let answer = self.node.request(&method, purse, id, request);
                    self.input(Input::Backend(BackendEvent { purse, answer }));
                }
                Output::Effect { method, effect } => self.spawn(method, effect),
                Output::Gate(grant) => {
                    self.ports.gate.send_replace(grant);
                }
                Output::Event(event) => {
                    if event == Event::LinkDown {
                        wanted = LinkWanted::No;
                    }
                    self.tell_user(event);
                }
            }
        }
        self.take_seat();
        Ok(wanted)
    }

    /// Tells the room whether the session is there.
    fn take_seat(&mut self) {
        let (id, viewer) = (self.session.id(), self.session.viewer());
        if let Some(seat) = &mut self.seat {
            seat.sync(id, viewer);
        }
    }

    /// Tells the user; what is for the room goes there.
    fn tell_user(&mut self, event: Event) {
        match event {
            Event::Room(ask) if self.seat.is_some() => {
                self.take_seat();
                if let Some(seat) = &self.seat {
                    seat.ask(ask);
                }
            }
            event => drop(self.ports.events.try_send(event)),
        }
    }

    /// Nothing leaves any more, but the gate and the user are told.
    fn persist_failed(&mut self) {
        self.input(Input::PersistFailed);
        self.outgoing.flush(None);
        self.ports.gate.send_replace(Grant::Closed);
        while let Some(output) = self.session.poll_output() {
            if let Output::Event(event) = output {
                let _ = self.ports.events.try_send(event);
            }
        }
        self.take_seat();
    }

    fn spawn(&mut self, method: String, effect: Effect) {
        let Some(runner) = self.node.runner(&method) else {
            return;
        };
        let results = self.results.0.clone();
        self.under_way = self.under_way.saturating_add(1);
        tokio::spawn(async move {
            let result = runner.run(effect).await;
            // The session may be gone: then the effect runs again when it is restored.
            let _ = results.send(Finished { method, result }).await;
        });
    }
}

/// Whether the connection is still of use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkWanted {
    Yes,
    No,
}

/// True where a peer takes its messages so slowly that what may be dropped is.
fn is_crowded(link: Option<&LinkEnd>) -> bool {
    link.is_some_and(|end| end.outgoing.capacity() <= end.outgoing.max_capacity() / 2)
}
