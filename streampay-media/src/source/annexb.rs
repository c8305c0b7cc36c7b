//! H.264 byte streams, by access units. Source: ITU-T H.264 annex B, 7.4.1.2.3.

use std::{
    collections::VecDeque,
    io::{BufRead, Read},
};

use bytes::{BufMut, BytesMut};

use super::{
    Source, SourceError,
    frames::{Frame, FrameReader},
};
use crate::{
    codec::{Sps, nal, nal_type},
    packet::{Codec, Kind},
};

/// Own and not that of `rtc`, whose sample reader yields NAL units, not pictures, and reads
/// without bound where no start code comes.
pub(super) struct AnnexBReader<R> {
    reader: R,
    offset: u64,
    /// NAL units that were looked at but belong to the next picture.
    ahead: VecDeque<Vec<u8>>,
    frame: u64,
    /// Frames in `.0` of time over `.1`.
    rate: (u64, u64),
}

impl<R: BufRead> AnnexBReader<R> {
    /// Where the stream does not say: as most files that people stream.
    const DEFAULT_RATE: (u64, u64) = (25, 1);
    /// NAL units before the first slice: parameter sets and some messages.
    const LEAD_MAX: usize = 8;

    pub(super) fn new(reader: R) -> Result<Self, SourceError> {
        let mut this = Self {
            reader,
            offset: 0,
            ahead: VecDeque::new(),
            frame: 0,
            rate: Self::DEFAULT_RATE,
        };
        // Before the first start code there is nothing but zeros.
        if this.unit()?.is_some_and(|lead| !lead.is_empty()) {
            return Err(SourceError::Malformed { offset: 0 });
        }
        while this.ahead.len() < Self::LEAD_MAX
            && let Some(unit) = this.unit()?
        {
            let slice = is_slice(&unit);
            this.ahead.push_back(unit);
            if slice {
                break;
            }
        }
        let mut sps = this.ahead.iter().filter(|unit| nal_type(unit) == nal::SPS);
        let sps = sps.next().and_then(|unit| Sps::parse(unit));
        if let Some((num, den)) = sps.and_then(|sps| sps.frame_rate) {
            let (num, den) = (u64::from(num), u64::from(den));
            if (den..=den.saturating_mul(240)).contains(&num) {
                this.rate = (num, den);
            }
        }
        Ok(this)
    }

    fn next_unit(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        match self.ahead.pop_front() {
            Some(unit) => Ok(Some(unit)),
            None => self.unit(),
        }
    }

    /// What is up to the next start code, without trailing zeros; none at the end.
    fn unit(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let offset = self.offset;
        let mut unit = Vec::new();
        loop {
            let room = (Source::FRAME_MAX + 4).saturating_sub(unit.len());
            let limit = u64::try_from(room).unwrap_or(0);
            let read = self.reader.by_ref().take(limit).read_until(1, &mut unit)?;
            self.offset += u64::try_from(read).unwrap_or(0);
            let ended = read == 0;
            if ended && unit.is_empty() {
                return Ok(None);
            }
            if room == 0 {
                return Err(SourceError::FrameTooLong {
                    offset,
                    max: Source::FRAME_MAX,
                });
            }
            let start_code = unit.ends_with(&[0, 0, 1]);
            if start_code || ended {
                if start_code {
                    unit.truncate(unit.len() - 1);
                }
                let end = unit
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                unit.truncate(end);
                return Ok(Some(unit));
            }
        }
    }
}

/// A slice of a picture.
fn is_slice(unit: &[u8]) -> bool {
    (nal::SLICE..=nal::IDR).contains(&nal_type(unit))
}

/// True where `unit` cannot belong to the picture before it.
fn begins_picture(unit: &[u8]) -> bool {
    // A slice that starts at macroblock 0: its first Exp-Golomb number is a single set bit.
    let first_slice = is_slice(unit) && unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
    first_slice || matches!(nal_type(unit), nal::AUD | nal::SPS | nal::PPS | nal::SEI)
}

impl<R: BufRead + Send> FrameReader for AnnexBReader<R> {
    fn codec(&self) -> Codec {
        Codec::H264
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let offset = self.offset;
        let mut picture = BytesMut::new();
        let (mut has_slice, mut key) = (false, false);
        while let Some(unit) = self.next_unit()? {
            if has_slice && begins_picture(&unit) {
                self.ahead.push_front(unit);
                break;
            }
            has_slice |= is_slice(&unit);
            key |= nal_type(&unit) == nal::IDR;
            picture.put_slice(&[0, 0, 0, 1]);
            picture.put_slice(&unit);
            if picture.len() > Source::FRAME_MAX {
                return Err(SourceError::FrameTooLong {
                    offset,
                    max: Source::FRAME_MAX,
                });
            }
        }
        if !has_slice {
            return Ok(None);
        }
        let clock = u64::from(Kind::Video.clock_rate());
        let at = |frame: u64| frame.saturating_mul(clock * self.rate.1) / self.rate.0;
        let ticks = at(self.frame);
        self.frame += 1;
        let ticks_after = Some(at(self.frame));
        Ok(Some(Frame {
            ticks,
            ticks_after,
            key,
            data: picture.freeze(),
        }))
    }
}
