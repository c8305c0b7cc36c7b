//! Frames that must not open, for `vectors`.

use super::{
    OpenError,
    tests::{picture, sound},
    vectors::sealed,
};
use crate::packet::Codec;

/// Name, codec, what comes, epochs that are granted in this order, what was opened before, why
/// it does not open.
pub(super) type Bad = (
    &'static str,
    Codec,
    Vec<u8>,
    &'static [u64],
    Option<Vec<u8>>,
    OpenError,
);

fn changed(mut sealed: Vec<u8>, at: usize, xor: u8) -> Vec<u8> {
    sealed[at] ^= xor;
    sealed
}

pub(super) fn all() -> Vec<Bad> {
    use Codec::{H264, Opus, Vp8, Vp9};
    let key_frame = || sealed(Vp8, 5, 4, &picture(true, 12));
    let voice = |epoch, counter| sealed(Opus, epoch, counter, &sound(12));
    let last = |sealed: &[u8]| sealed.len() - 1;
    let put = |sealed: &[u8], header: &[u8]| [&sealed[..1], header, &sealed[2..]].concat();
    let (key, sounds) = (key_frame(), voice(5, 3));
    vec![
        ("no bytes", Vp8, vec![], &[5], None, OpenError::Malformed),
        ("no sound", Opus, vec![], &[5], None, OpenError::Malformed),
        (
            "half of a clear part",
            Vp8,
            key[..9].to_vec(),
            &[5],
            None,
            OpenError::Malformed,
        ),
        (
            "a clear part alone",
            Vp8,
            key[..10].to_vec(),
            &[5],
            None,
            OpenError::Malformed,
        ),
        (
            "no counter",
            Opus,
            vec![0xfc, 0x58],
            &[5],
            None,
            OpenError::Malformed,
        ),
        (
            "no epoch",
            Opus,
            vec![0xfc, 0xd3, 1, 2],
            &[5],
            None,
            OpenError::Malformed,
        ),
        (
            "a header alone",
            Opus,
            sounds[..2].to_vec(),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "a tag cut short",
            Opus,
            sounds[..17].to_vec(),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "an epoch in more bytes than it needs",
            Opus,
            put(&sounds, &[0x83, 5]),
            &[5],
            None,
            OpenError::NotShortest,
        ),
        (
            "a counter in more bytes than it needs",
            Opus,
            put(&sounds, &[0x58, 3]),
            &[5],
            None,
            OpenError::NotShortest,
        ),
        (
            "a counter with a leading zero",
            Opus,
            put(&sounds, &[0x59, 0, 9]),
            &[5],
            None,
            OpenError::NotShortest,
        ),
        (
            "counter 1024",
            Opus,
            voice(5, 1024),
            &[5],
            None,
            OpenError::Counter,
        ),
        (
            "the last counter of SFrame",
            Opus,
            voice(5, u64::MAX),
            &[5],
            None,
            OpenError::Counter,
        ),
        (
            "no key at all",
            Vp8,
            key.clone(),
            &[],
            None,
            OpenError::NoKey(5),
        ),
        (
            "the key of the epoch before",
            Vp8,
            key.clone(),
            &[4],
            None,
            OpenError::NoKey(5),
        ),
        (
            "the key of the next epoch",
            Vp8,
            key.clone(),
            &[6],
            None,
            OpenError::NoKey(5),
        ),
        (
            "a key that was not granted when it was due",
            Vp8,
            key.clone(),
            &[4, 26],
            None,
            OpenError::TooLate(5),
        ),
        (
            "another clear part",
            Vp8,
            changed(key.clone(), 6, 1),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "another epoch",
            Opus,
            changed(sounds.clone(), 1, 0x30),
            &[5, 6],
            None,
            OpenError::Forged,
        ),
        (
            "another counter",
            Opus,
            changed(sounds.clone(), 1, 1),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "another ciphertext",
            Vp8,
            changed(key.clone(), 12, 0x80),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "another tag",
            Vp8,
            changed(key.clone(), last(&key), 1),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "a byte too many",
            Opus,
            [&sounds[..], &[0]].concat(),
            &[5],
            None,
            OpenError::Forged,
        ),
        (
            "a frame that is not sealed",
            Vp8,
            picture(true, 40).to_vec(),
            &[0],
            None,
            OpenError::Forged,
        ),
        (
            "the same again",
            Opus,
            sounds.clone(),
            &[5],
            Some(sounds.clone()),
            OpenError::Repeated,
        ),
        (
            "sealed VP9",
            Vp9,
            key.clone(),
            &[5],
            None,
            OpenError::Codec(Vp9),
        ),
        (
            "sealed H.264",
            H264,
            key,
            &[5],
            None,
            OpenError::Codec(H264),
        ),
    ]
}
