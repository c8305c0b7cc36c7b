//! What a session description must be before anything is built from it.
//!
//! The stack skips stray line ends and trims what it reads, so that what is counted here must be
//! read as it reads it: a description that two readers could read differently is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The description within the limits and with a data channel, without the candidates that nobody
/// from elsewhere can be reached at. `local` keeps those of this machine and this link.
///
/// Candidates in private networks stay: viewers in the same house are the common case. So a
/// stranger can have connectivity checks (STUN, some tens of bytes each) sent to at most
/// [`CANDIDATES_MAX`] addresses and ports within them.
///
/// # Errors
/// [`SdpError`].
pub(super) fn admit(sdp: &str, local: bool) -> Result<String, SdpError> {
    let admitted = admit_media(sdp, local)?;
    if has_data_channel(&admitted) {
        Ok(admitted)
    } else {
        Err(SdpError::NoDataChannel)
    }
}

/// Whether it has a section for a data channel.
pub(crate) fn has_data_channel(sdp: &str) -> bool {
    sdp.lines()
        .any(|line| line.starts_with("m=application ") && line.contains("webrtc-datachannel"))
}

/// The same, with a data channel or without.
///
/// # Errors
/// [`SdpError`].
pub(super) fn admit_media(sdp: &str, local: bool) -> Result<String, SdpError> {
    if sdp.len() > SDP_MAX {
        return Err(SdpError::TooLong);
    }
    let lines = strict_lines(sdp).ok_or(SdpError::Malformed)?;
    let count = |prefix| lines.iter().filter(|line| line.starts_with(prefix)).count();
    if count(CANDIDATE) > CANDIDATES_MAX || count("m=") > SECTIONS_MAX {
        return Err(SdpError::TooManyParts);
    }
    let kept = lines.into_iter().filter(|line| {
        line.strip_prefix(CANDIDATE)
            .is_none_or(|candidate| local || is_reachable(candidate))
    });
    let mut admitted = String::with_capacity(sdp.len());
    for line in kept {
        admitted.push_str(line);
        admitted.push_str("\r\n");
    }
    Ok(admitted)
}

/// How many candidates may come after this description.
pub(crate) fn candidates_in(sdp: &str) -> usize {
    let lines = sdp.lines().filter(|line| line.starts_with(CANDIDATE));
    CANDIDATES_MAX.saturating_sub(lines.count())
}

/// The ICE users that a description names.
pub(crate) fn ice_users(sdp: &str) -> Vec<String> {
    let named = sdp.lines().filter_map(|line| line.strip_prefix(ICE_USER));
    named.map(|user| user.trim_end().to_owned()).collect()
}

const ICE_USER: &str = "a=ice-ufrag:";

/// A candidate that came later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// `candidate:` and what follows.
    pub(crate) line: String,
    /// The media section that it is of.
    pub(crate) mid: Option<String>,
}

/// A piece of a description that brings candidates. Source: RFC 8840 9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The ICE user, if it says one.
    pub(crate) user: Option<String>,
    /// Those of UDP that somebody from elsewhere can be reached at; with `local` all of UDP.
    pub(crate) candidates: Vec<Candidate>,
}

impl Fragment {
    /// Reads one that may bring `most` candidates.
    ///
    /// # Errors
    /// [`SdpError`].
    pub(crate) fn read(text: &str, local: bool, most: usize) -> Result<Self, SdpError> {
        if text.len() > SDP_MAX {
            return Err(SdpError::TooLong);
        }
        // The same lines as in a description, which begins in another way.
        let whole = format!("v=0\r\n{text}");
        let lines = strict_lines(&whole).ok_or(SdpError::Malformed)?;
        let count = |prefix| lines.iter().filter(|line| line.starts_with(prefix)).count();
        if count(CANDIDATE) > most || count("m=") > SECTIONS_MAX {
            return Err(SdpError::TooManyParts);
        }
        let (mut user, mut mid) = (None, None);
        let mut candidates = Vec::new();
        for line in lines {
            if let Some(named) = line.strip_prefix(ICE_USER) {
                if *user.get_or_insert(named) != named {
                    return Err(SdpError::Malformed);
                }
            } else if line.starts_with("m=") {
                mid = None;
            } else if let Some(named) = line.strip_prefix("a=mid:") {
                mid = Some(named.to_owned());
            } else if let Some(candidate) = line.strip_prefix(CANDIDATE)
                && is_udp(candidate)
                && (local || is_reachable(candidate))
            {
                let line = format!("candidate{candidate}");
                let mid = mid.clone();
                candidates.push(Candidate { line, mid });
            }
        }
        Ok(Self {
            user: user.map(str::to_owned),
            candidates,
        })
    }
}

