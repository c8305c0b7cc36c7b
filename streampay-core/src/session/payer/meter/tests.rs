use super::still::late_ms;
use super::tolerated;
use crate::meter::{Rate, Reading, Tariff};
use crate::session::tests::terms;
use crate::units::Msat;

#[test]
fn payee_may_read_a_part_more_and_at_least_a_second_and_64_kib() {
    // Thousandths of the own reading: 20.
    for (own, most) in [
        ((0, 0), (1_000, 65_536)),
        ((50_000, 3_276_800), (51_000, 3_342_336)),
        ((100_000, 10_000_000), (102_000, 10_200_000)),
        ((u64::MAX, u64::MAX), (u64::MAX, u64::MAX)),
    ] {
        let at = |(media_ms, bytes)| Reading { media_ms, bytes };
        assert_eq!(tolerated(at(own), &terms()), at(most), "{own:?}");
    }
}

#[test]
fn media_may_be_as_late_as_a_payment_buys_and_at_least_ten_seconds() {
    let msat = |msat| Msat::new(msat).unwrap();
    let rate = |(amount, per)| Rate::new(msat(amount), per).ok();
    for (step, time, late) in [
        (2_000, Some((2_000, 10_000)), 10_000),
        (2_000, Some((2_000, 1_000)), 10_000),
        (2_000, Some((2_000, 60_000)), 60_000),
        (3_000, Some((2_000, 60_000)), 90_000),
        // Time costs nothing.
        (2_000, Some((0, 60_000)), 10_000),
        (2_000, None, 10_000),
        (Msat::MAX.msat(), Some((1, Rate::MAX_PER)), u64::MAX),
    ] {
        let tariff = Tariff {
            time: time.and_then(rate),
            bytes: rate((1, 1)),
        };
        assert_eq!(late_ms(msat(step), &tariff), late, "{step} of {time:?}");
    }
}
