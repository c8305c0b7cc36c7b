//! Which reports of the other side reach this crate. Source: RFC 4585 6.3.1, RFC 5104 4.3.1.
//!
//! The stack keeps all of RTCP to itself unless an interceptor marks a packet for the application.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use rtc::{
    interceptor::{
        Attribute, Interceptor, NackResponderBuilder, Packet, Registry, SenderReportBuilder, Slot,
        StreamInfo, TaggedPacket,
    },
    rtcp::payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
    },
    sansio::Protocol,
    shared::error::Error,
};

use super::resend::ResendBudget;

/// With requests for key frames let through to the application, and those for packets bounded and
/// counted in `nacked`.
pub(crate) fn with_feedback(registry: Registry, nacked: Arc<AtomicU64>) -> Registry {
    registry.with(Slot::Custom(SLOT), Feedback::new(nacked))
}

/// What a connection needs that only sends media: nothing that watches what is received, for each packet
/// passes through all that is there.
pub(crate) fn sending_only() -> Registry {
    Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
}

/// Where in the chain: nearer to the wire than the one that sends again.
const SLOT: usize = 3_500;

/// Marks requests for key frames, and bounds those for packets.
struct Feedback {
    budget: ResendBudget,
    inward: VecDeque<TaggedPacket>,
    outward: VecDeque<TaggedPacket>,
}

impl Feedback {
    fn new(nacked: Arc<AtomicU64>) -> Self {
        Self {
            budget: ResendBudget::new(nacked),
            inward: VecDeque::new(),
            outward: VecDeque::new(),
        }
    }
}

/// Whether it asks for a key frame.
pub(crate) fn asks_for_key_frame(packet: &dyn rtc::rtcp::Packet) -> bool {
    let packet = packet.as_any();
    packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(reports) = &mut msg.message.packet
            && !reports.is_empty()
        {
            self.budget.grant(reports);
            // The stack has another meaning for none.
            if reports.is_empty() {
                return Ok(());
            }
            if reports.iter().any(|it| asks_for_key_frame(it.as_ref())) {
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
        let again = msg.message.has(&Attribute::Retransmission);
        if matches!(msg.message.packet, Packet::Rtp(_)) && !again {
            self.budget.earn();
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

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

    use super::*;

    #[test]
    fn requests_for_key_frames_are_told_from_others() {
        assert!(asks_for_key_frame(&PictureLossIndication::default()));
        assert!(asks_for_key_frame(&FullIntraRequest::default()));
        assert!(!asks_for_key_frame(&TransportLayerNack::default()));
    }
}
