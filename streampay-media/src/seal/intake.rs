//! A viewer's packets, from the connection to the meter.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Keyring, OpenError};
use crate::{
    codec::FrameAssembler,
    meter::ReceiveMeter,
    packet::{Codec, Kind},
    peer::ReceivedPacket,
    reorder::Reorder,
};

/// Puts sealed frames together, opens them as their keys come, and counts those that open. Media
/// that is not sealed passes as it is; what comes before that is agreed waits.
#[derive(Debug)]
pub(crate) struct Intake {
    keys: Keyring,
    /// What came before it was agreed whether media is sealed.
    early: Vec<ReceivedPacket>,
    video: Lane,
    audio: Lane,
    unopened: u64,
}

/// One kind's way.
#[derive(Debug)]
struct Lane {
    stream: Option<Stream>,
    /// Frames that wait for their keys, in order.
    waiting: VecDeque<Sealed>,
    waiting_bytes: usize,
    /// The number of the next opened frame.
    seq: u16,
    /// Something before it is missing.
    gap: bool,
}

#[derive(Debug)]
struct Stream {
    codec: Codec,
    reorder: Reorder,
    assembler: FrameAssembler,
    /// Of the frame under way.
    heads: Vec<Head>,
    stamp: u32,
    /// Something was lost since the last whole frame.
    lost: bool,
}

/// What the meter counts of a packet.
#[derive(Clone, Copy, Debug)]
struct Head {
    seq: u16,
    stamp: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Sealed {
    codec: Codec,
    heads: Vec<Head>,
    data: Bytes,
    /// Packets before it are lost.
    gap: bool,
}

impl Intake {
    /// Packets that wait until it is agreed whether media is sealed. Nothing is paid before, so a
    /// sound payee sends none.
    const EARLY_MAX: usize = 256;

    pub(crate) fn new(keys: Keyring) -> Self {
        Self {
            keys,
            early: Vec::new(),
            video: Lane::new(),
            audio: Lane::new(),
            unopened: 0,
        }
    }

    /// Frames that came whole and did not open.
    pub(crate) const fn unopened(&self) -> u64 {
        self.unopened
    }

    /// One packet came. What of it and of those that waited goes on, counted.
    pub(crate) fn push(
        &mut self,
        packet: ReceivedPacket,
        meter: &mut ReceiveMeter,
    ) -> Vec<ReceivedPacket> {
        match self.keys.is_sealed() {
            None if self.early.len() < Self::EARLY_MAX => {
                self.early.push(packet);
                Vec::new()
            }
            None => Vec::new(),
            Some(sealed) => {
                let mut out = Vec::new();
                for packet in core::mem::take(&mut self.early) {
                    self.take(sealed, packet, meter, &mut out);
                }
                self.take(sealed, packet, meter, &mut out);
                out
            }
        }
    }

    /// Something was agreed, or a key came. What goes on by that.
    pub(crate) fn woken(&mut self, meter: &mut ReceiveMeter) -> Vec<ReceivedPacket> {
        let mut out = Vec::new();
        if let Some(sealed) = self.keys.is_sealed() {
            for packet in core::mem::take(&mut self.early) {
                self.take(sealed, packet, meter, &mut out);
            }
            for kind in [Kind::Video, Kind::Audio] {
                self.open(kind, meter, &mut out);
            }
        }
        out
    }

    fn take(
        &mut self,
        sealed: bool,
        packet: ReceivedPacket,
        meter: &mut ReceiveMeter,
        out: &mut Vec<ReceivedPacket>,
    ) {
        let kind = packet.codec.kind();
        if !sealed {
            if meter.receive(kind, packet.seq, packet.stamp, &packet.payload) {
                out.push(packet);
            }
            return;
        }
        let lane = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        lane.push(packet);
        self.open(kind, meter, out);
    }

    /// Opens what can be opened, in order.
    fn open(&mut self, kind: Kind, meter: &mut ReceiveMeter, out: &mut Vec<ReceivedPacket>) {
        let lane = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        while let Some(frame) = lane.waiting.front() {
            let opened = self.keys.open(frame.codec, &frame.data);
            if matches!(opened, Err(OpenError::NoKey(_))) && !lane.is_full() {
                return;
            }
            let Some(frame) = lane.waiting.pop_front() else {
                return;
            };
            lane.waiting_bytes = lane.waiting_bytes.saturating_sub(frame.data.len());
            lane.gap |= frame.gap;
            match opened {
                Ok(data) => {
                    if frame.count(kind, &data, meter) {
                        out.push(lane.opened(&frame, &data));
                    }
                }
                Err(_) => {
                    self.unopened = self.unopened.saturating_add(1);
                    lane.gap = true;
                    for head in &frame.heads {
                        meter.unopened(kind, head.seq, head.stamp);
                    }
                }
            }
        }
    }
}

impl Lane {
    /// Frames that wait for keys, and their bytes: over two seconds of most streams.
    const WAITING_MAX: usize = 256;
    const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

