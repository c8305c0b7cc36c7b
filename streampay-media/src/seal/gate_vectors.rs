//! Vectors of the gate, open and sealed, in `spec/vectors/media/gate.json`; see `vectors`.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};
use streampay_core::{
    meter::{Grant, PauseReason, Rate, Reading, Schedule, Tariff},
    session::Command,
    units::Msat,
};
use tokio::sync::{mpsc, watch};

use super::{EpochGrant, Release, tests::secret};
use crate::{
    gate::{Gate, Verdict},
    packet::{Kind, MediaPacket},
};

/// What happens at a gate.
enum Step {
    /// So much may be used, at 1 msat a millisecond.
    Open(u64),
    /// The same, and bytes have a rate, too: 1 msat for 1 000 000.
    OpenForBytes(u64),
    /// So much may be used, at 1 msat a byte and nothing for time.
    OpenForBytesAlone(u64),
    Paused,
    Closed,
    /// Packets were left out.
    Resync,
    /// The session is gone.
    Gone,
    /// A packet of picture, from the first of a key frame or not, or of sound, at so many
    /// milliseconds.
    Key(u64),
    Picture(u64),
    Sound(u64),
}

use Step::{
    Closed, Gone, Key, Open, OpenForBytes, OpenForBytesAlone, Paused, Picture, Resync, Sound,
};

/// One msat for so much.
fn rate(per: u64) -> Option<Rate> {
    Rate::new(Msat::new(1).unwrap(), per).ok()
}

fn open(limit: u64, time: Option<Rate>, bytes: Option<Rate>) -> Grant {
    Grant::Open {
        limit: Msat::new(limit).unwrap(),
        schedule: Schedule {
            tariff: Tariff { time, bytes },
            ..Schedule::default()
        },
    }
}

fn packet(kind: Kind, ms: u64, key_start: bool) -> MediaPacket {
    let (span_ms, length) = match kind {
        Kind::Video => (40, 1_000),
        Kind::Audio => (20, 100),
    };
    MediaPacket {
        index: 0,
        kind,
        ticks: ms * kind.ticks_per_ms(),
        span: u32::try_from(span_ms * kind.ticks_per_ms()).unwrap(),
        marker: true,
        key_start,
        payload: Bytes::from(vec![0; length]),
    }
}

/// A gate, its session's ends, and the keys that it handed over.
struct Stage {
    runtime: tokio::runtime::Runtime,
    grants: Option<watch::Sender<Grant>>,
    gate: Gate,
    keys: mpsc::Receiver<Command>,
}

