use std::{
    collections::VecDeque,
    io::{self, Seek, Write},
};

use bytes::Bytes;

use super::{
    Block, Container, RecordError, Recorded, Tracks, matroska::Muxer, mp4::Mp4, plain::Plain,
};
use crate::{
    codec::{FrameAssembler, is_key_frame},
    meter::Timeline,
    packet::{Codec, Kind},
    peer::ReceivedPacket,
    reorder::Reorder,
};

/// Writes one recording.
///
/// ```
/// use streampay_media::{packet::Codec, peer::ReceivedPacket, record::Recorder};
///
/// let mut file = Vec::new();
/// let mut recorder = Recorder::new(&mut file, &[Codec::Opus])?;
/// recorder.push(&ReceivedPacket {
///     codec: Codec::Opus,
///     seq: 1,
///     stamp: 0,
///     marker: true,
///     payload: bytes::Bytes::from_static(&[0xfc, 0xff, 0xfe]),
/// })?;
/// assert_eq!(recorder.finish()?.audio_frames, 1);
/// assert_eq!(file[..4], [0x1a, 0x45, 0xdf, 0xa3]);
/// # Ok::<(), streampay_media::record::RecordError>(())
/// ```
#[derive(Debug)]
pub struct Recorder<W: Write> {
    file: Output<W>,
    video: Option<Stream>,
    audio: Option<Stream>,
    timeline: Timeline,
    /// Where this connection's part begins on the time line; none until then.
    origin_us: Option<u64>,
    /// Where it begins in the file; none before the file's head.
    base_ms: Option<u64>,
    /// Sound that waits for the first picture.
    early: VecDeque<(u64, Bytes)>,
    recorded: Recorded,
}

#[derive(Debug)]
struct Stream {
    codec: Codec,
    reorder: Reorder,
    assembler: FrameAssembler,
}

impl Stream {
    fn of(codecs: &[Codec], kind: Kind) -> Option<Self> {
        let codec = codecs.iter().copied().find(|codec| codec.kind() == kind)?;
        Some(Self {
            codec,
            reorder: Reorder::new(Reorder::WAIT_MAX),
            assembler: FrameAssembler::new(codec),
        })
    }
}

impl<W: Write> Recorder<W> {
    /// Sound packets that wait for the first picture: ten seconds.
    const EARLY_MAX: usize = 500;
    /// Between the last frame of a connection and the first of the next: a frame at 25 a second.
    const JOIN_MS: u64 = 40;

    /// Records `codecs`, as [`ViewerStream::codecs`](crate::peer::ViewerStream) names them, at
    /// most one of each kind. Nothing is written before the first key frame.
    ///
    /// # Errors
    /// [`RecordError::NothingToRecord`] where there is none.
    pub fn new(out: W, codecs: &[Codec]) -> Result<Self, RecordError> {
        Self::with(out, codecs, Container::Matroska)
    }

    /// The same as a file of another kind, of those codecs that it can hold.
    ///
    /// # Errors
    /// [`RecordError::NothingToRecord`] where there is none.
    pub fn with(out: W, codecs: &[Codec], container: Container) -> Result<Self, RecordError> {
        let held = codecs.iter().copied();
        let codecs: Vec<_> = held.filter(|codec| container.holds(*codec)).collect();
        let this = Self {
            file: match container {
                Container::Matroska => Output::Matroska(Muxer::new(out)),
                Container::Mp4 => Output::Mp4(Mp4::new(out)),
                other => Output::Plain(Plain::new(out, other)),
            },
            video: Stream::of(&codecs, Kind::Video),
            audio: Stream::of(&codecs, Kind::Audio),
            timeline: Timeline::default(),
            origin_us: None,
            base_ms: None,
            early: VecDeque::new(),
            recorded: Recorded::default(),
        };
        if this.video.is_none() && this.audio.is_none() {
            return Err(RecordError::NothingToRecord);
        }
        Ok(this)
    }

