//! `cashu-chain`, as it goes where nobody fails.

use super::Scene;
use super::world::{CHAIN, Cast, LOCK_S, MARGIN_S, Who, World, must_be};
use crate::peer::Played;

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "open-tick-rollover",
        about: "A purse is opened, paid tick by tick, and another one opened before it is empty. A tick beyond it is refused.",
        cast: CHAIN,
        play: rollover,
    },
    Scene {
        name: "release",
        about: "The session ends early; one preimage is out and not acknowledged. What was not credited is signed over and comes home at once.",
        cast: CHAIN,
        play: release,
    },
    Scene {
        name: "redemption-batch",
        about: "With a fee of 0.1 sat an input: as many proofs as make the fee whole are redeemed, the rest at the end.",
        cast: Cast {
            ppk: 100,
            steps: 8,
            redeem: 6,
            ..CHAIN
        },
        play: batches,
    },
    Scene {
        name: "refund-after-locktime",
        about: "The payee redeems before the margin and is not heard of again. From the locktime on the payer takes back what is left, by itself, and finds what the payee has.",
        cast: CHAIN,
        play: refund,
    },
    Scene {
        name: "too-late",
        about: "From the margin before the locktime on nothing is shown and nothing credited, by the mint's clock.",
        cast: CHAIN,
        play: too_late,
    },
    Scene {
        name: "priced",
        about: "The payee's price is 1.1 times the tariff and a purse holds at most 35 sat: three steps of 11 sat, each credited as 10. Terms of another price refuse it.",
        cast: Cast {
            price: 1_100,
            most: Some(35),
            ..CHAIN
        },
        play: priced,
    },
];

fn rollover(world: &mut World) -> Played {
    world.opened(3)?;
    for tick in 1..=3 {
        world.tick(3, tick, tick)?;
    }
    world.opened(4)?;
    world.tick(3, 4, 4)?;
    world.ask_pay(3, 5, 5)?;
    world.must_fail(Who::Payer, "fatal", Some(10))?;
    world.tick(4, 1, 1)?;
    must_be("earned", world.settle(3)?, 40)?;
    must_be("refunded", world.release(3)?, 0)?;
    must_be("earned", world.settle(4)?, 10)?;
    world.hand_over(4)?;
    must_be("refunded", world.release(4)?, 30)
}

fn release(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.pay(3, 2, 2)?;
    must_be("earned", world.settle(3)?, 10)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 30)
}

fn batches(world: &mut World) -> Played {
    world.opened(3)?;
    for tick in 1..=7 {
        world.tick(3, tick, tick)?;
    }
    // Ten proofs for 1 sat, four more for another.
    must_be("earned", world.settle(3)?, 68)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 9)
}

fn refund(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    let payload = world.pay(3, 2, 2)?;
    // Credited, but the payer does not hear of it.
    world.receive(3, (2, 1, 2), &payload)?;
    world.outcome(Who::Payee, "credited")?;
    world.later(LOCK_S - MARGIN_S);
    world.wake(Who::Payee, 3)?;
    world.run(Who::Payee)?;
    world.ask(Who::Payer, 3, "release", crate::json::Object::new())?;
    world.must_fail(Who::Payer, "transient", None)?;
    world.later(MARGIN_S + 5);
    world.wake(Who::Payer, 3)?;
    world.run(Who::Payer)?;
    must_be("refunded", world.release(3)?, 20)
}

fn too_late(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.later(LOCK_S - MARGIN_S - 1);
    let payload = world.pay(3, 2, 2)?;
    world.later(1);
    world.receive(3, (2, 1, 2), &payload)?;
    world.must_fail(Who::Payee, "rejected", Some(16))?;
    world.ask_pay(3, 3, 3)?;
    world.must_fail(Who::Payer, "fatal", Some(10))?;
    world.wake(Who::Payee, 3)?;
    world.run(Who::Payee)?;
    must_be("earned", world.settle(3)?, 10)
}

fn priced(world: &mut World) -> Played {
    let opening = world.open(3)?;
    world.ask_accept(3, &opening, 1_100)?;
    world.run(Who::Payee)?;
    world.outcome(Who::Payee, "accepted")?;
    world.tick(3, 1, 1)?;
    must_be("earned", world.settle(3)?, 11)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 22)?;
    let other = world.open(4)?;
    world.ask_accept(4, &other, 1_000)?;
    world.run(Who::Payee)?;
    world.must_fail(Who::Payee, "rejected", Some(2))?;
    world.hand_over(4)?;
    must_be("refunded", world.release(4)?, 33)
}
