//! Proptest strategies for runs.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::config::Fault;
use super::link::Weather;

/// One fault of any kind.
pub fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0_u8..4, 0_u8..3, 0_u8..3).prop_map(|(lose, repeat, delay)| Fault::Weather(Weather {
            lose,
            repeat,
            delay
        })),
        (100_u64..9_000).prop_map(Fault::LinkDown),
        (0_u16..12, 100_u64..5_000)
            .prop_map(|(outputs, away_ms)| Fault::CrashPayer { outputs, away_ms }),
        (0_u16..12, 100_u64..5_000)
            .prop_map(|(outputs, away_ms)| Fault::CrashPayee { outputs, away_ms }),
        (100_u64..25_000).prop_map(Fault::MintAway),
        (1_u8..3).prop_map(Fault::LoseAnswers),
        (100_u64..3_000).prop_map(Fault::PausePayer),
        (50_u16..200).prop_map(Fault::OfferTariff),
        (100_u64..25_000).prop_map(Fault::FirstMethodAway),
        (1_u8..4).prop_map(Fault::RefuseOpenings),
        (1_u16..50).prop_map(Fault::TopUp),
        (1_u16..20).prop_map(Fault::Tip),
    ]
}

/// When each fault strikes, in milliseconds from the start, in order; at least three.
pub fn faults(span_ms: u64) -> impl Strategy<Value = Vec<(u64, Fault)>> {
    proptest::collection::vec((0..span_ms, fault()), 3..9).prop_map(|mut faults| {
        faults.sort_by_key(|(at, _)| *at);
        faults
    })
}
