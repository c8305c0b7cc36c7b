use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{tests_flow::packets, *};
use crate::{
    packet::{Codec, Kind},
    source::{Description, Source, SourceError, Video},
};

pub(super) const BOTH: Description = Description {
    video: Some(Video {
        codec: Codec::Vp8,
        size: None,
        frames_per_1000_s: None,
    }),
    audio: Some(Codec::Opus),
    duration_ms: None,
};

pub(super) fn secret() -> StreamSecret {
    StreamSecret::for_testing([3; 32])
}

/// A VP8 key frame of 64 by 48 pixels, or one that is none.
pub(super) fn picture(key: bool, length: usize) -> Bytes {
    let head: &[u8] = if key {
        &[0x10, 2, 0, 0x9d, 0x01, 0x2a, 64, 0, 48, 0]
    } else {
        &[0x11, 2, 0]
    };
    let body = (0..length).map(|at| u8::try_from(at % 251).unwrap());
    head.iter().copied().chain(body).collect()
}

/// Opus of 20 ms.
pub(super) fn sound(length: usize) -> Bytes {
    [&[0xfc][..], &vec![0x5a; length]].concat().into()
}

fn opener(epochs: impl IntoIterator<Item = u64>) -> Opener {
    let mut opener = Opener::new();
    for epoch in epochs {
        opener.grant(&secret().grant(epoch)).unwrap();
    }
    opener
}

#[test]
fn a_sealed_frame_shows_what_a_carrier_needs_and_opens_once() {
    let mut sealer = FrameSealer::new(Arc::new(secret()));
    for (codec, frame, clear) in [
        (Codec::Vp8, picture(true, 5000), 10),
        (Codec::Vp8, picture(false, 0), 3),
        (Codec::Opus, sound(80), 1),
        (Codec::Opus, sound(0), 1),
    ] {
        let sealed = sealer.seal(codec, 7 * EPOCH_MS * 1000, &frame).unwrap();
        assert_eq!(sealed[..clear], frame[..clear]);
        assert!(sealed.len() <= frame.len() + 1 + 1 + 16, "{}", sealed.len());
        let mut opener = opener([7]);
        assert_eq!(opener.open(codec, &sealed), Ok(frame));
        assert_eq!(opener.open(codec, &sealed), Err(OpenError::Repeated));
    }
}

#[test]
fn no_bit_of_a_sealed_frame_can_be_changed() {
    for (codec, frame) in [(Codec::Vp8, picture(true, 40)), (Codec::Opus, sound(20))] {
        let mut sealer = FrameSealer::new(Arc::new(secret()));
        let sealed = sealer.seal(codec, 0, &frame).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut opener = opener([0]);
            assert!(opener.open(codec, &changed).is_err(), "{codec} bit {bit}");
            // It is not remembered as opened.
            assert_eq!(opener.open(codec, &sealed).as_ref(), Ok(&frame));
        }
        for length in 0..sealed.len() {
            assert!(opener([0]).open(codec, &sealed[..length]).is_err());
        }
    }
}

#[test]
fn the_key_of_an_epoch_opens_that_epoch_alone() {
    let mut sealer = FrameSealer::new(Arc::new(secret()));
    let sealed: Vec<Bytes> = (0..40)
        .map(|epoch| {
            let us = epoch * EPOCH_MS * 1000;
            sealer.seal(Codec::Opus, us, &sound(9)).unwrap()
        })
        .collect();
    let mut opener = opener([5]);
    for (epoch, frame) in (0..).zip(&sealed) {
        let opened = opener.open(Codec::Opus, frame);
        assert_eq!(opened.is_ok(), epoch == 5, "{epoch}");
    }
    // Long after it, an older key that never came is not waited for.
    opener.grant(&secret().grant(39)).unwrap();
    let late = opener.open(Codec::Opus, &sealed[4]);
    assert_eq!(late, Err(OpenError::TooLate(4)));
    let awaited = opener.open(Codec::Opus, &sealed[30]);
    assert_eq!(awaited, Err(OpenError::NoKey(30)));
}

#[test]
fn counters_never_repeat_under_a_key() {
    let mut sealer = FrameSealer::new(Arc::new(secret()));
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..200 {
        let us = at * 3_000;
        for (codec, frame) in [(Codec::Vp8, picture(false, 3)), (Codec::Opus, sound(3))] {
            let sealed = sealer.seal(codec, us, &frame).unwrap();
            let (_, rest) = frame::split(codec, &sealed).unwrap();
            let header = sframe::header::SframeHeader::deserialize(rest).unwrap();
            assert!(seen.insert((header.key_id(), header.counter())));
            assert_eq!(header.key_id(), epoch_of_us(us));
        }
    }
    // A frame that is too late is refused, not sealed with a counter that was used.
    let late = sealer.seal(Codec::Vp8, 0, &picture(false, 3));
    assert_eq!(late, Err(SealError::Late));
    let now = 200 * 3_000;
    let many = (0..600).map(|_| sealer.seal(Codec::Vp8, now, &picture(false, 3)));
    assert!(many.collect::<Vec<_>>().contains(&Err(SealError::TooMany)));
}

#[test]
fn what_cannot_be_sealed_is_refused() {
    for codec in [Codec::Vp9, Codec::H264, Codec::Av1] {
        assert_eq!(sealable(codec), Err(Unsealable(codec)));
        let mut description = BOTH;
        description.video.as_mut().unwrap().codec = codec;
        let refused = Source::sealed(Some(description));
        assert!(matches!(refused, Err(SourceError::Unsealable(it)) if it == codec));
    }
    let mut sealer = FrameSealer::new(Arc::new(secret()));
    for (codec, frame) in [
        (Codec::Vp8, &[][..]),
        (Codec::Vp8, &[0x10, 0, 0]),
        (Codec::Vp8, &[0x11, 0]),
        (Codec::Opus, &[]),
    ] {
        assert_eq!(sealer.seal(codec, 0, frame), Err(SealError::Short));
    }
    // Described later as something else: nothing of it leaves in the clear.
    let (mut writer, source) = Source::sealed(None).unwrap();
    let mut description = BOTH;
    description.video.as_mut().unwrap().codec = Codec::H264;
    writer.describe(description);
    writer.write(
        Kind::Video,
        0,
        3600,
        true,
        &Bytes::from_static(&[0, 0, 1, 0x65, 1]),
    );
    assert!(packets(&source, 0).is_empty());
    assert!(EpochGrant::from_bytes(&[0; 23]).is_err());
    assert!(EpochGrant::from_bytes(&[0; 25]).is_err());
}

#[test]
fn nothing_prints_a_key() {
    let grant = secret().grant(1);
    let shown = format!("{grant:?} {:?} {:?}", secret(), opener([1]));
    let key: Vec<String> = grant.key.0.iter().map(ToString::to_string).collect();
    assert!(!shown.contains(&key.join(", ")), "{shown}");
    assert!(shown.contains("redacted"));
}

proptest! {
    #[test]
    fn any_bytes_are_opened_or_refused(
        frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..20),
        grants in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 20..28), 0..8),
    ) {
        let mut opener = opener([0, 1]);
        for grant in grants {
            if let Ok(grant) = EpochGrant::from_bytes(&grant) {
                opener.grant(&grant).unwrap();
                prop_assert_eq!(opener.newest(), Some(grant.epoch));
            }
        }
        for (video, frame) in frames {
            let codec = if video { Codec::Vp8 } else { Codec::Opus };
            prop_assert!(opener.open(codec, &frame).is_err());
        }
    }
}
