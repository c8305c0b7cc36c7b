//! HTTP to mints, where every request is bounded in time and size, and a mint that says "too many
//! requests" is left alone for as long as it asks.
//!
//! cdk's own transport waits for ever, reads up to a gigabyte, and keeps one connection a wallet
//! on which a request that hangs holds up all others. Here each request has a connection of its
//! own: mints answer HTTP/1.1 without `Connection: keep-alive`, so that none would be used twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use cdk::nuts::AuthToken;
use cdk::wallet::HttpTransport;
use cdk_common::ws_client::{WsError, WsReceiver, WsSender};
use cdk_common::{HttpError, RawResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use streampay_cashu::{CallBudget, SwapPolicy};
use streampay_core::units::Msat;
use tokio::time::Instant;
use url::Url;

/// What a mint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintLimits {
    /// How long one request may take, its answer included.
    pub request: Duration,
    /// How long a Lightning payment is waited for. One that takes longer is looked for by the next
    /// withdrawal, or by `recover`.
    pub payment: Duration,
    /// The longest answer, in bytes.
    pub answer_bytes: usize,
    /// How long to leave a mint alone that answers 429 and does not say how long. Doubled each
    /// time in a row, up to [`Self::pause_most`].
    pub pause: Duration,
    /// The longest time a mint is left alone, whatever it says.
    pub pause_most: Duration,
    /// What sessions ask of one mint at most, which limits its callers by their address: as much as
    /// the common mints allow (nutshell and cdk: 20 swaps a minute). A mint on this very machine is
    /// asked as often as there is something to ask.
    pub calls: CallBudget,
    /// How long a request to a mint that answers 429 waits and is sent again, in all. None for
    /// sessions, which have their own pace and go on within what is paid.
    pub patience: Duration,
    /// The most that an input may cost, in thousandths of a satoshi: no session is paid at a mint
    /// that takes more.
    pub max_fee_ppk: u64,
    /// NUTs that a mint must have besides those that each way to pay needs.
    pub nuts: &'static [u8],
    /// The most that a mint may take on top of a payment that it swaps, in thousandths of it.
    pub max_fee_permille: u64,
    /// The most that may be earned at one mint and not redeemed yet, over all sessions.
    pub exposure: Msat,
    /// What of that is another at one mint.
    pub each: &'static [LimitsAt],
    /// How long a streamer relies on what it found a mint to be, before it looks again.
    pub looked_at_for: Duration,
}

/// What is another at one mint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsAt {
    /// Its address, as terms have it.
    pub mint: String,
    /// As [`MintLimits::max_fee_ppk`].
    pub max_fee_ppk: Option<u64>,
    /// As [`MintLimits::exposure`].
    pub exposure: Option<Msat>,
    /// As [`MintLimits::nuts`].
    pub nuts: Option<Vec<u8>>,
}

impl MintLimits {
    /// The most that an input may cost at `mint`, in thousandths of a satoshi.
    #[must_use]
    pub fn max_fee_ppk_at(&self, mint: &str) -> u64 {
        let own = self.each.iter().filter(|own| own.mint == mint);
        let own = own.filter_map(|own| own.max_fee_ppk).next_back();
        own.unwrap_or(self.max_fee_ppk)
    }

    /// What `mint` must have besides what each way to pay needs.
    #[must_use]
    pub fn nuts_at(&self, mint: &str) -> Vec<u8> {
        let own = self.each.iter().filter(|own| own.mint == mint);
        let own = own.filter_map(|own| own.nuts.as_ref()).next_back();
        own.cloned().unwrap_or_else(|| self.nuts.to_vec())
    }

    /// The most that an input may cost, in thousandths of a satoshi, where nobody says otherwise: a
    /// satoshi.
    pub const MAX_FEE_PPK: u64 = 1_000;

    /// For a user's command, which had better be done than fail: a mint that says "too many
    /// requests" is asked again for a minute.
    #[must_use]
    pub const fn patient(self) -> Self {
        Self {
            patience: Duration::from_secs(60),
            ..self
        }
    }
}

