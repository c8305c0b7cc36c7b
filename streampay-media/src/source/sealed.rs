//! Sources whose frames are sealed.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{Description, FileOptions, RtpError, Source, SourceError, SourceWriter, file::Files};
use crate::{
    codec::{FrameAssembler, Packetizer},
    packet::{Codec, Kind, MediaPacket},
    seal::{FrameSealer, OpenError, Opener, StreamSecret, Unsealable, epoch_of_us, sealable},
};

impl Source {
    /// [`Source::open`], sealed: only who is granted its keys can play it. Spec: media 4.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::Unsealable`] for all but VP8 and Opus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_sealed(path: &Path, options: FileOptions) -> Result<Arc<Self>, SourceError> {
        let path = path.to_owned();
        let files = tokio::task::spawn_blocking(move || Files::find(&path))
            .await
            .map_err(std::io::Error::other)??;
        let channel = Self::sealed_channel(Some(files.description))?;
        Ok(Self::play(files, options, channel))
    }

    /// [`Source::open_rtp`], sealed.
    ///
    /// # Errors
    /// [`RtpError`]; [`RtpError::Seal`] for all but VP8 and Opus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_rtp_sealed(sdp: &str) -> Result<Arc<Self>, RtpError> {
        let (streams, description) = Self::described(sdp)?;
        let channel = Self::sealed_channel(Some(description))?;
        Self::receive(streams, channel).await
    }

    /// [`Source::live`], or without a description [`Source::awaited`], sealed. A source that is
    /// described later as something that cannot be sealed sends nothing of that.
    ///
    /// # Errors
    /// [`SourceError::Unsealable`] for all but VP8 and Opus, [`SourceError::Read`] where the
    /// system has no randomness.
    pub fn sealed(
        description: Option<Description>,
    ) -> Result<(SourceWriter, Arc<Self>), SourceError> {
        let (writer, source) = Self::sealed_channel(description)?;
        Ok((writer, Arc::new(source)))
    }

    fn sealed_channel(
        description: Option<Description>,
    ) -> Result<(SourceWriter, Self), SourceError> {
        for codec in description.iter().flat_map(Description::codecs) {
            sealable(codec)?;
        }
        let secret = Arc::new(StreamSecret::random()?);
        let (mut writer, mut source) = Self::channel(description);
        writer.sealer = Some(FrameSealer::new(secret.clone()));
        source.secret = Some(secret);
        Ok((writer, source))
    }

    /// Whether its frames are sealed.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.secret.is_some()
    }

    pub(crate) const fn secret(&self) -> Option<&Arc<StreamSecret>> {
        self.secret.as_ref()
    }
}

impl SourceWriter {
    /// Whether its frames are sealed.
    #[must_use]
    pub const fn seals(&self) -> bool {
        self.sealer.is_some()
    }
}

/// Opens what a source sealed, where its secret is.
#[derive(Debug)]
pub(super) struct OwnOpener {
    secret: Arc<StreamSecret>,
    opener: Opener,
    /// Puts the picture's frames together; sound has one frame a packet.
    picture: Option<FrameAssembler>,
}

impl OwnOpener {
    pub(super) fn new(secret: Arc<StreamSecret>) -> Self {
        Self {
            secret,
            opener: Opener::new(),
            picture: None,
        }
    }

    /// Some packets before the next one are gone.
    pub(super) const fn gap(&mut self) {
        if let Some(picture) = &mut self.picture {
            picture.gap();
        }
    }

    /// The next packet in order, of this time stamp. The payloads of the frame that it completes, as
    /// they would be without a seal; none where it completes none.
    pub(super) fn push(
        &mut self,
        codec: Codec,
        stamp: u32,
        packet: &MediaPacket,
    ) -> Result<Vec<Bytes>, OpenError> {
        let frame = match packet.kind {
            Kind::Audio => packet.payload.clone(),
            Kind::Video => {
                let picture = self
                    .picture
                    .get_or_insert_with(|| FrameAssembler::new(codec));
                match picture.push(stamp, packet.marker, &packet.payload) {
                    Some(whole) => whole.data,
                    None => return Ok(Vec::new()),
                }
            }
        };
        let epoch = epoch_of_us(packet.kind.us(packet.ticks));
        if self.opener.newest() != Some(epoch) {
            // Both kinds are not quite in step: a key that is there already stays as it is.
            let granted = self.opener.grant(&self.secret.grant(epoch));
            granted.map_err(|_| OpenError::NoKey(epoch))?;
        }
        let frame = self.opener.open(codec, &frame)?;
        // What can be sealed has nothing in its payloads that tells key frames or is counted.
        Ok(Packetizer::new(codec).payloads(&frame, false))
    }
}

