use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::packet::Kind;

fn ms(span: (u64, u64)) -> (u64, u64) {
    (span.0 * 1000, span.1 * 1000)
}

#[test]
fn each_moment_counts_once() {
    let mut meter = Meter::new(Reading {
        media_ms: 5,
        bytes: 7,
    });
    for (span, total) in [
        ((0, 40), 45),
        ((0, 40), 45),
        ((20, 60), 65),
        ((100, 140), 105),
        ((40, 120), 145),
        ((0, 140), 145),
    ] {
        assert_eq!(meter.reading_with(ms(span), 1).media_ms, total, "{span:?}");
        meter.add(ms(span), 1);
        assert_eq!(meter.reading().media_ms, total, "{span:?}");
    }
    assert_eq!(meter.reading().bytes, 13);
}

#[test]
fn parts_of_a_millisecond_are_not_lost() {
    let mut meter = Meter::new(Reading::default());
    (0..30).for_each(|frame| meter.add((frame * 100_000 / 3, (frame + 1) * 100_000 / 3), 0));
    assert_eq!(meter.reading().media_ms, 1000);
}

/// A receiver fed with frames of `count` packets each.
struct Feed {
    meter: ReceiveMeter,
    video_seq: u16,
    audio_seq: u16,
}

impl Feed {
    fn new() -> Self {
        Self {
            meter: ReceiveMeter::new(Reading::default()),
            video_seq: 65_530,
            audio_seq: 0,
        }
    }

    /// Frames of 40 ms from `from_ms` up to `to_ms`.
    fn video(&mut self, from_ms: u64, to_ms: u64) {
        for at in (from_ms..to_ms).step_by(40) {
            for _ in 0..3 {
                let stamp = u32::try_from((at * 90) & 0xffff_ffff).unwrap();
                self.meter
                    .receive(Kind::Video, self.video_seq, stamp, &[0; 10]);
                self.video_seq = self.video_seq.wrapping_add(1);
            }
        }
    }

    /// Opus packets of 20 ms.
    fn audio(&mut self, from_ms: u64, to_ms: u64) {
        for at in (from_ms..to_ms).step_by(20) {
            let stamp = u32::try_from((at * 48) & 0xffff_ffff).unwrap();
            self.meter
                .receive(Kind::Audio, self.audio_seq, stamp, &[0xfc, 0]);
            self.audio_seq = self.audio_seq.wrapping_add(1);
        }
    }

    fn read(&self) -> u64 {
        self.meter.reading().media_ms
    }
}

#[test]
fn receiver_counts_sound_under_a_picture_once() {
    let mut feed = Feed::new();
    feed.video(9000, 11_000);
    feed.audio(10_000, 11_000);
    assert_eq!(feed.read(), 2000);
    feed.audio(11_000, 12_000);
    assert_eq!(feed.read(), 3000);
    assert_eq!(
        feed.meter.packets(),
        PacketCount {
            video: 150,
            audio: 100
        }
    );
    assert_eq!(feed.meter.gaps(), PacketCount::default());
}

use crate::packet::PacketCount;

#[test]
fn receiver_does_not_count_a_pause_but_counts_loss() {
    let mut feed = Feed::new();
    feed.video(0, 1000);
    feed.audio(0, 1000);
    // A pause: the time stamps jump, the sequence numbers do not.
    feed.video(9000, 10_000);
    feed.audio(9000, 10_000);
    assert_eq!(feed.read(), 2000);
    // Ten frames are lost.
    feed.video_seq = feed.video_seq.wrapping_add(30);
    feed.video(10_400, 11_000);
    assert_eq!(feed.read(), 3000);
    assert_eq!(feed.meter.gaps().video, 30);
}

#[test]
fn receiver_counts_no_packet_twice_and_late_ones_once() {
    let mut meter = ReceiveMeter::new(Reading::default());
    assert!(meter.receive(Kind::Video, 10, 0, &[0; 5]));
    assert!(meter.receive(Kind::Video, 12, 7200, &[0; 5]));
    assert!(meter.receive(Kind::Video, 11, 3600, &[0; 5]));
    assert!(!meter.receive(Kind::Video, 11, 3600, &[0; 5]));
    assert_eq!(meter.reading().bytes, 15);
    assert_eq!(meter.gaps().video, 1);
}

#[test]
fn a_foreign_sender_with_offsets_of_its_own_reads_the_same() {
    let mut meter = ReceiveMeter::new(Reading::default());
    for frame in 0..50_u16 {
        let stamp = 4_294_000_000_u32.wrapping_add(u32::from(frame) * 3600);
        meter.receive(Kind::Video, frame, stamp, &[0]);
        for half in 0..2 {
            let at = frame * 2 + half;
            meter.receive(
                Kind::Audio,
                at,
                777_777_777 + u32::from(at) * 960,
                &[0xfc, 0],
            );
        }
    }
    let read = meter.reading().media_ms;
    assert!((2000..=2040).contains(&read), "{read}");
}

proptest! {
    #[test]
    fn union_is_exact_for_media_that_moves_forward(spans in proptest::collection::vec((0_u64..50, 1_u64..80), 1..60)) {
        let mut meter = Meter::new(Reading::default());
        let mut covered = std::collections::BTreeSet::new();
        let mut at = 0;
        for (step, length) in spans {
            at += step;
            let before = meter.reading();
            let promised = meter.reading_with(ms((at, at + length)), 3);
            meter.add(ms((at, at + length)), 3);
            covered.extend(at..at + length);
            prop_assert_eq!(meter.reading(), promised);
            prop_assert!(promised.media_ms >= before.media_ms);
            prop_assert_eq!(promised.media_ms, u64::try_from(covered.len()).unwrap());
        }
    }

    #[test]
    fn receiver_reads_what_the_sender_read(
        pieces in proptest::collection::vec((0_u64..9_000, 1_u64..40, any::<bool>()), 1..8)
    ) {
        let mut sender = Meter::new(Reading::default());
        let mut feed = Feed::new();
        let mut at = 10_000;
        for (pause, frames, with_video) in pieces {
            // A pause below two seconds is made good from the cache: no jump.
            at += if pause < 2_000 { 0 } else { pause / 40 * 40 };
            // Sound alone for long enough that it cannot be taken for slow frames.
            let end = at + (frames + if with_video { 0 } else { 15 }) * 40;
            let packet = |kind: Kind, at: u64, span: u32| MediaPacket {
                index: 0, kind, ticks: at * kind.ticks_per_ms(), span, marker: true,
                key_start: true, payload: Bytes::from_static(&[0; 10]),
            };
            if with_video {
                feed.video(at, end);
                (at..end).step_by(40).for_each(|at| sender.add(packet(Kind::Video, at, 3600).covers_us(), 0));
            }
            feed.audio(at, end);
            (at..end).step_by(20).for_each(|at| sender.add(packet(Kind::Audio, at, 960).covers_us(), 0));
            at = end;
        }
        prop_assert!(feed.read().abs_diff(sender.reading().media_ms) <= 40);
    }

    #[test]
    fn any_packets_leave_the_receiver_counting(
        packets in proptest::collection::vec((any::<bool>(), any::<u16>(), any::<u32>(), 0_usize..4), 0..200)
    ) {
        let mut meter = ReceiveMeter::new(Reading::default());
        let mut last = meter.reading();
        for (video, seq, stamp, length) in packets {
            let kind = if video { Kind::Video } else { Kind::Audio };
            meter.receive(kind, seq, stamp, &[0xff, 1, 2, 3][..length]);
            prop_assert!(meter.reading().media_ms >= last.media_ms);
            last = meter.reading();
        }
    }
}
