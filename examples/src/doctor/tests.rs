use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use clap::Parser;
use rtc::stun::message::{BINDING_SUCCESS, Message, Setter};
use rtc::stun::xoraddr::XorMappedAddress;
use streampay_media::peer::{IceServer, PeerConfig};
use tokio::net::UdpSocket;

use super::*;

fn states(findings: &[Finding]) -> Vec<(&str, State)> {
    let each = findings.iter();
    each.map(|finding| (finding.what, finding.state)).collect()
}

#[test]
fn a_clock_is_compared_with_a_date_and_its_age() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let date = httpdate::fmt_http_date(at(1_000_000));
    let ahead = |age, before, after| clock::ahead_ms(Some(&date), age, (at(before), at(after)));
    assert_eq!(ahead(None, 1_000_000, 1_000_000), Some(-500));
    assert_eq!(ahead(None, 1_000_000, 1_000_002), Some(500));
    // A cache kept it for a minute: the server's clock has gone on.
    assert_eq!(ahead(Some("60"), 1_000_060, 1_000_060), Some(-500));
    assert_eq!(ahead(Some("60"), 1_000_000, 1_000_000), Some(-60_500));
    assert_eq!(ahead(None, 1_000_100, 1_000_100), Some(99_500));
    assert_eq!(ahead(Some("old"), 1_000_000, 1_000_000), None);
    assert_eq!(clock::ahead_ms(Some("today"), None, (at(0), at(0))), None);
    assert_eq!(clock::ahead_ms(None, None, (at(0), at(0))), None);
    for (ahead, state) in [
        (3_000, State::Ok),
        (-3_001, State::Warn),
        (60_000, State::Warn),
        (60_001, State::Fail),
        (i64::MIN, State::Fail),
    ] {
        assert_eq!(clock::judged(ahead, "x").state, state, "{ahead}");
    }
}

#[test]
fn a_slow_or_full_disk_is_told() {
    for (times, ms, state) in [
        (400, 400, State::Ok),
        (8, 400, State::Ok),
        (5, 400, State::Warn),
    ] {
        let found = disk::judged(times, Duration::from_millis(ms));
        assert_eq!(found.state, state, "{}", found.found);
    }
    for (mib, state) in [
        (0, State::Fail),
        (63, State::Fail),
        (64, State::Warn),
        (1023, State::Warn),
        (1024, State::Ok),
    ] {
        assert_eq!(disk::room(mib).state, state, "{mib}");
    }
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("not").join("there");
    let found = disk::disk(&inside);
    assert!(
        found.iter().any(|one| one.found.contains("syncs a second")),
        "{found:?}"
    );
    assert!(!inside.exists(), "nothing is made");
}

#[cfg(unix)]
#[tokio::test]
async fn what_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (missing, none) = disk::folder(&data).await;
    assert_eq!(
        (states(&missing), none),
        (vec![("folder", State::Ok)], vec![])
    );
    assert!(!data.exists());
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("note"), "x").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&data.join("note"), 0o644);
    mode(&data, 0o755);
    let (found, _) = disk::folder(&data).await;
    assert_eq!(
        states(&found),
        [("folder", State::Fail), ("folder", State::Ok)]
    );
    assert!(found[0].found.contains("note"));
    mode(&data, 0o700);
    let (found, _) = disk::folder(&data).await;
    assert_eq!(states(&found), [("folder", State::Ok)]);
    let held = crate::wallet::WalletFolder::open_with(&data, Default::default()).unwrap();
    let (found, _) = disk::folder(&data).await;
    assert!(found[0].found.contains("in use") && found[0].state == State::Ok);
    drop(held);
}

fn answer(request: &[u8], mapped: SocketAddr) -> Message {
    let mut asked = Message::new();
    asked.unmarshal_binary(request).unwrap();
    let mapped = XorMappedAddress {
        ip: mapped.ip(),
        port: mapped.port(),
    };
    let parts: [Box<dyn Setter>; 3] = [
        Box::new(asked.transaction_id),
        Box::new(BINDING_SUCCESS),
        Box::new(mapped),
    ];
    let mut answer = Message::new();
    answer.build(&parts).unwrap();
    answer
}

/// Answers binding requests with where they came from, or with `pretended`; the first one not.
async fn server(pretended: Option<SocketAddr>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("stun:{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut bytes = [0; 1500];
        let mut first = true;
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let answer = answer(&bytes[..length], pretended.unwrap_or(from));
            // Of another request, and lost: neither stops the next try.
            if core::mem::take(&mut first) {
                let other = net::request().unwrap();
                socket.send_to(&other.raw, from).await.unwrap();
                continue;
            }
            socket.send_to(&answer.raw, from).await.unwrap();
        }
    });
    url
}

