//! Watching one stream: a session, its connections, its recording, its sums.

use std::path::PathBuf;
use std::time::Duration;

use streampay_cashu::{SwapMachine, purse_figures};
use streampay_core::driver::{Connected, Ports, SessionTask, Stopped, UserPorts, entropy};
use streampay_core::meter::Tariff;
use streampay_core::session::{CloseCode, Command, Event, PayerConfig, PayerSession, Policy};
use streampay_core::units::{Msat, PurseKey};
use streampay_media::peer::{PeerConfig, ViewerPeer, ViewerStream};
use streampay_media::whep::Client;
use tokio::sync::mpsc;

use super::recording::Recording;
pub use super::recording::Target;
use crate::error::AppError;
use crate::home::Home;
use crate::link::StreamLink;
use crate::report::Report;

/// How long paid media may stay away before the session ends, in milliseconds.
const STALL_CLOSE_MS: u64 = 60_000;
/// How often, a second apart, a lost connection is tried again.
const RECONNECTS: u32 = 30;

/// What to watch, and how far to go.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The stream.
    pub link: StreamLink,
    /// The most that may leave the wallet.
    pub budget: Msat,
    /// The highest price of time.
    pub max_tariff: Tariff,
    /// The largest single payment.
    pub max_tick: Msat,
    /// Where the recording goes.
    pub record: Target,
    /// Stop after so much media, in milliseconds.
    pub stop_after_ms: Option<u64>,
    /// How connections are made.
    pub peer: PeerConfig,
    /// Who is told.
    pub report: Report,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Left the wallet for the session, by the wallet's ledger.
    pub paid: Msat,
    /// Came back, by the wallet's ledger.
    pub refunded: Msat,
    /// Payments acknowledged.
    pub ticks: u64,
    /// Media received, in milliseconds.
    pub media_ms: u64,
    /// The file, of the last connection where there were several.
    pub recording: Option<PathBuf>,
    /// RTP packets received, by the receiver's own count.
    pub packets: u64,
    /// Why the session ended.
    pub code: Option<CloseCode>,
    /// All money is where it belongs.
    pub settled: bool,
}

/// Watches until the session ends. `commands` are the user's.
///
/// # Errors
/// [`AppError`]: the streamer cannot be reached, or the disk fails. A session that ended is no
/// error, whatever its reason: see [`Watched::code`].
pub async fn watch(
    home: &Home,
    watch: &Watch,
    commands: mpsc::Receiver<Command>,
) -> Result<Watched, AppError> {
    let entropy = entropy().map_err(AppError::io("no randomness"))?;
    let session = PayerSession::new(config(home, watch), &entropy);
    let session = session.map_err(|_| AppError::Usage("try again"))?;
    let first = connect(watch, &session).await?;
    let (ports, user) = Ports::pair();
    let UserPorts {
        commands: to_session,
        events,
        gate: _gate,
    } = user;
    let mut task = SessionTask::new(home.node.clone(), session, ports);
    let forwarder = tokio::spawn(forward(commands, to_session.clone()));
    let teller = tokio::spawn(tell(watch.clone(), events, to_session));
    let mut watched = Watched::default();
    run(&mut task, watch, first, &mut watched).await?;
    watched.settled = task.session().is_settled();
    watched.media_ms = task.session().reading().media_ms;
    sums(home, task.session(), &mut watched).await?;
    drop(task);
    forwarder.abort();
    if let Ok((ticks, code)) = teller.await {
        (watched.ticks, watched.code) = (ticks, code);
    }
    Ok(watched)
}

fn config(home: &Home, watch: &Watch) -> PayerConfig {
    PayerConfig {
        identity: home.identity.clone(),
        payee: watch.link.key,
        policy: Policy {
            budget: watch.budget,
            max_tariff: watch.max_tariff,
            max_tick: watch.max_tick,
            methods: vec![SwapMachine::METHOD.to_owned()],
            stall_close_ms: STALL_CLOSE_MS,
        },
    }
}

async fn connect(watch: &Watch, session: &PayerSession) -> Result<ViewerStream, AppError> {
    let initial = session.reading();
    Ok(ViewerPeer::connect(&Client, &watch.link.url, &watch.peer, initial).await?)
}

