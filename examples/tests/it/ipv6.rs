//! Media over IPv6.

use std::net::UdpSocket;

use crate::processes::{Stage, msat};

/// Whether this machine has IPv6, at least for itself, which CI may not let it lack.
fn has_ipv6() -> bool {
    let bound = UdpSocket::bind("[::1]:0");
    let must = std::env::var_os("STREAMPAY_MUST_IPV6").is_some();
    assert!(bound.is_ok() || !must, "no IPv6: {bound:?}");
    if bound.is_err() {
        eprintln!("left out: this machine has no IPv6");
    }
    bound.is_ok()
}

#[test]
fn a_streamer_at_ipv6_alone_is_watched_by_whoever_names_no_address_and_whoever_names_one() {
    if !has_ipv6() {
        return;
    }
    let stage = Stage::new();
    let (_streamer, link) = stage.serve_with("127.0.0.1:0", &["--media-bind", "::1"]);
    let named: &[&str] = &["--media-bind", "::1"];
    let viewers = [("silent", &[][..]), ("naming", named)];
    let viewers = viewers.map(|(name, more)| stage.viewer_with(name, &link, "12sat", more));
    for mut viewer in viewers {
        let summary = viewer.named("summary");
        // Until the budget is used up.
        assert_eq!(viewer.exit_code(), Some(3), "{summary}");
        let paid = msat(&summary, "acknowledged_msat");
        assert!(paid >= 4_000, "{summary}");
        // A msat buys a ms.
        let played = msat(&summary, "media_ms");
        assert!((paid - 1_500..=paid).contains(&played), "{summary}");
    }
}
