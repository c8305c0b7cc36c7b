//! Players that have no data channel: paid for with the request, a span at a time.
//!
//! An offer without a data channel is answered with 402 and what the [`Paywall`] demands. The same
//! request again with a payment buys a span: so much of the stream, by the same meters and the same
//! gate as in a session. When it is used up nothing flows until more is paid at the connection's
//! address; a connection to which nothing flows is closed. Spec: media 5.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    extract::{Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, request},
    response::{IntoResponse, Response},
};
use streampay_core::{
    meter::{Grant, Reading, Schedule, Tariff},
    units::Msat,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    limits::{Full, Place},
    seats::Seat,
    server::Shared,
};
use crate::{
    peer::{StreamerPeer, ViewerConnection, sha256},
    signal::{self, Refusal},
    trickle::Ice,
};

/// Takes payments that come with HTTP requests, outside of a session.
#[async_trait]
pub trait Paywall: fmt::Debug + Send + Sync + 'static {
    /// The header that says what to pay and that brings the payment, in lower case, such as
    /// `x-cashu`. A page of another origin can only send that one.
    fn header(&self) -> &'static str;

    /// What to pay for one span, for the header of a 402; none while nothing can be taken, which is
    /// answered with 503. Source: NUT-24.
    async fn demand(&self) -> Option<String>;

    /// By which tariff what is paid is used up.
    fn tariff(&self) -> Tariff;

    /// Takes a payment for good and says what it is worth, which `span` has more from then on: that is the
    /// SHA-256 of the payment which began it. Runs to its end, also where the caller is gone
    /// meanwhile.
    ///
    /// # Errors
    /// [`PaymentError`].
    async fn take(&self, payment: &str, span: [u8; 32]) -> Result<Msat, PaymentError>;

    /// What there is of a span that an earlier process sold, or that was not used for long. Where
    /// nothing is kept, who paid for it has lost what was left.
    async fn kept(&self, span: [u8; 32]) -> Option<Kept> {
        let _ = span;
        None
    }

    /// So much of a span is used. Said about once a second, and when a connection ends.
    async fn used(&self, span: [u8; 32], used: Reading) {
        let _ = (span, used);
    }

    /// All of a span is used, of which so much was paid in all. Where more was taken for it by now it is
    /// not over.
    async fn ended(&self, span: [u8; 32], paid: Msat) {
        let _ = (span, paid);
    }
}

/// What there is of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Paid for it in all.
    pub paid: Msat,
    /// Used of it, by the meters of its tariff.
    pub used: Reading,
}

/// Why a payment buys nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// It is not what was demanded, and was not taken. The text is for people.
    #[error("{0}")]
    Refused(String),
    /// Whether it was taken is not known, or it could not be tried: the same again, later.
    #[error("the payment cannot be checked now; send the same again in a moment")]
    Unavailable,
}

/// The longest payment, in bytes.
const PAYMENT_MAX: usize = 16 * 1024;
/// Spans that are remembered. More are only sold when older ones are used up or forgotten.
const SPANS_MAX: usize = 10_000;
/// How often what is used of a span is said to the paywall.
const SAID: Duration = Duration::from_secs(1);
/// How long what is left of a span is kept here for a player that comes again, since it was last used.
const KEPT: Duration = Duration::from_secs(600);

/// Spans by the SHA-256 of the payment that began them.
#[derive(Debug, Default)]
pub(super) struct Spans(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    spans: HashMap<[u8; 32], Span>,
    /// Which span a connection's secret stands for.
    secrets: HashMap<String, [u8; 32]>,
}

#[derive(Debug)]
struct Span {
    /// Paid so far.
    paid: watch::Sender<Msat>,
    /// Used so far, while no connection uses it.
    used: Reading,
    /// The connection that uses it.
    user: Option<User>,
    /// Since when no connection does.
    free_since: Instant,
}

/// Stays until its connection has ended and what it used is written down.
#[derive(Debug)]
struct User {
    stop: Option<oneshot::Sender<()>>,
    /// Closed at that end.
    ended: watch::Receiver<()>,
}

impl Spans {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier payment left, or nothing.
    fn known(&self, id: &[u8; 32]) -> bool {
        self.lock().spans.contains_key(id)
    }

