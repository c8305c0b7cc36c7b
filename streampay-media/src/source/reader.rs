use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{Description, Reader, Ring, Source};
use crate::{
    packet::{Kind, MediaPacket},
    peer::ReceivedPacket,
};

/// Reads a [`Source`] as a viewer with credit without end would, on this machine: for a recording
/// of what is streamed. It never makes the source wait; where it is too slow, there is a gap.
#[derive(Debug)]
pub struct SourceReader {
    source: Arc<Source>,
    head: watch::Receiver<u64>,
    next: u64,
    pulled: Vec<Arc<MediaPacket>>,
    ready: VecDeque<ReceivedPacket>,
    video_seq: u16,
    audio_seq: u16,
}

impl SourceReader {
    /// Packets that are taken at once.
    const BATCH: usize = 64;

    /// Begins at the last key frame that the source still has.
    #[must_use]
    pub fn new(source: Arc<Source>) -> Self {
        Self {
            head: source.ring().head(),
            next: source.ring().entry(Reader::Picture).next,
            source,
            pulled: Vec::new(),
            ready: VecDeque::new(),
            video_seq: 0,
            audio_seq: 0,
        }
    }

    /// What the source is, by now.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.source.description()
    }

    /// The next packet. Waits for it for as long as the source brings nothing. Safe to drop half
    /// way.
    pub async fn next(&mut self) -> ReceivedPacket {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return packet;
            }
            let ring: &Ring = self.source.ring();
            if ring.pull(self.next, Self::BATCH, &mut self.pulled).is_err() {
                self.next = ring.entry(Reader::Picture).next;
                // Numbers that are missing, so that nobody joins what does not belong together.
                self.video_seq = self.video_seq.wrapping_add(1);
                self.audio_seq = self.audio_seq.wrapping_add(1);
                continue;
            }
            if self.pulled.is_empty() {
                if self.head.changed().await.is_err() {
                    // The ring has the sender, and is held here.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            for packet in self.pulled.drain(..) {
                self.next = packet.index.saturating_add(1);
                let description = self.source.description();
                let video = description.video.map(|video| video.codec);
                let (codec, seq) = match packet.kind {
                    Kind::Video => (video, &mut self.video_seq),
                    Kind::Audio => (description.audio, &mut self.audio_seq),
                };
                let Some(codec) = codec else { continue };
                let stamp = packet.ticks & u64::from(u32::MAX);
                self.ready.push_back(ReceivedPacket {
                    codec,
                    seq: *seq,
                    stamp: u32::try_from(stamp).unwrap_or(0),
                    marker: packet.marker,
                    payload: packet.payload.clone(),
                });
                *seq = seq.wrapping_add(1);
            }
        }
    }
}
