//! The link to a stream: the WHEP address, and the streamer's key behind the `#`, where no server
//! sees it.

use std::str::FromStr;

use streampay_core::units::XOnlyKey;

/// Where a stream is, and whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLink {
    /// The WHEP address, without the key.
    pub url: String,
    /// The payee's identity: what everything else is checked against.
    pub key: XOnlyKey,
}

/// A text is no link to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a link to a stream; it looks like http://host:port/whep#key=<64 hexadecimal digits>")]
pub struct BadLink;

impl FromStr for StreamLink {
    type Err = BadLink;

    fn from_str(text: &str) -> Result<Self, BadLink> {
        let (url, key) = text.trim().split_once("#key=").ok_or(BadLink)?;
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.len() > 512 {
            return Err(BadLink);
        }
        Ok(Self {
            url: url.to_owned(),
            key: key.parse().map_err(|_| BadLink)?,
        })
    }
}

impl core::fmt::Display for StreamLink {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}#key={}", self.url, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_round_trip_and_all_else_is_refused() {
        let text = format!("http://127.0.0.1:8080/whep#key={}", "ab".repeat(32));
        assert_eq!(text.parse::<StreamLink>().unwrap().to_string(), text);
        for bad in [
            "",
            "http://x/whep",
            "ftp://x#key=00",
            "http://x/whep#key=zz",
        ] {
            assert_eq!(bad.parse::<StreamLink>(), Err(BadLink));
        }
    }
}
