//! A streamer and viewers in one process.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use streampay_core::{
    driver::Link,
    meter::{Grant, Rate, Reading, Schedule, Tariff},
    units::Msat,
};
use streampay_media::{
    peer::{PeerConfig, ViewerConnection, ViewerPeer, ViewerStream},
    source::{FileOptions, Source},
    whep::{Arrival, Client, Server, ServerConfig, UnboundPlace},
};
use tokio::sync::{mpsc, watch};

pub(crate) fn asset(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/assets")
        .join(name)
}

pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) source: Arc<Source>,
}

/// Both ends of one viewer.
pub(crate) struct Pair {
    pub(crate) viewer: ViewerStream,
    pub(crate) streamer: ViewerConnection,
    pub(crate) link: Link,
    pub(crate) place: UnboundPlace,
}

impl Rig {
    pub(crate) async fn new(speed: u32) -> Self {
        Self::with(&asset("clip.ivf"), speed, |_| {}).await
    }

    pub(crate) async fn with(
        file: &std::path::Path,
        speed: u32,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let speed = NonZeroU32::new(speed).unwrap();
        let source = Source::open(file, FileOptions { speed }).await.unwrap();
        Self::of(source, change).await
    }

    pub(crate) async fn of(source: Arc<Source>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig {
            peer: PeerConfig::loopback(),
            // All viewers are of one household here.
            offers_per_minute: u32::MAX,
            ..Default::default()
        };
        change(&mut config);
        let (server, arrivals) = Server::new(source.clone(), config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = server
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self {
            url: format!("http://{address}/whep"),
            address,
            arrivals,
            source,
        }
    }

    pub(crate) async fn connect(&mut self) -> Pair {
        let config = PeerConfig::loopback();
        let connect = ViewerPeer::connect(&Client, &self.url, &config, Reading::default());
        let (viewer, arrival) = tokio::join!(connect, self.arrivals.recv());
        let Arrival {
            link,
            connection,
            place,
            ..
        } = arrival.unwrap();
        Pair {
            viewer: viewer.unwrap(),
            streamer: connection,
            link,
            place,
        }
    }
}

/// One msat a millisecond.
pub(crate) fn open(limit: u64) -> Grant {
    let rate = Rate::new(Msat::new(1).unwrap(), 1).unwrap();
    Grant::Open {
        limit: Msat::new(limit).unwrap(),
        schedule: Schedule {
            tariff: Tariff {
                time: Some(rate),
                bytes: None,
            },
            ..Schedule::default()
        },
    }
}

/// Waits until the value is right, at most 20 s.
pub(crate) async fn until<T: Copy + std::fmt::Debug>(
    values: &mut watch::Receiver<T>,
    mut right: impl FnMut(&T) -> bool,
) -> T {
    let waited = async {
        values
            .wait_for(|value| right(value))
            .await
            .map(|value| *value)
    };
    if let Ok(value) = tokio::time::timeout(Duration::from_secs(20), waited).await {
        return value.unwrap();
    }
    panic!("still {:?}", *values.borrow())
}

/// Waits until the value stands still for `quiet`.
pub(crate) async fn settled<T: Copy + PartialEq>(
    values: &mut watch::Receiver<T>,
    quiet: Duration,
) -> T {
    while let Ok(Ok(())) = tokio::time::timeout(quiet, values.changed()).await {}
    *values.borrow()
}

/// Tasks of this test's own runtime, each connection's among them.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Waits until no more tasks are left, at most 20 s: closing takes a moment.
pub(crate) async fn at_most_tasks(most: usize) {
    let ended = async {
        while tasks() > most {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(ended.is_ok(), "{} tasks, not {most}", tasks());
}