fn config(urls: Vec<String>) -> PeerConfig {
    let servers = urls.into_iter().map(|url| IceServer {
        url,
        username: String::new(),
        credential: Default::default(),
    });
    PeerConfig {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        ice_servers: servers.collect(),
        ..PeerConfig::default()
    }
}

#[tokio::test]
async fn servers_tell_where_they_see_this_machine() {
    let found = net::udp_and_stun(Ok(config(vec![server(None).await]))).await;
    assert_eq!(states(&found), [("udp", State::Ok), ("stun", State::Ok)]);
    assert!(found[1].found.contains("at 127.0.0.1:"), "{found:?}");
    let elsewhere = "192.0.2.7:4000".parse().ok();
    let both = vec![server(None).await, server(elsewhere).await];
    let found = net::udp_and_stun(Ok(config(both))).await;
    let last = found.last().unwrap();
    assert_eq!(last.state, State::Warn);
    assert!(last.found.contains("192.0.2.7:4000") && last.advice.contains("--turn"));
    // Who answers nothing, and what has no address.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let urls = vec![
        format!("stun:{}", silent.local_addr().unwrap()),
        "stun:no such host:1".to_owned(),
    ];
    let found = net::udp_and_stun(Ok(config(urls))).await;
    assert_eq!(found[1].state, State::Fail, "{found:?}");
    assert_eq!(found[2].state, State::Fail, "{found:?}");
}

#[tokio::test]
async fn ports_that_are_taken_and_addresses_of_others_are_told() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = format!("{port}-{port}").parse().ok();
    let found = net::udp_and_stun(Ok(PeerConfig {
        ports,
        ..config(vec![])
    }))
    .await;
    assert_eq!(states(&found), [("udp", State::Fail), ("stun", State::Ok)]);
    let bind = vec!["192.0.2.1:0".parse().unwrap()];
    let found = net::udp_and_stun(Ok(PeerConfig {
        bind,
        ..config(vec![])
    }))
    .await;
    assert_eq!(found[0].state, State::Fail);
    let wrong = AppError::Usage("a STUN server is given as stun:HOST:PORT");
    let found = net::udp_and_stun(Err(wrong)).await;
    assert_eq!(states(&found), [("udp", State::Fail)]);
}

#[tokio::test]
async fn a_mint_is_looked_at_and_one_that_is_away_fails() {
    use crate::mint::{EmbeddedMint, Storage};
    let listen = "127.0.0.1:0".parse().unwrap();
    let mint = EmbeddedMint::start(listen, Storage::Memory, 100)
        .await
        .unwrap();
    let found = money::mint(&mint.url(), MintLimits::default()).await;
    assert_eq!(states(&found), [("mint", State::Ok)], "{found:?}");
    assert!(
        found[0]
            .found
            .contains("can chain, p2pk, swap; fee 100 ppk"),
        "{found:?}"
    );
    let away = money::mint("http://127.0.0.1:9", MintLimits::default()).await;
    assert_eq!(states(&away), [("mint", State::Fail)]);
    mint.stop().await;
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    doctor: Doctor,
}

#[tokio::test]
async fn a_mint_that_takes_more_than_the_user_allows_is_warned_of() {
    use crate::mint::{EmbeddedMint, Storage};
    let listen = "127.0.0.1:0".parse().unwrap();
    let mint = EmbeddedMint::start(listen, Storage::Memory, 100)
        .await
        .unwrap();
    let url = mint.url();
    let (its, others) = (format!("{url}=99"), "http://127.0.0.1:9=99");
    for (said, state) in [
        (&[][..], State::Ok),
        (&["100"], State::Ok),
        (&["99"], State::Warn),
        (&["0"], State::Warn),
        (&[&*its], State::Warn),
        (&["100", &*its], State::Warn),
        (&[others], State::Ok),
        (&["99", &*format!("{url}=100")], State::Ok),
    ] {
        let args = said.iter().flat_map(|ppk| ["--max-fee-ppk", *ppk]);
        let line = Line::parse_from(std::iter::once("x").chain(args));
        let found = money::mint(&url, line.doctor.limits()).await;
        assert_eq!(states(&found), [("mint", state)], "{said:?} {found:?}");
        let advice = found[0].advice;
        assert_eq!(advice.contains("--max-fee-ppk"), state == State::Warn);
    }
    mint.stop().await;
}

#[tokio::test]
async fn a_node_that_is_away_fails_and_none_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let of = |args: &[&str]| Line::parse_from([&["x"], args].concat()).doctor.bitcoin;
    let none = money::chain(folder.path(), &of(&[])).await;
    assert_eq!(states(&none), [("chain", State::Ok)]);
    for url in ["http://127.0.0.1:9", "env:STREAMPAY_NO_SUCH_VARIABLE"] {
        let away = money::chain(folder.path(), &of(&["--btc", url])).await;
        assert_eq!(states(&away), [("chain", State::Fail)], "{away:?}");
    }
}
