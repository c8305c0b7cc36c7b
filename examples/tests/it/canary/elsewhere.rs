//! What programs reach with a password: a node of bitcoin, and a relay. Both see that they are given it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::crypto::default_provider;
use rtc::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME};
use rtc::stun::error_code::{CODE_UNAUTHORIZED, ErrorCodeAttribute};
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Message, MessageType, Setter,
};
use rtc::stun::textattrs::TextAttribute;
use rtc::stun::xoraddr::XorMappedAddress;
use rtc::turn::proto::lifetime::Lifetime;
use rtc::turn::proto::relayaddr::RelayedAddress;

use super::*;

const REALM: &str = "relay.example.com";

/// A node that answers every other call, and lets nobody in at the next.
pub(super) struct Node {
    at: SocketAddr,
    /// What stood in `Authorization`, call by call.
    let_in: Arc<Mutex<Vec<String>>>,
}

impl Node {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let let_in = Arc::<Mutex<Vec<String>>>::default();
        let seen = let_in.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut seen = seen.lock().unwrap();
                let is_let_in = seen.len().is_multiple_of(2);
                seen.extend(call(stream, is_let_in));
            }
        });
        Self { at, let_in }
    }

    /// Where it is, for who has its password.
    pub(super) fn url(&self) -> String {
        format!("http://ann:{RPC_PASSWORD}@{}", self.at)
    }

    /// So many calls at least came with the password.
    pub(super) fn was_called(&self, times: usize) {
        let seen = self.let_in.lock().unwrap();
        let expect = format!("Basic {}", base64_of(&format!("ann:{RPC_PASSWORD}")));
        assert!(seen.iter().all(|said| *said == expect), "{seen:?}");
        assert!(seen.len() >= times, "{} calls", seen.len());
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Answers one call, and returns how it was let in.
fn call(stream: TcpStream, is_let_in: bool) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let hash = "00".repeat(32);
    let info = serde_json::json!({
        "result": {"chain": "regtest", "blocks": 7, "bestblockhash": hash}, "error": null, "id": 0,
    });
    let (status, body) = match is_let_in {
        true => ("200 OK", info.to_string()),
        false => ("401 Unauthorized", String::new()),
    };
    let length = body.len();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok()?;
    authorization
}

/// A relay that lets in who has its password, and passes nothing on. Source: RFC 8656, RFC 8489 9.2.
pub(super) struct Relay {
    at: SocketAddr,
    /// Who was let in.
    users: Arc<Mutex<BTreeSet<String>>>,
}

impl Relay {
    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let users = Arc::<Mutex<BTreeSet<String>>>::default();
        let seen = users.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                if let Some(answer) = answer(&bytes[..length], from, &seen) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { at, users }
    }

    pub(super) fn url(&self) -> String {
        format!("turn:{}", self.at)
    }

    /// Somebody has shown to it that they know the password, and nobody else came in.
    pub(super) fn let_in(&self, name: &str) {
        let users = self.users.lock().unwrap();
        assert_eq!(*users, BTreeSet::from([name.to_owned()]));
    }
}

/// What stands for the password in each request to the relay.
pub(super) fn relay_key(user: &str) -> Vec<u8> {
    let provider = default_provider().unwrap();
    MessageIntegrity::long_term_integrity_key(
        user.to_owned(),
        REALM.to_owned(),
        TURN_PASSWORD.to_owned(),
        provider.crypto(),
    )
    .unwrap()
}

fn answer(bytes: &[u8], from: SocketAddr, seen: &Mutex<BTreeSet<String>>) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(bytes).ok()?;
    if request.typ.class != CLASS_REQUEST {
        return None;
    }
    let text = |attr, text: &str| TextAttribute {
        attr,
        text: text.to_owned(),
    };
    let user = TextAttribute::get_from_as(&request, ATTR_USERNAME).ok();
    let user = user.map(|user| user.text).filter(|user| {
        let provider = default_provider().unwrap();
        let key = relay_key(user);
        MessageIntegrity::check(&mut request, &key, provider.crypto()).is_ok()
    });
    let class = match user {
        Some(_) => CLASS_SUCCESS_RESPONSE,
        None => CLASS_ERROR_RESPONSE,
    };
    let mut parts: Vec<Box<dyn Setter>> = vec![
        Box::new(request.transaction_id),
        Box::new(MessageType::new(request.typ.method, class)),
    ];
    let (ip, port) = (from.ip(), from.port());
    match user {
        Some(user) => {
            seen.lock().unwrap().insert(user);
            parts.push(Box::new(RelayedAddress { ip, port: 9 }));
            parts.push(Box::new(XorMappedAddress { ip, port }));
            parts.push(Box::new(Lifetime(Duration::from_secs(600))));
        }
        None => {
            parts.push(Box::new(ErrorCodeAttribute {
                code: CODE_UNAUTHORIZED,
                reason: Vec::new(),
            }));
            parts.push(Box::new(text(ATTR_REALM, REALM)));
            parts.push(Box::new(text(ATTR_NONCE, "once")));
        }
    }
    let mut answer = Message::new();
    answer.build(&parts).ok()?;
    Some(answer.raw)
}
