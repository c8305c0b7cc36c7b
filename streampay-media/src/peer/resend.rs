//! How much is sent again. Source: RFC 4585 6.2.1.
//!
//! The stack (0.21.1) sends again whatever is asked for, as often as it is asked: one request of a
//! kilobyte names up to five thousand packets, of which it makes copies before the first one
//! leaves. A viewer could so have the sender send a thousand times of what it paid for; and those of
//! this stack, which ask ten times a second for as long as a packet is missing, did so by themselves
//! where the machine was too slow, until gigabytes waited.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rtc::{
    interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack},
    sansio::Protocol,
    shared::error::Error,
};

/// Where in the chain: nearer to the wire than the one that sends again.
pub(super) const SLOT: usize = 3_500;

/// Lets requests for packets through as far as they are earned: each packet that is sent earns one
/// that is sent again. So what is sent at most doubles, and nothing is sent to one who has not paid.
#[derive(Default)]
pub(super) struct ResendBudget {
    earned: u64,
    /// Packets that were asked for, each time counted, answered or not.
    nacked: Arc<AtomicU64>,
    inward: VecDeque<TaggedPacket>,
    outward: VecDeque<TaggedPacket>,
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

impl Protocol<TaggedPacket, TaggedPacket, ()> for ResendBudget {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(reports) = &mut msg.message.packet
            && !reports.is_empty()
        {
            let all = std::mem::take(reports);
            reports.extend(all.into_iter().filter_map(|report| self.granted(report)));
            // The stack has another meaning for none.
            if reports.is_empty() {
                return Ok(());
            }
        }
        self.inward.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inward.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let again = msg.message.has(&Attribute::Retransmission);
        if matches!(msg.message.packet, Packet::Rtp(_)) && !again {
            self.earned = (self.earned + 1).min(Self::MOST);
        }
        self.outward.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outward.pop_front()
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for ResendBudget {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::{
        interceptor::{AttributedPacket, RTCPFeedback, Registry},
        rtp,
        shared::TransportContext,
    };
    use webrtc::peer_connection::{MediaEngine, register_default_interceptors};

    use super::*;
    use crate::peer::with_feedback;

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

    /// The stack's own chain, as connections have it.
    fn chain(nacked: Arc<AtomicU64>) -> impl Interceptor {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
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
        let nacked = Arc::<AtomicU64>::default();
        let mut chain = chain(nacked.clone());
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
    fn what_was_lost_is_sent_again_and_other_reports_pass() {
        let mut chain = chain(Arc::default());
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
        let mut budget = ResendBudget::default();
        let picture_loss =
            rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication::default();
        budget
            .handle_read(tagged(Packet::Rtcp(vec![Box::new(picture_loss)])))
            .unwrap();
        budget.handle_read(tagged(Packet::Rtcp(vec![]))).unwrap();
        budget.handle_read(request(1)).unwrap();
        let passed = std::iter::from_fn(|| budget.poll_read()).count();
        assert_eq!(passed, 2);
    }
}
