use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::{Map, Value, json};
use streampay_media::{
    peer::PeerConfig,
    source::{FileOptions, Source},
    whep, whip,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    offers::{USER, offers},
    settle,
};
use crate::{paywall::Tokens, rig::asset};

const KEY: &str = "0123456789abcdef";
/// 2 sat of `https://mint.example.com`, once. Source: NUT-18.
const DEMAND: &str = "creqApWFpaDdmNGEyYzFlYWECYXVjc2F0YXP1YW2BeBhodHRwczovL21pbnQuZXhhbXBsZS5jb20";
const TOKENS: [&str; 2] = [
    "cashuBo2FteBhodHRwczovL21pbnQuZXhhbXBsZS5jb21hdWNzYXRhdIGiYWlIAK0mjE0fWCZhcIGkYWECYXN4QGI1NWU5ZDhhMzEzMTNiNmFiZTZiNGQ0MTAxMTlhM2U3MTlhNWY0NDhhN2RmYjk2NmViMmU2ZjRkYTZlMzI2N2ZhY1ghAnm-Zn753LusVaBilc6HCwcCm_zbLc4o2VnygVsW-BeYYWSjYWVYIItcxN9-7H0yp4FOykrwR64zstUjQmZ3FWguGcJbC5-qYXNYIOi8FjyC7uGHMyiMfUrGNts6besBPvLTe2gyK-IO3EXMYXJYIILz6caV3GuNGxGBjVcBkZ4obejUf3w-sxAMSF955Xgo",
    "cashuBo2FteBhodHRwczovL21pbnQuZXhhbXBsZS5jb21hdWNzYXRhdIGiYWlIAK0mjE0fWCZhcIGkYWECYXN4QGY5ZTNlNDMwYjc2ZTVlYzcyNTRjZmFlZDc5MGE1MmVjNmFiMGI5NGEwOGJkOWE4YjExODQ3NjQyNjg0MjI4Y2JhY1ghAsYEf5RB7X1tMEVAbpXAfNhcd45LjO88p6usCblccJ7lYWSjYWVYIKwPCcD4v156SwY9hjJV8W2M6avmAOKI2TTPMTvL_2PrYXNYIK0yiEaqGLMqM1gWN0URysEGPHBLjFeZnlHan5CCkKekYXJYINt3_QGvlXIhpJibZLN3CoOjxWBoQFufDpQI_q5X_Rfk",
];
const SDP: &str = "application/sdp";
const PIECE: &str = "application/trickle-ice-sdpfrag";
/// Which headers of an answer are compared.
const HEADERS: [&str; 13] = [
    "accept-patch",
    "accept-post",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "allow",
    "content-type",
    "etag",
    "location",
    "retry-after",
    "www-authenticate",
    "x-cashu",
];

/// One server, and what was asked of it so far.
struct Stage {
    address: SocketAddr,
    offers: BTreeMap<&'static str, String>,
    session: String,
    etag: String,
    exchanges: Vec<Value>,
}

impl Stage {
    async fn new(router: axum::Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self {
            address,
            offers: offers(),
            session: String::new(),
            etag: String::new(),
            exchanges: Vec::new(),
        }
    }

    /// `body` is the name of an offer, or itself.
    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let text = self.offers.get(body).map_or(body, String::as_str);
        let place = |text: &str| {
            text.replace("{session}", &self.session)
                .replace("{etag}", &self.etag)
        };
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            place(path),
            self.address,
            text.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {}\r\n", place(value));
        }
        let request = format!("{request}\r\n{text}");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, sdp) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let mut shown = Map::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if HEADERS.contains(&name) && !(name == "content-type" && status != "201") {
                shown.insert(name.to_owned(), self.shown(name, value).into());
            }
        }
        let sent: Map<String, Value> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        let body = if self.offers.contains_key(body) {
            json!({"offer": body})
        } else {
            json!({"text": body})
        };
        let mut exchange = json!({
            "request": {"method": method, "path": path, "headers": sent, "body": body},
            "answer": {"status": status, "headers": shown},
        });
        if status == "201" {
            exchange["answer"]["sections"] = sections(sdp);
        }
        self.exchanges.push(exchange);
    }

    /// A header's value, with names for what is drawn.
    fn shown(&mut self, name: &str, value: &str) -> String {
        match name {
            "location" => {
                let path = value
                    .strip_prefix(&format!("http://{}", self.address))
                    .unwrap();
                let (_, secret) = path.rsplit_once('/').unwrap();
                let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert!(secret.len() == 32 && secret.bytes().all(hex), "{path}");
                self.session = path.to_owned();
                path.replace(secret, "{32 hex digits}")
                    .replacen('/', "{base}/", 1)
            }
            "etag" => {
                assert!(value.len() >= 18 && value.starts_with('"') && value.ends_with('"'));
                self.etag = value.to_owned();
                "{etag}".to_owned()
            }
            _ => value.to_owned(),
        }
    }

    fn scene(self, name: &str, server: Value) -> Value {
        json!({"name": name, "server": server, "exchanges": self.exchanges})
    }
}

