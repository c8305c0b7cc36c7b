use std::sync::Arc;

use rtc::rtp;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};

use crate::packet::{Kind, MediaPacket};

/// One outgoing RTP stream. Not to be cloned, not public: who has it can send.
///
/// Sequence numbers have no gap, whatever the gate holds back: a gap would be answered with
/// retransmission requests for ever. Time stamps are the source's minus an origin, the same for
/// both kinds; it is set anew only after a pause, so that this shows as the time that it took.
/// Nothing is negotiated for a pause, and the track is not taken off its sender: `replace_track`
/// of the stack (0.21.1) says that it has, and binds nothing.
pub(crate) struct MeteredTrack {
    out: Out,
    ssrc: u32,
    payload_type: u8,
    seq: u16,
    origin_ticks: u64,
    /// The last frame that was written, in the source's ticks, and its time stamp.
    last: Option<(u64, u32)>,
}

/// Where packets go.
#[derive(Clone)]
pub(super) enum Out {
    Stack(Arc<dyn TrackLocal>),
    #[cfg(test)]
    Test(Arc<dyn Fn(rtp::Packet) + Send + Sync>),
    /// A connection whose queue is full: it takes one packet for each permit.
    #[cfg(test)]
    Slow(
        Arc<tokio::sync::Semaphore>,
        Arc<dyn Fn(rtp::Packet) + Send + Sync>,
    ),
}

impl Out {
    async fn write(&self, packet: rtp::Packet) -> Result<(), TrackClosed> {
        match self {
            Self::Stack(local) => local.write_rtp(packet).await.map_err(|_| TrackClosed),
            #[cfg(test)]
            Self::Test(taken) => {
                taken(packet);
                Ok(())
            }
            #[cfg(test)]
            Self::Slow(permits, taken) => {
                permits.acquire().await.map_err(|_| TrackClosed)?.forget();
                taken(packet);
                Ok(())
            }
        }
    }

    /// The viewer's next reports; none once the connection is gone.
    pub(super) async fn reports(&self) -> Option<Vec<Box<dyn rtc::rtcp::Packet>>> {
        match self {
            Self::Stack(local) => loop {
                if let TrackLocalEvent::OnRtcpPacket(packets) = local.poll().await? {
                    return Some(packets);
                }
            },
            #[cfg(test)]
            Self::Test(_) | Self::Slow(..) => None,
        }
    }
}

/// The connection takes no more packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes no more packets")]
pub(crate) struct TrackClosed;

impl MeteredTrack {
    /// The stack drops packets of another SSRC or payload type than its own, and says nothing.
    pub(crate) const fn new(local: Arc<dyn TrackLocal>, ssrc: u32, payload_type: u8) -> Self {
        Self::to(Out::Stack(local), ssrc, payload_type)
    }

    pub(super) const fn to(out: Out, ssrc: u32, payload_type: u8) -> Self {
        Self {
            out,
            ssrc,
            payload_type,
            seq: 1,
            origin_ticks: 0,
            last: None,
        }
    }

    /// For the viewer's reports on it.
    pub(super) fn out(&self) -> Out {
        self.out.clone()
    }

    /// Time stamps count from `origin_ms` of the source, from the next frame on. It may lie before the
    /// source's beginning, and wraps like the stamps do.
    pub(super) const fn set_origin(&mut self, kind: Kind, origin_ms: u64) {
        self.origin_ticks = origin_ms.wrapping_mul(kind.ticks_per_ms());
    }

    /// All packets of a frame have the same, whatever lies between them.
    pub(super) fn stamp(&mut self, ticks: u64) -> u32 {
        if let Some((last, stamp)) = self.last
            && last == ticks
        {
            return stamp;
        }
        let stamp = ticks.wrapping_sub(self.origin_ticks) & u64::from(u32::MAX);
        let stamp = u32::try_from(stamp).unwrap_or(0);
        self.last = Some((ticks, stamp));
        stamp
    }

    /// Sends. Waits where the connection is behind; that is why each viewer has its own task. The stack
    /// says Ok and sends nothing where SSRC, payload type or a header extension is not the one that was
    /// negotiated: all three are set here and nowhere else, and whoever counts counts at the receiver.
    pub(super) async fn write(&mut self, packet: &MediaPacket) -> Result<(), TrackClosed> {
        let timestamp = self.stamp(packet.ticks);
        let header = rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.payload_type,
            sequence_number: self.seq,
            timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.seq = self.seq.wrapping_add(1);
        let packet = rtp::Packet {
            header,
            payload: packet.payload.clone(),
        };
        self.out.write(packet).await
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