    const fn new() -> Self {
        Self {
            stream: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            seq: 0,
            gap: false,
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() > Self::WAITING_MAX || self.waiting_bytes > Self::WAITING_BYTES_MAX
    }

    fn push(&mut self, packet: ReceivedPacket) {
        let codec = packet.codec;
        let stream = match &mut self.stream {
            Some(stream) if stream.codec == codec => stream,
            other => other.insert(Stream::new(codec)),
        };
        stream.reorder.push(packet);
        while let Some(stream) = &mut self.stream
            && let Some((gap, packet)) = stream.reorder.pop()
        {
            if let Some(frame) = stream.assemble(gap, &packet) {
                self.waiting_bytes = self.waiting_bytes.saturating_add(frame.data.len());
                self.waiting.push_back(frame);
            }
        }
    }

    /// As a packet of its own, numbered so that what is missing shows.
    fn opened(&mut self, frame: &Sealed, data: &Bytes) -> ReceivedPacket {
        if core::mem::take(&mut self.gap) {
            self.seq = self.seq.wrapping_add(1);
        }
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        let payload = match frame.codec.kind() {
            Kind::Video => {
                // The start of the first partition. Source: RFC 7741 4.2.
                let mut payload = BytesMut::with_capacity(data.len().saturating_add(1));
                payload.put_u8(0x10);
                payload.put_slice(data);
                payload.freeze()
            }
            Kind::Audio => data.clone(),
        };
        ReceivedPacket {
            codec: frame.codec,
            seq,
            stamp: frame.heads.first().map_or(0, |head| head.stamp),
            marker: true,
            payload,
        }
    }
}

impl Stream {
    /// Packets of one frame: over eight megabytes of the usual size.
    const HEADS_MAX: usize = 8192;
    /// Sound is not sent again: it waits for packets out of order alone.
    const AUDIO_WAIT: usize = 4;

    fn new(codec: Codec) -> Self {
        let wait = match codec.kind() {
            Kind::Video => Reorder::WAIT_MAX,
            Kind::Audio => Self::AUDIO_WAIT,
        };
        Self {
            codec,
            reorder: Reorder::new(wait),
            assembler: FrameAssembler::new(codec),
            heads: Vec::new(),
            stamp: 0,
            lost: false,
        }
    }

    fn assemble(&mut self, gap: bool, packet: &ReceivedPacket) -> Option<Sealed> {
        let too_many = self.heads.len() >= Self::HEADS_MAX && self.stamp == packet.stamp;
        if gap || too_many {
            self.assembler.gap();
            self.lost = true;
        }
        if packet.payload.is_empty() || too_many {
            // Padding, for measuring bandwidth; or no frame.
            return None;
        }
        if self.stamp != packet.stamp {
            self.heads.clear();
            self.stamp = packet.stamp;
        }
        // Sound has one frame a packet and sets the marker after silence only.
        let marker = packet.marker || self.codec.kind() == Kind::Audio;
        self.heads.push(Head {
            seq: packet.seq,
            stamp: packet.stamp,
            bytes: u64::try_from(packet.payload.len()).unwrap_or(u64::MAX),
        });
        let whole = self.assembler.push(packet.stamp, marker, &packet.payload);
        let heads = if marker {
            core::mem::take(&mut self.heads)
        } else {
            Vec::new()
        };
        let Some(whole) = whole else {
            self.lost |= marker;
            return None;
        };
        Some(Sealed {
            codec: self.codec,
            heads,
            data: whole.data,
            gap: core::mem::take(&mut self.lost),
        })
    }
}

impl Sealed {
    /// Counts its packets; false where none came for the first time.
    fn count(&self, kind: Kind, opened: &[u8], meter: &mut ReceiveMeter) -> bool {
        let count = |fresh: bool, head: &Head| {
            meter.receive_opened(kind, head.seq, head.stamp, opened, head.bytes) || fresh
        };
        self.heads.iter().fold(false, count)
    }
}