impl Default for MintLimits {
    fn default() -> Self {
        Self {
            // A melt is answered when the Lightning payment is through, which may take so long.
            request: Duration::from_secs(60),
            payment: Duration::from_secs(120),
            // The keys of one keyset take 6 kB, 1000 signatures with DLEQ 400 kB.
            answer_bytes: 8 * 1024 * 1024,
            pause: Duration::from_secs(1),
            pause_most: Duration::from_secs(60),
            calls: CallBudget {
                per_minute: 20,
                burst: 20,
            },
            patience: Duration::ZERO,
            max_fee_ppk: Self::MAX_FEE_PPK,
            nuts: &[],
            max_fee_permille: SwapPolicy::default().max_fee_permille,
            // A few hours of one dear stream, or an hour of a hundred cheap ones.
            exposure: Msat::from_sat(100_000).unwrap_or(Msat::MAX),
            each: &[],
            looked_at_for: Duration::from_secs(60),
        }
    }
}

/// The transport of one wallet. Clones share what is known of each host.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    limits: MintLimits,
    pauses: Arc<Mutex<BTreeMap<String, Pause>>>,
    dates: Dates,
    routes: Routes,
}

/// What time it was at each host when it last answered, by its own word. Source: RFC 9110 6.6.1.
pub(super) type Dates = Arc<Mutex<BTreeMap<String, SystemTime>>>;

/// For tests: hosts that are really somewhere else, by their origin.
pub(super) type Routes = Arc<Mutex<BTreeMap<String, String>>>;

/// A host that wants to be left alone.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    in_a_row: u32,
}

/// A wallet talks to its mint and to few Lightning addresses.
const HOSTS_MAX: usize = 64;
const TOO_MANY: u16 = 429;

impl Transport {
    pub(super) fn new(limits: MintLimits, dates: Dates, routes: Routes) -> Self {
        Self {
            limits,
            pauses: Arc::default(),
            dates,
            routes,
        }
    }

    /// How long `url`'s host wants to be left alone from now on.
    fn pause_left(&self, url: &Url) -> Duration {
        let left = self.with(|pauses| pauses.get(&origin(url)).copied());
        left.map_or(Duration::ZERO, |pause| {
            pause.until.saturating_duration_since(Instant::now())
        })
    }

    /// A request that was answered with 429 is not done, so it can be sent again.
    async fn send(&self, request: bitreq::Request, url: &Url) -> Result<RawResponse, HttpError> {
        let until = Instant::now() + self.limits.patience;
        loop {
            let left = self.pause_left(url);
            if left.is_zero() {
                match self.send_once(request.clone(), url).await {
                    Err(HttpError::Status { status, .. }) if status == TOO_MANY => {}
                    done => return done,
                }
            } else if Instant::now() + left > until {
                return Err(too_many());
            } else {
                tokio::time::sleep(left).await;
            }
        }
    }

    async fn send_once(
        &self,
        request: bitreq::Request,
        url: &Url,
    ) -> Result<RawResponse, HttpError> {
        let seconds = self.limits.request.as_secs().saturating_add(1);
        let request = request
            .with_timeout(seconds)
            .with_max_redirects(0)
            .with_max_headers_size(64 * 1024)
            .with_max_status_line_length(1024)
            .with_max_body_size(self.limits.answer_bytes);
        let sent = tokio::time::timeout(self.limits.request, request.send_async()).await;
        let answer = sent.map_err(|_| HttpError::Timeout)??;
        let status = u16::try_from(answer.status_code).unwrap_or_default();
        if status == TOO_MANY {
            // RFC 9110 10.2.3: seconds; the other form, a date, is rare and taken as none.
            let wanted = answer.headers.get("retry-after");
            let wanted = wanted.and_then(|value| value.trim().parse().ok());
            self.pause(url, wanted.map(Duration::from_secs));
            return Err(too_many());
        }
        self.with(|pauses| pauses.remove(&origin(url)));
        let date = answer.headers.get("date");
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let age = age(&answer);
        if let Some(date) = date.and_then(|date| date.checked_add(age)) {
            let mut dates = self.dates.lock().unwrap_or_else(PoisonError::into_inner);
            if dates.len() >= HOSTS_MAX {
                dates.clear();
            }
            dates.insert(origin(url), date);
        }
        let body = match age.is_zero() || !url.path().ends_with("/v1/info") {
            true => answer.into_bytes(),
            false => at_its_age(answer.into_bytes(), age),
        };
        Ok(RawResponse::new(status, body))
    }

