//! Serving one stream to many viewers: the offer, the address, the page.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streampay_core::units::{Msat, Unix};
use streampay_core::wire::Terms;
use streampay_media::peer::PeerConfig;
use streampay_media::source::{FileOptions, Source, SourceWriter};
use streampay_media::whep::{Paywall, Seats, Server, ServerConfig, TrustedProxy};
use streampay_media::whip;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::host;
use super::media::Media;
use super::offered::Offered;
use super::page;
use super::paywall::CashuPaywall;
use super::record::StreamRecording;
use super::sessions::Sessions;
use super::strangers::Strangers;
use crate::accounting;
use crate::backup::restored;
use crate::channel;
use crate::error::AppError;
use crate::home::Home;
use crate::http::{self, Limits};
use crate::ledger::{self, tell_unreadable, unsettled};
use crate::link::StreamLink;
use crate::pay::{self, Pay};
use crate::price::Price;
use crate::report::{Report, plain, show_balance_of};
use crate::trust::Listed;

/// What is served.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What is streamed.
    pub media: Media,
    /// Whether it is sealed: carriers cannot play it, nor viewers that do not open sealed media.
    pub seal: bool,
    /// What it is called; none takes the file's name.
    pub title: Option<String>,
    /// How connections are made.
    pub peer: PeerConfig,
    /// The price.
    pub price: Price,
    /// The mints whose ecash is taken while they are fit, best first, each for its price; none where
    /// bitcoin alone is taken.
    pub mints: Vec<Listed>,
    /// The ways to pay, best first; at least one.
    pub pay: Vec<Pay>,
    /// What joining the room costs; watching does not need it.
    pub join_fee: Msat,
    /// How many watch at once; none takes all that come.
    pub max_viewers: Option<usize>,
    /// What strangers may watch before they pay; none has them pay first.
    pub preview: Option<FreePreview>,
    /// How long who does not pay has a seat; none takes ten seconds.
    pub unpaid: Option<Duration>,
    /// Where what is streamed is recorded.
    pub record: Option<PathBuf>,
    /// Somebody types on stdin what the room is to hear or do.
    pub typing: bool,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where viewers reach this, if not where it listens.
    pub public_url: Option<String>,
    /// The reverse proxy in front, which alone reaches `listen`.
    pub trusted_proxy: TrustedProxy,
    /// Who is told of viewers and payments.
    pub report: Report,
}

/// What strangers may watch before they pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePreview {
    /// One session, for so much of the price.
    pub each: Msat,
    /// All sessions of one household in a day.
    pub household: Msat,
    /// All sessions in a day.
    pub in_all: Msat,
}

/// A running stream.
pub struct Serving {
    /// What viewers open.
    pub link: StreamLink,
    /// Where media is published, if it is.
    pub whip: Option<String>,
    sessions: Arc<Sessions>,
    recording: Option<StreamRecording>,
    tasks: JoinSet<()>,
}

impl Serving {
    /// Runs until the server fails, or its store: started again, it goes on with every session.
    pub async fn wait(&mut self) {
        self.tasks.join_next().await;
    }

    /// Closes every viewer's session, tells each what is due, and ends.
    pub async fn stop(self) {
        self.sessions.goodbye().await;
        if let Some(recording) = self.recording {
            recording.stop().await;
        }
    }
}

