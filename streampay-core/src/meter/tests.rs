use super::*;
use crate::units::Msat;
use proptest::prelude::*;

fn msat(amount: u64) -> Msat {
    Msat::new(amount).unwrap()
}

fn per_10_s(amount: u64) -> Tariff {
    Tariff {
        time: Some(Rate::new(msat(amount), 10_000).unwrap()),
        bytes: None,
    }
}

fn ms(media_ms: u64) -> Reading {
    Reading { media_ms, bytes: 0 }
}

#[test]
fn price_is_rounded_up_once_for_the_whole_reading() {
    let tariff = Tariff {
        time: Some(Rate::new(msat(1), 3).unwrap()),
        bytes: Some(Rate::new(msat(1), 6).unwrap()),
    };
    // 1/3 + 1/6 = 1/2, rounded up once, not twice.
    assert_eq!(
        tariff.price(Reading {
            media_ms: 1,
            bytes: 1
        }),
        msat(1)
    );
    assert_eq!(
        tariff.price(Reading {
            media_ms: 4,
            bytes: 4
        }),
        msat(2)
    );
    assert_eq!(per_10_s(2000).price(ms(10_000)), msat(2000));
    assert_eq!(per_10_s(2000).price(ms(10_001)), msat(2001));
}

#[test]
fn an_absurd_reading_is_unaffordable_not_free() {
    let tariff = Tariff {
        time: Some(Rate::new(Msat::MAX, Rate::MAX_PER).unwrap()),
        bytes: Some(Rate::new(Msat::MAX, Rate::MAX_PER - 1).unwrap()),
    };
    assert_eq!(
        tariff.price(Reading {
            media_ms: u64::MAX,
            bytes: u64::MAX
        }),
        Msat::MAX
    );
    assert_eq!(Rate::new(msat(1), 0), Err(crate::units::Overflow));
}

#[test]
fn cap_compares_rates_exactly_and_refuses_unnamed_meters() {
    assert!(per_10_s(2000).is_within(&per_10_s(2000)));
    let cap = Tariff {
        time: Some(Rate::new(msat(200), 1000).unwrap()),
        bytes: None,
    };
    assert!(per_10_s(2000).is_within(&cap));
    assert!(!per_10_s(2001).is_within(&cap));
    let with_bytes = Tariff {
        bytes: Some(Rate::new(msat(1), 1).unwrap()),
        ..per_10_s(1)
    };
    assert!(!with_bytes.is_within(&cap));
}

#[test]
fn gate_opens_to_the_last_paid_packet_and_no_further() {
    let grant = Grant::Open {
        limit: msat(2000),
        schedule: Schedule {
            tariff: per_10_s(2000),
            ..Schedule::default()
        },
    };
    assert!(grant.admits(ms(10_000)));
    assert!(!grant.admits(ms(10_001)));
    assert!(!Grant::Paused(PauseReason::ByPayer).admits(ms(0)));
    assert!(!Grant::default().admits(ms(0)));
}

#[test]
fn pause_codes_are_unique_and_round_trip() {
    for &(reason, code) in PauseReason::ALL {
        assert_eq!(PauseReason::from_code(code), Some(reason));
        assert_eq!(reason.code(), code);
        let texts = PauseReason::ALL.iter().map(|(other, _)| other.to_string());
        assert_eq!(texts.filter(|text| *text == reason.to_string()).count(), 1);
        assert!(!reason.to_string().is_empty());
    }
    assert_eq!(PauseReason::from_code(999), None);
}

fn doubled_from(from: u64, known: Reading) -> Schedule {
    Schedule {
        next: Some(NextTariff {
            from: msat(from),
            tariff: per_10_s(4000),
        }),
        known,
        ..Schedule::new(per_10_s(2000))
    }
}

#[test]
fn next_tariff_prices_what_comes_after_its_amount() {
    let schedule = doubled_from(2000, ms(0));
    for (reading, used) in [
        (0, 0),
        (9_995, 1_999),
        (9_996, 2_000),
        (10_000, 2_000),
        (10_001, 2_001),
        (20_000, 6_000),
    ] {
        assert_eq!(schedule.used(ms(reading)), msat(used), "at {reading} ms");
        let mut told = schedule;
        assert_eq!(told.advance(ms(reading)), reading > 10_000);
        assert_eq!(told.used(ms(reading)), msat(used), "told {reading} ms");
    }
}

#[test]
fn consent_just_where_a_price_begins_prices_nothing_anew() {
    let old = Schedule::new(per_10_s(2_000));
    for reading in [9_996, 9_999, 10_000] {
        let agreed = doubled_from(2_000, ms(9_000));
        assert_eq!(old.used(ms(reading)), msat(2_000));
        assert_eq!(agreed.used(ms(reading)), msat(2_000), "at {reading} ms");
    }
}

