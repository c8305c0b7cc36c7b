//! Faults on the way to and from the mint, for tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 before the mint sees it.
    Refuse,
    /// 500 before the mint sees it.
    Fail,
    /// 429 before the mint sees it, with so many seconds as `Retry-After`.
    TooMany(u64),
    /// 403 before the mint sees it, as a firewall answers.
    Forbid,
    /// The mint never sees it and no answer comes.
    Hang,
    /// The mint does it and no answer comes.
    LoseAnswer,
    /// The mint does it, and half of the answer comes.
    Partial,
    /// The mint does it, and of each list in the answer that says what it signed, or what is spent, only so
    /// many in a hundred come, the first ones.
    Short(u8),
    /// The mint does it, and every signature and key in the answer is another point.
    WrongSignature,
    /// The mint does it, and says the second where it means the first.
    Say(&'static str, &'static str),
    /// The mint does it, and says that it is so many seconds earlier than it is.
    Ago(u64),
    /// A cache has kept what the mint answered so many seconds ago.
    Old(u64),
    /// The mint does it, and says of a quote that nobody has paid it.
    Unpaid,
    /// The mint never sees it; this is answered with 200.
    Answer(&'static str),
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
    /// By what the fault was set for.
    met: Vec<(String, u64)>,
}

impl Switched {
    fn count_met(&mut self, of: String) {
        match self.met.iter_mut().find(|(other, _)| *other == of) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.met.push((of, 1)),
        }
    }
}

/// Any valid point: the generator of secp256k1.
const OTHER_POINT: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// The longest answer that is rewritten, in bytes.
const ANSWER_MAX: usize = 8 * 1024 * 1024;

impl FaultSwitch {
    /// The next `times` requests for `path`, or for what is below it, meet `fault`. `/` is all; with a method
    /// and a space before it, such as `GET /v1/mint/quote`, it is those of that method.
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

    /// How many requests have met a fault.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.with(|state| state.met.iter().map(|(_, count)| count).sum())
    }

    /// How many of them by a fault that was [`set`](Self::set) for exactly `path`.
    #[must_use]
    pub fn met_for(&self, path: &str) -> u64 {
        self.with(|state| {
            let mut met = state.met.iter();
            met.find(|(of, _)| of == path)
                .map_or(0, |(_, count)| *count)
        })
    }

    fn take(&self, method: &str, path: &str) -> Option<Fault> {
        self.with(|state| {
            let known = state.seen.len();
            match state.seen.iter_mut().find(|(of, _)| of == path) {
                Some((_, count)) => *count = count.saturating_add(1),
                // The mint has a dozen paths; an attacker's inventions are not counted.
                None if known < 64 => state.seen.push((path.to_owned(), 1)),
                None => {}
            }
            let armed = state.faults.iter_mut();
            let mut armed = armed.filter(|(of, _, left)| is_of(method, path, of) && *left > 0);
            let (of, fault, left) = armed.next()?;
            *left = left.saturating_sub(1);
            let (of, fault) = (of.clone(), *fault);
            state.count_met(of);
            Some(fault)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Switched) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_of(method: &str, path: &str, of: &str) -> bool {
    match of.split_once(' ') {
        Some((only, of)) => only == method && is_below(path, of),
        None => is_below(path, of),
    }
}

/// `/v1/keys/00ad` is below `/v1/keys`, `/v1/keysets` is not.
fn is_below(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) async fn inject(
    State(switch): State<FaultSwitch>,
    request: Request,
    next: Next,
) -> Response {
    match switch.take(request.method().as_str(), request.uri().path()) {
        None => next.run(request).await,
        Some(Fault::Refuse) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Fault::Fail) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::TooMany(seconds)) => {
            let wait = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, wait).into_response()
        }
        Some(Fault::Forbid) => StatusCode::FORBIDDEN.into_response(),
        Some(Fault::Hang) => core::future::pending().await,
        Some(Fault::Answer(body)) => json(body),
        Some(Fault::LoseAnswer) => {
            next.run(request).await;
            core::future::pending().await
        }
        Some(Fault::Partial) => {
            let half = |body: Bytes| body.slice(..body.len() / 2);
            rewritten(next.run(request).await, half).await
        }
        Some(Fault::Short(percent)) => {
            rewritten(next.run(request).await, |body| shortened(body, percent)).await
        }
        Some(Fault::WrongSignature) => rewritten(next.run(request).await, with_other_points).await,
        Some(Fault::Ago(seconds)) => {
            rewritten(next.run(request).await, |body| ago(body, seconds)).await
        }
        Some(Fault::Old(seconds)) => {
            let kept = rewritten(next.run(request).await, |body| ago(body, seconds)).await;
            let then = SystemTime::now().checked_sub(Duration::from_secs(seconds));
            let date = httpdate::fmt_http_date(then.unwrap_or(SystemTime::UNIX_EPOCH));
            let of_a_cache = [(header::AGE, seconds.to_string()), (header::DATE, date)];
            (of_a_cache, kept).into_response()
        }
        Some(Fault::Unpaid) => rewritten(next.run(request).await, unpaid).await,
        Some(Fault::Say(instead, this)) => {
            let say = |body: Bytes| match core::str::from_utf8(&body) {
                Ok(text) => text.replace(instead, this).into(),
                Err(_) => body,
            };
            rewritten(next.run(request).await, say).await
        }
    }
}

