use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use rtc::crypto::default_provider;
use streampay_core::driver::Link;
use tokio::sync::mpsc;

use super::{
    SDP_TYPE,
    address::TrustedProxy,
    limits::{Full, Place, Places},
};
use crate::{
    peer::{Closer, PeerConfig, PeerError, SDP_MAX, SdpError, StreamerPeer, ViewerConnection},
    source::Source,
};

/// How a [`Server`] admits viewers.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where viewers reach this server, such as `https://example.com/live`, without a slash at
    /// the end; none takes it from each request's `Host`.
    pub public_url: Option<String>,
    /// Connections that have not [paid](UnboundPlace::paid) from one IPv4 address or IPv6 /64. A
    /// household has a few devices.
    pub unbound_per_address: usize,
    /// Connections that have not paid, in all. Each costs 0.4 MB and two file descriptors.
    pub unbound_in_all: usize,
    /// How long a connection may stay unbound once its data channel is open.
    pub bind_deadline: Duration,
    /// Whether a reverse proxy stands before this, and says who calls.
    pub trusted_proxy: TrustedProxy,
    /// How connections are made.
    pub peer: PeerConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            public_url: None,
            unbound_per_address: 8,
            unbound_in_all: 64,
            bind_deadline: Duration::from_secs(30),
            trusted_proxy: TrustedProxy::None,
            peer: PeerConfig::default(),
        }
    }
}

/// A viewer whose data channel is open.
#[derive(Debug)]
pub struct Arrival {
    /// For the session.
    pub link: Link,
    /// For the media; dropped, the viewer is disconnected.
    pub connection: ViewerConnection,
    /// Where it comes from.
    pub address: IpAddr,
    /// Until the viewer has paid.
    pub place: UnboundPlace,
}

/// Counts a viewer as a stranger, from its offer to its first payment. To be kept until then:
/// dropped, it no longer counts, and one that is not [bound](Self::bound) is still disconnected at
/// [`ServerConfig::bind_deadline`].
#[derive(Debug)]
pub struct UnboundPlace {
    _place: Place,
    watch: tokio::task::AbortHandle,
}

impl UnboundPlace {
    /// The session is bound: its deadline no longer holds. The viewer still counts, for binding
    /// costs a stranger nothing.
    pub fn bound(&self) {
        self.watch.abort();
    }

    /// The viewer has paid, which costs: it does not count as a stranger any more.
    pub fn paid(self) {
        self.watch.abort();
    }
}

/// WHEP for one stream.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Arc<Source>,
    config: ServerConfig,
    unpaid: Places,
    arrivals: mpsc::Sender<Arrival>,
    sessions: Mutex<HashMap<String, Closer>>,
}

impl Server {
    /// Viewers that wait for the embedder.
    const ARRIVALS_MAX: usize = 64;

    /// A server for `source`, and where its viewers arrive.
    #[must_use]
    pub fn new(source: Arc<Source>, config: ServerConfig) -> (Self, mpsc::Receiver<Arrival>) {
        let (arrivals_to, arrivals) = mpsc::channel(Self::ARRIVALS_MAX);
        let unpaid = Places::new(config.unbound_per_address, config.unbound_in_all);
        let sessions = Mutex::default();
        let shared = Shared {
            source,
            config,
            unpaid,
            arrivals: arrivals_to,
            sessions,
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            arrivals,
        )
    }

    /// `POST /whep` and `DELETE /whep/{secret}`. Serve it with
    /// `into_make_service_with_connect_info::<SocketAddr>()`: without addresses all viewers
    /// count as one household. `axum::serve` has no deadlines: where strangers come, serve it with
    /// a bound on connections and on how long a request's head may take.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/whep",
                post(offer).options(preflight).fallback(not_allowed_offer),
            )
            .route(
                "/whep/{secret}",
                delete(end).options(preflight).fallback(not_allowed_session),
            )
            .with_state(self.shared.clone())
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Closer>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the session will be, absolute: some clients cannot resolve another.
    fn location(&self, headers: &HeaderMap, secret: &str) -> Option<HeaderValue> {
        let base = match &self.config.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", headers.get(header::HOST)?.to_str().ok()?),
        };
        HeaderValue::from_str(&format!("{base}/whep/{secret}")).ok()
    }
}

/// A refusal: a status and a sentence for people.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, self.1 + "\n").into_response();
        if matches!(
            self.0,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        with_cors(response)
    }
}

impl Refusal {
    fn new(status: StatusCode, text: &str) -> Self {
        Self(status, text.to_owned())
    }
}

