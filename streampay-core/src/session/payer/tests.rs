use minicbor::bytes::ByteVec;

use super::flow::Live;
use crate::meter::{Rate, Reading, Tariff};
use crate::session::record::{Fate, PendingTick};
use crate::units::{Mono, Msat, RequestId};

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

/// A payment under way, as it was written before what its tick says was kept with it.
#[derive(minicbor::Encode)]
#[cbor(array)]
struct Earlier {
    #[n(0)]
    amount: Msat,
    #[n(1)]
    request: RequestId,
    #[n(2)]
    payload: Option<ByteVec>,
    #[n(3)]
    fate: Fate,
    #[n(4)]
    tip: bool,
}

#[test]
fn payment_under_way_in_an_earlier_record_says_what_it_said_then() {
    for (tip, tips) in [(false, None), (true, Some(msat(7_000)))] {
        let earlier = Earlier {
            amount: msat(2_000),
            request: RequestId(3),
            payload: None,
            fate: Fate::UnderWay,
            tip,
        };
        let bytes = minicbor::to_vec(earlier).unwrap();
        let mut pending: PendingTick = minicbor::decode(&bytes).unwrap();
        pending.complete(msat(8_000), msat(5_000));
        assert_eq!((pending.cumulative, pending.tips), (msat(10_000), tips));
        // What is kept is not changed.
        pending.complete(msat(12_000), msat(7_000));
        assert_eq!((pending.cumulative, pending.tips), (msat(10_000), tips));
    }
}
