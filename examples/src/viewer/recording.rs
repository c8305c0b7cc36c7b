//! Writes what is received into one playable file, or to stdout.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use streampay_core::session::{CloseCode, Command};
use streampay_media::packet::Codec;
use streampay_media::peer::ReceivedPacket;
use streampay_media::record::{Container, RecordError, Recorder, file_ending};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::AppError;

/// Where the recording goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Exactly this file.
    File(PathBuf),
    /// `streampay-recording.webm` or `.mkv` in the current folder, numbered so that none is
    /// overwritten.
    Numbered,
    /// Standard output.
    Stdout,
}

impl Target {
    const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Says early what would fail late: before a session is opened.
    ///
    /// # Errors
    /// [`AppError::File`]: the folder is missing, or the file is somebody's and no recording.
    pub fn check(&self) -> Result<(), AppError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(AppError::file(
                path,
                "its folder does not exist; make it first",
            ));
        }
        if path.is_dir() {
            return Err(AppError::file(path, "is a folder; name a file in it"));
        }
        match File::open(path).map(is_recording) {
            Ok(false) => Err(AppError::file(
                path,
                "exists and is no recording: it is left alone; name another file",
            )),
            _ => Ok(()),
        }
    }

    /// The file, just made; none for stdout.
    fn make(&self, codecs: &[Codec]) -> Result<Made, AppError> {
        let failed = |path: &Path, error: std::io::Error| AppError::file(path, &error.to_string());
        match self {
            Self::Stdout => {
                let failed = |error| AppError::Record(RecordError::Write(error));
                Ok((stdout().map_err(failed)?, None))
            }
            Self::File(path) => {
                let file = File::create(path).map_err(|error| failed(path, error))?;
                Ok((file, Some(path.clone())))
            }
            Self::Numbered => {
                let base = PathBuf::from(format!("streampay-recording.{}", file_ending(codecs)));
                let (file, path) = create_new(&base).map_err(|error| failed(&base, error))?;
                Ok((file, Some(path)))
            }
        }
    }
}

type Made = (File, Option<PathBuf>);

/// Standard output, unbuffered.
#[cfg(unix)]
fn stdout() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    let owned = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(owned.into())
}

#[cfg(windows)]
fn stdout() -> std::io::Result<File> {
    use std::os::windows::io::AsHandle;
    let owned = std::io::stdout().as_handle().try_clone_to_owned()?;
    Ok(owned.into())
}

/// Empty, or begins as Matroska does (EBML, RFC 8794), IVF, Ogg, H.264 as Annex B or MP4.
fn is_recording(mut file: File) -> bool {
    const HEADS: [[u8; 4]; 4] = [[0x1a, 0x45, 0xdf, 0xa3], *b"DKIF", *b"OggS", [0, 0, 0, 1]];
    let mut head = [0; 8];
    match file.read_exact(&mut head) {
        Ok(()) => head.ends_with(b"ftyp") || HEADS.iter().any(|known| head.starts_with(known)),
        Err(_) => file.metadata().is_ok_and(|meta| meta.len() == 0),
    }
}

/// What comes over one connection.
struct Received {
    codecs: Vec<Codec>,
    packets: mpsc::Receiver<ReceivedPacket>,
}

/// A recording under way, over all connections of a session. Its file is made with the first
/// packet: nothing received, no file.
pub(crate) struct Recording {
    connections: mpsc::Sender<Received>,
    task: JoinHandle<Result<Option<PathBuf>, AppError>>,
}

impl Recording {
    /// Starts to record, on a thread that may block. Where it cannot write any more, it asks for
    /// the session's end: nobody pays for what is lost.
    pub(crate) fn start(target: &Target, session: mpsc::Sender<Command>) -> Self {
        let target = target.clone();
        let (connections, from) = mpsc::channel(1);
        let task = tokio::task::spawn_blocking(move || {
            let written = write(&target, from);
            if written.is_err() {
                let _ = session.blocking_send(Command::Close(CloseCode::Done));
            }
            match written {
                // A player that was closed: that is how its user stops.
                Err(AppError::Record(RecordError::Write(error)))
                    if target.is_stdout() && error.kind() == ErrorKind::BrokenPipe =>
                {
                    Ok(None)
                }
                other => other,
            }
        });
        Self { connections, task }
    }

    /// Goes on with what comes over this connection.
    pub(crate) async fn connected(
        &self,
        codecs: &[Codec],
        packets: mpsc::Receiver<ReceivedPacket>,
    ) {
        let codecs = codecs.to_vec();
        // An error means that it has failed before, and says so at the end.
        let _ = self.connections.send(Received { codecs, packets }).await;
    }

    /// Waits until everything is written: after the last connection is closed. The file, if any.
    pub(crate) async fn finish(self) -> Result<Option<PathBuf>, AppError> {
        drop(self.connections);
        match self.task.await {
            Ok(written) => written,
            Err(_) => Err(AppError::Failed("the recording stopped early")),
        }
    }
}

fn write(
    target: &Target,
    mut connections: mpsc::Receiver<Received>,
) -> Result<Option<PathBuf>, AppError> {
    let mut recording: Option<(Recorder<_>, Option<PathBuf>)> = None;
    while let Some(mut received) = connections.blocking_recv() {
        if let Some((recorder, _)) = &mut recording {
            recorder.reconnected()?;
        }
        while let Some(packet) = received.packets.blocking_recv() {
            let (recorder, _) = match &mut recording {
                Some(recording) => recording,
                none => {
                    let (out, path) = target.make(&received.codecs)?;
                    let container = path
                        .as_deref()
                        .map_or_else(Container::default, Container::of);
                    let recorder = Recorder::with(out, &received.codecs, container)?;
                    none.insert((recorder, path))
                }
            };
            recorder.push(&packet)?;
        }
    }
    let Some((recorder, path)) = recording else {
        return Ok(None);
    };
    recorder.finish_seekable()?;
    Ok(path)
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
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 10_000 => {
                number = number.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
}
