//! What a session description must be before anything is built from it.

use crate::packet::{Codec, Kind};

/// The longest session description, in bytes, both ways.
pub const SDP_MAX: usize = 64 * 1024;
/// The most candidates in one: more would make this machine knock on the doors of others.
pub const CANDIDATES_MAX: usize = 32;
/// The most media sections in one. Ours have three.
const SECTIONS_MAX: usize = 16;

/// Why a session description is refused. Nothing was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`SDP_MAX`].
    #[error("the session description is longer than {SDP_MAX} bytes")]
    TooLong,
    /// More than [`CANDIDATES_MAX`] candidates or 16 media sections.
    #[error("the session description has too many parts")]
    TooManyParts,
    /// No media section for a data channel: a plain player, not a paying viewer.
    #[error(
        "the offer has no data channel; payment needs one, so use `viewer watch` or the web page"
    )]
    NoDataChannel,
    /// It is no session description.
    #[error("this is not a session description")]
    Malformed,
}

/// A description within the limits and with a data channel.
///
/// # Errors
/// [`SdpError`].
pub(super) fn check(sdp: &str) -> Result<(), SdpError> {
    if sdp.len() > SDP_MAX {
        return Err(SdpError::TooLong);
    }
    if !sdp.starts_with("v=0") {
        return Err(SdpError::Malformed);
    }
    let count = |prefix| sdp.lines().filter(|line| line.starts_with(prefix)).count();
    if count("a=candidate:") > CANDIDATES_MAX || count("m=") > SECTIONS_MAX {
        return Err(SdpError::TooManyParts);
    }
    if !sdp
        .lines()
        .any(|line| line.starts_with("m=application ") && line.contains("webrtc-datachannel"))
    {
        return Err(SdpError::NoDataChannel);
    }
    Ok(())
}

/// Whether it has a media section of that kind.
pub(super) fn has(sdp: &str, kind: Kind) -> bool {
    sdp.lines().any(|line| {
        line.strip_prefix("m=")
            .and_then(|line| line.strip_prefix(kind_word(kind)))
            .is_some_and(|rest| rest.starts_with(' '))
    })
}

const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
    }
}

/// The codecs that an answer will send: of each section that sends, the first that is known.
pub(super) fn codecs_sent(answer: &str) -> Vec<Codec> {
    let mut found = Vec::new();
    for section in sections(answer) {
        let kind = if section.starts_with("video ") {
            Kind::Video
        } else if section.starts_with("audio ") {
            Kind::Audio
        } else {
            continue;
        };
        let refused = section.split(' ').nth(1) == Some("0");
        let silent = section
            .lines()
            .any(|line| matches!(line, "a=inactive" | "a=recvonly"));
        if refused || silent {
            continue;
        }
        let codec = section.lines().find_map(|line| {
            let (_, format) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            let name = format.split('/').next()?;
            let known = Codec::from_mime(&format!("{}/{name}", kind_word(kind)))?;
            (known.kind() == kind).then_some(known)
        });
        found.extend(codec);
    }
    found
}

/// What follows each `m=`.
fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.split("\nm=").skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";

    #[test]
    fn descriptions_beyond_the_limits_are_refused() {
        let offer = format!("v=0\r\n{DATA}");
        assert_eq!(check(&offer), Ok(()));
        for (sdp, error) in [
            (String::new(), SdpError::Malformed),
            (
                "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n".into(),
                SdpError::NoDataChannel,
            ),
            (
                offer.clone() + &"a=candidate:1\r\n".repeat(33),
                SdpError::TooManyParts,
            ),
            (offer.clone() + &DATA.repeat(16), SdpError::TooManyParts),
            (offer + &"x".repeat(SDP_MAX), SdpError::TooLong),
        ] {
            assert_eq!(check(&sdp), Err(error));
        }
    }

    #[test]
    fn codecs_are_read_from_the_sections_that_send() {
        let answer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:97 rtx/90000\r\n\
            a=rtpmap:96 vp8/90000\r\na=sendonly\r\nm=audio 0 X 111\r\na=rtpmap:111 opus/48000/2\r\n";
        assert_eq!(codecs_sent(answer), [Codec::Vp8]);
        assert!(has(answer, Kind::Audio));
    }
}
