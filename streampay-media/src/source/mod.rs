//! Where media comes from: one [`Source`] a stream, shared by all its viewers.
//!
//! A source packetizes once and keeps the last group of pictures (at most 2 s and 2 MB) and what came
//! up to a second before. Viewers read from that ring at their own pace; one that falls behind finds
//! its place gone and goes on with the last key frame. Nobody can make the source wait.
//!
//! Time: `ticks` of a [`MediaPacket`] count from the moment the source began, for both kinds, and
//! never go back: a file that ends begins again where its time goes on.
//!
//! # Requests for a key frame
//! A viewer that lost a picture may ask for a key frame (PLI, RFC 4585 6.3.1; FIR, RFC 5104 4.3.1).
//! A file cannot answer: its key frames are where its encoder put them. What helps there:
//! - The stack sends what a viewer reports as lost again (NACK, RFC 4585 6.2.1), which counts
//!   once; a loss shows only where that comes too late, too.
//! - Then the picture is whole again with the file's next key frame. Media files for streaming
//!   should have one every second or two; the clip of the examples has 25 frames from one to the
//!   next. With key frames further apart than two seconds a new viewer waits for one as well,
//!   because the ring does not reach back to the last.
//!
//! A live source can answer: [`KeyFrameRequests`] yields them, those of all viewers made one, at
//! most one a second. Only viewers whose session has credit count: browsers ask while they are
//! paused, too. One that begins or comes late to the ring is taken to ask.

mod annexb;
mod error;
mod file;
mod frames;
mod ingest;
mod ivf;
mod ogg;
mod reader;
mod ring;
mod rtp;
#[cfg(feature = "e2ee")]
mod sealed;

use std::{
    num::NonZeroU32,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::AbortHandle, time::Instant};

pub use error::SourceError;
pub(crate) use ingest::Ingest;
pub use reader::SourceReader;
pub(crate) use ring::{Lagged, Reader, Ring};
pub use rtp::RtpError;

#[cfg(feature = "e2ee")]
use crate::seal::{FrameSealer, StreamSecret};
use crate::{
    codec::Packetizer,
    packet::{Codec, Kind, MediaPacket},
};

/// A stream's media. Dropping the last handle stops it; its viewers then receive nothing more.
#[derive(Debug)]
pub struct Source {
    ring: Arc<Ring>,
    description: Arc<OnceLock<Description>>,
    /// The task that feeds it, if it is one of this crate.
    feeder: Option<AbortHandle>,
    /// Where its frames are sealed.
    #[cfg(feature = "e2ee")]
    secret: Option<Arc<StreamSecret>>,
}

/// What a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its picture.
    pub video: Option<Video>,
    /// Its sound.
    pub audio: Option<Codec>,
    /// How long it is before it begins again, in milliseconds; none for what has no end.
    pub duration_ms: Option<u64>,
}

/// What its picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// How it is coded.
    pub codec: Codec,
    /// Pixels, where known.
    pub size: Option<(u32, u32)>,
    /// Frames in 1000 seconds, where known: 25 frames a second are 25 000.
    pub frames_per_1000_s: Option<u64>,
}

impl Description {
    /// No picture and no sound.
    pub const NOTHING: Self = Self {
        video: None,
        audio: None,
        duration_ms: None,
    };

    /// Its codecs: picture first.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.video
            .map(|video| video.codec)
            .into_iter()
            .chain(self.audio)
    }
}

/// How a file is played.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    /// So many times as fast as real time. 1 except in tests.
    pub speed: NonZeroU32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            speed: NonZeroU32::MIN,
        }
    }
}

impl Source {
    /// The longest frame of a file, in bytes. A ring holds at least one.
    pub const FRAME_MAX: usize = 2 * 1024 * 1024;