impl Stage {
    fn new(sealed: bool, base: Reading) -> Self {
        let (grants, receiver) = watch::channel(Grant::default());
        let (session, keys) = mpsc::channel(8);
        let release = Release::new(Arc::new(secret()), session);
        let gate = match sealed {
            true => Gate::sealed(receiver, base, release),
            false => Gate::new(receiver, base),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Self {
            runtime: runtime.unwrap(),
            grants: Some(grants),
            gate,
            keys,
        }
    }

    fn grant(&self, grant: Grant) {
        self.grants.as_ref().unwrap().send_replace(grant);
    }

    fn offer(&mut self, kind: Kind, ms: u64, key_start: bool) -> Value {
        let packet = packet(kind, ms, key_start);
        let verdict = self.gate.offer(&packet);
        assert!(self.runtime.block_on(self.gate.hand_over()));
        let key = self.keys.try_recv().ok().map(|command| {
            let Command::Grant(grant) = command else {
                panic!("{command:?}")
            };
            let grant = EpochGrant::from_bytes(&grant.0).unwrap();
            grant.epoch.to_string()
        });
        assert!(self.keys.try_recv().is_err());
        let reading = self.gate.reading();
        json!({
            "packet": {
                "kind": kind.to_string(),
                "ticks": packet.ticks.to_string(),
                "span": packet.span.to_string(),
                "bytes": packet.payload.len().to_string(),
                "key_start": key_start,
            },
            "verdict": match verdict {
                Verdict::Pass => "pass",
                Verdict::Hold => "hold",
                Verdict::Skip => "skip",
                Verdict::Dead => "dead",
            },
            "key_of_epoch": key,
            "reading": {
                "media_ms": reading.media_ms.to_string(),
                "bytes": reading.bytes.to_string(),
            },
        })
    }

    fn step(&mut self, step: &Step) -> Value {
        match step {
            Open(limit) => {
                self.grant(open(*limit, rate(1), None));
                json!({"open": limit.to_string()})
            }
            OpenForBytes(limit) => {
                self.grant(open(*limit, rate(1), rate(1_000_000)));
                json!({"open": limit.to_string(), "bytes_per_msat": "1000000"})
            }
            OpenForBytesAlone(limit) => {
                self.grant(open(*limit, None, rate(1)));
                json!({"open": limit.to_string(), "bytes_per_msat": "1", "time_is_free": true})
            }
            Paused => {
                self.grant(Grant::Paused(PauseReason::ByPayer));
                json!({"paused": true})
            }
            Closed => {
                self.grant(Grant::Closed);
                json!({"closed": true})
            }
            Resync => {
                self.gate.resync();
                json!({"left_out": true})
            }
            Gone => {
                self.grants = None;
                json!({"session_gone": true})
            }
            Key(ms) => self.offer(Kind::Video, *ms, true),
            Picture(ms) => self.offer(Kind::Video, *ms, false),
            Sound(ms) => self.offer(Kind::Audio, *ms, false),
        }
    }
}

fn case(name: &str, sealed: bool, base_ms: u64, steps: &[Step]) -> Value {
    let base = Reading {
        media_ms: base_ms,
        bytes: 0,
    };
    let mut stage = Stage::new(sealed, base);
    let steps: Vec<Value> = steps.iter().map(|step| stage.step(step)).collect();
    json!({"name": name, "sealed": sealed, "base_ms": base_ms.to_string(), "steps": steps})
}

fn cases() -> Vec<Value> {
    vec![
        case("it begins shut", false, 0, &[Key(0), Sound(0)]),
        case(
            "up to the limit, and on when more is paid",
            false,
            0,
            &[
                Open(79),
                Key(0),
                Picture(40),
                Sound(40),
                Open(80),
                Picture(40),
                Sound(60),
                Picture(80),
            ],
        ),
        case(
            "on top of what was used before",
            false,
            1_000,
            &[Open(1_039), Key(0), Open(1_040), Key(0)],
        ),
        case(
            "a picture begins with a key frame, sound at once",
            false,
            0,
            &[
                Open(1_000),
                Picture(0),
                Sound(0),
                Key(40),
                Resync,
                Picture(80),
                Sound(80),
                Key(120),
            ],
        ),
        case(
            "paused, closed, gone",
            false,
            0,
            &[
                Open(1_000),
                Key(0),
                Paused,
                Picture(40),
                Open(1_000),
                Picture(40),
                Closed,
                Sound(60),
                Open(1_000),
                Gone,
                Sound(60),
            ],
        ),
        case(
            "bytes have a rate, too, and both are rounded up once",
            false,
            0,
            // Each picture 1 000 bytes, each sound 100; 1 msat for 1 000 000.
            &[
                OpenForBytes(40),
                Key(0),
                OpenForBytes(41),
                Key(0),
                Sound(0),
                Sound(20),
                Picture(40),
                OpenForBytes(81),
                Picture(40),
                Open(80),
                Sound(60),
            ],
        ),
        case(
            "a rate of bytes alone holds what covers nothing new",
            false,
            0,
            &[
                OpenForBytesAlone(3_099),
                Key(0),
                Picture(0),
                Sound(0),
                Picture(0),
                Sound(1_000),
                OpenForBytesAlone(3_200),
                Picture(0),
                Sound(1_000),
                Sound(1_020),
            ],
        ),
        case(
            "sealed: a key for each epoch that is paid to its end",
            true,
            0,
            &[
                Open(149),
                Key(0),
                Sound(0),
                Picture(40),
                Sound(60),
                Picture(80),
                Sound(100),
                Open(150),
                Sound(100),
            ],
        ),
        case(
            "sealed: an epoch counts whole, wherever it begins",
            true,
            0,
            &[
                Open(100),
                Sound(1_030),
                Sound(1_040),
                Sound(1_050),
                Sound(2_000),
                Open(150),
                Sound(2_000),
            ],
        ),
        case(
            "sealed: not even the first",
            true,
            500,
            &[Open(549), Key(0), Open(550), Key(0)],
        ),
        case(
            "sealed: pauses buy nothing",
            true,
            0,
            &[
                Open(100),
                Key(0),
                Paused,
                Sound(500),
                Open(100),
                Sound(500),
                Paused,
                Open(100),
                Sound(900),
            ],
        ),
        case(
            "sealed: a rate of bytes shuts it",
            true,
            0,
            &[OpenForBytes(1_000_000), Key(0), Open(1_000_000), Key(0)],
        ),
    ]
}

#[test]
fn gate_vectors_are_what_this_code_writes() {
    let value = json!({"format": "1", "msat_per_ms": "1", "cases": cases()});
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/media");
    let path = folder.join("gate.json");
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    if std::env::var_os("STREAMPAY_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "gate.json has grown old");
}
