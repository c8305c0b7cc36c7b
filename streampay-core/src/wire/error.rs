/// Which part of a message an error is about: the message's type and the key in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Field {
    /// The message type; none inside nested values.
    pub message: u64,
    /// The integer key.
    pub key: u64,
}

/// Bytes that are no message. The session is unchanged by them. Spec: registry, error codes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, thiserror::Error,
)]
#[non_exhaustive]
pub enum WireError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// Longer than the limit.
    #[error("the message is longer than 16 KiB")]
    TooLong,
    /// It ends in the middle of a value.
    #[error("the message ends in the middle of a value")]
    Truncated,
    /// Bytes follow the message.
    #[error("bytes follow the message")]
    Trailing,
    /// An integer or length is not in its shortest form.
    #[error("an integer is not in its shortest form")]
    NotShortest,
    /// An indefinite length.
    #[error("a length is indefinite")]
    Indefinite,
    /// Map keys are not ascending, or one comes twice.
    #[error("map keys are not ascending and unique")]
    KeyOrder,
    /// A map key is not an unsigned integer.
    #[error("a map key is not an unsigned integer")]
    KeyType,
    /// Nested deeper than the limit.
    #[error("values are nested too deep")]
    TooDeep,
    /// A kind of CBOR value that no message uses: floats, tags, null, negative integers.
    #[error("a kind of value that is not used")]
    Unsupported,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// The message is not a map with a type at key 0.
    #[error("the message has no type")]
    NoType,
    /// An even type that this version does not know.
    #[error("unknown message type {0}")]
    UnknownType(u64),
    /// An even key that this version does not know.
    #[error("unknown key {} in message type {}", .0.key, .0.message)]
    UnknownKey(Field),
    /// A key that must be there is not.
    #[error("missing key {} in message type {}", .0.key, .0.message)]
    Missing(Field),
    /// A value of the wrong kind.
    #[error("wrong kind of value at key {} in message type {}", .0.key, .0.message)]
    WrongKind(Field),
    /// A value, or the number of its parts, is out of its range.
    #[error("value out of range at key {} in message type {}", .0.key, .0.message)]
    OutOfRange(Field),
}

impl WireError {
    /// The number in vectors and reports. Spec: registry, error codes.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Empty => 1,
            Self::TooLong => 2,
            Self::Truncated => 3,
            Self::Trailing => 4,
            Self::NotShortest => 5,
            Self::Indefinite => 6,
            Self::KeyOrder => 7,
            Self::KeyType => 8,
            Self::TooDeep => 9,
            Self::Unsupported => 10,
            Self::NotUtf8 => 11,
            Self::NoType => 12,
            Self::UnknownType(_) => 13,
            Self::UnknownKey(_) => 14,
            Self::Missing(_) => 15,
            Self::WrongKind(_) => 16,
            Self::OutOfRange(_) => 17,
        }
    }
}
