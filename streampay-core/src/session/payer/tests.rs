use super::flow::Live;
use crate::meter::{Rate, Reading, Tariff};
use crate::units::{Mono, Msat};

fn msat(amount: u64) -> Msat {
    Msat::new(amount).unwrap()
}

/// The lead for a tick of 10 sat at 1 msat a millisecond.
fn lead(live: &Live) -> u64 {
    let tariff = Tariff {
        time: Rate::new(msat(1), 1).ok(),
        bytes: None,
    };
    live.lead(msat(10_000), &tariff).msat()
}

fn fresh() -> Live {
    Live::new(Mono(0), Reading::default(), 0)
}

#[test]
fn lead_is_twice_the_last_ack_between_100_ms_and_a_fifth_of_a_tick() {
    type Sent = fn(&mut Live, Mono);
    let ways: [Sent; 2] = [Live::sent, Live::await_ack];
    for sent in ways {
        let mut live = fresh();
        assert_eq!(lead(&live), 100);
        for (ack_ms, wanted) in [(400, 800), (30, 100), (1_000, 2_000), (1_500, 2_000)] {
            live.decided(Mono(5_000));
            sent(&mut live, Mono(5_010));
            live.acknowledged(Mono(5_000 + ack_ms));
            assert_eq!(lead(&live), wanted, "{ack_ms} ms");
        }
    }
}

#[test]
fn ack_that_nobody_waits_for_measures_nothing() {
    let mut live = fresh();
    live.decided(Mono(0));
    live.acknowledged(Mono(700));
    assert_eq!(lead(&live), 100);
    live.sent(Mono(0));
    live.await_nothing();
    live.acknowledged(Mono(700));
    assert_eq!(lead(&live), 100);
}

#[test]
fn clock_runs_no_further_ahead_of_the_meter_than_media_is_late() {
    let at = |media_ms| Reading { media_ms, bytes: 0 };
    let mut live = Live::new(Mono(0), at(5_000), 2_000);
    assert_eq!(live.clock_ms(Mono(1_000), 10_000), 8_000);
    live.came_ms = 6_000;
    // Nothing comes for an hour; then it counts from what it read, whatever the clock says.
    assert_eq!(live.clock_ms(Mono(3_600_000), 10_000), 16_000);
    assert_eq!(live.clock_ms(Mono(7_200_000), 10_000), 16_000);
    live.came_ms = 16_000;
    assert_eq!(live.clock_ms(Mono(7_200_500), 10_000), 16_500);
}

#[test]
fn what_is_sent_is_looked_after_within_two_seconds() {
    let mut live = fresh();
    assert_eq!(live.timeout(true), Some(Mono(500)));
    assert_eq!(live.timeout(false), None);
    live.sent(Mono(100));
    assert_eq!(live.timeout(false), Some(Mono(2_100)));
    live.await_nothing();
    assert_eq!(live.timeout(false), None);
}
