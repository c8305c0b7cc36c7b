//! Vectors of both meters, in `spec/vectors/media/meters.json`: see the vectors of `seal`.
//! `STREAMPAY_WRITE_VECTORS=1 cargo test -p streampay-media vectors` writes them.

use std::path::PathBuf;

use serde_json::{Value, json};
use streampay_core::meter::Reading;

use super::{Meter, ReceiveMeter};
use crate::packet::Kind;

const BASE: Reading = Reading {
    media_ms: 1_000,
    bytes: 50,
};

fn shown(reading: Reading) -> Value {
    json!({"media_ms": reading.media_ms.to_string(), "bytes": reading.bytes.to_string()})
}

/// A frame that the payee delivers: kind, when in milliseconds, how long, bytes of one packet.
type Sent = (Kind, u64, u32, u64);

fn payee(name: &str, base: Reading, sent: &[Sent]) -> Value {
    let mut meter = Meter::new(base);
    let packets: Vec<Value> = sent
        .iter()
        .map(|&(kind, ms, span_ms, bytes)| {
            let ticks = ms * kind.ticks_per_ms();
            let span = u64::from(span_ms) * kind.ticks_per_ms();
            meter.add((kind.us(ticks), kind.us(ticks + span)), bytes);
            json!({
                "kind": kind.to_string(),
                "ticks": ticks.to_string(),
                "span": span.to_string(),
                "bytes": bytes.to_string(),
                "reading": shown(meter.reading()),
            })
        })
        .collect();
    json!({"name": name, "side": "payee", "base": shown(base), "packets": packets})
}

fn payee_cases() -> Vec<Value> {
    use Kind::{Audio, Video};
    let picture = |ms| (Video, ms, 40, 900);
    let sound = |ms| (Audio, ms, 20, 80);
    vec![
        payee(
            "pictures",
            Reading::default(),
            &[0, 40, 80, 80].map(picture),
        ),
        payee(
            "on top of an earlier reading",
            BASE,
            &[0, 40, 80].map(picture),
        ),
        payee(
            "sound under a picture",
            Reading::default(),
            &[picture(0), sound(0), sound(20), sound(40), picture(40)],
        ),
        payee(
            "a cache again",
            Reading::default(),
            &[0, 40, 80, 0, 40, 80, 120].map(picture),
        ),
        payee(
            "a wait for a key frame, without sound and with",
            Reading::default(),
            &[picture(0), picture(1_000), sound(2_000), picture(3_000)],
        ),
        payee(
            "frames of 33 ms, not whole",
            Reading::default(),
            &[(Video, 0, 33, 1), (Video, 33, 34, 1), (Video, 66, 33, 1)],
        ),
    ]
}

/// A packet that the payer receives: kind, number, stamp in ticks, payload.
type Came = (Kind, u16, u32, Vec<u8>);

fn payer(name: &str, base: Reading, came: &[Came]) -> Value {
    let mut meter = ReceiveMeter::new(base);
    let packets: Vec<Value> = came
        .iter()
        .map(|(kind, seq, stamp, payload)| {
            let counted = meter.receive(*kind, *seq, *stamp, payload);
            let payload: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({
                "kind": kind.to_string(),
                "seq": seq.to_string(),
                "stamp": stamp.to_string(),
                "payload": payload,
                "counted": counted,
                "reading": shown(meter.reading()),
            })
        })
        .collect();
    json!({"name": name, "side": "payer", "base": shown(base), "packets": packets})
}

fn picture(seq: u16, ms: u32) -> Came {
    (
        Kind::Video,
        seq,
        ms.wrapping_mul(90),
        vec![0x10, 0x11, 2, 0],
    )
}

fn sound(seq: u16, ms: u32) -> Came {
    (Kind::Audio, seq, ms.wrapping_mul(48), vec![0xfc, 1, 2])
}