/// What an answer agrees to, section by section. It names one certificate and where it is.
fn sections(sdp: &str) -> Value {
    let mut prints: Vec<&str> = sdp
        .lines()
        .filter_map(|line| line.strip_prefix("a=fingerprint:sha-256 "))
        .collect();
    prints.dedup();
    assert!(prints.len() == 1 && sdp.contains("a=candidate:"), "{sdp}");
    let shown = sdp.split("\r\nm=").skip(1).map(|section| {
        let lines = || section.lines().skip(1);
        let ways = ["sendonly", "recvonly", "sendrecv", "inactive"];
        let way = lines().find_map(|line| ways.into_iter().find(|way| line == format!("a={way}")));
        let codecs: Vec<&str> = lines()
            .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split(' ').nth(1))
            .filter(|codec| !codec.starts_with("rtx/"))
            .collect();
        let mid = lines().find_map(|line| line.strip_prefix("a=mid:"));
        let setup = lines().find_map(|line| line.strip_prefix("a=setup:"));
        let media = section.split(' ').next();
        json!({"media": media, "mid": mid, "direction": way, "setup": setup, "codecs": codecs})
    });
    shown.collect()
}

fn peer() -> PeerConfig {
    PeerConfig::loopback()
}

async fn clip() -> Arc<Source> {
    let options = FileOptions::default();
    Source::open(&asset("clip.ivf"), options).await.unwrap()
}

async fn viewers() -> Value {
    let config = whep::ServerConfig {
        peer: peer(),
        ..whep::ServerConfig::default()
    };
    let (server, _arrivals) = whep::Server::new(clip().await, config);
    let mut stage = Stage::new(server.router()).await;
    let sdp = [("Content-Type", SDP)];
    stage.ask("OPTIONS", "/whep", &[], "").await;
    for method in ["GET", "PUT", "DELETE"] {
        stage.ask(method, "/whep", &[], "").await;
    }
    stage
        .ask(
            "POST",
            "/whep",
            &[("Content-Type", "application/json")],
            "{}",
        )
        .await;
    for body in [
        "no description",
        "too long",
        "too many candidates",
        "player",
        "no codec",
        "sound alone",
        "viewer",
    ] {
        stage.ask("POST", "/whep", &sdp, body).await;
    }
    trickled(&mut stage).await;
    stage.ask("GET", "{session}", &[], "").await;
    stage.ask("OPTIONS", "{session}", &[], "").await;
    stage.ask("DELETE", "{session}", &[], "").await;
    stage.ask("DELETE", "{session}", &[], "").await;
    stage.scene(
        "viewers",
        json!({"codecs": ["VP8", "Opus"], "paywall": false}),
    )
}

/// Candidates that come later, and what is none.
async fn trickled(stage: &mut Stage) {
    let one = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host\r\n";
    let good = format!("{USER}{one}");
    let tag = ("If-Match", "{etag}");
    let kind = ("Content-Type", PIECE);
    for (headers, body) in [
        (vec![kind, tag], good.clone()),
        (vec![kind], good.clone()),
        (vec![kind, ("If-Match", "\"another\"")], good.clone()),
        (vec![("Content-Type", SDP), tag], good.clone()),
        (vec![kind, tag], "no lines".to_owned()),
        (
            vec![kind, ("If-Match", "*")],
            good.replace("abcd\r", "efgh\r"),
        ),
        (vec![kind, tag], "a=end-of-candidates\r\n".to_owned()),
    ] {
        stage.ask("PATCH", "{session}", &headers, &body).await;
    }
    stage.ask("PATCH", "/whep/00", &[kind, tag], &good).await;
}

