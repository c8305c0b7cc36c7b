//! What is posted.

use std::collections::BTreeMap;

pub(super) const USER: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";

/// Of a browser, near enough; the last line of each section says which way media goes.
fn offer(way: &str, channel: bool) -> String {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\n{USER}a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=rtcp-mux\r\n",
        [
            "00", "11", "22", "33", "44", "55", "66", "77", "88", "99", "AA", "BB", "CC", "DD",
            "EE", "FF"
        ]
        .repeat(2)
        .join(":")
    );
    let bundle = if channel { "0 1 2" } else { "0 1" };
    let mut sdp = format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {bundle}\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{transport}a=mid:0\r\na=rtpmap:96 VP8/90000\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na={way}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{transport}a=mid:1\r\na=rtpmap:111 opus/48000/2\r\n\
         a={way}\r\n"
    );
    if channel {
        sdp += &format!(
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:2\r\n\
             a=sctp-port:5000\r\na=max-message-size:262144\r\n"
        );
    }
    sdp
}

/// As libdatachannel writes it, with which OBS publishes: what is of the connection stands before
/// the sections, sound comes first, and payload type 96 is H.264.
fn obs() -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=rtc 3767197920 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         a=group:LS 0 1\r\na=msid-semantic:WMS *\r\na=setup:actpass\r\n{USER}\
         a=ice-options:ice2,trickle\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=ssrc:1 cname:obs\r\na=ssrc:1 msid:obs obs-audio\r\na=msid:obs obs-audio\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;\
         sprop-stereo=1;useinbandfec=1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n\
         a=ssrc:2 cname:obs\r\na=ssrc:2 msid:obs obs-video\r\na=msid:obs obs-video\r\na=rtcp-mux\r\n\
         a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
         a=rtcp-fb:96 goog-remb\r\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1;\
         level-asymmetry-allowed=1\r\n"
    )
}

pub(super) fn offers() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("viewer", offer("recvonly", true)),
        ("player", offer("recvonly", false)),
        ("publisher", offer("sendonly", false)),
        ("obs", obs()),
        (
            "no codec",
            offer("recvonly", true)
                .replace("VP8", "X")
                .replace("opus", "y"),
        ),
        ("sound alone", offer("recvonly", true).replace("VP8", "X")),
        ("no description", "hello".to_owned()),
        ("too long", "v=0\r\n".repeat(13_108)),
        (
            "too many candidates",
            offer("recvonly", true) + &"a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(33),
        ),
    ])
}
