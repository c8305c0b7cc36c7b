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
    for (reason, code) in PauseReason::ALL {
        assert_eq!(PauseReason::from_code(code), Some(reason));
        assert_eq!(reason.code(), code);
    }
    assert_eq!(PauseReason::from_code(999), None);
}

proptest! {
    #[test]
    fn used_never_decreases(a in 0_u64..1 << 50, b in 0_u64..1 << 50, rate in 0_u64..1 << 40, per in 1_u64..1 << 31) {
        let tariff = Tariff { time: Some(Rate::new(msat(rate), per).unwrap()), bytes: None };
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(tariff.price(ms(low)) <= tariff.price(ms(high)));
        let exact = (u128::from(rate) * u128::from(high)).div_ceil(u128::from(per));
        prop_assert_eq!(u128::from(tariff.price(ms(high)).msat()), exact.min(u128::from(Msat::MAX.msat())));
    }
}