fn is_udp(candidate: &str) -> bool {
    let transport = candidate.split_whitespace().nth(2);
    transport.is_some_and(|transport| transport.eq_ignore_ascii_case("udp"))
}

/// A candidate as the stack finds it; any that begins so counts, also what it would not take.
const CANDIDATE: &str = "a=candidate";

/// The lines `x=value`; none where a line is of another form, is empty, holds a control
/// character, or where white space follows its `=`, which RFC 8866 5 forbids but in `s= `.
fn strict_lines(sdp: &str) -> Option<Vec<&str>> {
    let whole = sdp.strip_suffix('\n').unwrap_or(sdp);
    let line = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let is_name = matches!(name.as_bytes(), [b'a'..=b'z']);
        let spaced = value.starts_with(char::is_whitespace) && name != "s";
        (is_name && !spaced && !line.contains(char::is_control)).then_some(())
    };
    let lines: Vec<&str> = whole
        .split('\n')
        .map(|text| text.strip_suffix('\r').unwrap_or(text))
        .collect();
    // A carriage return belongs to the line feed after it.
    let ended = sdp.ends_with('\n') || !sdp.ends_with('\r');
    (ended && lines.first() == Some(&"v=0") && lines.iter().all(|text| line(text).is_some()))
        .then_some(lines)
}

/// Whether somebody on another machine could be there. Names (mDNS, RFC 8839 5.1) could.
fn is_reachable(candidate: &str) -> bool {
    let address = candidate.split_whitespace().nth(4);
    match address.and_then(|address| address.parse().ok()) {
        Some(IpAddr::V4(address)) => is_reachable_v4(address),
        Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => is_reachable_v4(mapped),
            None => is_reachable_v6(address),
        },
        None => true,
    }
}

const fn is_reachable_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 0.0.0.0/8 is "this network" (RFC 1122 3.2.1.3); 224 and above are multicast and reserved.
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

pub(super) const fn is_reachable_v6(address: Ipv6Addr) -> bool {
    !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
}

const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
    }
}

