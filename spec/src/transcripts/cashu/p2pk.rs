//! `cashu-p2pk`.

use streampay_cashu::LockedMachine;

use super::Scene;
use super::world::{CHAIN, Cast, LOCK_S, Who, World, must_be};
use crate::json::Object;
use crate::peer::Played;

const P2PK: Cast = Cast {
    method: LockedMachine::P2PK,
    ..CHAIN
};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "open-tick-close",
        about: "Each tick brings its proofs, which are checked; a step is not skipped, nor are proofs of another one taken.",
        cast: P2PK,
        play: ticks,
    },
    Scene {
        name: "crash-while-crediting",
        about: "The payee dies after a tick's proofs are durable; begun anew it credits the same tick at once, and asks the mint before the next.",
        cast: P2PK,
        play: crash,
    },
    Scene {
        name: "refund-after-locktime",
        about: "Without a release the payer waits for the locktime; a proof that was shown and never acknowledged comes home too.",
        cast: P2PK,
        play: refund,
    },
];

fn ticks(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    let second = world.pay(3, 2, 2)?;
    world.receive(3, (2, 2, 3), &second)?;
    world.must_fail(Who::Payee, "rejected", Some(2))?;
    world.receive(3, (2, 1, 2), second.get(2..).unwrap_or_default())?;
    world.must_fail(Who::Payee, "rejected", Some(1))?;
    let receive = Object::new()
        .int("seq", 2_u64)
        .int("amount", 10_000_u64)
        .int("cumulative", 20_000_u64)
        .with("payload", "02".repeat(second.len() / 2));
    world.ask(Who::Payee, 3, "receive", receive)?;
    let bad = Object::new().int("code", 9_u64).int("consumed", 0_u64);
    world.fail(Who::Payee, Object::new().with("rejected", bad), false)?;
    world.must_fail(Who::Payee, "rejected", Some(9))?;
    world.receive(3, (2, 1, 2), &second)?;
    world.outcome(Who::Payee, "credited")?;
    world.acked(3, (2, 2))?;
    must_be("earned", world.settle(3)?, 20)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 20)
}

fn crash(world: &mut World) -> Played {
    world.opened(3)?;
    let first = world.pay(3, 1, 1)?;
    let receive = Object::new()
        .int("seq", 1_u64)
        .int("amount", 10_000_u64)
        .int("cumulative", 10_000_u64)
        .with("payload", first.as_str());
    world.ask(Who::Payee, 3, "receive", receive)?;
    world.one(Who::Payee, Some(1))?;
    world.restart(Who::Payee)?;
    world.receive(3, (1, 1, 1), &first)?;
    world.outcome(Who::Payee, "credited")?;
    world.acked(3, (1, 1))?;
    world.tick(3, 2, 2)?;
    must_be("earned", world.settle(3)?, 20)
}

fn refund(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.pay(3, 2, 2)?;
    world.ask(Who::Payer, 3, "release", Object::new())?;
    world.must_fail(Who::Payer, "transient", None)?;
    world.restart(Who::Payer)?;
    world.later(LOCK_S + 5);
    world.wake(Who::Payer, 3)?;
    world.run(Who::Payer)?;
    must_be("refunded", world.release(3)?, 30)
}
