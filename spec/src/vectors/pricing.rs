//! Readings and what they cost: rounding, saturation, schedules, ticks, policies, gates.

use serde_json::Value;
use streampay_core::meter::{Grant, NextTariff, PauseReason, Rate, Reading, Schedule, Tariff};
use streampay_core::units::Msat;

use crate::fields::{reading_to_json, schedule_to_json, tariff_to_json};
use crate::json::{Object, int};
use crate::people::{msat, rate};

const fn reading(media_ms: u64, bytes: u64) -> Reading {
    Reading { media_ms, bytes }
}

const fn tariff(time: Option<Rate>, bytes: Option<Rate>) -> Tariff {
    Tariff { time, bytes }
}

/// All cases.
#[must_use]
pub(super) fn cases() -> Vec<Value> {
    [prices(), schedules(), ticks(), caps(), gates()].concat()
}

fn case(name: &str, what: &str, fields: Object, result: Value) -> Value {
    Object::new()
        .with("name", name)
        .with("what", what)
        .with("fields", fields)
        .with("result", result)
        .done()
}

fn prices() -> Vec<Value> {
    let usual = tariff(rate(2_000, 10_000), None);
    let both = tariff(rate(1, 3), rate(1, 6));
    let most = Rate::new(Msat::MAX, Rate::MAX_PER).ok();
    let next = Rate::new(Msat::MAX, Rate::MAX_PER - 1).ok();
    let all: [(&str, Tariff, Reading); 19] = [
        ("nothing used", usual, reading(0, 0)),
        ("one millisecond is rounded up", usual, reading(1, 0)),
        ("5 ms are exactly 1 msat", usual, reading(5, 0)),
        ("6 ms are 2 msat", usual, reading(6, 0)),
        ("a whole tick", usual, reading(10_000, 0)),
        ("a tick and a millisecond", usual, reading(10_001, 0)),
        ("a day", usual, reading(86_400_000, 0)),
        (
            "a meter without a rate is free",
            usual,
            reading(0, u64::MAX),
        ),
        (
            "no rate at all",
            tariff(None, None),
            reading(u64::MAX, u64::MAX),
        ),
        ("two meters, rounded once: 1/3 + 1/6", both, reading(1, 1)),
        ("two meters, rounded once: 4/3 + 4/6", both, reading(4, 4)),
        ("two meters, a third", both, reading(1, 0)),
        ("two meters, 2/3 + 5/6", both, reading(2, 5)),
        (
            "a price of zero",
            tariff(rate(0, 7), None),
            reading(1 << 60, 0),
        ),
        (
            "a price of zero beside another",
            tariff(rate(0, 7), rate(1, 7)),
            reading(6, 8),
        ),
        (
            "10^9 ticks of 10 s at 1/3 msat a ms",
            tariff(rate(1, 3), None),
            reading(10_000_000_000_000, 0),
        ),
        (
            "beyond 21 million bitcoin it is 21 million bitcoin",
            tariff(rate(2_100_000_000_000_000_000, 1), None),
            reading(2, 0),
        ),
        (
            "everything at its limit",
            tariff(most, next),
            reading(u64::MAX, u64::MAX),
        ),
        (
            "just below the limit",
            tariff(rate(2_100_000_000_000_000_000, 4_294_967_295), None),
            reading(4_294_967_294, 0),
        ),
    ];
    let case = |(name, tariff, reading): (&str, Tariff, Reading)| {
        let fields = Object::new()
            .with("tariff", tariff_to_json(&tariff))
            .with("reading", reading_to_json(reading));
        case(name, "price", fields, int(tariff.price(reading).msat()))
    };
    all.into_iter().map(case).collect()
}