async fn offer(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or("")
        .trim();
    if !kind.eq_ignore_ascii_case(SDP_TYPE) {
        let text = "send the offer as application/sdp";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    // Before a place is taken: who sends slowly holds none.
    let sdp = read_body(body).await?;
    let address = shared.config.trusted_proxy.caller(&parts);
    let place = shared.unpaid.take(address).map_err(|full| match full {
        Full::Address => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many connections from your address",
        ),
        Full::All => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many viewers at once"),
    })?;
    let source = shared.source.clone();
    let mut peer = shared.config.peer.clone();
    peer.local |= address.is_loopback();
    let (answer, connection) = StreamerPeer::answer(&sdp, source, &peer)
        .await
        .map_err(refusal)?;
    let unavailable = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no randomness");
    let secret = secret().ok_or_else(unavailable)?;
    let no_host = || Refusal::new(StatusCode::BAD_REQUEST, "the request has no usable Host");
    let location = shared
        .location(&parts.headers, &secret)
        .ok_or_else(no_host)?;
    shared
        .sessions()
        .insert(secret.clone(), connection.closer());
    tokio::spawn(arrive(
        Arc::downgrade(&shared),
        secret,
        connection,
        address,
        place,
    ));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP_TYPE)),
        (header::LOCATION, location),
    ];
    Ok(with_cors(
        (StatusCode::CREATED, headers, answer).into_response(),
    ))
}

/// How long a body may take.
const BODY_MAX: Duration = Duration::from_secs(10);

async fn read_body(body: Body) -> Result<String, Refusal> {
    let read = tokio::time::timeout(BODY_MAX, to_bytes(body, SDP_MAX)).await;
    let overdue = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "the offer took too long");
    let too_long = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "an offer has at most 64 KiB");
    let bytes = read.map_err(|_| overdue())?.map_err(|_| too_long())?;
    let malformed = || Refusal::new(StatusCode::BAD_REQUEST, "the offer is not text");
    String::from_utf8(bytes.into()).map_err(|_| malformed())
}

fn refusal(error: PeerError) -> Refusal {
    let status = match &error {
        PeerError::Sdp(SdpError::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
        PeerError::Sdp(SdpError::NoDataChannel) => StatusCode::PAYMENT_REQUIRED,
        PeerError::Sdp(_) | PeerError::Stack(_) => StatusCode::BAD_REQUEST,
        PeerError::NoCommonCodec(_) => StatusCode::NOT_ACCEPTABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = match &error {
        // What the stack says is for the streamer.
        PeerError::Stack(_) => "the offer cannot be answered".to_owned(),
        error => error.to_string(),
    };
    tracing::debug!(%error, %status, "offer refused");
    Refusal(status, text)
}

/// Waits for the data channel, hands the viewer over, and forgets it when it is gone.
async fn arrive(
    shared: Weak<Shared>,
    secret: String,
    mut connection: ViewerConnection,
    address: IpAddr,
    place: Place,
) {
    let closer = connection.closer();
    let Some((arrivals, bind_deadline)) = shared
        .upgrade()
        .map(|shared| (shared.arrivals.clone(), shared.config.bind_deadline))
    else {
        return;
    };
    match connection.open_link().await {
        Ok(link) => {
            let strangers_closer = closer.clone();
            let watch = tokio::spawn(async move {
                tokio::time::sleep(bind_deadline).await;
                tracing::debug!("a viewer stayed a stranger for too long");
                strangers_closer.close().await;
            });
            let place = UnboundPlace {
                _place: place,
                watch: watch.abort_handle(),
            };
            let arrival = Arrival {
                link,
                connection,
                address,
                place,
            };
            if arrivals.try_send(arrival).is_err() {
                tracing::warn!("viewers arrive faster than they are taken");
            }
            closer.closed().await;
            watch.abort();
        }
        Err(error) => tracing::debug!(%error, "a viewer did not connect"),
    }
    if let Some(shared) = shared.upgrade() {
        shared.sessions().remove(&secret);
    }
}

async fn end(State(shared): State<Arc<Shared>>, Path(secret): Path<String>) -> Response {
    let closer = shared.sessions().remove(&secret);
    with_cors(match closer {
        Some(closer) => {
            closer.close().await;
            StatusCode::OK.into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn preflight() -> Response {
    let accepts = [(
        HeaderName::from_static("accept-post"),
        HeaderValue::from_static(SDP_TYPE),
    )];
    with_cors((StatusCode::NO_CONTENT, accepts).into_response())
}

async fn not_allowed_offer(method: Method) -> Response {
    not_allowed(&method, "POST, OPTIONS")
}

async fn not_allowed_session(method: Method) -> Response {
    not_allowed(&method, "DELETE, OPTIONS")
}

fn not_allowed(method: &Method, allowed: &'static str) -> Response {
    tracing::debug!(%method, "method not allowed");
    let allow = [(header::ALLOW, HeaderValue::from_static(allowed))];
    with_cors((StatusCode::METHOD_NOT_ALLOWED, allow).into_response())
}

/// Any page may show the stream: what protects it is payment, not the page's origin.
fn with_cors(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "POST, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Content-Type, Authorization, If-Match",
        ),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Location, Link, ETag, Retry-After",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// 128 random bits as hex: who knows it may end the connection.
fn secret() -> Option<String> {
    let mut random = [0; 16];
    default_provider().ok()?.random().fill(&mut random).ok()?;
    Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