impl From<Unsealable> for SourceError {
    fn from(error: Unsealable) -> Self {
        Self::Unsealable(error.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        peer::ReceivedPacket,
        source::{SourceReader, Video},
    };

    const DESCRIPTION: Description = Description {
        video: Some(Video {
            codec: Codec::Vp8,
            size: None,
            frames_per_1000_s: None,
        }),
        audio: Some(Codec::Opus),
        duration_ms: None,
    };

    /// A picture of that length; the first of a second is a key frame.
    fn picture(at: u64, length: usize) -> Bytes {
        let tag = [
            u8::from(!at.is_multiple_of(25)),
            0,
            0,
            0x9d,
            0x01,
            0x2a,
            64,
            0,
            64,
            0,
        ];
        let number = at.to_be_bytes();
        let rest = number.iter().copied().cycle().take(length);
        tag.into_iter().chain(rest).collect()
    }

    /// Pictures of these lengths from that one on, and two sounds with each.
    fn write(writer: &mut SourceWriter, from: u64, lengths: &[usize]) {
        for (at, length) in (from..).zip(lengths) {
            let frame = picture(at, *length);
            writer.write(
                Kind::Video,
                at * 3_600,
                3_600,
                at.is_multiple_of(25),
                &frame,
            );
            for half in [2 * at, 2 * at + 1] {
                let frame = [&[0xfc], half.to_be_bytes().as_slice()].concat();
                writer.write(Kind::Audio, half * 960, 960, true, &frame.into());
            }
        }
    }

    /// What it gives without waiting.
    async fn ready(reader: &mut SourceReader) -> Vec<ReceivedPacket> {
        let mut packets = Vec::new();
        let soon = Duration::from_millis(1);
        while let Ok(packet) = tokio::time::timeout(soon, reader.next()).await {
            packets.push(packet);
        }
        packets
    }

    #[tokio::test(start_paused = true)]
    async fn a_sealed_source_is_read_like_one_that_is_not() {
        let (mut plain, source) = Source::live(DESCRIPTION);
        let (mut sealed, sealed_source) = Source::sealed(Some(DESCRIPTION)).unwrap();
        let readers = (SourceReader::new(source), SourceReader::new(sealed_source));
        let (mut expect, mut got) = readers;
        let lengths: Vec<_> = (0..50).map(|at| at * 997 % 9_000).collect();
        for from in [0, 50, 100] {
            write(&mut plain, from, &lengths);
            write(&mut sealed, from, &lengths);
            let (expect, got) = (ready(&mut expect).await, ready(&mut got).await);
            // Pictures of up to eight packets.
            assert!(expect.len() > 300, "{}", expect.len());
            assert_eq!(got, expect);
        }
        // Who was away goes on with a key frame, and its numbers say so.
        for from in [150, 200, 250] {
            write(&mut plain, from, &lengths);
            write(&mut sealed, from, &lengths);
        }
        let (expect, got) = (ready(&mut expect).await, ready(&mut got).await);
        assert_eq!(expect[0].stamp, 275 * 3_600);
        assert_eq!(got, expect);
    }

    #[tokio::test(start_paused = true)]
    async fn who_falls_behind_within_a_picture_joins_no_other_to_it() {
        let (mut writer, source) = Source::sealed(Some(DESCRIPTION)).unwrap();
        let mut reader = SourceReader::new(source);
        // More packets than are taken at once.
        write(&mut writer, 0, &[100_000; 2]);
        let mut packets = vec![reader.next().await];
        write(&mut writer, 2, &[50; 250]);
        packets.append(&mut ready(&mut reader).await);
        let mut assembler = FrameAssembler::new(Codec::Vp8);
        let mut pictures = Vec::new();
        let mut next = 0;
        for packet in packets.iter().filter(|packet| packet.codec == Codec::Vp8) {
            if packet.seq != next {
                assembler.gap();
                pictures.push(None);
            }
            next = packet.seq + 1;
            let whole = assembler.push(packet.stamp, packet.marker, &packet.payload);
            pictures.extend(whole.map(|whole| Some(whole.data)));
        }
        let after = (250..252).map(|at| Some(picture(at, 50)));
        let expect = [Some(picture(0, 100_000)), None].into_iter().chain(after);
        assert!(pictures.into_iter().eq(expect));
    }
}