    fn pause(&self, url: &Url, wanted: Option<Duration>) {
        self.with(|pauses| {
            let in_a_row = pauses.get(&origin(url)).map_or(0, |pause| pause.in_a_row);
            let factor = 1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX);
            let by_ourselves = self.limits.pause.saturating_mul(factor);
            // At least a moment, so that nobody asks in a circle.
            let length = wanted
                .unwrap_or(by_ourselves)
                .max(Duration::from_millis(10));
            let length = length.min(self.limits.pause_most);
            if pauses.len() >= HOSTS_MAX {
                pauses.clear();
            }
            let pause = Pause {
                until: Instant::now() + length,
                in_a_row: in_a_row.saturating_add(1),
            };
            pauses.insert(origin(url), pause);
        });
    }

    /// Where `url` really is.
    fn place(&self, url: &Url) -> String {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = origin(url);
        match (routes.get(&origin), url.as_str().strip_prefix(&origin)) {
            (Some(real), Some(rest)) => format!("{real}{rest}"),
            _ => url.to_string(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Pause>) -> T) -> T {
        act(&mut self.pauses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl HttpTransport for Transport {
    async fn ws_connect(
        &self,
        _url: &str,
        _headers: &[(&str, &str)],
    ) -> Result<(WsSender, WsReceiver), WsError> {
        // The wallets ask by HTTP: nothing else is bounded.
        Err(WsError::NotSupported("not used".to_owned()))
    }

    fn with_proxy(
        &mut self,
        _proxy: Url,
        _hosts: Option<&str>,
        _any_certificate: bool,
    ) -> Result<(), HttpError> {
        Err(HttpError::Proxy("not supported".to_owned()))
    }

    async fn http_get<R>(&self, url: Url, auth: Option<AuthToken>) -> Result<R, HttpError>
    where
        R: DeserializeOwned,
    {
        self.http_get_raw(url, auth).await?.json_or_status_error()
    }

    async fn http_get_raw(
        &self,
        url: Url,
        auth: Option<AuthToken>,
    ) -> Result<RawResponse, HttpError> {
        // What a cache has kept is no answer: the mint's time and keys are as they are now.
        let request = bitreq::get(self.place(&url)).with_header("Cache-Control", "no-cache");
        let request = authorized(request, auth);
        self.send(request, &url).await
    }

    async fn http_post<P, R>(
        &self,
        url: Url,
        auth: Option<AuthToken>,
        payload: &P,
    ) -> Result<R, HttpError>
    where
        P: Serialize + Send + Sync,
        R: DeserializeOwned,
    {
        let request = bitreq::post(self.place(&url))
            .with_header("Content-Type", "application/json")
            .with_body(serde_json::to_vec(payload)?);
        let answer = self.send(authorized(request, auth), &url).await?;
        answer.json_or_status_error()
    }

    async fn http_post_form_raw<P>(
        &self,
        _url: Url,
        _auth: Option<AuthToken>,
        _payload: &P,
    ) -> Result<RawResponse, HttpError>
    where
        P: Serialize + Send + Sync,
    {
        // For mints that want a login, which these wallets do not have.
        Err(HttpError::Other("not supported".to_owned()))
    }
}

fn authorized(request: bitreq::Request, auth: Option<AuthToken>) -> bitreq::Request {
    match auth {
        Some(auth) => request.with_header(auth.header_key(), auth.to_string()),
        None => request,
    }
}

/// How long a cache on the way has kept an answer: its date is as old. Source: RFC 9111 5.1.
fn age(answer: &bitreq::Response) -> Duration {
    let age = answer.headers.get("age");
    let age = age.and_then(|age| age.trim().parse().ok());
    Duration::from_secs(age.unwrap_or_default())
}

/// What a mint says of itself with its time as it is by now. Source: NUT-06.
fn at_its_age(body: Vec<u8>, age: Duration) -> Vec<u8> {
    let Ok(mut info) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return body;
    };
    if let Some(time) = info.get_mut("time")
        && let Some(then) = time.as_u64()
    {
        *time = then.saturating_add(age.as_secs()).into();
        return info.to_string().into_bytes();
    }
    body
}

pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn too_many() -> HttpError {
    HttpError::Status {
        status: TOO_MANY,
        message: "too many requests".to_owned(),
    }
}
