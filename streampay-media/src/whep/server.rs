use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::request,
    middleware::map_response,
    response::Response,
    routing::{delete, post},
};
use streampay_core::driver::Link;
use tokio::sync::mpsc;

use super::{
    address::TrustedProxy,
    limits::{Full, Place, Places},
    paywall::{self, Paywall, Spans},
    rate::Rate,
    seats::Seats,
};
use crate::{
    peer::{PeerConfig, StreamerPeer, ViewerConnection, has_data_channel},
    signal::{self, Refusal, Sessions},
    source::Source,
    trickle::{self, Ice},
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
    /// Offers that one household may make in a minute, whatever becomes of them.
    pub offers_per_minute: u32,
    /// Payments for more of a span that one household may send in a minute, whatever becomes of them.
    pub payments_per_minute: u32,
    /// How many watch at once. Whoever runs sessions takes a seat for each; players that pay
    /// outside of one have theirs from here.
    pub seats: Seats,
    /// How long a connection may stay unbound once its data channel is open.
    pub bind_deadline: Duration,
    /// Who takes payments of players without a data channel; none sends them away.
    pub paywall: Option<Arc<dyn Paywall>>,
    /// How long such a player stays connected while nothing flows to it: it has used up what it
    /// paid, or the source is silent.
    pub unfunded_deadline: Duration,
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
            offers_per_minute: 60,
            payments_per_minute: 600,
            seats: Seats::default(),
            bind_deadline: Duration::from_secs(10),
            paywall: None,
            unfunded_deadline: Duration::from_secs(10),
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
pub(super) struct Shared {
    pub(super) source: Arc<Source>,
    pub(super) config: ServerConfig,
    unpaid: Places,
    offers: Rate,
    /// Payments that are being taken, and how often they come: of those who have paid before, apart from
    /// strangers.
    paying: Places,
    payments: Rate,
    arrivals: mpsc::Sender<Arrival>,
    pub(super) sessions: Sessions,
    pub(super) spans: Spans,
}

impl Shared {
    /// A place for a payment for more of a span, while it is being taken.
    pub(super) fn admit_payment(&self, parts: &request::Parts) -> Result<Place, Full> {
        let address = self.config.trusted_proxy.caller(parts);
        self.payments.admit(address)?;
        self.paying.take(address)
    }
}

impl Server {
    /// Viewers that wait for the embedder.
    const ARRIVALS_MAX: usize = 64;

    /// A server for `source`, and where its viewers arrive.
    #[must_use]
    pub fn new(source: Arc<Source>, config: ServerConfig) -> (Self, mpsc::Receiver<Arrival>) {
        let (arrivals_to, arrivals) = mpsc::channel(Self::ARRIVALS_MAX);
        let unpaid = Places::new(config.unbound_per_address, config.unbound_in_all);
        let paying = Places::new(config.unbound_per_address, config.unbound_in_all);
        let offers = Rate::per_minute(config.offers_per_minute);
        let payments = Rate::per_minute(config.payments_per_minute);
        let sessions = Sessions::default();
        let shared = Shared {
            source,
            config,
            unpaid,
            offers,
            paying,
            payments,
            arrivals: arrivals_to,
            sessions,
            spans: Spans::default(),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            arrivals,
        )
    }

    /// `POST /whep`, and `POST`, `PATCH` and `DELETE` at `/whep/{secret}`. Serve it with
    /// `into_make_service_with_connect_info::<SocketAddr>()`: without addresses all viewers
    /// count as one household. `axum::serve` has no deadlines: where strangers come, serve it with
    /// a bound on connections and on how long a request's head may take.
    pub fn router(&self) -> Router {
        let paywall = self.shared.config.paywall.as_ref();
        let header = paywall.map(|paywall| paywall.header());
        let session = delete(end)
            .post(paywall::more)
            .patch(candidates)
            .options(signal::preflight);
        let session = match paywall {
            Some(_) => session.fallback(signal::not_allowed_span),
            None => session.fallback(signal::not_allowed_session),
        };
        Router::new()
            .route(
                "/whep",
                post(offer)
                    .options(signal::preflight)
                    .fallback(signal::not_allowed_offer),
            )
            .route("/whep/{secret}", session)
            .with_state(self.shared.clone())
            .layer(map_response(move |response| {
                signal::allow_header(response, header)
            }))
    }
}

async fn offer(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let address = shared.config.trusted_proxy.caller(&parts);
    shared.offers.admit(address)?;
    // Before a place is taken: who sends slowly holds none.
    let sdp = signal::read_offer(&parts, body).await?;
    #[cfg(feature = "e2ee")]
    if shared.source.is_sealed() && !has_data_channel(&sdp) {
        // Before anything is asked for what would not open.
        return Err(crate::peer::PeerError::Sealed.into());
    }
    if let Some(paywall) = &shared.config.paywall
        && !has_data_channel(&sdp)
    {
        let place = || Ok((shared.unpaid.take(address)?, address.is_loopback()));
        return paywall::offer(&shared, paywall, &parts, &sdp, place).await;
    }
    if shared.config.seats.turns_away() {
        return Err(Full::Seats.into());
    }
    let place = shared.unpaid.take(address)?;
    let source = shared.source.clone();
    let mut peer = shared.config.peer.clone();
    peer.local |= address.is_loopback();
    let (answer, connection) = StreamerPeer::answer(&sdp, source, &peer).await?;
    let secret = signal::secret()?;
    let path = format!("/whep/{secret}");
    let ice = Ice::of(&sdp, peer.local)?;
    let url = shared.config.public_url.as_deref();
    let created = signal::created(&parts, url, &path, answer, &ice)?;
    let closer = connection.closer();
    shared.sessions.insert(secret.clone(), closer, ice);
    tokio::spawn(arrive(
        Arc::downgrade(&shared),
        secret,
        connection,
        address,
        place,
    ));
    Ok(created)
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
                strangers_closer.cut().await;
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
        shared.sessions.remove(&secret);
    }
}

async fn candidates(
    State(shared): State<Arc<Shared>>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    trickle::trickle(&shared.sessions, &secret, &parts, body).await
}

async fn end(State(shared): State<Arc<Shared>>, Path(secret): Path<String>) -> Response {
    shared.sessions.end(&secret).await
}
