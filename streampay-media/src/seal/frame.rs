//! One frame, sealed: `clear | SFrame header | ciphertext | tag`.

use std::sync::Arc;

use bytes::Bytes;
use sframe::{
    CipherSuite,
    frame::{MediaFrameView, SingleUseCounter},
    key::EncryptionKey,
};

use super::{StreamSecret, epoch_of_us};
use crate::packet::{Codec, Kind};

/// AES_128_GCM_SHA256_128. Source: RFC 9605 4.5.
pub(super) const SUITE: CipherSuite = CipherSuite::AesGcm128Sha256;

/// Counters of an epoch are below this, so that a receiver can remember them all.
pub(super) const COUNTERS: u64 = 1024;

/// A codec whose frames cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be sealed; stream VP8 and Opus, or do not seal")]
pub struct Unsealable(pub Codec);

/// Why a frame was not sealed. It must not be sent then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Its codec cannot be sealed.
    #[error(transparent)]
    Codec(#[from] Unsealable),
    /// It is shorter than what stays in the clear of such a frame.
    #[error("the frame is too short for one of its codec")]
    Short,
    /// Its time is before that of the frame before it: counters would repeat.
    #[error("the frame's time is before that of the last one")]
    Late,
    /// There are too many frames in one epoch.
    #[error("there are more than {} frames in an epoch", COUNTERS / 2)]
    TooMany,
    /// The cipher failed.
    #[error("the frame could not be encrypted")]
    Cipher,
}

/// The number of a codec in what is authenticated.
pub(super) const fn codec_number(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Vp8 => Some(1),
        Codec::Opus => Some(2),
        Codec::Vp9 | Codec::H264 | Codec::Av1 => None,
    }
}

/// How many bytes of a frame stay in the clear, by its first: what a carrier has to see. VP8: the
/// frame tag, of a key frame also start code and size (RFC 6386 9.1). Opus: the TOC byte (RFC 6716
/// 3.1).
const fn clear_len(codec: Codec, first: u8) -> usize {
    match codec {
        Codec::Vp8 if first & 1 == 0 => 10,
        Codec::Vp8 => 3,
        _ => 1,
    }
}

/// A frame's clear part and the rest; none where it is too short to have one.
pub(super) fn split(codec: Codec, frame: &[u8]) -> Option<(&[u8], &[u8])> {
    frame.split_at_checked(clear_len(codec, *frame.first()?))
}

/// What is authenticated beside the header: the codec's number and the clear part.
pub(super) fn metadata(codec: Codec, clear: &[u8]) -> Result<Vec<u8>, Unsealable> {
    let number = codec_number(codec).ok_or(Unsealable(codec))?;
    Ok([&[number], clear].concat())
}

/// `frame` under `key`, with this counter. Never the same counter twice under one key.
pub(super) fn seal(
    key: &EncryptionKey,
    counter: u64,
    codec: Codec,
    frame: &[u8],
) -> Result<Bytes, SealError> {
    let (clear, hidden) = split(codec, frame).ok_or(SealError::Short)?;
    let metadata = metadata(codec, clear)?;
    let mut counter = SingleUseCounter::new(counter);
    let sealed = MediaFrameView::try_with_meta_data(&mut counter, hidden, &metadata)
        .and_then(|frame| frame.encrypt(key))
        .map_err(|_| SealError::Cipher)?;
    // The library's layout is `metadata | header | ciphertext | tag`.
    let sealed = sealed.as_ref().get(1..).ok_or(SealError::Cipher)?;
    Ok(Bytes::copy_from_slice(sealed))
}

/// Seals the frames of one source.
#[derive(Debug)]
pub(crate) struct FrameSealer {
    secret: Arc<StreamSecret>,
    video: Option<Current>,
    audio: Option<Current>,
}

/// The epoch of a kind's last frame.
struct Current {
    epoch: u64,
    key: EncryptionKey,
    /// Frames of this kind in it.
    frames: u64,
}

impl core::fmt::Debug for Current {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Current")
            .field("epoch", &self.epoch)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl FrameSealer {
    pub(crate) const fn new(secret: Arc<StreamSecret>) -> Self {
        Self {
            secret,
            video: None,
            audio: None,
        }
    }

    /// The next frame of its kind, which begins at `us` of the source's time.
    pub(crate) fn seal(&mut self, codec: Codec, us: u64, frame: &[u8]) -> Result<Bytes, SealError> {
        let epoch = epoch_of_us(us);
        let (current, odd) = match codec.kind() {
            Kind::Video => (&mut self.video, 0),
            Kind::Audio => (&mut self.audio, 1),
        };
        if current.as_ref().is_some_and(|last| epoch < last.epoch) {
            return Err(SealError::Late);
        }
        let same = current.take().filter(|last| last.epoch == epoch);
        let current = match same {
            Some(same) => current.insert(same),
            None => {
                let key = EncryptionKey::derive_from(SUITE, epoch, self.secret.key(epoch).0)
                    .map_err(|_| SealError::Cipher)?;
                current.insert(Current {
                    epoch,
                    key,
                    frames: 0,
                })
            }
        };
        // Both kinds share a key: even counters are the picture's, odd ones the sound's.
        let counter = current.frames.saturating_mul(2).saturating_add(odd);
        if counter >= COUNTERS {
            return Err(SealError::TooMany);
        }
        current.frames = current.frames.saturating_add(1);
        seal(&current.key, counter, codec, frame)
    }
}
