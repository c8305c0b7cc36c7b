use super::*;
use crate::source::{Source, Video};
use std::sync::Arc;
use std::time::Duration;

fn described(video: Option<Codec>, audio: Option<Codec>) -> Description {
    Description {
        video: video.map(|codec| Video {
            codec,
            size: None,
            frames_per_1000_s: None,
        }),
        audio,
        duration_ms: None,
    }
}

struct Rig {
    ingest: Ingest,
    source: Arc<Source>,
    at: Instant,
    place: u64,
}

impl Rig {
    fn new(video: Option<Codec>) -> Self {
        let (writer, source) = Source::awaited();
        let mut ingest = Ingest::new(writer);
        let at = ingest.began;
        ingest.begin(described(video, Some(Codec::Opus)));
        Self {
            ingest,
            source,
            at,
            place: 0,
        }
    }

    fn push(&mut self, codec: Codec, seq: u16, stamp: u32, payload: &[u8]) -> bool {
        let packet = ReceivedPacket {
            codec,
            seq,
            stamp,
            marker: true,
            payload: Bytes::copy_from_slice(payload),
        };
        self.ingest.push(packet, self.at)
    }

    fn vp8(&mut self, seq: u16, stamp: u32, key: bool) -> bool {
        self.push(Codec::Vp8, seq, stamp, &[0x10, u8::from(!key), 0, 0])
    }

    fn passes(&mut self, ms: u64) {
        self.at += Duration::from_millis(ms);
    }

    /// Kind, milliseconds and whether it is a key frame, of what came out since.
    fn out(&mut self) -> Vec<(Kind, u64, bool)> {
        let Some(packets) = self.source.ring().pulled(self.place, 1000) else {
            panic!("the ring holds all of it");
        };
        self.place += u64::try_from(packets.len()).unwrap();
        let what = |packet: &Arc<crate::packet::MediaPacket>| {
            let ms = packet.ticks / packet.kind.ticks_per_ms();
            (packet.kind, ms, packet.key_start)
        };
        packets.iter().map(what).collect()
    }
}

#[tokio::test]
async fn both_kinds_lie_on_one_line_and_follow_their_stamps() {
    let mut rig = Rig::new(Some(Codec::Vp8));
    rig.passes(1000);
    // Stamps begin anywhere and wrap.
    rig.vp8(7, u32::MAX - 1799, true);
    rig.passes(10);
    rig.push(Codec::Opus, 1, 77, &[0x78]);
    rig.passes(50);
    rig.vp8(8, 1800, false);
    rig.push(Codec::Opus, 2, 77 + 960, &[0x78]);
    assert_eq!(
        rig.out(),
        [
            (Kind::Video, 1000, true),
            (Kind::Audio, 1010, true),
            (Kind::Video, 1040, false),
            (Kind::Audio, 1030, true),
        ]
    );
}

#[tokio::test]
async fn after_a_loss_nothing_is_shown_before_the_next_key_frame() {
    let mut rig = Rig::new(Some(Codec::Vp8));
    assert!(!rig.vp8(1, 0, false));
    assert_eq!(rig.out(), [], "no viewer could begin there");
    rig.vp8(2, 3000, true);
    rig.vp8(3, 6000, false);
    assert_eq!(rig.out().len(), 2);
    // 4 is lost; what is behind it waits, then goes without it.
    let mut asked = false;
    for at in 0..=u16::try_from(Reorder::WAIT_MAX).unwrap() {
        asked |= rig.vp8(5 + at, 9000 + 3000 * u32::from(at), false);
    }
    assert!(asked);
    assert_eq!(rig.out(), []);
    rig.vp8(70, 300_000, true);
    assert_eq!(rig.out().len(), 1);
}

#[tokio::test]
async fn packets_out_of_order_are_put_in_order() {
    let mut rig = Rig::new(Some(Codec::Vp8));
    rig.vp8(1, 0, true);
    rig.vp8(3, 6000, false);
    assert_eq!(rig.out().len(), 1);
    assert!(!rig.vp8(2, 3000, false));
    assert_eq!(
        rig.out(),
        [(Kind::Video, 33, false), (Kind::Video, 66, false)]
    );
}

#[tokio::test]
async fn time_goes_on_over_a_change_of_publishers_and_never_back() {
    let mut rig = Rig::new(Some(Codec::Vp8));
    rig.vp8(1, 1_000_000, true);
    assert_eq!(rig.out(), [(Kind::Video, 0, true)]);
    rig.passes(5000);
    rig.ingest.begin(described(Some(Codec::Vp8), None));
    rig.vp8(900, 5, true);
    // A clock that runs away is set anew.
    rig.passes(40);
    rig.vp8(901, 5 + 90_000 * 60, false);
    // One that goes back does not take the line with it.
    rig.vp8(902, 5 + 90_000 * 60 - 900, false);
    let times: Vec<u64> = rig.out().iter().map(|(_, ms, _)| *ms).collect();
    assert_eq!(times, [5000, 5040, 5040]);
}

#[tokio::test]
async fn a_frame_lasts_as_long_as_the_shorter_of_those_before_it() {
    let mut line = Line::new(Kind::Video);
    let mut spans = Vec::new();
    let mut now_ms = 1000;
    for (step_ms, stamp) in [
        (0, 0),
        (40, 3600),
        (40, 7200),
        (80, 14_400),
        (3000, 284_400),
    ] {
        now_ms += step_ms;
        spans.push(line.place(stamp, now_ms * 1000, &[]).1);
    }
    assert_eq!(spans, [3000, 3000, 3600, 3600, 3600]);
}

#[tokio::test]
async fn every_h264_key_frame_carries_its_parameter_sets() {
    let mut rig = Rig::new(Some(Codec::H264));
    let (sps, pps, idr) = ([0x67, 1, 2, 3], [0x68, 4], [0x65, 5, 6]);
    // STAP-A of all three, then a key frame alone.
    let mut stap = vec![24];
    for unit in [&sps[..], &pps, &idr] {
        stap.extend([0, u8::try_from(unit.len()).unwrap()]);
        stap.extend(unit);
    }
    rig.push(Codec::H264, 1, 0, &stap);
    rig.push(Codec::H264, 2, 90_000, &idr);
    let Some(packets) = rig.source.ring().pulled(0, 100) else {
        panic!("the ring holds all of it");
    };
    let payloads: Vec<&[u8]> = packets.iter().map(|packet| &packet.payload[..]).collect();
    let whole = [&sps[..], &pps, &idr];
    assert_eq!(payloads, [whole, whole].concat());
}

proptest::proptest! {
    #[test]
    fn any_packets_give_ascending_time(
        packets in proptest::collection::vec(
            (proptest::prelude::any::<(u16, u32, bool, bool)>(), 0_u64..500,
             proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20)), 1..80)
    ) {
        let mut rig = Rig::new(Some(Codec::Vp8));
        let mut last = [None, None];
        for ((seq, stamp, audio, near), ms, payload) in packets {
            rig.passes(ms);
            let codec = if audio { Codec::Opus } else { Codec::Vp8 };
            rig.push(codec, if near { seq % 100 } else { seq }, stamp, &payload);
            for (kind, ms, _) in rig.out() {
                let last = &mut last[usize::from(kind == Kind::Audio)];
                proptest::prop_assert!(last.is_none_or(|last| ms >= last));
                *last = Some(ms);
            }
        }
    }
}
