//! What players without a data channel may ask of a streamer, and how much of it at once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    paywall::{self, Player, Tokens, rig_with},
    rig::Rig,
};

fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens::demanding("creqAtest", "token"))
}

/// What is let through where it should not be may wait for a mint that does not answer.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, what).await.unwrap()
}

async fn post(rig: &Rig, path: &str, payment: Option<&str>, body: &str) -> (u16, String, String) {
    in_time(paywall::post(rig, path, payment, body)).await
}

/// Waits until the paywall was asked so often.
async fn asked(tokens: &Tokens, times: usize) {
    let all = async {
        while tokens.asked.load(Ordering::Relaxed) < times {
            tokio::task::yield_now().await;
        }
    };
    in_time(all).await;
}

#[tokio::test]
async fn players_offers_are_counted_over_time_whether_or_not_they_pay() {
    let tokens = tokens();
    let rig = rig_with(&tokens, |config| config.offers_per_minute = 3).await;
    let mut answers = Vec::new();
    for payment in [None, Some("nonsense"), None, None, Some("token")] {
        let (status, head, _) = post(&rig, "/whep", payment, &Player::new().await.offer).await;
        answers.push((status, head.contains("retry-after: ")));
    }
    let expect = [402, 400, 402, 429, 429].map(|status| (status, status == 429));
    assert_eq!(answers, expect);
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 1, "nonsense alone");
}

#[tokio::test]
async fn payments_for_more_are_counted_over_time_and_the_mint_is_not_asked_for_the_others() {
    let tokens = tokens();
    let rig = rig_with(&tokens, |config| config.payments_per_minute = 2).await;
    let player = Player::new().await;
    let path = player.play(&rig, "token 0").await;
    let mut answers = Vec::new();
    // Who asks what to pay has not paid: that does not count.
    for payment in [
        None,
        Some("nonsense"),
        Some("token 1"),
        Some("token 2"),
        None,
    ] {
        let (status, head, _) = post(&rig, &path, payment, "").await;
        answers.push((status, head.contains("retry-after: ")));
    }
    let expect = [402, 400, 204, 429, 402].map(|status| (status, status == 429));
    assert_eq!(answers, expect);
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 3);
}

/// A payment that the mint has not answered yet counts, also once its sender has hung up; those of
/// viewers that have paid before are counted apart from those of strangers.
#[tokio::test]
async fn few_payments_of_a_household_are_taken_at_once() {
    let tokens = tokens();
    let rig = rig_with(&tokens, |_| {}).await;
    let player = Player::new().await;
    let path = player.play(&rig, "token 0").await;
    tokens.mint.forget_permits(1000);

    for number in 1..=2 {
        let mut hangs_up = TcpStream::connect(rig.address).await.unwrap();
        begin(&mut hangs_up, &rig, &path, &format!("token {number}"), 0).await;
        asked(&tokens, 1 + number).await;
    }
    let (status, _, _) = post(&rig, &path, Some("token 3"), "").await;
    assert_eq!(status, 429);

    let strangers = [
        Player::new().await,
        Player::new().await,
        Player::new().await,
    ];
    let [first, second, third] = &strangers;
    let (one, two, ()) = tokio::join!(
        post(&rig, "/whep", Some("token 4"), &first.offer),
        post(&rig, "/whep", Some("token 5"), &second.offer),
        async {
            asked(&tokens, 5).await;
            let (status, _, _) = post(&rig, "/whep", Some("token 6"), &third.offer).await;
            assert_eq!(status, 429);
            let (status, _, _) = post(&rig, "/whep", None, &third.offer).await;
            assert_eq!(status, 402, "who only asks holds no place and needs none");
            tokens.mint.add_permits(1000);
        }
    );
    assert_eq!((one.0, two.0), (201, 201), "{} {}", one.1, two.1);
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 5);
    // All are taken, and their places are free.
    for (path, payment, offer, expect) in [
        (&*path, "token 3", "", 204),
        ("/whep", "token 6", &*third.offer, 201),
    ] {
        let (status, head, _) = post(&rig, path, Some(payment), offer).await;
        assert_eq!(status, expect, "{head}");
    }
}

#[tokio::test]
async fn too_long_an_offer_is_not_paid_for_and_what_comes_with_more_is_not_read() {
    let tokens = tokens();
    let rig = rig_with(&tokens, |_| {}).await;
    let long = format!("{}{}", Player::new().await.offer, "a=x\r\n".repeat(20_000));
    let (status, head, _) = post(&rig, "/whep", Some("token 0"), &long).await;
    assert_eq!(status, 413, "{head}");
    assert_eq!(tokens.asked.load(Ordering::Relaxed), 0);

    let player = Player::new().await;
    let path = player.play(&rig, "token 0").await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    begin(&mut stream, &rig, &path, "token 1", 1 << 40).await;
    let mut answer = [0; 12];
    in_time(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
}

/// The head of a request, with a body announced that does not come.
async fn begin(stream: &mut TcpStream, rig: &Rig, path: &str, payment: &str, length: u64) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nX-Cashu: {payment}\r\nContent-Length: {length}\r\n\r\n",
        rig.address,
    );
    stream.write_all(request.as_bytes()).await.unwrap();
}
