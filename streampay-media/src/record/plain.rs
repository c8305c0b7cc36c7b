//! Files that hold one codec alone: IVF, H.264 Annex B, Ogg Opus.
//!
//! Own writers and not those of `rtc` 0.21: its Ogg writer leaves a packet open whose length is a
//! multiple of 255, writes the last packet twice and panics where time stamps wrap around.

use std::io::{self, Seek, Write};

use super::{Block, Container, output::Output};
use crate::{
    codec::{frame_size, is_key_frame, nal, nal_type, nal_units, opus_ticks},
    packet::Codec,
};

/// Writes each frame whole and flushes it.
#[derive(Debug)]
pub(super) struct Plain<W> {
    out: Output<W>,
    container: Container,
    av1: bool,
    frames: u32,
    last_ms: Option<u64>,
    /// Ogg: the number of the next page, and samples so far.
    page: u32,
    samples: u64,
}

/// Samples that a decoder drops at the beginning. Source: RFC 7845 5.1.
const PRE_SKIP: u16 = 312;
/// First page, last page. Source: RFC 3533 6.
const BEGINS: u8 = 2;
const ENDS: u8 = 4;
/// Which of all streams in a file: there is one.
const SERIAL: u32 = 0x5350_0001;
/// Where an IVF file says how long it is.
const IVF_LENGTH_AT: u64 = 24;

impl<W: Write> Plain<W> {
    pub(super) const fn new(out: W, container: Container) -> Self {
        Self {
            out: Output::new(out),
            container,
            av1: false,
            frames: 0,
            last_ms: None,
            page: 0,
            samples: 0,
        }
    }

    pub(super) const fn written(&self) -> u64 {
        self.out.written()
    }

    /// Writes the head where `first` is a frame that a file can begin with.
    pub(super) fn begin(&mut self, codec: Codec, first: &[u8]) -> io::Result<bool> {
        if !is_key_frame(codec, first) {
            return Ok(false);
        }
        match self.container {
            Container::Ivf => {
                let Some(head) = ivf_head(codec, first) else {
                    return Ok(false);
                };
                self.out.put(&head)?;
                self.av1 = codec == Codec::Av1;
            }
            Container::AnnexB => {
                let has = |kind| nal_units(first).any(|unit| nal_type(unit) == kind);
                return Ok(has(nal::SPS) && has(nal::PPS));
            }
            Container::Ogg => {
                let mut head = b"OpusHead\x01\x02".to_vec();
                head.extend(PRE_SKIP.to_le_bytes());
                head.extend(48_000_u32.to_le_bytes());
                head.extend([0; 3]);
                self.page(&head, BEGINS)?;
                let mut tags = b"OpusTags".to_vec();
                tags.extend(9_u32.to_le_bytes());
                tags.extend(b"streampay");
                tags.extend(0_u32.to_le_bytes());
                self.page(&tags, 0)?;
                self.samples = u64::from(PRE_SKIP);
            }
            Container::Matroska | Container::Mp4 => return Ok(false),
        }
        Ok(true)
    }

    /// Writes one frame; false where it is not one.
    pub(super) fn block(&mut self, block: Block<'_>) -> io::Result<bool> {
        match self.container {
            Container::Ivf => {
                // Each unit of time begins with its delimiter. Source: AV1 specification 7.5.
                let delimiter: &[u8] = if self.av1 { &[0x12, 0] } else { &[] };
                let length = block.data.len().saturating_add(delimiter.len());
                let Ok(length) = u32::try_from(length) else {
                    return Ok(false);
                };
                // Time stamps of a file ascend.
                let after = self.last_ms.map_or(0, |last| last.saturating_add(1));
                let at_ms = block.at_ms.max(after);
                let mut frame = Vec::with_capacity(block.data.len().saturating_add(12));
                frame.extend(length.to_le_bytes());
                frame.extend(at_ms.to_le_bytes());
                frame.extend_from_slice(delimiter);
                frame.extend_from_slice(block.data);
                self.out.put(&frame)?;
                self.last_ms = Some(at_ms);
                self.frames = self.frames.saturating_add(1);
            }
            Container::AnnexB => self.out.put(block.data)?,
            Container::Ogg => {
                let Some(ticks) = opus_ticks(block.data) else {
                    return Ok(false);
                };
                // What is in the file, and not when it came: players take a step here for damage.
                self.samples = self.samples.saturating_add(u64::from(ticks));
                self.page(block.data, 0)?;
            }
            Container::Matroska | Container::Mp4 => return Ok(false),
        }
        Ok(true)
    }

