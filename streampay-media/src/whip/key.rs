use core::fmt;

use zeroize::Zeroizing;

/// What a publisher has to say to be let in: the bearer token of RFC 9725 4.4. Who has it is the
/// streamer, as far as viewers can see and hear.
#[derive(Clone)]
pub struct StreamKey(Zeroizing<Vec<u8>>);

/// The text can be no stream key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stream key has {} to {} visible ASCII characters, none of them white space",
    StreamKey::LENGTH_MIN,
    StreamKey::LENGTH_MAX
)]
pub struct BadStreamKey;

impl StreamKey {
    /// The shortest, in characters. Guessing is slowed, but not stopped.
    pub const LENGTH_MIN: usize = 16;
    /// The longest, in characters.
    pub const LENGTH_MAX: usize = 256;

    /// The key that is this text.
    ///
    /// # Errors
    /// [`BadStreamKey`]: what HTTP headers cannot carry, or too short.
    pub fn new(text: &str) -> Result<Self, BadStreamKey> {
        let fits = (Self::LENGTH_MIN..=Self::LENGTH_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
        } else {
            Err(BadStreamKey)
        }
    }

    /// Whether `text` is it. Takes as long for any text of the same length.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        let apart = self.0.iter().zip(text).fold(0, |apart, (own, theirs)| {
            core::hint::black_box(apart | (own ^ theirs))
        });
        apart == 0 && self.0.len() == text.len()
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_enough_printable_and_never_shown() {
        let key = StreamKey::new("0123456789abcdef").unwrap();
        assert!(key.is(b"0123456789abcdef"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdeF",
            "0123456789abcdef0",
        ] {
            assert!(!key.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{key:?}"), "StreamKey(<redacted>)");
        let too_long = "x".repeat(257);
        for bad in [
            "",
            "short",
            "with a space in it",
            "tab\tin the middle of",
            &too_long,
        ] {
            assert_eq!(StreamKey::new(bad).unwrap_err(), BadStreamKey, "{bad:?}");
        }
    }
}
