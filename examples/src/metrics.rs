//! `/healthz` and `/metrics` of `streamer serve`, on a listener of their own: for supervisors and
//! for Prometheus (text format 0.0.4). No secret is in them, and no name or number of a viewer.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use streampay_core::driver::Node;
use streampay_core::units::SessionId;
use tokio::net::TcpListener;

use crate::board::{Board, Snapshot, Stands};
use crate::error::AppError;
use crate::http::{self, Limits};

/// How long the store may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// No session has this name: it is 256 random bits.
const NOBODY: SessionId = SessionId([0; 32]);

/// Where metrics are served: a port of this machine alone, or an address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsAt(pub SocketAddr);

impl FromStr for MetricsAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        let address = text.parse().map(Self);
        address.map_err(|_| "say a port, such as 9464, or an address and a port".to_owned())
    }
}

/// Serves both at `at`, until the process ends. The address that it has.
///
/// # Errors
/// [`AppError::Metrics`] where it cannot listen there.
pub async fn serve(
    at: MetricsAt,
    node: Arc<Node>,
    board: &'static Board,
) -> Result<SocketAddr, AppError> {
    let failed = |error| AppError::Metrics(at.0, error);
    let listener = TcpListener::bind(at.0).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let app = router(node, board);
    tokio::spawn(http::serve(
        listener,
        app,
        Limits::default(),
        std::future::pending(),
    ));
    Ok(address)
}

pub(crate) fn router(node: Arc<Node>, board: &'static Board) -> Router {
    let shared = Shared { node, board };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

#[derive(Clone)]
struct Shared {
    node: Arc<Node>,
    board: &'static Board,
}

/// True where the store answers. One that failed to write refuses everything, reads too, until it is
/// opened anew, and nobody is served without it; nothing is written to find out.
pub async fn store_stands(node: &Node) -> bool {
    let asked = tokio::time::timeout(PATIENCE, node.records_of(NOBODY)).await;
    matches!(asked, Ok(Ok(_)))
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let stands = store_stands(&shared.node).await;
    let (code, store) = match stands {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let body = json!({"healthy": stands, "store": store}).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let stands = store_stands(&shared.node).await;
    let text = text(&shared.board.snapshot(), shared.board.began, stands);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What a family is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// One after another, each with its help and type.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family {
            name: name.to_owned(),
            text: &mut self.0,
        }
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help).value("", value);
    }
}

struct Family<'a> {
    name: String,
    text: &'a mut String,
}

