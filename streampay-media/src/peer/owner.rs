//! The one owner of a connection of the stack: dropped, it closes it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rtc::{
    crypto::{HashAlgorithm, default_provider},
    dtls::crypto::Certificate,
    peer_connection::{
        certificate::RTCCertificate,
        configuration::RTCIceTransportPolicy,
        transport::{RTCIceCandidateInit, RTCIceServer},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinError,
};
use webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCConfigurationBuilder, RTCIceGatheringState, RTCPeerConnectionState, Registry,
        SettingEngineBuilder, register_default_interceptors,
    },
};

use super::{
    PeerConfig, PeerError,
    ending::Ending,
    feedback::{sending_only, with_feedback},
    network::{self, PortLease},
    sdp::Candidate,
};

/// A connection. The stack goes on answering for one that is merely dropped, so this closes it.
pub(super) struct Peer {
    pub(super) connection: Arc<dyn PeerConnection>,
    /// SHA-256 of this side's certificate.
    own: [u8; 32],
    pub(super) ending: Ending,
    gathered: watch::Receiver<bool>,
    connected: watch::Receiver<bool>,
    announce: Vec<IpAddr>,
    nacked: Arc<AtomicU64>,
    _port: Option<PortLease>,
}

/// What the stack reports.
pub(super) struct Events {
    pub(super) channels: mpsc::Receiver<Arc<dyn DataChannel>>,
    pub(super) tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
}

/// What the other side may open. More is misbehaviour: the stack keeps the messages of channels
/// and logs the packets of tracks that nobody reads, so a connection with such ends at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) channels: usize,
    pub(super) tracks: usize,
}

struct Handler {
    gathered: watch::Sender<bool>,
    connected: watch::Sender<bool>,
    ending: Ending,
    channels: Bounded<Arc<dyn DataChannel>>,
    tracks: Bounded<Arc<dyn TrackRemote>>,
}

/// Takes so many in all, whether or not they are taken out again.
struct Bounded<T> {
    to: mpsc::Sender<T>,
    left: AtomicUsize,
}

impl<T> Bounded<T> {
    fn channel(most: usize) -> (Self, mpsc::Receiver<T>) {
        let (to, from) = mpsc::channel(most.max(1));
        let left = AtomicUsize::new(most);
        (Self { to, left }, from)
    }

    /// False where it is one too many.
    fn push(&self, item: T) -> bool {
        let left = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, left).is_err() {
            return false;
        }
        // There is room for all of them; who receives may be gone, and needs none then.
        let _ = self.to.try_send(item);
        true
    }
}

/// Runs on the stack's own task: nothing here may wait.
#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.connected.send_replace(true);
        }
        if matches!(
            state,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
        ) {
            self.ending.cut();
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if !self.channels.push(channel) {
            self.misbehaved("data channel");
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if !self.tracks.push(track) {
            self.misbehaved("track");
        }
    }
}

impl Handler {
    fn misbehaved(&self, opened: &str) {
        if self.ending.cut() {
            tracing::warn!(opened, "peer opened more than it may");
        }
    }
}

