//! A page on this machine that plays the stream in a browser, while this program pays.
//!
//! The browser has the WebRTC connection and no money; this program has the money and no
//! connection. What comes over the data channel goes through a WebSocket to the session here, and
//! back. The page says which certificates the two ends of its connection have, and how much media
//! came: so the browser is trusted as the viewer's own, and nobody else is. The binding of the
//! session covers the certificates, so a server in between gets nothing, as without a browser.
//!
//! The page is served to this machine alone, at an address that nobody can guess: another page in
//! the same browser can neither read it nor open its WebSocket.

mod relay;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use streampay_core::driver::{ChannelIdentity, Link, LinkEnd, entropy};
use streampay_core::meter::Reading;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::AppError;
use crate::signals::asked_to_end;
use relay::relay;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const METER: &str = include_str!("meter.js");
const STYLE: &str = include_str!("page.css");

/// How long a page that opened its WebSocket has to say what it is connected to.
const OPENING_WAIT: Duration = Duration::from_secs(10);
/// The longest message of a page, in bytes: the longest of a session.
const MESSAGE_MAX: usize = LinkEnd::MESSAGE_MAX;

/// The page's server. Dropped, it ends.
#[derive(Debug)]
pub struct Browser {
    url: String,
    pages: Mutex<mpsc::Receiver<Opened>>,
    server: JoinHandle<()>,
}

/// A page that is connected to the streamer.
#[derive(Debug)]
struct Opened {
    socket: WebSocket,
    identity: ChannelIdentity,
}

/// A connection that a browser has.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) link: Link,
    pub(crate) reading: watch::Receiver<Reading>,
    /// RTP packets of this connection, as the browser counts them.
    pub(crate) packets: watch::Receiver<u64>,
    /// Ends, within seconds, once the session has let go of its link and what it said last has left.
    pub(crate) parted: JoinHandle<()>,
}

impl Browser {
    /// Serves a page that plays the stream at `whep`.
    ///
    /// # Errors
    /// [`AppError`]: no port of this machine can be listened at, or there is no randomness.
    pub async fn start(whep: &str) -> Result<Self, AppError> {
        let drawn = entropy().map_err(AppError::io("no randomness"))?;
        let secret: String = drawn.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(AppError::io("the page cannot be served"))?;
        let at = listener.local_addr();
        let at = at.map_err(AppError::io("the page cannot be served"))?;
        let (to, pages) = mpsc::channel(1);
        let app = routes(&format!("/{secret}/"), whep, to);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the page is gone");
            }
        });
        Ok(Self {
            url: format!("http://{at}/{secret}/"),
            pages: Mutex::new(pages),
            server,
        })
    }

    /// What to open in a browser of this machine. Secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for a page that is connected and wants to be paid for. `initial` is the session's
    /// reading so far.
    pub(crate) async fn next(&self, initial: Reading) -> Result<Page, AppError> {
        let mut pages = self.pages.lock().await;
        let opened = tokio::select! {
            opened = pages.recv() => opened,
            () = asked_to_end() => None,
        };
        let Opened { socket, identity } = opened.ok_or(AppError::Failed("no page was opened"))?;
        let (session, page) = LinkEnd::pair();
        let (reading_to, reading) = watch::channel(initial);
        let (packets_to, packets) = watch::channel(0);
        let told = Told {
            initial,
            reading: reading_to,
            packets: packets_to,
        };
        let parted = tokio::spawn(relay(socket, page, told));
        Ok(Page {
            link: Link {
                identity,
                end: session,
            },
            reading,
            packets,
            parted,
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn routes(base: &str, whep: &str, pages: mpsc::Sender<Opened>) -> Router {
    let html = Arc::new(PAGE.replace("{whep}", &escape(whep)));
    let policy = policy(whep);
    let with = move |kind, body: String| answer(kind, &policy, body);
    let show = with.clone();
    let file = move |kind: &'static str, text: &'static str| {
        let with = with.clone();
        get(move || async move { with(kind, text.to_owned()) })
    };
    let at = |name: &str| format!("{base}{name}");
    let page = get(move || async move { show("text/html; charset=utf-8", html.to_string()) });
    Router::new()
        .route(base, page)
        .route(
            &at("page.js"),
            file("text/javascript; charset=utf-8", SCRIPT),
        )
        .route(
            &at("meter.js"),
            file("text/javascript; charset=utf-8", METER),
        )
        .route(&at("page.css"), file("text/css; charset=utf-8", STYLE))
        .route(&at("session"), get(open))
        .with_state(pages)
}

async fn open(State(pages): State<mpsc::Sender<Opened>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MESSAGE_MAX)
        .max_frame_size(MESSAGE_MAX)
        .on_upgrade(move |mut socket| async move {
            let first = tokio::time::timeout(OPENING_WAIT, socket.recv()).await;
            let Ok(Some(Ok(Message::Text(said)))) = first else {
                return;
            };
            if let Some(identity) = identity(&said) {
                // One page at a time; another one is closed.
                let _ = pages.try_send(Opened { socket, identity });
            }
        })
}

/// Whom the page is connected to: the SHA-256 fingerprints of both certificates, as in SDP.
fn identity(said: &str) -> Option<ChannelIdentity> {
    let said: HashMap<String, String> = serde_json::from_str(said).ok()?;
    let of = |name: &str| fingerprint(said.get(name)?);
    Some(ChannelIdentity {
        payer: of("payer")?,
        payee: of("payee")?,
    })
}

/// 32 bytes in hexadecimal with colons between them. Source: RFC 8122 5.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let byte = |pair: &str| {
        let hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    bytes?.try_into().ok()
}

/// What a page tells of the media that came.
struct Told {
    initial: Reading,
    reading: watch::Sender<Reading>,
    packets: watch::Sender<u64>,
}

impl Told {
    /// False where it makes no sense.
    fn hear(&self, said: &str) -> bool {
        let Ok(said) = serde_json::from_str::<Value>(said) else {
            return false;
        };
        let of = |name: &str| said.get(name).and_then(Value::as_u64);
        let (Some(media_ms), Some(bytes), Some(packets)) =
            (of("media_ms"), of("bytes"), of("packets"))
        else {
            return false;
        };
        let read = Reading {
            media_ms: self.initial.media_ms.saturating_add(media_ms),
            bytes: self.initial.bytes.saturating_add(bytes),
        };
        // A reading never goes back.
        self.reading.send_modify(|reading| {
            reading.media_ms = reading.media_ms.max(read.media_ms);
            reading.bytes = reading.bytes.max(read.bytes);
        });
        self.packets.send_replace(packets);
        true
    }
}

/// Nothing runs or loads but the files beside the page, and it talks to this program and to the
/// streamer alone.
fn policy(whep: &str) -> String {
    let streamer = url::Url::parse(whep).map(|url| url.origin().ascii_serialization());
    format!(
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; \
         connect-src 'self' {}; media-src blob: mediastream:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        streamer.unwrap_or_default()
    )
}

fn answer(kind: &'static str, policy: &str, body: String) -> Response {
    let headers: [(HeaderName, String); 4] = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, body).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