impl Family<'_> {
    fn value(&mut self, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn text(shown: &Snapshot, began: SystemTime, store: bool) -> String {
    use Kind::{Counter, Gauge};
    let (mut text, totals) = (Text::default(), &shown.totals);
    let version = env!("CARGO_PKG_VERSION");
    text.family("streampay_build_info", Gauge, "The version, as a label.")
        .value(&format!("{{version=\"{version}\"}}"), 1);
    let since = began
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let help = "When the process began, in seconds since 1970.";
    text.one("streampay_start_time_seconds", Gauge, help, since.as_secs());
    let help = "1 while the store takes what is written; else nobody is served.";
    text.one("streampay_store_up", Gauge, help, store.into());
    let help = "Sessions that are not over, by how they stand.";
    let mut sessions = text.family("streampay_sessions", Gauge, help);
    for stands in Stands::ALL
        .into_iter()
        .filter(|stands| *stands != Stands::Settled)
    {
        let so = shown.rows.iter().filter(|(_, row)| row.stands == stands);
        let count = u64::try_from(so.count()).unwrap_or(u64::MAX);
        sessions.value(&format!("{{state=\"{}\"}}", stands.word()), count);
    }
    let help = "Sessions that ended, by why (spec/registry.md, close codes).";
    let mut closed = text.family("streampay_sessions_closed_total", Counter, help);
    for (code, count) in &totals.closed {
        closed.value(&format!("{{code=\"{code}\"}}"), *count);
    }
    for (name, help, value) in [
        (
            "sessions_begun",
            "Sessions that were bound for the first time.",
            totals.begun,
        ),
        (
            "sessions_resumed",
            "Connections that took up an earlier session.",
            totals.resumed,
        ),
        (
            "sessions_settled",
            "Sessions whose money is where it belongs.",
            totals.settled,
        ),
        (
            "connections_lost",
            "Connections that were lost.",
            totals.lost,
        ),
        ("ticks", "Payments accepted and durable.", totals.ticks),
        ("ticks_refused", "Payments refused.", totals.refused),
        (
            "received_msat",
            "What was accepted, tips and joining included.",
            totals.received.msat(),
        ),
        (
            "tips_msat",
            "What of it was for no media.",
            totals.tips.msat(),
        ),
        ("pauses", "Times that a session paused.", totals.pauses),
        (
            "troubles",
            "Times that a mint or the chain could not do something.",
            totals.troubles,
        ),
        (
            "misbehaved",
            "Times that a viewer broke the protocol.",
            totals.misbehaved,
        ),
    ] {
        text.one(&format!("streampay_{name}_total"), Counter, help, value);
    }
    text.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use streampay_core::driver::StoreWriter;
    use streampay_core::store::{ChangeSet, MemoryStore, StoreError};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(at: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Whoever looks after the process is to start it anew; until then it says all that it did before.
    #[tokio::test]
    async fn store_that_failed_is_told_to_supervisors_and_to_prometheus() {
        let mut store = MemoryStore::new();
        store.fail_from_now_on();
        let writer = StoreWriter::start(Box::new(store)).unwrap();
        let node = Node::builder(writer.clone()).build().await.unwrap();
        let board = Box::leak(Box::new(Board::new(false)));
        let anywhere = "127.0.0.1:0".parse().map(MetricsAt).unwrap();
        let at = serve(anywhere, node, board).await.unwrap();
        for (fails, code, store, up) in [(false, 200, "ok", 1), (true, 503, "failed", 0)] {
            if fails {
                let mut changes = ChangeSet::new();
                changes.put(*b"n", *b"x");
                let failed = writer.append(changes).await;
                assert_eq!(failed, Err(StoreError::Failed));
            }
            let (status, body) = get(at, "/healthz").await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(status, code, "{body}");
            assert_eq!(body, json!({"healthy": !fails, "store": store}));
            let (status, text) = get(at, "/metrics").await;
            assert_eq!(status, 200, "{text}");
            assert!(
                text.contains(&format!("\nstreampay_store_up {up}\n")),
                "{text}"
            );
            assert!(text.contains("\nstreampay_ticks_total 0\n"), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_this_machines() {
        let parse = |text: &str| text.parse::<MetricsAt>().map(|at| at.0.to_string());
        assert_eq!(parse("9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(parse("0.0.0.0:9464").as_deref(), Ok("0.0.0.0:9464"));
        assert_eq!(parse("[::1]:0").as_deref(), Ok("[::1]:0"));
        assert!(parse("here").is_err() && parse("70000").is_err());
    }

    /// What `promtool check metrics` looks at: every sample is of a family that was declared before
    /// it, once, with help and type; counters end in `_total`; labels are of a known few.
    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut shown = Snapshot::default();
        shown.totals.closed.insert("Done".to_owned(), 3);
        let text = text(&shown, SystemTime::UNIX_EPOCH, true);
        let (mut declared, mut typed) = (BTreeSet::new(), BTreeSet::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(name), Some(_)) => {
                    assert!(declared.insert(name.to_owned()), "{name} twice");
                }
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                    assert!(declared.contains(name) && typed.insert(name.to_owned()));
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                }
                (Some(sample), Some(value), None, None) => {
                    let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
                    assert!(typed.contains(name), "{line}");
                    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                    assert!(
                        labels.ends_with('}') && value.parse::<u64>().is_ok(),
                        "{line}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(text.contains("streampay_sessions_closed_total{code=\"Done\"} 3\n"));
        assert!(text.contains("streampay_sessions{state=\"away\"} 0\n"));
    }
}
