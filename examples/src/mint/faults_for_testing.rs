//! Faults on the way to and from the mint, for tests.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 before the mint sees it.
    Refuse,
    /// 403 before the mint sees it, as a firewall answers.
    Forbid,
    /// The mint never sees it and no answer comes.
    Hang,
    /// The mint does it and no answer comes.
    LoseAnswer,
}

/// Switches faults on and off while the mint runs, and counts what it was asked.
#[derive(Clone, Debug, Default)]
pub struct FaultSwitch {
    state: Arc<Mutex<Switched>>,
}

#[derive(Debug, Default)]
struct Switched {
    faults: Vec<(String, Fault, u64)>,
    seen: Vec<(String, u64)>,
}

impl FaultSwitch {
    /// The next `times` requests whose path begins with `path` meet `fault`.
    pub fn set(&self, path: &str, fault: Fault, times: u64) {
        self.with(|state| state.faults.push((path.to_owned(), fault, times)));
    }

    /// No faults from here on.
    pub fn clear(&self) {
        self.with(|state| state.faults.clear());
    }

    /// How many requests for exactly `path` came in, faults included.
    #[must_use]
    pub fn seen(&self, path: &str) -> u64 {
        self.with(|state| {
            let mut seen = state.seen.iter();
            seen.find(|(of, _)| of == path)
                .map_or(0, |(_, count)| *count)
        })
    }

    fn take(&self, path: &str) -> Option<Fault> {
        self.with(|state| {
            let known = state.seen.len();
            match state.seen.iter_mut().find(|(of, _)| of == path) {
                Some((_, count)) => *count = count.saturating_add(1),
                // The mint has a dozen paths; an attacker's inventions are not counted.
                None if known < 64 => state.seen.push((path.to_owned(), 1)),
                None => {}
            }
            let armed = state.faults.iter_mut();
            let mut armed = armed.filter(|(of, _, left)| path.starts_with(of) && *left > 0);
            let (_, fault, left) = armed.next()?;
            *left = left.saturating_sub(1);
            Some(*fault)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Switched) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn inject(
    State(switch): State<FaultSwitch>,
    request: Request,
    next: Next,
) -> Response {
    match switch.take(request.uri().path()) {
        None => next.run(request).await,
        Some(Fault::Refuse) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Fault::Forbid) => StatusCode::FORBIDDEN.into_response(),
        Some(Fault::Hang) => core::future::pending().await,
        Some(Fault::LoseAnswer) => {
            next.run(request).await;
            core::future::pending().await
        }
    }
}
