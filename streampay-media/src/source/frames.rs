//! Frames of one file, with how long each lasts.

use std::io::Read;

use bytes::Bytes;

use super::{Source, SourceError};
use crate::packet::{Codec, Kind};

/// One coded frame of one file.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Since the file's beginning, on the kind's clock.
    pub(super) ticks: u64,
    /// Where the next frame begins, if the format says so.
    pub(super) ticks_after: Option<u64>,
    pub(super) key: bool,
    pub(super) data: Bytes,
}

/// A file format. Any bytes give frames or a typed error, in bounded memory.
pub(super) trait FrameReader: Send {
    fn codec(&self) -> Codec;
    /// The next frame; none at the end. Ticks ascend.
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError>;
}

/// Bytes with their offset, for errors.
pub(super) struct Input<R> {
    reader: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Exactly `N` bytes; none at the end of the file.
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, SourceError> {
        let offset = self.offset;
        let bytes = self.up_to(N)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let array = bytes
            .try_into()
            .map_err(|_| SourceError::Truncated { offset })?;
        Ok(Some(array))
    }

    /// Exactly `length` bytes of the frame that began at `frame_offset`.
    pub(super) fn bytes(
        &mut self,
        length: usize,
        frame_offset: u64,
    ) -> Result<Vec<u8>, SourceError> {
        if length > Source::FRAME_MAX {
            return Err(SourceError::FrameTooLong {
                offset: frame_offset,
                max: Source::FRAME_MAX,
            });
        }
        let bytes = self.up_to(length)?;
        if bytes.len() < length {
            return Err(SourceError::Truncated {
                offset: frame_offset,
            });
        }
        Ok(bytes)
    }

    /// As many bytes as there are, at most `length`.
    fn up_to(&mut self, length: usize) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        self.reader.by_ref().take(limit).read_to_end(&mut bytes)?;
        self.offset += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(bytes)
    }
}

/// A frame and how long it lasts.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) kind: Kind,
    pub(super) ticks: u64,
    pub(super) span: u32,
    pub(super) key: bool,
    pub(super) data: Bytes,
}

/// Looks one frame ahead to know how long each lasts.
pub(super) struct Track {
    reader: Box<dyn FrameReader>,
    pending: Option<Frame>,
    span: u32,
}

impl Track {
    pub(super) fn new(mut reader: Box<dyn FrameReader>) -> Result<Self, SourceError> {
        let pending = reader.next_frame()?.ok_or(SourceError::Empty)?;
        if !pending.key {
            return Err(SourceError::NoKeyFrame);
        }
        // Until two frames are known: a twenty-fifth of a second.
        let span = reader.codec().kind().clock_rate() / 25;
        Ok(Self {
            reader,
            pending: Some(pending),
            span,
        })
    }

    pub(super) fn codec(&self) -> Codec {
        self.reader.codec()
    }

    /// When the next frame begins, in microseconds; none at the end.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.pending
            .as_ref()
            .map(|frame| self.codec().kind().us(frame.ticks))
    }

    pub(super) fn next_frame(&mut self) -> Result<Option<Spanned>, SourceError> {
        let Some(frame) = self.pending.take() else {
            return Ok(None);
        };
        self.pending = self.reader.next_frame()?;
        let after = frame
            .ticks_after
            .or_else(|| self.pending.as_ref().map(|next| next.ticks));
        if let Some(after) = after {
            // A frame is at most a second: a hole in the file is not billed as media.
            let most = u64::from(self.codec().kind().clock_rate());
            let span = after.saturating_sub(frame.ticks).clamp(1, most);
            self.span = u32::try_from(span).unwrap_or(self.span);
        }
        Ok(Some(Spanned {
            kind: self.codec().kind(),
            ticks: frame.ticks,
            span: self.span,
            key: frame.key,
            data: frame.data,
        }))
    }
}
