//! Recording what was received, as one file that any player opens.
//!
//! A [`Recorder`] of a [`Container`] of one codec records that alone and leaves the other kind of
//! media out. By default it is Matroska:
//!
//! WebM for VP8, VP9 or AV1 with Opus, Matroska for H.264 with Opus. The file is playable at every
//! moment, also after the process was killed: every frame is written when it is whole, and all that
//! is filled in at the end, where that is possible, is how long it is. It begins with a key frame.
//! Time in it is the stream's own, so a pause is a pause there, too.
//!
//! That muxer is our own because what it needs is little and unusual: elements of unknown size,
//! written once, to any [`Write`](std::io::Write), without having to seek. MP4, which plays on
//! devices that know no Matroska, is made of the boxes of `shiguredo_mp4`, in fragments.

mod ebml;
mod matroska;
mod mp4;
mod output;
mod plain;
mod recorder;

use std::{io, path::Path};

use crate::packet::{Codec, Kind};

pub use recorder::Recorder;

/// What a file will hold.
#[derive(Clone, Copy, Debug)]
struct Tracks {
    video: Option<Codec>,
    /// Opus.
    audio: bool,
}

/// One frame in a file.
#[derive(Clone, Copy, Debug)]
struct Block<'a> {
    kind: Kind,
    at_ms: u64,
    key: bool,
    data: &'a [u8],
}

/// Why recording ended. What was written so far is playable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file cannot be written.
    #[error("cannot write the recording: {0}")]
    Write(#[from] io::Error),
    /// There is neither picture nor sound, or none that the container can hold.
    #[error(
        "the streamer sends nothing that could be recorded in such a file; .webm, .mkv and .mp4 hold \
         all kinds, .ivf VP8, VP9 or AV1, .h264 H.264, .ogg Opus"
    )]
    NothingToRecord,
}

/// What kind of file a recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// Matroska, or WebM where the codecs allow it: picture and sound.
    #[default]
    Matroska,
    /// MP4 in fragments: picture and sound. A second of it is written at once, or up to the next
    /// key frame: so much is missing after the process was killed, and the rest is playable.
    /// Everything plays H.264, VP9 and AV1 in it; VP8 only what is made for it, such as ffmpeg.
    Mp4,
    /// IVF: VP8, VP9 or AV1. Time stamps in milliseconds.
    Ivf,
    /// H.264 as Annex B: no time stamps, so that a pause leaves no trace.
    AnnexB,
    /// Ogg Opus. A pause leaves no trace.
    Ogg,
}

impl Container {
    /// By the ending of a file's name, in any case; [`Matroska`](Self::Matroska) for what is not
    /// known.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_ref().and_then(|ending| ending.to_str()) {
            Some("mp4" | "m4v") => Self::Mp4,
            Some("ivf") => Self::Ivf,
            Some("h264" | "264" | "avc") => Self::AnnexB,
            Some("ogg" | "oga" | "opus") => Self::Ogg,
            _ => Self::Matroska,
        }
    }

    /// Whether it can hold that codec.
    #[must_use]
    pub const fn holds(self, codec: Codec) -> bool {
        match self {
            Self::Matroska | Self::Mp4 => true,
            Self::Ivf => matches!(codec, Codec::Vp8 | Codec::Vp9 | Codec::Av1),
            Self::AnnexB => matches!(codec, Codec::H264),
            Self::Ogg => matches!(codec, Codec::Opus),
        }
    }
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Pictures written.
    pub video_frames: u64,
    /// Sound packets written.
    pub audio_frames: u64,
    /// From the first to the last frame written, in milliseconds.
    pub duration_ms: u64,
    /// The file's length.
    pub bytes: u64,
}

/// How a recording of `codecs` is called: `webm`, or `mkv` where WebM does not allow them.
#[must_use]
pub fn file_ending(codecs: &[Codec]) -> &'static str {
    if codecs.contains(&Codec::H264) {
        "mkv"
    } else {
        "webm"
    }
}

#[cfg(test)]
mod tests;
