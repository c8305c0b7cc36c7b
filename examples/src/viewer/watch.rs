//! Watching one stream: a session, its connections, its recording, its sums.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streampay_core::driver::{
    Connected, Ports, SessionTask, Stopped, TellError, UserPorts, entropy,
};
use streampay_core::meter::Tariff;
use streampay_core::session::{
    CloseCode, Command, PayerConfig, PayerSession, Policy, SEALED_MEDIA,
};
use streampay_core::store::StoreError;
use streampay_core::units::{Msat, SessionId, Unix};
use streampay_media::peer::{PeerConfig, ViewerPeer, ViewerStream};
use streampay_media::seal::Keyring;
use streampay_media::whep::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::account::Account;
use super::attend::{Attendant, Standing};
pub use super::attend::{Join, Wish};
use super::browser::{Browser, Page};
use super::late::{self, Unheard};
use super::locked::tell_left;
use super::recording::Recording;
pub use super::recording::Target;
use super::recover::{close_earlier, only_unpaid};
use super::status::Status;
use crate::accounting;
use crate::backup::restored;
use crate::channel::Channels;
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::unsettled;
use crate::link::StreamLink;
use crate::pay::{self, Pay};
use crate::report::Report;

/// How long paid media may stay away before the session ends, in milliseconds.
const STALL_CLOSE_MS: u64 = 60_000;
/// The same where a channel of bitcoin must confirm before anything can be paid.
const CONFIRM_CLOSE_MS: u64 = 12 * 3_600_000;
/// How long, once a second, a lost connection is tried again until the session is bound: a network
/// that is away for a minute is waited for. A loss shows after six seconds.
const RECONNECT_FOR: Duration = Duration::from_secs(90);
/// How often the chain is looked at by a viewer who has left.
const LOOK: Duration = Duration::from_secs(1);
/// How long a streamer has to hear that a viewer leaves who has not paid.
const PARTING: Duration = Duration::from_secs(2);

/// What to watch, and how far to go.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The stream.
    pub link: StreamLink,
    /// The most that may leave the wallet.
    pub budget: Msat,
    /// The highest price of time.
    pub max_tariff: Tariff,
    /// The ways to pay that the user is willing to, best first.
    pub pay: Vec<Pay>,
    /// The largest single payment.
    pub max_tick: Msat,
    /// Where the recording goes.
    pub record: Target,
    /// A browser plays it instead, and nothing is recorded.
    pub browser: Option<Arc<Browser>>,
    /// Settle so many milliseconds after the first payment.
    pub stop_after_ms: Option<u64>,
    /// Somebody can be asked what to do; else a session that waits for consent settles.
    pub interactive: bool,
    /// The streamer's room, if it is to be joined.
    pub join: Option<Join>,
    /// How connections are made.
    pub peer: PeerConfig,
    /// Who is told.
    pub report: Report,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Watched {
    /// Where the money went.
    pub account: Account,
    /// Payments acknowledged.
    pub ticks: u64,
    /// When each purse could be paid from.
    pub openings: Vec<Instant>,
    /// When the session began to close.
    pub closed: Option<Instant>,
    /// Media received, in milliseconds.
    pub media_ms: u64,
    /// The file.
    pub recording: Option<PathBuf>,
    /// RTP packets received, by the receiver's own count.
    pub packets: u64,
    /// Why the session ended.
    pub code: Option<CloseCode>,
    /// All money is where it belongs.
    pub settled: bool,
    /// An address was shown for a channel, and nobody has paid to it.
    pub unpaid: bool,
    /// What comes back by itself, where all that is out is in channels that are being closed.
    pub on_the_way: Option<Msat>,
    /// Until when channels are locked that nobody closes, in words.
    pub channel_locked: Option<String>,
    /// Until when the rest is locked, where it is not.
    pub locked_until: Option<Unix>,
    /// What the streamer may have and did not acknowledge, of money that is home.
    pub unheard: Option<Unheard>,
    /// Why the recording stopped early, and the session with it.
    pub record_failed: Option<AppError>,
}