impl core::fmt::Debug for Serving {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Serving")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// Stops, and tells what is earned and where it is.
///
/// # Errors
/// [`AppError::Earned`] where not all of it is home; or the store cannot be read.
pub async fn leave(home: &Home, serving: Serving, report: Report) -> Result<(), AppError> {
    serving.stop().await;
    let balance = home.wallet.balance().await?;
    if !(balance.is_empty() && home.channels.is_some()) {
        show_balance_of(report, &balance);
    }
    tell_unreadable(&ledger::read(home).await?.unreadable, report);
    let ecash = unsettled::tell(home, report).await?;
    let channels = channel::commands::tell_open(home, report).await?;
    match ecash && channels {
        true => Ok(()),
        false => Err(AppError::Earned),
    }
}

/// Opens the media, listens, and serves every viewer that comes.
///
/// # Errors
/// [`AppError`]: the media, the address or the mint cannot be used.
pub async fn serve(home: &Home, offer: Offer) -> Result<Serving, AppError> {
    restored::ready(home, offer.report, false).await?;
    accounting::start(home, offer.report).await?;
    unsettled::tell(home, offer.report).await?;
    let (source, publishing) = open(&offer.media, offer.seal).await?;
    let recording = match &offer.record {
        Some(path) => Some(StreamRecording::start(path, source.clone(), offer.report)?),
        None => None,
    };
    if let Some(channels) = &home.channels
        && let Err(error) = channels.look().await
    {
        // What closing costs today is part of the offer.
        let line = format!("the chain cannot be seen now: {error}");
        offer.report.tell(&line);
    }
    let terms = terms(home, &offer)?;
    let offered = Offered::new(home, terms, &offer)?;
    let listener = TcpListener::bind(offer.listen).await;
    let in_use = |source| AppError::Listen(offer.listen, source);
    let listener = listener.map_err(in_use)?;
    let base = base_url(&offer, listener.local_addr().map_err(in_use)?)?;
    let paywall = CashuPaywall::new(home, &offered, &offer).await?;
    let paywall = paywall.map(|paywall| -> Arc<dyn Paywall> { Arc::new(paywall) });
    let seats = offer.max_viewers.map_or_else(Seats::default, Seats::new);
    let config = ServerConfig {
        seats: seats.clone(),
        public_url: Some(base.clone()),
        paywall,
        trusted_proxy: offer.trusted_proxy,
        peer: offer.peer.clone(),
        ..ServerConfig::default()
    };
    let (server, arrivals) = Server::new(source, config);
    let mut tasks = JoinSet::new();
    let whip = publishing.map(|(writer, key)| {
        let config = whip::ServerConfig {
            public_url: Some(base.clone()),
            trusted_proxy: offer.trusted_proxy,
            // Who publishes is the streamer: nothing to hide, and some encoders know no relays.
            peer: PeerConfig {
                relay_only: false,
                ..offer.peer.clone()
            },
        };
        let publishing = whip::Server::new(writer, key, config);
        tasks.spawn(tell_live(publishing.live(), offer.report));
        publishing.router()
    });
    let app = server.router().merge(page::router(offered.clone()));
    let publish_at = whip.is_some().then(|| format!("{base}/whip"));
    let app = whip.into_iter().fold(app, axum::Router::merge);
    let link = StreamLink {
        url: format!("{base}/whep"),
        key: home.identity.public(),
    };
    let room = host::open(home, offer.report, offer.typing, &mut tasks).await?;
    let waits = offer.pay.contains(&Pay::Btc);
    let strangers = Strangers {
        seats,
        waits,
        preview: offer.preview.map(|preview| (preview, offer.price)),
        unpaid: offer.unpaid,
    };
    let sessions = Sessions::new(home, offer.report, Some(room), strangers, offer.seal);
    let never = std::future::pending();
    let mut limits = Limits::default();
    if offer.trusted_proxy != TrustedProxy::None {
        // All connections are the proxy's.
        limits.connections_per_address = limits.connections;
    }
    tasks.spawn(http::serve(listener, app, limits, never));
    tasks.spawn(sessions.clone().accept(offered, arrivals));
    tasks.spawn(sessions.clone().keep());
    let failing = sessions.clone();
    tasks.spawn(async move { failing.store_failed().await });
    Ok(Serving {
        link,
        whip: publish_at,
        sessions,
        recording,
        tasks,
    })
}

/// The source, and for WHIP who feeds it and the key that it takes.
async fn open(
    media: &Media,
    seal: bool,
) -> Result<(Arc<Source>, Option<(SourceWriter, whip::StreamKey)>), AppError> {
    match media {
        Media::File(path) => {
            let options = FileOptions::default();
            let source = match seal {
                true => Source::open_sealed(path, options).await?,
                false => Source::open(path, options).await?,
            };
            Ok((source, None))
        }
        Media::Rtp(path) => {
            let failed = |error: &dyn core::fmt::Display| AppError::file(path, &error.to_string());
            let sdp = tokio::fs::read_to_string(path).await;
            let sdp = sdp.map_err(|error| failed(&error))?;
            let source = match seal {
                true => Source::open_rtp_sealed(&sdp).await,
                false => Source::open_rtp(&sdp).await,
            };
            Ok((source.map_err(|error| failed(&error))?, None))
        }
        Media::Whip(key) => {
            let (writer, source) = match seal {
                true => Source::sealed(None)?,
                false => Source::awaited(),
            };
            Ok((source, Some((writer, key.clone()))))
        }
    }
}

/// Says when somebody begins and stops to publish.
async fn tell_live(mut live: watch::Receiver<bool>, report: Report) {
    while live.changed().await.is_ok() {
        let live = *live.borrow_and_update();
        report.say("live", serde_json::json!({"live": live}));
        report.tell(if live {
            "the stream is live"
        } else {
            "nobody publishes; viewers wait and pay nothing"
        });
    }
    std::future::pending::<()>().await;
}

/// Where viewers reach this.
fn base_url(offer: &Offer, local: SocketAddr) -> Result<String, AppError> {
    let url = match &offer.public_url {
        Some(url) => url.clone(),
        None if local.ip().is_unspecified() => {
            return Err(AppError::Usage(
                "viewers cannot reach an address of zeros: say with --public-url where they \
                 reach you, such as --public-url http://192.168.1.2:8080",
            ));
        }
        None => format!("http://{local}"),
    };
    Ok(url.trim_end_matches('/').to_owned())
}

/// Finishes what was cut short in the wallet, closes every session that is not over, and settles it, while
/// the streamer does not serve. True where nothing is left to do.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn recover(home: &Home, report: Report) -> Result<bool, AppError> {
    let first = restored::ready(home, report, true).await?;
    accounting::before_sessions(home, report).await?;
    let awaited = if first {
        restored::awaited(home).await?
    } else {
        0
    };
    if awaited > 0 {
        report.tell(&format!(
            "{awaited} sessions of viewers were open when the backup was made. `serve` now: as each \
             comes back it shows what it paid since. `recover` again closes them, and gives that up"
        ));
        return Ok(false);
    }
    let waits = home.channels.is_some();
    let strangers = Strangers {
        waits,
        ..Strangers::default()
    };
    let sessions = Sessions::new(home, report, None, strangers, false);
    let all_well = sessions.close_all().await?;
    if !all_well {
        // Until when the next try must come.
        unsettled::tell(home, report).await?;
    }
    Ok(all_well)
}

fn terms(home: &Home, offer: &Offer) -> Result<Terms, AppError> {
    let stem = match &offer.media {
        Media::File(path) | Media::Rtp(path) => path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned()),
        Media::Whip(_) => Some("live".to_owned()),
    };
    let title = offer.title.clone().or(stem);
    let mut title = plain(&title.unwrap_or_default());
    while title.len() > streampay_core::wire::TITLE_MAX {
        title.pop();
    }
    let mints: Vec<_> = offer
        .mints
        .iter()
        .map(|listed| listed.mint.clone())
        .collect();
    Ok(Terms {
        title,
        tariff: offer.price.tariff(),
        tick: offer.price.tick,
        preview: offer.preview.map_or(Msat::ZERO, |preview| preview.each),
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: pay::methods(home, &offer.pay, &mints)?,
        join_fee: offer.join_fee,
        resumable_s: 86_400,
        expires: Unix(home.node.clock().now().unix.0.saturating_add(86_400 * 365)),
        payee: home.identity.public(),
    })
}
