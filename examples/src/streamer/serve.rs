//! Serving one stream to many viewers, each with its own session and its own money.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use streampay_cashu::{AcceptedMint, SwapMachine, SwapParams};
use streampay_core::driver::{
    Connected, Link, LinkEnd, Node, Ports, SessionTask, Stopped, UserPorts, entropy,
};
use streampay_core::session::{CloseCode, Command, Event, PayeeConfig, PayeeSession};
use streampay_core::units::{Msat, SessionId, Unix};
use streampay_core::wire::{Method, Terms, peek_session};
use streampay_media::source::{FileOptions, Source};
use streampay_media::whep::{Arrival, Server, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::page::Page;
use crate::error::AppError;
use crate::home::Home;
use crate::link::StreamLink;
use crate::price::Price;
use crate::report::Report;

/// How long a fresh connection has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(15);
/// How long a bound viewer may stay without paying, in milliseconds.
const UNPAID_MS: u64 = 30_000;

/// What is served.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The media file.
    pub media: PathBuf,
    /// The price.
    pub price: Price,
    /// The mint whose ecash is taken.
    pub mint: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where viewers reach this, if not where it listens.
    pub public_url: Option<String>,
    /// Who is told of viewers and payments.
    pub report: Report,
}

/// A running stream.
#[derive(Debug)]
pub struct Serving {
    /// What viewers open.
    pub link: StreamLink,
    tasks: tokio::task::JoinSet<()>,
}

impl Serving {
    /// Runs until the server fails.
    pub async fn wait(&mut self) {
        self.tasks.join_next().await;
    }
}

/// Opens the media, listens, and serves every viewer that comes.
///
/// # Errors
/// [`AppError`]: the media, the address or the mint cannot be used.
pub async fn serve(home: &Home, offer: Offer) -> Result<Serving, AppError> {
    let source = Source::open(&offer.media, FileOptions::default()).await?;
    let terms = terms(home, &offer)?;
    let listener = TcpListener::bind(offer.listen).await;
    let listener = listener.map_err(AppError::io("cannot listen; choose another with --listen"))?;
    let local = listener
        .local_addr()
        .map_err(AppError::io("cannot listen"))?;
    let base = offer
        .public_url
        .clone()
        .unwrap_or_else(|| format!("http://{local}"));
    let base = base.trim_end_matches('/').to_owned();
    let config = ServerConfig {
        public_url: Some(base.clone()),
        ..ServerConfig::default()
    };
    let (server, arrivals) = Server::new(source, config);
    let page = Page {
        title: terms.title.clone(),
        price: offer.price.to_string(),
        mint: offer.mint.clone(),
        quote: crate::quote::seal(&terms, &home.identity).into(),
    };
    let app = server.router().merge(page.router());
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let link = StreamLink {
        url: format!("{base}/whep"),
        key: home.identity.public(),
    };
    let payee = PayeeConfig {
        identity: home.identity.clone(),
        terms,
        unpaid_ms: UNPAID_MS,
    };
    let shared = Arc::new(Shared {
        node: home.node.clone(),
        payee,
        live: Mutex::default(),
        report: offer.report,
    });
    finish_sessions(&shared).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let _ = axum::serve(listener, service).await;
    });
    tasks.spawn(accept(shared, arrivals));
    Ok(Serving { link, tasks })
}

struct Shared {
    node: Arc<Node>,
    payee: PayeeConfig,
    live: Mutex<HashSet<SessionId>>,
    report: Report,
}

fn terms(home: &Home, offer: &Offer) -> Result<Terms, AppError> {
    let params = SwapParams::new(vec![AcceptedMint::sat(&offer.mint)?])?;
    let title = offer
        .media
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let mut title = title.unwrap_or_default();
    while title.len() > streampay_core::wire::TITLE_MAX {
        title.pop();
    }
    Ok(Terms {
        title,
        tariff: offer.price.tariff(),
        tick: offer.price.tick,
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: SwapMachine::METHOD.to_owned(),
            params: params.encode().to_vec(),
        }],
        resumable_s: 86_400,
        expires: Unix(home.node.clock().now().unix.0.saturating_add(86_400 * 365)),
        payee: home.identity.public(),
    })
}

