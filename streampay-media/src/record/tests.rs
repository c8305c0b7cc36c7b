use super::*;
use crate::codec::Packetizer;

/// A VP8 frame of 64 x 64.
fn vp8(key: bool, length: usize) -> Bytes {
    let mut frame = if key {
        vec![0x10, 0, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0]
    } else {
        vec![0x11, 0, 0]
    };
    frame.resize(length.max(frame.len()), 0);
    frame.into()
}

struct Feed<'a> {
    recorder: Recorder<&'a mut Vec<u8>>,
    packets: Vec<ReceivedPacket>,
    seq: u16,
}

impl<'a> Feed<'a> {
    fn new(file: &'a mut Vec<u8>) -> Self {
        let recorder = Recorder::new(file, &[Codec::Vp8, Codec::Opus]).unwrap();
        Self {
            recorder,
            packets: Vec::new(),
            seq: 65_500,
        }
    }

    fn video(&mut self, ms: u32, frame: &Bytes) {
        let payloads = Packetizer::new(Codec::Vp8).payloads(frame, true);
        let last = payloads.len() - 1;
        for (at, payload) in payloads.into_iter().enumerate() {
            self.packets.push(ReceivedPacket {
                codec: Codec::Vp8,
                seq: self.seq,
                stamp: ms * 90,
                marker: at == last,
                payload,
            });
            self.seq = self.seq.wrapping_add(1);
        }
    }

    fn finish(mut self) -> Recorded {
        for packet in &self.packets {
            self.recorder.push(packet).unwrap();
        }
        self.recorder.finish().unwrap()
    }
}

#[test]
fn begins_with_a_key_frame_and_puts_packets_back_in_order() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..60 {
        feed.video(at * 40, &vp8(at % 25 == 5, 3000));
    }
    for pair in feed.packets.chunks_mut(5) {
        pair.reverse();
    }
    // What the first five have lost by coming before the first one known is not whole.
    let recorded = feed.finish();
    assert_eq!(recorded.video_frames, 55);
    assert_eq!(recorded.duration_ms, 54 * 40);
    assert_eq!(recorded.bytes, u64::try_from(file.len()).unwrap());
}

#[test]
fn a_lost_packet_costs_its_frame_alone() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..100 {
        feed.video(at * 40, &vp8(at == 0, 3000));
    }
    feed.packets.remove(100);
    assert_eq!(feed.finish().video_frames, 99);
}

#[test]
fn sound_before_the_first_picture_is_kept_where_it_belongs() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..10_u16 {
        feed.packets.push(ReceivedPacket {
            codec: Codec::Opus,
            seq: at,
            stamp: u32::from(at) * 960,
            marker: false,
            payload: Bytes::from_static(&[0xfc, 0]),
        });
    }
    feed.video(100, &vp8(true, 10));
    let recorded = feed.finish();
    assert_eq!((recorded.video_frames, recorded.audio_frames), (1, 5));
}

#[test]
fn without_a_key_frame_nothing_is_written() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    feed.video(0, &vp8(false, 100));
    assert_eq!(feed.finish(), Recorded::default());
    assert!(file.is_empty());
    assert!(matches!(
        Recorder::new(Vec::new(), &[]),
        Err(RecordError::NothingToRecord)
    ));
}

#[test]
fn any_packets_are_survived() {
    let mut state = 3_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    for codec in Codec::ALL {
        let mut recorder = Recorder::new(Vec::new(), &[codec, Codec::Opus]).unwrap();
        for _ in 0..5000 {
            let length = usize::from(byte() % 16);
            let payload: Bytes = (0..length).map(|_| byte()).collect();
            let packet = ReceivedPacket {
                codec: if byte() & 1 == 0 { codec } else { Codec::Opus },
                seq: u16::from_be_bytes([byte(), byte()]),
                stamp: u32::from_be_bytes([byte(), byte(), byte(), byte()]),
                marker: byte() & 1 == 0,
                payload,
            };
            recorder.push(&packet).unwrap();
        }
        recorder.finish().unwrap();
    }
}