/// Watches until the session ends. `wishes` are the user's.
///
/// # Errors
/// [`AppError`]: the streamer cannot be reached, or the disk fails. A session that ended is no
/// error, whatever its reason: see [`Watched::code`].
pub async fn watch(
    home: &Home,
    watch: &Watch,
    wishes: mpsc::Receiver<Wish>,
) -> Result<Watched, AppError> {
    restored::ready(home, watch.report, false).await?;
    if watch.pay.iter().all(|pay| pay.is_ecash()) {
        home.wallet.check_not_all_held().await?;
    }
    accounting::start(home, watch.report).await?;
    // Boxed, as it holds a connection of its own: it would make every future around this one that much larger.
    Box::pin(close_earlier(home, watch.report)).await?;
    unsettled::tell(home, watch.report).await?;
    watch.record.check()?;
    let entropy = entropy().map_err(AppError::io("no randomness"))?;
    let session = PayerSession::new(config(home, watch), &entropy);
    let session = session.map_err(|_| AppError::Failed("a one in 2^128 chance; try again"))?;
    let session = session.offering(SEALED_MEDIA);
    let keys = Keyring::new();
    let first = connect(watch, &session, &keys).await?;
    let kept = home.links.keep(session.session(), &watch.link);
    kept.map_err(AppError::io("the link cannot be kept"))?;
    let (ports, user) = Ports::pair();
    let UserPorts {
        commands,
        events,
        gate: _gate,
    } = user;
    let (standing, stands) = tokio::sync::watch::channel(Standing::default());
    let attendant = Attendant {
        report: watch.report,
        id: session.session(),
        status: Status::new(watch.budget),
        interactive: watch.interactive,
        stop_after: watch.stop_after_ms.map(Duration::from_millis),
        join: watch.join.clone(),
        session: commands.clone(),
        standing,
        keys: keys.clone(),
    };
    let attending = tokio::spawn(attendant.attend(events, wishes));
    let mut watching = Watching {
        task: SessionTask::new(home.node.clone(), session, ports),
        watch,
        home,
        channels: home.channels.clone().filter(|_| watch.pay == [Pay::Btc]),
        keys,
        recording: Recording::start(&watch.record, commands),
        stands,
        watched: Watched::default(),
    };
    let ran = watching.run(first).await;
    let Watching {
        task,
        recording,
        mut watched,
        ..
    } = watching;
    match recording.finish().await {
        Ok(path) => watched.recording = path,
        Err(error) => watched.record_failed = Some(error),
    }
    let accounted = match ran {
        Ok(()) => account_for(home, task.session(), &mut watched).await,
        Err(error) => Err(error),
    };
    if let Err(error) = accounted {
        // Nothing is written any more, and nothing read.
        if matches!(error, AppError::Store(_)) {
            tell_left(task.session(), home.node.clock().now().unix, watch.report);
        }
        return Err(error);
    }
    drop(task);
    if let Ok(attended) = attending.await {
        (watched.ticks, watched.code) = (attended.ticks, attended.code);
        (watched.openings, watched.closed) = (attended.openings, attended.closed);
    }
    Ok(watched)
}

/// What became of the money.
async fn account_for(
    home: &Home,
    session: &PayerSession,
    watched: &mut Watched,
) -> Result<(), AppError> {
    watched.unpaid = only_unpaid(home, session).await?;
    watched.settled = session.is_settled() || watched.unpaid;
    if let Some(channels) = home.channels.as_ref().filter(|_| !watched.settled) {
        watched.on_the_way = channels.on_the_way(home, session).await?;
        watched.channel_locked = channels.locked(home, session).await?;
    }
    let (id, was_bound) = (session.session(), session.terms().is_some());
    if watched.unpaid || !was_bound {
        home.links.forget(id);
    } else {
        watched.unheard = late::unheard(home, id).await?;
    }
    watched.locked_until = unsettled::last_lock(home, session).await?;
    watched.locked_until = watched.locked_until.filter(|_| !watched.settled);
    watched.media_ms = session.reading().media_ms;
    watched.account = Account::of(home, session).await?;
    Ok(())
}

fn config(home: &Home, watch: &Watch) -> PayerConfig {
    let channel = watch.pay.contains(&Pay::Btc);
    let ecash = watch.pay.iter().any(|pay| pay.is_ecash());
    // Ecash pays until a channel has confirmed: each gets its half.
    let parts = if channel && ecash { 2 } else { 1 };
    let max_purse = Msat::from_sat(watch.budget.sat_floor() / parts).unwrap_or(watch.budget);
    PayerConfig {
        identity: home.identity.clone(),
        payee: watch.link.key,
        policy: Policy {
            budget: watch.budget,
            max_purse,
            max_tariff: watch.max_tariff,
            max_tick: watch.max_tick,
            methods: pay::names(&watch.pay),
            stall_close_ms: match channel && !ecash {
                true => CONFIRM_CLOSE_MS,
                false => STALL_CLOSE_MS,
            },
        },
    }
}

/// A connection: our own, or a browser's.
enum Stream {
    Own(Box<ViewerStream>),
    Page(Page),
}

async fn connect(
    watch: &Watch,
    session: &PayerSession,
    keys: &Keyring,
) -> Result<Stream, AppError> {
    let initial = session.reading();
    if let Some(browser) = &watch.browser {
        return Ok(Stream::Page(browser.next(initial).await?));
    }
    let (url, peer) = (&watch.link.url, &watch.peer);
    let stream = ViewerPeer::connect_sealable(&Client, url, peer, initial, keys).await?;
    Ok(Stream::Own(Box::new(stream)))
}

