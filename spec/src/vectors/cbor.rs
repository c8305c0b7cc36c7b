//! Enough CBOR to build what the codec must refuse: a tree whose every part can be changed, and
//! written wrongly on purpose.

/// One value. Maps keep their order, and may hold a key twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An unsigned integer.
    Uint(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A text, whatever its bytes.
    Text(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A map with unsigned keys.
    Map(Vec<(u64, Self)>),
    /// These bytes, as they are.
    Raw(Vec<u8>),
}

impl Item {
    /// The bytes, in the shortest form, keys in the order that they stand in.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Uint(value) => head(0, *value),
            Self::Bytes(bytes) => [head(2, len(bytes)), bytes.clone()].concat(),
            Self::Text(bytes) => [head(3, len(bytes)), bytes.clone()].concat(),
            Self::List(items) => {
                let body: Vec<u8> = items.iter().flat_map(Self::encode).collect();
                [head(4, len(items)), body].concat()
            }
            Self::Map(pairs) => {
                let pair = |(key, value): &(u64, Self)| [head(0, *key), value.encode()].concat();
                let body: Vec<u8> = pairs.iter().flat_map(pair).collect();
                [head(5, len(pairs)), body].concat()
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }

    /// Reads one value leniently: integers of any length, keys in any order, and returns what
    /// follows it. None where it is cut or of a kind that is never used.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        Self::parse_at(bytes, 16)
    }

    fn parse_at(bytes: &[u8], depth: u8) -> Option<(Self, &[u8])> {
        let depth = depth.checked_sub(1)?;
        let (major, value, rest) = parse_head(bytes)?;
        match major {
            0 => Some((Self::Uint(value), rest)),
            2 | 3 => {
                let (body, rest) = rest.split_at_checked(usize::try_from(value).ok()?)?;
                let body = body.to_vec();
                let item = if major == 2 {
                    Self::Bytes(body)
                } else {
                    Self::Text(body)
                };
                Some((item, rest))
            }
            4 => {
                let (mut items, mut rest) = (Vec::new(), rest);
                for _ in 0..value {
                    let (item, after) = Self::parse_at(rest, depth)?;
                    items.push(item);
                    rest = after;
                }
                Some((Self::List(items), rest))
            }
            5 => {
                let (mut pairs, mut rest) = (Vec::new(), rest);
                for _ in 0..value {
                    let (Self::Uint(key), after) = Self::parse_at(rest, depth)? else {
                        return None;
                    };
                    let (item, after) = Self::parse_at(after, depth)?;
                    pairs.push((key, item));
                    rest = after;
                }
                Some((Self::Map(pairs), rest))
            }
            _ => None,
        }
    }

    /// The pairs of a map; none for all else.
    #[must_use]
    pub fn pairs(&self) -> Option<&[(u64, Self)]> {
        match self {
            Self::Map(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The pairs of a map; none for all else.
    pub const fn pairs_mut(&mut self) -> Option<&mut Vec<(u64, Self)>> {
        match self {
            Self::Map(pairs) => Some(pairs),
            _ => None,
        }
    }
}

fn len<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// Major type and argument in the shortest form.
#[must_use]
pub fn head(major: u8, value: u64) -> Vec<u8> {
    let top = major << 5;
    let bytes = value.to_be_bytes();
    let (info, size) = match value {
        0..24 => (u8::try_from(value).unwrap_or_default(), 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    let tail = bytes.get(8_usize.saturating_sub(size)..);
    [&[top | info], tail.unwrap_or_default()].concat()
}

/// The same in eight bytes, which is hardly ever the shortest.
#[must_use]
pub fn long_head(major: u8, value: u64) -> Vec<u8> {
    [&[major << 5 | 27][..], &value.to_be_bytes()].concat()
}

fn parse_head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let info = first & 0x1f;
    let size = match info {
        0..=23 => return Some((first >> 5, u64::from(info), rest)),
        24..=27 => 1_usize << (info - 24),
        _ => return None,
    };
    let (argument, rest) = rest.split_at_checked(size)?;
    let value = argument
        .iter()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some((first >> 5, value, rest))
}
