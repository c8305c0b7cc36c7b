//! The same stream through Janus: its streaming plugin relays RTP to viewers that ask by its API.

use std::{
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::shared::marshal::Marshal;
use rtc::{
    rtp::{Packet, header::Header},
    rtp_transceiver::rtp_sender::RtpCodecKind,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use webrtc::{
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCSessionDescription, Registry, register_default_interceptors,
    },
};

use crate::{frame, pieces};

/// Whether Debian's package, or another, is installed.
pub(crate) fn installed() -> bool {
    let asked = Command::new("janus")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok()
}

/// A server with one mountpoint, and the folder of its configuration.
pub(crate) struct Janus {
    process: Child,
    pub(crate) url: String,
    _folder: tempfile::TempDir,
}

impl Janus {
    /// Starts it, and feeds it until the process ends.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http, rtp) = (free_port(), free_port());
        write(folder.path(), http, rtp);
        let process = Command::new("janus")
            .arg("-F")
            .arg(folder.path())
            .arg("-C")
            .arg(folder.path().join("janus.jcfg"))
            // Sessions without polling stay.
            .args(["-s", "0", "-o"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{http}/janus");
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", http)).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::spawn(feed(rtp));
        Self {
            process,
            url,
            _folder: folder,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn write(folder: &Path, http: u16, rtp: u16) {
    let others = "audiobridge duktape echotest lua nosip recordplay sip textroom videocall videoroom \
        voicemail";
    let transports = "mqtt nanomsg pfunix websockets rabbitmq";
    let off = |names: &str| {
        let names = names.split_whitespace();
        let files: Vec<_> = names.map(|name| format!("libjanus_{name}.so")).collect();
        files.join(",")
    };
    let files = [
        (
            "janus.jcfg",
            format!(
                "general: {{ debug_level = 1 }}\nplugins: {{ disable = \"{}\" }}\n\
                 transports: {{ disable = \"{}\" }}\n",
                off(others),
                off(transports)
            ),
        ),
        (
            "janus.transport.http.jcfg",
            format!(
                "general: {{ json = \"plain\"\n base_path = \"/janus\"\n http = true\n \
                 port = {http}\n ip = \"127.0.0.1\" }}\nadmin: {{ admin_http = false }}\n"
            ),
        ),
        (
            "janus.plugin.streaming.jcfg",
            format!(
                "one: {{ type = \"rtp\"\n id = 1\n audio = false\n video = true\n \
                 videoport = {rtp}\n videoiface = \"127.0.0.1\"\n videopt = 96\n \
                 videocodec = \"vp8\" }}\n"
            ),
        ),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

async fn feed(port: u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(crate::FRAME_MS));
    let mut sequence_number = 0_u16;
    for number in 0_u32.. {
        pace.tick().await;
        for (payload, marker) in pieces(&frame(number.is_multiple_of(25))) {
            let header = Header {
                version: 2,
                marker,
                payload_type: 96,
                sequence_number,
                timestamp: number.wrapping_mul(3600),
                ssrc: 9,
                ..Default::default()
            };
            sequence_number = sequence_number.wrapping_add(1);
            let _ = socket.send(&Packet { header, payload }.marshal().unwrap());
        }
    }
}

/// One viewer.
pub(crate) struct Viewer {
    _peer: Arc<dyn PeerConnection>,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    packets: AtomicU64,
    missing: AtomicU64,
}

struct Handler {
    gathered: watch::Sender<bool>,
    counted: Arc<Counted>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered
            .send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        tokio::spawn(count(track, self.counted.clone()));
    }
}

async fn count(track: Arc<dyn TrackRemote>, counted: Arc<Counted>) {
    let mut next = None;
    while let Some(event) = track.poll().await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event {
            let seq = packet.header.sequence_number;
            let gap = next.map_or(0, |next| seq.wrapping_sub(next));
            // Not those that come late.
            if gap < 1 << 15 {
                counted.missing.fetch_add(gap.into(), Ordering::Relaxed);
                next = Some(seq.wrapping_add(1));
            }
            counted.packets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Viewer {
    pub(crate) async fn connect(url: &str) -> Self {
        let created = post(url, json!({"janus": "create"})).await;
        let session = format!("{url}/{}", created["data"]["id"]);
        let plugin = json!({"janus": "attach", "plugin": "janus.plugin.streaming"});
        let attached = post(&session, plugin).await;
        let handle = format!("{session}/{}", attached["data"]["id"]);
        let watch_one = json!({"janus": "message", "body": {"request": "watch", "id": 1}});
        post(&handle, watch_one).await;
        let offer = loop {
            let said = get(&format!("{session}?maxev=1")).await;
            if let Some(sdp) = said["jsep"]["sdp"].as_str() {
                break sdp.to_owned();
            }
        };
        let (gathered, mut done) = watch::channel(false);
        let counted = Arc::<Counted>::default();
        let handler = Handler {
            gathered,
            counted: counted.clone(),
        };
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            // Janus names the machine's other addresses alone.
            .with_udp_addrs(vec!["0.0.0.0:0"])
            .build()
            .await
            .unwrap();
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..Default::default()
        };
        peer.add_transceiver_from_kind(RtpCodecKind::Video, Some(init))
            .await
            .unwrap();
        let offer = RTCSessionDescription::offer(offer).unwrap();
        peer.set_remote_description(offer).await.unwrap();
        let answer = peer.create_answer(None).await.unwrap();
        peer.set_local_description(answer).await.unwrap();
        done.wait_for(|done| *done).await.unwrap();
        let sdp = peer.local_description().await.unwrap().sdp;
        let start = json!({
            "janus": "message",
            "body": {"request": "start"},
            "jsep": {"type": "answer", "sdp": sdp},
        });
        post(&handle, start).await;
        Self {
            _peer: Arc::new(peer),
            counted,
        }
    }

    /// Packets, and sequence numbers that were missing.
    pub(crate) fn count(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.counted.packets), of(&self.counted.missing))
    }
}

async fn post(url: &str, mut body: Value) -> Value {
    body["transaction"] = json!("t");
    let request = bitreq::Request::new(bitreq::Method::Post, url).with_body(body.to_string());
    answered(request).await
}

async fn get(url: &str) -> Value {
    answered(bitreq::Request::new(bitreq::Method::Get, url)).await
}

async fn answered(request: bitreq::Request) -> Value {
    let response = request.with_timeout(40).send_async().await.unwrap();
    serde_json::from_str(response.as_str().unwrap()).unwrap()
}