/// One connection after another, until the session ends.
async fn run(
    task: &mut SessionTask<PayerSession>,
    watch: &Watch,
    first: ViewerStream,
    watched: &mut Watched,
) -> Result<(), AppError> {
    let mut next = Some(first);
    let mut count = 0;
    while let Some(stream) = next.take() {
        let stopped = over(task, watch, stream, count, watched).await?;
        count = count.saturating_add(1);
        match stopped {
            Stopped::Ended => return Ok(()),
            Stopped::LinkDown => next = reconnect(task, watch).await,
            _ => return Err(streampay_core::store::StoreError::Failed.into()),
        }
    }
    // No connection any more: take home what is not acknowledged.
    task.tell(Command::Close(CloseCode::TimedOut)).await?;
    task.run(None).await;
    Ok(())
}

async fn reconnect(task: &SessionTask<PayerSession>, watch: &Watch) -> Option<ViewerStream> {
    for _ in 0..RECONNECTS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Ok(stream) = connect(watch, task.session()).await {
            return Some(stream);
        }
    }
    None
}

/// One connection.
async fn over(
    task: &mut SessionTask<PayerSession>,
    watch: &Watch,
    stream: ViewerStream,
    count: u32,
    watched: &mut Watched,
) -> Result<Stopped, AppError> {
    let ViewerStream {
        link,
        packets,
        reading,
        receiving,
        codecs,
        connection,
    } = stream;
    let recording = Recording::start(&watch.record, count, &codecs, packets)?;
    let stopped = task
        .run(Some(Connected {
            link,
            usage: reading,
        }))
        .await;
    // A streamer that is gone cannot be told: that is no failure of ours.
    let _ = connection.close().await;
    let received = receiving.borrow().packets;
    let packets = received.video.saturating_add(received.audio);
    watched.packets = watched.packets.saturating_add(packets);
    watched.recording = recording.path.clone();
    recording.finish().await?;
    Ok(stopped)
}

async fn forward(mut commands: mpsc::Receiver<Command>, to: mpsc::Sender<Command>) {
    while let Some(command) = commands.recv().await {
        if to.send(command).await.is_err() {
            return;
        }
    }
    // Keeps the session's ear open.
    to.closed().await;
}

/// Tells the user, counts ticks, and ends the session when enough was seen.
async fn tell(
    watch: Watch,
    mut events: mpsc::Receiver<Event>,
    commands: mpsc::Sender<Command>,
) -> (u64, Option<CloseCode>) {
    let (mut ticks, mut why) = (0_u64, None);
    let mut stop = watch.stop_after_ms.map(Duration::from_millis);
    let mut deadline = None;
    loop {
        let timeout = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = events.recv() => event,
            () = timeout => {
                deadline = None;
                let _ = commands.send(Command::Close(CloseCode::Done)).await;
                continue;
            }
        };
        let Some(event) = event else {
            return (ticks, why);
        };
        match &event {
            Event::TickPaid { .. } => {
                ticks = ticks.saturating_add(1);
                if let Some(stop) = stop.take() {
                    deadline = Some(tokio::time::Instant::now() + stop);
                }
            }
            Event::Closed { code, .. } => why = Some(*code),
            _ => {}
        }
        watch.report.event("viewer", &event);
    }
}

/// What left the wallet and what came back, by the wallet's own ledger.
async fn sums(home: &Home, session: &PayerSession, watched: &mut Watched) -> Result<(), AppError> {
    for balance in home.wallet.balance().await? {
        let wallet = home.wallet.wallet_at(&balance.mint.to_string()).await?;
        for (purse, _) in session.purses() {
            let key = PurseKey {
                session: session.session(),
                purse,
            };
            let figures = purse_figures(&wallet, key).await;
            let figures = figures.map_err(|_| AppError::Usage("the wallet cannot be read"))?;
            watched.paid = watched.paid.saturating_plus(figures.left);
            watched.refunded = watched.refunded.saturating_plus(figures.returned);
        }
    }
    Ok(())
}