#[test]
fn gate_prices_a_change_that_it_passes_on_its_own() {
    let grant = Grant::Open {
        limit: msat(3_000),
        schedule: doubled_from(2_000, ms(5_000)),
    };
    assert!(grant.admits(ms(12_500)));
    assert!(!grant.admits(ms(12_501)));
}

#[test]
fn next_tariff_of_another_meter_prices_what_came_since() {
    let bytes = |amount| Tariff {
        time: None,
        bytes: Rate::new(msat(amount), 1_000).ok(),
    };
    let mut schedule = Schedule {
        next: Some(NextTariff {
            from: msat(2_000),
            tariff: bytes(1_000),
        }),
        ..Schedule::new(per_10_s(2000))
    };
    let at = |media_ms, bytes| Reading { media_ms, bytes };
    schedule.advance(at(9_000, 50_000));
    // Half of the way to the next reading is before the change, and half of its bytes.
    assert_eq!(schedule.used(at(11_000, 52_000)), msat(2_000 + 1_000));
    assert!(schedule.advance(at(11_000, 52_000)));
    assert_eq!(schedule.used(at(99_000, 52_996)), msat(2_000 + 1_996));
}

#[test]
fn next_tariff_begins_where_its_amount_is_used_though_a_crash_lost_a_reading() {
    let both = |amount| Tariff {
        time: Rate::new(msat(amount), 1_000).ok(),
        bytes: Rate::new(msat(amount), 1_000).ok(),
    };
    let mut schedule = Schedule {
        next: Some(NextTariff {
            from: msat(2_000),
            tariff: both(2_000),
        }),
        ..Schedule::new(both(1_000))
    };
    let at = |media_ms, bytes| Reading { media_ms, bytes };
    // What is durable after the crash is more of the one and less of the other.
    for known in [at(500, 1_400), at(900, 1_000)] {
        assert!(!schedule.advance(known));
        assert_eq!(schedule.known, known);
    }
    assert!(schedule.advance(at(1_000, 1_100)));
    assert_eq!(schedule.base, at(950, 1_050));
    assert_eq!(schedule.used(at(1_000, 1_100)), msat(2_000 + 200));
}

proptest! {
    /// One rounding for each tariff, whatever readings were told on the way.
    #[test]
    fn a_change_of_price_is_rounded_once_and_never_decreases(
        rates in (1_u64..1 << 20, 1_u64..1 << 20),
        pers in (1_u64..1 << 16, 1_u64..1 << 16),
        from in 1_u64..1 << 24,
        mut told in proptest::collection::vec(0_u64..1 << 30, 1..6),
    ) {
        let tariff = |rate, per| Tariff { time: Rate::new(msat(rate), per).ok(), bytes: None };
        let next = NextTariff { from: msat(from), tariff: tariff(rates.1, pers.1) };
        let whole = Schedule { next: Some(next), ..Schedule::new(tariff(rates.0, pers.0)) };
        let mut step = whole;
        told.sort_unstable();
        let mut last = Msat::ZERO;
        for media_ms in told {
            let used = whole.used(ms(media_ms));
            prop_assert_eq!(step.used(ms(media_ms)), used);
            step.advance(ms(media_ms));
            prop_assert_eq!(step.used(ms(media_ms)), used);
            prop_assert!(last <= used);
            last = used;
            let begin = u128::from(from) * u128::from(pers.0) / u128::from(rates.0);
            let exact = match u128::from(media_ms).checked_sub(begin) {
                Some(since) => u128::from(from)
                    + (since * u128::from(rates.1)).div_ceil(u128::from(pers.1)),
                None => (u128::from(media_ms) * u128::from(rates.0)).div_ceil(u128::from(pers.0)),
            };
            prop_assert_eq!(u128::from(used.msat()), exact);
        }
    }

    /// With two meters it depends on the way, but never decreases along it.
    #[test]
    fn two_meters_never_decrease_over_a_change(
        rates in (0_u64..1 << 20, 0_u64..1 << 20, 0_u64..1 << 20, 0_u64..1 << 20),
        from in 1_u64..1 << 24,
        steps in proptest::collection::vec((0_u64..1 << 16, 0_u64..1 << 16), 1..12),
    ) {
        let tariff = |time, bytes| Tariff {
            time: Rate::new(msat(time), 1_000).ok(),
            bytes: Rate::new(msat(bytes), 777).ok(),
        };
        let next = NextTariff { from: msat(from), tariff: tariff(rates.2, rates.3) };
        let mut schedule = Schedule { next: Some(next), ..Schedule::new(tariff(rates.0, rates.1)) };
        let (mut reading, mut last) = (Reading::default(), Msat::ZERO);
        for (media_ms, bytes) in steps {
            reading.media_ms += media_ms;
            reading.bytes += bytes;
            let used = schedule.used(reading);
            prop_assert!(last <= used);
            schedule.advance(reading);
            prop_assert_eq!(schedule.used(reading), used);
            last = used;
        }
    }

    /// What a gate bounded by a lease let through costs no more than the lease, also with what
    /// comes on top of both after a restart.
    #[test]
    fn a_lease_stands_for_every_reading_that_it_is_worth(
        rates in (0_u64..1 << 20, 0_u64..1 << 20),
        lease in (0_u64..1 << 20, 0_u64..1 << 20),
        passed in (0_u64..1 << 20, 0_u64..1 << 20),
        more in (0_u64..1 << 10, 0_u64..1 << 10),
    ) {
        let at = |(media_ms, bytes)| Reading { media_ms, bytes };
        let plus = |a: Reading, b: Reading| at((a.media_ms + b.media_ms, a.bytes + b.bytes));
        let schedule = Schedule::new(Tariff {
            time: Rate::new(msat(rates.0), 3_000).ok(),
            bytes: Rate::new(msat(rates.1), 7_777).ok(),
        });
        let (lease, passed, more) = (at(lease), at(passed), at(more));
        prop_assert!(schedule.used(lease).msat() - schedule.worth(lease).msat() <= 1);
        prop_assume!(schedule.used(passed) <= schedule.worth(lease));
        prop_assert!(schedule.used(plus(passed, more)) <= schedule.used(plus(lease, more)));
    }

    #[test]
    fn used_never_decreases(a in 0_u64..1 << 50, b in 0_u64..1 << 50, rate in 0_u64..1 << 40, per in 1_u64..1 << 31) {
        let tariff = Tariff { time: Some(Rate::new(msat(rate), per).unwrap()), bytes: None };
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(tariff.price(ms(low)) <= tariff.price(ms(high)));
        let exact = (u128::from(rate) * u128::from(high)).div_ceil(u128::from(per));
        prop_assert_eq!(u128::from(tariff.price(ms(high)).msat()), exact.min(u128::from(Msat::MAX.msat())));
    }
}