fn json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// The answer with another body; one that is no success stays as it is.
async fn rewritten(answer: Response, change: impl FnOnce(Bytes) -> Bytes) -> Response {
    if !answer.status().is_success() {
        return answer;
    }
    match to_bytes(answer.into_body(), ANSWER_MAX).await {
        Ok(body) => json(change(body)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ago(body: Bytes, seconds: u64) -> Bytes {
    let Ok(mut info) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    if let Some(time) = info.get_mut("time")
        && let Some(now) = time.as_u64()
    {
        *time = now.saturating_sub(seconds).into();
    }
    info.to_string().into()
}

fn unpaid(body: Bytes) -> Bytes {
    let Ok(mut quote) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    if let Some(fields) = quote.as_object_mut() {
        fields.insert("state".into(), "UNPAID".into());
        fields.insert("amount_paid".into(), 0.into());
    }
    quote.to_string().into()
}

fn shortened(body: Bytes, percent: u8) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    for name in ["signatures", "outputs", "states"] {
        if let Some(list) = answer.get_mut(name).and_then(Value::as_array_mut) {
            list.truncate(list.len().saturating_mul(percent.into()) / 100);
        }
    }
    answer.to_string().into()
}

fn with_other_points(body: Bytes) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice(&body) else {
        return body;
    };
    change_points(&mut answer);
    answer.to_string().into()
}

/// Signatures are called `C_`; keys are under `keys`, by their amounts.
fn change_points(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(change_points),
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_key = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
                if value.is_string() && (name == "C_" || is_key) {
                    *value = OTHER_POINT.into();
                } else {
                    change_points(value);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_the_method_that_it_names() {
        let switch = FaultSwitch::default();
        switch.set("GET /v1/mint/quote", Fault::Fail, 9);
        switch.set("/v1/keys", Fault::Hang, 9);
        for (method, path, fault) in [
            ("GET", "/v1/mint/quote/bolt11/7", Some(Fault::Fail)),
            ("POST", "/v1/mint/quote/bolt11", None),
            ("GET", "/v1/mint/quotes", None),
            ("GET", "/v1/keys/00ad", Some(Fault::Hang)),
            ("POST", "/v1/keys", Some(Fault::Hang)),
        ] {
            assert_eq!(switch.take(method, path), fault, "{method} {path}");
        }
        let met = ["GET /v1/mint/quote", "/v1/keys", "/v1/swap"].map(|path| switch.met_for(path));
        assert_eq!((met, switch.met()), ([1, 2, 0], 3));
    }
}
