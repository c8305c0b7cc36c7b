//! What WHIP and WHEP have in common: offers in, answers out, secret addresses of connections.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request},
    response::{IntoResponse, Response},
};
use rtc::crypto::default_provider;

use crate::{
    peer::{Closer, PeerError, SDP_MAX, SdpError},
    trickle::{self, Ice},
    whep::Full,
};

/// The media type of a session description.
pub(crate) const SDP_TYPE: &str = "application/sdp";

/// How long a body may take.
const BODY_MAX: Duration = Duration::from_secs(10);

/// A refusal: a status, a sentence for people, perhaps a header.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let retry = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        Self {
            status,
            text: text.into(),
            header: retry.then(|| (header::RETRY_AFTER, HeaderValue::from_static("5"))),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        with_cors(response)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Address => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many connections from your address",
            ),
            Full::All => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many connections at once",
            ),
            Full::Seats => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the stream has all the viewers that it takes",
            ),
        }
    }
}

/// An offer that came to nothing.
impl From<PeerError> for Refusal {
    fn from(error: PeerError) -> Self {
        let status = match &error {
            PeerError::Sdp(SdpError::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            PeerError::Sdp(SdpError::NoDataChannel) => StatusCode::PAYMENT_REQUIRED,
            PeerError::Sdp(_) | PeerError::Stack(_) => StatusCode::BAD_REQUEST,
            PeerError::NoCommonCodec(_) | PeerError::NoCodecTaken(_) | PeerError::Sealed => {
                StatusCode::NOT_ACCEPTABLE
            }
            PeerError::NotLive | PeerError::NoPort => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let text = match &error {
            // What the stack says is for whoever runs this.
            PeerError::Stack(_) => "the offer cannot be answered".to_owned(),
            error => error.to_string(),
        };
        tracing::debug!(%error, %status, "offer refused");
        Self::new(status, text)
    }
}

/// The body of a request that must be an offer.
pub(crate) async fn read_offer(parts: &request::Parts, body: Body) -> Result<String, Refusal> {
    read_body(parts, body, SDP_TYPE).await
}

/// The body of a request that must be of that type.
pub(crate) async fn read_body(
    parts: &request::Parts,
    body: Body,
    wanted: &str,
) -> Result<String, Refusal> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("");
    if !kind.trim().eq_ignore_ascii_case(wanted) {
        let text = format!("send it as {wanted}");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let read = tokio::time::timeout(BODY_MAX, to_bytes(body, SDP_MAX)).await;
    let overdue = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "it took too long");
    let too_long = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "it may have at most 64 KiB");
    let bytes = read.map_err(|_| overdue())?.map_err(|_| too_long())?;
    let malformed = || Refusal::new(StatusCode::BAD_REQUEST, "it is not text");
    String::from_utf8(bytes.into()).map_err(|_| malformed())
}

/// 201 with the answer and where the connection is, absolute: some clients cannot resolve another.
pub(crate) fn created(
    parts: &request::Parts,
    public_url: Option<&str>,
    path: &str,
    answer: String,
    ice: &Ice,
) -> Result<Response, Refusal> {
    let base = match public_url {
        Some(url) => Some(url.trim_end_matches('/').to_owned()),
        None => parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .map(|host| format!("http://{host}")),
    };
    let location = base.and_then(|base| HeaderValue::from_str(&format!("{base}{path}")).ok());
    let no_host = || Refusal::new(StatusCode::BAD_REQUEST, "the request has no usable Host");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP_TYPE)),
        (header::LOCATION, location.ok_or_else(no_host)?),
        (accept_patch(), trickle::accepted()),
    ];
    let mut response = (StatusCode::CREATED, headers, answer).into_response();
    if let Ok(etag) = HeaderValue::from_str(ice.etag()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(with_cors(response))
}

const fn accept_patch() -> HeaderName {
    HeaderName::from_static("accept-patch")
}

/// Connections by their secret.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    closer: Closer,
    ice: Ice,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, secret: String, closer: Closer, ice: Ice) {
        self.lock().insert(secret, Session { closer, ice });
    }

    pub(crate) fn remove(&self, secret: &str) -> Option<Closer> {
        self.lock().remove(secret).map(|session| session.closer)
    }

    /// Asks something of a connection's ICE session. 404 where there is no such connection.
    pub(crate) fn with_ice<T>(
        &self,
        secret: &str,
        ask: impl FnOnce(&mut Ice) -> Result<T, Refusal>,
    ) -> Result<(Closer, T), Refusal> {
        let mut sessions = self.lock();
        let ended = || Refusal::new(StatusCode::NOT_FOUND, "this connection has ended");
        let session = sessions.get_mut(secret).ok_or_else(ended)?;
        Ok((session.closer.clone(), ask(&mut session.ice)?))
    }

    /// Answers `DELETE`.
    pub(crate) async fn end(&self, secret: &str) -> Response {
        let closer = self.remove(secret);
        with_cors(match closer {
            Some(closer) => {
                closer.cut().await;
                StatusCode::OK.into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        })
    }
}

/// 128 random bits as hex: who knows it may end the connection.
pub(crate) fn secret() -> Result<String, Refusal> {
    let mut random = [0; 16];
    let provider = default_provider().ok();
    let drawn = provider.and_then(|provider| provider.random().fill(&mut random).ok());
    let none = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no randomness");
    drawn.ok_or_else(none)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is taken here.
pub(crate) async fn preflight() -> Response {
    let accepts = [
        (
            HeaderName::from_static("accept-post"),
            HeaderValue::from_static(SDP_TYPE),
        ),
        (accept_patch(), trickle::accepted()),
    ];
    with_cors((StatusCode::NO_CONTENT, accepts).into_response())
}

pub(crate) async fn not_allowed_offer(method: Method) -> Response {
    not_allowed(&method, "POST, OPTIONS")
}

pub(crate) async fn not_allowed_session(method: Method) -> Response {
    not_allowed(&method, "PATCH, DELETE, OPTIONS")
}

/// Where more can be paid for a connection.
pub(crate) async fn not_allowed_span(method: Method) -> Response {
    not_allowed(&method, "POST, PATCH, DELETE, OPTIONS")
}

pub(crate) fn not_allowed(method: &Method, allowed: &'static str) -> Response {
    tracing::debug!(%method, "method not allowed");
    let allow = [(header::ALLOW, HeaderValue::from_static(allowed))];
    with_cors((StatusCode::METHOD_NOT_ALLOWED, allow).into_response())
}

/// Any page may show the stream: what protects it is payment, not the page's origin. Any page may
/// publish, too, that has the key.
pub(crate) fn with_cors(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "POST, PATCH, DELETE, OPTIONS",
        ),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const ALLOWED_HEADERS: &str = "Content-Type, Authorization, If-Match";
const EXPOSED_HEADERS: &str = "Location, ETag, Accept-Patch, Retry-After";

/// Lets pages of any origin pay with this header, and see what to pay in it.
pub(crate) async fn allow_header(mut response: Response, name: Option<&'static str>) -> Response {
    let Some(name) = name else {
        return response;
    };
    for (header, others) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
    ] {
        if let Ok(value) = HeaderValue::from_str(&format!("{others}, {name}")) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}
