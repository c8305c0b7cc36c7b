use std::{io, path::PathBuf};

use crate::packet::Codec;

/// Why a media file cannot be streamed. Nothing was started; the file is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {cause}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file cannot be read to its end.
    #[error("cannot read the media file: {0}")]
    Read(#[from] io::Error),
    /// It is none of the formats that are understood.
    #[error(
        "{path} is not IVF, H.264 Annex B or Ogg Opus; convert it, for example with: ffmpeg -i {path} -c:v libvpx -g 50 clip.ivf -c:a libopus clip.ogg"
    )]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
    },
    /// An IVF file with another codec than VP8, VP9 or AV1.
    #[error("the IVF codec {} is not supported; use VP80, VP90 or AV01", fourcc.escape_ascii())]
    UnknownCodec {
        /// As in the file's header.
        fourcc: [u8; 4],
    },
    /// The file ends within a frame.
    #[error(
        "the file ends in the middle of a frame, at byte {offset}; it is damaged or not complete"
    )]
    Truncated {
        /// Where the frame begins, in bytes.
        offset: u64,
    },
    /// A frame longer than [`Source::FRAME_MAX`](super::Source::FRAME_MAX).
    #[error(
        "a frame at byte {offset} is longer than {max} bytes; the file is damaged or its bit rate too high"
    )]
    FrameTooLong {
        /// Where it begins.
        offset: u64,
        /// The longest allowed.
        max: usize,
    },
    /// Something in the file contradicts its format.
    #[error("the file is damaged at byte {offset}")]
    Malformed {
        /// Where.
        offset: u64,
    },
    /// There is no frame in it.
    #[error("the file holds no frame")]
    Empty,
    /// The video does not begin with a key frame.
    #[error("the video does not begin with a key frame; cut or encode it again")]
    NoKeyFrame,
    /// It is to be sealed, and its codec cannot be.
    #[error("{0} cannot be sealed; stream VP8 and Opus, or do not seal")]
    Unsealable(Codec),
}
