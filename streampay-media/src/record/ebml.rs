//! EBML, as far as it is written here. Source: RFC 8794.

/// An element with an identifier, as its bytes are, and a body.
pub(super) fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = identifier(id);
    out.extend(size(body.len()));
    out.extend_from_slice(body);
    out
}

/// A master element whose end is not known.
pub(super) fn endless(id: u32) -> Vec<u8> {
    let mut out = identifier(id);
    out.extend([0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    out
}

pub(super) fn unsigned(id: u32, value: u64) -> Vec<u8> {
    element(id, without_zeros(&value.to_be_bytes()))
}

pub(super) fn float(id: u32, value: f64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

pub(super) fn text(id: u32, value: &str) -> Vec<u8> {
    element(id, value.as_bytes())
}

/// A master element.
pub(super) fn master(id: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    element(id, &parts.concat())
}

/// An element of `length` bytes, at least nine, that means nothing: room for another one.
/// Source: RFC 8794 11.3.2.
pub(super) fn void(length: usize) -> Vec<u8> {
    let head = 1 + size(0).len();
    element(0xec, &vec![0; length.saturating_sub(head)])
}

fn identifier(id: u32) -> Vec<u8> {
    without_zeros(&id.to_be_bytes()).to_vec()
}

/// A length in eight bytes: simple, and always enough.
fn size(length: usize) -> [u8; 8] {
    let length = u64::try_from(length).unwrap_or(u64::MAX >> 8);
    (length | 1 << 56).to_be_bytes()
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let last = bytes.len().saturating_sub(1);
    let zeros = bytes
        .iter()
        .take(last)
        .take_while(|byte| **byte == 0)
        .count();
    bytes.get(zeros..).unwrap_or(bytes)
}
