//! Vectors for other implementations, in `spec/vectors/media`.
//! `STREAMPAY_WRITE_VECTORS=1 cargo test -p streampay-media --features e2ee vectors` writes them;
//! without, the test fails where they have grown old.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use sframe::key::EncryptionKey;

use super::{
    EPOCH_MS, EpochGrant, FrameSealer, Opener, StreamSecret, bad_frames,
    frame::{SUITE, codec_number, metadata, seal, split},
    tests::{picture, secret, sound},
};
use crate::packet::Codec;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(secret: &StreamSecret, epoch: u64) -> EncryptionKey {
    EncryptionKey::derive_from(SUITE, epoch, secret.key(epoch).0).unwrap()
}

const EPOCHS: [u64; 8] = [0, 1, 7, 8, 255, 256, 0x0123_4567, u64::MAX];

/// Keys of epochs, and grants of them.
fn grants_file() -> Value {
    let valid = EPOCHS.map(|epoch| {
        let grant = secret().grant(epoch);
        let bytes = grant.to_media_grant().0;
        assert_eq!(EpochGrant::from_bytes(&bytes).as_ref(), Ok(&grant));
        json!({
            "name": format!("epoch {epoch}"),
            "stream_secret": "03".repeat(32),
            "epoch": epoch.to_string(),
            "key": hex(&grant.key.0),
            "grant": hex(&bytes),
        })
    });
    let good = secret().grant(1).to_media_grant().0;
    let long = [&good[..], &[0]].concat();
    let invalid = [
        ("no bytes", &good[..0]),
        ("an epoch alone", &good[..8]),
        ("a byte too few", &good[..23]),
        ("a byte too many", &long[..]),
        ("as long as a grant may be", &[0x47; 64]),
    ];
    let invalid = invalid.map(|(name, bytes)| {
        assert!(EpochGrant::from_bytes(bytes).is_err());
        json!({"name": name, "grant": hex(bytes)})
    });
    let times = [0, 49, 50, 99, 100, 3_600_000].map(|ms| {
        let epoch = super::epoch_of_us(ms * 1000);
        json!({"ms": ms.to_string(), "epoch": epoch.to_string()})
    });
    json!({
        "format": "1",
        "epoch_ms": EPOCH_MS.to_string(),
        "times": times,
        "valid": valid,
        "invalid": invalid,
    })
}

/// A frame sealed by hand.
pub(super) fn sealed(codec: Codec, epoch: u64, counter: u64, frame: &[u8]) -> Vec<u8> {
    seal(&key(&secret(), epoch), counter, codec, frame)
        .unwrap()
        .to_vec()
}

fn name_of(codec: Codec) -> String {
    codec.mime().to_owned()
}

fn valid_frames() -> Vec<Value> {
    let cases = [
        ("a key frame", Codec::Vp8, 0, 0, picture(true, 30)),
        ("a frame that is none", Codec::Vp8, 7, 2, picture(false, 30)),
        (
            "a picture of its clear part",
            Codec::Vp8,
            8,
            8,
            picture(false, 0),
        ),
        ("sound", Codec::Opus, 255, 1, sound(20)),
        ("sound of its clear part", Codec::Opus, 256, 7, sound(0)),
        (
            "the last counter",
            Codec::Opus,
            0x0123_4567,
            1023,
            sound(20),
        ),
        (
            "the last epoch",
            Codec::Vp8,
            u64::MAX,
            256,
            picture(true, 1),
        ),
    ];
    let case = |(name, codec, epoch, counter, frame): (&str, Codec, u64, u64, bytes::Bytes)| {
        let sealed = sealed(codec, epoch, counter, &frame);
        let mut opener = Opener::new();
        opener.grant(&secret().grant(epoch)).unwrap();
        assert_eq!(opener.open(codec, &sealed).as_ref(), Ok(&frame), "{name}");
        let (clear, _) = split(codec, &frame).unwrap();
        json!({
            "name": name,
            "codec": name_of(codec),
            "codec_number": codec_number(codec).unwrap().to_string(),
            "epoch": epoch.to_string(),
            "counter": counter.to_string(),
            "base_key": hex(&secret().key(epoch).0),
            "metadata": hex(&metadata(codec, clear).unwrap()),
            "frame": hex(&frame),
            "sealed": hex(&sealed),
        })
    };
    cases.into_iter().map(case).collect()
}

fn frames_file() -> Value {
    let bad = |(name, codec, bytes, epochs, before, why): bad_frames::Bad| {
        let mut opener = Opener::new();
        for epoch in epochs {
            opener.grant(&secret().grant(*epoch)).unwrap();
        }
        if let Some(before) = &before {
            opener.open(codec, before).unwrap();
        }
        assert_eq!(opener.open(codec, &bytes), Err(why), "{name}");
        let grants: Vec<String> = epochs
            .iter()
            .map(|epoch| hex(&secret().grant(*epoch).to_media_grant().0))
            .collect();
        let error = format!("{why:?}");
        json!({
            "name": name,
            "codec": name_of(codec),
            "grants": grants,
            "opened_before": before.map(|bytes| hex(&bytes)),
            "sealed": hex(&bytes),
            "error": error.split('(').next(),
        })
    };
    let invalid: Vec<Value> = bad_frames::all().into_iter().map(bad).collect();
    json!({"format": "1", "valid": valid_frames(), "invalid": invalid})
}

/// What a source seals: the counters that it takes.
fn stream_file() -> Value {
    let mut sealer = FrameSealer::new(Arc::new(secret()));
    let frames = [
        (Codec::Vp8, 0, picture(true, 8)),
        (Codec::Opus, 0, sound(4)),
        (Codec::Opus, 20, sound(4)),
        (Codec::Vp8, 40, picture(false, 8)),
        (Codec::Opus, 40, sound(4)),
        (Codec::Vp8, 80, picture(false, 8)),
        (Codec::Opus, 60, sound(4)),
        (Codec::Opus, 450, sound(4)),
    ];
    let frames = frames.map(|(codec, ms, frame)| {
        let sealed = sealer.seal(codec, ms * 1000, &frame).unwrap();
        json!({
            "codec": name_of(codec),
            "ms": ms.to_string(),
            "frame": hex(&frame),
            "sealed": hex(&sealed),
        })
    });
    json!({"format": "1", "stream_secret": "03".repeat(32), "frames": frames})
}

#[test]
fn vectors_are_what_this_code_writes() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/media");
    for (name, value) in [
        ("grants.json", grants_file()),
        ("frames.json", frames_file()),
        ("stream.json", stream_file()),
    ] {
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        if std::env::var_os("STREAMPAY_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{name} has grown old");
    }
}