    /// Says that nothing follows, where the format has a way to.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.container == Container::Ogg && self.page > 0 {
            self.page(&[], ENDS)?;
        }
        Ok(())
    }

    /// One packet as one page. Source: RFC 3533 6, RFC 7845 3.
    fn page(&mut self, packet: &[u8], kind: u8) -> io::Result<()> {
        // A packet ends with a lacing value below 255, so that one more may be needed.
        let full = packet.len() / 255;
        let rest = u8::try_from(packet.len() % 255).unwrap_or(0);
        let lacing = match kind {
            ENDS => 0,
            _ => full.saturating_add(1),
        };
        let Ok(segments) = u8::try_from(lacing) else {
            // No Opus packet is so long.
            return Ok(());
        };
        let mut page = b"OggS\0".to_vec();
        page.push(kind);
        page.extend(self.samples.to_le_bytes());
        page.extend(SERIAL.to_le_bytes());
        page.extend(self.page.to_le_bytes());
        page.extend([0; 4]);
        page.push(segments);
        if lacing > 0 {
            page.extend(core::iter::repeat_n(255, full));
            page.push(rest);
        }
        page.extend_from_slice(packet);
        let sum = checksum(&page).to_le_bytes();
        if let Some(field) = page.get_mut(22..26) {
            field.copy_from_slice(&sum);
        }
        self.page = self.page.wrapping_add(1);
        self.out.put(&page)
    }
}

impl<W: Write + Seek> Plain<W> {
    /// IVF: says how long it is, in the units of its time stamps, as ffmpeg writes and reads the
    /// field; others take it for the number of frames. Nothing where the output cannot seek.
    pub(super) fn set_length(&mut self) -> io::Result<()> {
        if self.container != Container::Ivf || self.out.written() == 0 {
            return Ok(());
        }
        // With the last frame as long as all are on average.
        let (last, frames) = (self.last_ms.unwrap_or(0), u64::from(self.frames));
        let length = last.saturating_mul(frames) / frames.saturating_sub(1).max(1);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.out.fill(IVF_LENGTH_AT, &length.to_le_bytes())
    }
}

/// Time stamps in milliseconds; the length is filled in at the end.
/// Source: <https://wiki.multimedia.cx/index.php/IVF>.
fn ivf_head(codec: Codec, first: &[u8]) -> Option<Vec<u8>> {
    let size = frame_size(codec, first)?;
    let mut head = b"DKIF\0\0\x20\0".to_vec();
    head.extend(match codec {
        Codec::Vp9 => b"VP90",
        Codec::Av1 => b"AV01",
        _ => b"VP80",
    });
    head.extend(u16::try_from(size.width).ok()?.to_le_bytes());
    head.extend(u16::try_from(size.height).ok()?.to_le_bytes());
    head.extend(1000_u32.to_le_bytes());
    head.extend(1_u32.to_le_bytes());
    head.extend([0; 8]);
    Some(head)
}

/// CRC-32 with the polynomial 0x04c11db7, not reflected, from 0. Source: RFC 3533 6.
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 24), |sum, _| {
            let carry = sum & 0x8000_0000 != 0;
            (sum << 1) ^ if carry { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Kind;

    #[test]
    fn pages_are_checked_as_ogg_is() {
        // The empty last page of a file that libogg wrote: all fields zero but these.
        let mut out = Vec::new();
        let mut ogg = Plain::new(&mut out, Container::Ogg);
        assert!(ogg.begin(Codec::Opus, &[0xfc]).unwrap());
        for length in [1, 254, 255, 256, 510, 1275] {
            let mut data = vec![0; length];
            data[0] = 0xfc;
            let block = Block {
                kind: Kind::Audio,
                at_ms: 0,
                key: true,
                data: &data,
            };
            assert!(ogg.block(block).unwrap());
        }
        ogg.end().unwrap();
        let (mut at, mut pages) = (0, 0);
        while at < out.len() {
            assert_eq!(&out[at..at + 4], b"OggS");
            let segments = usize::from(out[at + 26]);
            let lacing = &out[at + 27..at + 27 + segments];
            assert!(lacing.last().is_none_or(|last| *last < 255));
            let body: usize = lacing.iter().map(|value| usize::from(*value)).sum();
            let length = 27 + segments + body;
            let mut page = out[at..at + length].to_vec();
            page[22..26].fill(0);
            assert_eq!(checksum(&page).to_le_bytes(), out[at + 22..at + 26]);
            (at, pages) = (at + length, pages + 1);
        }
        assert_eq!(pages, 9);
        // Of the catalogue of CRCs: CRC-32/MPEG-2 without its initial value.
        assert_eq!(checksum(b"123456789"), 0x89a1_897f);
    }
}
