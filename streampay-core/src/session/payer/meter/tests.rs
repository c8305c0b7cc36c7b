use super::tolerated;
use crate::meter::Reading;
use crate::session::tests::terms;

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
