use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header, request},
    response::Response,
    routing::{delete, post},
};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

use super::StreamKey;
use crate::{
    packet::Codec,
    peer::{Closer, PeerConfig, PublisherPeer},
    signal::{self, Refusal, Sessions},
    source::{Description, Ingest, SourceWriter},
    trickle::{self, Ice},
    whep::{Places, Rate, TrustedProxy},
};

/// How a [`Server`] admits publishers.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where publishers reach this server, such as `https://example.com/live`, without a slash
    /// at the end; none takes it from each request's `Host`.
    pub public_url: Option<String>,
    /// Whether a reverse proxy stands before this, and says who calls.
    pub trusted_proxy: TrustedProxy,
    /// How connections are made. Its `link_deadline` is how long the first packet may take.
    pub peer: PeerConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            public_url: None,
            trusted_proxy: TrustedProxy::None,
            peer: PeerConfig::default(),
        }
    }
}

/// WHIP for one stream.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    key: StreamKey,
    config: ServerConfig,
    /// Who guesses waits, and holds one of these.
    guesses: Places,
    /// And may do so only so often.
    guess_rate: Rate,
    sessions: Sessions,
    /// Who publishes holds it.
    ingest: Arc<AsyncMutex<Ingest>>,
    /// The codecs that the stream may be of.
    takes: Vec<Codec>,
    /// What the stream is, once somebody has published.
    known: Mutex<Option<Description>>,
    current: Mutex<Option<Closer>>,
    live: watch::Sender<bool>,
}

/// How long the answer to a wrong key takes.
const GUESS_DELAY: Duration = Duration::from_secs(1);
/// Wrong keys that wait for their answer: from one address, and in all.
const GUESSES: (usize, usize) = (4, 64);
/// Wrong keys that are answered in a minute, from one address.
const GUESSES_PER_MINUTE: u32 = 30;

impl Server {
    /// A server that feeds `writer`. If that is of an [awaited](crate::source::Source::awaited)
    /// source, the first publisher says what it is; if not, only its codecs are taken.
    #[must_use]
    pub fn new(writer: SourceWriter, key: StreamKey, config: ServerConfig) -> Self {
        let known = writer.description().copied();
        let takes = writer.takes();
        let shared = Shared {
            key,
            config,
            guesses: Places::new(GUESSES.0, GUESSES.1),
            guess_rate: Rate::per_minute(GUESSES_PER_MINUTE),
            sessions: Sessions::default(),
            ingest: Arc::new(AsyncMutex::new(Ingest::new(writer))),
            takes,
            known: Mutex::new(known),
            current: Mutex::default(),
            live: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether somebody publishes: true from its first packet on.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<bool> {
        self.shared.live.subscribe()
    }

    /// `POST /whip`, and `PATCH` and `DELETE` at `/whip/{secret}`. What is said of the router of
    /// [`whep::Server`](crate::whep::Server) holds here.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/whip",
                post(offer)
                    .options(signal::preflight)
                    .fallback(signal::not_allowed_offer),
            )
            .route(
                "/whip/{secret}",
                delete(end)
                    .patch(candidates)
                    .options(signal::preflight)
                    .fallback(signal::not_allowed_session),
            )
            .with_state(self.shared.clone())
    }
}

async fn offer(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    shared.authorize(&parts).await?;
    let sdp = signal::read_offer(&parts, body).await?;
    let mut peer = shared.config.peer.clone();
    peer.local |= shared.config.trusted_proxy.caller(&parts).is_loopback();
    let known = *lock(&shared.known);
    let (answer, publisher) =
        PublisherPeer::answer(&sdp, known.as_ref(), &shared.takes, &peer).await?;
    let secret = signal::secret()?;
    let path = format!("/whip/{secret}");
    let ice = Ice::of(&sdp, peer.local)?;
    let url = shared.config.public_url.as_deref();
    let created = signal::created(&parts, url, &path, answer, &ice)?;
    lock(&shared.known).get_or_insert(publisher.description);
    let closer = publisher.closer();
    shared.sessions.insert(secret.clone(), closer, ice);
    let before = lock(&shared.current).replace(publisher.closer());
    // Nothing is waited for before this: a caller that hangs up must not leave a session that nobody ends.
    tokio::spawn(async move {
        if let Some(before) = before {
            before.close().await;
        }
        publish(&shared, publisher).await;
        shared.sessions.remove(&secret);
    });
    Ok(created)
}

async fn end(State(shared): State<Arc<Shared>>, Path(secret): Path<String>) -> Response {
    shared.sessions.end(&secret).await
}

async fn candidates(
    State(shared): State<Arc<Shared>>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    trickle::trickle(&shared.sessions, &secret, &parts, body).await
}

impl Shared {
    /// Lets who has the key pass. Source: RFC 9725 4.4, RFC 6750 3.
    async fn authorize(&self, parts: &request::Parts) -> Result<(), Refusal> {
        let said = parts.headers.get(header::AUTHORIZATION);
        let token = said.and_then(|said| {
            let (scheme, token) = said.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        if token.is_some_and(|token| self.key.is(token.trim_ascii())) {
            return Ok(());
        }
        if token.is_some() {
            let caller = self.config.trusted_proxy.caller(parts);
            self.guess_rate.admit(caller)?;
            let _place = self.guesses.take(caller)?;
            tracing::warn!(%caller, "a publisher with a wrong stream key");
            tokio::time::sleep(GUESS_DELAY).await;
        }
        let text = "publish with the stream key, as `Authorization: Bearer KEY`";
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, text);
        Err(refusal.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }
}

/// Feeds the source until the publisher is gone or another takes its place.
async fn publish(shared: &Shared, mut publisher: PublisherPeer) {
    let closer = publisher.closer();
    // Whoever published before has been told to go.
    let mut ingest = tokio::select! {
        ingest = shared.ingest.lock() => ingest,
        () = closer.closed() => return,
    };
    let first = tokio::time::timeout(shared.config.peer.link_deadline, publisher.packets.recv());
    let Ok(Some(mut packet)) = first.await else {
        tracing::debug!("a publisher sent nothing in time");
        closer.close().await;
        return;
    };
    ingest.begin(publisher.description);
    let mut requests = ingest.writer().key_frame_requests();
    shared.live.send_replace(true);
    loop {
        if ingest.push(packet, Instant::now()) {
            ingest.writer().want_key_frame();
        }
        let next = loop {
            tokio::select! {
                packet = publisher.packets.recv() => break packet,
                () = requests.next() => publisher.ask_for_key_frame().await,
                () = closer.closed() => break None,
            }
        };
        match next {
            Some(next) => packet = next,
            None => break,
        }
    }
    shared.live.send_replace(false);
    closer.close().await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
