use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

#[cfg(feature = "e2ee")]
use super::sealed::OwnOpener;
use super::{Description, Reader, Ring, Source};
use crate::{
    packet::{Kind, MediaPacket},
    peer::ReceivedPacket,
};

/// Reads a [`Source`] as a viewer with credit without end would, on this machine: for a recording
/// of what is streamed. It never makes the source wait; where it is too slow, there is a gap.
///
/// What it gives is not sealed, also where the source is: its secret is on this machine.
#[derive(Debug)]
pub struct SourceReader {
    source: Arc<Source>,
    head: watch::Receiver<u64>,
    next: u64,
    pulled: Vec<Arc<MediaPacket>>,
    ready: VecDeque<ReceivedPacket>,
    video_seq: u16,
    audio_seq: u16,
    /// Of a source that is sealed.
    #[cfg(feature = "e2ee")]
    opener: Option<OwnOpener>,
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
            #[cfg(feature = "e2ee")]
            opener: source.secret().cloned().map(OwnOpener::new),
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
                self.lagged();
                continue;
            }
            if self.pulled.is_empty() {
                if self.head.changed().await.is_err() {
                    // The ring has the sender, and is held here.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let mut pulled = core::mem::take(&mut self.pulled);
            for packet in pulled.drain(..) {
                self.take(&packet);
            }
            // For its room.
            self.pulled = pulled;
        }
    }

    /// Numbers that are missing, so that nobody joins what does not belong together.
    const fn lagged(&mut self) {
        self.video_seq = self.video_seq.wrapping_add(1);
        self.audio_seq = self.audio_seq.wrapping_add(1);
        #[cfg(feature = "e2ee")]
        if let Some(opener) = &mut self.opener {
            opener.gap();
        }
    }

    fn take(&mut self, packet: &MediaPacket) {
        self.next = packet.index.saturating_add(1);
        let description = self.source.description();
        let video = description.video.map(|video| video.codec);
        let codec = match packet.kind {
            Kind::Video => video,
            Kind::Audio => description.audio,
        };
        let Some(codec) = codec else { return };
        let stamp = u32::try_from(packet.ticks & u64::from(u32::MAX)).unwrap_or(0);
        let plain = || vec![packet.payload.clone()];
        #[cfg(feature = "e2ee")]
        let payloads = match &mut self.opener {
            // All of a sealed frame is given with its last packet.
            Some(opener) => opener.push(codec, stamp, packet),
            None => Ok(plain()),
        };
        #[cfg(not(feature = "e2ee"))]
        let payloads = Ok::<_, core::convert::Infallible>(plain());
        let seq = match packet.kind {
            Kind::Video => &mut self.video_seq,
            Kind::Audio => &mut self.audio_seq,
        };
        let payloads = payloads.unwrap_or_else(|error| {
            tracing::warn!(%error, "a frame is left out");
            *seq = seq.wrapping_add(1);
            Vec::new()
        });
        let last = payloads.len().saturating_sub(1);
        for (at, payload) in payloads.into_iter().enumerate() {
            self.ready.push_back(ReceivedPacket {
                codec,
                seq: *seq,
                stamp,
                marker: packet.marker && at == last,
                payload,
            });
            *seq = seq.wrapping_add(1);
        }
    }
}