#[test]
fn a_step_buys_time_by_whichever_tariff_holds_by_then() {
    let time = |rate: Option<(u64, u64)>| Tariff {
        time: rate.and_then(|(amount, per)| Rate::new(msat(amount), per).ok()),
        bytes: Rate::new(msat(1), 1).ok(),
    };
    let (cheap, dear) = (Some((2_000, 60_000)), Some((2_000, 10_000)));
    for (step, now, next, from_ms, bought) in [
        (2_000, dear, None, 0, 10_000),
        (2_000, cheap, None, 0, 60_000),
        (3_000, cheap, None, 7, 90_000),
        // Nothing is known of what is free.
        (2_000, Some((0, 60_000)), None, 0, 0),
        (2_000, None, None, 0, 0),
        (
            Msat::MAX.msat(),
            Some((1, Rate::MAX_PER)),
            None,
            0,
            u64::MAX,
        ),
        // The next one begins where 600 000 ms are used at the cheap price.
        (2_000, cheap, dear, 500_000, 60_000),
        (2_000, cheap, dear, 570_000, 35_000),
        (2_000, cheap, dear, 600_000, 10_000),
        // And here where 100 000 ms are used at the dear one.
        (2_000, dear, cheap, 80_000, 10_000),
        (2_000, dear, cheap, 95_000, 35_000),
        (2_000, dear, cheap, 100_000, 60_000),
        (2_000, None, dear, 0, 10_000),
        (2_000, dear, None, 95_000, 10_000),
    ] {
        let next = next.map(|next| NextTariff {
            from: msat(20_000),
            tariff: time(Some(next)),
        });
        let schedule = Schedule {
            next,
            ..Schedule::new(time(now))
        };
        let found = schedule.bought_ms(ms(from_ms), msat(step));
        assert_eq!(
            found, bought,
            "{step} of {now:?}, then {next:?}, from {from_ms}"
        );
    }
}

/// Bytes cost nothing, and something from 20 000 msat on. What came of them before that, at the ceiling where the
/// schedule waits too, is none of the next price's.
#[test]
fn what_was_free_is_free_when_the_next_price_begins() {
    let tariff = per_10_s(2_000);
    let bytes = Rate::new(msat(1), 1_000).ok();
    let (from, next) = (msat(20_000), Tariff { bytes, ..tariff });
    let at = |media_ms, bytes| Reading { media_ms, bytes };
    let mut schedule = Schedule::new(tariff);
    assert!(!schedule.advance(at(99_990, 0)));
    let flood = at(100_000, 30_000_000);
    schedule.stand_at(from, flood);
    schedule.next = Some(NextTariff { from, tariff: next });
    let used = schedule.used(at(100_020, flood.bytes)).msat();
    assert!((20_001..=20_004).contains(&used), "{used}");
    // And of what is beyond no more than up to there.
    schedule.known = at(99_990, 0);
    schedule.next = None;
    schedule.stand_at(from, at(100_030, 0));
    assert_eq!(schedule.known, at(100_000, 0));
}
