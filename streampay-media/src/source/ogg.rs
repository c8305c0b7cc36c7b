//! Ogg Opus files. Source: RFC 3533 6, RFC 7845 3.

use std::{collections::VecDeque, io::Read};

use bytes::Bytes;

use super::{
    SourceError,
    frames::{Frame, FrameReader, Input},
};
use crate::{codec::opus_ticks, packet::Codec};

pub(super) const MAGIC: &[u8; 4] = b"OggS";

/// Own and not that of `rtc`: its reader yields pages, which hold many packets.
pub(super) struct OggReader<R> {
    input: Input<R>,
    serial: Option<[u8; 4]>,
    ready: VecDeque<Vec<u8>>,
    /// A packet that goes on in the next page.
    partial: Vec<u8>,
    ticks: u64,
}

impl<R: Read> OggReader<R> {
    /// Packets longer than this are no Opus: 120 ms at 510 kbit/s is under 8 kB.
    const PACKET_MAX: usize = 64 * 1024;

    pub(super) fn new(reader: R) -> Result<Self, SourceError> {
        let mut this = Self {
            input: Input::new(reader),
            serial: None,
            ready: VecDeque::new(),
            partial: Vec::new(),
            ticks: 0,
        };
        let head = this.packet()?.ok_or(SourceError::Empty)?;
        let tags = this.packet()?.ok_or(SourceError::Empty)?;
        if !head.starts_with(b"OpusHead") || !tags.starts_with(b"OpusTags") {
            return Err(SourceError::Malformed { offset: 0 });
        }
        Ok(this)
    }

    fn packet(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        while self.ready.is_empty() {
            if !self.page()? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Reads one page; false at the end of the file.
    fn page(&mut self) -> Result<bool, SourceError> {
        let offset = self.input.offset();
        let Some(header) = self.input.array::<27>()? else {
            return Ok(false);
        };
        let [b'O', b'g', b'g', b'S', 0, _, rest @ ..] = header else {
            return Err(SourceError::Malformed { offset });
        };
        let [_, _, _, _, _, _, _, _, s0, s1, s2, s3, .., segments] = rest;
        let lacing = self.input.bytes(usize::from(segments), offset)?;
        let length = lacing.iter().map(|value| usize::from(*value)).sum();
        let body = self.input.bytes(length, offset)?;
        let serial = *self.serial.get_or_insert([s0, s1, s2, s3]);
        if serial != [s0, s1, s2, s3] {
            // Another logical stream, such as a cover picture.
            return Ok(true);
        }
        let mut rest = body.as_slice();
        for value in lacing {
            let Some((segment, after)) = rest.split_at_checked(usize::from(value)) else {
                return Err(SourceError::Malformed { offset });
            };
            rest = after;
            self.partial.extend_from_slice(segment);
            if self.partial.len() > Self::PACKET_MAX {
                return Err(SourceError::FrameTooLong {
                    offset,
                    max: Self::PACKET_MAX,
                });
            }
            if value < 255 {
                self.ready.push_back(core::mem::take(&mut self.partial));
            }
        }
        Ok(true)
    }
}

impl<R: Read + Send> FrameReader for OggReader<R> {
    fn codec(&self) -> Codec {
        Codec::Opus
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let Some(packet) = self.packet()? else {
            return Ok(None);
        };
        let offset = self.input.offset();
        let span = opus_ticks(&packet).ok_or(SourceError::Malformed { offset })?;
        let ticks = self.ticks;
        self.ticks = ticks + u64::from(span);
        let data = Bytes::from(packet);
        Ok(Some(Frame {
            ticks,
            ticks_after: Some(self.ticks),
            key: true,
            data,
        }))
    }
}
