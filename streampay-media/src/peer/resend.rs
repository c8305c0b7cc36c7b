//! How much is sent again. Source: RFC 4585 6.2.1.
//!
//! The stack (0.21.1) sends again whatever is asked for, as often as it is asked: one request of a
//! kilobyte names up to five thousand packets, of which it makes copies before the first one
//! leaves. A viewer could so have the sender send a thousand times of what it paid for; and those of
//! this stack, which ask ten times a second for as long as a packet is missing, did so by themselves
//! where the machine was too slow, until gigabytes waited.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

/// Lets requests for packets through as far as they are earned: each packet that is sent earns one
/// that is sent again. So what is sent at most doubles, and nothing is sent to one who has not paid.
#[derive(Default)]
pub(super) struct ResendBudget {
    earned: u64,
    /// Packets that were asked for, each time counted, answered or not.
    nacked: Arc<AtomicU64>,
}

impl ResendBudget {
    /// What can be earned in advance: half a second of 10 Mbit/s.
    const MOST: u64 = 512;

    pub(super) fn new(nacked: Arc<AtomicU64>) -> Self {
        Self {
            nacked,
            ..Self::default()
        }
    }

    /// One was sent for the first time.
    pub(super) fn earn(&mut self) {
        self.earned = (self.earned + 1).min(Self::MOST);
    }

    /// What is left of these reports.
    pub(super) fn grant(&mut self, reports: &mut Vec<Box<dyn rtc::rtcp::Packet>>) {
        let all = std::mem::take(reports);
        reports.extend(all.into_iter().filter_map(|report| self.granted(report)));
    }

    /// The report with as much of it as is earned; none where nothing is left of it.
    fn granted(
        &mut self,
        report: Box<dyn rtc::rtcp::Packet>,
    ) -> Option<Box<dyn rtc::rtcp::Packet>> {
        let Some(nack) = report.as_any().downcast_ref::<TransportLayerNack>() else {
            return Some(report);
        };
        let asked = nack.nacks.iter().map(packets).sum();
        self.nacked.fetch_add(asked, Ordering::Relaxed);
        if asked <= self.earned {
            self.earned -= asked;
            return Some(report);
        }
        let mut left = nack.clone();
        left.nacks.retain(|pair| {
            let rest = self.earned.checked_sub(packets(pair));
            self.earned = rest.unwrap_or(self.earned);
            rest.is_some()
        });
        if left.nacks.is_empty() {
            return None;
        }
        Some(Box::new(left))
    }
}

/// How many packets it asks for.
fn packets(pair: &NackPair) -> u64 {
    1 + u64::from(pair.lost_packets.count_ones())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use rtc::{
        interceptor::{
            Attribute, AttributedPacket, Interceptor, Packet, RTCPFeedback, Registry, StreamInfo,
            TaggedPacket,
        },
        rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication,
        rtp,
        sansio::Protocol,
        shared::TransportContext,
    };
    use webrtc::peer_connection::{MediaEngine, register_default_interceptors};

    use super::*;
    use crate::peer::feedback::{sending_only, with_feedback};

    const SSRC: u32 = 7;

    fn tagged(packet: Packet) -> TaggedPacket {
        TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }
    }

    fn media(seq: u16) -> TaggedPacket {
        let header = rtp::Header {
            version: 2,
            ssrc: SSRC,
            sequence_number: seq,
            ..Default::default()
        };
        tagged(Packet::Rtp(rtp::Packet {
            header,
            payload: Bytes::from_static(&[0; 1000]),
        }))
    }

    /// Asks for so many times seventeen packets.
    fn request(pairs: u16) -> TaggedPacket {
        let pair = |at| NackPair {
            packet_id: at * 17 % 500,
            lost_packets: u16::MAX,
        };
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: SSRC,
            nacks: (0..pairs).map(pair).collect(),
        };
        tagged(Packet::Rtcp(vec![Box::new(nack)]))
    }

    /// The chain of a connection that receives, and of one that only sends.
    const KINDS: [bool; 2] = [true, false];

    fn chain(receives: bool, nacked: Arc<AtomicU64>) -> impl Interceptor {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let registry = if receives { registry } else { sending_only() };
        let mut chain = with_feedback(registry, nacked).build();
        chain.bind_local_stream(&StreamInfo {
            ssrc: SSRC,
            clock_rate: 90_000,
            rtcp_feedback: vec![RTCPFeedback {
                typ: "nack".to_owned(),
                parameter: String::new(),
            }],
            ..Default::default()
        });
        chain
    }

    /// RTP packets that leave.
    fn left(chain: &mut impl Interceptor) -> u64 {
        let mut count = 0;
        while let Some(out) = chain.poll_write() {
            count += u64::from(matches!(out.message.packet, Packet::Rtp(_)));
        }
        count
    }

    #[test]
    fn whoever_asks_without_end_has_at_most_as_much_again_as_was_sent() {
        KINDS.into_iter().for_each(at_most_as_much_again);
    }

    fn at_most_as_much_again(receives: bool) {
        let nacked = Arc::<AtomicU64>::default();
        let mut chain = chain(receives, nacked.clone());
        chain.handle_read(request(10)).unwrap();
        assert_eq!(left(&mut chain), 0, "nothing was sent, so nothing is again");
        let mut again = 0;
        for seq in 0..600 {
            chain.handle_write(media(seq)).unwrap();
            assert_eq!(left(&mut chain), 1);
        }
        for _ in 0..1000 {
            chain.handle_read(request(280)).unwrap();
            again += left(&mut chain);
        }
        // What is held back while nobody asks is bounded, too.
        assert!(again <= ResendBudget::MOST, "{again}");
        assert!(again > ResendBudget::MOST / 2, "{again}");
        assert_eq!(nacked.load(Ordering::Relaxed), 170 + 1000 * 280 * 17);
    }

    #[test]
    fn what_was_lost_is_sent_again() {
        KINDS.into_iter().for_each(sent_again);
    }

    fn sent_again(receives: bool) {
        let mut chain = chain(receives, Arc::default());
        for seq in 0..40 {
            chain.handle_write(media(seq)).unwrap();
        }
        assert_eq!(left(&mut chain), 40);
        for _ in 0..2 {
            chain.handle_read(request(1)).unwrap();
            assert_eq!(left(&mut chain), 17);
        }
        chain.handle_read(request(1)).unwrap();
        assert_eq!(
            left(&mut chain),
            0,
            "six are earned, seventeen are asked for"
        );
    }

    #[test]
    fn requests_for_a_key_frame_reach_the_application_and_other_reports_do_not() {
        for receives in KINDS {
            let mut chain = chain(receives, Arc::default());
            let picture_loss = || PictureLossIndication::default();
            let mut both = request(1);
            if let Packet::Rtcp(reports) = &mut both.message.packet {
                reports.push(Box::new(picture_loss()));
            }
            for (reports, delivered) in [
                (tagged(Packet::Rtcp(vec![Box::new(picture_loss())])), 1),
                (request(1), 0),
                (both, 1),
                (tagged(Packet::Rtcp(vec![])), 0),
            ] {
                chain.handle_read(reports).unwrap();
                let came = std::iter::from_fn(|| chain.poll_read());
                let delivered_now = came.filter(|it| {
                    it.message.has(&Attribute::DeliverToApplication)
                        && matches!(&it.message.packet, Packet::Rtcp(reports) if reports.len() == 1)
                });
                assert_eq!(delivered_now.count(), delivered);
            }
        }
    }
}
