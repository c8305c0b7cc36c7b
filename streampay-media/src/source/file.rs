//! Playing files: find, check, loop, pace.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    Description, FileOptions, SourceError, SourceWriter, Video,
    annexb::AnnexBReader,
    frames::{FrameReader, Spanned, Track},
    ivf::{self, IvfReader},
    ogg::{self, OggReader},
};
use crate::{
    codec::frame_size,
    packet::{Codec, Kind},
};

/// Files that are known to be whole.
#[derive(Clone, Debug)]
pub(super) struct Files {
    video: Option<PathBuf>,
    audio: Option<PathBuf>,
    pub(super) description: Description,
    loop_ms: u64,
}

/// Endings of files that may belong to the one that was named.
const SIBLINGS: [&str; 5] = ["ivf", "h264", "264", "ogg", "opus"];

impl Files {
    /// `path` and the sibling that goes with it, read once to the end.
    pub(super) fn find(path: &Path) -> Result<Self, SourceError> {
        let first = Scan::of(path)?;
        let second = SIBLINGS
            .iter()
            .map(|ending| path.with_extension(ending))
            .filter(|other| other != path && other.is_file())
            .filter_map(|other| Scan::of(&other).ok().map(|scan| (other, scan)))
            .find(|(_, scan)| scan.codec.kind() != first.codec.kind());
        let mut files = Self {
            video: None,
            audio: None,
            description: Description::default(),
            loop_ms: 0,
        };
        files.add(path.to_owned(), &first);
        if let Some((path, scan)) = second {
            files.add(path, &scan);
        }
        files.description.duration_ms = Some(files.loop_ms);
        Ok(files)
    }

    fn add(&mut self, path: PathBuf, scan: &Scan) {
        self.loop_ms = self.loop_ms.max(scan.end_us.div_ceil(1000));
        match scan.codec.kind() {
            Kind::Video => {
                self.video = Some(path);
                self.description.video = Some(Video {
                    codec: scan.codec,
                    size: scan.size,
                    frames_per_1000_s: (scan.frames * 1_000_000_000).checked_div(scan.end_us),
                });
            }
            Kind::Audio => {
                self.audio = Some(path);
                self.description.audio = Some(scan.codec);
            }
        }
    }

    fn tracks(&self) -> Result<Vec<Track>, SourceError> {
        self.video
            .iter()
            .chain(&self.audio)
            .map(|path| open(path))
            .collect()
    }
}

/// What one file turned out to be.
struct Scan {
    codec: Codec,
    size: Option<(u32, u32)>,
    frames: u64,
    end_us: u64,
}

impl Scan {
    fn of(path: &Path) -> Result<Self, SourceError> {
        let mut track = open(path)?;
        let codec = track.codec();
        let mut scan = Self {
            codec,
            size: None,
            frames: 0,
            end_us: 0,
        };
        while let Some(frame) = track.next_frame()? {
            if scan.frames == 0 {
                scan.size = frame_size(codec, &frame.data).map(|size| (size.width, size.height));
            }
            scan.frames += 1;
            scan.end_us = codec.kind().us(frame.ticks + u64::from(frame.span));
        }
        Ok(scan)
    }
}

fn open(path: &Path) -> Result<Track, SourceError> {
    let opened = |cause| SourceError::Open {
        path: path.to_owned(),
        cause,
    };
    let mut magic = [0; 4];
    let mut start = File::open(path).map_err(opened)?;
    if start.read_exact(&mut magic).is_err() {
        return Err(SourceError::Empty);
    }
    let file = BufReader::with_capacity(64 * 1024, File::open(path).map_err(opened)?);
    let reader: Box<dyn FrameReader> = match &magic {
        ivf::MAGIC => Box::new(IvfReader::new(file)?),
        ogg::MAGIC => Box::new(OggReader::new(file)?),
        [0, 0, 1, _] | [0, 0, 0, 1] => Box::new(AnnexBReader::new(file)?),
        _ => {
            return Err(SourceError::UnknownFormat {
                path: path.to_owned(),
            });
        }
    };
    Track::new(reader)
}

/// Writes the files for ever, each frame when it is due. Ends only where a file changes under
/// it.
pub(super) async fn play(files: Files, options: FileOptions, writer: &mut SourceWriter) {
    // Enough to ride out a slow disk for half a second.
    let (sender, mut frames) = mpsc::channel::<Spanned>(32);
    let reader = tokio::task::spawn_blocking(move || read_for_ever(&files, &sender));
    let speed = u64::from(options.speed.get());
    let mut begin = Instant::now();
    while let Some(frame) = frames.recv().await {
        let due = begin + Duration::from_micros(frame.kind.us(frame.ticks) / speed);
        let now = Instant::now();
        if now > due + LATE_MAX {
            // The machine slept. Go on from here instead of running to catch up.
            begin += now - due;
        }
        tokio::time::sleep_until(due).await;
        writer.write(frame.kind, frame.ticks, frame.span, frame.key, &frame.data);
    }
    if let Ok(Err(error)) = reader.await {
        tracing::error!(%error, "the media file changed while it was streamed");
    }
}

/// Behind by more than this, the clock is set anew.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Frames of all files by time, over and over, until nobody takes them.
fn read_for_ever(files: &Files, frames: &mpsc::Sender<Spanned>) -> Result<(), SourceError> {
    let mut offset_ms = 0_u64;
    loop {
        let mut tracks = files.tracks()?;
        while let Some(track) = tracks
            .iter_mut()
            .filter(|track| track.next_us().is_some())
            .min_by_key(|track| track.next_us())
        {
            let Some(mut frame) = track.next_frame()? else {
                continue;
            };
            frame.ticks += offset_ms * frame.kind.ticks_per_ms();
            if frames.blocking_send(frame).is_err() {
                return Ok(());
            }
        }
        offset_ms = offset_ms.saturating_add(files.loop_ms.max(1));
    }
}
