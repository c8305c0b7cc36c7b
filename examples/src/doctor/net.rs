//! UDP, and what servers outside see of this machine. Source: RFC 8489 (STUN).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rtc::stun::message::{BINDING_REQUEST, Getter as _, Message, Setter, TransactionId};
use rtc::stun::xoraddr::XorMappedAddress;
use streampay_media::peer::PeerConfig;
use tokio::net::{UdpSocket, lookup_host};

use super::Finding;
use crate::error::AppError;

/// How long each of the tries waits, in milliseconds: RFC 8489 6.2.1 begins so.
const TRIES_MS: [u64; 3] = [500, 1_000, 2_000];
const STUN_PORT: u16 = 3478;
const UDP: &str = "udp";
const STUN: &str = "stun";

/// Whether datagrams come and go, and which address others see.
pub(super) async fn udp_and_stun(config: Result<PeerConfig, AppError>) -> Vec<Finding> {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let advice = "mend the setting that it names";
            return vec![Finding::fail(UDP, error.to_string(), advice)];
        }
    };
    let mut findings = Vec::new();
    for address in &config.bind {
        findings.push(udp(*address, &config).await);
    }
    findings.extend(stun(&config).await);
    findings
}

async fn udp(address: SocketAddr, config: &PeerConfig) -> Finding {
    let ip = address.ip();
    let ports = config.ports.as_ref().map(|range| range.ports());
    let sockets = match &ports {
        Some(ports) => {
            let mut bound = None;
            for port in ports.clone() {
                bound = UdpSocket::bind((ip, port)).await.ok();
                if bound.is_some() {
                    break;
                }
            }
            bound.ok_or_else(|| "all of these ports are in use".to_owned())
        }
        None => UdpSocket::bind(address)
            .await
            .map_err(|error| error.to_string()),
    };
    let range = match ports {
        Some(ports) => format!("ports {}-{}", ports.start(), ports.end()),
        None => "any port".to_owned(),
    };
    let advice =
        "name an address of this machine with --media-bind, and free ports with --media-ports";
    match sockets {
        Err(error) => Finding::fail(UDP, format!("{ip}, {range}: {error}"), advice),
        Ok(socket) => match echoed(&socket).await {
            Ok(()) => Finding::ok(UDP, format!("{ip}, {range}: datagrams come and go")),
            Err(error) => Finding::fail(
                UDP,
                format!("{ip}, {range}: a datagram to itself did not come: {error}"),
                "let UDP through this machine's firewall",
            ),
        },
    }
}

/// A datagram from the socket to itself.
async fn echoed(socket: &UdpSocket) -> std::io::Result<()> {
    let mut own = socket.local_addr()?;
    if own.ip().is_unspecified() {
        own.set_ip(match own {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    socket.send_to(b"streampay doctor", own).await?;
    let mut bytes = [0; 64];
    let heard = socket.recv_from(&mut bytes);
    let limit = Duration::from_secs(1);
    tokio::time::timeout(limit, heard)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok(())
}

async fn stun(config: &PeerConfig) -> Vec<Finding> {
    if config.ice_servers.is_empty() {
        let none = "no server is named; viewers in one's own network and those of a public address \
                    need none (--stun names one)";
        return vec![Finding::ok(STUN, none)];
    }
    let address = config
        .bind
        .iter()
        .find(|address| !address.ip().is_loopback());
    let bind = address.copied().unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let socket = match UdpSocket::bind((bind.ip(), 0)).await {
        Ok(socket) => socket,
        Err(error) => return vec![Finding::fail(STUN, error.to_string(), "see udp, above")],
    };
    let mut findings = Vec::new();
    let mut seen: Vec<SocketAddr> = Vec::new();
    for server in &config.ice_servers {
        match asked(&socket, &server.url).await {
            Ok(mapped) => {
                let found = format!("{} sees this machine at {mapped}", server.url);
                findings.push(Finding::ok(STUN, found));
                seen.push(mapped);
            }
            Err(why) => {
                let advice = "is the name right, and does the firewall let UDP out?";
                findings.push(Finding::fail(
                    STUN,
                    format!("{}: {why}", server.url),
                    advice,
                ));
            }
        }
    }
    findings.extend(nat(&seen));
    findings
}

/// Another port for another server: nobody who was told one can use it. Source: RFC 4787 4.1.
pub(super) fn nat(seen: &[SocketAddr]) -> Option<Finding> {
    let (first, others) = seen.split_first()?;
    let other = others.iter().find(|other| *other != first)?;
    let found = format!("the NAT shows {first} to one server and {other} to another");
    let advice = "viewers behind such a NAT too need a relay: name one with --turn";
    Some(Finding::warn(STUN, found, advice))
}

async fn asked(socket: &UdpSocket, url: &str) -> Result<SocketAddr, String> {
    let is_v4 = socket.local_addr().is_ok_and(|own| own.is_ipv4());
    let server = resolved(url, is_v4).await?;
    let request = request()?;
    for wait in TRIES_MS {
        let sent = socket.send_to(&request.raw, server).await;
        sent.map_err(|error| error.to_string())?;
        let answer = answer(socket, server, &request);
        if let Ok(mapped) = tokio::time::timeout(Duration::from_millis(wait), answer).await {
            return mapped;
        }
    }
    Err("nobody answers".to_owned())
}

pub(super) fn request() -> Result<Message, String> {
    let mut request = Message::new();
    let parts: [Box<dyn Setter>; 2] = [Box::<TransactionId>::default(), Box::new(BINDING_REQUEST)];
    request.build(&parts).map_err(|error| error.to_string())?;
    Ok(request)
}

/// The answer to `request`; other datagrams are passed over.
async fn answer(
    socket: &UdpSocket,
    server: SocketAddr,
    request: &Message,
) -> Result<SocketAddr, String> {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            // A port that is shut somewhere: the next try tells.
            Err(_) => return std::future::pending().await,
        };
        let raw = bytes.get(..length).unwrap_or_default();
        if from == server
            && let Some(mapped) = mapped(raw, request)
        {
            return Ok(mapped);
        }
    }
}

pub(super) fn mapped(raw: &[u8], request: &Message) -> Option<SocketAddr> {
    let mut answer = Message::new();
    answer.unmarshal_binary(raw).ok()?;
    if answer.transaction_id != request.transaction_id {
        return None;
    }
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer).ok()?;
    Some(SocketAddr::new(mapped.ip, mapped.port))
}

async fn resolved(url: &str, v4: bool) -> Result<SocketAddr, String> {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or_default();
    let is_bare = rest.parse::<IpAddr>().is_ok() || !rest.contains(':') || rest.ends_with(']');
    let place = match is_bare {
        true => format!("{rest}:{STUN_PORT}"),
        false => rest.to_owned(),
    };
    let found = lookup_host(place)
        .await
        .map_err(|error| error.to_string())?;
    let mut fitting = found.filter(|address| address.is_ipv4() == v4);
    fitting
        .next()
        .ok_or_else(|| "it has no address of our kind".to_owned())
}