/// Send limit of the data channel, in bytes: 64 of the longest messages.
const SEND_LIMIT: usize = 1024 * 1024;
/// A peer that is gone shows after these: no answer, given up, and how often it is asked.
const ICE_TIMEOUTS: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(1),
];
/// Without STUN servers gathering takes milliseconds.
const GATHER_MAX: Duration = Duration::from_secs(5);
/// A certificate is for one connection only; a day is longer than any.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Peer {
    /// In a task of its own: the stack starts its driver before it has a connection to give, and one whose
    /// connection nobody got never ends. A caller that is dropped leaves a `Peer` that is, too, which closes it.
    pub(super) async fn build(
        config: &PeerConfig,
        engine: MediaEngine,
        expected: Expected,
    ) -> Result<(Arc<Self>, Events), PeerError> {
        let making = tokio::spawn(Self::make(config.clone(), engine, expected));
        match making.await.map_err(JoinError::try_into_panic) {
            Ok(made) => made,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends.
            Err(Err(_)) => Err(PeerError::Closed),
        }
    }

    async fn make(
        config: PeerConfig,
        mut engine: MediaEngine,
        expected: Expected,
    ) -> Result<(Arc<Self>, Events), PeerError> {
        let provider = default_provider().map_err(|_| PeerError::NoCertificate)?;
        let names = vec!["streampay".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        let own = certificate
            .certificate
            .first()
            .ok_or(PeerError::NoCertificate)?;
        let own = sha256(own.as_ref())?;
        let expires = SystemTime::now() + CERTIFICATE_LIFE;
        let certificate = RTCCertificate::from_existing(certificate, expires);
        let nacked = Arc::<AtomicU64>::default();
        // In any case, because the engine learns from it what is negotiated.
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let registry = if expected.tracks > 0 {
            registry
        } else {
            sending_only()
        };
        let registry = with_feedback(registry, nacked.clone());
        let [disconnected, failed, keep_alive] = ICE_TIMEOUTS.map(Some);
        let (gathered_to, gathered) = watch::channel(false);
        let (connected_to, connected) = watch::channel(false);
        let ending = Ending::new();
        let (channels_to, channels) = Bounded::channel(expected.channels);
        let (tracks_to, tracks) = Bounded::channel(expected.tracks);
        let handler = Handler {
            gathered: gathered_to,
            connected: connected_to,
            ending: ending.clone(),
            channels: channels_to,
            tracks: tracks_to,
        };
        let settings = SettingEngineBuilder::new()
            .with_ice_timeouts(disconnected, failed, keep_alive)
            .with_include_loopback_candidate(true)
            .build();
        let servers = config.ice_servers.iter().map(|server| RTCIceServer {
            urls: vec![server.url.clone()],
            username: server.username.clone(),
            credential: server.credential.to_string(),
        });
        let policy = if config.relay_only {
            RTCIceTransportPolicy::Relay
        } else {
            RTCIceTransportPolicy::All
        };
        let port = match &config.ports {
            Some(ports) => Some(ports.take(&config.bind).ok_or(PeerError::NoPort)?),
            None => None,
        };
        let bind = port.as_ref().map(|port| port.addresses(&config.bind));
        let connection = PeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::new()
                    .with_certificates(vec![certificate])
                    .with_ice_servers(servers.collect())
                    .with_ice_transport_policy(policy)
                    .build(),
            )
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_data_channel_send_buffer_limit(SEND_LIMIT)
            .with_udp_addrs(bind.unwrap_or(config.bind))
            .build()
            .await?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        tokio::spawn(close_when_due(connection.clone(), ending.clone()));
        let peer = Self {
            connection,
            own,
            ending,
            gathered,
            connected,
            announce: config.announce,
            nacked,
            _port: port,
        };
        Ok((Arc::new(peer), Events { channels, tracks }))
    }

    /// This side's description with all its candidates.
    pub(super) async fn gathered_sdp(&self) -> Result<String, PeerError> {
        let mut gathered = self.gathered.clone();
        // A server that does not answer costs its candidates, not the connection.
        let _ = tokio::time::timeout(GATHER_MAX, gathered.wait_for(|done| *done)).await;
        let description = self.connection.local_description().await;
        let sdp = description.ok_or(PeerError::Gathering)?.sdp;
        if !sdp.contains("a=candidate:") {
            return Err(PeerError::Gathering);
        }
        Ok(network::announced(&sdp, &self.announce))
    }

    /// SHA-256 of this side's certificate, and of the one that the other side presented.
    pub(super) async fn identities(&self) -> Result<([u8; 32], [u8; 32]), PeerError> {
        let sctp = self
            .connection
            .sctp()
            .await
            .ok_or(PeerError::NoCertificate)?;
        let presented = sctp.transport().get_remote_certificates().await?;
        let theirs = presented.first().ok_or(PeerError::NoCertificate)?;
        Ok((self.own, sha256(theirs)?))
    }

    /// Packets that the other side asked for again.
    pub(super) fn nacked(&self) -> u64 {
        self.nacked.load(Ordering::Relaxed)
    }

    /// Ends when media can flow for the first time; never, where it cannot.
    pub(super) async fn wait_connected(&self) {
        let mut connected = self.connected.clone();
        if connected.wait_for(|connected| *connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when the connection is closed by either side or lost.
    pub(super) async fn wait_closed(&self) {
        self.ending.closed().await;
    }

    /// Closes as [`close`](Self::close) does, without waiting.
    pub(super) fn close_soon(&self) {
        self.ending.leave();
    }

    /// Closes, once what was said last over its link has left.
    pub(super) async fn close(&self) {
        self.ending.leave();
        self.ending.closed().await;
        close(&*self.connection).await;
    }

    /// Closes at once.
    pub(super) async fn cut(&self) {
        self.ending.cut();
        close(&*self.connection).await;
    }
}

/// Whatever ends a connection, this closes it: the peer's misbehaviour and the drop of its owner,
/// where nothing can be waited for.
async fn close_when_due(connection: Arc<dyn PeerConnection>, ending: Ending) {
    ending.due().await;
    ending.cut();
    close(&*connection).await;
}

async fn close(connection: &dyn PeerConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a connection");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its link holds it: nothing is left to be said.
        self.ending.cut();
    }
}

impl core::fmt::Debug for Peer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peer")
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

/// Closes a connection from elsewhere, and tells when it is closed.
#[derive(Clone, Debug)]
pub struct Closer(pub(super) Arc<Peer>);

impl Closer {
    /// Closes it, once what was said over its link has left: at most two seconds later. Does nothing
    /// where it is closed.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Closes it at once: the other side is not there to hear anything, or is not worth it.
    pub(crate) async fn cut(&self) {
        self.0.cut().await;
    }

    /// Ends when the connection is closed by either side or lost.
    pub async fn closed(&self) {
        self.0.wait_closed().await;
    }

    /// The other side can be reached there, too.
    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<(), PeerError> {
        let init = RTCIceCandidateInit {
            candidate: candidate.line,
            sdp_mid: candidate.mid,
            ..RTCIceCandidateInit::default()
        };
        Ok(self.0.connection.add_ice_candidate(init).await?)
    }
}

pub(crate) fn sha256(data: &[u8]) -> Result<[u8; 32], PeerError> {
    let hash = default_provider()
        .ok()
        .and_then(|provider| provider.crypto().hash(HashAlgorithm::Sha256, data).ok());
    hash.and_then(|hash| hash.try_into().ok())
        .ok_or(PeerError::NoCertificate)
}