fn payer_cases() -> Vec<Value> {
    let pictures = |frames: &[(u16, u32)]| -> Vec<Came> {
        frames.iter().map(|(seq, ms)| picture(*seq, *ms)).collect()
    };
    let nothing = Reading::default();
    let even = [(1, 0), (2, 40), (3, 80), (4, 120)];
    let lost = |seq, ms| pictures(&[&even[..], &[(seq, ms), (seq + 1, ms + 40)]].concat());
    let wrapping: Vec<Came> = (0..5_u16)
        .map(|at| {
            let stamp = (u32::MAX - 3_600 * 2 + 1).wrapping_add(3_600 * u32::from(at));
            (Kind::Video, 65_533_u16.wrapping_add(at), stamp, vec![1, 2])
        })
        .collect();
    let toc = |seq: u16, ms: u32, payload: &[u8]| (Kind::Audio, seq, ms * 48, payload.to_vec());
    let apart = [
        picture(1, 0),
        picture(2, 40),
        picture(3, 80),
        picture(4, 120),
        sound(1, 3_600_000),
        sound(2, 3_600_020),
        sound(3, 3_600_040),
    ];
    vec![
        payer("pictures", nothing, &pictures(&even)),
        payer("on top of an earlier reading", BASE, &pictures(&even)),
        payer(
            "several packets a frame",
            nothing,
            &pictures(&[(1, 0), (2, 0), (3, 40), (4, 40), (5, 80), (6, 80)]),
        ),
        payer(
            "a stutter",
            nothing,
            &pictures(&[(1, 0), (2, 40), (3, 80), (4, 320), (5, 360)]),
        ),
        payer("two packets lost", nothing, &lost(7, 240)),
        payer(
            "two lost, and more time than they could be",
            nothing,
            &lost(7, 280),
        ),
        payer("two seconds lost", nothing, &lost(54, 2_120)),
        payer("more than two seconds lost", nothing, &lost(55, 2_160)),
        payer("a pause", nothing, &lost(5, 621)),
        payer("half a second between frames", nothing, &lost(5, 620)),
        payer(
            "the same packet twice",
            nothing,
            &pictures(&[(1, 0), (2, 40), (2, 40), (3, 80), (1, 0)]),
        ),
        payer(
            "out of order",
            nothing,
            &pictures(&[(1, 0), (3, 80), (2, 40), (4, 120)]),
        ),
        payer(
            "1024 behind",
            nothing,
            &pictures(&[(2_000, 0), (976, 40), (977, 40)]),
        ),
        payer("numbers and stamps that begin again", nothing, &wrapping),
        payer(
            "sound under a picture",
            nothing,
            &[
                picture(1, 0),
                sound(1, 0),
                sound(2, 20),
                picture(2, 40),
                sound(3, 40),
            ],
        ),
        payer("two time lines", nothing, &apart),
        payer(
            "sound says how long it is",
            nothing,
            &[
                toc(1, 0, &[0x00]),
                toc(2, 1_000, &[0x08]),
                toc(3, 2_000, &[0x10]),
                toc(4, 3_000, &[0x18]),
                toc(5, 4_000, &[0x60]),
                toc(6, 5_000, &[0x80]),
                toc(7, 6_000, &[0xf8]),
                toc(8, 7_000, &[0xf9]),
                toc(9, 8_000, &[0xfb, 6]),
                toc(10, 9_000, &[0xfb, 7]),
            ],
        ),
        payer(
            "padding",
            nothing,
            &[picture(1, 0), (Kind::Video, 2, 0, vec![]), picture(3, 40)],
        ),
    ]
}

#[test]
fn meter_vectors_are_what_this_code_writes() {
    let cases = [payee_cases(), payer_cases()].concat();
    let value = json!({"format": "1", "cases": cases});
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/media");
    let (path, text) = (
        folder.join("meters.json"),
        serde_json::to_string_pretty(&value).unwrap() + "\n",
    );
    if std::env::var_os("STREAMPAY_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "meters.json has grown old");
}