async fn players() -> Value {
    let config = whep::ServerConfig {
        peer: peer(),
        paywall: Some(Arc::new(Tokens::demanding(DEMAND, "cashuB"))),
        ..whep::ServerConfig::default()
    };
    let (server, _arrivals) = whep::Server::new(clip().await, config);
    let mut stage = Stage::new(server.router()).await;
    let [first, second] = TOKENS;
    let sdp = ("Content-Type", SDP);
    let paid = |token| [sdp, ("X-Cashu", token)];
    stage.ask("OPTIONS", "/whep", &[], "").await;
    stage.ask("POST", "/whep", &[sdp], "player").await;
    for token in ["nonsense", "", "away"] {
        stage.ask("POST", "/whep", &paid(token), "player").await;
    }
    stage
        .ask("POST", "/whep", &paid(first), "no description")
        .await;
    stage.ask("POST", "/whep", &paid(first), "player").await;
    // At the connection's address: what may be asked, what is demanded, what was taken before, more.
    stage.ask("GET", "{session}", &[], "").await;
    stage.ask("POST", "{session}", &[], "").await;
    stage
        .ask("POST", "{session}", &[("X-Cashu", first)], "")
        .await;
    stage
        .ask("POST", "{session}", &[("X-Cashu", second)], "")
        .await;
    // The same payment with another offer is the same span, at another address.
    stage.ask("POST", "/whep", &paid(first), "player").await;
    stage.ask("DELETE", "{session}", &[], "").await;
    stage
        .ask("POST", "/whep/00", &[("X-Cashu", second)], "")
        .await;
    stage.ask("POST", "/whep", &[sdp], "viewer").await;
    stage.scene(
        "players",
        json!({"codecs": ["VP8", "Opus"], "paywall": true}),
    )
}

async fn publishers() -> Value {
    let (writer, source) = Source::awaited();
    let key = whip::StreamKey::new(KEY).unwrap();
    let config = whip::ServerConfig {
        peer: peer(),
        ..whip::ServerConfig::default()
    };
    let publishing = whip::Server::new(writer, key, config);
    let config = whep::ServerConfig {
        peer: peer(),
        ..whep::ServerConfig::default()
    };
    let (watching, _arrivals) = whep::Server::new(source, config);
    let mut stage = Stage::new(publishing.router().merge(watching.router())).await;
    let sdp = ("Content-Type", SDP);
    let bearer = format!("Bearer {KEY}");
    let with_key = [sdp, ("Authorization", &*bearer)];
    stage.ask("OPTIONS", "/whip", &[], "").await;
    stage.ask("GET", "/whip", &[], "").await;
    stage.ask("POST", "/whip", &[sdp], "publisher").await;
    let wrong = [sdp, ("Authorization", "Bearer 0123456789abcdeF")];
    stage.ask("POST", "/whip", &wrong, "publisher").await;
    stage.ask("POST", "/whep", &[sdp], "viewer").await;
    for body in ["no description", "too long", "no codec", "obs"] {
        stage.ask("POST", "/whip", &with_key, body).await;
    }
    stage.ask("DELETE", "{session}", &[], "").await;
    // What viewers may have been told by now stays.
    stage.ask("POST", "/whip", &with_key, "obs").await;
    trickled(&mut stage).await;
    stage.ask("DELETE", "{session}", &[], "").await;
    stage.ask("DELETE", "{session}", &[], "").await;
    stage.scene("publishers", json!({"codecs": [], "paywall": false}))
}

async fn strangers() -> Value {
    let config = whep::ServerConfig {
        peer: peer(),
        unbound_per_address: 1,
        offers_per_minute: 2,
        ..whep::ServerConfig::default()
    };
    let (server, _arrivals) = whep::Server::new(clip().await, config);
    let mut stage = Stage::new(server.router()).await;
    let sdp = [("Content-Type", SDP)];
    for _ in 0..3 {
        stage.ask("POST", "/whep", &sdp, "viewer").await;
    }
    let server = json!({
        "codecs": ["VP8", "Opus"],
        "paywall": false,
        "strangers_per_address": "1",
        "offers_per_minute": "2",
    });
    stage.scene("strangers", server)
}

/// The long one in short.
fn shown_offers() -> Map<String, Value> {
    let offers = offers().into_iter().map(|(name, sdp)| {
        let shown = match name {
            "too long" => json!({"repeat": "v=0\r\n", "times": (sdp.len() / 5).to_string()}),
            _ => sdp.into(),
        };
        (name.to_owned(), shown)
    });
    offers.collect()
}

#[tokio::test]
async fn http_vectors_are_what_the_servers_answer() {
    let scenes = [
        viewers().await,
        players().await,
        publishers().await,
        strangers().await,
    ];
    let value = json!({
        "format": "1",
        "stream_key": KEY,
        "offers": shown_offers(),
        "demand": {
            "header": DEMAND,
            "amount": "2",
            "unit": "sat",
            "mints": ["https://mint.example.com"],
        },
        "tokens": TOKENS,
        "scenes": scenes,
    });
    settle("http.json", &value);
}
