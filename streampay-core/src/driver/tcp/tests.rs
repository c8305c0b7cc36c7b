use tokio::net::TcpListener;

use super::*;
use crate::driver::tests::session_over;

async fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

async fn links() -> (Link, Link) {
    let (a, b) = streams().await;
    let (a, b) = tokio::join!(
        tcp_link(a, Role::Payer, TcpReach::Loopback),
        tcp_link(b, Role::Payee, TcpReach::Loopback)
    );
    (a.unwrap(), b.unwrap())
}

#[tokio::test]
async fn a_whole_session_over_tcp_pays_settles_and_returns_the_rest() {
    let (payer, payee) = links().await;
    session_over(payer, payee).await;
}

#[tokio::test]
async fn tcp_passes_the_suite_of_transports() {
    crate::sim::check_link(links).await;
}

#[tokio::test]
async fn both_sides_know_the_connection_by_the_same_and_no_other_does() {
    let (a, b) = links().await;
    assert_eq!(a.identity, b.identity);
    assert_ne!(a.identity.payer, a.identity.payee);
    assert_ne!(a.identity, links().await.0.identity);
}

#[tokio::test]
async fn messages_of_every_length_arrive_whole_and_in_order() {
    let (a, mut b) = links().await;
    for length in [1, 2, 255, 256, 4_096, LinkEnd::MESSAGE_MAX] {
        let message = Bytes::from(vec![7; length]);
        a.end.outgoing.send(message.clone()).await.unwrap();
        assert_eq!(b.end.incoming.recv().await, Some(message));
    }
    // What was said last still leaves, then the other side hears that it is over.
    a.end
        .outgoing
        .send(Bytes::from_static(b"bye"))
        .await
        .unwrap();
    drop(a);
    assert_eq!(
        b.end.incoming.recv().await,
        Some(Bytes::from_static(b"bye"))
    );
    assert_eq!(b.end.incoming.recv().await, None);
}

/// The session that leaves does not hear the other out.
#[tokio::test]
async fn what_was_said_last_leaves_while_the_other_side_talks() {
    let (a, mut b) = links().await;
    for number in 0..2 * LinkEnd::QUEUE {
        let word = Bytes::from(number.to_be_bytes().to_vec());
        b.end.outgoing.send(word).await.unwrap();
    }
    while a.end.incoming.len() < LinkEnd::QUEUE {
        tokio::task::yield_now().await;
    }
    let long = Bytes::from(vec![7; LinkEnd::MESSAGE_MAX]);
    let words = LinkEnd::QUEUE;
    for _ in 0..words {
        a.end.outgoing.send(long.clone()).await.unwrap();
    }
    drop(a);
    for word in 0..words {
        assert_eq!(b.end.incoming.recv().await, Some(long.clone()), "{word}");
    }
    assert_eq!(b.end.incoming.recv().await, None);
}

#[tokio::test]
async fn frame_too_long_or_empty_ends_the_link() {
    for length in [
        0,
        u32::try_from(LinkEnd::MESSAGE_MAX).unwrap() + 1,
        u32::MAX,
    ] {
        let (mut raw, accepted) = streams().await;
        let link = tokio::spawn(tcp_link(accepted, Role::Payee, TcpReach::Loopback));
        exchange(&mut raw, &[1; 32]).await.unwrap();
        let mut link = link.await.unwrap().unwrap();
        raw.write_u32(length).await.unwrap();
        assert_eq!(link.end.incoming.recv().await, None, "{length}");
    }
}

#[tokio::test]
async fn another_protocol_is_refused() {
    for opening in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 43], &[0; 64]] {
        let (mut raw, accepted) = streams().await;
        raw.write_all(opening).await.unwrap();
        raw.shutdown().await.unwrap();
        let refused = tcp_link(accepted, Role::Payee, TcpReach::Loopback).await;
        assert!(refused.is_err(), "{opening:?}");
    }
}

#[test]
fn only_this_machine_is_near() {
    let cases = [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("192.168.1.2", false),
        ("8.8.8.8", false),
        ("0.0.0.0", false),
        ("2001:db8::1", false),
    ];
    for (ip, near) in cases {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(is_within(ip, TcpReach::Loopback), near, "{ip}");
        assert!(is_within(ip, TcpReach::DangerousNetwork));
    }
}
