//! IVF files: VP8, VP9 and AV1. Source: <https://wiki.multimedia.cx/index.php/IVF>.

use std::io::Read;

use bytes::Bytes;

use super::{
    SourceError,
    frames::{Frame, FrameReader, Input},
};
use crate::{
    codec::is_key_frame,
    packet::{Codec, Kind},
};

pub(super) const MAGIC: &[u8; 4] = b"DKIF";

/// Own and not that of `rtc`: the length that a frame claims is checked before it is allocated.
pub(super) struct IvfReader<R> {
    input: Input<R>,
    codec: Codec,
    /// Seconds of one unit of time: `num / den`.
    num: u64,
    den: u64,
    last_ticks: Option<u64>,
}

impl<R: Read> IvfReader<R> {
    pub(super) fn new(reader: R) -> Result<Self, SourceError> {
        let mut input = Input::new(reader);
        let header: [u8; 32] = input.array()?.ok_or(SourceError::Empty)?;
        let [
            b'D',
            b'K',
            b'I',
            b'F',
            _,
            _,
            length0,
            length1,
            c0,
            c1,
            c2,
            c3,
            rest @ ..,
        ] = header
        else {
            return Err(SourceError::Malformed { offset: 0 });
        };
        let fourcc = [c0, c1, c2, c3];
        let codec = match &fourcc {
            b"VP80" => Codec::Vp8,
            b"VP90" => Codec::Vp9,
            b"AV01" => Codec::Av1,
            _ => return Err(SourceError::UnknownCodec { fourcc }),
        };
        let [_, _, _, _, d0, d1, d2, d3, n0, n1, n2, n3, ..] = rest;
        let den = u64::from(u32::from_le_bytes([d0, d1, d2, d3]));
        let num = u64::from(u32::from_le_bytes([n0, n1, n2, n3]));
        if den == 0 || num == 0 || u16::from_le_bytes([length0, length1]) != 32 {
            return Err(SourceError::Malformed { offset: 6 });
        }
        Ok(Self {
            input,
            codec,
            num,
            den,
            last_ticks: None,
        })
    }
}

impl<R: Read + Send> FrameReader for IvfReader<R> {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        let offset = self.input.offset();
        let Some([l0, l1, l2, l3, time @ ..]) = self.input.array::<12>()? else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let data = self.input.bytes(length, offset)?;
        let units = u128::from(u64::from_le_bytes(time));
        let rate = u128::from(Kind::Video.clock_rate());
        let ticks = units * u128::from(self.num) * rate / u128::from(self.den);
        let ticks = u64::try_from(ticks).map_err(|_| SourceError::Malformed { offset })?;
        if self.last_ticks.is_some_and(|last| ticks <= last) || ticks > MAX_TICKS {
            return Err(SourceError::Malformed { offset });
        }
        self.last_ticks = Some(ticks);
        let key = is_key_frame(self.codec, &data);
        Ok(Some(Frame {
            ticks,
            ticks_after: None,
            key,
            data: Bytes::from(data),
        }))
    }
}

/// A year: no file is longer, and no sum of it overflows.
const MAX_TICKS: u64 = 366 * 24 * 3600 * 90_000;