fn schedules() -> Vec<Value> {
    let later = Schedule {
        base_msat: msat(12_345),
        base: reading(60_000, 1_000),
        tariff: tariff(rate(3_000, 10_000), rate(1, 4_096)),
        next: None,
        known: reading(60_000, 1_000),
    };
    let full = Schedule {
        base_msat: Msat::MAX,
        ..later
    };
    let usual = tariff(rate(2_000, 10_000), None);
    let next = |from, tariff| {
        Some(NextTariff {
            from: msat(from),
            tariff,
        })
    };
    let changes = Schedule {
        next: next(2_000, tariff(rate(3_000, 10_000), None)),
        ..Schedule::new(usual)
    };
    let becomes_free = Schedule {
        next: next(1_999, Tariff::default()),
        ..Schedule::new(usual)
    };
    let both = Schedule {
        next: next(2_500, tariff(rate(7, 1_000), rate(3, 7))),
        known: reading(1_000, 0),
        ..Schedule::new(tariff(rate(1_000, 10_000), rate(1, 10)))
    };
    let at_once = Schedule {
        next: next(12_345, usual),
        ..later
    };
    let all = [
        ("at its beginning", later, reading(60_000, 1_000)),
        ("before its beginning", later, reading(59_000, 999)),
        ("one millisecond on", later, reading(60_001, 1_000)),
        ("both meters on", later, reading(70_000, 5_096)),
        ("one meter on, one before", later, reading(70_000, 0)),
        ("full", full, reading(u64::MAX, 0)),
        ("that changes, before it does", changes, reading(9_999, 0)),
        ("that changes, where it does", changes, reading(10_000, 0)),
        ("that changes, just after", changes, reading(10_001, 0)),
        ("that changes, a tick later", changes, reading(20_000, 0)),
        ("that becomes free", becomes_free, reading(1 << 40, 0)),
        ("of two meters that changes", both, reading(10_000, 20_000)),
        (
            "of two meters that changes, at the last known",
            both,
            reading(1_000, 0),
        ),
        (
            "of two meters that changes, one meter alone",
            both,
            reading(1_000, 50_000),
        ),
        ("whose next is at its base", at_once, reading(60_001, 1_000)),
    ];
    let case = |(name, schedule, reading): (&str, Schedule, Reading)| {
        let fields = Object::new()
            .with("schedule", schedule_to_json(&schedule))
            .with("reading", reading_to_json(reading));
        let name = format!("a schedule {name}");
        case(&name, "used", fields, int(schedule.used(reading).msat()))
    };
    all.into_iter().map(case).collect()
}

fn ticks() -> Vec<Value> {
    let sat = 1_000;
    let all = [
        (1, sat),
        (999, sat),
        (1_000, sat),
        (1_001, sat),
        (2_000, sat),
        (2_001, 1),
        (2_001, 7),
        (2_001, 4_000),
        (2_100_000_000_000_000_000, sat),
    ];
    let case = |(tick, quantum): (u64, u64)| {
        let amount = msat(tick).round_up_to(msat(quantum)).unwrap_or(Msat::MAX);
        let name = format!("a tick of {tick} msat in steps of {quantum}");
        let fields = Object::new().int("tick", tick).int("quantum", quantum);
        case(&name, "tick", fields, int(amount.msat()))
    };
    all.into_iter().map(case).collect()
}

fn caps() -> Vec<Value> {
    let cap = tariff(rate(200, 1_000), None);
    let huge = 2_100_000_000_000_000_000;
    let all = [
        ("the same rate", tariff(rate(2_000, 10_000), None), cap),
        ("a little more", tariff(rate(2_001, 10_000), None), cap),
        ("a little less", tariff(rate(1_999, 10_000), None), cap),
        ("no rate", tariff(None, None), cap),
        ("another meter", tariff(None, rate(1, 1 << 31)), cap),
        ("another meter, free", tariff(None, rate(0, 1)), cap),
        ("no cap", cap, tariff(None, None)),
        (
            "large numbers",
            tariff(rate(huge, 4_294_967_295), None),
            tariff(rate(huge - 1, 4_294_967_295), None),
        ),
    ];
    let case = |(name, tariff, cap): (&str, Tariff, Tariff)| {
        let fields = Object::new()
            .with("tariff", tariff_to_json(&tariff))
            .with("cap", tariff_to_json(&cap));
        let name = format!("within a cap: {name}");
        case(&name, "within", fields, Value::Bool(tariff.is_within(&cap)))
    };
    all.into_iter().map(case).collect()
}

fn gates() -> Vec<Value> {
    let schedule = Schedule {
        tariff: tariff(rate(2_000, 10_000), None),
        ..Schedule::default()
    };
    let open = |limit| Grant::Open {
        limit: msat(limit),
        schedule,
    };
    let all = [
        (
            "the last packet that is paid",
            open(2_000),
            reading(10_000, 0),
        ),
        ("the first that is not", open(2_000), reading(10_001, 0)),
        ("a limit of zero", open(0), reading(1, 0)),
        ("a limit of zero, nothing used", open(0), reading(0, 0)),
        ("paused", Grant::Paused(PauseReason::ByPayer), reading(0, 0)),
        ("closed", Grant::Closed, reading(0, 0)),
    ];
    let case = |(name, grant, reading): (&str, Grant, Reading)| {
        let grant_json = match grant {
            Grant::Open { limit, schedule } => Object::new()
                .int("limit", limit.msat())
                .with("schedule", schedule_to_json(&schedule)),
            Grant::Paused(reason) => Object::new().int("paused", reason.code()),
            Grant::Closed => Object::new().with("closed", true),
        };
        let fields = Object::new()
            .with("grant", grant_json)
            .with("reading", reading_to_json(reading));
        let name = format!("a gate: {name}");
        case(&name, "admits", fields, Value::Bool(grant.admits(reading)))
    };
    all.into_iter().map(case).collect()
}
