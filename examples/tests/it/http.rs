//! Callers that send slowly, little or too much.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use streampay_examples::http::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SHORT: Duration = Duration::from_millis(300);
/// More than anything here may take, less than any limit that is not under test.
const PATIENCE: Duration = Duration::from_secs(8);
const HALF: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nX: ";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn start(change: impl FnOnce(&mut Limits)) -> Served {
    let mut limits = Limits::default();
    change(&mut limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = post(|body: String| async { body }).get(|| async { "here" });
    let router = Router::new().route("/", echo);
    let (stop, wanted) = oneshot::channel();
    let server = tokio::spawn(serve(listener, router, limits, async {
        let _ = wanted.await;
    }));
    Served {
        address,
        stop,
        server,
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// What comes until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // Reset counts as closed.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn half_open_connections_keep_nobody_out() {
    let served = start(|limits| {
        limits.head = SHORT;
        limits.connections_per_address = limits.connections;
    })
    .await;
    let mut half_open = Vec::new();
    for _ in 0..300 {
        half_open.push(send(served.address, HALF).await);
    }
    let answer = rest(send(served.address, GET).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in half_open {
        rest(stream).await;
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let served = start(|limits| limits.connections_per_address = 4).await;
    let mut half_open = Vec::new();
    for _ in 0..4 {
        half_open.push(send(served.address, HALF).await);
    }
    let refused = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(rest(refused).await, "");
    if cfg!(target_os = "linux") {
        // All of 127.0.0.0/8 is this machine.
        let other = TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = other.connect(served.address).await.unwrap();
        other.write_all(GET).await.unwrap();
        assert!(rest(other).await.ends_with("here"));
    }
    // A place comes back with its connection.
    half_open.pop();
    loop {
        let mut again = TcpStream::connect(served.address).await.unwrap();
        // Fails where it is refused already.
        let _ = again.write_all(GET).await;
        if rest(again).await.ends_with("here") {
            break;
        }
    }
}

#[tokio::test]
async fn idle_connections_and_slow_bodies_end() {
    let served = start(|limits| {
        limits.head = SHORT;
        limits.body = SHORT;
    })
    .await;
    let idle = send(served.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(rest(idle).await.ends_with("here"));
    let silent = TcpStream::connect(served.address).await.unwrap();
    rest(silent).await;
    let slow = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    let slow = rest(send(served.address, slow).await).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    let whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert!(
        rest(send(served.address, whole).await)
            .await
            .ends_with("abc")
    );
}

#[tokio::test]
async fn too_long_a_body_and_too_long_a_connection_end() {
    let served = start(|limits| {
        limits.body_bytes = 2;
        limits.connection = SHORT;
        limits.last_answer = SHORT;
    })
    .await;
    let long = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let long = rest(send(served.address, long).await).await;
    assert!(long.starts_with("HTTP/1.1 413"), "{long}");
    // The head and the body have ten seconds each: more than the connection.
    rest(send(served.address, HALF).await).await;
    let slow = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
    rest(send(served.address, slow).await).await;
}

#[tokio::test]
async fn stopping_answers_what_is_under_way() {
    let served = start(|_| {}).await;
    let mut under_way = send(
        served.address,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    )
    .await;
    let mut begun = [0; 25];
    soon(under_way.read_exact(&mut begun)).await.unwrap();
    let idle = TcpStream::connect(served.address).await.unwrap();
    served.stop.send(()).unwrap();
    under_way.write_all(b"abc").await.unwrap();
    assert!(rest(under_way).await.ends_with("abc"));
    rest(idle).await;
    soon(served.server).await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
