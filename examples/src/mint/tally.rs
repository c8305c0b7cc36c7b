//! What the mint was asked, and when, by its HTTP layer.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cdk::nuts::SwapRequest;
use cdk::nuts::nut10::Secret;
use tokio::time::Instant;

/// More than any request of ours; the mint itself takes no more than 1000 inputs and outputs.
const BODY_MAX: usize = 2 << 20;
/// So many are remembered.
const ASKED_MAX: usize = 100_000;

/// Counts what a mint is asked.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What a mint can be asked, as far as openings and ticks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What it is. Source: NUT-06.
    Info,
    /// Its keys and keysets. Source: NUT-01, NUT-02.
    Keys,
    /// A swap. Source: NUT-03.
    Swap,
    /// What is spent. Source: NUT-07.
    State,
    /// All else.
    Other,
}

impl What {
    fn of(path: &str) -> Self {
        match path {
            "/v1/info" => Self::Info,
            "/v1/swap" => Self::Swap,
            "/v1/checkstate" => Self::State,
            path if path.starts_with("/v1/keys") => Self::Keys,
            _ => Self::Other,
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// For what.
    pub what: What,
    /// When it came.
    pub at: Instant,
    /// A swap of locked tokens: what was paid is redeemed, or what was not is taken home.
    pub redeems: bool,
}

impl Tally {
    /// All requests so far, in their order; the first 100 000.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    fn note(&self, asked: Asked) {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < ASKED_MAX {
            all.push(asked);
        }
    }
}

/// The layer.
pub(super) async fn count(State(tally): State<Tally>, request: Request, next: Next) -> Response {
    let at = Instant::now();
    let what = What::of(request.uri().path());
    if what != What::Swap {
        let redeems = false;
        tally.note(Asked { what, at, redeems });
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let redeems = spends_locked(&body);
    tally.note(Asked { what, at, redeems });
    next.run(Request::from_parts(head, Body::from(body))).await
}

/// True where an input has a spending condition. Source: NUT-10.
fn spends_locked(body: &Bytes) -> bool {
    let Ok(swap) = serde_json::from_slice::<SwapRequest>(body) else {
        return false;
    };
    let mut inputs = swap.inputs().iter();
    inputs.any(|proof| Secret::try_from(&proof.secret).is_ok())
}
