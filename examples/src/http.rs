//! Serving HTTP to strangers: everything that a connection may take is bounded.
//!
//! `axum::serve` sets no timer, so that a connection which never sends its request is kept for
//! ever: a thousand of them stop a process. Here a connection has a deadline for each request's
//! head and body and one for itself, and there are so many of them at once, in all and for each
//! household (CWE-400, CWE-770).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use streampay_media::whep::{Place, Places};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// What callers may take. The defaults are for a server that anybody reaches.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all. Further ones wait until one ends.
    pub connections: usize,
    /// Connections from one IPv4 address or IPv6 /64. Further ones are closed at once. As many as
    /// in all for a server whose callers share an address: behind a proxy, or on one machine.
    pub connections_per_address: usize,
    /// How long a request's head may take, and so how long a connection may be idle.
    pub head: Duration,
    /// How long a request's body may take.
    pub body: Duration,
    /// The longest body of a request, in bytes.
    pub body_bytes: usize,
    /// How long a connection may last; a request under way then is still answered.
    pub connection: Duration,
    /// How long answering may take after that, or once the server stops.
    pub last_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 16,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            // An offer has at most half of it.
            body_bytes: 128 * 1024,
            connection: Duration::from_secs(120),
            last_answer: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// For a server whose many callers share an address, and send longer requests: a mint.
    #[must_use]
    pub fn shared_address() -> Self {
        let limits = Self::default();
        Self {
            connections_per_address: limits.connections,
            // A swap of 1000 inputs for as many outputs takes half of it.
            body_bytes: 2 * 1024 * 1024,
            ..limits
        }
    }
}

/// Serves `router` until `stop` is done and the requests under way are answered. Handlers find the
/// caller as [`ConnectInfo<SocketAddr>`]. Dropped, it closes every connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let semaphore = Arc::new(Semaphore::new(limits.connections));
    let places = Places::new(limits.connections_per_address, usize::MAX);
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &semaphore) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        let Some((stream, caller, permit)) = accepted else {
            continue;
        };
        let Ok(place) = places.take(caller.ip()) else {
            tracing::debug!(%caller, "too many connections from one address");
            continue;
        };
        let held = Held {
            stream,
            _permit: permit,
            _place: place,
        };
        let (router, limits) = (router.clone(), limits.clone());
        connections.spawn(connection(held, caller, router, limits, stopped.clone()));
    }
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// The next connection once there is room for one; none where that failed.
async fn accept(listener: &TcpListener, semaphore: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = semaphore.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, caller)) => Some((stream, caller, permit)),
        Err(error) => {
            // Either the caller is gone already, or file descriptors ran out: that passes.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// One connection, from its first request to its end.
async fn connection(
    held: Held,
    caller: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let (body, body_bytes) = (limits.body, limits.body_bytes);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer = match whole(request, body, body_bytes).await {
                Ok(mut request) => {
                    request.extensions_mut().insert(ConnectInfo(caller));
                    let Ok(answer) = router.call(request).await;
                    answer
                }
                Err(refused) => refused,
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(held), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = tokio::time::sleep(limits.connection) => None,
        _ = stopped.wait_for(|stopped| *stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            let last = tokio::time::timeout(limits.last_answer, served).await;
            last.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%caller, %error, "a connection ended");
    }
}

/// The request with its whole body, or what to answer instead.
async fn whole(
    request: Request<Incoming>,
    within: Duration,
    bytes: usize,
) -> Result<Request<Body>, Response> {
    let (head, body) = request.into_parts();
    let refuse = |status: StatusCode| (status, [(header::CONNECTION, "close")]).into_response();
    let read = tokio::time::timeout(within, to_bytes(Body::new(body), bytes)).await;
    let read = read.map_err(|_| refuse(StatusCode::REQUEST_TIMEOUT))?;
    let body = read.map_err(|_| refuse(StatusCode::PAYLOAD_TOO_LARGE))?;
    Ok(Request::from_parts(head, Body::from(body)))
}

/// A connection that counts as long as its socket is open, also once it speaks WebSocket.
struct Held {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
