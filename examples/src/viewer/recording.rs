//! Writes what is received into one playable file, or to stdout.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use streampay_media::packet::Codec;
use streampay_media::peer::ReceivedPacket;
use streampay_media::record::{Recorded, Recorder, file_ending};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::AppError;

/// Where the recording goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Exactly this file; a later connection of the same session adds a number.
    File(PathBuf),
    /// `streampay-recording.webm` or `.mkv` in the current folder, numbered so that none is
    /// overwritten.
    Numbered,
    /// Standard output.
    Stdout,
}

/// A recording under way.
pub(crate) struct Recording {
    pub(crate) path: Option<PathBuf>,
    task: JoinHandle<Result<Recorded, AppError>>,
}

impl Recording {
    /// Starts to record, on a thread that may block.
    pub(crate) fn start(
        target: &Target,
        connection: u32,
        codecs: &[Codec],
        mut packets: mpsc::Receiver<ReceivedPacket>,
    ) -> Result<Self, AppError> {
        let failed = || AppError::io("the recording cannot be made");
        let (out, path): (Box<dyn Write + Send>, _) = match target {
            Target::Stdout => (Box::new(std::io::stdout()), None),
            Target::File(path) => {
                let path = if connection == 0 {
                    path.clone()
                } else {
                    numbered(path, connection)
                };
                (Box::new(File::create(&path).map_err(failed())?), Some(path))
            }
            Target::Numbered => {
                let base = PathBuf::from(format!("streampay-recording.{}", file_ending(codecs)));
                let (file, path) = create_new(&base).map_err(failed())?;
                (Box::new(file), Some(path))
            }
        };
        let codecs = codecs.to_vec();
        let task = tokio::task::spawn_blocking(move || {
            let mut recorder = Recorder::new(out, &codecs)?;
            while let Some(packet) = packets.blocking_recv() {
                recorder.push(&packet)?;
            }
            Ok(recorder.finish()?)
        });
        Ok(Self { path, task })
    }

    /// Waits until everything is written: after the connection is closed.
    pub(crate) async fn finish(self) -> Result<Recorded, AppError> {
        match self.task.await {
            Ok(recorded) => recorded,
            Err(_) => Err(AppError::Usage("the recording stopped early")),
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().into_owned());
    let name = match ending {
        Some(ending) => format!("{stem}-{number}.{ending}"),
        None => format!("{stem}-{number}"),
    };
    path.with_file_name(name)
}

fn create_new(base: &Path) -> std::io::Result<(File, PathBuf)> {
    let mut number = 0;
    loop {
        let path = if number == 0 {
            base.to_owned()
        } else {
            numbered(base, number)
        };
        match File::create_new(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 10_000 => {
                number = number.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
}