/// What a crash interrupted is finished first: a payment whose swap had begun is redeemed.
async fn finish_sessions(shared: &Arc<Shared>) -> Result<(), AppError> {
    for id in shared.node.sessions().await? {
        let Some((mut task, _user)) = restore(shared, id).await? else {
            continue;
        };
        tokio::time::timeout(Duration::from_secs(20), task.run(None))
            .await
            .ok();
    }
    Ok(())
}

type Restored = Option<(SessionTask<PayeeSession>, UserPorts)>;

async fn restore(shared: &Shared, id: SessionId) -> Result<Restored, AppError> {
    let records = shared.node.records_of(id).await?;
    if records.is_empty() {
        return Ok(None);
    }
    let now = shared.node.clock().now();
    let restored = PayeeSession::restore(shared.payee.clone(), now, id, &records);
    let Ok(session) = restored else {
        return Ok(None);
    };
    if session.is_settled() && session.is_ended() {
        return Ok(None);
    }
    let (ports, user) = Ports::pair();
    Ok(Some((
        SessionTask::restored(shared.node.clone(), id, session, &records, ports),
        user,
    )))
}

async fn accept(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Arrival>) {
    while let Some(arrival) = arrivals.recv().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = welcome(&shared, arrival).await {
                shared
                    .report
                    .tell(&format!("a viewer could not be served: {error}"));
            }
        });
    }
}

/// One viewer, from its first message to the end of its connection.
async fn welcome(shared: &Arc<Shared>, arrival: Arrival) -> Result<(), AppError> {
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
    let Some(_live) = Live::claim(shared, id) else {
        return Ok(());
    };
    let (mut task, mut user) = match restore(shared, id).await? {
        Some(restored) => restored,
        None => {
            let entropy = entropy().map_err(AppError::io("no randomness"))?;
            let session = PayeeSession::new(shared.payee.clone(), &entropy);
            let session = session.map_err(|_| AppError::Usage("try again"))?;
            let (ports, user) = Ports::pair();
            (SessionTask::new(shared.node.clone(), session, ports), user)
        }
    };
    let initial = task.session().reading();
    let usage = connection.start(user.gate.clone(), initial)?;
    let link = with_first(link, hello).await;
    let name = format!("viewer {}", &id.to_string().get(..8).unwrap_or_default());
    let report = shared.report;
    let watcher = tokio::spawn(async move {
        let mut place = Some(place);
        while let Some(event) = user.events.recv().await {
            if let (Event::Bound { .. }, Some(place)) = (&event, place.take()) {
                place.bound();
            }
            report.event(&name, &event);
        }
        drop(user.commands);
    });
    if task.run(Some(Connected { link, usage })).await == Stopped::StoreFailed {
        report.tell("the store failed; nothing more is accepted from this viewer");
    }
    let sent = *connection.sent().borrow();
    report.say(
        "viewer_gone",
        serde_json::json!({
            "session": id.to_string(), "video_packets": sent.video, "audio_packets": sent.audio,
        }),
    );
    connection.closer().close().await;
    drop(task);
    let _ = watcher.await;
    Ok(())
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

/// The right to run a session; given back when dropped.
struct Live<'a> {
    shared: &'a Shared,
    id: SessionId,
}

impl<'a> Live<'a> {
    fn claim(shared: &'a Shared, id: SessionId) -> Option<Self> {
        let mut live = shared.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(id).then_some(Self { shared, id })
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.shared
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// Ends every session that is not over, and settles it. For `recover`-like commands, while the
/// streamer does not serve.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn close_all(home: &Home, report: Report) -> Result<(), AppError> {
    let terms = Terms {
        title: String::new(),
        tariff: streampay_core::meter::Tariff::default(),
        tick: Msat::from_sat(1).unwrap_or_default(),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 0,
        tolerance_ms: 0,
        live_ms: 0,
        methods: Vec::new(),
        resumable_s: 0,
        expires: Unix(0),
        payee: home.identity.public(),
    };
    let payee = PayeeConfig {
        identity: home.identity.clone(),
        terms,
        unpaid_ms: UNPAID_MS,
    };
    let shared = Shared {
        node: home.node.clone(),
        payee,
        live: Mutex::default(),
        report,
    };
    for id in home.node.sessions().await? {
        let Some((mut task, _user)) = restore(&shared, id).await? else {
            continue;
        };
        task.tell(Command::Close(CloseCode::Done)).await?;
        tokio::time::timeout(Duration::from_secs(30), task.run(None))
            .await
            .ok();
    }
    Ok(())
}
