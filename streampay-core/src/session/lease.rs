//! What a reading may be ahead of the disk by.

use crate::meter::Reading;

/// What a payee's lease adds to its reading, and so what a restart may count as used beyond what
/// was: one second, and the bytes of one second at 2 Mbit/s. Source: DESIGN 4.
pub(super) const LEASE: Reading = Reading {
    media_ms: 1_000,
    bytes: 256 * 1024,
};
