use super::{DEPTH_MAX, MESSAGE_MAX, WireError};

/// Checks that `bytes` are one CBOR value in its only accepted encoding: shortest integers and
/// lengths, definite lengths, unsigned map keys ascending without repeats, at most
/// [`DEPTH_MAX`] levels, UTF-8 texts, nothing after it. Reads each byte once and allocates
/// nothing.
///
/// # Errors
/// The first thing that is wrong, as a [`WireError`] without a field.
pub fn scan(bytes: &[u8]) -> Result<(), WireError> {
    if bytes.is_empty() {
        return Err(WireError::Empty);
    }
    if bytes.len() > MESSAGE_MAX {
        return Err(WireError::TooLong);
    }
    let rest = value(bytes, DEPTH_MAX)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(WireError::Trailing)
    }
}

/// Takes one value off the front. `depth` is how many more levels may open, which bounds the
/// recursion.
fn value(bytes: &[u8], depth: u8) -> Result<&[u8], WireError> {
    let (major, argument, rest) = head(bytes)?;
    match major {
        0 => Ok(rest),
        2 => take(rest, argument).map(|(_, rest)| rest),
        3 => {
            let (text, rest) = take(rest, argument)?;
            core::str::from_utf8(text).map_err(|_| WireError::NotUtf8)?;
            Ok(rest)
        }
        4 => {
            let depth = depth.checked_sub(1).ok_or(WireError::TooDeep)?;
            (0..argument).try_fold(rest, |rest, _| value(rest, depth))
        }
        5 => map(
            rest,
            argument,
            depth.checked_sub(1).ok_or(WireError::TooDeep)?,
        ),
        // Only false and true are left of the simple values.
        7 if argument == 20 || argument == 21 => Ok(rest),
        _ => Err(WireError::Unsupported),
    }
}

fn map(mut rest: &[u8], pairs: u64, depth: u8) -> Result<&[u8], WireError> {
    let mut last = None;
    for _ in 0..pairs {
        let (major, key, after) = head(rest)?;
        if major != 0 {
            return Err(WireError::KeyType);
        }
        if last.is_some_and(|last| key <= last) {
            return Err(WireError::KeyOrder);
        }
        last = Some(key);
        rest = value(after, depth)?;
    }
    Ok(rest)
}

/// Major type, argument, and what follows.
fn head(bytes: &[u8]) -> Result<(u8, u64, &[u8]), WireError> {
    let (&first, rest) = bytes.split_first().ok_or(WireError::Truncated)?;
    let (major, info) = (first >> 5, first & 0x1f);
    let (size, least) = match info {
        0..=23 => return Ok((major, u64::from(info), rest)),
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        27 => (8, 1 << 32),
        28..=30 => return Err(WireError::Unsupported),
        _ => return Err(WireError::Indefinite),
    };
    // Major 7 with more bytes is a float or an unassigned simple value.
    if major == 7 {
        return Err(WireError::Unsupported);
    }
    let (argument, rest) = take(rest, size)?;
    let argument = argument
        .iter()
        .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    if argument < least {
        Err(WireError::NotShortest)
    } else {
        Ok((major, argument, rest))
    }
}

fn take(bytes: &[u8], count: u64) -> Result<(&[u8], &[u8]), WireError> {
    usize::try_from(count)
        .ok()
        .and_then(|count| bytes.split_at_checked(count))
        .ok_or(WireError::Truncated)
}