/// The codecs of an offer's first section of that kind, in the order of its list.
pub(super) fn codecs_offered(offer: &str, kind: Kind) -> Vec<Codec> {
    let Some(section) = sections(offer).find(|section| {
        section
            .strip_prefix(kind_word(kind))
            .is_some_and(|rest| rest.starts_with(' '))
    }) else {
        return Vec::new();
    };
    let mut lines = section.lines();
    // m=video 9 UDP/TLS/RTP/SAVPF 96 97: the payload types, best first.
    let listed = lines.next().unwrap_or("").split(' ').skip(3);
    let named: Vec<(&str, &str)> = lines
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '))
        .collect();
    let mut found = Vec::new();
    for payload_type in listed {
        let format = named.iter().find(|(named, _)| *named == payload_type);
        let name = format.and_then(|(_, format)| format.split('/').next());
        let mime = name.map(|name| format!("{}/{name}", kind_word(kind)));
        let codec = mime.and_then(|mime| Codec::from_mime(&mime));
        found.extend(codec.filter(|codec| !found.contains(codec)));
    }
    found
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

/// The SHA-256 fingerprint of the certificate that the description names; none where it names
/// none, or several. Source: RFC 8122 5.
pub(super) fn fingerprint(sdp: &str) -> Option<[u8; 32]> {
    let mut found = None;
    for line in sdp.lines() {
        let Some(named) = line.trim_end().strip_prefix("a=fingerprint:") else {
            continue;
        };
        let (hash, digits) = named.split_once(' ')?;
        if !hash.eq_ignore_ascii_case("sha-256") {
            return None;
        }
        let byte = |pair: &str| {
            let hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = digits.split(':').map(byte).collect();
        let bytes = <[u8; 32]>::try_from(bytes?).ok()?;
        if *found.get_or_insert(bytes) != bytes {
            return None;
        }
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

    fn check(sdp: &str) -> Result<(), SdpError> {
        admit(sdp, true).map(drop)
    }

    #[test]
    fn one_certificate_is_named_and_no_more() {
        let line =
            |hash: &str, byte: &str| format!("a=fingerprint:{hash} {}\r\n", [byte; 32].join(":"));
        let one = line("sha-256", "aB");
        assert_eq!(
            fingerprint(&format!("v=0\r\n{one}a=mid:0\r\n{one}")),
            Some([0xab; 32])
        );
        for none in [
            String::new(),
            line("sha-1", "00"),
            one.clone() + &line("sha-256", "00"),
            one.clone() + &line("sha-512", "ab"),
            one.replace(":aB:", ":+1:"),
            "a=fingerprint:sha-256\r\n".to_owned(),
        ] {
            assert_eq!(fingerprint(&none), None, "{none}");
        }
    }

    #[test]
    fn descriptions_beyond_the_limits_are_refused() {
        let offer = format!("v=0\r\n{DATA}");
        assert_eq!(check(&offer), Ok(()));
        assert_eq!(check(offer.trim_end()), Ok(()));
        assert_eq!(check(&offer.replace('\r', "")), Ok(()));
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
    fn stray_line_ends_hide_no_candidate_and_no_section() {
        let offer = format!("v=0\r\n{DATA}");
        for hidden in [
            "\ra=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "\n\ra=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "\r\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "a=x\ra=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "\rm=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
            "\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
            "a= candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "a=\u{a0}candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "a=\u{85}candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "a=\tcandidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
            "a=x\0\r\n",
            "a=x\r",
            "\r\n",
        ] {
            assert_eq!(
                check(&(offer.clone() + hidden)),
                Err(SdpError::Malformed),
                "{hidden:?}"
            );
        }
    }

    #[test]
    fn only_candidates_that_others_can_be_at_are_kept() {
        let line = |address| format!("a=candidate:1 1 udp 1 {address} 9 typ host\r\n");
        for address in ["192.168.1.2", "10.0.0.1", "8.8.8.8", "fd00::1", "a-b.local"] {
            let offer = format!("v=0\r\n{DATA}{}", line(address));
            assert_eq!(admit(&offer, false), Ok(offer));
        }
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::fb",
            "::ffff:127.0.0.1",
        ] {
            let bare = format!("v=0\r\n{DATA}");
            let offer = bare.clone() + &line(address);
            assert_eq!(admit(&offer, false), Ok(bare), "{address}");
            assert_eq!(admit(&offer, true), Ok(offer));
        }
    }

    #[test]
    fn pieces_bring_candidates_of_udp_and_no_more_than_may_come() {
        let piece = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\n\
            a=candidate:1 1 udp 2130706431 192.0.2.1 61764 typ host\r\n\
            a=candidate:2 1 UDP 2130706431 127.0.0.1 61765 typ host\r\n\
            a=candidate:3 1 tcp 2130706431 192.0.2.1 9 typ host tcptype passive\r\n\
            a=end-of-candidates\r\n";
        let read = |local, most| Fragment::read(piece, local, most);
        let public = read(false, 3).unwrap();
        assert_eq!(public.user.as_deref(), Some("abcd"));
        let line = "candidate:1 1 udp 2130706431 192.0.2.1 61764 typ host".to_owned();
        let mid = Some("1".to_owned());
        assert_eq!(public.candidates, [Candidate { line, mid }]);
        assert_eq!(read(true, 3).unwrap().candidates.len(), 2);
        assert_eq!(read(true, 2), Err(SdpError::TooManyParts));
        for malformed in [
            "candidate",
            "a=x\ra=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
            "\r\n",
        ] {
            assert_eq!(Fragment::read(malformed, true, 9), Err(SdpError::Malformed));
        }
        let two = format!("{piece}a=ice-ufrag:efgh\r\n");
        assert_eq!(Fragment::read(&two, true, 9), Err(SdpError::Malformed));
        assert_eq!(Fragment::read("", true, 0).unwrap().candidates, []);
        let offer = format!("v=0\r\n{DATA}{piece}");
        assert_eq!(
            (candidates_in(&offer), ice_users(&offer)),
            (29, vec!["abcd".to_owned()])
        );
    }

    #[test]
    fn a_publishers_codecs_are_read_in_its_order() {
        let offer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=rtpmap:111 opus/48000/2\r\n\
            a=rtpmap:63 red/48000/2\r\nm=video 9 UDP/TLS/RTP/SAVPF 35 98 97 96 102\r\n\
            a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=rtpmap:98 vp9/90000\r\n\
            a=rtpmap:102 H264/90000\r\na=rtpmap:35 H265/90000\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 5\r\na=rtpmap:5 VP8/90000\r\n";
        assert_eq!(
            codecs_offered(offer, Kind::Video),
            [Codec::Vp9, Codec::Vp8, Codec::H264]
        );
        assert_eq!(codecs_offered(offer, Kind::Audio), [Codec::Opus]);
        assert_eq!(codecs_offered("v=0\r\nm=video\r\n", Kind::Video), []);
    }

    #[test]
    fn codecs_are_read_from_the_sections_that_send() {
        let answer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:97 rtx/90000\r\n\
            a=rtpmap:96 vp8/90000\r\na=sendonly\r\nm=audio 0 X 111\r\na=rtpmap:111 opus/48000/2\r\n";
        assert_eq!(codecs_sent(answer), [Codec::Vp8]);
    }
}
