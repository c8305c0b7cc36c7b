use std::sync::Arc;

use rtc::rtp;
use webrtc::media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP};

use crate::packet::{Kind, MediaPacket};

/// One outgoing RTP stream. Not to be cloned, not public: who has it can send.
///
/// Sequence numbers have no gap, whatever the gate holds back: a gap would be answered with
/// retransmission requests for ever. Time stamps are the source's minus a constant, so a pause
/// shows as the time that it took, alike for both kinds.
pub(crate) struct MeteredTrack {
    local: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    seq: u16,
    epoch_ticks: u64,
}

/// The connection takes no more packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes no more packets")]
pub(crate) struct TrackClosed;

impl MeteredTrack {
    pub(crate) const fn new(local: Arc<TrackLocalStaticRTP>, ssrc: u32, payload_type: u8) -> Self {
        Self {
            local,
            ssrc,
            payload_type,
            seq: 1,
            epoch_ticks: 0,
        }
    }

    /// For the viewer's reports on it.
    pub(super) fn local(&self) -> Arc<TrackLocalStaticRTP> {
        self.local.clone()
    }

    /// Time stamps will count from `epoch_ms` of the source, which no packet precedes.
    pub(super) const fn set_epoch(&mut self, kind: Kind, epoch_ms: u64) {
        self.epoch_ticks = epoch_ms.saturating_mul(kind.ticks_per_ms());
    }

    /// Sends. Waits where the connection is behind; that is why each viewer has its own task.
    pub(super) async fn write(&mut self, packet: &MediaPacket) -> Result<(), TrackClosed> {
        let stamp = packet.ticks.wrapping_sub(self.epoch_ticks) & u64::from(u32::MAX);
        let header = rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.payload_type,
            sequence_number: self.seq,
            timestamp: u32::try_from(stamp).unwrap_or(0),
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.seq = self.seq.wrapping_add(1);
        let packet = rtp::Packet {
            header,
            payload: packet.payload.clone(),
        };
        self.local.write_rtp(packet).await.map_err(|_| TrackClosed)
    }
}

impl core::fmt::Debug for MeteredTrack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MeteredTrack")
            .field("ssrc", &self.ssrc)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}
