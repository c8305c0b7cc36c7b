//! The payer's meter: what a consent costs, what a death forgets.

use super::*;
use crate::meter::{PauseReason, Reading};
use crate::session::{Command, Event};
use crate::units::Msat;
use crate::wire::{Message, encode};

const PAYER: Direction = Direction::ToPayer;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// A reading of all that was paid and a payment and nearly a lease more: a drift of two payments.
#[test]
fn consent_to_drift_costs_a_payment_and_a_lease_at_most() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    pair.run(300, &[]).unwrap();
    let (paid, booked) = pair.payer().map(|of| (of.paid(), of.booked())).unwrap();
    assert_eq!((paid, booked), (sat(2), Reading::default()));
    let reading = Reading {
        media_ms: 2_240,
        bytes: 0,
    };
    pair.inject(PAYER, &encode(&Message::Reading(reading)));
    let drift = |event: &Event| {
        matches!(
            event,
            Event::Paused {
                reason: PauseReason::Drift,
                ..
            }
        )
    };
    assert!(pair.events(PAYER).iter().any(drift));
    pair.command(PAYER, Command::Resume);
    let payer = pair.payer().unwrap();
    let booked = payer.booked().media_ms;
    assert!((1_000..=1_250).contains(&booked), "{booked} ms at once");
    // The rest is no more than a payment: no further consent is asked for.
    assert!(payer.paid() <= sat(4));
    pair.run(1_000, &[]).unwrap();
    pair.settle().unwrap();
}
