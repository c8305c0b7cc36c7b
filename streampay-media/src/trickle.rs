//! Candidates that come after an offer. Source: RFC 8840, RFC 9725 4.3.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header, request},
    response::{IntoResponse, Response},
};

use crate::{
    peer::{Candidate, Closer, Fragment, SdpError, candidates_in, ice_users},
    signal::{self, Refusal},
};

/// The media type of a piece of a session description.
pub(crate) const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";

/// What is known of the other side's end of a connection.
#[derive(Debug)]
pub(crate) struct Ice {
    /// Names this ICE session: another one, after a restart, would have another.
    etag: String,
    /// The users that the offer names.
    users: Vec<String>,
    /// Candidates that may still come.
    left: usize,
    /// Candidates of this machine count.
    local: bool,
}

impl Ice {
    /// Of an offer.
    ///
    /// # Errors
    /// 500 where there is no randomness.
    pub(crate) fn of(offer: &str, local: bool) -> Result<Self, Refusal> {
        Ok(Self {
            etag: format!("\"{}\"", signal::secret()?),
            users: ice_users(offer),
            left: candidates_in(offer),
            local,
        })
    }

    /// For the answer.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// Whether what is asked is asked of this ICE session. Source: RFC 9725 4.3.1, RFC 6585 3.
    pub(crate) fn matches(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let said = headers.get(header::IF_MATCH);
        let required = || {
            let text = "say which ICE session with If-Match: the ETag of the answer";
            Refusal::new(StatusCode::PRECONDITION_REQUIRED, text)
        };
        let said = said.ok_or_else(required)?.as_bytes();
        if said == b"*" || said == self.etag.as_bytes() {
            return Ok(());
        }
        let text = "this connection has another ICE session";
        Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text))
    }

    /// Takes the candidates of a piece out of those that may still come.
    pub(crate) fn admit(&mut self, text: &str) -> Result<Vec<Candidate>, Refusal> {
        let Fragment { user, candidates } = Fragment::read(text, self.local, self.left)
            .map_err(|error| Refusal::new(status_of(error), error.to_string()))?;
        if user.is_some_and(|user| !self.users.contains(&user)) {
            let text = "ICE restarts are not taken: connect anew and go on with the session";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        self.left = self.left.saturating_sub(candidates.len());
        Ok(candidates)
    }
}

const fn status_of(error: SdpError) -> StatusCode {
    match error {
        SdpError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Answers `PATCH` at a connection's address.
pub(crate) async fn trickle(
    sessions: &signal::Sessions,
    secret: &str,
    parts: &request::Parts,
    body: Body,
) -> Result<Response, Refusal> {
    // Unknown connections and other ICE sessions first: nothing is read for those.
    sessions.with_ice(secret, |ice| ice.matches(&parts.headers))?;
    let text = signal::read_body(parts, body, FRAGMENT_TYPE).await?;
    let (closer, candidates) = sessions.with_ice(secret, |ice| ice.admit(&text))?;
    add(&closer, candidates).await;
    Ok(signal::with_cors(StatusCode::NO_CONTENT.into_response()))
}

/// One that the stack does not understand is of no use; the others are.
async fn add(closer: &Closer, candidates: Vec<Candidate>) {
    for candidate in candidates {
        if let Err(error) = closer.add_candidate(candidate).await {
            tracing::debug!(%error, "a candidate that is not understood");
        }
    }
}

/// What may be patched.
pub(crate) const fn accepted() -> HeaderValue {
    HeaderValue::from_static(FRAGMENT_TYPE)
}
