use bytes::Bytes;
use proptest::prelude::*;
use streampay_core::{
    meter::{NextTariff, PauseReason, Rate, Schedule, Tariff},
    units::Msat,
};

use super::*;

fn packet(kind: Kind, ms: u64, key_start: bool) -> MediaPacket {
    MediaPacket {
        index: 0,
        kind,
        ticks: ms * kind.ticks_per_ms(),
        span: u32::try_from(40 * kind.ticks_per_ms()).unwrap(),
        marker: true,
        key_start,
        payload: Bytes::from_static(&[0; 100]),
    }
}

/// One msat a millisecond, up to `limit`.
fn open(limit: u64) -> Grant {
    let rate = Rate::new(Msat::new(1).unwrap(), 1).unwrap();
    Grant::Open {
        limit: Msat::new(limit).unwrap(),
        schedule: Schedule {
            tariff: Tariff {
                time: Some(rate),
                bytes: None,
            },
            ..Schedule::default()
        },
    }
}

fn gate() -> (watch::Sender<Grant>, Gate) {
    let (sender, receiver) = watch::channel(Grant::default());
    (sender, Gate::new(receiver, Reading::default()))
}

#[test]
fn starts_shut_and_begins_with_a_key_frame() {
    let (grants, mut gate) = gate();
    assert_eq!(gate.offer(&packet(Kind::Video, 0, true)), Verdict::Hold);
    grants.send_replace(open(1000));
    assert_eq!(gate.offer(&packet(Kind::Video, 0, false)), Verdict::Skip);
    assert_eq!(gate.reading(), Reading::default());
    assert_eq!(gate.offer(&packet(Kind::Audio, 0, true)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 40, true)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 80, false)), Verdict::Pass);
    assert_eq!(
        gate.reading(),
        Reading {
            media_ms: 120,
            bytes: 300
        }
    );
}

#[test]
fn the_last_paid_packet_passes_and_the_next_waits_for_credit() {
    let (grants, mut gate) = gate();
    grants.send_replace(open(80));
    assert_eq!(gate.offer(&packet(Kind::Video, 0, true)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 40, false)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 80, false)), Verdict::Hold);
    // Sound of a moment that is paid already.
    assert_eq!(gate.offer(&packet(Kind::Audio, 40, true)), Verdict::Pass);
    grants.send_replace(open(120));
    assert_eq!(gate.offer(&packet(Kind::Video, 80, false)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 120, false)), Verdict::Hold);
}

/// Of the same frame, which was let through in part: it begins again with its first packet.
#[test]
fn a_key_frame_that_is_begun_again_is_a_key_frame_again() {
    let (grants, mut gate) = gate();
    grants.send_replace(open(1000));
    assert_eq!(gate.offer(&packet(Kind::Video, 0, true)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 0, false)), Verdict::Pass);
    gate.resync();
    assert_eq!(gate.offer(&packet(Kind::Video, 0, false)), Verdict::Skip);
    assert_eq!(gate.offer(&packet(Kind::Video, 0, true)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 0, false)), Verdict::Pass);
    assert_eq!(gate.offer(&packet(Kind::Video, 40, false)), Verdict::Pass);
    assert_eq!(
        gate.reading(),
        Reading {
            media_ms: 80,
            bytes: 500
        }
    );
}

#[test]
fn pause_holds_and_a_dead_session_shuts_for_good() {
    let (grants, mut gate) = gate();
    grants.send_replace(open(1000));
    assert_eq!(gate.offer(&packet(Kind::Video, 0, true)), Verdict::Pass);
    grants.send_replace(Grant::Paused(PauseReason::ByPayer));
    assert_eq!(gate.offer(&packet(Kind::Video, 40, true)), Verdict::Hold);
    grants.send_replace(open(1000));
    assert_eq!(gate.offer(&packet(Kind::Video, 40, false)), Verdict::Pass);
    drop(grants);
    assert_eq!(gate.offer(&packet(Kind::Video, 80, true)), Verdict::Dead);
}

#[test]
fn goes_on_from_the_reading_of_earlier_connections() {
    let (grants, receiver) = watch::channel(open(100));
    let mut gate = Gate::new(
        receiver,
        Reading {
            media_ms: 80,
            bytes: 0,
        },
    );
    assert_eq!(gate.offer(&packet(Kind::Audio, 0, true)), Verdict::Hold);
    grants.send_replace(open(120));
    assert_eq!(gate.offer(&packet(Kind::Audio, 0, true)), Verdict::Pass);
    assert_eq!(gate.reading().media_ms, 120);
}

#[test]
fn price_that_changes_on_the_way_holds_from_its_amount() {
    let (grants, mut gate) = gate();
    let Grant::Open { limit, schedule } = open(200) else {
        panic!("it is open");
    };
    let tariff = Tariff {
        time: Rate::new(Msat::new(2).unwrap(), 1).ok(),
        bytes: None,
    };
    let from = Msat::new(100).unwrap();
    let schedule = Schedule {
        next: Some(NextTariff { from, tariff }),
        ..schedule
    };
    grants.send_replace(Grant::Open { limit, schedule });
    // 100 ms at 1, then 50 ms at 2.
    for at in [0, 40, 80] {
        assert_eq!(gate.offer(&packet(Kind::Audio, at, true)), Verdict::Pass);
    }
    assert_eq!(gate.offer(&packet(Kind::Audio, 120, true)), Verdict::Hold);
    assert_eq!(schedule.used(gate.reading()).msat(), 140);
}

proptest! {
    #[test]
    fn what_passed_never_prices_above_the_limit(
        steps in proptest::collection::vec((0_u64..400, any::<bool>(), any::<bool>(), 0_u64..90), 1..200)
    ) {
        let (grants, mut gate) = gate();
        let mut limit = 0;
        let mut at = 0;
        for (more, video, key, step) in steps {
            if more > 300 {
                limit += more;
                grants.send_replace(open(limit));
            }
            at += step;
            let kind = if video { Kind::Video } else { Kind::Audio };
            let before = gate.reading();
            let verdict = gate.offer(&packet(kind, at, key));
            prop_assert!(gate.reading().media_ms <= limit);
            prop_assert!(verdict == Verdict::Pass || gate.reading() == before);
        }
    }
}