    /// One packet came. Packets of other codecs than announced are left out, and what cannot be
    /// put together is dropped.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn push(&mut self, packet: &ReceivedPacket) -> Result<(), RecordError> {
        let kind = packet.codec.kind();
        let stream = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(stream) = stream
            .as_mut()
            .filter(|stream| stream.codec == packet.codec)
        else {
            return Ok(());
        };
        stream.reorder.push(packet.clone());
        self.drain(kind)
    }

    /// What comes now is of another connection to the same stream, with the same codecs: the
    /// recording goes on where it was, from the next key frame.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn reconnected(&mut self) -> Result<(), RecordError> {
        self.flush()?;
        for stream in [&mut self.video, &mut self.audio].into_iter().flatten() {
            stream.reorder = Reorder::new(Reorder::WAIT_MAX);
            stream.assembler = FrameAssembler::new(stream.codec);
        }
        self.timeline = Timeline::default();
        self.origin_us = None;
        self.early.clear();
        let end = self.recorded.duration_ms.saturating_add(Self::JOIN_MS);
        self.base_ms = self.base_ms.map(|_| end);
        Ok(())
    }

    /// Writes what still waits for missing packets, and ends.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn finish(mut self) -> Result<Recorded, RecordError> {
        self.flush()?;
        self.file.end()?;
        Ok(self.recorded())
    }

    /// [`finish`](Self::finish), and says in the head how long the recording is, so that players
    /// show it and seek. Where the output turns out not to seek (a `File` that is a pipe), it is
    /// left out, as it is in a recording that was cut off. The output must not be in append mode.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn finish_seekable(mut self) -> Result<Recorded, RecordError>
    where
        W: Seek,
    {
        self.flush()?;
        self.file.end()?;
        match &mut self.file {
            // RFC 9559 has no duration of zero.
            Output::Matroska(muxer) if self.recorded.duration_ms > 0 => {
                muxer.set_duration(self.recorded.duration_ms)?;
            }
            Output::Matroska(_) => {}
            Output::Mp4(mp4) => mp4.set_duration(self.recorded.duration_ms)?,
            Output::Plain(plain) => plain.set_length()?,
        }
        Ok(self.recorded())
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        for kind in [Kind::Video, Kind::Audio] {
            if let Some(stream) = self.stream(kind) {
                stream.reorder.end();
            }
            self.drain(kind)?;
        }
        Ok(())
    }

    /// What is written so far.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        Recorded {
            bytes: self.file.written(),
            ..self.recorded
        }
    }

    const fn stream(&mut self, kind: Kind) -> Option<&mut Stream> {
        match kind {
            Kind::Video => self.video.as_mut(),
            Kind::Audio => self.audio.as_mut(),
        }
    }

    fn drain(&mut self, kind: Kind) -> Result<(), RecordError> {
        while let Some(stream) = self.stream(kind)
            && let Some((gap, packet)) = stream.reorder.pop()
        {
            if gap {
                stream.assembler.gap();
            }
            let whole = stream
                .assembler
                .push(packet.stamp, packet.marker, &packet.payload);
            // Sound has one frame a packet and sets the marker after silence only.
            let whole = match kind {
                Kind::Video => whole.map(|whole| (whole.ticks, whole.data)),
                Kind::Audio => Some((packet.stamp, packet.payload)),
            };
            if let Some((stamp, data)) = whole {
                let (_, us) = self.timeline.place(kind, stamp);
                self.frame(kind, us, data)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, kind: Kind, us: u64, data: Bytes) -> Result<(), RecordError> {
        if self.origin_us.is_none() && !self.begin(kind, us, &data)? {
            if kind == Kind::Audio {
                self.early.push_back((us, data));
                if self.early.len() > Self::EARLY_MAX {
                    self.early.pop_front();
                }
            }
            return Ok(());
        }
        for (us, data) in core::mem::take(&mut self.early) {
            self.write(Kind::Audio, us, &data)?;
        }
        self.write(kind, us, &data)
    }

    /// Begins the file, or this connection's part of it, where it can begin with this frame.
    fn begin(&mut self, kind: Kind, us: u64, data: &Bytes) -> Result<bool, RecordError> {
        let tracks = Tracks {
            video: self.video.as_ref().map(|stream| stream.codec),
            audio: self.audio.is_some(),
        };
        let first = if tracks.video.is_some() {
            Kind::Video
        } else {
            Kind::Audio
        };
        let key = tracks.video.is_none_or(|codec| is_key_frame(codec, data));
        let begins = kind == first
            && match self.base_ms {
                Some(_) => key,
                None => self.file.begin(tracks, data)?,
            };
        if begins {
            self.origin_us = Some(us);
            self.base_ms = self.base_ms.or(Some(0));
        }
        Ok(begins)
    }

    fn write(&mut self, kind: Kind, us: u64, data: &Bytes) -> Result<(), RecordError> {
        let since_us = self.origin_us.and_then(|origin| us.checked_sub(origin));
        let (Some(since_us), Some(base_ms)) = (since_us, self.base_ms) else {
            return Ok(());
        };
        let at_ms = base_ms.saturating_add(since_us / 1000);
        let codec = self.stream(kind).map(|stream| stream.codec);
        let key = codec.is_some_and(|codec| is_key_frame(codec, data));
        let block = Block {
            kind,
            at_ms,
            key,
            data,
        };
        if self.file.block(block)? {
            match kind {
                Kind::Video => self.recorded.video_frames += 1,
                Kind::Audio => self.recorded.audio_frames += 1,
            }
            self.recorded.duration_ms = self.recorded.duration_ms.max(at_ms);
        }
        Ok(())
    }
}

/// Where it is written to.
#[derive(Debug)]
enum Output<W> {
    Matroska(Muxer<W>),
    Mp4(Mp4<W>),
    Plain(Plain<W>),
}

impl<W: Write> Output<W> {
    /// Writes the head where `first` is a frame that a file can begin with.
    fn begin(&mut self, tracks: Tracks, first: &[u8]) -> io::Result<bool> {
        match self {
            Self::Matroska(muxer) => muxer.begin(tracks, first),
            Self::Mp4(mp4) => mp4.begin(tracks, first),
            Self::Plain(plain) => plain.begin(tracks.video.unwrap_or(Codec::Opus), first),
        }
    }

    /// Writes one frame; false where it cannot be written.
    fn block(&mut self, block: Block<'_>) -> io::Result<bool> {
        match self {
            Self::Matroska(muxer) => muxer.block(block),
            Self::Mp4(mp4) => mp4.block(block),
            Self::Plain(plain) => plain.block(block),
        }
    }

    /// Says that nothing follows, where the format has a way to.
    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Matroska(_) => Ok(()),
            Self::Mp4(mp4) => mp4.end(),
            Self::Plain(plain) => plain.end(),
        }
    }

    const fn written(&self) -> u64 {
        match self {
            Self::Matroska(muxer) => muxer.written(),
            Self::Mp4(mp4) => mp4.written(),
            Self::Plain(plain) => plain.written(),
        }
    }
}