    /// Plays a file in real time, over and over. IVF with VP8, VP9 or AV1, H.264 Annex B and Ogg Opus
    /// are told apart by their first bytes. A file beside it with the same stem and the other
    /// kind of media is played with it: `clip.ivf` and `clip.ogg`.
    ///
    /// Reads the file once to its end first, so that a damaged one is found now.
    ///
    /// # Errors
    /// [`SourceError`] says what is wrong with the file and what to do.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(path: &Path, options: FileOptions) -> Result<Arc<Self>, SourceError> {
        let path = path.to_owned();
        let files = tokio::task::spawn_blocking(move || file::Files::find(&path))
            .await
            .map_err(std::io::Error::other)??;
        let channel = Self::channel(Some(files.description));
        Ok(Self::play(files, options, channel))
    }

    fn play(
        files: file::Files,
        options: FileOptions,
        (mut writer, mut source): (SourceWriter, Self),
    ) -> Arc<Self> {
        let feeder = tokio::spawn(async move { file::play(files, options, &mut writer).await });
        source.feeder = Some(feeder.abort_handle());
        Arc::new(source)
    }

    /// A source that is fed by hand: from a camera, a network, another stream.
    #[must_use]
    pub fn live(description: Description) -> (SourceWriter, Arc<Self>) {
        let (writer, source) = Self::channel(Some(description));
        (writer, Arc::new(source))
    }

    /// The same for what nobody knows yet: it is nothing until
    /// [`SourceWriter::describe`] is called, and viewers are told to come again.
    #[must_use]
    pub fn awaited() -> (SourceWriter, Arc<Self>) {
        let (writer, source) = Self::channel(None);
        (writer, Arc::new(source))
    }

    fn channel(description: Option<Description>) -> (SourceWriter, Self) {
        let ring = Arc::new(Ring::new());
        let mut writer = SourceWriter {
            ring: ring.clone(),
            description: Arc::default(),
            video: None,
            audio: None,
            #[cfg(feature = "e2ee")]
            sealer: None,
        };
        if let Some(description) = description {
            writer.describe(description);
        }
        let source = Self {
            ring,
            description: writer.description.clone(),
            feeder: None,
            #[cfg(feature = "e2ee")]
            secret: None,
        };
        (writer, source)
    }

    /// What it is; [nothing](Description::NOTHING) while that is not known.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.description.get().unwrap_or(&Description::NOTHING)
    }

    /// How much media it has brought forth, in milliseconds. Stands still where it is stalled.
    #[must_use]
    pub fn position_ms(&self) -> u64 {
        self.ring.now_us() / 1000
    }

    pub(crate) const fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
    }
}

/// Feeds a [`Source`].
#[derive(Debug)]
pub struct SourceWriter {
    ring: Arc<Ring>,
    description: Arc<OnceLock<Description>>,
    video: Option<Packetizer>,
    audio: Option<Packetizer>,
    #[cfg(feature = "e2ee")]
    sealer: Option<FrameSealer>,
}

impl SourceWriter {
    /// Says what an [awaited](Source::awaited) source is. It stays that: viewers have agreed on
    /// codecs with it. What it is then.
    pub fn describe(&mut self, description: Description) -> &Description {
        let known = self.description.get_or_init(|| description);
        let packetizer = |codec: Option<Codec>| codec.map(Packetizer::new);
        if self.video.is_none() {
            self.video = packetizer(known.video.map(|video| video.codec));
        }
        if self.audio.is_none() {
            self.audio = packetizer(known.audio);
        }
        known
    }

    /// What it is so far.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        self.description.get()
    }

    /// The codecs that it can be of.
    pub(crate) fn takes(&self) -> Vec<Codec> {
        let takes = Codec::ALL.into_iter();
        #[cfg(feature = "e2ee")]
        let takes =
            takes.filter(|codec| self.sealer.is_none() || crate::seal::sealable(*codec).is_ok());
        takes.collect()
    }

    /// Asks for a key frame as a viewer would, who pays: something was lost on the way here.
    pub fn want_key_frame(&self) {
        self.ring.want_key();
    }

    /// Who watches for requests for key frames.
    #[must_use]
    pub fn key_frame_requests(&self) -> KeyFrameRequests {
        KeyFrameRequests {
            ring: self.ring.clone(),
            last: None,
        }
    }

    /// One coded frame. `ticks` on the kind's clock since the source began, both kinds from the
    /// same moment, ascending per kind; it lasts `span` ticks. H.264 as Annex B. Dropped where
    /// the description does not name this kind.
    pub fn write(&mut self, kind: Kind, ticks: u64, span: u32, key: bool, frame: &Bytes) {
        let packetizer = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(packetizer) = packetizer else {
            return;
        };
        #[cfg(feature = "e2ee")]
        let sealed;
        #[cfg(feature = "e2ee")]
        let frame = match &mut self.sealer {
            None => frame,
            Some(sealer) => match sealer.seal(packetizer.codec(), kind.us(ticks), frame) {
                Ok(frame) => {
                    sealed = frame;
                    &sealed
                }
                Err(error) => return tracing::warn!(%error, "a frame is left out"),
            },
        };
        let payloads = packetizer.payloads(frame, key);
        let last = payloads.len().saturating_sub(1);
        let packets = payloads
            .into_iter()
            .enumerate()
            .map(|(at, payload)| MediaPacket {
                index: 0,
                kind,
                ticks,
                span,
                marker: at == last,
                key_start: key && at == 0,
                payload,
            });
        self.ring.push(packets);
    }
}

/// Requests of paying viewers for a key frame. One watcher at a time gets them.
#[derive(Debug)]
pub struct KeyFrameRequests {
    ring: Arc<Ring>,
    last: Option<Instant>,
}

impl KeyFrameRequests {
    /// At most so often: a key frame costs all viewers, so that one who asks for ever must not
    /// make the stream of nothing else.
    pub const EVERY: Duration = Duration::from_secs(1);

    /// Ends with the next one. Safe to drop half way: then it comes again.
    pub async fn next(&mut self) {
        if let Some(last) = self.last {
            tokio::time::sleep_until(last + Self::EVERY).await;
        }
        self.ring.key_wanted().await;
        self.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
