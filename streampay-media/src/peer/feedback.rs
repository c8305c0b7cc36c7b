//! Which reports of the other side reach this crate. Source: RFC 4585 6.3.1, RFC 5104 4.3.1.
//!
//! The stack keeps all of RTCP to itself unless an interceptor marks a packet for the application.

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
    rtcp::{
        payload_feedbacks::{
            full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        },
        transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack},
    },
    sansio::Protocol,
    shared::error::Error,
};

/// Where in the chain: nearer to the application than everything that acts on feedback.
pub(crate) const SLOT: usize = 20_000;

/// Marks requests for key frames, and counts packets that are asked for again.
#[derive(Default)]
pub(crate) struct FeedbackTap {
    /// Source: RFC 4585 6.2.1.
    nacked: Arc<AtomicU64>,
    inward: VecDeque<TaggedPacket>,
    outward: VecDeque<TaggedPacket>,
}

impl FeedbackTap {
    pub(super) fn new(nacked: Arc<AtomicU64>) -> Self {
        Self {
            nacked,
            ..Self::default()
        }
    }
}

/// How many packets it asks for again.
fn asked_again(packet: &dyn rtc::rtcp::Packet) -> u64 {
    let nack = packet.as_any().downcast_ref::<TransportLayerNack>();
    nack.map_or(0, |nack| {
        let packets = |pair: &NackPair| 1 + u64::from(pair.lost_packets.count_ones());
        nack.nacks.iter().map(packets).sum()
    })
}

/// Whether it asks for a key frame.
pub(crate) fn asks_for_key_frame(packet: &dyn rtc::rtcp::Packet) -> bool {
    let packet = packet.as_any();
    packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FeedbackTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            let again: u64 = packets.iter().map(|it| asked_again(it.as_ref())).sum();
            self.nacked.fetch_add(again, Ordering::Relaxed);
            if packets.iter().any(|it| asks_for_key_frame(it.as_ref())) {
                msg.message.add(Attribute::DeliverToApplication);
            }
        }
        self.inward.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inward.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
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

impl Interceptor for FeedbackTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_that_is_asked_for_again_counts() {
        let pair = |lost_packets| NackPair {
            packet_id: 7,
            lost_packets,
        };
        let nack = |nacks| TransportLayerNack {
            nacks,
            ..Default::default()
        };
        assert_eq!(asked_again(&nack(vec![])), 0);
        assert_eq!(asked_again(&nack(vec![pair(0), pair(0b1001)])), 4);
        assert_eq!(asked_again(&PictureLossIndication::default()), 0);
        assert!(asks_for_key_frame(&PictureLossIndication::default()));
        assert!(asks_for_key_frame(&FullIntraRequest::default()));
        assert!(!asks_for_key_frame(&nack(vec![pair(0)])));
    }
}
