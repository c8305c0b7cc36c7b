//! The payer's side of a sealed frame: pure, bounded, for any bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use sframe::{frame::EncryptedFrameView, header::SframeHeader, key::DecryptionKey};

use super::{
    BadGrant, EpochGrant, EpochKey,
    frame::{COUNTERS, SUITE, metadata, split},
};
use crate::packet::Codec;

/// Epochs whose keys are kept: over ten seconds.
const EPOCHS_MAX: usize = 256;
/// Epochs by which a grant may be behind one that came before it: both kinds are nearly in step.
const BEHIND_MAX: u64 = 20;

/// Why a frame was not opened. It does not count as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its codec cannot be sealed.
    #[error("frames of {0} are not sealed")]
    Codec(Codec),
    /// It is too short to be sealed, or its header is damaged.
    #[error("this is no sealed frame")]
    Malformed,
    /// Its header is not in its shortest form.
    #[error("the frame's header is not in its shortest form")]
    NotShortest,
    /// Its counter is not below 1 024.
    #[error("the frame's counter is out of range")]
    Counter,
    /// The key of its epoch has not been granted yet.
    #[error("the key of epoch {0} is not here")]
    NoKey(u64),
    /// The key of its epoch was not granted when it was due, or is forgotten.
    #[error("the key of epoch {0} will not come")]
    TooLate(u64),
    /// A frame with its epoch and counter was opened before.
    #[error("the frame was opened before")]
    Repeated,
    /// It is not what was sealed.
    #[error("the frame is not authentic")]
    Forged,
}

/// Holds granted keys and opens frames, each at most once. Any bytes give a frame or an error.
#[derive(Debug, Default)]
pub struct Opener {
    epochs: VecDeque<Held>,
    newest: Option<u64>,
}

struct Held {
    epoch: u64,
    base: EpochKey,
    key: DecryptionKey,
    /// Counters that were opened, a bit each.
    seen: [u64; 16],
}

impl core::fmt::Debug for Held {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Held")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Opener {
    /// One without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a key. One for an epoch that is known takes the place of the other where it differs:
    /// the source began anew.
    ///
    /// # Errors
    /// [`BadGrant`] where the cipher takes no such key.
    pub fn grant(&mut self, grant: &EpochGrant) -> Result<(), BadGrant> {
        let key =
            DecryptionKey::derive_from(SUITE, grant.epoch, grant.key.0).map_err(|_| BadGrant)?;
        self.newest = Some(grant.epoch);
        let new = Held {
            epoch: grant.epoch,
            base: grant.key.clone(),
            key,
            seen: [0; 16],
        };
        match self.held(grant.epoch) {
            Some(held) if held.base == grant.key => {}
            Some(held) => *held = new,
            None => {
                if self.epochs.len() >= EPOCHS_MAX {
                    self.epochs.pop_front();
                }
                self.epochs.push_back(new);
            }
        }
        Ok(())
    }

    /// The epoch that was granted last.
    #[must_use]
    pub const fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Opens one frame.
    ///
    /// # Errors
    /// [`OpenError`]; after [`OpenError::NoKey`] the same frame may be tried again.
    pub fn open(&mut self, codec: Codec, frame: &[u8]) -> Result<Bytes, OpenError> {
        let (clear, sealed) = split(codec, frame).ok_or(OpenError::Malformed)?;
        let metadata = metadata(codec, clear).map_err(|error| OpenError::Codec(error.0))?;
        let view = EncryptedFrameView::try_with_meta_data(sealed, &metadata)
            .map_err(|_| OpenError::Malformed)?;
        let header = *view.header();
        let (epoch, counter) = (header.key_id(), header.counter());
        if header != SframeHeader::new(epoch, counter) {
            return Err(OpenError::NotShortest);
        }
        if counter >= COUNTERS {
            return Err(OpenError::Counter);
        }
        let newest = self.newest;
        let Some(held) = self.held(epoch) else {
            // Keys come in the order of their epochs, but for how both kinds are mixed.
            let passed = newest.is_some_and(|newest| newest > epoch.saturating_add(BEHIND_MAX));
            return Err(if passed {
                OpenError::TooLate(epoch)
            } else {
                OpenError::NoKey(epoch)
            });
        };
        let word = usize::try_from(counter / 64).unwrap_or(usize::MAX);
        let bit = 1_u64 << (counter % 64);
        let seen = held.seen.get_mut(word).ok_or(OpenError::Counter)?;
        if *seen & bit != 0 {
            return Err(OpenError::Repeated);
        }
        let opened = view.decrypt(&held.key).map_err(|_| OpenError::Forged)?;
        *seen |= bit;
        // The library's layout is `metadata | frame`.
        let opened = opened.as_ref().get(1..).ok_or(OpenError::Malformed)?;
        Ok(Bytes::copy_from_slice(opened))
    }

    fn held(&mut self, epoch: u64) -> Option<&mut Held> {
        self.epochs
            .iter_mut()
            .rev()
            .find(|held| held.epoch == epoch)
    }
}
