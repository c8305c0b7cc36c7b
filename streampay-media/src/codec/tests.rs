use bytes::Bytes;

use super::*;

fn round_trip(codec: Codec, frame: Vec<u8>) -> Option<Vec<u8>> {
    let frame = Bytes::from(frame);
    let payloads = Packetizer::new(codec).payloads(&frame, true);
    assert!(
        payloads
            .iter()
            .all(|payload| payload.len() <= Packetizer::PAYLOAD_MAX)
    );
    let mut assembler = FrameAssembler::new(codec);
    let count = payloads.len();
    payloads
        .into_iter()
        .enumerate()
        .find_map(|(at, payload)| assembler.push(9, at + 1 == count, &payload))
        .map(|whole| whole.data.to_vec())
}

fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    units
        .iter()
        .flat_map(|unit| [&[0, 0, 0, 1], *unit].concat())
        .collect()
}

#[test]
fn frames_survive_packets_whatever_their_length() {
    for length in [1, 2, 3, 1179, 1180, 1181, 2361, 50_000] {
        let frame: Vec<u8> = (1..=200).cycle().take(length).collect();
        for codec in [Codec::Vp8, Codec::Vp9] {
            assert_eq!(
                round_trip(codec, frame.clone()),
                Some(frame.clone()),
                "{codec} {length}"
            );
        }
        let unit: Vec<u8> = core::iter::once(0x65).chain(frame).collect();
        let stream = annex_b(&[&[0x67, 1], &[0x68, 2], &unit]);
        assert_eq!(
            round_trip(Codec::H264, stream.clone()),
            Some(stream),
            "H.264 {length}"
        );
    }
}

#[test]
fn a_frame_with_a_lost_packet_is_dropped_and_the_next_one_is_whole() {
    let frame = Bytes::from(vec![7; 4000]);
    let payloads = Packetizer::new(Codec::Vp8).payloads(&frame, true);
    let mut assembler = FrameAssembler::new(Codec::Vp8);
    assert_eq!(assembler.push(1, false, &payloads[0]), None);
    assembler.gap();
    assert_eq!(assembler.push(1, false, &payloads[2]), None);
    assert_eq!(assembler.push(1, true, &payloads[3]), None);
    // The first packet of the next frame is lost too.
    assembler.gap();
    assert_eq!(assembler.push(2, true, &payloads[1]), None);
    for (at, payload) in payloads.iter().enumerate() {
        let whole = assembler.push(3, at == 3, payload);
        assert_eq!(whole.is_some(), at == 3);
    }
}

#[test]
fn any_payload_gives_a_frame_or_nothing() {
    let mut state = 1_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    for codec in Codec::ALL {
        let mut assembler = FrameAssembler::new(codec);
        for round in 0..20_000_u32 {
            let length = usize::from(byte() % 12);
            let payload: Vec<u8> = (0..length).map(|_| byte()).collect();
            if let Some(frame) = assembler.push(round / 3, byte() & 1 == 1, &payload) {
                is_key_frame(codec, &frame.data);
                frame_size(codec, &frame.data);
            }
            opus_ticks(&payload);
            Sps::parse(&payload);
        }
    }
}

#[test]
fn vp8_and_vp9_key_frames_tell_their_size() {
    let vp8 = [0x10, 0, 0, 0x9d, 1, 0x2a, 0xe0, 0x01, 0x0e, 0x01];
    assert_eq!(
        frame_size(Codec::Vp8, &vp8),
        Some(Size {
            width: 480,
            height: 270
        })
    );
    assert!(is_key_frame(Codec::Vp8, &vp8) && !is_key_frame(Codec::Vp8, &[0x11]));
    // Profile 0, key, shown; colour space 1; 64 x 64.
    let vp9 = [0x82, 0x49, 0x83, 0x42, 0x20, 0x03, 0xf0, 0x03, 0xf0, 0];
    assert!(is_key_frame(Codec::Vp9, &vp9));
    assert_eq!(
        frame_size(Codec::Vp9, &vp9),
        Some(Size {
            width: 64,
            height: 64
        })
    );
}

#[test]
fn sps_tells_size_and_frame_rate() {
    // Of `ffmpeg -f lavfi -i testsrc=s=320x180:r=30 -pix_fmt yuv420p -c:v libx264 -profile:v
    // baseline out.h264`.
    let sps = [
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
        0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0xa4, 0x80,
    ];
    let sps = Sps::parse(&sps).unwrap();
    assert_eq!(
        sps.size,
        Size {
            width: 320,
            height: 180
        }
    );
    assert_eq!(sps.frame_rate, Some((60, 2)));
}

#[test]
fn opus_durations_follow_the_toc() {
    for (packet, ticks) in [
        (&[0xfc_u8, 0][..], Some(960)),
        (&[0x78, 0], Some(960)),
        (&[0x18, 0], Some(2880)),
        (&[0xe0, 0], Some(120)),
        (&[0xfd, 0], Some(1920)),
        (&[0xff, 3], Some(2880)),
        (&[0xff, 63], None),
        (&[0xff], None),
        (&[], None),
    ] {
        assert_eq!(opus_ticks(packet), ticks, "{packet:x?}");
    }
}