    /// Room for one more, once what nobody used for long is forgotten.
    fn has_room(&self) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let kept = |span: &Span| span.user.is_some() || now.duration_since(span.free_since) < KEPT;
        state.spans.retain(|_, span| kept(span));
        state.spans.len() < SPANS_MAX
    }

    fn paid(&self, id: [u8; 32], amount: Msat) {
        let mut state = self.lock();
        let span = state.spans.entry(id).or_insert_with(|| Span {
            paid: watch::Sender::default(),
            used: Reading::default(),
            user: None,
            free_since: Instant::now(),
        });
        span.free_since = Instant::now();
        let paid = |paid: &mut Msat| *paid = paid.saturating_plus(amount);
        span.paid.send_modify(paid);
    }

    /// One that the paywall kept.
    fn bring_back(&self, id: [u8; 32], kept: Kept) {
        self.lock().spans.entry(id).or_insert_with(|| Span {
            paid: watch::Sender::new(kept.paid),
            used: kept.used,
            user: None,
            free_since: Instant::now(),
        });
    }

    /// Ends the connection that has the span, and waits until it has let go of it. Of several who do
    /// so at once the first to begin has it then.
    async fn take_over(&self, id: &[u8; 32]) {
        let ended = self.lock().spans.get_mut(id).and_then(|span| {
            let user = span.user.as_mut()?;
            let stop = user.stop.take();
            let _ = stop.map(|stop| stop.send(()));
            Some(user.ended.clone())
        });
        if let Some(mut ended) = ended {
            while ended.changed().await.is_ok() {}
        }
    }

    fn span_of(&self, secret: &str) -> Option<[u8; 32]> {
        self.lock().secrets.get(secret).copied()
    }
}

/// The payment that came with a request, if one did.
fn payment(parts: &request::Parts, paywall: &dyn Paywall) -> Result<Option<String>, Refusal> {
    let Some(value) = parts.headers.get(paywall.header()) else {
        return Ok(None);
    };
    let text = value.to_str().ok().map(str::trim);
    match text.filter(|text| !text.is_empty() && text.len() <= PAYMENT_MAX) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "this is not a payment",
        )),
    }
}

/// 402 with what to pay.
async fn demand(paywall: &dyn Paywall) -> Refusal {
    let Some(demand) = paywall.demand().await else {
        let text = "no payment can be taken now; come again in a moment";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let text = "pay for a span of the stream, as the header says, or watch with `viewer watch`";
    let refusal = Refusal::new(StatusCode::PAYMENT_REQUIRED, text);
    match HeaderValue::from_str(&demand) {
        Ok(value) => refusal.with(HeaderName::from_static(paywall.header()), value),
        Err(error) => {
            tracing::error!(%error, "a demand that no header can carry");
            refusal
        }
    }
}

/// Takes a payment in a task of its own: a caller that hangs up must not cut it short.
async fn take(
    shared: &Arc<Shared>,
    paywall: &Arc<dyn Paywall>,
    payment: String,
    id: [u8; 32],
    place: Place,
) -> Result<(), Refusal> {
    let (shared, paywall) = (shared.clone(), paywall.clone());
    let taking = tokio::spawn(async move {
        // Who hangs up frees its place only when this is over.
        let _place = place;
        let amount = paywall.take(&payment, id).await?;
        // It may have ended while this was taken: then what is kept has this payment in it.
        match (shared.spans.known(&id), paywall.kept(id).await) {
            (false, Some(kept)) => shared.spans.bring_back(id, kept),
            _ => shared.spans.paid(id, amount),
        }
        Ok(())
    });
    match taking.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(PaymentError::Refused(why))) => Err(Refusal::new(StatusCode::BAD_REQUEST, why)),
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the payment was not taken",
        )),
    }
}

