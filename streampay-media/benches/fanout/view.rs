//! The process of all viewers: counts what comes.

use std::sync::Arc;

use streampay_core::{
    driver::{Connected, Link, Node, Ports, SessionTask, entropy},
    meter::Reading,
    session::{PayerConfig, PayerSession, Policy, SecretKey},
    sim::FakeBackend,
    units::Msat,
};
use streampay_media::{
    peer::{Connection, PeerConfig, Receiving, ViewerPeer, ViewerStream},
    whep::Client,
};
use tokio::sync::watch;

use crate::{Sender, janus, ours, wait_for_line};

enum Viewer {
    Ours {
        receiving: watch::Receiver<Receiving>,
        _connection: Connection,
        _link: Option<Link>,
    },
    Janus(janus::Viewer),
}

impl Viewer {
    async fn connect(sender: Sender, url: &str, node: &Arc<Node>) -> Self {
        if sender == Sender::Janus {
            return Self::Janus(janus::Viewer::connect(url).await);
        }
        let config = PeerConfig {
            link_deadline: std::time::Duration::from_secs(60),
            ..PeerConfig::loopback()
        };
        #[cfg(feature = "e2ee")]
        if sender == Sender::Sealed {
            return Self::sealed(url, &config).await;
        }
        let connecting = ViewerPeer::connect(&Client, url, &config, Reading::default());
        let ViewerStream {
            link,
            mut packets,
            reading,
            receiving,
            connection,
            ..
        } = connecting.await.unwrap();
        tokio::spawn(async move { while packets.recv().await.is_some() {} });
        let mut kept = Some(link);
        if sender == Sender::Session
            && let Some(link) = kept.take()
        {
            tokio::spawn(pay(node.clone(), link, reading));
        }
        Self::Ours {
            receiving,
            _connection: connection,
            _link: kept,
        }
    }

    #[cfg(feature = "e2ee")]
    async fn sealed(url: &str, config: &PeerConfig) -> Self {
        use streampay_core::session::{Event, MediaGrant, SEALED_MEDIA};
        use streampay_core::{meter::Tariff, units::SessionId, units::Unix, wire::Terms};
        use streampay_media::seal::Keyring;

        let keys = Keyring::new();
        let initial = Reading::default();
        let connecting = ViewerPeer::connect_sealable(&Client, url, config, initial, &keys);
        let stream = connecting.await.unwrap();
        let terms = Terms {
            title: String::new(),
            tariff: Tariff::default(),
            tick: Msat::new(1).unwrap(),
            preview: Msat::ZERO,
            window: Msat::ZERO,
            tolerance_permille: 0,
            tolerance_ms: 0,
            live_ms: 0,
            methods: Vec::new(),
            join_fee: Msat::ZERO,
            resumable_s: 0,
            expires: Unix(0),
            payee: ours::identity().public(),
        };
        // As a session says.
        let bound = Event::Bound {
            session: SessionId([0; 32]),
            terms,
            resumed: false,
            features: SEALED_MEDIA,
        };
        keys.note(&bound).unwrap();
        let mut packets = stream.packets;
        tokio::spawn(async move { while packets.recv().await.is_some() {} });
        let link = stream.link;
        tokio::spawn(async move {
            // The whole of it: where one end is dropped, the connection is closed.
            let mut link = link;
            while let Some(grant) = link.end.incoming.recv().await {
                keys.note(&Event::Grant(MediaGrant(grant))).unwrap();
            }
        });
        Self::Ours {
            receiving: stream.receiving,
            _connection: stream.connection,
            _link: None,
        }
    }

    /// Packets, frames where they are sealed; and what was missing.
    fn count(&self) -> (u64, u64) {
        match self {
            Self::Ours { receiving, .. } => {
                let receiving = *receiving.borrow();
                (receiving.packets.video, receiving.gaps.video)
            }
            Self::Janus(viewer) => viewer.count(),
        }
    }
}

/// A payer with its own identity.
pub(crate) fn payer() -> PayerSession {
    let budget = Msat::from_sat(1000).unwrap();
    let config = PayerConfig {
        identity: SecretKey::derive(&entropy().unwrap(), "identity").unwrap(),
        payee: ours::identity().public(),
        policy: Policy {
            budget,
            max_purse: budget,
            max_tariff: ours::tariff(),
            max_tick: ours::tick(),
            methods: vec![FakeBackend::STEPS.into()],
            stall_close_ms: 60_000,
        },
    };
    PayerSession::new(config, &entropy().unwrap()).unwrap()
}

/// Pays until the connection ends.
async fn pay(node: Arc<Node>, link: Link, usage: watch::Receiver<Reading>) {
    let (ports, mut user) = Ports::pair();
    tokio::spawn(async move { while user.events.recv().await.is_some() {} });
    let mut task = SessionTask::new(node, payer(), ports);
    let stopped = task.run(Some(Connected { link, usage })).await;
    eprintln!("a session stopped: {stopped:?}");
}

/// Connects all of them, then counts between two lines on stdin.
pub(crate) async fn all(sender: Sender, url: &str, viewers: usize) {
    let node = ours::node(|effect, mint| mint.run(effect)).await;
    let mut watching = Vec::new();
    while watching.len() < viewers {
        let connect = || Viewer::connect(sender, url, &node);
        // Four at a time.
        let most = viewers - watching.len();
        if most >= 4 {
            let four = tokio::join!(connect(), connect(), connect(), connect());
            watching.extend([four.0, four.1, four.2, four.3]);
        } else {
            watching.push(connect().await);
        }
    }
    let count = || {
        watching.iter().fold((0, 0), |sum, viewer| {
            let (packets, missing) = viewer.count();
            (sum.0 + packets, sum.1 + missing)
        })
    };
    println!("ready");
    wait_for_line().await;
    let before = count();
    println!("begun");
    wait_for_line().await;
    let after = count();
    println!("packets {} {}", after.0 - before.0, after.1 - before.1);
    wait_for_line().await;
    // Sessions need not settle.
    std::process::exit(0);
}