/// Ready a moment after the user has left a session that was to be paid over channels alone, where
/// nobody has paid for one: nothing has to come home, so nobody has to wait.
async fn left_unpaid(
    channels: Option<Arc<Channels>>,
    id: SessionId,
    mut stands: tokio::sync::watch::Receiver<Standing>,
) {
    if let Some(channels) = channels
        && stands.wait_for(|standing| standing.leaving).await.is_ok()
    {
        tokio::time::sleep(PARTING).await;
        let own = channels.report().into_iter();
        let mut own = own.filter(|channel| channel.purse.session == id).peekable();
        if own.peek().is_some() && own.all(|channel| channel.outpoint.is_none()) {
            return;
        }
    }
    std::future::pending().await
}

/// Ready once the user has left, and all that the session has out is in channels whose close is on
/// the chain, or waits for a block there, and gives back what is due: nobody has to wait for blocks.
async fn closed_on_chain(
    home: &Home,
    id: SessionId,
    mut stands: tokio::sync::watch::Receiver<Standing>,
) {
    if let Some(channels) = &home.channels
        && stands.wait_for(|standing| standing.leaving).await.is_ok()
    {
        loop {
            tokio::time::sleep(LOOK).await;
            // What the chain does not tell now it tells later, or the session ends without.
            let looked = channels.look().await.is_ok();
            if looked && let Ok(Some(_)) = on_the_way(home, channels, id).await {
                return;
            }
        }
    }
    std::future::pending().await
}

async fn on_the_way(
    home: &Home,
    channels: &Channels,
    id: SessionId,
) -> Result<Option<Msat>, AppError> {
    let records = home.node.records_of(id).await?;
    let (now, own) = (home.node.clock().now(), home.identity.clone());
    let session = PayerSession::restore(own, Policy::nothing(), now, id, &records)?;
    channels.on_the_way(home, &session).await
}

/// A session over its connections.
struct Watching<'a> {
    home: &'a Home,
    /// The channels, where nothing else pays.
    channels: Option<Arc<Channels>>,
    task: SessionTask<PayerSession>,
    watch: &'a Watch,
    keys: Keyring,
    recording: Recording,
    stands: tokio::sync::watch::Receiver<Standing>,
    watched: Watched,
}

impl Watching<'_> {
    /// One connection after another, until the session ends.
    async fn run(&mut self, first: Stream) -> Result<(), AppError> {
        let (mut next, mut lost) = (Some(first), None);
        while let Some(stream) = next.take() {
            let bound = self.stands.borrow().bound;
            match self.over(stream).await {
                Stopped::Ended => return Ok(()),
                Stopped::LinkDown => {
                    if self.stands.borrow().bound != bound {
                        lost = None;
                    }
                    let lost = *lost.get_or_insert_with(Instant::now);
                    next = self.reconnect(lost + RECONNECT_FOR).await;
                }
                _ => return Err(StoreError::Failed.into()),
            }
        }
        // No connection any more: take home what is not acknowledged.
        if !self.stands.borrow().leaving {
            let order = Command::Close(CloseCode::TimedOut);
            if let Err(TellError::Store(error)) = self.task.tell(order).await {
                return Err(error.into());
            }
        }
        match self.task.run(None).await {
            Stopped::StoreFailed => Err(StoreError::Failed.into()),
            _ => Ok(()),
        }
    }

    /// Another connection, until then, and unless the user wants to leave.
    async fn reconnect(&self, until: Instant) -> Option<Stream> {
        let mut stands = self.stands.clone();
        let left = stands.wait_for(|standing| standing.leaving);
        let again = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if let Ok(stream) = connect(self.watch, self.task.session(), &self.keys).await {
                    return stream;
                }
            }
        };
        tokio::select! {
            _ = left => None,
            stream = tokio::time::timeout_at(until, again) => stream.ok(),
        }
    }

    async fn over(&mut self, stream: Stream) -> Stopped {
        let (stopped, packets) = match stream {
            Stream::Own(stream) => self.over_own(*stream).await,
            Stream::Page(Page {
                link,
                reading: usage,
                packets,
                parted,
            }) => {
                let stopped = self.task.run(Some(Connected { link, usage })).await;
                // It may have nothing more to do but to end, and the page is still being told.
                let _ = parted.await;
                (stopped, *packets.borrow())
            }
        };
        self.watched.packets = self.watched.packets.saturating_add(packets);
        stopped
    }

    async fn over_own(&mut self, stream: ViewerStream) -> (Stopped, u64) {
        let ViewerStream {
            link,
            packets,
            reading,
            receiving,
            codecs,
            connection,
        } = stream;
        self.recording.connected(&codecs, packets).await;
        let connected = Connected {
            link,
            usage: reading,
        };
        let id = self.task.session().session();
        let unpaid = left_unpaid(self.channels.clone(), id, self.stands.clone());
        let stopped = tokio::select! {
            stopped = self.task.run(Some(connected)) => stopped,
            () = unpaid => Stopped::Ended,
            () = closed_on_chain(self.home, id, self.stands.clone()) => Stopped::Ended,
        };
        // A streamer that is gone cannot be told: that is no failure of ours.
        let _ = connection.close().await;
        let received = receiving.borrow().packets;
        (stopped, received.video.saturating_add(received.audio))
    }
}