/// An offer without a data channel. `place` counts it until it has paid.
pub(super) async fn offer(
    shared: &Arc<Shared>,
    paywall: &Arc<dyn Paywall>,
    parts: &request::Parts,
    sdp: &str,
    place: impl FnOnce() -> Result<(Place, bool), Refusal>,
) -> Result<Response, Refusal> {
    let Some(payment) = payment(parts, paywall.as_ref())? else {
        return Err(demand(paywall.as_ref()).await);
    };
    let (place, local) = place()?;
    let mut peer = shared.config.peer.clone();
    peer.local |= local;
    let source = shared.source.clone();
    // First what may fail without money, then the money.
    let (answer, connection) = StreamerPeer::answer_player(sdp, source, &peer).await?;
    let secret = signal::secret()?;
    let path = format!("/whep/{secret}");
    let url = shared.config.public_url.as_deref();
    let ice = Ice::of(sdp, peer.local)?;
    let created = signal::created(parts, url, &path, answer, &ice)?;
    let id = sha256(payment.as_bytes())?;
    let has_room = shared.spans.has_room();
    let mut seat = None;
    if !shared.spans.known(&id) {
        if !has_room {
            let text = "too many players at once";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        seat = Some(shared.config.seats.take().ok_or(Full::Seats)?);
        match paywall.kept(id).await {
            Some(kept) => shared.spans.bring_back(id, kept),
            None => take(shared, paywall, payment, id, place).await?,
        }
    }
    shared.spans.take_over(&id).await;
    let seat = match seat {
        Some(seat) => seat,
        // Just given back, where the connection before still was there.
        None => shared.config.seats.take().ok_or(Full::Seats)?,
    };
    let behind = (connection, seat, ice);
    if begin(shared, paywall, id, secret, behind) {
        Ok(created)
    } else {
        Err(demand(paywall.as_ref()).await)
    }
}

/// Puts a connection behind a span's gate. False where the span is gone.
fn begin(
    shared: &Arc<Shared>,
    paywall: &Arc<dyn Paywall>,
    id: [u8; 32],
    secret: String,
    (connection, seat, ice): (ViewerConnection, Seat, Ice),
) -> bool {
    let mut state = shared.spans.lock();
    let Some(span) = state.spans.get_mut(&id).filter(|span| span.user.is_none()) else {
        return false;
    };
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = watch::channel(());
    let schedule = Schedule {
        tariff: paywall.tariff(),
        ..Schedule::default()
    };
    let player = Player {
        shared: Arc::downgrade(shared),
        paywall: paywall.clone(),
        id,
        paid: span.paid.subscribe(),
        schedule,
        idle: shared.config.unfunded_deadline,
        link: shared.config.peer.link_deadline,
        secret: secret.clone(),
        _end: end,
        _seat: seat,
    };
    let closer = connection.closer();
    shared.sessions.insert(secret.clone(), closer, ice);
    tokio::spawn(player.play(connection, span.used, stopped));
    span.user = Some(User {
        stop: Some(stop),
        ended,
    });
    state.secrets.insert(secret, id);
    true
}

/// One connection and its span.
struct Player {
    shared: Weak<Shared>,
    paywall: Arc<dyn Paywall>,
    id: [u8; 32],
    paid: watch::Receiver<Msat>,
    schedule: Schedule,
    idle: Duration,
    link: Duration,
    secret: String,
    // Dropped first: who takes the span over finds the seat free.
    _seat: Seat,
    _end: watch::Sender<()>,
}

impl Player {
    async fn play(
        mut self,
        mut connection: ViewerConnection,
        used: Reading,
        stopped: oneshot::Receiver<()>,
    ) {
        let closer = connection.closer();
        let mut last = used;
        tokio::select! {
            () = self.flow(&mut connection, &mut last) => {}
            () = closer.closed() => {}
            _ = stopped => {}
        }
        connection.stop().await;
        if let Some(reading) = connection.delivered() {
            last = reading;
        }
        connection.close().await;
        self.paywall.used(self.id, last).await;
        if let Some(paid) = self.lets_go(last) {
            self.paywall.ended(self.id, paid).await;
        }
    }

    /// What was paid for the span, if nothing is left of it for another connection. Nothing where this
    /// cannot be told.
    fn lets_go(&self, last: Reading) -> Option<Msat> {
        let shared = self.shared.upgrade()?;
        shared.sessions.remove(&self.secret);
        let mut state = shared.spans.lock();
        state.secrets.remove(&self.secret);
        let span = state.spans.get_mut(&self.id)?;
        span.used = span.used.max(last);
        span.user = None;
        span.free_since = Instant::now();
        let paid = *span.paid.borrow();
        if self.grant(paid).admits(beyond(last)) {
            return None;
        }
        state.spans.remove(&self.id);
        Some(paid)
    }

    /// Lets through what is paid until nothing has flowed for long.
    async fn flow(&mut self, connection: &mut ViewerConnection, last: &mut Reading) {
        // What is sent before the player can receive would be paid for and lost.
        let connected = tokio::time::timeout(self.link, connection.connected()).await;
        if connected.is_err() {
            return;
        }
        let paid = *self.paid.borrow_and_update();
        let (grants, receiver) = watch::channel(self.grant(paid));
        let Ok(mut reading) = connection.start(receiver, *last) else {
            return;
        };
        let mut said = Instant::now();
        loop {
            tokio::select! {
                changed = reading.changed() => if changed.is_err() { return },
                changed = self.paid.changed() => {
                    if changed.is_err() { return }
                    let paid = *self.paid.borrow_and_update();
                    grants.send_replace(self.grant(paid));
                }
                () = tokio::time::sleep(self.idle) => return,
            }
            *last = *reading.borrow_and_update();
            if said.elapsed() >= SAID {
                said = Instant::now();
                self.paywall.used(self.id, *last).await;
            }
        }
    }

    fn grant(&self, limit: Msat) -> Grant {
        Grant::Open {
            limit,
            schedule: self.schedule,
        }
    }
}

/// A reading that one packet more would bring at least.
fn beyond(reading: Reading) -> Reading {
    Reading {
        media_ms: reading.media_ms.saturating_add(1),
        bytes: reading.bytes.saturating_add(1),
    }
}

/// `POST` at a connection's address: more for the same span.
pub(super) async fn more(
    State(shared): State<Arc<Shared>>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, _body) = request.into_parts();
    let Some(paywall) = &shared.config.paywall else {
        return Ok(signal::not_allowed_session(parts.method).await);
    };
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "this connection has ended");
    let id = shared.spans.span_of(&secret).ok_or_else(unknown)?;
    let Some(payment) = payment(&parts, paywall.as_ref())? else {
        return Err(demand(paywall.as_ref()).await);
    };
    let place = shared.admit_payment(&parts)?;
    take(&shared, paywall, payment, id, place).await?;
    Ok(signal::with_cors(StatusCode::NO_CONTENT.into_response()))
}
