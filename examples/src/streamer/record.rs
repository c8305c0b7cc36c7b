//! Recording what is streamed, on the streamer's side.

use std::path::Path;
use std::sync::Arc;

use streampay_media::source::{Source, SourceReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::AppError;
use crate::report::Report;
use crate::viewer::recording::{Recording, Target};

/// Packets that wait for the disk. One that is too slow loses some, and harms no viewer.
const WAITING: usize = 1024;

/// A recording under way.
pub(super) struct StreamRecording {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl StreamRecording {
    /// Records `source` from its first packet on.
    ///
    /// # Errors
    /// [`AppError::File`]: the folder is missing, or the file is somebody's and no recording.
    pub(super) fn start(
        path: &Path,
        source: Arc<Source>,
        report: Report,
    ) -> Result<Self, AppError> {
        let target = Target::File(path.to_owned());
        target.check()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(record(target, SourceReader::new(source), stopped, report));
        Ok(Self { stop, task })
    }

    /// Ends the file, and waits until it is written.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn record(
    target: Target,
    mut reader: SourceReader,
    mut stopped: oneshot::Receiver<()>,
    report: Report,
) {
    // What a viewer's recording asks its session for where it cannot go on.
    let (commands, mut failed) = mpsc::channel(1);
    let recording = Recording::start(&target, commands);
    let first = tokio::select! {
        first = reader.next() => first,
        _ = &mut stopped => return,
    };
    let codecs: Vec<_> = reader.description().codecs().collect();
    let (packets, from) = mpsc::channel(WAITING);
    recording.connected(&codecs, from).await;
    let mut packet = first;
    loop {
        if packets.send(packet).await.is_err() {
            break;
        }
        packet = tokio::select! {
            next = reader.next() => next,
            _ = &mut stopped => break,
            _ = failed.recv() => break,
        };
    }
    drop(packets);
    match recording.finish().await {
        Ok(Some(path)) => report.tell(&format!("what was streamed is in {}", path.display())),
        Ok(None) => {}
        Err(error) => report.tell(&format!("the recording stopped: {error}")),
    }
}
